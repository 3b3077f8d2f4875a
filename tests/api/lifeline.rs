//! Whoever starts a run by the plugin has at hand what ends it without the API: before anything is cut, and until nothing is left to heal.

use crate::{
    agents::Agents,
    cluster::{Cluster, GOOD},
    heal::Packets,
    replica::Replica,
    wait::{SOON, until},
};
use k8s_openapi::jiff::Timestamp;
use rackpartition::{api::Phase, cli::EXIT_NOT_RUN};
use serde_json::json;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};
use tokio::{process::Command, time::timeout};

/// The script of a run, once it is whole.
fn script_in(folder: &Path) -> Option<(PathBuf, String)> {
    let mut files = fs::read_dir(folder.join("rackpartition")).ok()?.flatten().map(|entry| entry.path());
    let path = files.find(|path| path.to_string_lossy().contains("heal-run-"))?;
    let script = fs::read_to_string(&path).ok().filter(|script| script.ends_with("still there.\"\n"))?;
    Some((path, script))
}

#[tokio::test]
async fn what_heals_by_hand_is_printed_and_saved_before_the_cut_and_heals() {
    let cluster = Cluster::start().await;
    let packets = Packets::receive(&cluster);
    let _replica = Replica::start(&cluster.plane, GOOD.0, GOOD.1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (kubeconfig, file) = (folder.path().join("kubeconfig"), folder.path().join("run.json"));
    fs::write(&kubeconfig, cluster.plane.kubeconfig().to_string()).expect("the kubeconfig");
    let run = json!({
        "apiVersion": "rackpartition.io/v1alpha1", "kind": "RackPartition", "metadata": {"name": "run"},
        "spec": {"cut": {"isolate": {"racks": ["r1"]}}, "duration": "60s", "recovery": "10s",
            "guards": {"maxClockError": "900ms"}},
    });
    fs::write(&file, run.to_string()).expect("the run");
    let mut plugin = Command::new(env!("CARGO_BIN_EXE_kubectl-rackpartition"));
    plugin.args(["run", "--filename"]).arg(&file).env("KUBECONFIG", &kubeconfig);
    // The API server is on this machine.
    for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
        plugin.env_remove(proxy);
    }
    plugin.env("XDG_STATE_HOME", folder.path()).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let plugin = plugin.spawn().expect("the plugin");
    cluster.until_phase("run", &[Phase::Arming]).await;
    let _agents = Agents::play(&cluster, "run", &[]);

    let (path, script) = until("the script", SOON, || async { script_in(folder.path()) }).await;
    let status = cluster.status("run").await.expect("a status");
    assert!(status.schedule.is_none_or(|s| Timestamp::now() < s.cut_at.0), "kept only after the cut");
    let mode = fs::metadata(&path).expect("the script").permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "it has the run's secret");

    cluster.until_phase("run", &[Phase::Cut]).await;
    let heal = cluster.plan_of("run").await.expect("a plan").heal;
    let token = heal.token_bytes().expect("a token");
    assert!(!packets.are_everywhere(&token));
    let healed = run_script(&script).await;
    assert!(healed.success(), "{healed}");
    until("heal packets at every node", SOON, || async { packets.are_everywhere(&token).then_some(()) }).await;

    cluster.patch("run", json!({"spec": {"abort": true}})).await.expect("an abort");
    let ended = timeout(SOON, plugin.wait_with_output()).await.expect("the plugin ends").expect("its output");
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert_eq!(ended.status.code(), Some(i32::from(EXIT_NOT_RUN)), "{said}");
    assert!(said.contains(&format!("Should the API be lost: {}", path.display())), "{said}");
    assert!(!said.contains(&heal.token), "what is printed may end up in somebody's log: {said}");
    assert!(!path.exists(), "nothing is left to heal");
}

async fn run_script(script: &str) -> ExitStatus {
    Command::new("bash").args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null()).status().await.expect("bash")
}
