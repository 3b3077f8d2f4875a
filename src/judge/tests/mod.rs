//! Whole runs, judged.

mod cluster;
mod directions;
pub mod fixture;
mod healing;
mod mutations;
mod properties;
mod unproven;
mod unseen;
mod vouched;

use crate::api::{Check, FindingResult, Verdict};
use fixture::passing;

#[test]
fn the_passing_run_passes() {
    let judgement = passing().judge();
    let text: Vec<_> = judgement
        .findings
        .iter()
        .map(|f| {
            format!("{:?} {} | {} | {} | {:?} | {}", f.check, f.subject, f.predicted, f.observed, f.result, f.evidence)
        })
        .collect();
    assert_eq!(judgement.verdict, Verdict::Pass, "{text:#?}");
    assert!(judgement.findings.iter().all(|f| f.result <= FindingResult::Noted && !f.evidence.is_empty()), "{text:#?}");
    for check in [
        Check::FaultProven,
        Check::EtcdQuorum,
        Check::ApiWritable,
        Check::LeaseTakeover,
        Check::LeaderGap,
        Check::LeaderOverlap,
        Check::LeaseStable,
        Check::NodeNotReady,
        Check::WorkloadKept,
        Check::WorkloadDoubled,
        Check::WorkloadStuck,
        Check::Recovery,
        Check::HealProven,
    ] {
        assert!(judgement.findings.iter().any(|f| f.check == check), "{check:?}");
    }
}
