//! Leases that are taken by other rules, and by no more than clocks and polls leave open.

use super::{
    fixture::{END, Run, START, passing},
    mutations::{KCM, expect},
};
use crate::api::{Check, Finding, FindingResult, SpanKind, Verdict};
use std::time::Duration;

/// The passing run whose new controller manager counts so many changes.
fn counting(run: &mut Run, transitions: i32) {
    let mut spans = run.operator_status().spans.iter_mut();
    let new = spans.find(|s| s.kind == SpanKind::Lease && s.subject == KCM && s.state == "cp2_2").unwrap();
    new.detail = Some(format!("transitions={transitions}"));
}

fn history(run: &Run) -> Option<Finding> {
    run.judge().findings.into_iter().find(|f| f.check == Check::LeaseHistory && f.subject == KCM)
}

#[test]
fn a_lease_that_is_taken_without_counting_it() {
    let amiss = |result| [(Check::LeaseHistory, KCM, result)];
    for transitions in [0, -1] {
        expect(|run| counting(run, transitions), Verdict::Fail, &amiss(FindingResult::Violated));
    }
    let mut run = passing();
    counting(&mut run, 0);
    let said = history(&run).unwrap().observed;
    assert_eq!(said, "cp2_2 took it from cp1_1 and did not count it 9 s after the cut");
}

#[test]
fn a_holder_that_nobody_saw_leaves_it_open() {
    let amiss = [(Check::LeaseHistory, KCM, FindingResult::Inconclusive)];
    expect(|run| counting(run, 3), Verdict::Inconclusive, &amiss);
    // The plan knew another count, and the holder is the same.
    expect(|run| run.snapshot.leases[0].transitions = -2, Verdict::Inconclusive, &amiss);
    let mut run = passing();
    run.operator_status().spans.iter_mut().filter(|s| s.subject == KCM).for_each(|s| s.detail = None);
    let found = history(&run).unwrap();
    assert_eq!(found.result, FindingResult::Inconclusive);
    assert!(found.evidence.ends_with("without its count of changes"), "{found:?}");
}

#[test]
fn whoever_never_counts_says_nothing_by_not_counting() {
    let mut run = passing();
    counting(&mut run, 0);
    run.snapshot.leases[0].candidate_nodes.clear();
    assert_eq!(history(&run).unwrap().result, FindingResult::Noted);
}

#[test]
fn a_lease_that_was_released_is_counted_once_and_not_taken_early() {
    let lease = "kube-system/kube-scheduler";
    let released = [("cp1_1", START, 0.5), ("", 1.0, 1.0), ("cp2_2", 1.5, END)];
    let mut run = passing();
    run.rewrite_operator(SpanKind::Lease, lease, &released);
    let findings = run.judge().findings;
    let of = |check| findings.iter().find(|f| f.check == check && f.subject == lease).unwrap();
    assert_eq!(of(Check::LeaseHistory).result, FindingResult::Held);
    let takeover = of(Check::LeaseTakeover);
    assert_eq!(takeover.result, FindingResult::Noted, "{takeover:?}");
    assert!(takeover.observed.ends_with("after it had been released"), "{takeover:?}");
}

#[test]
fn a_lease_that_nobody_took_has_no_history_to_count() {
    let findings = passing().judge().findings;
    let counted: Vec<&str> =
        findings.iter().filter(|f| f.check == Check::LeaseHistory).map(|f| f.subject.as_str()).collect();
    assert_eq!(counted, [KCM, "kube-system/kube-scheduler"]);
}

#[test]
fn a_limit_between_two_looks_is_neither_kept_nor_broken() {
    // Taken after 8.5 s and not after 9 s.
    let takeover = |seconds: f64| {
        let mut run = passing();
        run.spec.expect.leader_takeover = Some(Duration::from_secs_f64(seconds).into());
        let findings = run.judge().findings;
        findings.iter().find(|f| f.check == Check::LeaseTakeover && f.subject == KCM).map(|f| f.result).unwrap()
    };
    let results = [8.0, 8.7, 9.5].map(takeover);
    assert_eq!(results, [FindingResult::Violated, FindingResult::Inconclusive, FindingResult::Held]);
}

#[test]
fn a_lease_that_may_have_moved_before_the_cut_accuses_nobody() {
    let lease = "kube-system/snapshot-controller";
    let moved = [("cp2_1", START, -0.2), ("cp3_1", 0.3, END)];
    expect(
        |run| run.rewrite_operator(SpanKind::Lease, lease, &moved),
        Verdict::Inconclusive,
        &[(Check::LeaseStable, lease, FindingResult::Inconclusive)],
    );
}
