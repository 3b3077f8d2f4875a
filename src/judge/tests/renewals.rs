//! Leases of which the last renewal was seen: theory counts from there, and not from the cut.

use super::{
    fixture::{END, Run, START, moment},
    mutations::expect,
};
use crate::api::{Check, FindingResult, SpanKind, Verdict};

const SCHEDULER: &str = "kube-system/kube-scheduler";
const STABLE: &str = "kube-system/snapshot-controller";
const UNKNOWN: FindingResult = FindingResult::Inconclusive;
const VIOLATED: FindingResult = FindingResult::Violated;
const DEGRADED: FindingResult = FindingResult::Degraded;
/// Seconds by which nodes' clocks are behind the operator's.
const BEHIND: f64 = 0.2;

/// What an operator writes down of a renewal: when its holder wrote it, by its own clock, and when it was first seen.
fn detail(wrote: f64, seen: f64) -> String {
    let (wrote, seen) = (moment(BEHIND, wrote).wall.0, moment(0.0, seen).wall.0);
    format!("transitions=0 renewed={wrote:.6} seen={seen:.6}")
}

/// The scheduler's Lease is taken at `at`, half a second after the last look at its old holder, whose last renewal is told so and whose
/// process ends at `ended`.
fn taken(at: f64, renewed: Option<(f64, f64)>, ended: f64) -> impl FnOnce(&mut Run) {
    move |run: &mut Run| {
        run.rewrite_operator(SpanKind::Lease, SCHEDULER, &[("cp1_1", START, at - 0.5), ("cp2_2", at, END)]);
        let mut spans = run.operator_status().spans.iter_mut();
        let held = spans.find(|s| s.kind == SpanKind::Lease && s.subject == SCHEDULER && s.state == "cp1_1");
        if let Some((wrote, seen)) = renewed {
            held.expect("its old holder").detail = Some(detail(wrote, seen));
        }
        let mut spans = run.status("cp1").spans.iter_mut();
        let old = spans.find(|s| s.state == "exited" && s.subject.contains("scheduler"));
        old.expect("its container").to = moment(BEHIND, ended);
    }
}

#[test]
fn a_lease_taken_long_after_the_cut_and_soon_after_a_renewal() {
    let late = [(Check::LeaseTakeover, SCHEDULER, DEGRADED)];
    expect(taken(50.0, None, 49.8), Verdict::Degraded, &late);
    // LeaseDuration is 6 s. Whoever had released it would have ended.
    let robbed = [(Check::LeaseTakeover, SCHEDULER, VIOLATED), (Check::LeaderOverlap, SCHEDULER, VIOLATED)];
    expect(taken(50.0, Some((47.0, 47.4)), 58.0), Verdict::Fail, &robbed);
    // It may have released it between two looks.
    let open = [(Check::LeaseTakeover, SCHEDULER, UNKNOWN)];
    expect(taken(50.0, Some((47.0, 47.4)), 49.8), Verdict::Inconclusive, &open);
    // Half a minute after the last renewal.
    expect(taken(50.0, Some((20.0, 20.4)), 49.8), Verdict::Degraded, &late);
}

#[test]
fn a_lease_taken_from_whoever_was_cut_off_before_its_renewal_was_over() {
    let robbed = [(Check::LeaseTakeover, SCHEDULER, VIOLATED)];
    // From the cut on it is no longer too early; who is cut off releases nothing.
    expect(taken(4.2, Some((-0.2, 0.1)), 4.1), Verdict::Fail, &robbed);
    expect(taken(4.2, Some((-1.8, -1.4)), 4.1), Verdict::Pass, &[]);
    expect(taken(4.2, None, 4.1), Verdict::Pass, &[]);
}

#[test]
fn a_lease_that_had_not_been_renewed_for_long_when_its_holder_was_cut_off() {
    // Early, counted from the cut.
    let robbed = [(Check::LeaseTakeover, SCHEDULER, VIOLATED)];
    expect(taken(2.0, None, 1.9), Verdict::Fail, &robbed);
    expect(taken(2.0, Some((-1.4, -1.0)), 1.9), Verdict::Fail, &robbed);
    // LeaseDuration is 6 s: its last renewal was that long ago.
    expect(taken(2.0, Some((-4.4, -4.0)), 1.9), Verdict::Pass, &[]);
}

#[test]
fn a_renewal_that_was_written_after_its_holder_had_ended() {
    let from_the_cut = [(Check::LeaseTakeover, SCHEDULER, DEGRADED), (Check::LeaderGap, SCHEDULER, DEGRADED)];
    expect(taken(24.0, None, 4.9), Verdict::Degraded, &from_the_cut);
    // Its holder began at 4 s, and the API server wrote it at 14 s: candidates wait from there.
    let not_counted = [(Check::LeaderGap, SCHEDULER, UNKNOWN)];
    expect(taken(24.0, Some((4.0, 14.0)), 4.9), Verdict::Inconclusive, &not_counted);
    // Too late even so.
    let late = [(Check::LeaseTakeover, SCHEDULER, DEGRADED), (Check::LeaderGap, SCHEDULER, UNKNOWN)];
    expect(taken(40.0, Some((4.0, 14.0)), 4.9), Verdict::Inconclusive, &late);
}

#[test]
fn a_lease_that_goes_on_being_renewed_did_not_move_while_nobody_looked() {
    let renewed = |run: &mut Run| {
        run.rewrite_operator(SpanKind::Lease, STABLE, &[("cp2_1", START, 10.0), ("cp2_1", 40.0, END)]);
        let spans = run.operator_status().spans.iter_mut().filter(|s| s.kind == SpanKind::Lease && s.subject == STABLE);
        spans.zip([9.0, 200.0]).for_each(|(span, at)| span.detail = Some(detail(at, at + 0.4)));
    };
    expect(renewed, Verdict::Pass, &[]);
}
