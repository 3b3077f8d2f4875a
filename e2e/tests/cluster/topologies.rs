//! Clusters that are not three racks with a master each.

use crate::{
    harness::{Harness, told},
    shapes::is_proven,
};
use anyhow::{Context, Result, ensure};
use rackpartition::api::{Check, FindingResult, Verdict};
use serde_json::{json, to_value};

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
