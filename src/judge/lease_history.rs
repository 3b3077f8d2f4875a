//! LeaseHistory: every change of a Lease's holder is counted in the Lease, once. Whoever takes a Lease by the rules counts it
//! (client-go `tryAcquireOrRenew`), so one that is not counted was written by somebody who did not ask.

use super::{
    Case, Said,
    cite::{cite, when},
    timeline::{Seen, Track},
};
use crate::{
    api::{Check, Finding, FindingResult, SpanKind},
    predict::{LeaseForecast, count},
    topology::Lease,
};

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let of = |lease: &LeaseForecast| {
        let said = match case.operator() {
            Err(why) => Some(Said::open(why)),
            Ok(track) => history(case, track, &lease.lease),
        };
        let predicted = "each change of holder counted once";
        Some(said?.tolerating("none").about(Check::LeaseHistory, lease.lease.subject(), predicted))
    };
    // An API server that picks the holder counts nothing (`reconcileElectionStep`, leaderelection_controller.go).
    case.forecast.leases.iter().filter(|lease| !lease.is_coordinated()).filter_map(of).collect()
}

/// What the Lease said of itself at one look.
#[derive(Clone, Copy)]
struct Entry<'s> {
    holder: &'s str,
    transitions: i64,
}

/// `None` where nobody took it, so that there is nothing to count.
fn history(case: &Case<'_>, track: &Track<'_>, lease: &Lease) -> Option<Said> {
    let spans = track.series(SpanKind::Lease, &lease.subject());
    let planned = Entry { holder: &lease.holder, transitions: i64::from(lease.transitions) };
    let (mut last, mut released, mut changes) = (planned, false, 0);
    let (mut worst, mut example): (Option<Said>, Option<String>) = (None, None);
    let counts = counts(lease);
    for seen in spans {
        if seen.span.state.is_empty() {
            released = true;
            continue;
        }
        let Some(transitions) = transitions(seen) else {
            return Some(Said::open(format!("{}: without its count of changes", cite(track, seen))));
        };
        let taken = released || seen.span.state != last.holder;
        let (counted, expected) = (transitions - last.transitions, i64::from(taken));
        if counted != expected {
            let observed = format!("{} {}", change(last, seen, counted), when(seen.from, case.timeline.heal));
            // The operator looks twice a second, and whoever releases a Lease may be followed by two within that. One that never
            // counts says nothing by not counting.
            let result = match counted > expected {
                true => FindingResult::Inconclusive,
                false if counts || transitions > 0 => FindingResult::Violated,
                false => FindingResult::Noted,
            };
            let said = Said::new(result, observed, cite(track, seen));
            worst = worst.into_iter().chain([said]).max_by_key(|s| s.result);
        }
        if taken {
            changes += 1;
            example = Some(cite(track, seen));
        }
        (last, released) = (Entry { holder: &seen.span.state, transitions }, false);
    }
    let held = format!("{}, each counted", count(changes, "change"));
    worst.or_else(|| example.map(|evidence| Said::new(FindingResult::Held, held, evidence)))
}

/// Whether those who take this Lease are known to count it: the control plane's own, which have candidates, and any that has been counted
/// before. Of others an unchanged count says nothing.
pub fn counts(lease: &Lease) -> bool {
    let is_of_control_plane = lease.pods.is_empty() && !lease.candidate_nodes.is_empty();
    lease.strategy.is_none() && (is_of_control_plane || lease.transitions > 0)
}

fn change(last: Entry<'_>, seen: &Seen<'_>, counted: i64) -> String {
    let (old, new) = (last.holder, &seen.span.state);
    match (old == new, counted) {
        (true, counted) if counted > 0 => format!("{new} held it before and after, and {counted} changes are counted"),
        (_, 0) => format!("{new} took it from {old} and did not count it"),
        (_, counted) if counted < 0 => format!("{new} took it from {old} and counted back by {}", -counted),
        (_, counted) => format!("{new} after {old}, and {counted} changes are counted"),
    }
}

fn transitions(seen: &Seen<'_>) -> Option<i64> {
    seen.span.told("transitions")?.parse().ok()
}
