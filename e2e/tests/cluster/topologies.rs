//! Clusters that are not three racks with a master each.

use crate::{harness::Harness, shapes::is_exact};
use anyhow::{Context, Result, ensure};
use rackpartition::api::{Check, FindingResult};
use serde_json::{json, to_value};

/// The classic question about two racks: etcd has a member in each and a witness in a third, and the rack that leads loses the
/// other two. Its API server can write nothing any more, the other one can.
pub async fn two_racks(h: &Harness) -> Result<()> {
    h.spread_workload().await?;
    h.lab.gather_leaders("r1").await?;
    let spec = json!({
        "cut": {"isolate": {"racks": ["r1"]}}, "duration": "60s", "recovery": "5m",
        "endpoints": to_value(h.lab.endpoints())?, "guards": {"maxClockError": "900ms"},
    });
    h.create("two-racks", spec).await?;
    let status = is_exact(h, "two-racks").await?;
    let sides = &status.plan.as_ref().context("no plan")?.sides;
    let quorum: Vec<_> = sides.iter().map(|s| (s.name.as_str(), s.quorum)).collect();
    ensure!(quorum == [("isolated", false), ("rest", true)], "{quorum:?}");
    let writable: Vec<_> = status.findings.iter().filter(|f| f.check == Check::ApiWritable).collect();
    ensure!(writable.len() == 2, "both sides have an API server: {writable:?}");
    ensure!(writable.iter().all(|f| f.result <= FindingResult::Noted), "{writable:?}");
    Ok(())
}
