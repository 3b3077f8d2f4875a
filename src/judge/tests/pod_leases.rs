//! Leases that pods hold which others have made.

use super::fixture::{END, Run, START, passing};
use crate::{
    api::{Check, Finding, FindingResult, SpanKind},
    topology::{Candidate, Lease},
};

const SUBJECT: &str = "cert-manager/cert";

/// A Lease of this namespace that a pod on w1 holds; others may take it on w2, and on cp1, which is cut off too.
fn lease(run: &Run, namespace: &str, holder: &str) -> Lease {
    let pods = [("cert-1", "w1"), ("cert-2", "w2"), ("cert-3", "cp1")];
    Lease {
        namespace: namespace.into(),
        name: "cert".into(),
        holder: holder.into(),
        holder_node: Some("w1".into()),
        candidate_nodes: vec!["cp1".into(), "w2".into()],
        pods: pods.map(|(pod, node)| Candidate { pod: pod.into(), node: node.into() }).into(),
        ..run.snapshot.leases[0].clone()
    }
}

/// The passing run with such a Lease, which had these holders.
fn held(history: &[(&str, f64, f64)]) -> Run {
    let mut run = passing();
    let lease = lease(&run, "cert-manager", "cert-1_a");
    run.snapshot.leases.push(lease);
    run.rewrite_operator(SpanKind::Lease, SUBJECT, history);
    run
}

fn found(run: &Run) -> Vec<Finding> {
    run.judge().findings.into_iter().filter(|f| f.subject == SUBJECT).collect()
}

fn taken_by(holder: &str) -> Finding {
    let all = found(&held(&[("cert-1_a", START, 8.5), (holder, 9.0, END)]));
    all.into_iter().find(|f| f.check == Check::LeaseTakeover).expect("a finding")
}

#[test]
fn a_pod_on_the_side_that_can_write_takes_it_by_the_rules() {
    let taken = taken_by("cert-2_b");
    assert_eq!((taken.result, taken.observed.as_str()), (FindingResult::Held, "cert-2 leads from 9 s after the cut"));
    let kept = found(&held(&[("cert-1_a", START, END)]));
    assert!(kept.iter().all(|f| f.result == FindingResult::Held), "{kept:?}");
    // Its process goes on, for all that anybody knows, and that is no overlap.
    let checks: Vec<Check> = found(&held(&[("cert-1_a", START, 8.5), ("cert-2_b", 9.0, END)]))
        .into_iter()
        .map(|f| f.check)
        .filter(|check| matches!(check, Check::LeaderGap | Check::LeaderOverlap))
        .collect();
    assert!(checks.is_empty(), "{checks:?}");
}

#[test]
fn a_pod_that_is_cut_off_takes_it_from_nobody() {
    assert_eq!(taken_by("cert-3_b").result, FindingResult::Violated);
    // Before its duration was over.
    let early = |from: f64, to: f64| {
        let all = found(&held(&[("cert-1_a", START, from), ("cert-2_b", to, END)]));
        all.into_iter().find(|f| f.check == Check::LeaseTakeover).map(|f| f.result)
    };
    assert_eq!(early(0.8, 1.3), Some(FindingResult::Violated));
    // It may have released it before its node was cut off, and when it ends nobody is told.
    assert_eq!(early(0.3, 0.8), Some(FindingResult::Inconclusive));
}

#[test]
fn of_a_pod_that_nobody_knew_it_is_open_where_it_leads() {
    let taken = taken_by("cert-9_b");
    assert_eq!(taken.result, FindingResult::Inconclusive);
    assert_eq!(taken.observed, "cert-9 leads from 9 s after the cut, and nobody knows where that runs");
}

#[test]
fn whether_others_count_their_changes_nobody_knows() {
    let mut run = held(&[("cert-1_a", START, 8.5), ("cert-2_b", 9.0, END)]);
    let counted = |run: &Run| found(run).into_iter().find(|f| f.check == Check::LeaseHistory).map(|f| f.result);
    assert_eq!(counted(&run), Some(FindingResult::Held));
    for span in run.operator_status().spans.iter_mut().filter(|s| s.subject == SUBJECT) {
        span.detail = Some("transitions=0".into());
    }
    assert_eq!(counted(&run), Some(FindingResult::Noted));
}

#[test]
fn only_the_holders_own_pod_may_end_with_its_lease() {
    let ended = |namespace: &str, holder: &str| {
        let mut run = passing();
        run.rewrite_containers("w1", "dns-1", &[("exited", -600.0, 20.0)]);
        let lease = lease(&run, namespace, holder);
        run.snapshot.leases.push(lease);
        let findings = run.judge().findings;
        let kept = findings.iter().find(|f| f.check == Check::WorkloadKept && f.subject.contains("dns"));
        kept.map(|f| f.result)
    };
    assert_eq!(ended("default", "dns-5bc6f7d8f4-ccccc_a"), Some(FindingResult::Noted));
    assert_eq!(ended("default", "dns-5bc6f7d8f4-cccccc_a"), Some(FindingResult::Violated));
    assert_eq!(ended("other", "dns-5bc6f7d8f4-ccccc_a"), Some(FindingResult::Violated));
}
