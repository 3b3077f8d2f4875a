//! EtcdQuorum: healthy members where a majority is connected, no leader where it is not.

use super::{
    Case, MAX_UNWATCHED, Said,
    cite::{cite, when},
    timeline::{Seen, Track, longest_hole},
};
use crate::{
    api::{Check, Finding, FindingResult, Prospect, SpanKind},
    predict::{EtcdForecast, seconds},
};

/// An unhealthy stretch up to this, seconds, is a missed sample or two on a busy machine. Ours.
const MISSED_SAMPLES: f64 = 3.0;
/// Beyond this, seconds, a member on the side with a quorum was without it. Ours: longer than any single election.
const WITHOUT_QUORUM: f64 = 10.0;
/// A health check near the heal may have been answered after it, seconds.
pub const BEFORE_HEAL: f64 = 1.0;

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    case.forecast.etcd.iter().map(|side| side_finding(case, side)).collect()
}

fn side_finding(case: &Case<'_>, side: &EtcdForecast) -> Finding {
    let members = side.members.iter().map(|m| member(case, side, m)).collect();
    let said = Said::worst(members).unwrap_or_else(|| Said::open("no member of etcd"));
    said.about(Check::EtcdQuorum, &side.side, side.prediction().expected)
}

fn member(case: &Case<'_>, side: &EtcdForecast, node: &str) -> Said {
    let Some(track) = case.timeline.agent(node) else { return Said::open(format!("no record of {node}")) };
    let before_heal = case.slack(BEFORE_HEAL, track);
    let (from, to) = (case.edge(side.settled, track), case.timeline.heal - before_heal.sum());
    let spans = track.series(SpanKind::Health, "etcd");
    if side.settled >= case.timeline.heal - BEFORE_HEAL {
        let why = format!("the cut ends before {} are over", seconds(side.settled));
        return Said::new(FindingResult::Noted, "the cut is too short to tell", why);
    }
    if from >= to {
        return Said::open(format!("{node}: its clock is too uncertain to tell"));
    }
    let during: Vec<&Seen<'_>> = spans.iter().filter(|s| s.meets(from, to)).collect();
    if longest_hole(during.iter().copied(), from, to) > MAX_UNWATCHED || during.is_empty() {
        return Said::open(format!("{node}: the health of etcd was not seen during the cut"));
    }
    match side.leader {
        Prospect::Yes => {
            let (missed, without) = (seconds(MISSED_SAMPLES), seconds(WITHOUT_QUORUM));
            healthy(track, &during, to).tolerating(format!("{missed} of missed looks; up to {without} is no violation"))
        }
        Prospect::No => leaderless(case, track, spans, &during).tolerating(before_heal.to_string()),
        Prospect::Maybe => either(track, &during),
    }
}

fn healthy(track: &Track<'_>, during: &[&Seen<'_>], to: f64) -> Said {
    let (mut longest, mut proven, mut worst, mut since) = (0.0_f64, 0.0_f64, None, None);
    for (i, seen) in during.iter().enumerate() {
        if seen.is("ok") {
            since = None;
            continue;
        }
        let start = *since.get_or_insert(seen.from);
        // It was so until it was last seen so, and may have been until it was next seen otherwise.
        let end = during.get(i + 1).map_or(to, |next| next.from).min(to);
        proven = proven.max(seen.to.min(to) - start);
        if end - start > longest {
            (longest, worst) = (end - start, Some(*seen));
        }
    }
    let Some(worst) = worst else {
        return Said::new(FindingResult::Held, format!("{} healthy", track.node), cite(track, during[0]));
    };
    let result = match longest {
        l if l <= MISSED_SAMPLES => FindingResult::Noted,
        _ if proven <= WITHOUT_QUORUM => FindingResult::Degraded,
        _ => FindingResult::Violated,
    };
    Said::new(result, format!("{} unhealthy for {}", track.node, seconds(longest)), cite(track, worst))
}

/// Nothing is predicted; what was seen is told.
fn either(track: &Track<'_>, during: &[&Seen<'_>]) -> Said {
    let healthy = during.iter().filter(|s| s.is("ok")).count();
    let state = match healthy {
        0 => "without a leader",
        all if all == during.len() => "healthy",
        _ => "healthy by turns",
    };
    Said::new(FindingResult::Noted, format!("{} {state}", track.node), cite(track, during[0]))
}

fn leaderless(case: &Case<'_>, track: &Track<'_>, spans: &[Seen<'_>], during: &[&Seen<'_>]) -> Said {
    if let Some(ok) = during.iter().find(|s| s.is("ok")) {
        return Said::new(FindingResult::Violated, format!("{} healthy during the cut", track.node), cite(track, ok));
    }
    let first = spans.iter().find(|s| s.from > 0.0 && !s.is("ok")).unwrap_or(during[0]);
    let observed = format!("{} without a leader from {}", track.node, when(first.from, case.timeline.heal));
    Said::new(FindingResult::Held, observed, cite(track, during[0]))
}
