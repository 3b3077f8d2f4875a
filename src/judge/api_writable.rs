//! ApiWritable: the longest time without an acknowledged write where writes should work, and none where they should not.

use super::{
    Case, MAX_UNWATCHED, Said, Slack,
    cite::{cite, when},
    pairs::seen_by,
    timeline::{Seen, Track, longest_between, longest_hole},
    tried::{CANARY_PERIOD, LOCAL_CANARY, OPERATOR_CANARY, untried},
};
use crate::{
    api::{Check, Finding, FindingResult, Prospect, SpanKind},
    predict::{ApiForecast, count, seconds},
};

/// One server may be without writes for so much longer than its side, seconds, before it is told: its connections to a lost
/// member of etcd are dialled anew. Ours.
const ONE_SERVER: f64 = 10.0;

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let of = |side: &ApiForecast| {
        let said = match side.writable {
            Prospect::Yes => writable(case, side).unwrap_or_else(Said::open),
            Prospect::No => {
                let answer = seconds(LOCAL_CANARY);
                refused(case, side).tolerating(format!("{answer} before the heal, and the clocks' error"))
            }
            Prospect::Maybe => either(case, side),
        };
        said.about(Check::ApiWritable, &side.side, side.prediction().expected)
    };
    case.forecast.api.iter().map(of).collect()
}

/// One API server of a side, and who saw what it acknowledged.
struct Server<'c, 'a> {
    name: &'c str,
    track: &'c Track<'a>,
    /// Only its own node could look: the operator was on another side.
    is_away: bool,
    acks: Vec<Seen<'a>>,
}

impl Server<'_, '_> {
    /// When nobody tried to write through it, seconds after the cut.
    fn untried(&self, from: f64, to: f64) -> Vec<(f64, f64)> {
        let patience = if self.is_away { LOCAL_CANARY } else { OPERATOR_CANARY };
        untried(self.track.series(SpanKind::Canary, self.name), from, to, patience)
    }
}

/// The longest time without an acknowledged write.
struct Gap {
    /// When it begins, seconds after the cut.
    from: f64,
    /// Seconds, those for which nobody tried among them.
    seen: f64,
    /// The longest one in which somebody tried all the time, seconds.
    proven: f64,
}

impl Gap {
    /// Through any of these servers between `from` and `to`, seconds after the cut.
    fn of(servers: &[&Server<'_, '_>], from: f64, to: f64) -> Self {
        let acks: Vec<(f64, f64)> = servers.iter().flat_map(|s| &s.acks).map(|s| (s.from, s.to)).collect();
        let untried = servers.iter().flat_map(|s| s.untried(from, to));
        let proven = longest_between(acks.iter().copied().chain(untried).collect(), from, to).1;
        let (from, seen) = longest_between(acks, from, to);
        Gap { from, seen, proven }
    }
}

/// # Errors
/// With what is missing.
fn servers<'c, 'a>(case: &'c Case<'a>, side: &'c ApiForecast) -> Result<Vec<Server<'c, 'a>>, String> {
    let operator = case.operator()?;
    let of = |name: &'c String| {
        // Where two sides can write the operator is on one of them, and of the other one only its own nodes can tell.
        let is_away = case.evidence.plan.breaks(operator.node, name);
        let track = if is_away { seen_by(case, name)? } else { operator };
        let acks = track.series(SpanKind::Canary, name).iter().filter(|s| s.is("acknowledged")).copied().collect();
        Ok(Server { name, track, is_away, acks })
    };
    let servers: Vec<Server<'_, '_>> = side.servers.iter().map(of).collect::<Result<_, String>>()?;
    if !servers.iter().flat_map(|s| &s.acks).any(|s| s.from < 0.0) {
        return Err("no acknowledged write before the cut to compare with".into());
    }
    let is_tried = |Server { name, track, .. }: &Server<'_, '_>| {
        track.series(SpanKind::Canary, name).iter().any(|s| s.meets(0.0, case.timeline.heal))
    };
    match servers.iter().find(|server| !is_tried(server)) {
        Some(Server { name, track, .. }) => {
            Err(format!("{}: no canary write through {name} during the cut", track.who))
        }
        None => Ok(servers),
    }
}

/// The last acknowledgement before the cut, so that a gap over its edge counts in full: seconds after the cut.
fn last_before(servers: &[Server<'_, '_>]) -> f64 {
    let before = servers.iter().flat_map(|s| &s.acks).filter(|s| s.from <= 0.0);
    before.map(|s| s.to.min(0.0)).fold(f64::NEG_INFINITY, f64::max)
}

/// Error of a time between two writes, seconds: either end of a gap may be another observer's.
fn unsure(servers: &[Server<'_, '_>]) -> f64 {
    2.0 * servers.iter().map(|s| s.track.error).fold(0.0, f64::max)
}

/// The longest time of the cut without an acknowledged write through any of a side's servers, and the error of that: seconds.
///
/// # Errors
/// With what is missing.
pub fn longest_gap(case: &Case<'_>, side: &ApiForecast) -> Result<(f64, f64), String> {
    let servers = servers(case, side)?;
    let gap = Gap::of(&servers.iter().collect::<Vec<_>>(), last_before(&servers), case.timeline.heal);
    Ok((gap.seen, unsure(&servers)))
}

/// How long nobody may write.
struct Bound {
    /// Seconds.
    limit: f64,
    /// Whether the user has set it.
    is_accepted: bool,
    /// Error of a time between two writes, seconds.
    unsure: f64,
}

impl Bound {
    /// `gap`: the longest time without a write, `alone`: those without one through a single server; the cut ends at `heal`, seconds after
    /// its beginning. Only a time in which somebody tried accuses.
    fn judge(&self, gap: &Gap, alone: &[Gap], heal: f64) -> FindingResult {
        let Bound { limit, is_accepted, unsure } = *self;
        match is_accepted {
            // What may last longer than the cut proves nothing by lasting as long.
            _ if gap.seen >= heal && heal <= limit => FindingResult::Noted,
            _ if gap.proven >= heal && heal - unsure > limit => FindingResult::Violated,
            true if gap.proven - unsure > limit => FindingResult::Violated,
            true if gap.seen + unsure > limit => FindingResult::Inconclusive,
            false if gap.proven - unsure > limit => FindingResult::Degraded,
            false if gap.seen - unsure > limit => FindingResult::Inconclusive,
            _ if alone.iter().any(|a| a.proven - unsure > limit + ONE_SERVER) => FindingResult::Degraded,
            _ if alone.iter().any(|a| a.seen - unsure > limit + ONE_SERVER) => FindingResult::Inconclusive,
            _ if alone.iter().any(|a| a.seen + unsure > limit + ONE_SERVER) => FindingResult::Noted,
            false if gap.seen + unsure > limit => FindingResult::Noted,
            _ => FindingResult::Held,
        }
    }
}

/// # Errors
/// With what is missing.
fn writable(case: &Case<'_>, side: &ApiForecast) -> Result<Said, String> {
    let servers = servers(case, side)?;
    let heal = case.timeline.heal;
    let all: Vec<Seen<'_>> = servers.iter().flat_map(|s| s.acks.iter().copied()).collect();
    let start = last_before(&servers);
    let gap = Gap::of(&servers.iter().collect::<Vec<_>>(), start, heal);
    let alone: Vec<Gap> = servers.iter().map(|s| Gap::of(&[s], start, heal)).collect();
    let slowest = servers.iter().zip(&alone).max_by(|a, b| a.1.seen.total_cmp(&b.1.seen));

    let resolution = if servers.iter().any(|s| s.is_away) { LOCAL_CANARY } else { CANARY_PERIOD };
    let accepted = case.accepted(|e| e.api_unavailable);
    let bound = Bound {
        limit: accepted.unwrap_or(side.seconds + resolution),
        is_accepted: accepted.is_some(),
        unsure: unsure(&servers),
    };
    let result = bound.judge(&gap, &alone, heal);

    let mut observed = format!("longest without a write {}", seconds(gap.seen));
    if gap.seen > resolution {
        observed += &format!(", from {}", when(gap.from, heal));
    }
    if let Some((server, alone)) = slowest {
        observed += &format!("; {} alone {}", server.name, seconds(alone.seen));
    }
    let idle = servers.iter().flat_map(|s| s.untried(start, heal)).map(|(from, to)| to - from).fold(0.0, f64::max);
    if idle > 0.0 {
        observed += &format!("; nobody tried for up to {}", seconds(idle));
    }
    let last = all.iter().rfind(|s| s.meets(0.0, heal)).or(all.first());
    let seen_by = |seen: &Seen<'_>| servers.iter().find(|s| s.name == seen.span.subject).map(|s| s.track);
    let evidence = last.and_then(|seen| Some(cite(seen_by(seen)?, seen)));
    // What the user accepts has the time between two writes in it.
    let slack = Slack { own: if bound.is_accepted { 0.0 } else { resolution }, clocks: bound.unsure };
    let tolerance = format!("{slack}; {} for one server alone", seconds(ONE_SERVER));
    Ok(Said::new(result, observed, evidence.unwrap_or_default()).tolerating(tolerance))
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
    // One that was begun before the heal may be acknowledged after it.
    if side.seconds >= heal - LOCAL_CANARY {
        let why = format!("the cut ends before {} are over", seconds(side.seconds + LOCAL_CANARY));
        return Said::new(FindingResult::Noted, "the cut is too short to tell", why);
    }
    let (mut example, mut seen_last) = (None, f64::NEG_INFINITY);
    for node in &side.servers {
        let Some(track) = case.timeline.agent(node) else { return Said::open(format!("no record of {node}")) };
        let (from, to) = (case.edge(side.seconds, track), heal - case.edge(LOCAL_CANARY, track));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_alone_is_late_only_by_more_than_the_clocks_error() {
        let bound = Bound { limit: 5.0, is_accepted: false, unsure: 0.4 };
        let gap = |seen: f64, proven: f64| Gap { from: 0.0, seen, proven };
        let judged = |seen, proven| bound.judge(&gap(1.0, 1.0), &[gap(seen, proven)], 75.0);
        // 5 s and 10 s more for one server.
        assert_eq!(judged(15.5, 15.5), FindingResult::Degraded);
        assert_eq!(judged(15.3, 15.3), FindingResult::Noted);
        assert_eq!(judged(14.5, 14.5), FindingResult::Held);
        // For which nobody tried.
        assert_eq!(judged(15.5, 2.0), FindingResult::Inconclusive);
        assert_eq!(judged(15.3, 2.0), FindingResult::Noted);
    }
}
