//! NodeTainted: nodes that no writable side hears, against the interval in which the node lifecycle controller must taint them.

use super::{
    Case, MAX_UNWATCHED, Said,
    cite::{cite, when},
    node::TOLERANCE,
    timeline::longest_hole,
};
use crate::{
    api::{Check, Finding, FindingResult, SpanKind},
    predict::{Certainty, NodeForecast, count, interval},
};
use std::collections::BTreeMap;

/// With this one the controller evicts the pods of a node that it does not hear.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let mut sides: BTreeMap<&str, Vec<&NodeForecast>> = BTreeMap::new();
    for node in &case.forecast.nodes {
        sides.entry(&node.side).or_default().push(node);
    }
    let of = |(side, nodes): (&str, Vec<&NodeForecast>)| {
        let subject = format!("{side}: {}", count(nodes.len(), "node"));
        let mut predictions = case.forecast.predictions.iter();
        let predicted = predictions.find(|p| p.check == Check::NodeTainted && p.subject == subject);
        let predicted = predicted.map_or(String::new(), |p| p.expected.clone());
        let all = nodes.iter().map(|node| tainted(case, node)).collect();
        let said = Said::worst(all).unwrap_or_else(|| Said::open("no node"));
        said.about(Check::NodeTainted, subject, predicted)
    };
    sides.into_iter().map(of).collect()
}

fn tainted(case: &Case<'_>, node: &NodeForecast) -> Said {
    let track = match case.operator() {
        Ok(track) => track,
        Err(why) => return Said::open(why),
    };
    let (heal, spans) = (case.timeline.heal, track.series(SpanKind::Taint, &node.node));
    match spans.iter().rfind(|s| s.from <= 0.0) {
        None => return Said::open(format!("operator: the taints of {} were not seen before the cut", node.node)),
        Some(before) if before.span.state.contains(UNREACHABLE) => {
            return Said::open(format!("{}: before the cut", cite(track, before)));
        }
        Some(_) => {}
    }
    if longest_hole(spans, 0.0, heal) > MAX_UNWATCHED {
        return Said::open(format!("operator: the taints of {} were not seen all through the cut", node.node));
    }
    let Some(at) = spans.iter().position(|s| s.from > 0.0 && s.span.state.contains(UNREACHABLE)) else {
        let result = if node.tainted == Certainty::Must { FindingResult::Degraded } else { FindingResult::Held };
        let last = spans.iter().rfind(|s| s.meets(0.0, heal));
        return Said::new(result, format!("{} not tainted", node.node), last.map_or(String::new(), |s| cite(track, s)));
    };
    let (taint, before) = (&spans[at], spans[at - 1].to);
    let observed = format!("{} tainted {}", node.node, when(taint.from, heal));
    // It was first seen at `from`, and not at the look before.
    let slack = case.slack(TOLERANCE, track);
    let unsure = slack.sum();
    let is_early = taint.from < node.taint.earliest_seconds - unsure;
    let is_late = before > node.taint.latest_seconds + unsure;
    let (result, observed) = match node.tainted {
        Certainty::MustNot => (FindingResult::Degraded, observed),
        _ if is_early || is_late => {
            (FindingResult::Degraded, format!("{observed}, outside of {}", interval(&node.taint)))
        }
        _ => (FindingResult::Held, observed),
    };
    Said::new(result, observed, cite(track, taint)).tolerating(slack.to_string())
}
