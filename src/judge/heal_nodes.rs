//! HealDamage, of nodes: those that a side that can write heard all through the cut stay Ready when the network is whole again.

use super::{
    Case, MAX_UNWATCHED, Said,
    cite::{cite, some, when},
    timeline::{longest_unknown, unchanged},
};
use crate::{
    api::{Check, Finding, FindingResult, Prospect, SpanKind},
    predict::grace_is_short,
};

pub fn check(case: &Case<'_>) -> Option<Finding> {
    let served = case.evidence.sides.iter().filter(|s| s.served == Prospect::Yes);
    let nodes: Vec<&str> = served.flat_map(|s| &s.nodes).map(String::as_str).collect();
    if nodes.is_empty() {
        return None;
    }
    let predicted = match grace_is_short(case.evidence.snapshot) {
        true => "stay Ready after the heal, or lose it for a moment: the grace period is short",
        false => "stay Ready after the heal",
    };
    let said = judged(case, &nodes).unwrap_or_else(Said::open);
    Some(said.about(Check::HealDamage, "nodes that were heard", predicted))
}

/// # Errors
/// With what is missing.
fn judged(case: &Case<'_>, nodes: &[&str]) -> Result<Said, String> {
    let (track, heal, end) = (case.operator()?, case.timeline.heal, case.timeline.end);
    if end <= heal {
        return Err("nobody watched after the heal".into());
    }
    let (mut lost, mut first, mut example, mut unseen) = (Vec::new(), None, None, None);
    for node in nodes {
        let spans = track.series(SpanKind::Node, node);
        let at_heal = spans.iter().rfind(|s| s.from <= heal);
        // One that was not Ready before is no damage of the heal.
        if at_heal.is_some_and(|s| !s.is("True")) {
            continue;
        }
        let Some(ready) = at_heal.filter(|s| s.to >= heal - MAX_UNWATCHED) else {
            unseen.get_or_insert_with(|| format!("operator: node {node} was not seen at the heal"));
            continue;
        };
        if let Some(not_ready) = spans.iter().find(|s| s.from > heal && !s.is("True")) {
            lost.push(format!("{node} {}", when(not_ready.from, heal)));
            first.get_or_insert_with(|| cite(track, not_ready));
        } else if longest_unknown(spans, heal, end, unchanged) > MAX_UNWATCHED {
            unseen.get_or_insert_with(|| format!("operator: node {node} was not seen all the time after the heal"));
        } else {
            example.get_or_insert_with(|| cite(track, ready));
        }
    }
    match (first, unseen) {
        (Some(evidence), _) => {
            let short = grace_is_short(case.evidence.snapshot);
            let result = if short { FindingResult::Noted } else { FindingResult::Degraded };
            Ok(Said::new(result, format!("NotReady: {}", some(&lost)), evidence))
        }
        (None, Some(why)) => Err(why),
        (None, None) => {
            let evidence = example.unwrap_or_else(|| "operator: none of them was Ready at the heal".into());
            Ok(Said::new(FindingResult::Held, "all stayed Ready", evidence))
        }
    }
}
