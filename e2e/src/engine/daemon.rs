//! A `dockerd` of the lab's own: detached, logged, and able to start where a killed one left its traces.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::Engine;
use crate::progress::step;
use crate::{cache, host, run, wait};

/// Where the daemon keeps its pid file and its containerd; short, because socket paths are limited to 107 bytes.
const RUN: &str = "/run/rackpartition-engine";

fn pid_file() -> PathBuf {
    Path::new(RUN).join("dockerd.pid")
}

/// Starts the engine and waits until it answers. Root on Debian only.
pub async fn start() -> Result<Engine> {
    if Path::new("/run/systemd/system").is_dir() {
        step("starting docker.service");
        run::text(run::program("systemctl").args(["start", "docker.service"])).await?;
        return wait::until("the engine answers", Duration::from_secs(60), answer).await;
    }
    let log = cache::folder("log")?.join("dockerd.log");
    fs::create_dir_all(RUN).with_context(|| format!("failed to create {RUN}"))?;
    // One that a killed lab has just started will answer yet; one that was itself killed may take a moment to be gone.
    let settled = wait::until("the lab's earlier dockerd answers or ends", Duration::from_secs(30), async || {
        if let Some(engine) = Engine::running().await {
            return Ok(Ok(Some(engine)));
        }
        match alive(&pid_file(), "dockerd") {
            Some(pid) => Ok(Err(format!("process {pid} does not answer: end it"))),
            None => Ok(Ok(None)),
        }
    });
    if let Some(engine) = settled.await? {
        return Ok(engine);
    }
    forget(&pid_file(), "dockerd");
    forget(&Path::new(RUN).join("exec/containerd/containerd.pid"), "containerd");

    step(format!("starting dockerd (log: {})", log.display()));
    let file = File::create(&log).with_context(|| format!("failed to create {}", log.display()))?;
    // A session of its own, so that neither the end of the caller nor of its terminal ends the engine.
    let mut dockerd = tokio::process::Command::new("setsid");
    dockerd
        .args(["--fork", "dockerd", "--config-file"])
        .arg(configuration()?)
        .arg("--pidfile")
        .arg(pid_file())
        .arg("--exec-root")
        .arg(Path::new(RUN).join("exec"))
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file);
    dockerd.status().await.context("failed to start dockerd")?;
    wait::until("dockerd answers", Duration::from_secs(60), answer).await.with_context(|| {
        let said = fs::read_to_string(&log).unwrap_or_default();
        format!("the end of {}:\n{}\n", log.display(), run::tail(&said, 15))
    })
}

async fn answer() -> Result<Result<Engine, String>> {
    Ok(Engine::running().await.ok_or_else(|| "no answer".to_owned()))
}

/// Whether the daemon that [`start`] started is there.
pub fn is_running() -> bool {
    alive(&pid_file(), "dockerd").is_some()
}

/// Ends the daemon that [`start`] started; false when there is none.
pub async fn stop() -> Result<bool> {
    let Some(pid) = alive(&pid_file(), "dockerd") else { return Ok(false) };
    run::text(run::program("kill").arg(pid.to_string())).await?;
    wait::until("dockerd ends", Duration::from_secs(60), async || {
        Ok(if alive(&pid_file(), "dockerd").is_none() { Ok(()) } else { Err(format!("process {pid} lives")) })
    })
    .await?;
    Ok(true)
}

/// The process of a pid file, if it still is what it was: after a hard kill the number may be somebody else's, or that of
/// a dead process which nobody waits for.
fn alive(pid_file: &Path, name: &str) -> Option<u32> {
    let pid = fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    // `pid (name) state ...`
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let state = stat.split_once(&format!("({name}) "))?.1;
    (!state.starts_with(['Z', 'X'])).then_some(pid)
}

/// Removes a pid file that would keep a new daemon from starting, or make it wait for a stranger.
fn forget(pid_file: &Path, name: &str) {
    if alive(pid_file, name).is_none() {
        let _ = fs::remove_file(pid_file);
    }
}

/// The daemon's configuration file; with a runtime of its own only where the capability is missing.
fn configuration() -> Result<PathBuf> {
    let folder = cache::folder("engine")?;
    let mut configuration = json!({"default-cgroupns-mode": "private"});
    if !host::has_sys_resource() {
        let runtime = folder.join("runc-without-missing-caps");
        fs::copy(cache::data("runc-without-missing-caps"), &runtime).context("failed to keep the runtime wrapper")?;
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755))?;
        configuration["runtimes"] = json!({"without-missing-caps": {"path": runtime}});
        configuration["default-runtime"] = json!("without-missing-caps");
    }
    let path = folder.join("daemon.json");
    fs::write(&path, configuration.to_string()).context("failed to write the engine's configuration")?;
    Ok(path)
}
