//! NodeTainted: nodes that no writable side hears, against the interval in which the node lifecycle controller must taint them.

use super::{
    Case, MAX_UNWATCHED, Said,
    cite::{cite, when},
    node::TOLERANCE,
    timeline::{Seen, before_cut, longest_hole},
};
use crate::{
    api::{Check, Finding, FindingResult, SpanKind},
    predict::{Certainty, NodeForecast, ZoneState, count, interval},
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

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
        let mut all: Vec<Said> = nodes.iter().map(|node| tainted(case, node)).collect();
        all.extend(too_many(case, &nodes));
        let said = Said::worst(all).unwrap_or_else(|| Said::open("no node"));
        said.about(Check::NodeTainted, subject, predicted)
    };
    sides.into_iter().map(of).collect()
}

/// Zones of these nodes in which evictions stop and more nodes were tainted before the heal than that lets pass. At the heal a zone has
/// fewer unready nodes again, and its rate.
fn too_many(case: &Case<'_>, nodes: &[&NodeForecast]) -> Vec<Said> {
    let Ok(track) = case.operator() else { return Vec::new() };
    let zone_of: HashMap<&str, Option<&str>> =
        case.evidence.snapshot.nodes.iter().map(|n| (n.name.as_str(), n.zone.as_deref())).collect();
    let zone = |node: &NodeForecast| zone_of.get(node.node.as_str()).copied().flatten();
    let until = case.timeline.heal - case.edge(0.0, track);
    let is_tainted = |s: &Seen<'_>| s.span.state.contains(UNREACHABLE);
    let first_taint = |node: &NodeForecast| {
        let spans = track.series(SpanKind::Taint, &node.node);
        let before = before_cut(spans)?;
        let taint = spans.iter().find(|s| is_tainted(s))?;
        (!is_tainted(before) && taint.from > 0.0 && taint.from <= until).then_some(taint)
    };
    let zones: BTreeSet<Option<&str>> = nodes.iter().map(|node| zone(node)).collect();
    let of = |key: Option<&str>| {
        let all: Vec<&NodeForecast> = case.forecast.nodes.iter().filter(|node| zone(node) == key).collect();
        // Where it is not sure for one of them that evictions stop, it is not for their zone.
        let most = all.iter().map(|node| node.first).collect::<Option<Vec<usize>>>()?.into_iter().max()?;
        let tainted: Vec<&Seen<'_>> = all.iter().filter_map(|node| first_taint(node)).collect();
        let last = tainted.iter().max_by(|a, b| a.from.total_cmp(&b.from)).filter(|_| tainted.len() > most)?;
        let zone = key.map_or("the zone".to_owned(), |key| format!("zone {key}"));
        let observed = format!("{} of {zone} tainted, where evictions stop after {most}", count(tainted.len(), "node"));
        Some(Said::new(FindingResult::Degraded, observed, cite(track, last)))
    };
    zones.into_iter().filter_map(of).collect()
}

fn tainted(case: &Case<'_>, node: &NodeForecast) -> Said {
    let track = match case.operator() {
        Ok(track) => track,
        Err(why) => return Said::open(why),
    };
    let (heal, spans) = (case.timeline.heal, track.series(SpanKind::Taint, &node.node));
    match before_cut(spans) {
        None => return Said::open(format!("operator: the taints of {} were not seen before the cut", node.node)),
        Some(before) if before.span.state.contains(UNREACHABLE) => {
            return Said::open(format!("{}: before the cut", cite(track, before)));
        }
        Some(_) => {}
    }
    if longest_hole(spans, 0.0, heal) > MAX_UNWATCHED {
        return Said::open(format!("operator: the taints of {} were not seen all through the cut", node.node));
    }
    let at = spans.iter().position(|s| s.from > 0.0 && s.span.state.contains(UNREACHABLE));
    // Much later than the heal it has another reason.
    let looks = |at: usize| (spans[at - 1].to, spans[at].from);
    let Some(at) = at.filter(|at| case.is_of_the_cut(node.tainted, &node.taint, looks(*at))) else {
        let result = if node.tainted == Certainty::Must { FindingResult::Degraded } else { FindingResult::Held };
        let last = spans.iter().rfind(|s| s.meets(0.0, heal));
        return Said::new(result, format!("{} not tainted", node.node), last.map_or(String::new(), |s| cite(track, s)));
    };
    let (taint, before) = (&spans[at], spans[at - 1].to);
    let observed = format!("{} tainted {}", node.node, when(taint.from, heal));
    // It was first seen at `from`, and not at the look before.
    let slack = case.slack(TOLERANCE, track);
    let unsure = slack.sum();
    // Where every zone is unready taints go when the last node is, which is when the last one would be tainted.
    let gone_by = node.taint.latest_seconds + unsure;
    let stays = node.first.is_some() && node.zone == ZoneState::AllFull && taint.to.min(heal) > gone_by;
    let is_early = taint.from < node.taint.earliest_seconds - unsure;
    let is_late = before > node.taint.latest_seconds + unsure;
    let (result, observed) = match node.tainted {
        Certainty::MustNot => (FindingResult::Degraded, observed),
        _ if stays => {
            let until = when(taint.to, heal);
            (FindingResult::Degraded, format!("{observed} and until {until}, though every zone is unready"))
        }
        _ if is_early || is_late => {
            (FindingResult::Degraded, format!("{observed}, outside of {}", interval(&node.taint)))
        }
        _ => (FindingResult::Held, observed),
    };
    Said::new(result, observed, cite(track, taint)).tolerating(slack.to_string())
}
