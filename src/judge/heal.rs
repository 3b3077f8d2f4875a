//! HealProven: on every node the table is gone and the record complete, and what was cut is heard again.

use super::{Case, Said, cite::some, probes, timeline::Track};
use crate::{
    api::{Check, Finding, FindingResult, RecordPhase},
    predict::count,
};

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let agents = case.evidence.plan.agents();
    let amiss: Vec<String> = agents
        .iter()
        .filter_map(|node| match case.timeline.agent(node) {
            None => Some(format!("{node}: no record")),
            Some(track) => amiss(case, track).map(|why| format!("{node}: {why}")),
        })
        .chain(operator_amiss(case))
        .collect();
    let predicted = "no table left, every record complete";
    let late = probes::late(case);
    let said = match amiss.first() {
        _ if !late.is_empty() => {
            let (words, evidence): (Vec<_>, Vec<_>) = late.into_iter().unzip();
            Said::new(FindingResult::Violated, some(&words), evidence[0].clone())
        }
        None => Said::new(
            FindingResult::Held,
            format!("{} healed", count(agents.len(), "node")),
            "every agent: phase Healed, no table in the kernel",
        ),
        Some(first) => {
            let (first, observed) = (first.clone(), some(&amiss));
            Said::new(FindingResult::Inconclusive, observed, first)
        }
    };
    vec![said.about(Check::HealProven, "all nodes", predicted)]
}

fn amiss(case: &Case<'_>, track: &Track<'_>) -> Option<String> {
    let status = track.status;
    let kernel = status.kernel.as_ref();
    match status.phase {
        Some(RecordPhase::Healed) => {}
        Some(phase) => {
            let why = status.message.as_ref().map_or(String::new(), |m| format!(" ({m})"));
            return Some(format!("phase {phase:?}{why}"));
        }
        None => return Some("no phase".into()),
    }
    match () {
        _ if kernel.is_none() => Some("says nothing of its kernel".into()),
        _ if kernel.is_some_and(|k| k.table) => Some("the table is still there".into()),
        _ if track.until.is_none_or(|until| until < case.timeline.heal) => {
            Some("its record ends before the heal".into())
        }
        _ if status.spans_left_out > 0 => Some(format!("{} left out", count(status.spans_left_out as usize, "span"))),
        _ => None,
    }
}

fn operator_amiss(case: &Case<'_>) -> Option<String> {
    match &case.timeline.operator {
        None => Some("operator: no record".into()),
        Some(track) if track.status.spans_left_out > 0 => {
            Some(format!("operator: {} left out", count(track.status.spans_left_out as usize, "span")))
        }
        Some(_) => None,
    }
}
