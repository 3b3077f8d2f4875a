//! Every direction between two nodes, by itself: datagrams that the receiver's kernel took or let through.

use super::{
    Case, MAX_UNWATCHED, Said,
    cite::{cite, when},
    loss::{DEVIATIONS, samples_within},
    pairs::{Group, Outcome, known, seen_by},
    timeline::{Seen, Track, longest_hole, within},
};
use crate::{
    api::{Check, Finding, FindingResult, SpanKind},
    fault::{Effect, FLOWS, Way, pauses},
    predict::{count, seconds},
};
use std::collections::BTreeMap;

/// Around an edge of the cut a datagram may end either way, seconds: the kernel's stamps are ticks (at most 10 ms), and what
/// is told of a look is told of its last datagram (250 ms). The clocks' errors come on top.
pub const EDGE: f64 = 0.3;

/// Share by which the counts of spans may be mistaken: of one that reaches beyond a window only a part is counted.
const SPAN_ERROR: f64 = 0.02;

/// Agents take what comes within a second for one span, and stamp what is lost up to a quarter of a second late; a shorter time in which
/// a link is up can't be told from none, seconds.
const SHORTEST_PAUSE: f64 = 1.5;

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
    let mut pools: BTreeMap<String, Pool> = BTreeMap::new();
    for direction in directions(case) {
        let sides = (case.side_of(direction.sender), case.side_of(direction.receiver));
        let subject = format!("{}→{}: datagrams", sides.0, sides.1);
        let seen = match seen_by(case, direction.receiver) {
            Ok(track) => judge_direction(case, track, &direction),
            Err(why) => Judged::Pair(Outcome::Unseen { why }),
        };
        match seen {
            Judged::Pair(outcome) => groups.entry((subject, direction.loss > 0.0)).or_default().add(outcome),
            Judged::Share(share) => pools.entry(subject).or_default().add(direction.loss, share),
            Judged::NotClaimed => {}
        }
    }
    let finding = |((subject, broken), group): ((String, bool), Group)| match broken {
        false => group.finding(subject, "direction", ("heard", " all the time"), "none taken".into()),
        true => {
            let edge = seconds(EDGE);
            let tolerance = format!("none further than {edge} and the clocks' error from the ends of the cut");
            group.finding(subject, "direction", ("silent", ", heard before and after"), tolerance)
        }
    };
    let pools = pools.into_iter().map(|(subject, pool)| pool.finding(subject));
    groups.into_iter().map(finding).chain(pools).collect()
}

/// What was seen of one direction.
enum Judged {
    Pair(Outcome),
    /// Chance decides; of one direction alone it is too little to say anything.
    Share(Lossy),
    /// Pods' addresses that the network does not carry, or carries in nodes' packets, in a cut that is not about them.
    NotClaimed,
}

/// Counts of one direction in a cut that loses some.
struct Lossy {
    lost: f64,
    all: f64,
    /// How often chance decided: about each packet, or about each flow.
    decided: f64,
    example: String,
}

/// Directions between two sides in a cut that loses some.
#[derive(Default)]
struct Pool {
    directions: usize,
    expected: f64,
    lost: f64,
    all: f64,
    decided: f64,
    example: Option<String>,
}

impl Pool {
    fn add(&mut self, expected: f64, one: Lossy) {
        self.directions += 1;
        self.expected = expected;
        self.lost += one.lost;
        self.all += one.all;
        self.decided += one.decided;
        self.example.get_or_insert(one.example);
    }

    fn finding(self, subject: String) -> Finding {
        // And what a span at the edge of a window may be mistaken by.
        let chance = DEVIATIONS * (self.expected * (1.0 - self.expected) / self.decided).sqrt() + SPAN_ERROR;
        let share = self.lost / self.all;
        let observed = format!("{:.1} % of {:.0} lost", share * 100.0, self.all);
        let evidence = self.example.unwrap_or_default();
        let said = match () {
            // One that a kernel took tells loss from none.
            _ if (share - self.expected).abs() <= chance && self.lost > 0.0 => {
                Said::new(FindingResult::Held, observed, evidence)
            }
            _ if self.lost == 0.0 && self.expected <= chance => {
                Said::open(format!("{observed}, too few to tell {:.0} % from none", self.expected * 100.0))
            }
            _ => Said::new(FindingResult::Violated, observed, evidence),
        };
        let predicted = format!("{} lose {:.0} %", count(self.directions, "direction"), self.expected * 100.0);
        said.tolerating(format!("± {:.1} % of chance", chance * 100.0)).about(Check::FaultProven, subject, predicted)
    }
}

pub fn directions<'a>(case: &Case<'a>) -> Vec<Direction<'a>> {
    let plan = case.evidence.plan;
    let mut all = Vec::new();
    for sender in plan.members.iter().filter(|m| m.has_agent) {
        for receiver in case.places.sample.of(&sender.name).into_iter().filter_map(|name| case.places.member(name)) {
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

fn judge_direction(case: &Case<'_>, track: &Track<'_>, direction: &Direction<'_>) -> Judged {
    let plan = case.evidence.plan;
    let subject = direction.way.subject(direction.sender);
    let (heard, lost) = (track.series(SpanKind::Heard, &subject), track.series(SpanKind::Lost, &subject));
    let unseen =
        |why: String| Judged::Pair(Outcome::Unseen { why: format!("{}: datagrams of {subject}: {why}", track.who) });
    let contradicted = |seen: &Seen<'_>, why: &str| {
        Judged::Pair(Outcome::Contradicted { what: format!("{} {why}", cite(track, seen)) })
    };
    let as_planned =
        |seen: &Seen<'_>, known| Judged::Pair(Outcome::AsPlanned { example: cite(track, seen), stray: 0, known });
    let (edge, heal) = (case.edge(EDGE, track), case.timeline.heal);
    // On an overlay a datagram between pods travels in one between nodes, which is what the cut takes.
    let on_its_own = !direction.way.is_of_pods() || plan.ports.pods;
    if let Some(why) = &track.status.unwatched {
        return unseen(why.clone());
    }
    let whole = case.places.windows_at(direction.receiver, heal);
    let windows = within(whole.iter().copied(), edge);
    if direction.way.to_range().is_some() && !on_its_own {
        let is_cut = direction.loss == 1.0;
        return if is_cut { judge_live_pod(direction, track, &windows) } else { Judged::NotClaimed };
    }
    if !heard.iter().any(|s| s.from <= -edge) {
        let carried = on_its_own || !heard.is_empty() || !lost.is_empty();
        return if carried { unseen("not heard before the cut".into()) } else { Judged::NotClaimed };
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
        let hole = longest_hole(heard, 0.0, heal);
        return if is_in_doubt(case, track, direction.sender, hole) {
            unseen(format!("none came for {}", seconds(hole)))
        } else {
            as_planned(&heard[0], known(case, heard.iter()))
        };
    }
    let pauses = pauses(&whole, heal).filter(|(from, to)| direction.loss == 1.0 && to - from > SHORTEST_PAUSE);
    for (from, to) in within(pauses, edge) {
        if let Some(lost) = lost.iter().find(|s| s.meets(from, to)) {
            return contradicted(lost, "while the link was up");
        }
        if on_its_own && !heard.iter().any(|s| s.meets(from, to)) {
            return unseen(format!("not heard {}, when the link was up", when(from, heal)));
        }
    }
    if windows.is_empty() {
        return unseen(format!("the cut is shorter than {} at a time", seconds(2.0 * edge)));
    }
    if direction.loss < 1.0 {
        return match on_its_own {
            true => lossy(track, heard, lost, &windows, plan.pattern.effect).map_or_else(unseen, Judged::Share),
            false => Judged::NotClaimed,
        };
    }
    let during = |s: &&Seen<'_>| windows.iter().any(|(from, to)| s.meets(*from, *to));
    if let Some(heard) = heard.iter().find(during) {
        return contradicted(heard, "during the cut");
    }
    let taken = lost.iter().find(during);
    match taken {
        None if on_its_own => {
            return unseen("none came to the kernel's hook during the cut, neither taken nor let through".into());
        }
        None => return as_planned(&heard[0], None),
        Some(_) => {}
    }
    let hole = windows.iter().map(|(from, to)| longest_hole(lost, *from, *to)).fold(0.0, f64::max);
    let unmet = windows.iter().any(|(from, to)| !lost.iter().any(|s| s.meets(*from, *to)));
    match taken {
        _ if on_its_own && unmet => unseen("none came in one of the cut's windows".into()),
        _ if on_its_own && is_in_doubt(case, track, direction.sender, hole) => {
            unseen(format!("none came for {}", seconds(hole)))
        }
        Some(taken) => as_planned(taken, known(case, lost.iter().filter(during))),
        None => unseen(String::new()),
    }
}

/// Of a cut that is not about pods: nobody claims that a pod goes on being there. But it must not be heard in the cut, and what is for
/// it must come to the kernel's hook where what is for its range is taken there: or its packets go round it. On an overlay both travel
/// in packets between nodes.
fn judge_live_pod(direction: &Direction<'_>, track: &Track<'_>, windows: &[(f64, f64)]) -> Judged {
    let series = |kind, way: Way| track.series(kind, &way.subject(direction.sender));
    let during = |s: &&Seen<'_>| windows.iter().any(|(from, to)| s.meets(*from, *to));
    let (heard, lost) = (series(SpanKind::Heard, direction.way), series(SpanKind::Lost, direction.way));
    if let Some(heard) = heard.iter().find(during) {
        return Judged::Pair(Outcome::Contradicted { what: format!("{} during the cut", cite(track, heard)) });
    }
    let range = direction.way.to_range().map_or(&[][..], |way| series(SpanKind::Lost, way));
    match range.iter().find(during) {
        Some(taken) if heard.is_empty() && lost.is_empty() => Judged::Pair(Outcome::Unseen {
            why: format!(
                "{}: no datagram of {} to a pod came to the kernel's hook: packets for pods go round it (eBPF), or are kept away",
                cite(track, taken),
                direction.sender
            ),
        }),
        _ => Judged::NotClaimed,
    }
}

/// Whether no datagram came for so long, seconds, that there is a doubt. Allowed are a sixth of the cut, within bounds, for a machine that
/// is busy (4 s were seen on two cores beside a compiler), and as long as one of the two agents was away by its own record, being started
/// anew.
fn is_in_doubt(case: &Case<'_>, receiver: &Track<'_>, sender: &str, hole: f64) -> bool {
    let away = |track: &Track<'_>| longest_hole(track.of_kind(SpanKind::Probe), 0.0, case.timeline.heal);
    let moment = (case.timeline.heal / 6.0).clamp(3.0, 10.0);
    let longest = || {
        let sender = case.timeline.agent(sender).map_or(0.0, away);
        (away(receiver).max(sender) + moment).min(MAX_UNWATCHED)
    };
    // Most are shorter than any that is allowed, and to go through two records for each of them takes long.
    hole > moment && hole > longest()
}

/// What was lost and what was heard within the windows.
fn lossy(
    track: &Track<'_>,
    heard: &[Seen<'_>],
    lost: &[Seen<'_>],
    windows: &[(f64, f64)],
    effect: Effect,
) -> Result<Lossy, String> {
    let within = |spans: &[Seen<'_>]| spans.iter().map(|s| samples_within(s, windows)).sum::<f64>();
    let (lost_samples, heard_samples) = (within(lost), within(heard));
    let all = lost_samples + heard_samples;
    if all == 0.0 {
        return Err("none came during the cut".into());
    }
    let decided = if let Effect::LossPerFlow { .. } = effect { all.min(FLOWS as f64) } else { all };
    let example = lost.first().or(heard.first()).map_or_else(String::new, |s| cite(track, s));
    Ok(Lossy { lost: lost_samples, all, decided, example })
}
