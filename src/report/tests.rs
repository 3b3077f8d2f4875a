//! What people see of a run that passes.

use super::*;
use crate::{
    api::{Plan, RackPartition, RackPartitionStatus},
    judge::tests::fixture::passing,
};

fn judged() -> RackPartition {
    let run = passing();
    let (judgement, forecast) = (run.judge(), run.forecast());
    let plan = Plan {
        cut: "isolate r1".into(),
        sides: run.sides.clone(),
        edges: run.fault.edges() as u32,
        prediction: forecast.predictions,
        assumptions: vec!["node eviction rate: 0.1 (upstream's default)".into()],
        ..Plan::default()
    };
    let status = RackPartitionStatus {
        plan: Some(plan),
        verdict: Some(judgement.verdict),
        findings: judgement.findings,
        ..RackPartitionStatus::default()
    };
    RackPartition { status: Some(status), ..RackPartition::new("isolate-active-rack", run.spec) }
}

#[test]
fn tables_fit_their_width() {
    let rp = judged();
    let status = rp.status.as_ref().unwrap();
    for width in [None, Some(80), Some(160)] {
        let table = findings_table(status, width);
        let widest = table.lines().map(|l| l.chars().count()).max().unwrap();
        assert!(widest <= width.unwrap_or(100) as usize, "{widest}\n{table}");
        println!("{table}");
    }
    let text = plan_text(status.plan.as_ref().unwrap(), None);
    println!("{text}");
    assert!(text.contains("isolated: cp1, w1 (etcd 1 of 3, no quorum; API not writable)"), "{text}");
}

#[test]
fn the_verdict_in_a_line() {
    let mut rp = judged();
    let line = verdict_line(&rp);
    assert!(line.starts_with("isolate-active-rack: Pass, the cluster behaved as predicted ("), "{line}");
    rp.status = None;
    assert_eq!(verdict_line(&rp), "isolate-active-rack: not started");
}
