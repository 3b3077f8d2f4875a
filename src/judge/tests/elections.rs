//! Leases that are taken by other rules, and by no more than clocks and polls leave open.

use super::{
    fixture::{CUT, END, Run, START, moment, passing},
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

#[test]
fn whoever_took_a_lease_on_the_losing_side_may_have_taken_it_before_the_cut() {
    let lease = "kube-system/kube-scheduler";
    // The old one's process ends just before it was seen with the new one.
    let taken = |from: f64, to: f64| {
        let mut run = passing();
        run.rewrite_operator(SpanKind::Lease, lease, &[("cp1_1", START, from), ("cp1_2", to, END)]);
        let mut spans = run.status("cp1").spans.iter_mut();
        let old = spans.find(|s| s.state == "exited" && s.subject.contains("scheduler"));
        old.expect("its container").to = moment(0.2, to - 0.1);
        let findings = run.judge().findings;
        let found = findings.into_iter().find(|f| f.check == Check::LeaseTakeover && f.subject == lease).unwrap();
        (found.result, found.observed)
    };
    // Clocks may differ by half a second.
    for (from, to) in [(-0.2, 0.3), (0.4, 0.9)] {
        let (result, observed) = taken(from, to);
        assert_eq!(result, FindingResult::Inconclusive, "{observed}");
        assert!(observed.ends_with(", on the losing side, perhaps before the cut"), "{observed}");
    }
    let (result, observed) = taken(0.6, 1.1);
    assert_eq!(result, FindingResult::Violated, "{observed}");
    assert!(observed.ends_with(", on the losing side"), "{observed}");
}

#[test]
fn a_lease_taken_early_may_have_been_released_until_its_holder_is_cut_off() {
    let lease = "kube-system/kube-scheduler";
    let taken = |from: f64, to: f64, ended: f64| {
        let mut run = passing();
        run.rewrite_operator(SpanKind::Lease, lease, &[("cp1_1", START, from), ("cp2_2", to, END)]);
        let mut spans = run.status("cp1").spans.iter_mut();
        let old = spans.find(|s| s.state == "exited" && s.subject.contains("scheduler"));
        old.expect("its container").to = moment(0.2, ended);
        let findings = run.judge().findings;
        let found = findings.into_iter().find(|f| f.check == Check::LeaseTakeover && f.subject == lease).unwrap();
        (found.result, found.observed)
    };
    // Predicted from 4 s on. It may have released it when it was told to end, just before its node was cut off.
    let (result, observed) = taken(0.3, 0.8, 0.7);
    assert_eq!(result, FindingResult::Inconclusive, "{observed}");
    assert!(observed.ends_with(" and perhaps released in between"), "{observed}");
    // Whoever goes on has not released it, and who is cut off can't.
    for (from, to, ended) in [(0.3, 0.8, 4.9), (0.6, 1.1, 1.0)] {
        let (result, observed) = taken(from, to, ended);
        assert_eq!(result, FindingResult::Violated, "{observed}");
        assert!(observed.contains(", before "), "{observed}");
    }
}

#[test]
fn two_looks_that_are_not_in_order_are_judged_all_the_same() {
    // Another replica of the operator went on, and its clock is behind.
    let mut run = passing();
    run.rewrite_operator(SpanKind::Lease, KCM, &[("cp1_1", START, 9.3), ("cp2_2", 9.0, END)]);
    let acquired = moment(0.2, 8.8).wall.0;
    let mut spans = run.operator_status().spans.iter_mut();
    let new = spans.find(|s| s.kind == SpanKind::Lease && s.subject == KCM && s.state == "cp2_2");
    new.expect("its new holder").detail = Some(format!("transitions=1 acquired={acquired:.6}"));
    let findings = run.judge().findings;
    let overlap = findings.iter().find(|f| f.check == Check::LeaderOverlap && f.subject == KCM);
    assert_eq!(overlap.map(|f| f.result), Some(FindingResult::Held), "{findings:#?}");
}

#[test]
fn whoever_takes_a_lease_on_the_losing_side_may_have_been_healed_by_its_own_clock() {
    let taken = |at: f64| {
        let mut run = passing();
        run.rewrite_operator(SpanKind::Lease, KCM, &[("cp1_1", START, at - 0.5), ("cp1_2", at, END)]);
        let findings = run.judge().findings;
        let found = findings.into_iter().find(|f| f.check == Check::LeaseTakeover && f.subject == KCM).unwrap();
        (found.result, found.observed)
    };
    let (result, observed) = taken(CUT - 0.8);
    assert_eq!(result, FindingResult::Violated, "{observed}");
    assert!(observed.ends_with(", on the losing side"), "{observed}");
    // Clocks may differ by half a second.
    let (result, observed) = taken(CUT - 0.3);
    assert_eq!(result, FindingResult::Degraded, "no more than late: {observed}");
}
