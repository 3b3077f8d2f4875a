//! Healing by hand in a real cut, by each of the ways that need no API: the script that is kept before it, our binary on every node, and
//! our binary on a machine that is no node.

use crate::{
    harness::{AGENT, Harness, IMAGE, repository, seconds_until},
    refusals::isolate,
};
use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use rackpartition::api::Phase;
use serde_json::json;
use std::time::Duration;
use tokio::process::Command;

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

/// Cuts, and ends the cut `by` what is given the script that was kept; nobody asks the API for it.
async fn healed(h: &Harness, name: &str, by: impl AsyncFn(&Harness, &str) -> Result<()>) -> Result<()> {
    let mut spec = isolate(&["r1"]);
    spec["duration"] = json!("120s");
    h.create(name, spec).await?;
    h.phase(name, &[Phase::Scheduled, Phase::Cut], Duration::from_secs(150)).await?;
    let script = h
        .until("the script", Duration::from_secs(30), async |h: &Harness| {
            let run = h.runs().get(name).await?;
            Ok(Some(rackpartition::cli::read_lifeline(&h.client, &run).await?))
        })
        .await?;
    let status = h.phase(name, &[Phase::Cut], Duration::from_secs(60)).await?;
    let silence = h.first_silence(&[]).await.context("whether the cut was there")?;
    let (from, to) = silence.context("nobody was cut, so nothing could be healed")?;
    by(h, &script).await?;
    h.all_hear_each_other().await.with_context(|| format!("after healing {name}"))?;
    let left = seconds_until(status.schedule.context("no schedule")?.heal_at.0);
    ensure!(left > 30.0, "healed only {left:.0} s before the windows' end, so maybe by that");
    h.abort(name).await?;
    h.phase(name, &[Phase::Aborted], Duration::from_secs(60)).await?;
    h.no_tables(Duration::from_secs(60)).await?;
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
