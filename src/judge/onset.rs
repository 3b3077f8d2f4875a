//! When the cut took effect on each node, against the common instant: the last datagram that got through, and the first that
//! did not. Where the cut is not about datagrams, the same of fresh connections, less exactly.

use super::{
    Case, Said,
    cite::cite,
    datagrams::{self, directions},
    pairs::seen_by,
    probes,
    timeline::{Seen, Track},
};
use crate::{
    api::{Check, Finding, FindingResult, Onset, SpanKind},
    fault::Effect,
    predict::count,
};
use std::collections::BTreeMap;

/// Stamps of the kernel are in its ticks, at most this long (`HZ` 100), seconds.
const TICK: f64 = 0.01;

/// Silence of one node.
struct Silence<'c, 'a> {
    track: &'c Track<'a>,
    /// Where anybody who is cut off got through for the last time.
    through: &'c Seen<'a>,
    /// Where somebody is first known not to have.
    lost: &'c Seen<'a>,
    /// Of the node's clock against the operator's, seconds.
    clock_error: f64,
}

impl Silence<'_, '_> {
    /// Seconds after `cutAt`.
    fn at(&self) -> f64 {
        f64::midpoint(self.through.to, self.lost.from)
    }
    /// Seconds.
    fn error(&self) -> f64 {
        (self.lost.from - self.through.to).abs() / 2.0 + TICK + self.clock_error
    }
    fn evidence(&self) -> String {
        format!("{}; {}", cite(self.track, self.through), cite(self.track, self.lost))
    }
}

/// When the cut took effect, and both looks of the node that was furthest from `cutAt`.
pub struct Told {
    pub onset: Onset,
    evidence: String,
}

/// `None` where no node's silence was seen from both ends, or the cut lets packets through by chance.
pub fn onset(case: &Case<'_>) -> Option<Told> {
    let by_datagrams = by_datagrams(case);
    let Silences(all) = if by_datagrams.0.is_empty() { by_probes(case) } else { by_datagrams };
    let first = all.values().min_by(|a, b| a.at().total_cmp(&b.at()))?;
    let last = all.values().max_by(|a, b| a.at().total_cmp(&b.at()))?;
    let furthest = if first.at().abs() > last.at().abs() { first } else { last };
    let us = |seconds: f64| (seconds * 1e6).round() as i64;
    let onset = Onset {
        nodes: all.len() as u32,
        first_us: us(first.at()),
        last_us: us(last.at()),
        skew_us: us(last.at() - first.at()),
        error_us: us(all.values().map(Silence::error).fold(0.0, f64::max)),
    };
    Some(Told { onset, evidence: furthest.evidence() })
}

/// What the same says to people.
pub fn check(told: Option<&Told>) -> Vec<Finding> {
    let Some(Told { onset, evidence }) = told else { return Vec::new() };
    let ms = |us: i64| format!("{:.1} ms", us as f64 / 1e3);
    let observed = format!(
        "{} fell silent {} to {} after cutAt, {} apart, ± {}",
        count(onset.nodes as usize, "node"),
        ms(onset.first_us),
        ms(onset.last_us),
        ms(onset.skew_us),
        ms(onset.error_us)
    );
    // Every node cuts by its own clock, and this is as far as these are known.
    let within = onset.first_us.abs().max(onset.last_us.abs()) <= onset.error_us;
    let result = if within { FindingResult::Held } else { FindingResult::Noted };
    let said = Said::new(result, observed, evidence).tolerating(format!("± {}", ms(onset.error_us)));
    vec![said.about(Check::FaultProven, "onset", "at cutAt, give or take the clocks' error")]
}

fn by_datagrams<'c, 'a>(case: &'c Case<'a>) -> Silences<'c, 'a> {
    let mut all = Silences::default();
    for direction in directions(case).into_iter().filter(|d| d.loss >= 1.0) {
        let Ok(track) = seen_by(case, direction.receiver) else { continue };
        let subject = direction.way.subject(direction.sender);
        // A second time of a cut that flaps is another matter.
        let near = case.edge(datagrams::EDGE, track);
        let heard = track.series(SpanKind::Heard, &subject).iter().filter(|s| s.to <= near);
        let lost = track.series(SpanKind::Lost, &subject).iter().filter(|s| s.from >= -near);
        all.add(direction.receiver, track, heard, lost);
    }
    all.known()
}

fn by_probes<'c, 'a>(case: &'c Case<'a>) -> Silences<'c, 'a> {
    let plan = case.evidence.plan;
    let mut all = Silences::default();
    if !matches!(plan.pattern.effect, Effect::Drop | Effect::Reject) {
        return all;
    }
    for node in plan.agents() {
        let Ok(track) = seen_by(case, node) else { continue };
        let near = case.edge(probes::EDGE, track);
        for target in case.places.targets_of(node).iter().filter(|t| case.places.breaks_tcp(node, t)) {
            let spans = track.series(SpanKind::Probe, &target.subject());
            let through = |s: &&Seen<'_>| s.is("open") || (s.is("refused") && plan.pattern.effect == Effect::Drop);
            let (open, other): (Vec<&Seen<'_>>, Vec<&Seen<'_>>) = spans.iter().partition(through);
            let open = open.into_iter().filter(|s| s.to <= near);
            all.add(node, track, open, other.into_iter().filter(|s| s.from >= -near));
        }
    }
    all.known()
}

/// Of each node what is known of all that it no longer hears.
#[derive(Default)]
struct Silences<'c, 'a>(BTreeMap<&'a str, Silence<'c, 'a>>);

impl<'c, 'a> Silences<'c, 'a> {
    /// One who was cut off: spans of getting through to this node, and of not getting through, in its own record.
    fn add(
        &mut self,
        node: &'a str,
        track: &'c Track<'a>,
        through: impl Iterator<Item = &'c Seen<'a>>,
        lost: impl Iterator<Item = &'c Seen<'a>>,
    ) {
        let through = through.max_by(|a, b| a.to.total_cmp(&b.to));
        let lost = lost.min_by(|a, b| a.from.total_cmp(&b.from));
        let (Some(through), Some(lost)) = (through, lost) else { return };
        let clock_error = through.to_error;
        let silence = self.0.entry(node).or_insert(Silence { track, through, lost, clock_error });
        if through.to > silence.through.to {
            silence.through = through;
        }
        if lost.from < silence.lost.from {
            silence.lost = lost;
        }
        silence.clock_error = silence.clock_error.max(clock_error);
    }

    /// Both ends of each, in order as far as stamps tell, or nobody knows.
    fn known(mut self) -> Self {
        self.0.retain(|_, s| s.lost.from >= s.through.to - 2.0 * TICK);
        self
    }
}
