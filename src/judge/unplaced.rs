//! Whoever the plan does not know: an address that goes on being heard may be another one of a node that is cut off, and a node
//! that joins in mid-run is not cut at all.

use super::{
    Case, Said,
    cite::{cite, some},
};
use crate::api::{Check, Finding, FindingResult, SpanKind};

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    // Beside the ends of the cut as well: the clocks may differ by so much, and to miss one would be worse.
    let allowed = case.allowed_clock_error();
    let (begin, heal) = (-allowed, case.timeline.heal + allowed);
    let (mut words, mut evidence) = (Vec::new(), Vec::new());
    for track in case.timeline.agents() {
        for seen in track.of_kind(SpanKind::Stranger).filter(|s| s.meets(begin, heal)) {
            let address = &seen.span.subject;
            let owner = case.timeline.agents().find(|t| t.status.addresses.iter().any(|a| a.to_string() == *address));
            let whose =
                owner.map_or("nobody in the plan has it".into(), |t| format!("an interface of {} has it", t.node));
            let said = format!("{address} ({whose})");
            if !words.contains(&said) {
                words.push(said);
                evidence.push(cite(track, seen));
            }
        }
    }
    if let Some(operator) = &case.timeline.operator {
        let known = |name: &str| case.evidence.snapshot.node(name).is_some();
        for seen in operator.of_kind(SpanKind::Node).filter(|s| s.meets(begin, heal) && !known(&s.span.subject)) {
            let said = format!("node {} joined", seen.span.subject);
            if !words.contains(&said) {
                words.push(said);
                evidence.push(cite(operator, seen));
            }
        }
    }
    let Some(first) = evidence.first().cloned() else { return Vec::new() };
    let advice = "name it in spec.endpoints, with its rack if it is in one";
    let (result, observed) = match case.evidence.spec.guards.allow_unplaced_sources {
        true => (FindingResult::Noted, format!("heard: {}", some(&words))),
        false => (FindingResult::Inconclusive, format!("heard: {}; {advice}", some(&words))),
    };
    let said = Said::new(result, observed, first);
    vec![said.about(Check::FaultProven, "unplaced", "every source of packets is in the plan")]
}
