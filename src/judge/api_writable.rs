//! ApiWritable: the longest time without an acknowledged write where writes should work, and none where they should not.

use super::{
    Case, MAX_UNWATCHED, Said,
    cite::{cite, when},
    pairs::seen_by,
    timeline::{Seen, Track, longest_hole, longest_hole_at},
};
use crate::{
    api::{Check, Finding, FindingResult, Prospect, SpanKind},
    predict::{ApiForecast, count, seconds},
};

/// A canary write is given up after this, seconds: one that was begun before the heal may be acknowledged after it, and so long
/// a sample may be apart from the next.
const CANARY_DEADLINE: f64 = 5.0;
/// The operator's canary period, seconds: the shortest gap that can be seen.
const CANARY_PERIOD: f64 = 0.5;
/// A node's own canary: one a second, and one that hangs is given up after two.
const LOCAL_CANARY: f64 = 3.0;
/// One server may be without writes for so much longer than its side, seconds, before it is told: its connections to a lost
/// member of etcd are dialled anew. Ours.
const ONE_SERVER: f64 = 10.0;

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let of = |side: &ApiForecast| {
        let said = match side.writable {
            Prospect::Yes => writable(case, side),
            Prospect::No => refused(case, side),
            Prospect::Maybe => either(case, side),
        };
        said.about(Check::ApiWritable, &side.side, side.prediction().expected)
    };
    case.forecast.api.iter().map(of).collect()
}

fn writable<'a>(case: &Case<'a>, side: &ApiForecast) -> Said {
    let operator = match case.operator() {
        Ok(track) => track,
        Err(why) => return Said::open(why),
    };
    let heal = case.timeline.heal;
    // Where two sides can write the operator is on one of them, and of the other one only its own nodes can tell.
    let is_away = |name: &String| case.evidence.plan.breaks(operator.node, name);
    let mut tracks: Vec<(&String, &Track<'_>)> = Vec::new();
    for name in &side.servers {
        match if is_away(name) { seen_by(case, name) } else { Ok(operator) } {
            Ok(track) => tracks.push((name, track)),
            Err(why) => return Said::open(why),
        }
    }
    let by = |seen: &Seen<'_>| {
        let own = |t: &&(&String, &Track<'_>)| *t.0 == seen.span.subject;
        tracks.iter().find(own).map_or(String::new(), |(_, track)| cite(track, seen))
    };
    let server = |name: &String, track: &Track<'a>| -> Vec<Seen<'a>> {
        track.series(SpanKind::Canary, name).iter().filter(|s| s.is("acknowledged")).copied().collect()
    };
    let each: Vec<(&String, Vec<Seen<'_>>)> = tracks.iter().map(|(n, track)| (*n, server(n, track))).collect();
    let all: Vec<Seen<'_>> = each.iter().flat_map(|(_, acks)| acks.iter().copied()).collect();
    if !all.iter().any(|s| s.from < 0.0) {
        return Said::open("no acknowledged write before the cut to compare with");
    }
    let untried = |(name, track): &&(&String, &Track<'_>)| {
        !track.series(SpanKind::Canary, name).iter().any(|s| s.meets(0.0, heal))
    };
    if let Some((name, track)) = tracks.iter().find(untried) {
        return Said::open(format!("{}: no canary write through {name} during the cut", track.who));
    }
    // From the last acknowledgement before the cut on, so that a gap over its edge counts in full.
    let start = all.iter().filter(|s| s.from <= 0.0).map(|s| s.to.min(0.0)).fold(f64::NEG_INFINITY, f64::max);
    let (gap_from, gap) = longest_hole_at(&all, start, heal);
    let (worst_server, worst) = each
        .iter()
        .map(|(name, acks)| (name.as_str(), longest_hole(acks, start, heal)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap_or(("none", heal));
    let accepted = case.accepted(|e| e.api_unavailable);
    // Either end of a gap may be another observer's.
    let unsure = 2.0 * tracks.iter().map(|(_, track)| track.error).fold(0.0, f64::max);
    let resolution = if side.servers.iter().any(is_away) { LOCAL_CANARY } else { CANARY_PERIOD };
    let limit = accepted.unwrap_or(side.seconds + resolution);
    let mut observed = format!("longest without a write {}", seconds(gap));
    if gap > resolution {
        observed += &format!(", from {}", when(gap_from, heal));
    }
    observed += &format!("; {worst_server} alone {}", seconds(worst));
    let result = match accepted {
        // What may last longer than the cut proves nothing by lasting as long.
        _ if gap >= heal && heal <= limit => FindingResult::Noted,
        _ if gap >= heal && heal - unsure > limit => FindingResult::Violated,
        Some(_) if gap - unsure > limit => FindingResult::Violated,
        Some(_) if gap + unsure > limit => FindingResult::Inconclusive,
        None if gap - unsure > limit => FindingResult::Degraded,
        _ if worst > limit + ONE_SERVER => FindingResult::Degraded,
        None if gap + unsure > limit => FindingResult::Noted,
        _ => FindingResult::Held,
    };
    let last = all.iter().rfind(|s| s.meets(0.0, heal)).or(all.first());
    Said::new(result, observed, last.map_or(String::new(), by))
}

/// Nothing is predicted; what was seen is told, by the operator and by the servers' own nodes.
fn either(case: &Case<'_>, side: &ApiForecast) -> Said {
    let heal = case.timeline.heal;
    let mut acked = Vec::new();
    for node in &side.servers {
        let Some(track) = case.timeline.agent(node) else { return Said::open(format!("no record of {node}")) };
        let during: Vec<&Seen<'_>> =
            track.series(SpanKind::Canary, node).iter().filter(|s| s.meets(side.seconds.min(heal), heal)).collect();
        if during.is_empty() {
            return Said::open(format!("{node}: no local canary write during the cut"));
        }
        acked.extend(during.iter().find(|s| s.is("acknowledged")).map(|s| cite(track, s)));
    }
    let observed = format!("{} of {} acknowledged writes", acked.len(), count(side.servers.len(), "server"));
    Said::new(FindingResult::Noted, observed, acked.into_iter().next().unwrap_or_default())
}

fn refused(case: &Case<'_>, side: &ApiForecast) -> Said {
    let heal = case.timeline.heal;
    if side.seconds >= heal - CANARY_DEADLINE {
        let why = format!("the cut ends before {} are over", seconds(side.seconds + CANARY_DEADLINE));
        return Said::new(FindingResult::Noted, "the cut is too short to tell", why);
    }
    let (mut example, mut seen_last) = (None, f64::NEG_INFINITY);
    for node in &side.servers {
        let Some(track) = case.timeline.agent(node) else { return Said::open(format!("no record of {node}")) };
        let (from, to) = (case.edge(side.seconds, track), heal - case.edge(CANARY_DEADLINE, track));
        let spans = track.series(SpanKind::Canary, node);
        if from >= to {
            return Said::open(format!("{node}: its clock is too uncertain to tell"));
        }
        if let Some(ack) = spans.iter().find(|s| s.is("acknowledged") && s.meets(from, to)) {
            let observed = format!("{node} acknowledged a write without a majority");
            return Said::new(FindingResult::Violated, observed, cite(track, ack));
        }
        let during: Vec<&Seen<'_>> = spans.iter().filter(|s| s.meets(from, to)).collect();
        if during.is_empty() || longest_hole(during.iter().copied(), from, to) > MAX_UNWATCHED {
            return Said::open(format!("{node}: no local canary write during the cut"));
        }
        let acked = spans.iter().filter(|s| s.is("acknowledged") && s.from <= from).map(|s| s.to);
        seen_last = acked.fold(seen_last, f64::max);
        example.get_or_insert_with(|| cite(track, during[0]));
    }
    let observed = match seen_last {
        last if last > 0.0 => format!("last write acknowledged {} after the cut", seconds(last)),
        _ => "no write acknowledged".into(),
    };
    Said::new(FindingResult::Held, observed, example.unwrap_or_default())
}
