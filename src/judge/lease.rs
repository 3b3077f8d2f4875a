//! LeaseTakeover and LeaseStable: who held each Lease and when it moved, by what the operator saw.

use super::{
    Case, MAX_UNWATCHED, Said,
    cite::{cite, when},
    leadership,
    lease_history::counts,
    timeline::{Seen, Track, longest_unknown, unchanged},
};
use crate::{
    api::{Check, Finding, FindingResult, Prospect, SpanKind},
    predict::{Certainty, LeaseForecast, OWN_LEASE, elects, interval},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

/// The operator's slowest poll, seconds.
const POLL: f64 = 1.0;

/// A change of holder: it happened after `seen_old` and not after `seen_new`, seconds after the cut.
pub struct Takeover<'s, 'a> {
    pub seen_old: f64,
    pub seen_new: f64,
    pub new: &'s Seen<'a>,
    /// Error of both, seconds.
    pub error: f64,
}

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for lease in &case.forecast.leases {
        let predicted = lease.predictions();
        let words =
            |check: Check| predicted.iter().find(|p| p.check == check).map_or(String::new(), |p| p.expected.clone());
        let subject = lease.lease.subject();
        if !lease.cut_off {
            findings.push(stable(case, lease).about(Check::LeaseStable, subject, words(Check::LeaseStable)));
            continue;
        }
        let history = history(case, lease);
        let during = |t: &Takeover<'_, '_>| t.seen_old <= case.timeline.heal;
        let led = history.as_ref().ok().and_then(|(_, spans)| first_takeover(lease, spans)).filter(during);
        let led = led.map(|takeover| not_before_acquired(case, takeover));
        let said = match &history {
            Err(why) => Said::open(why.clone()),
            Ok((track, spans)) => moved(case, lease, track, spans),
        };
        findings.push(said.about(Check::LeaseTakeover, &subject, words(Check::LeaseTakeover)));
        // Where the Lease need not move and did not, there is no gap and no overlap to speak of.
        if lease.moves == Certainty::Must || led.is_some() {
            let (gap, overlap) = leadership::judge(case, lease, led.as_ref());
            findings.push(gap.about(Check::LeaderGap, &subject, words(Check::LeaderGap)));
            findings.push(overlap.about(Check::LeaderOverlap, &subject, words(Check::LeaderOverlap)));
        }
    }
    findings.extend(unplaced(case));
    findings
}

/// Spans of a Lease, if they tell its history from before the cut until its end.
fn history<'c, 'a>(case: &'c Case<'a>, lease: &LeaseForecast) -> Result<(&'c Track<'a>, &'c [Seen<'a>]), String> {
    let track = case.operator()?;
    let spans = track.series(SpanKind::Lease, &lease.lease.subject());
    let before = spans.iter().rfind(|s| s.from <= 0.0).ok_or("operator: the Lease was not seen before the cut")?;
    if !before.is(&lease.lease.holder) {
        return Err(format!("{}: it had moved between the plan and the cut", cite(track, before)));
    }
    let vouches = |before: &Seen<'_>, after: &Seen<'_>| counts(&lease.lease) && unchanged(before, after);
    if longest_unknown(spans, 0.0, case.timeline.heal, vouches) > MAX_UNWATCHED {
        return Err("operator: the Lease was not seen all through the cut".into());
    }
    Ok((track, spans))
}

fn first_takeover<'s, 'a>(lease: &LeaseForecast, spans: &'s [Seen<'a>]) -> Option<Takeover<'s, 'a>> {
    let at = spans.iter().position(|s| s.from > 0.0 && !s.span.state.is_empty() && !s.is(&lease.lease.holder))?;
    let old = spans[..at].iter().rfind(|s| s.is(&lease.lease.holder))?;
    let error = old.to_error.max(spans[at].from_error);
    Some(Takeover { seen_old: old.to, seen_new: spans[at].from, new: &spans[at], error })
}

/// Between two looks of the operator, the new holder's own word of when it began to take the Lease.
fn not_before_acquired<'s, 'a>(case: &Case<'_>, takeover: Takeover<'s, 'a>) -> Takeover<'s, 'a> {
    let acquired = || {
        let span = takeover.new.span;
        let at = span.told("acquired")?;
        let host = span.state.split('_').next()?;
        let (at, error) = case.timeline.agent(host)?.read_wall(&MicroTime(at.parse().ok()?))?;
        Some(at - error)
    };
    let seen_old = acquired().map_or(takeover.seen_old, |at| at.clamp(takeover.seen_old, takeover.seen_new));
    Takeover { seen_old, ..takeover }
}

fn moved(case: &Case<'_>, lease: &LeaseForecast, track: &Track<'_>, spans: &[Seen<'_>]) -> Said {
    let heal = case.timeline.heal;
    let takeover = first_takeover(lease, spans).filter(|t| t.seen_old <= heal);
    let Some(takeover) = takeover else {
        let kept = spans.iter().rfind(|s| s.from <= heal).map_or(String::new(), |s| cite(track, s));
        let result = if lease.moves == Certainty::Must { FindingResult::Violated } else { FindingResult::Held };
        return Said::new(result, "did not move during the cut", kept);
    };
    let new = takeover.new;
    let host = new.span.state.split('_').next().unwrap_or_default();
    let mut observed = format!("{host} leads from {}", when(takeover.seen_new, heal));
    // Right at the heal anybody may take it again.
    let losing = case
        .evidence
        .sides
        .iter()
        .find(|s| s.served == Prospect::No && s.nodes.iter().any(|n| n == host))
        .filter(|_| takeover.seen_new <= heal);
    let window = lease.takeover;
    // The holder was cut off by its own node's clock.
    let allowed: std::time::Duration = case.evidence.spec.guards.max_clock_error.into();
    let unsure = allowed.as_secs_f64() + POLL;
    let accepted = case.accepted(|e| e.leader_takeover);
    // It was taken after the one and not after the other, by the clock that the schedule goes by.
    let (after, until) = (takeover.seen_old - takeover.error, takeover.seen_new + takeover.error);
    let released = spans.iter().any(|s| s.span.state.is_empty() && s.from >= takeover.seen_old && s.from <= new.from);
    let moves = 1 + spans.iter().filter(|s| s.from > new.to && !s.span.state.is_empty()).count()
        - spans.iter().filter(|s| s.from > new.to && s.is(&new.span.state)).count();
    let result = match lease.moves {
        _ if losing.is_some() => {
            observed += ", on the losing side";
            FindingResult::Violated
        }
        // Taken while the old one was still valid: the safety of the election is gone, whatever else was predicted.
        _ if until < window.earliest_seconds - unsure && !released => {
            observed += &format!(", before {}", interval(&window));
            FindingResult::Violated
        }
        _ if accepted.is_some_and(|limit| after > limit) => {
            observed += ", later than spec.expect.leaderTakeover";
            FindingResult::Violated
        }
        Certainty::MustNot => FindingResult::Degraded,
        _ if accepted.is_some_and(|limit| until > limit) => {
            observed += ", perhaps later than spec.expect.leaderTakeover, by clocks and polls";
            FindingResult::Inconclusive
        }
        Certainty::Must if accepted.is_none() && after - allowed.as_secs_f64() > window.latest_seconds => {
            observed += &format!(", later than {}", interval(&window));
            FindingResult::Degraded
        }
        _ if moves > 1 => {
            observed += &format!(", moved {moves} times");
            FindingResult::Degraded
        }
        _ if released => {
            observed += ", after it had been released";
            FindingResult::Noted
        }
        _ if until < window.earliest_seconds => {
            observed += &format!(", before {} by no more than clocks and polls", interval(&window));
            FindingResult::Noted
        }
        Certainty::Must if accepted.is_none() && until > window.latest_seconds => {
            observed += &format!(", later than {} by no more than clocks and polls", interval(&window));
            FindingResult::Noted
        }
        _ => FindingResult::Held,
    };
    Said::new(result, observed, cite(track, new))
}

fn stable(case: &Case<'_>, lease: &LeaseForecast) -> Said {
    let (track, spans) = match history(case, lease) {
        Ok(history) => history,
        Err(why) => return Said::open(why),
    };
    let other = spans.iter().find(|s| s.from > 0.0 && !s.is(&lease.lease.holder));
    match other {
        None => {
            let last = spans.iter().rfind(|s| s.meets(0.0, case.timeline.heal));
            Said::new(FindingResult::Held, "kept its holder", last.map_or(String::new(), |s| cite(track, s)))
        }
        Some(other) => {
            let after_heal = spans.iter().any(|s| s.is(&lease.lease.holder) && s.to > case.timeline.heal);
            // Whoever was last seen to hold it before the cut may have lost it before the cut.
            let held = spans.iter().any(|s| s.is(&lease.lease.holder) && s.to > s.to_error && s.from < other.from);
            let result = match after_heal {
                true => FindingResult::Degraded,
                false if held => FindingResult::Violated,
                false => FindingResult::Inconclusive,
            };
            let holder = if other.span.state.is_empty() { "released" } else { other.span.state.as_str() };
            let observed = format!("{holder} {}", when(other.from, case.timeline.heal));
            Said::new(result, observed, cite(track, other))
        }
    }
}

/// Leases of which nothing is predicted, because nobody knows where their holder runs, and our own: told if they moved.
fn unplaced(case: &Case<'_>) -> Vec<Finding> {
    let Some(track) = &case.timeline.operator else { return Vec::new() };
    let judged = |subject: &str| case.forecast.leases.iter().any(|l| l.lease.subject() == subject);
    let told = |l: &&crate::topology::Lease| (elects(l) && !judged(&l.subject())) || l.name == OWN_LEASE;
    let of = |lease: &crate::topology::Lease| {
        let spans = track.series(SpanKind::Lease, &lease.subject());
        let moved = spans.iter().find(|s| s.from > 0.0 && !s.span.state.is_empty() && !s.is(&lease.holder))?;
        let observed = format!("moved {}", when(moved.from, case.timeline.heal));
        let said = Said::new(FindingResult::Noted, observed, cite(track, moved));
        Some(said.about(Check::LeaseStable, lease.subject(), "nothing: not judged"))
    };
    case.evidence.snapshot.leases.iter().filter(told).filter_map(of).collect()
}
