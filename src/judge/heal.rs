//! HealProven: on every node the table is gone, the record complete and the clock was in step, and what was cut is heard again.

use super::{
    Case, MAX_UNWATCHED, Said,
    cite::{cite, some, when},
    left_out::left_out,
    loss::STRAY,
    probes,
    timeline::Track,
};
use crate::{
    api::{Check, Finding, FindingResult, RecordPhase, SpanKind},
    predict::{count, seconds},
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
        None => Said::new(FindingResult::Held, format!("{} healed", count(agents.len(), "node")), healed(case)),
        Some(first) => {
            let (first, observed) = (first.clone(), some(&amiss));
            Said::new(FindingResult::Inconclusive, observed, first)
        }
    };
    let (connection, clocks) = (seconds(probes::EDGE + probes::HEAL_SLACK), seconds(case.allowed_clock_error()));
    let later = format!("{} % of later looks, one at least", STRAY * 100.0);
    let said = said.tolerating(format!("{connection} for a connection, ± {clocks} of clocks; {later}"));
    vec![said.about(Check::HealProven, "all nodes", predicted)]
}

/// What shows it where nothing is amiss: the record of the node that was answered last of all, and that answer. All others are as well.
fn healed(case: &Case<'_>) -> String {
    const RECORD: &str = "phase Healed and no table in its kernel, by its record";
    match (probes::last_answer(case), case.timeline.agents().next()) {
        (Some((track, seen)), _) => format!("{}: {RECORD}; {}", track.who, cite(track, seen)),
        // Nobody was cut off.
        (None, Some(track)) => format!("{}: {RECORD}", track.who),
        (None, None) => "the plan: no agents".into(),
    }
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
        // Before what it says itself, and before how far its record goes: both may come of it.
        _ => stepped(case, track)
            .or_else(|| status.message.clone())
            .or_else(|| incomplete(case, track))
            .or_else(|| unheard(case, track)),
    }
}

/// Why nobody knows whether this node reaches again what it was cut off from.
fn unheard(case: &Case<'_>, track: &Track<'_>) -> Option<String> {
    if !track.clock_known() {
        return Some("its clock was not compared with the operator's".into());
    }
    let silent = probes::unanswered(case, track)?;
    Some(format!("no answer of {silent} was seen after the heal"))
}

/// A wall clock that was further from the operator's in the cut than the run allows: windows begin and end by it. It was in step before,
/// or nobody would have been cut, so somebody has stepped it.
fn stepped(case: &Case<'_>, track: &Track<'_>) -> Option<String> {
    let heal = case.timeline.heal;
    // A container's times are the runtime's own: nobody looked then.
    let own = track.status.spans.iter().filter(|s| s.kind != SpanKind::Container);
    let mut looks: Vec<_> = own.flat_map(|s| [&s.from, &s.to]).map(|look| track.ahead(look)).collect();
    looks.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Up to the first one after the heal: between that and the one before nobody looked.
    let until = looks.partition_point(|(at, ..)| *at <= heal) + 1;
    let is_off = |ahead: f64, error: f64| ahead.abs() > case.allowed_clock_error() + error;
    let mut looks = looks.into_iter().take(until);
    let (at, ahead, _) = looks.find(|(at, ahead, error)| *at >= 0.0 && is_off(*ahead, *error))?;
    let side = if ahead > 0.0 { "ahead of" } else { "behind" };
    Some(format!(
        "its wall clock was stepped, {} it was {} {side} the operator's: its cut may have ended early",
        when(at, heal),
        seconds(ahead.abs())
    ))
}

fn incomplete(case: &Case<'_>, track: &Track<'_>) -> Option<String> {
    let ends_early = track.until.is_none_or(|until| until < case.timeline.heal);
    let early = ends_early.then(|| "its record ends before the heal".to_owned());
    early.or_else(|| left_out(track.status))
}

/// Why the operator's record is not complete. It goes to the end of watching: another replica that goes on with it is there within the time
/// for which nobody may have looked.
fn operator_amiss(case: &Case<'_>) -> Option<String> {
    let Some(track) = &case.timeline.operator else { return Some("operator: no record".into()) };
    let end = case.timeline.end;
    let ended = match track.until {
        None => Some("its record does not say until when it watched".to_owned()),
        Some(until) if until < end - MAX_UNWATCHED => {
            Some(format!("its record ends {} before the end of watching", seconds(end - until)))
        }
        Some(_) => None,
    };
    let why = ended.or_else(|| left_out(track.status))?;
    Some(format!("operator: {why}"))
}
