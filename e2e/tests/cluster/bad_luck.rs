//! Bad luck: a node that dies while armed, an agent that can't start.

use crate::{
    harness::{ARM_DEADLINE, Harness, IMAGE, OPERATORS},
    refusals::isolate,
};
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
    let ended = async {
        h.lab.pause(&victim).await?;
        h.phase(name, &[Phase::Aborted, Phase::Refused], Duration::from_secs(120)).await
    }
    .await;
    // Whatever came of that, and what went wrong first is told.
    let goes_on = h.lab.unpause(&victim).await;
    let status = ended.and_then(|status| goes_on.map(|()| status))?;
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
    let name = "no-such-image";
    let ended = async {
        set_operator_env(h, "AGENT_IMAGE=rackpartition:no-such-tag").await?;
        h.create(name, isolate(&["r1"])).await?;
        h.phase(name, &[Phase::Refused], ARM_DEADLINE + Duration::from_secs(60)).await
    }
    .await;
    // Whatever came of that. Not by helm: what kubectl has set is kubectl's, and helm would refuse to take it back.
    let restored = set_operator_env(h, &format!("AGENT_IMAGE={IMAGE}")).await;
    let status = ended.and_then(|status| restored.map(|()| status))?;
    let message = status.message.unwrap_or_default();
    ensure!(message.contains("ImagePull"), "the message has the kubelet's reason: {message}");
    Ok(())
}

async fn set_operator_env(h: &Harness, variable: &str) -> Result<()> {
    let deployment = "deployment/rackpartition-operator";
    h.kubectl(&["--namespace", OPERATORS, "set", "env", deployment, variable]).await?;
    h.kubectl(&["--namespace", OPERATORS, "rollout", "status", deployment, "--timeout=2m"]).await.map(drop)
}
