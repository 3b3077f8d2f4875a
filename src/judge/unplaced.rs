//! Whoever the plan does not know: an address that goes on being heard may be another one of a node that is cut off, and a node
//! that joins in mid-run is not cut at all.

use super::{
    Case, Said,
    cite::{cite, some},
    timeline::Seen,
};
use crate::api::{ADDRESSES, ADDRESSES_UNREAD, Check, Finding, FindingResult, SpanKind};
use std::collections::{HashMap, HashSet};

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    // Beside the ends of the cut as well: the clocks may differ by so much, and to miss one would be worse.
    let allowed = case.allowed_clock_error();
    let during = (-allowed, case.timeline.heal + allowed);
    let (result, advice) = match case.evidence.spec.guards.allow_unplaced_sources {
        true => (FindingResult::Noted, ""),
        false => (
            FindingResult::Inconclusive,
            "; name it in spec.endpoints by address, with a TCP port that it serves and its rack if it is in one, or set spec.guards.allowUnplacedSources",
        ),
    };
    let heard = sources(case, during).map(|(words, evidence)| {
        let said = Said::new(result, format!("heard: {}{advice}", some(&words)), evidence);
        said.about(Check::FaultProven, "unplaced", "every source of packets is in the plan")
    });
    // It may have moved here since the plan was made, and its packets are cut as somebody else's.
    let held = held(case, during).map(|(words, evidence)| {
        let said = Said::new(result, format!("held elsewhere: {}", some(&words)), evidence);
        said.about(Check::FaultProven, "unplaced", "every address is where the plan has it")
    });
    // Nor does anybody know then that none has moved.
    let unread = unread(case, during).map(|(words, evidence)| {
        let said = Said::new(result, format!("addresses not read: {}", some(&words)), evidence);
        said.about(Check::FaultProven, "unplaced", "every address is where the plan has it")
    });
    // No guard allows this: nobody cut that node, whichever rack it is in.
    let joined = joined(case, during).map(|(words, evidence)| {
        let said = Said::new(FindingResult::Inconclusive, format!("joined: {}", some(&words)), evidence);
        said.about(Check::FaultProven, "unplaced", "no node joins during the cut")
    });
    heard.into_iter().chain(held).chain(unread).chain(joined).collect()
}

/// Addresses that were heard and are nobody's, and the first evidence of them.
fn sources(case: &Case<'_>, (begin, heal): (f64, f64)) -> Option<(Vec<String>, String)> {
    let agents = || case.timeline.agents();
    let held = agents().flat_map(|t| t.of_kind(SpanKind::Address).map(move |s| (s.span.subject.as_str(), t.node)));
    // Of several that have it the first by name.
    let mut owners: HashMap<&str, &str> = HashMap::new();
    held.for_each(|(address, node)| {
        owners.entry(address).or_insert(node);
    });
    let seen = agents().flat_map(|track| {
        track.of_kind(SpanKind::Stranger).filter(|s| s.meets(begin, heal)).map(move |seen| (track, seen))
    });
    let told = seen.map(|(track, seen)| {
        let address = seen.span.subject.as_str();
        let whose = owners
            .get(address)
            .map_or("nobody in the plan has it".into(), |node| format!("an interface of {node} has it"));
        (format!("{address} ({whose})"), cite(track, seen))
    });
    once(told)
}

/// Addresses that the plan knows as somebody's whom the cut treats otherwise than the node that had them.
fn held(case: &Case<'_>, (begin, heal): (f64, f64)) -> Option<(Vec<String>, String)> {
    let plan = case.evidence.plan;
    let told = case.timeline.agents().flat_map(|track| {
        track.of_kind(SpanKind::Address).filter(|s| s.meets(begin, heal)).filter_map(move |seen| {
            let address = seen.span.subject.as_str();
            let named = plan.mistaken(track.node, address.parse().ok()?)?;
            let words = format!("{address} of {} (an interface of {} had it)", named.name, track.node);
            Some((words, cite(track, seen)))
        })
    });
    once(told)
}

/// Nodes whose kernel did not tell which addresses they have, and the first evidence of them.
fn unread(case: &Case<'_>, (begin, heal): (f64, f64)) -> Option<(Vec<String>, String)> {
    let told = case.timeline.agents().flat_map(|track| {
        let failed = track.series(SpanKind::Address, ADDRESSES).iter().filter(|s| s.is(ADDRESSES_UNREAD));
        failed.filter(|s| s.meets(begin, heal)).map(move |seen| {
            let why = seen.span.detail.as_deref().map_or(String::new(), |why| format!(" ({why})"));
            (format!("those of {}{why}", track.node), cite(track, seen))
        })
    });
    once(told)
}

/// Nodes that were not there when the run was planned, and the first evidence of them.
fn joined(case: &Case<'_>, (begin, heal): (f64, f64)) -> Option<(Vec<String>, String)> {
    let operator = case.timeline.operator.as_ref()?;
    let unknown = |seen: &&Seen<'_>| case.evidence.snapshot.node(&seen.span.subject).is_none();
    let seen = operator.of_kind(SpanKind::Node).filter(|s| s.meets(begin, heal)).filter(unknown);
    once(seen.map(|seen| (format!("node {}", seen.span.subject), cite(operator, seen))))
}

/// Each word once, with the evidence of the first; `None` where there is none.
fn once(told: impl Iterator<Item = (String, String)>) -> Option<(Vec<String>, String)> {
    let mut told = told.peekable();
    let (_, evidence) = told.peek()?.clone();
    let mut known = HashSet::new();
    let words = told.map(|(word, _)| word).filter(|word| known.insert(word.clone())).collect();
    Some((words, evidence))
}
