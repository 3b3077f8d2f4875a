//! Recovery: everything desired is actual again and stays so.

use super::{
    Case, MAX_UNWATCHED, Said,
    cite::cite,
    heal_damage::LOOK,
    timeline::{Seen, Track},
};
use crate::{
    api::{CLUSTER_UNREAD, Check, Finding, FindingResult, SpanKind},
    course::HOLD_SECONDS,
    predict::seconds,
};

/// What it means that something was well at no look: that it stays so, only where it was watched for longer than it may take. `latest`:
/// seconds after the heal; `unsure`: seconds by which clocks and looks may be wrong.
pub fn never_well(case: &Case<'_>, latest: f64, unsure: f64) -> FindingResult {
    if case.watched() > latest + unsure { FindingResult::Violated } else { FindingResult::Inconclusive }
}

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let accepted = case.accepted(|e| e.recovered_within);
    let predicted = match accepted {
        Some(limit) => format!("recovered within {} (spec.expect.recoveredWithin)", seconds(limit)),
        None => case.forecast.recovery.prediction().expected,
    };
    vec![recovered(case, accepted).about(Check::Recovery, "cluster", predicted)]
}

fn recovered(case: &Case<'_>, accepted: Option<f64>) -> Said {
    let track = match case.operator() {
        Ok(track) => track,
        Err(why) => return Said::open(why),
    };
    let heal = case.timeline.heal;
    let mut spans: Vec<&Seen<'_>> = track.of_kind(SpanKind::Convergence).filter(|s| s.to >= heal).collect();
    spans.sort_by(|a, b| a.from.total_cmp(&b.from));
    let Some(last) = spans.last().copied() else { return Said::open("operator: nothing was seen after the heal") };
    if !last.is("ok") {
        return not_recovered(case, track, (&spans[..], last), accepted);
    }
    if last.to < case.timeline.end - MAX_UNWATCHED {
        return Said::open(format!("{}: not looked at until the end", cite(track, last)));
    }
    spans.retain(|s| !s.is(CLUSTER_UNREAD));
    let latest = case.forecast.recovery.window.latest_seconds;
    let waited = spans.iter().rposition(|s| !s.is("ok"));
    // It waited until then for certain, and not any more from when it was seen well to the end.
    let took = waited.map_or(0.0, |at| (spans[at].to - heal).max(0.0));
    let least = waited.map_or(0.0, |_| took - track.error);
    let (from, to) = whole(&spans).map_or((heal, heal), |(from, to)| (from.max(heal), to));
    let most = if from > heal { from - heal + track.error } else { 0.0 };
    let has_relapsed = waited.is_some_and(|at| spans[..at].iter().any(|s| s.is("ok")));
    let mut observed = format!("recovered {} after the heal", seconds(took));
    if has_relapsed {
        observed += ", not at the first go";
    }
    let result = match accepted {
        Some(limit) if least > limit => FindingResult::Violated,
        Some(limit) if most > limit => {
            observed += ", or later by up to a look";
            FindingResult::Inconclusive
        }
        None if least > latest => {
            observed += &format!(", later than {}", seconds(latest));
            FindingResult::Degraded
        }
        None if most > latest => FindingResult::Noted,
        _ if has_relapsed => FindingResult::Noted,
        _ => FindingResult::Held,
    };
    let enough = seconds(HOLD_SECONDS);
    // What may have broken a moment later is not known to stay.
    let result = match to - from + LOOK < HOLD_SECONDS && result < FindingResult::Violated {
        true => {
            observed += &format!("; whole for {} until the end of watching, {enough} would tell", seconds(to - from));
            FindingResult::Inconclusive
        }
        false => result,
    };
    let said = Said::new(result, observed, cite(track, waited.map_or(last, |at| spans[at])));
    said.tolerating(format!("a look, and ± {} of clocks; it stays so: {enough} at the end", seconds(track.error)))
}

/// From when to when it was seen whole at the end, seconds after the cut. Nobody may have looked for a moment.
fn whole(spans: &[&Seen<'_>]) -> Option<(f64, f64)> {
    let mut whole: Option<(f64, f64)> = None;
    for seen in spans.iter().rev().take_while(|s| s.is("ok")) {
        whole = match whole {
            Some((from, _)) if from - seen.to > MAX_UNWATCHED => break,
            Some((_, to)) => Some((seen.from, to)),
            None => Some((seen.from, seen.to)),
        };
    }
    whole
}

/// What is said of a cluster that was not well when it was last looked at. `spans`: what was seen after the heal, and the last of it.
fn not_recovered(
    case: &Case<'_>,
    track: &Track<'_>,
    (spans, last): (&[&Seen<'_>], &Seen<'_>),
    accepted: Option<f64>,
) -> Said {
    let heal = case.timeline.heal;
    let limit = accepted.unwrap_or(case.forecast.recovery.window.latest_seconds);
    let waiting = spans.iter().rfind(|s| !s.is("ok") && !s.is(CLUSTER_UNREAD));
    let is_late = waiting.is_some_and(|s| s.to - heal - track.error > limit);
    let is_seen = !last.is(CLUSTER_UNREAD) && last.to >= case.timeline.end - MAX_UNWATCHED;
    // It was not well when the user wanted it to be, whatever came then.
    let Some(seen) = waiting.filter(|_| is_seen || (is_late && accepted.is_some())) else {
        return Said::open(format!("{}: nobody saw whether it was well at the end", cite(track, last)));
    };
    let mut observed = format!("not recovered at the last look, {} after the heal", seconds(seen.to - heal));
    if let Some(detail) = &seen.span.detail {
        observed += &format!(": waiting for {detail}");
    }
    let result = if is_late { FindingResult::Violated } else { FindingResult::Inconclusive };
    Said::new(result, observed, cite(track, seen))
}
