//! When the cut took effect on each node, against the common instant: the last datagram that got through, and the first that
//! did not.

use super::{
    Case, Said,
    datagrams::{EDGE, directions},
    pairs::seen_by,
};
use crate::{
    api::{Check, Finding, FindingResult, Onset, SpanKind},
    predict::count,
};
use std::collections::BTreeMap;

/// Stamps of the kernel are in its ticks, at most this long (`HZ` 100), seconds.
const TICK: f64 = 0.01;

/// Silence of one node, seconds after `cutAt`.
#[derive(Clone, Copy, Debug)]
struct Silence {
    /// The last datagram that was heard of anybody who is cut off.
    after: f64,
    /// The first one that is known to have been lost.
    before: f64,
    /// Of the node's clock against the operator's.
    clock_error: f64,
}

impl Silence {
    fn at(self) -> f64 {
        f64::midpoint(self.after, self.before)
    }
    fn error(self) -> f64 {
        (self.before - self.after).abs() / 2.0 + TICK + self.clock_error
    }
}

/// `None` where no node's silence was seen from both ends, or the cut lets packets through by chance.
pub fn onset(case: &Case<'_>) -> Option<Onset> {
    let all = silences(case);
    let first = all.values().min_by(|a, b| a.at().total_cmp(&b.at()))?;
    let last = all.values().max_by(|a, b| a.at().total_cmp(&b.at()))?;
    let us = |seconds: f64| (seconds * 1e6).round() as i64;
    Some(Onset {
        nodes: all.len() as u32,
        first_us: us(first.at()),
        last_us: us(last.at()),
        skew_us: us(last.at() - first.at()),
        error_us: us(all.values().map(|s| s.error()).fold(0.0, f64::max)),
    })
}

/// What the same says to people.
pub fn check(onset: Option<&Onset>) -> Vec<Finding> {
    let Some(onset) = onset else { return Vec::new() };
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
    let evidence = "stamps of the kernels: the last datagram that got through, and the first look at one that did not";
    vec![Said::new(result, observed, evidence).about(
        Check::FaultProven,
        "onset",
        "at cutAt, give or take the clocks' error",
    )]
}

fn silences<'a>(case: &Case<'a>) -> BTreeMap<&'a str, Silence> {
    let mut all: BTreeMap<&str, Silence> = BTreeMap::new();
    for direction in directions(case).into_iter().filter(|d| d.loss >= 1.0) {
        let Ok(track) = seen_by(case, direction.receiver) else { continue };
        let subject = direction.way.subject(direction.sender);
        // A second time of a cut that flaps is another matter.
        let near = case.edge(EDGE, track);
        let heard = track.series(SpanKind::Heard, &subject).iter().filter(|s| s.to <= near);
        let lost = track.series(SpanKind::Lost, &subject).iter().filter(|s| s.from >= -near);
        let after = heard.map(|s| (s.to, s.to_error)).max_by(|a, b| a.0.total_cmp(&b.0));
        let before = lost.map(|s| s.from).min_by(f64::total_cmp);
        let (Some((after, clock_error)), Some(before)) = (after, before) else { continue };
        let silence = all.entry(direction.receiver).or_insert(Silence { after, before, clock_error });
        *silence = Silence {
            after: silence.after.max(after),
            before: silence.before.min(before),
            clock_error: silence.clock_error.max(clock_error),
        };
    }
    // Both ends of each, in order as far as stamps tell, or nobody knows.
    all.retain(|_, s| s.before >= s.after - 2.0 * TICK);
    all
}
