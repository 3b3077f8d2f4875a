//! HealDamage, of etcd and the API: a side that could write all through the cut goes on writing when the network is whole again. Members
//! that come back may cost it an election (theory C15, its etcd group; coreos/tectonic-installer#798).
//!
//! Asked of cuts that are steady: where one comes and goes nobody knows how its last window found etcd.

use super::{
    Case, LAST_LOOK, MAX_UNWATCHED, Said,
    cite::{cite, when},
    depth::at_least,
    pairs::seen_by,
    timeline::{Seen, Track, longest_between, merged},
    tried::{LOCAL_CANARY, untried},
};
use crate::{
    api::{Check, Finding, FindingResult, Prospect, SpanKind},
    predict::{
        ApiForecast,
        constants::{ETCD_ELECTIONS, ETCD_SLACK},
        majority, seconds,
    },
};

/// By so much longer than an election takes, seconds, it is an outage. Ours: no single election takes as long.
const OUTAGE: f64 = 10.0;

pub fn check(case: &Case<'_>) -> Option<Finding> {
    let is_steady = case.evidence.plan.pattern.is_steady() || case.evidence.plan.edges.is_empty();
    let keeps_quorum = case.forecast.etcd.iter().any(|side| side.leader == Prospect::Yes);
    let writable: Vec<&ApiForecast> = case.forecast.api.iter().filter(|s| s.writable == Prospect::Yes).collect();
    if !is_steady || (!keeps_quorum && writable.is_empty()) {
        return None;
    }
    let said = match case.timeline.end > case.timeline.heal {
        true => {
            let writes = writable.into_iter().map(|side| api(case, side));
            Said::worst(keeps_quorum.then(|| etcd(case)).into_iter().chain(writes).collect())?
        }
        false => Said::open("nobody watched after the heal"),
    };
    let (election, write) = (seconds(election(case)), seconds(LOCAL_CANARY));
    let said = said.tolerating(format!("{election} for an election, {write} between two writes, and the clocks"));
    let predicted = format!("healthy and written to after the heal, but for one election: {election}");
    Some(said.about(Check::HealDamage, "etcd and API", predicted))
}

/// How long an election takes at the most, seconds.
fn election(case: &Case<'_>) -> f64 {
    ETCD_ELECTIONS * case.evidence.snapshot.timers.etcd_election.seconds + ETCD_SLACK
}

/// Whether a majority of the members was well. One that is well has read through a quorum, so that there was one.
fn etcd(case: &Case<'_>) -> Said {
    let (heal, end) = (case.timeline.heal, case.timeline.end);
    let nodes: Vec<&str> = case.forecast.etcd.iter().flat_map(|side| &side.members).map(String::as_str).collect();
    let (mut down, mut well, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    for track in nodes.iter().filter_map(|node| seen_by(case, node).ok()) {
        let spans = track.series(SpanKind::Health, "etcd");
        well.extend(spans.iter().filter(|s| s.is("ok")).map(Seen::certain));
        // Of one that was never well before nobody knows whether it is asked as it should be.
        if spans.iter().any(|s| s.is("ok") && s.from <= heal) {
            down.extend(amiss(spans));
        }
        seen.extend(spans.iter().filter(|s| s.meets(heal, end)).map(|s| (track, s)));
    }
    let enough = majority(u32::try_from(nodes.len()).unwrap_or(u32::MAX)) as usize;
    let lost = merged(at_least(nodes.len() + 1 - enough, &down, heal, end));
    let longest = lost.into_iter().max_by(|a, b| (a.1 - a.0).total_cmp(&(b.1 - b.0)));
    let limit = election(case);
    if let Some((from, to)) = longest.filter(|(from, to)| to - from > limit) {
        let of_it = seen.iter().find(|(_, s)| !s.is("ok") && s.meets(from, to));
        let evidence = of_it.map_or(String::new(), |(track, s)| cite(track, s));
        let (lasted, since) = (seconds(to - from), when(from, heal));
        let observed = format!("etcd: a majority of members unhealthy for {lasted}, from {since}");
        let result = if to - from > limit + OUTAGE { FindingResult::Violated } else { FindingResult::Degraded };
        return Said::new(result, observed, evidence);
    }
    let (_, unknown) = longest_between(well, heal, end);
    if unknown > limit.max(MAX_UNWATCHED) {
        return Said::open(format!("no member of etcd was seen healthy for {} after the heal", seconds(unknown)));
    }
    // It may be that nobody watched for so long.
    let Some((track, well)) = seen.iter().find(|(_, s)| s.is("ok")) else {
        return Said::open("no member of etcd was seen healthy after the heal");
    };
    let observed = match longest {
        Some((from, to)) => format!("etcd: a majority of members unhealthy for {}", seconds(to - from)),
        None => "etcd healthy".into(),
    };
    Said::new(FindingResult::Held, observed, cite(track, well))
}

/// When a member was certainly not well, seconds after the cut: also between two looks, unless nobody looked for too long.
fn amiss(spans: &[Seen<'_>]) -> Vec<(f64, f64)> {
    let seen = spans.iter().filter(|s| !s.is("ok")).map(Seen::certain);
    let two = spans.windows(2).filter(|two| !two.iter().any(|s| s.is("ok")));
    let two = two.filter(|two| two[1].from - two[0].to <= LAST_LOOK);
    let between = two.map(|two| (two[0].to - two[0].to_error, two[1].from + two[1].from_error));
    merged(seen.chain(between).collect())
}

/// Whether this side went on acknowledging writes, by the operator's canaries and its nodes' own.
fn api(case: &Case<'_>, side: &ApiForecast) -> Said {
    let (heal, end) = (case.timeline.heal, case.timeline.end);
    let (mut acks, mut idle) = (Vec::<(f64, f64)>::new(), Vec::<(f64, f64)>::new());
    let (mut error, mut evidence) = (0.0_f64, None);
    for server in &side.servers {
        let mut tries: Vec<Seen<'_>> = Vec::new();
        for track in observers(case, server) {
            let own = track.series(SpanKind::Canary, server);
            acks.extend(own.iter().filter(|s| s.is("acknowledged")).map(|s| (s.from, s.to)));
            if let Some(last) = own.iter().rfind(|s| s.is("acknowledged") && s.to >= heal) {
                evidence.get_or_insert_with(|| cite(track, last));
            }
            tries.extend(own);
            error = error.max(track.error);
        }
        // What could not be written through one server could perhaps through another at which nobody looked.
        idle.extend(untried(&tries, heal, end, LOCAL_CANARY));
    }
    let proven = longest_between(acks.iter().copied().chain(idle).collect(), heal, end).1;
    let (from, gap) = longest_between(acks, heal, end);
    // Either end of a gap may be another observer's.
    let unsure = 2.0 * error;
    // Who accepts that nobody can write for longer accepts it here as well.
    let limit = (election(case) + LOCAL_CANARY).max(case.accepted(|e| e.api_unavailable).unwrap_or(0.0));
    let result = match proven - unsure {
        sure if sure > limit + OUTAGE => FindingResult::Violated,
        sure if sure > limit => FindingResult::Degraded,
        _ if gap - unsure > limit => FindingResult::Inconclusive,
        _ if gap + unsure > limit => FindingResult::Noted,
        _ => FindingResult::Held,
    };
    let unseen = "nobody saw a write acknowledged after the heal";
    // That there was none for less than this says nothing where nobody watched for longer.
    if evidence.is_none() && result <= FindingResult::Noted {
        return Said::open(format!("{}: {unseen}", side.side));
    }
    let mut observed = format!("{}: longest without a write {}", side.side, seconds(gap));
    if gap > LOCAL_CANARY {
        observed += &format!(", from {}", when(from, heal));
    }
    if result == FindingResult::Inconclusive {
        observed += ", and not all the time did anybody try";
    }
    Said::new(result, observed, evidence.unwrap_or_else(|| unseen.into()))
}

/// Whoever wrote through this server and has a clock that can be compared.
fn observers<'c, 'a>(case: &'c Case<'a>, server: &str) -> Vec<&'c Track<'a>> {
    let own = seen_by(case, server).ok().filter(|track| track.error <= case.allowed_clock_error());
    case.operator().ok().into_iter().chain(own).collect()
}
