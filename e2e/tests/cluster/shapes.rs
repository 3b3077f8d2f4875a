//! Shapes of `examples/shapes` that three racks can have: every pair of ports is as the shape says, seen by the agents.

use crate::harness::{Harness, told};
use anyhow::{Context, Result, ensure};
use rackpartition::api::{Check, Finding, FindingResult, Phase, RackPartitionStatus, Verdict};
use serde_json::json;
use std::time::Duration;

/// Arming, a minute of cut, recovery of up to five minutes, judging.
const WHOLE_RUN: Duration = Duration::from_secs(540);

/// The run of `examples/shapes` of this name.
pub async fn of_the_example_is_exact(h: &Harness, shape: &str) -> Result<()> {
    h.spread_workload().await?;
    let name = h.create_from(&format!("examples/shapes/{shape}.yaml")).await?;
    is_exact(h, &name).await.map(drop)
}

/// The same on five racks, where only one of many may be able to write: a replica of the operator is in each. Five control planes are
/// more than two cores can bear while two of them have no etcd: for a while the API may answer nobody, and samples are far between. What
/// the operator could not see then may be open, and whether leaders overlapped by more than clocks and samples tell; everything else must
/// be as in [`is_exact`].
pub async fn of_five_racks_is_exact(h: &Harness, shape: &str) -> Result<()> {
    h.install_everywhere().await?;
    h.spread_workload().await?;
    let name = h.create_from(&format!("examples/shapes/{shape}.yaml")).await?;
    let status = is_proven(h, &name).await?;
    let unseen = |f: &Finding| {
        let open = f.evidence.starts_with("operator: ") || f.observed.ends_with("by clocks and samples");
        f.result == FindingResult::Inconclusive && open
    };
    let amiss =
        |f: &&Finding| !matches!(f.result, FindingResult::Held | FindingResult::Noted | FindingResult::Degraded);
    let amiss: Vec<Finding> = status.findings.iter().filter(amiss).filter(|f| !unseen(f)).cloned().collect();
    ensure!(amiss.is_empty(), "{name}: {:?}: {}", status.verdict, told(&amiss));
    Ok(())
}

/// The rack of etcd's leader, as its members tell, is cut off: another one must lead.
pub async fn the_leader_of_etcd_is_found(h: &Harness) -> Result<()> {
    h.spread_workload().await?;
    let spec = json!({"cut": {"isolate": {"role": "etcd-leader"}}, "duration": "60s", "recovery": "5m"});
    h.create("etcd-leader", spec).await?;
    let status = is_exact(h, "etcd-leader").await?;
    let plan = status.plan.context("no plan")?;
    let leader = plan.resolved_roles.get("etcd-leader").context("nobody stands for the role")?;
    let isolated = plan.sides.iter().find(|s| s.name == "isolated").context("no isolated side")?;
    ensure!(isolated.nodes.contains(leader), "{leader} is not in {:?}", isolated.nodes);
    Ok(())
}

/// Follows the run to its end: the fault is proven, and no check failed.
pub async fn is_exact(h: &Harness, name: &str) -> Result<RackPartitionStatus> {
    let status = is_proven(h, name).await?;
    let fine = [Some(Verdict::Pass), Some(Verdict::Degraded)];
    ensure!(fine.contains(&status.verdict), "{name}: {:?}: {}", status.verdict, told(&status.findings));
    Ok(status)
}

/// Follows the run to its end: the fault is proven, and nothing is left of it.
pub async fn is_proven(h: &Harness, name: &str) -> Result<RackPartitionStatus> {
    let status = h.phase(name, &[Phase::Done], WHOLE_RUN).await?;
    let findings = &status.findings;
    println!("{name}: {}", status.plan.as_ref().context("no plan")?.cut);
    println!("{}", rackpartition::report::findings_table(&status, Some(160)));
    let proof = findings.iter().filter(|f| f.check == Check::FaultProven);
    ensure!(proof.clone().count() > 1, "{name}: the fault is not told: {}", told(findings));
    for finding in proof {
        let proven = matches!(finding.result, FindingResult::Held | FindingResult::Noted);
        ensure!(proven, "{name}: {finding:?}");
    }
    h.no_tables(Duration::from_secs(30)).await?;
    h.all_hear_each_other().await?;
    h.clear().await?;
    Ok(status)
}
