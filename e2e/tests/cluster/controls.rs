//! Controls: faults of the cluster's own, which the tool must catch, and a run in which nothing happens, of which it must find nothing.

mod altered_member;
mod old_leader;
mod rehearsal;
mod stale_reads;
mod twin;

pub use altered_member::an_altered_member_of_etcd;
pub use old_leader::an_old_leader_that_does_not_stop;
pub use rehearsal::a_rehearsal;
pub use stale_reads::stale_reads_on_the_losing_side;
pub use twin::a_twin_of_a_stateful_set;

use crate::harness::{Harness, seconds_until};
use anyhow::{Context, Result, bail, ensure};
use kube::{Api, api::DeleteParams};
use rackpartition::api::{Finding, FindingResult, Phase, RackPartitionStatus, Schedule};
use serde::de::DeserializeOwned;
use std::{fmt::Debug, time::Duration};
use tokio::time::sleep;

/// Arming, a cut of up to 90 s, recovery of up to 3 minutes, judging.
const WHOLE_RUN: Duration = Duration::from_secs(480);
/// From a run's creation to its cut.
const ARMING: Duration = Duration::from_secs(150);

/// Deletes what a scenario has made, until an API server has taken it.
pub async fn removed<K>(h: &Harness, of: &Api<K>, name: &str) -> Result<()>
where
    K: Clone + DeserializeOwned + Debug,
{
    h.until(&format!("{name} to be removed"), Duration::from_secs(45), async |_: &Harness| {
        match of.delete(name, &DeleteParams::background()).await {
            Err(kube::Error::Api(answer)) if answer.is_not_found() => Ok(Some(())),
            other => Ok(Some(other.map(drop)?)),
        }
    })
    .await
}

/// The node of this kind in a rack.
fn node(h: &Harness, rack: &str, control_plane: bool) -> Result<String> {
    let found = h.lab.nodes().iter().find(|n| n.rack == rack && n.control_plane == control_plane);
    Ok(found.with_context(|| format!("{rack} has no such node"))?.name.clone())
}

/// Waits until so many seconds after the beginning of the cut.
async fn into_the_cut(h: &Harness, name: &str, seconds: f64) -> Result<Schedule> {
    let status = h.phase(name, &[Phase::Scheduled, Phase::Cut], ARMING).await?;
    let schedule = status.schedule.context("no schedule")?;
    let left = seconds_until(schedule.cut_at.0) + seconds;
    let late = -left;
    ensure!(late < 1.0, "the cut was seen {late:.1} s too late");
    sleep(Duration::from_secs_f64(left.max(0.0))).await;
    Ok(schedule)
}

/// The run when it is judged.
async fn ended(h: &Harness, name: &str) -> Result<RackPartitionStatus> {
    let status = h.phase(name, &[Phase::Done], WHOLE_RUN).await?;
    println!("{}", rackpartition::report::findings_table(&status, Some(160)));
    if status.findings.is_empty() {
        bail!("{name} was judged without a finding");
    }
    Ok(status)
}

fn violated(findings: &[Finding]) -> impl Iterator<Item = &Finding> {
    findings.iter().filter(|f| f.result == FindingResult::Violated)
}
