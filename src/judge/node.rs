//! NodeNotReady: nodes that no writable side hears, against their window; and nodes of a writable side, that stay Ready.

use super::{
    Case, MAX_UNWATCHED, Said,
    cite::{cite, some, when},
    timeline::{Seen, Track, before_cut, longest_unknown, unchanged},
};
use crate::{
    api::{Check, Finding, FindingResult, Prospect, SINCE, Side, SpanKind, Window},
    predict::{CONTROLLER_MANAGER, Certainty, NodeForecast, count, grace_is_short, interval},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

/// Beyond its window by more than this and the clocks' error, seconds, a transition is worth telling (theory C8 to C10).
pub const TOLERANCE: f64 = 5.0;

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let cut_off = case.forecast.nodes.iter().map(|node| {
        let said = cut_off(case, node);
        said.about(Check::NodeNotReady, &node.node, node.prediction().expected)
    });
    let kept = case.evidence.sides.iter().filter(|s| s.served == Prospect::Yes).map(|side| {
        let predicted = match grace_is_short(case.evidence.snapshot) {
            true => "stay Ready, or lose it for a moment: the grace period is short",
            false => "stay Ready",
        };
        kept_ready(case, side).about(
            Check::NodeNotReady,
            format!("{}: {}", side.name, count(side.nodes.len(), "node")),
            predicted,
        )
    });
    cut_off.chain(kept).collect()
}

/// Spans of a node's Ready condition, if they tell its history from before the cut until the heal.
fn history<'c, 'a>(case: &'c Case<'a>, node: &str) -> Result<(&'c Track<'a>, &'c [Seen<'a>]), String> {
    let track = case.operator()?;
    let spans = track.series(SpanKind::Node, node);
    let before = before_cut(spans).ok_or_else(|| format!("operator: node {node} was not seen before the cut"))?;
    if !before.is("True") {
        return Err(format!("{}: it was not Ready before the cut", cite(track, before)));
    }
    let vouches = |before: &Seen<'_>, after: &Seen<'_>| {
        unchanged(before, after)
            || (!after.is(&before.span.state)
                && turned(case, track, before, after).is_some_and(|(a, b)| b - a <= MAX_UNWATCHED))
    };
    if longest_unknown(spans, 0.0, case.timeline.heal, vouches) > MAX_UNWATCHED {
        return Err(format!("operator: node {node} was not seen all through the cut"));
    }
    Ok((track, spans))
}

fn cut_off(case: &Case<'_>, node: &NodeForecast) -> Said {
    let (track, spans) = match history(case, &node.node) {
        Ok(history) => history,
        Err(why) => return Said::open(why),
    };
    let heal = case.timeline.heal;
    let found = spans.iter().position(|s| s.from > 0.0 && !s.is("True")).map(|at| {
        let looks = (spans[at - 1].to, spans[at].from);
        (&spans[at], turned(case, track, &spans[at - 1], &spans[at]).unwrap_or(looks))
    });
    // Much later than the heal it has another reason.
    let found = found.filter(|(_, between)| case.is_of_the_cut(node.not_ready, &node.window, *between));
    let Some((not_ready, (still_ready, turned))) = found else {
        let result = match node.not_ready {
            Certainty::Must => FindingResult::Violated,
            _ => FindingResult::Held,
        };
        let last = spans.iter().rfind(|s| s.meets(0.0, heal));
        return Said::new(result, "stayed Ready", last.map_or(String::new(), |s| cite(track, s)));
    };
    let mut observed = format!("NotReady {}", when(turned, heal));
    // It was first seen at `turned`, and not at the look before; and its node was cut off by its own clock.
    let slack = case.slack(TOLERANCE, track);
    let unsure = slack.sum();
    let outside =
        |window: &Window| turned < window.earliest_seconds - unsure || still_ready > window.latest_seconds + unsure;
    let result = match node.not_ready {
        Certainty::MustNot => FindingResult::Degraded,
        _ if outside(&node.window) => {
            observed += &format!(", outside of {}", interval(&node.window));
            FindingResult::Degraded
        }
        _ => match (node.after_takeover, manager_start(case, track)) {
            (Some(relative), Some(start)) if outside(&crate::predict::shifted(&relative, start)) => {
                observed += &format!(", outside of {} after the new controller manager's start", interval(&relative));
                FindingResult::Degraded
            }
            _ => FindingResult::Held,
        },
    };
    Said::new(result, observed, cite(track, not_ready)).tolerating(slack.to_string())
}

/// Within which seconds after the cut a condition changed between two looks, in the words of whoever changed it: to the second, by a
/// clock that may differ from the operator's as the run allowed.
pub fn turned(case: &Case<'_>, track: &Track<'_>, before: &Seen<'_>, after: &Seen<'_>) -> Option<(f64, f64)> {
    let at = track.after_cut(&MicroTime(after.span.told(SINCE)?.parse().ok()?));
    let error = case.allowed_clock_error() + track.error;
    let (from, until) = (before.to.max(at - error), after.from.min(at + 1.0 + error));
    (from <= until).then_some((from, until))
}

/// When the new controller manager was seen to lead, seconds after the cut.
pub fn manager_start(case: &Case<'_>, track: &Track<'_>) -> Option<f64> {
    let lease = case.forecast.leases.iter().find(|l| l.lease.subject() == CONTROLLER_MANAGER)?;
    let spans = track.series(SpanKind::Lease, CONTROLLER_MANAGER);
    let new = spans.iter().find(|s| s.from > 0.0 && !s.span.state.is_empty() && !s.is(&lease.lease.holder));
    new.map(|s| s.from)
}

fn kept_ready(case: &Case<'_>, side: &Side) -> Said {
    let (mut lost, mut evidence) = (Vec::new(), None);
    for node in &side.nodes {
        let (track, spans) = match history(case, node) {
            Ok(history) => history,
            Err(why) => return Said::open(why),
        };
        match spans.iter().find(|s| s.from > 0.0 && s.from <= case.timeline.heal && !s.is("True")) {
            Some(not_ready) => {
                lost.push(format!("{node} {}", when(not_ready.from, case.timeline.heal)));
                evidence = Some(cite(track, not_ready));
            }
            None if lost.is_empty() => {
                evidence = spans.iter().rfind(|s| s.meets(0.0, case.timeline.heal)).map(|s| cite(track, s));
            }
            None => {}
        }
    }
    let (result, observed) = match lost.is_empty() {
        true => (FindingResult::Held, "all stayed Ready".into()),
        false if grace_is_short(case.evidence.snapshot) => (FindingResult::Noted, format!("NotReady: {}", some(&lost))),
        false => (FindingResult::Degraded, format!("NotReady: {}", some(&lost))),
    };
    Said::new(result, observed, evidence.unwrap_or_default())
}
