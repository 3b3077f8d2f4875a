//! Every direction between two nodes, by itself: datagrams that the receiver's kernel took or let through.

use super::{
    Case, MAX_UNWATCHED,
    cite::cite,
    loss::{Share, lost_share},
    pairs::{Group, Outcome, seen_by},
    timeline::{Seen, Track, longest_hole},
};
use crate::{
    api::{Finding, SpanKind},
    fault::{Effect, FLOWS, Sample, Way},
    predict::seconds,
};
use std::collections::BTreeMap;

/// Around an edge of the cut a datagram may end either way, seconds: the kernel's stamps are ticks (at most 10 ms), and what
/// is told of a look is told of its last datagram (250 ms). The clocks' errors come on top.
const EDGE: f64 = 0.3;

/// One way from one node to another.
pub struct Direction<'a> {
    pub sender: &'a str,
    pub receiver: &'a str,
    pub way: Way,
    /// Share that should be lost while the cut has effect.
    pub loss: f64,
}

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let mut groups: BTreeMap<(String, bool), Group> = BTreeMap::new();
    for direction in directions(case) {
        let sides = (case.side_of(direction.sender), case.side_of(direction.receiver));
        let key = (format!("{}→{}: datagrams", sides.0, sides.1), direction.loss > 0.0);
        let outcome = match seen_by(case, direction.receiver) {
            Ok(track) => judge_direction(case, track, &direction),
            Err(why) => Some(Outcome::Unseen { why }),
        };
        if let Some(outcome) = outcome {
            groups.entry(key).or_default().add(outcome);
        }
    }
    let lossy = matches!(case.evidence.plan.pattern.effect, Effect::LossPerPacket { .. } | Effect::LossPerFlow { .. });
    let finding = |((subject, broken), group): ((String, bool), Group)| match (broken, lossy) {
        (false, _) => group.finding(subject, "direction", "heard", " all the time"),
        (true, false) => group.finding(subject, "direction", "silent", ", heard before and after"),
        (true, true) => group.finding(subject, "direction", "lossy", ", whole before and after"),
    };
    groups.into_iter().map(finding).collect()
}

pub fn directions<'a>(case: &Case<'a>) -> Vec<Direction<'a>> {
    let plan = case.evidence.plan;
    let sample = Sample::new(plan);
    let mut all = Vec::new();
    for sender in plan.members.iter().filter(|m| m.has_agent) {
        for receiver in sample.of(&sender.name).into_iter().filter_map(|name| plan.member(name)) {
            all.extend(plan.ways(sender, receiver).map(|way| Direction {
                sender: &sender.name,
                receiver: &receiver.name,
                way,
                loss: plan.datagram_loss(&sender.name, &receiver.name, way),
            }));
        }
    }
    all
}

/// How far from the edges of the cut a datagram may end either way, seconds.
pub fn edge(case: &Case<'_>, track: &Track<'_>) -> f64 {
    let allowed: std::time::Duration = case.evidence.spec.guards.max_clock_error.into();
    EDGE + track.error + allowed.as_secs_f64()
}

/// `None` where nothing is claimed: pods' addresses that the network does not carry, in a cut that is not about them.
fn judge_direction(case: &Case<'_>, track: &Track<'_>, direction: &Direction<'_>) -> Option<Outcome> {
    let plan = case.evidence.plan;
    let subject = direction.way.subject(direction.sender);
    let (heard, lost) = (track.series(SpanKind::Heard, &subject), track.series(SpanKind::Lost, &subject));
    let unseen = |why: String| Some(Outcome::Unseen { why: format!("{}: datagrams of {subject}: {why}", track.who) });
    let contradicted =
        |seen: &Seen<'_>, why: &str| Some(Outcome::Contradicted { what: format!("{} {why}", cite(track, seen)) });
    let (edge, heal) = (edge(case, track), case.timeline.heal);
    if let Some(why) = &track.status.unwatched {
        return unseen(why.clone());
    }
    if !heard.iter().any(|s| s.from <= -edge) {
        let not_carried = direction.way.is_of_pods() && !plan.ports.pods && heard.is_empty() && lost.is_empty();
        return if not_carried { None } else { unseen("not heard before the cut".into()) };
    }
    if let Some(lost) = lost.iter().find(|s| s.to < -edge) {
        return contradicted(lost, "before the cut");
    }
    if !heard.iter().any(|s| s.to >= heal + edge) {
        return unseen("not heard after the heal".into());
    }
    if direction.loss == 0.0 {
        if let Some(lost) = lost.first() {
            return contradicted(lost, "in a direction that was not cut");
        }
        return match longest_hole(heard, 0.0, heal) {
            hole if hole > MAX_UNWATCHED => unseen(format!("none came for {}", seconds(hole))),
            _ => Some(Outcome::AsPlanned { example: cite(track, &heard[0]), stray: 0 }),
        };
    }
    let windows = plan.windows_at(direction.receiver, heal).into_iter().map(|(from, to)| (from + edge, to - edge));
    let windows: Vec<(f64, f64)> = windows.filter(|(from, to)| from < to).collect();
    if windows.is_empty() {
        return unseen(format!("the cut is shorter than {} at a time", seconds(2.0 * edge)));
    }
    let within = |s: &&Seen<'_>| windows.iter().any(|(from, to)| s.meets(*from, *to));
    let Some(taken) = lost.iter().find(within) else {
        let why = "none came to the kernel's hook during the cut, neither taken nor let through";
        return match heard.iter().find(within) {
            Some(heard) => contradicted(heard, "during the cut"),
            None => unseen(why.into()),
        };
    };
    if direction.loss < 1.0 {
        let seen = heard.iter().map(|s| (s, false)).chain(lost.iter().map(|s| (s, true)));
        let most = match plan.pattern.effect {
            Effect::LossPerFlow { .. } => FLOWS as f64,
            _ => f64::INFINITY,
        };
        return match lost_share(direction.loss, seen.filter(|(s, _)| within(s)), &windows, most) {
            Share::AsExpected => Some(Outcome::AsPlanned { example: cite(track, taken), stray: 0 }),
            Share::Other(what) => {
                Some(Outcome::Contradicted { what: format!("{}: datagrams of {subject}: {what}", track.who) })
            }
            Share::TooFew(why) => unseen(why),
        };
    }
    if let Some(heard) = heard.iter().find(within) {
        return contradicted(heard, "during the cut");
    }
    match windows.iter().map(|(from, to)| longest_hole(lost, *from, *to)).fold(0.0, f64::max) {
        hole if hole > MAX_UNWATCHED => unseen(format!("none came for {}", seconds(hole))),
        _ => Some(Outcome::AsPlanned { example: cite(track, taken), stray: 0 }),
    }
}
