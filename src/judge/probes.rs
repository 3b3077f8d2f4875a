//! Fresh connections between every pair of members: silent across the cut while it lasts, alive elsewhere and at other times.

use super::{
    Case, MAX_UNWATCHED, Said,
    cite::{cite, when},
    loss::{DEVIATIONS, STRAY, Share, lost_share},
    pairs::{Group, Outcome, known, seen_by},
    timeline::{Seen, Track, longest_hole, within},
};
use crate::{
    api::{Check, Finding, SpanKind},
    fault::{Effect, PortClass, ProbeTarget, pauses},
    predict::seconds,
};
use std::collections::BTreeMap;

/// Around an edge of the cut a probe may end either way, seconds: its connect timeout of 1 s and half a second to be scheduled.
pub const EDGE: f64 = 1.5;

/// A pair may be silent for this long after the heal beside its edge, seconds: a connection that was lost just before it.
pub const HEAL_SLACK: f64 = 5.0;

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let plan = case.evidence.plan;
    let mut groups: BTreeMap<(String, bool), Group> = BTreeMap::new();
    for node in plan.agents() {
        let targets = case.places.targets_of(node);
        for target in targets.iter().copied().filter(|t| is_served(case, node, t, targets)) {
            let broken = case.places.breaks_tcp(node, target);
            let key = (format!("{}→{}", case.side_of(node), case.side_of(&target.member)), broken);
            let outcome = match seen_by(case, node) {
                Ok(track) => judge_pair(case, track, target, broken),
                Err(why) => Outcome::Unseen { why },
            };
            groups.entry(key).or_default().add(outcome);
        }
    }
    if groups.is_empty() {
        return vec![Said::open("the plan probes nothing").about(Check::FaultProven, "network", "cut as planned")];
    }
    let state = |broken: bool| match (broken, plan.pattern.effect) {
        (false, _) => "alive",
        (true, Effect::Drop) => "silent",
        (true, Effect::Reject) => "refused",
        (true, Effect::LossPerPacket { .. } | Effect::LossPerFlow { .. }) => "lossy",
    };
    let finding = |((subject, broken), group): ((String, bool), Group)| {
        let else_ = if broken { ", alive before and after" } else { " all the time" };
        let strays = STRAY * 100.0;
        let tolerance = match (broken, plan.pattern.effect) {
            (true, Effect::Drop | Effect::Reject) => {
                format!("none further than {} and the clocks' error from the ends of the cut", seconds(EDGE))
            }
            (true, Effect::LossPerPacket { .. } | Effect::LossPerFlow { .. }) => {
                format!("{DEVIATIONS} standard deviations and {strays} % of the connections to a port")
            }
            (false, _) => format!("{strays} % of the connections to a port, one at least"),
        };
        group.finding(subject, "probed port", (state(broken), else_), tolerance)
    };
    groups.into_iter().map(finding).collect()
}

/// `refused` is an answer: the path is alive and the process behind it is not.
fn alive(seen: &Seen<'_>) -> bool {
    seen.is("open") || seen.is("refused")
}

/// Whether anything is claimed of this address: not where only another one of the same service answered before the cut, nor where nobody
/// has to be there.
fn is_served(case: &Case<'_>, node: &str, target: &ProbeTarget, targets: &[&ProbeTarget]) -> bool {
    let answered = |target: &ProbeTarget| has_answered(case, node, target);
    answered(target) || (target.class != PortClass::Named && !target.same_service(targets).any(answered))
}

/// Whether this node was answered before the cut, so that what the cut does to it can be told.
pub fn has_answered(case: &Case<'_>, node: &str, target: &ProbeTarget) -> bool {
    let spans = case.timeline.agent(node).map_or(&[][..], |track| track.series(SpanKind::Probe, &target.subject()));
    let tells = |s: &Seen<'_>| s.is("open") || (alive(s) && case.evidence.plan.pattern.effect != Effect::Reject);
    spans.iter().any(|s| s.from < 0.0 && tells(s))
}

/// What this node was cut off from, so that it must be there again after the heal.
pub fn cut_targets<'c, 'a>(case: &'c Case<'a>, node: &'c str) -> impl Iterator<Item = &'a ProbeTarget> + 'c {
    let targets = case.places.targets_of(node);
    let cut = targets.iter().copied().filter(move |t| case.places.breaks_tcp(node, t));
    cut.filter(move |t| is_served(case, node, t, targets))
}

/// Whether this is an answer that only a whole network gives: what rejects answers, too.
pub fn is_through(case: &Case<'_>, seen: &Seen<'_>) -> bool {
    if case.evidence.plan.pattern.effect == Effect::Reject { seen.is("open") } else { alive(seen) }
}

/// Cut pairs that went on being silent after the heal, or became so again: in words, and who saw it.
pub fn late(case: &Case<'_>) -> Vec<(String, String)> {
    let plan = case.evidence.plan;
    let heal = case.timeline.heal;
    let mut all = Vec::new();
    for track in plan.agents().into_iter().filter_map(|n| case.timeline.agent(n)).filter(|t| t.clock_known()) {
        let limit = (STRAY * case.watched()).max(1.0);
        let rejects = plan.pattern.effect == Effect::Reject;
        for target in cut_targets(case, track.node) {
            let spans = track.series(SpanKind::Probe, &target.subject());
            let limit_at = heal + case.edge(EDGE, track) + HEAL_SLACK;
            // What rejects goes on rejecting, unless somebody is let through.
            let never_open = rejects && !spans.iter().any(|s| s.is("open") && s.to > heal);
            let rejected = spans.iter().rfind(|s| never_open && s.to > limit_at).map(|s| ("still", s));
            if let Some((how, seen)) = rejected.or_else(|| late_silence(spans, heal, limit_at, limit)) {
                let after = seconds(seen.to - heal);
                let pair = format!("{}→{}", track.node, target.subject());
                all.push((format!("{pair} {how} silent {after} after the heal"), cite(track, seen)));
            }
        }
    }
    all
}

/// What this node was cut off from and of which no answer was seen after the heal; the first of these.
pub fn unanswered(case: &Case<'_>, track: &Track<'_>) -> Option<String> {
    let mut subjects = cut_targets(case, track.node).map(ProbeTarget::subject);
    subjects.find(|subject| answer(case, track, subject).is_none())
}

/// The first answer after the heal of what was cut off, and who saw it: of all the one that came last. `None` where nothing was cut.
pub fn last_answer<'c, 'a>(case: &'c Case<'a>) -> Option<(&'c Track<'a>, &'c Seen<'a>)> {
    let tracks = case.evidence.plan.agents().into_iter().filter_map(|node| case.timeline.agent(node));
    let answers = tracks.flat_map(move |track| {
        let targets = cut_targets(case, track.node);
        targets.filter_map(move |target| Some((track, answer(case, track, &target.subject())?)))
    });
    answers.max_by(|a, b| a.1.from.total_cmp(&b.1.from))
}

/// The first answer of something after the heal.
fn answer<'t, 'a>(case: &Case<'_>, track: &'t Track<'a>, subject: &str) -> Option<&'t Seen<'a>> {
    let healed = case.timeline.heal + case.edge(0.0, track);
    track.series(SpanKind::Probe, subject).iter().find(|s| s.to > healed && is_through(case, s))
}

/// The silence of one pair that began in the cut and lasted beyond `after`; or a later one of more than `limit` samples, unless
/// a refusal right before or after it shows that the process behind the port was away.
fn late_silence<'s, 'a>(
    spans: &'s [Seen<'a>],
    heal: f64,
    after: f64,
    limit: f64,
) -> Option<(&'static str, &'s Seen<'a>)> {
    let healed = spans.iter().position(|s| alive(s) && s.to > heal).unwrap_or(spans.len());
    let (cut, later) = spans.split_at(healed);
    if let Some(seen) = cut.iter().rfind(|s| !alive(s) && s.to > after) {
        return Some(("still", seen));
    }
    let restarted = |i: usize| later[i.saturating_sub(1)..].iter().take(3).any(|s| s.is("refused"));
    let dead = || later.iter().enumerate().filter(|(i, s)| !alive(s) && s.to > after && !restarted(*i)).map(|(_, s)| s);
    let samples: u32 = dead().map(|s| s.span.samples).sum();
    if f64::from(samples) > limit { dead().max_by_key(|s| s.span.samples).map(|s| ("again", s)) } else { None }
}

fn judge_pair(case: &Case<'_>, track: &Track<'_>, target: &ProbeTarget, broken: bool) -> Outcome {
    let subject = target.subject();
    let spans = track.series(SpanKind::Probe, &subject);
    let unseen = |why: String| Outcome::Unseen { why: format!("{}: probe {subject}: {why}", track.who) };
    let contradicted =
        |seen: &Seen<'_>, why: &str| Outcome::Contradicted { what: format!("{} {why}", cite(track, seen)) };
    let edge = case.edge(EDGE, track);
    let heal = case.timeline.heal;
    let plan = case.evidence.plan;
    let rejects = plan.pattern.effect == Effect::Reject;

    // A single timeout right there is a stray.
    let steady = |s: &Seen<'_>| alive(s) || s.span.samples > 1;
    match spans.iter().rfind(|s| s.from <= -edge && steady(s)) {
        None => return unseen("not seen before the cut".into()),
        Some(last) if !alive(last) => return contradicted(last, "before the cut"),
        // What a cut that rejects would answer, too.
        Some(last) if broken && rejects && last.is("refused") => return unseen("refused before the cut".into()),
        Some(_) => {}
    }
    match spans.iter().rfind(|s| s.to >= heal + edge && (broken || steady(s))) {
        None => return unseen("not seen after the heal".into()),
        // A cut that lasts too long was there all the same: that it did is HealProven's to say.
        Some(last) if !broken && !alive(last) => return contradicted(last, "still after the heal"),
        Some(_) => {}
    }
    let windows = match broken {
        false => vec![(0.0, heal)],
        true => case.places.windows_between(track.node, &target.member, heal),
    };
    let through = |s: &Seen<'_>| if rejects { s.is("open") } else { alive(s) };
    for (from, to) in within(pauses(&windows, heal), edge) {
        let seen = || spans.iter().filter(|s| s.meets(from, to));
        match seen().find(|s| steady(s)) {
            _ if seen().any(through) => {}
            Some(dead) => return contradicted(dead, "while the link was up"),
            None => return unseen(format!("nobody looked {}, when the link was up", when(from, heal))),
        }
    }
    let windows = if broken { within(windows, edge) } else { windows };
    if windows.is_empty() {
        return unseen(format!("the cut is shorter than {} at a time", seconds(2.0 * edge)));
    }
    let during = || spans.iter().filter(|s| windows.iter().any(|(from, to)| s.meets(*from, *to)));
    let Some(first) = during().next() else { return unseen("not seen during the cut".into()) };
    let (mut example, mut stray) = (first, 0);
    match (broken, plan.pattern.effect) {
        (true, Effect::Drop) => {
            if let Some(open) = during().find(|s| alive(s)) {
                return contradicted(open, "during the cut");
            }
        }
        (true, Effect::Reject) => {
            if let Some(open) = during().find(|s| s.is("open")) {
                return contradicted(open, "during the cut");
            }
            example = during().find(|s| s.is("refused")).unwrap_or(first);
            // Where the target rejects what this node sends, the answer to it is a reset; where only the target's answer is
            // rejected here, this node hears nothing.
            let has_agent = case.places.member(&target.member).is_some_and(|m| m.has_agent);
            let answered = has_agent && plan.cuts(track.node, &target.member);
            if answered && !example.is("refused") {
                return unseen("silent during the cut, where a refusal was expected".into());
            }
        }
        (true, Effect::LossPerPacket { .. } | Effect::LossPerFlow { .. }) => {
            let expected = plan.expected_loss(track.node, &target.member);
            match lost_share(expected, during().map(|s| (s, !alive(s))), &windows) {
                Share::AsExpected => {}
                Share::Other(what) => {
                    return Outcome::Contradicted { what: format!("{}: probe {subject}: {what}", track.who) };
                }
                Share::TooFew(why) => return unseen(why),
            }
        }
        (false, _) => {
            let dead = || during().filter(|s| !alive(s));
            stray = dead().map(|s| s.span.samples).sum();
            example = dead().next().unwrap_or(first);
            if f64::from(stray) > (STRAY * heal).max(1.0) {
                return dead()
                    .max_by_key(|s| s.span.samples)
                    .map_or_else(|| unseen(String::new()), |s| contradicted(s, "during the cut"));
            }
        }
    }
    if let Some((from, _)) = windows.iter().find(|(from, to)| !spans.iter().any(|s| s.meets(*from, *to))) {
        return unseen(format!("nobody looked {}", when(*from, heal)));
    }
    let hole = windows.iter().map(|(from, to)| longest_hole(during(), *from, *to)).fold(0.0, f64::max);
    match hole {
        hole if hole > MAX_UNWATCHED => unseen(format!("nobody looked for {}", seconds(hole))),
        _ => {
            let known =
                if broken { known(case, during().filter(|s| !s.is("open"))) } else { known(case, spans.iter()) };
            Outcome::AsPlanned { example: cite(track, example), stray, known }
        }
    }
}
