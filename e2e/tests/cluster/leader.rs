//! The operator's own leader sits in the rack that is cut.

use crate::{
    harness::{AGENTS, Harness},
    refusals::isolate,
    shapes::is_exact,
};
use anyhow::{Context, Result, ensure};
use k8s_openapi::{api::apps::v1::DaemonSet, jiff::Timestamp};
use kube::{Api, ResourceExt, api::ListParams};
use rackpartition::api::{Phase, RUN_LABEL};
use serde_json::json;
use std::time::Duration;

/// It gives its leadership away before there is an agent that could arm, and the run is judged by a replica outside.
pub async fn in_the_cut_rack(h: &Harness) -> Result<()> {
    let before = h.operator_leader_node().await?;
    let rack = h.lab.nodes().iter().find(|n| n.name == before).context("unknown node")?.rack.clone();
    let mut spec = isolate(&[&rack]);
    spec["duration"] = json!("30s");
    spec["recovery"] = json!("2m");
    h.create("leader-inside", spec).await?;
    h.phase("leader-inside", &[Phase::Arming], Duration::from_secs(90)).await?;
    let after = h.operator_leader_node().await?;
    let now_in = h.lab.nodes().iter().find(|n| n.name == after).context("unknown node")?.rack.clone();
    ensure!(now_in != rack, "the operator still leads in {rack}, which is about to be cut");
    let led_since = h.operators_lease().await?.spec.and_then(|s| s.acquire_time).context("nobody leads")?.0;
    let agents_since = agents_made_at(h, "leader-inside").await?;
    // An object's age is told in whole seconds.
    let was_first = led_since.as_second() <= agents_since.as_second();
    ensure!(was_first, "agents were made at {agents_since}, and the operator on {after} leads only since {led_since}");
    is_exact(h, "leader-inside").await.map(drop)
}

/// When the run's agents were asked for.
async fn agents_made_at(h: &Harness, run: &str) -> Result<Timestamp> {
    let sets: Api<DaemonSet> = Api::namespaced(h.client.clone(), AGENTS);
    let sets = sets.list(&ListParams::default().labels(&format!("{RUN_LABEL}={run}"))).await?;
    let set = sets.iter().next().context("the run has no agents")?;
    Ok(set.creation_timestamp().context("the agents have no age")?.0)
}
