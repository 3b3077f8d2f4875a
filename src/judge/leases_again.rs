//! When Leases are held again by somebody who renews them, for the milestones of the recovery. Who holds one the operator sees. That its
//! holder renews it is known where it was taken after the heal, and else by its process: who leads by client-go's rules ends with the Lease.
//!
//! Asked of those that the cut may have left to nobody and that components of the control plane hold: what somebody else's pod does when it
//! loses its Lease nobody knows.

use super::{
    Case, MAX_UNWATCHED,
    cite::cite,
    milestones::Step,
    pods::reader,
    timeline::{Seen, Track},
};
use crate::{
    api::{LEADING, Side, SpanKind},
    predict::LeaseForecast,
};

/// # Errors
/// With what is missing.
pub fn steps(case: &Case<'_>) -> Result<Vec<Step>, String> {
    let is_written = !Side::most_writable(case.evidence.sides).is_empty();
    let concerned = case.forecast.leases.iter().filter(|l| l.may_be_left(is_written) && l.tells_its_end());
    concerned.map(|lease| step(case, lease)).collect()
}

fn step(case: &Case<'_>, lease: &LeaseForecast) -> Result<Step, String> {
    let (operator, heal, subject) = (case.operator()?, case.timeline.heal, lease.lease.subject());
    let spans = operator.series(SpanKind::Lease, &subject);
    let (mut last, mut unknown) = (None, None);
    for (i, seen) in spans.iter().enumerate().filter(|(_, seen)| seen.to >= heal) {
        last = Some(seen);
        match renewed(case, operator, lease, (&spans[..i], seen)) {
            Ok(Some(evidence)) => {
                return Ok(Step { at: Some((seen.from - heal).max(0.0)), error: operator.error, evidence });
            }
            Ok(None) => {}
            Err(why) => {
                unknown.get_or_insert(why);
            }
        }
    }
    match (last, unknown) {
        (None, _) => Err(format!("operator: {subject} was not seen after the heal")),
        (Some(_), Some(why)) => Err(why),
        (Some(seen), None) if seen.to < case.timeline.end - MAX_UNWATCHED => {
            Err(format!("{}: not looked at until the end", cite(operator, seen)))
        }
        (Some(seen), None) => Ok(Step { at: None, error: operator.error, evidence: cite(operator, seen) }),
    }
}

/// What shows that its holder renews it when it is first seen to hold it after the heal; `None` where nobody does. `before`: what was seen
/// before that.
///
/// # Errors
/// Where nobody knows.
fn renewed(
    case: &Case<'_>,
    operator: &Track<'_>,
    lease: &LeaseForecast,
    (before, seen): (&[Seen<'_>], &Seen<'_>),
) -> Result<Option<String>, String> {
    if seen.span.state.is_empty() {
        return Ok(None);
    }
    let (heal, held, holder) = (case.timeline.heal, cite(operator, seen), &seen.span.state);
    let other = before.iter().rfind(|s| !s.is(holder));
    // To take it is to renew it, unless somebody else gives it to its holder.
    if !lease.is_coordinated() && other.is_some_and(|other| other.to >= heal) {
        return Ok(Some(held));
    }
    let at = seen.from.max(heal);
    // A process that can't renew has no longer left than this, as far as anybody watched.
    let until = (at + lease.stop.latest_seconds).min(case.timeline.end - MAX_UNWATCHED).max(at);
    // The holder took it between these two, and goes by another name when it is started anew.
    let first = before.iter().rev().take_while(|s| s.is(holder)).last().unwrap_or(seen);
    let taken = (other.map_or(first.from, |other| other.to), first.from + first.from_error);
    let process = match by_runtime(case, lease, seen, taken, until) {
        Ok(process) => process,
        Err(why) => Some(by_itself(case, lease, seen, until).ok_or(why)?),
    };
    Ok(process.map(|process| format!("{held}; {process}")))
}

/// The container of a component that was there when it took the Lease and went on until then; `None` where it ended before.
///
/// # Errors
/// Where nobody knows.
fn by_runtime(
    case: &Case<'_>,
    lease: &LeaseForecast,
    seen: &Seen<'_>,
    taken: (f64, f64),
    until: f64,
) -> Result<Option<String>, String> {
    let holder = &seen.span.state;
    let track = reader(&case.timeline, lease.lease.node_of(holder))?;
    if !track.clock_known() {
        return Err(format!("the clock of {} was not compared with the operator's", track.who));
    }
    let was_there = |s: &&Seen<'_>| s.from - s.from_error <= taken.1 && s.to + s.to_error >= taken.0;
    let (mut ended, mut unknown) = (false, None);
    for process in track.of_kind(SpanKind::Container).filter(|s| is_component(s, lease)).filter(was_there) {
        match process.is("exited") {
            _ if process.to - process.to_error >= until => return Ok(Some(cite(track, process))),
            true => ended = true,
            false => {
                unknown.get_or_insert_with(|| format!("{}, and what became of it was not seen", cite(track, process)));
            }
        }
    }
    match unknown {
        Some(why) => Err(why),
        None if ended => Ok(None),
        None => Err(format!("{}: the container of {holder} was not seen when it took its Lease", track.who)),
    }
}

/// Whether a container is a component's that is called as its Lease is.
fn is_component(seen: &Seen<'_>, lease: &LeaseForecast) -> bool {
    let subject = seen.span.subject.as_str();
    let namespace = subject.split('/').next();
    namespace == Some(lease.lease.namespace.as_str()) && subject.rsplit('/').next() == Some(lease.lease.name.as_str())
}

/// By its own metric: it said until then that it leads.
fn by_itself(case: &Case<'_>, lease: &LeaseForecast, seen: &Seen<'_>, until: f64) -> Option<String> {
    let track = case.timeline.agent(lease.lease.node_of(&seen.span.state))?;
    if lease.lease.namespace != "kube-system" || !track.clock_known() {
        return None;
    }
    let leads = |s: &&Seen<'_>| s.is(LEADING) && s.from <= until && s.to - s.to_error >= until;
    track.series(SpanKind::LeaderMetric, &lease.lease.name).iter().find(leads).map(|s| cite(track, s))
}
