//! StaleRead: no consistent read returns less than what was acknowledged before it was asked for; and how old the watch cache gets.

use super::{
    Case, MAX_UNWATCHED, Said,
    cite::{cite, when},
    pairs::seen_by,
    register::{Written, by_side, earliest},
    timeline::{Seen, Track, longest_hole},
};
use crate::{
    api::{Check, Finding, FindingResult, Prospect, Side, SpanKind, register},
    predict::{cache_age, seconds},
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let age = |side: &Side| cache_age(&case.forecast.stale, &side.name);
    let predicted = |side: &Side| {
        let age = seconds(age(side));
        format!("no consistent read older than what was acknowledged; the watch cache at most {age} behind")
    };
    by_side(case, Check::StaleRead, predicted, |side, node| {
        server(case, side, node, age(side)).unwrap_or_else(Said::open)
    })
}

/// An answer, and for how long something newer had been acknowledged when it was asked for: seconds at least, and their error.
struct Answer<'s, 'a> {
    seen: &'s Seen<'a>,
    behind: f64,
    error: f64,
}

/// `cache_age`: how far behind its watch cache may be, seconds.
///
/// # Errors
/// With what is missing.
fn server(case: &Case<'_>, side: &Side, node: &str, cache_age: f64) -> Result<Said, String> {
    let track = seen_by(case, node)?;
    let whose = whose(track).ok_or_else(|| format!("{node}: no register was read through its API server"))?;
    let written = Written::by(case, whose)?;
    let heal = case.timeline.heal;
    let consistent = track.series(SpanKind::Reading, &register::subject(whose, register::CONSISTENT));
    let cached = track.series(SpanKind::Reading, &register::subject(whose, register::CACHED));

    if let Some(seen) = consistent.iter().find(|s| s.is(register::BACKWARDS)) {
        let numbers = seen.span.detail.as_deref().unwrap_or_default();
        let observed = format!("{node}: a consistent read went back {}: {numbers}", when(seen.to, heal));
        return Ok(Said::new(FindingResult::Violated, observed, cite(track, seen)));
    }
    // Only what is beyond all doubt of the clocks accuses.
    let stale = stalest(&written, consistent);
    if let Some(answer) = stale.as_ref().filter(|answer| answer.behind > answer.error) {
        let (behind, asked) = (seconds(answer.behind), when(answer.seen.to, heal));
        let observed = format!("{node}: a consistent read {asked} lacked what had been acknowledged {behind} before");
        let said = Said::new(FindingResult::Violated, observed, cite(track, answer.seen));
        return Ok(tolerating(said, &[&stale]));
    }

    let doubt = track.error + written.track.error;
    if doubt > 2.0 * case.allowed_clock_error() {
        return Err(format!("{node}: its clock and that of {whose} may be {} apart", seconds(doubt)));
    }
    looked_at(case, side, track, (register::CONSISTENT, consistent))?;
    looked_at(case, side, track, (register::CACHED, cached))?;
    let example = consistent.iter().rfind(|s| s.is(register::READ)).or(consistent.last());
    if !written.is_acknowledged_in_the_cut(case) {
        let observed = format!("{node}: nothing was acknowledged in the cut that a read could lack");
        let evidence = written.spans().last().map_or_else(String::new, |seen| cite(written.track, seen));
        return Ok(Said::new(FindingResult::Noted, observed, evidence));
    }
    if ![consistent, cached].iter().any(|spans| is_answered_in_the_cut(case, track, spans)) {
        let observed = format!("{node}: no read was answered in the cut that could be stale");
        let evidence = example.map_or_else(String::new, |seen| cite(track, seen));
        return Ok(Said::new(FindingResult::Noted, observed, evidence));
    }
    let oldest = stalest(&written, cached);
    let behind = oldest.as_ref().map_or(0.0, |answer| answer.behind.max(0.0));
    let is_old = oldest.as_ref().is_some_and(|answer| answer.behind - answer.error > cache_age);
    let result = if is_old { FindingResult::Noted } else { FindingResult::Held };
    let observed = format!("{node}: no stale read, its watch cache up to {} behind", seconds(behind));
    let seen = oldest.as_ref().filter(|_| is_old).map(|answer| answer.seen).or(example);
    let said = Said::new(result, observed, seen.map_or_else(String::new, |seen| cite(track, seen)));
    Ok(tolerating(said, &[&stale, &oldest]))
}

/// How far behind what had been acknowledged the watch cache of a node's API server was at the most, and the error of that: seconds.
///
/// # Errors
/// With what is missing.
pub fn cache_behind(case: &Case<'_>, side: &Side, node: &str) -> Result<(f64, f64), String> {
    let track = seen_by(case, node)?;
    let whose = whose(track).ok_or_else(|| format!("{node}: no register was read through its API server"))?;
    let written = Written::by(case, whose)?;
    let cached = track.series(SpanKind::Reading, &register::subject(whose, register::CACHED));
    looked_at(case, side, track, (register::CACHED, cached))?;
    if !written.is_acknowledged_in_the_cut(case) || !is_answered_in_the_cut(case, track, cached) {
        return Err(format!("{node}: nothing was acknowledged in the cut, or no read answered, that could be stale"));
    }
    let none = (0.0, track.error + written.track.error);
    Ok(stalest(&written, cached).map_or(none, |answer| (answer.behind.max(0.0), answer.error)))
}

/// With the error of the answers that decided, the largest where there are several.
fn tolerating(said: Said, decided: &[&Option<Answer<'_, '_>>]) -> Said {
    match decided.iter().copied().flatten().map(|answer| answer.error).reduce(f64::max) {
        Some(error) => said.tolerating(format!("± {} of clocks", seconds(error))),
        None => said,
    }
}

/// That reads of one way show nothing amiss says something only where there were any.
///
/// # Errors
/// With what is missing.
fn looked_at(case: &Case<'_>, side: &Side, track: &Track<'_>, (way, spans): (&str, &[Seen<'_>])) -> Result<(), String> {
    let (heal, node) = (case.timeline.heal, track.node);
    let hole = longest_hole(spans, 0.0, heal);
    if hole > MAX_UNWATCHED {
        return Err(format!("{node}: no {way} read was tried for {} of the cut", seconds(hole)));
    }
    // One that refuses all of them, as for want of a right, has shown nothing.
    if !spans.iter().any(|s| s.is(register::READ) && s.from <= heal) {
        return Err(format!("{node}: no {way} read was answered"));
    }
    // Nor has one that answered only before the cut, where it should go on.
    if side.writable == Prospect::Yes && !is_answered_in_the_cut(case, track, spans) {
        return Err(format!("{node}: no {way} read was answered in the cut"));
    }
    Ok(())
}

fn is_answered_in_the_cut(case: &Case<'_>, track: &Track<'_>, spans: &[Seen<'_>]) -> bool {
    let from = case.edge(0.0, track);
    spans.iter().any(|s| s.is(register::READ) && s.meets(from, case.timeline.heal))
}

/// Whose register a node read.
fn whose<'a>(track: &Track<'a>) -> Option<&'a str> {
    track.of_kind(SpanKind::Reading).find_map(|s| Some(s.span.subject.rsplit_once('/')?.0))
}

/// The stalest of some answers. The last one of each stretch is among them, and of all others the one that the agent found to be the
/// stalest.
fn stalest<'s, 'a>(written: &Written<'_, '_>, spans: &'s [Seen<'a>]) -> Option<Answer<'s, 'a>> {
    let answers = spans.iter().filter(|s| s.is(register::READ)).filter_map(|seen| answer(written, seen));
    answers.max_by(|a, b| (a.behind - a.error).total_cmp(&(b.behind - b.error)))
}

/// `None` where nothing newer was ever acknowledged.
fn answer<'s, 'a>(written: &Written<'_, '_>, seen: &'s Seen<'a>) -> Option<Answer<'s, 'a>> {
    let returned = seen.span.told("n")?.parse().ok()?;
    // What the object itself said of the next number is exact; what follows from the writer's record reaches further back.
    let told = || {
        let at: Timestamp = seen.span.told("acknowledged")?.parse().ok()?;
        written.track.read_wall(&MicroTime(at))
    };
    let (next, error) = earliest([written.next_after(returned), told()])?;
    Some(Answer { seen, behind: seen.to - next, error: seen.to_error + error })
}
