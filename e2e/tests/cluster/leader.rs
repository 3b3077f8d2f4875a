//! The operator's own leader sits in the rack that is cut.

use crate::{harness::Harness, refusals::isolate, shapes::is_exact};
use anyhow::{Context, Result, ensure};
use rackpartition::api::Phase;
use serde_json::json;
use std::time::Duration;

/// It gives its leadership away before anything is armed, and the run is judged by a replica outside.
pub async fn in_the_cut_rack(h: &Harness) -> Result<()> {
    let before = h.operator_leader_node().await?;
    let rack = h.lab.nodes().iter().find(|n| n.name == before).context("unknown node")?.rack.clone();
    let mut spec = isolate(&[&rack]);
    spec["duration"] = json!("30s");
    spec["recovery"] = json!("2m");
    h.create("leader-inside", spec).await?;
    h.phase("leader-inside", &[Phase::Arming, Phase::Scheduled, Phase::Cut], Duration::from_secs(90)).await?;
    let after = h.operator_leader_node().await?;
    let now_in = h.lab.nodes().iter().find(|n| n.name == after).context("unknown node")?.rack.clone();
    ensure!(now_in != rack, "the operator still leads in {rack}, which is about to be cut");
    is_exact(h, "leader-inside").await.map(drop)
}
