//! Bad luck: a node that dies while armed, an agent that can't start.

use crate::{harness::Harness, refusals::isolate};
use anyhow::{Context, Result, ensure};
use rackpartition::api::{Phase, RecordPhase};
use std::time::Duration;

/// Frozen as a whole, as a machine that hangs: it said that it was armed and says nothing more, so nobody cuts.
pub async fn a_node_dies_while_armed(h: &Harness) -> Result<()> {
    let victim = h.lab.nodes().iter().rfind(|n| !n.control_plane).context("no worker")?.name.clone();
    let name = "dies-while-armed";
    h.create(name, isolate(&["r1"])).await?;
    h.until("the victim to be armed", Duration::from_secs(60), async |h: &Harness| {
        let phase = h.record(name, &victim).await?.status.and_then(|s| s.phase);
        Ok((phase == Some(RecordPhase::Armed)).then_some(()))
    })
    .await?;
    h.lab.pause(&victim).await?;
    let ended = h.phase(name, &[Phase::Aborted, Phase::Refused], Duration::from_secs(120)).await;
    h.lab.unpause(&victim).await?;
    let status = ended?;
    let message = status.message.unwrap_or_default();
    ensure!(message.contains(&victim), "the message names the node: {message}");
    h.no_tables(Duration::from_secs(60)).await?;
    h.until("the victim to be Ready again", Duration::from_secs(120), async |h: &Harness| {
        let nodes = h.kubectl(&["get", "nodes", "--no-headers"]).await?;
        Ok(nodes.lines().all(|l| l.split_whitespace().nth(1) == Some("Ready")).then_some(()))
    })
    .await
}

/// Refused by the arming deadline, with the kubelet's own reason.
pub async fn an_agent_image_can_t_start(h: &Harness) -> Result<()> {
    // The operator itself keeps its image; only what it gives its agents is wrong.
    let words = ["--namespace", "rackpartition", "set", "env", "deployment/rackpartition-operator"];
    h.kubectl(&[&words[..], &["AGENT_IMAGE=rackpartition:no-such-tag", "ARM_DEADLINE=20s"]].concat()).await?;
    let rolled =
        ["--namespace", "rackpartition", "rollout", "status", "deployment/rackpartition-operator", "--timeout=2m"];
    h.kubectl(&rolled).await?;
    let name = "no-such-image";
    h.create(name, isolate(&["r1"])).await?;
    let status = h.phase(name, &[Phase::Refused], Duration::from_secs(120)).await;
    h.install(&[]).await?;
    h.kubectl(&rolled).await?;
    let message = status?.message.unwrap_or_default();
    ensure!(message.contains("ImagePull"), "the message has the kubelet's reason: {message}");
    Ok(())
}
