//! LeaseTakeover and LeaseStable: who held each Lease and when it moved, by what the operator saw.

use super::{
    Case, MAX_UNWATCHED, Said,
    cite::{cite, when},
    leadership,
    lease_history::counts,
    lease_renewal::Renewal,
    timeline::{Seen, Track, before_cut, longest_unknown},
};
use crate::{
    api::{Check, Finding, FindingResult, Prospect, Side, SpanKind},
    predict::{Certainty, LeaseForecast, OWN_LEASE, elects, interval, seconds},
    topology::host_of,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

/// The operator's slowest poll, seconds.
const POLL: f64 = 1.0;

/// A change of holder: it happened after `seen_old` and not after `seen_new`, seconds after the cut.
pub struct Takeover<'s, 'a> {
    pub seen_old: f64,
    pub seen_new: f64,
    /// The last look at the old holder.
    pub old: &'s Seen<'a>,
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
        if lease.stays() {
            findings.push(stable(case, lease).about(Check::LeaseStable, subject, words(Check::LeaseStable)));
            continue;
        }
        let history = history(case, lease);
        let during = |t: &Takeover<'_, '_>| t.seen_old <= case.timeline.heal;
        let led = history.as_ref().ok().and_then(|(_, spans)| first_takeover(lease, spans)).filter(during);
        let led = led.map(|takeover| not_before_acquired(case, lease, takeover));
        let said = match &history {
            Err(why) => Said::open(why.clone()),
            Ok((track, spans)) => moved(case, lease, track, spans),
        };
        findings.push(said.about(Check::LeaseTakeover, &subject, words(Check::LeaseTakeover)));
        // Where the Lease need not move and did not, there is no gap and no overlap to speak of.
        if lease.counts_leaders() && (lease.moves == Certainty::Must || led.is_some()) {
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
    let before = before_cut(spans).ok_or("operator: the Lease was not seen before the cut")?;
    if !before.is(&lease.lease.holder) {
        return Err(format!("{}: it had moved between the plan and the cut", cite(track, before)));
    }
    let vouches = |before: &Seen<'_>, after: &Seen<'_>| counts(&lease.lease) && unmoved(before, after);
    if longest_unknown(spans, 0.0, case.timeline.heal, vouches) > MAX_UNWATCHED {
        return Err("operator: the Lease was not seen all through the cut".into());
    }
    Ok((track, spans))
}

/// Whether a Lease says by its count and by when it was taken that nobody took it in between. Its renewals go on.
fn unmoved(before: &Seen<'_>, after: &Seen<'_>) -> bool {
    fn said<'a>(seen: &Seen<'a>) -> [Option<&'a str>; 3] {
        ["transitions", "acquired", "lock"].map(|name| seen.span.told(name))
    }
    after.span.detail.is_some() && after.is(&before.span.state) && said(before) == said(after)
}

fn first_takeover<'s, 'a>(lease: &LeaseForecast, spans: &'s [Seen<'a>]) -> Option<Takeover<'s, 'a>> {
    let at = spans.iter().position(|s| s.from > 0.0 && !s.span.state.is_empty() && !s.is(&lease.lease.holder))?;
    let old = spans[..at].iter().rfind(|s| s.is(&lease.lease.holder))?;
    let error = old.to_error.max(spans[at].from_error);
    Some(Takeover { seen_old: old.to, seen_new: spans[at].from, old, new: &spans[at], error })
}

/// Between two looks of the operator, the new holder's own word of when it began to take the Lease.
fn not_before_acquired<'s, 'a>(case: &Case<'_>, lease: &LeaseForecast, takeover: Takeover<'s, 'a>) -> Takeover<'s, 'a> {
    let acquired = || {
        let span = takeover.new.span;
        let at = span.told("acquired")?;
        let node = lease.lease.node_of(&span.state);
        let (at, error) = case.timeline.agent(node)?.read_wall(&MicroTime(at.parse().ok()?))?;
        Some(at - error)
    };
    // Of two replicas of the operator the second one's clock may be behind, and then these two are not in order.
    let seen_old = acquired().map_or(takeover.seen_old, |at| at.min(takeover.seen_new).max(takeover.seen_old));
    Takeover { seen_old, ..takeover }
}

/// When another one took it, where that was seen in the cut.
pub fn taken<'c, 'a>(case: &'c Case<'a>, lease: &LeaseForecast) -> Option<Takeover<'c, 'a>> {
    let spans = case.operator().ok()?.series(SpanKind::Lease, &lease.lease.subject());
    let takeover = first_takeover(lease, spans).filter(|t| t.seen_new <= case.timeline.heal)?;
    Some(not_before_acquired(case, lease, takeover))
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
    let host = host_of(&new.span.state);
    let taken = Taken::new(case, lease, &takeover, spans);
    let (result, how) = taken.judge(lease);
    let observed = format!("{host} leads from {}{how}", when(takeover.seen_new, heal));
    Said::new(result, observed, cite(track, new)).tolerating(taken.tolerance())
}

/// When and how a Lease was taken.
struct Taken {
    /// It was taken after the one and not after the other, seconds after the cut by the schedule's clock.
    after: f64,
    until: f64,
    /// Error of both, seconds.
    error: f64,
    on_losing_side: bool,
    /// Its old holder was last seen before the cut, or so soon after it that its node need not have been cut off: it may have been taken
    /// when everybody still heard each other.
    before_the_cut: bool,
    /// Nobody knows on which side its new holder is: a pod that was not there when the run was planned.
    unplaced: bool,
    /// Its holder had given it up.
    released: bool,
    /// The last renewal by its holder that was seen.
    renewal: Renewal,
    /// Its holder may have given it up between two looks: nothing shows that it went on, nor that it reached no API server any more.
    may_be_released: bool,
    /// How often it moved, this time included.
    moves: usize,
    /// Until when the user accepts it, seconds after the cut.
    accepted: Option<f64>,
    /// The holder was cut off by its own node's clock, which may differ by this, seconds.
    clocks: f64,
}

impl Taken {
    /// `spans`: the whole history of the Lease.
    fn new(case: &Case<'_>, lease: &LeaseForecast, takeover: &Takeover<'_, '_>, spans: &[Seen<'_>]) -> Self {
        let Takeover { seen_old, seen_new, old, new, error } = *takeover;
        let node = lease.lease.node_of(&new.span.state);
        let renewal = Renewal::seen(case, &lease.lease, old);
        let clocks = case.allowed_clock_error();
        let before_the_cut = seen_old - error <= clocks;
        // Right at the heal anybody may take it again, and every node heals by its own clock.
        let in_the_cut = seen_new + error + clocks <= case.timeline.heal;
        let (sides, is_steady) = (case.evidence.sides, case.evidence.plan.pattern.is_steady());
        let has = |side: &Side, node: &str| side.nodes.iter().any(|n| n == node);
        let is_losing = |node: &str| sides.iter().any(|s| s.served == Prospect::No && has(s, node));
        // It held it when it was cut off already and until it was taken, and no renewal is known to have come after that: whoever reaches
        // no API server that can write gives nothing up.
        let is_cut_off = lease.lease.holder_node.as_deref().is_some_and(is_losing);
        let was_cut_off = is_cut_off && is_steady && !before_the_cut && in_the_cut;
        let was_silent = was_cut_off && renewal.until.is_none_or(|until| until <= clocks);
        let is_another = |s: &&Seen<'_>| !s.span.state.is_empty() && !s.is(&new.span.state);
        Taken {
            after: seen_old - error,
            until: seen_new + error,
            error,
            on_losing_side: in_the_cut && is_losing(node),
            before_the_cut,
            unplaced: !sides.iter().any(|s| has(s, node)),
            released: spans.iter().any(|s| s.span.state.is_empty() && s.from >= seen_old && s.from <= new.from),
            renewal,
            // Whoever releases a Lease ends at once; whoever is robbed of it tries for RenewDeadline to renew it.
            may_be_released: !was_silent && !leadership::went_on(case, lease, seen_new + POLL),
            moves: 1 + spans.iter().filter(|s| s.from > new.to).filter(is_another).count(),
            accepted: case.accepted(|e| e.leader_takeover),
            clocks,
        }
    }

    /// By how much it may be taken before its time, seconds.
    fn early(&self) -> f64 {
        POLL + self.clocks
    }
    /// And after it. What the user accepts is by the clock that the schedule goes by.
    fn late(&self) -> f64 {
        if self.accepted.is_some() { 0.0 } else { self.clocks }
    }

    /// In words, where it was taken while the old one was certainly valid: before anybody may take it from one who was cut off, or by the
    /// last renewal that was seen, the holder's own clock and the operator's. Whoever releases it ends that, as far as that was seen.
    fn is_robbed(&self, lease: &LeaseForecast) -> Option<String> {
        let duration = lease.lease.lease_duration;
        let is_valid = |renewed: f64| self.until - renewed < duration - POLL;
        // That its holder had not renewed it for long when it was cut off: no guard asks for that.
        let may_be_over = self.renewal.until.is_some_and(|renewed| self.until - renewed >= duration - self.early());
        match () {
            _ if self.released => None,
            _ if self.until < lease.takeover.earliest_seconds - self.early() && !may_be_over => {
                Some(format!("before {}", interval(&lease.takeover)))
            }
            _ if !lease.is_coordinated() && self.renewal.after.is_some_and(is_valid) => Some(self.since_renewed()),
            _ => None,
        }
    }
    /// By how much after the cut the renewal may have been written from which candidates waited, seconds.
    fn renewed_late(&self) -> f64 {
        self.renewal.until.map_or(0.0, |until| until.max(0.0))
    }

    /// The longest time from that renewal to the takeover, in words.
    fn since_renewed(&self) -> String {
        let told = |renewed: f64| format!("{} or less after the last renewal", seconds(self.until - renewed));
        self.renewal.after.map_or(String::new(), told)
    }

    fn tolerance(&self) -> String {
        let (early, late) = (seconds(self.early() + self.error), seconds(self.late() + self.error));
        format!("{early} early, by a look and the clocks; {late} late, by the clocks")
    }

    /// With what is told of it.
    fn judge(&self, lease: &LeaseForecast) -> (FindingResult, String) {
        let Taken { after, until, accepted, .. } = *self;
        let (window, words) = (lease.takeover, interval(&lease.takeover));
        match (lease.moves, self.is_robbed(lease)) {
            // It may have been picked when it was last heard.
            _ if self.on_losing_side && lease.is_coordinated() => {
                (FindingResult::Inconclusive, ", on the losing side, perhaps picked before the cut".into())
            }
            _ if self.on_losing_side && !self.before_the_cut => {
                (FindingResult::Violated, ", on the losing side".into())
            }
            // Taken while the old one was still valid: the safety of the election is gone, whatever else was predicted.
            (_, Some(robbed)) if !self.may_be_released => (FindingResult::Violated, format!(", {robbed}")),
            _ if self.on_losing_side => {
                (FindingResult::Inconclusive, ", on the losing side, perhaps before the cut".into())
            }
            (_, Some(robbed)) => (FindingResult::Inconclusive, format!(", {robbed} and perhaps released in between")),
            _ if accepted.is_some_and(|limit| after > limit) => {
                (FindingResult::Violated, ", later than spec.expect.leaderTakeover".into())
            }
            (Certainty::MustNot, _) => (FindingResult::Degraded, String::new()),
            _ if accepted.is_some_and(|limit| until > limit) => {
                let how = ", perhaps later than spec.expect.leaderTakeover, by clocks and polls";
                (FindingResult::Inconclusive, how.into())
            }
            (Certainty::Must, _)
                if accepted.is_none() && after - self.late() > window.latest_seconds + self.renewed_late() =>
            {
                (FindingResult::Degraded, format!(", later than {words}"))
            }
            // Whoever is picked before others is so again when it is back.
            _ if self.moves > 1 && lease.is_coordinated() => {
                (FindingResult::Noted, format!(", moved {} times", self.moves))
            }
            _ if self.moves > 1 => (FindingResult::Degraded, format!(", moved {} times", self.moves)),
            _ if self.unplaced => (FindingResult::Inconclusive, ", and nobody knows where that runs".into()),
            _ if self.released => (FindingResult::Noted, ", after it had been released".into()),
            _ if until < window.earliest_seconds => {
                (FindingResult::Noted, format!(", before {words} by no more than clocks and polls"))
            }
            // Candidates wait anew after each renewal that they see.
            (Certainty::Must, _) if accepted.is_none() && after - self.late() > window.latest_seconds => {
                let renewed = format!("after a renewal that was seen {} after the cut", seconds(self.renewed_late()));
                (FindingResult::Noted, format!(", later than {words}, {renewed}"))
            }
            (Certainty::Must, _) if accepted.is_none() && until > window.latest_seconds => {
                (FindingResult::Noted, format!(", later than {words} by no more than clocks and polls"))
            }
            _ => (FindingResult::Held, String::new()),
        }
    }
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
