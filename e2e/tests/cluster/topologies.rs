//! Clusters that are not three racks with a master each.

use crate::{
    harness::{Harness, told},
    shapes::is_proven,
};
use anyhow::{Context, Result, ensure};
use rackpartition::api::{Check, FindingResult, Phase, Verdict};
use serde_json::{json, to_value};
use std::time::Duration;

/// The question about two racks with etcd beside them, a member in each and a witness in a third. Its members carry no agent, so
/// they go on hearing each other: both racks can write, each through its own member, once its API server has dialled it.
pub async fn two_racks(h: &Harness) -> Result<()> {
    h.spread_workload().await?;
    h.lab.gather_leaders("r1").await?;
    let spec = json!({
        "cut": {"isolate": {"racks": ["r1"]}}, "duration": "60s", "recovery": "5m",
        "endpoints": to_value(h.lab.endpoints())?, "guards": {"maxClockError": "900ms"},
    });
    h.create("two-racks", spec).await?;
    let status = is_proven(h, "two-racks").await?;
    let plan = status.plan.as_ref().context("no plan")?;
    ensure!(plan.assumptions.iter().any(|a| a.contains("go on hearing each other")), "{:?}", plan.assumptions);
    let writable: Vec<_> = status.findings.iter().filter(|f| f.check == Check::ApiWritable).collect();
    ensure!(writable.len() == 2, "both sides have an API server: {writable:?}");
    ensure!(writable.iter().all(|f| f.result <= FindingResult::Noted), "{writable:?}");
    // While its own API server looks for another member of etcd the operator sees nothing, for longer than a finding may go unseen.
    ensure!(status.verdict != Some(Verdict::Fail), "{}", told(&status.findings));
    Ok(())
}

/// What the lab was asked for is what a plan of the product has: nodes and etcd's members on either side of the last rack. It is cut
/// only where a majority of etcd is left, and here not even then.
pub async fn is_as_asked(h: &Harness) -> Result<()> {
    let asked = h.lab.options().topology.plan();
    let last = asked.workers.last().or(asked.masters.last()).context("no racks")?;
    let of_rack = |racks: &[&str]| racks.iter().filter(|r| *r == last).count();
    let nodes = of_rack(asked.masters) + of_rack(asked.workers);
    let (inside, all) = (of_rack(asked.masters), asked.masters.len());
    let has_majority = |members: usize| members > all / 2;

    let spec = json!({
        "cut": {"isolate": {"racks": [last]}}, "duration": "60s",
        "endpoints": to_value(h.lab.endpoints())?, "guards": {"allowAllRacks": true},
    });
    h.create("as-asked", spec).await?;
    let wanted = if has_majority(inside) || has_majority(all - inside) { Phase::Arming } else { Phase::Refused };
    let status = h.phase("as-asked", &[wanted], Duration::from_secs(60)).await?;
    if wanted == Phase::Refused {
        let message = status.message.unwrap_or_default();
        ensure!(message.contains("spec.guards.allowQuorumLoss"), "{message}");
        return h.clear().await;
    }
    h.abort("as-asked").await?;
    let plan = status.plan.context("no plan")?;
    let isolated = plan.sides.iter().find(|s| s.name == "isolated").context("no isolated side")?;
    ensure!(isolated.nodes.len() == nodes && isolated.racks == [*last], "{isolated:?}");
    ensure!(isolated.etcd_total as usize == all && isolated.quorum == has_majority(inside), "{isolated:?}");
    h.phase("as-asked", &[Phase::Aborted], Duration::from_secs(30)).await?;
    h.clear().await
}
