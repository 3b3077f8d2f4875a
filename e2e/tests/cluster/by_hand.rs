//! Healing by hand in a real cut, by each of the ways that need no API: the script that the plugin keeps before it, our binary on every
//! node, and our binary on a machine that is no node.

use crate::{
    harness::{AGENT, Harness, IMAGE, repository, seconds_until},
    refusals::isolate,
};
use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use rackpartition::{api::Phase, cli::EXIT_NOT_RUN};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

/// With nothing but bash and a way to the nodes.
pub async fn healed_by_hand(h: &Harness) -> Result<()> {
    healed(h, "by-hand", async |_: &Harness, script: &str| {
        let mut bash = Command::new("bash");
        output(bash.args(["-c", script])).await.map(drop)
    })
    .await
}

/// `rackpartition heal` where the agents are. On all of them at about the same time: a link is cut at both of its ends, and an agent whose
/// table went is over with the run a second later.
pub async fn healed_on_every_node(h: &Harness) -> Result<()> {
    healed(h, "on-every-node", async |h: &Harness, _: &str| {
        try_join_all(h.lab.nodes().iter().map(|node| heal_on(h, &node.name))).await.map(drop)
    })
    .await
}

/// In the agent's container, as far as it has a file system of its own; its network is the node's.
async fn heal_on(h: &Harness, node: &str) -> Result<()> {
    let agents = h.lab.exec(node, &["pgrep", "-f", AGENT]).await?;
    let agent = agents.lines().next().with_context(|| format!("no agent on {node}"))?;
    let said = h.lab.exec(node, &["nsenter", "--target", agent, "--mount", "/rackpartition", "heal"]).await?;
    ensure!(said.contains("this node hears everybody again"), "on {node}: {said}");
    Ok(())
}

/// `rackpartition heal --token ... --addresses ...` from this machine, by the binary in the image and with what was saved before the cut.
pub async fn healed_from_outside(h: &Harness) -> Result<()> {
    let binary = binary_of_the_image(h).await?;
    healed(h, "from-outside", async |_: &Harness, script: &str| {
        let words: Vec<&str> = script.split_whitespace().collect();
        let token = words.iter().find_map(|word| word.strip_prefix("RACKPARTITION_TOKEN="));
        let token = token.context("the script does not tell the secret for our own binary")?;
        let addresses = words.iter().copied().skip_while(|word| *word != "--addresses").nth(1);
        let addresses = addresses.context("the script does not tell the addresses for our own binary")?;
        let mut heal = Command::new(&binary);
        let said = output(heal.args(["heal", "--token", token, "--addresses", addresses])).await?;
        ensure!(said.contains("packets left this machine"), "{said}");
        Ok(())
    })
    .await
}

/// The plugin, which starts a run and follows it, as people have it on their own machine.
struct Followed {
    plugin: Child,
    /// Where it keeps the script.
    folder: PathBuf,
}

impl Followed {
    async fn start(h: &Harness, name: &str, spec: &Value) -> Result<Self> {
        let folder = PathBuf::from(repository(&format!("target/e2e-{name}")));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        let file = folder.join("run.json");
        let (version, kind) = ("rackpartition.io/v1alpha1", "RackPartition");
        let run = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec});
        fs::write(&file, run.to_string())?;
        output(&mut cargo("build")).await.context("failed to build the plugin")?;
        let mut plugin = cargo("run");
        plugin.args(["--", "run", "--filename"]).arg(&file).env("KUBECONFIG", h.lab.kubeconfig());
        plugin.env("XDG_STATE_HOME", &folder).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        Ok(Followed { plugin: plugin.spawn().context("failed to start the plugin")?, folder })
    }

    /// The script, and the file that it is in, once that is whole. Nobody but its owner may read it.
    async fn script(&self, h: &Harness) -> Result<(PathBuf, String)> {
        let (path, script) =
            h.until("the script", Duration::from_secs(150), async |_: &Harness| Ok(kept_in(&self.folder))).await?;
        let mode = fs::metadata(&path)?.permissions().mode() & 0o777;
        ensure!(mode == 0o700, "{} has the mode {mode:o}", path.display());
        Ok((path, script))
    }

    /// It has said where the script is, and takes it away where nothing is left to heal.
    async fn ends(self, script: &Path) -> Result<()> {
        let ended = timeout(Duration::from_secs(60), self.plugin.wait_with_output());
        let ended = ended.await.context("the plugin goes on")??;
        let said = String::from_utf8_lossy(&ended.stdout);
        let is_told = said.contains(&format!("Should the API be lost: {}", script.display()));
        ensure!(is_told && ended.status.code() == Some(EXIT_NOT_RUN.into()), "{}: {said}", ended.status);
        ensure!(!script.exists(), "{} is still there: {said}", script.display());
        Ok(())
    }
}

fn kept_in(folder: &Path) -> Option<(PathBuf, String)> {
    let path = fs::read_dir(folder.join("rackpartition")).ok()?.flatten().next()?.path();
    let script = fs::read_to_string(&path).ok().filter(|script| script.ends_with("still there.\"\n"))?;
    Some((path, script))
}

/// Of the plugin. It is not in the image.
fn cargo(verb: &str) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(repository("")).arg(verb).args(["--quiet", "--locked", "--package", "rackpartition"]);
    cargo.args(["--bin", "kubectl-rackpartition"]);
    cargo
}

/// Cuts, and ends the cut `by` what is given the script that was kept before it; nobody asks the API for it.
async fn healed(h: &Harness, name: &str, by: impl AsyncFn(&Harness, &str) -> Result<()>) -> Result<()> {
    let mut spec = isolate(&["r1"]);
    spec["duration"] = json!("120s");
    let followed = Followed::start(h, name, &spec).await?;
    let (path, script) = followed.script(h).await?;
    let before = h.phase(name, &[Phase::Arming, Phase::Scheduled], Duration::from_secs(30)).await?;
    let is_before = before.schedule.is_none_or(|s| seconds_until(s.cut_at.0) > 0.0);
    ensure!(is_before, "the script was not there before the cut");
    let status = h.phase(name, &[Phase::Cut], Duration::from_secs(150)).await?;
    let silence = h.first_silence(&[]).await.context("whether the cut was there")?;
    let (from, to) = silence.context("nobody was cut, so nothing could be healed")?;
    by(h, &script).await?;
    h.all_hear_each_other().await.with_context(|| format!("after healing {name}"))?;
    let left = seconds_until(status.schedule.context("no schedule")?.heal_at.0);
    ensure!(left > 30.0, "healed only {left:.0} s before the windows' end, so maybe by that");
    h.abort(name).await?;
    h.phase(name, &[Phase::Aborted], Duration::from_secs(60)).await?;
    h.no_tables(Duration::from_secs(60)).await?;
    followed.ends(&path).await?;
    println!("  healed {name}, in which {from} had not heard {to}, {left:.0} s before the windows' end");
    Ok(())
}

/// Copies it out of a container that is never started.
async fn binary_of_the_image(h: &Harness) -> Result<String> {
    let docker = async |words: &[&str]| output(h.lab.engine().docker().args(words)).await;
    let binary = repository("target/rackpartition-of-the-image");
    let container = docker(&["create", IMAGE]).await?;
    let copied = docker(&["cp", &format!("{container}:/rackpartition"), &binary]).await;
    docker(&["rm", &container]).await?;
    copied.map(|_| binary)
}

/// What it wrote, where it succeeded.
async fn output(command: &mut Command) -> Result<String> {
    let output = command.output().await?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
