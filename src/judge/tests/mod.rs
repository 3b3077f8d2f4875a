//! Whole runs, judged.

mod after_heal;
mod aftermath;
mod again;
mod api_server;
mod bare_pods;
mod cluster;
mod coordinated;
mod copies;
mod deletion;
mod directions;
mod disruption;
mod elections;
mod endpoints;
mod etcd;
mod expectations;
pub mod fixture;
mod healing;
mod late;
mod leader_metrics;
mod mutations;
mod pod_leases;
mod properties;
mod recovery;
mod register;
mod rehearsal;
mod renewals;
mod twins;
mod unproven;
mod unseen;
mod vouched;

use crate::api::{Check, Finding, FindingResult, Verdict};
use fixture::passing;

#[test]
fn the_passing_run_passes() {
    let run = passing();
    let judgement = run.judge();
    let text: Vec<_> = judgement
        .findings
        .iter()
        .map(|f| {
            format!("{:?} {} | {} | {} | {:?} | {}", f.check, f.subject, f.predicted, f.observed, f.result, f.evidence)
        })
        .collect();
    assert_eq!(judgement.verdict, Verdict::Pass, "{text:#?}");
    assert!(judgement.findings.iter().all(|f| f.result <= FindingResult::Noted), "{text:#?}");
    // Whatever points into the time line, or at a record, begins with whose it is.
    let nodes = run.agents.iter().map(|r| format!("{}: ", r.spec.node));
    let observers: Vec<String> = nodes.chain(["operator: ".to_owned()]).collect();
    let is_cited = |f: &Finding| observers.iter().any(|who| f.evidence.starts_with(who.as_str()));
    let prose: Vec<&Finding> = judgement.findings.iter().filter(|f| !is_cited(f)).collect();
    assert!(prose.is_empty(), "{prose:#?}");
    for check in [
        Check::FaultProven,
        Check::EtcdQuorum,
        Check::EtcdLeaders,
        Check::StoreAgreement,
        Check::ApiWritable,
        Check::ApiServerReady,
        Check::StaleRead,
        Check::LostWrites,
        Check::LeaseTakeover,
        Check::LeaderGap,
        Check::LeaderOverlap,
        Check::LeaseStable,
        Check::LeaseHistory,
        Check::NodeNotReady,
        Check::NodeTainted,
        Check::EndpointsRemoved,
        Check::WorkloadEvicted,
        Check::WorkloadKept,
        Check::WorkloadDoubled,
        Check::WorkloadOrphaned,
        Check::WorkloadStuck,
        Check::HealDamage,
        Check::Recovery,
        Check::HealProven,
    ] {
        assert!(judgement.findings.iter().any(|f| f.check == check), "{check:?}");
    }
}
