//! Joins consecutive equal observations to spans, within a bound.

use crate::api::{Moment, Span, SpanKind};
use std::{collections::HashMap, time::Duration};

/// One look at one thing.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    pub subject: String,
    pub state: String,
    pub uid: Option<String>,
    pub id: Option<String>,
    pub node: Option<String>,
    pub detail: Option<String>,
    /// How many looks this one stands for beside itself: a kernel counts many packets between two looks.
    pub more: u32,
    /// The longest time since the last one of its series for which nobody needs to have looked, where it is not
    /// [`Recorder::MAX_GAP`].
    pub max_gap: Option<Duration>,
}

impl Observation {
    pub fn new(subject: impl Into<String>, state: impl Into<String>) -> Self {
        Observation { subject: subject.into(), state: state.into(), ..Default::default() }
    }
    pub fn detail(self, detail: impl Into<String>) -> Self {
        Observation { detail: Some(detail.into()), ..self }
    }
}

/// What identifies a series of observations: uid and id tell two pods or containers of one name apart.
type Series = (SpanKind, String, Option<String>, Option<String>);

/// Spans of one observer.
#[derive(Debug)]
pub struct Recorder {
    spans: Vec<Span>,
    latest: HashMap<Series, usize>,
    left_out: u32,
    bound: usize,
}

impl Recorder {
    /// A NodeRecord with this many spans stays under 700 KiB, well within etcd's 1.5 MiB for an object.
    pub const BOUND: usize = 2000;
    /// An observation later than this after the last one of its series begins a new span: the observer was away. Several times
    /// the slowest sampling period with its deadline (probes: every second, with a deadline of one).
    pub const MAX_GAP: Duration = Duration::from_secs(6);

    pub fn new() -> Self {
        Self::resume(Vec::new(), 0)
    }

    /// Goes on from what an earlier process of this observer wrote down.
    pub fn resume(spans: Vec<Span>, left_out: u32) -> Self {
        let latest = spans.iter().enumerate().map(|(i, s)| (series(s), i)).collect();
        Recorder { spans, latest, left_out, bound: Self::BOUND }
    }

    /// Ends every span: what comes next was seen by another machine or after a reboot, whose monotonic clock is another one.
    pub fn separate(&mut self) {
        self.latest.clear();
    }

    /// Takes one observation made at `at`.
    pub fn observe(&mut self, kind: SpanKind, at: Moment, seen: Observation) {
        let series = (kind, seen.subject.clone(), seen.uid.clone(), seen.id.clone());
        let max_gap_us = seen.max_gap.unwrap_or(Self::MAX_GAP).as_micros() as i64;
        if let Some(span) = self.latest.get(&series).map(|i| &mut self.spans[*i])
            && span.state == seen.state
            && span.node == seen.node
            && at.boot_us - span.to.boot_us <= max_gap_us
            && at.boot_us >= span.from.boot_us
        {
            span.to = at;
            span.samples = span.samples.saturating_add(1).saturating_add(seen.more);
            span.detail = seen.detail.or(span.detail.take());
            return;
        }
        self.push(Span {
            kind,
            subject: seen.subject,
            state: seen.state,
            from: at.clone(),
            to: at,
            samples: seen.more.saturating_add(1),
            uid: seen.uid,
            id: seen.id,
            node: seen.node,
            detail: seen.detail,
        });
    }

    /// Writes a span whose ends are known, such as a container's; a later one of the same series replaces it.
    pub fn put(&mut self, span: Span) {
        match self.latest.get(&series(&span)) {
            Some(i) => self.spans[*i] = span,
            None => self.push(span),
        }
    }

    fn push(&mut self, span: Span) {
        if self.spans.len() >= self.bound {
            self.left_out += 1;
            return;
        }
        self.latest.insert(series(&span), self.spans.len());
        self.spans.push(span);
    }

    /// Everything seen so far, and how much was left out.
    pub fn spans(&self) -> (&[Span], u32) {
        (&self.spans, self.left_out)
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

fn series(span: &Span) -> Series {
    (span.kind, span.subject.clone(), span.uid.clone(), span.id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::{apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};

    fn at(seconds: i64) -> Moment {
        Moment { boot_us: seconds * 1_000_000, wall: MicroTime(Timestamp::from_second(1_000_000 + seconds).unwrap()) }
    }
    fn look(recorder: &mut Recorder, seconds: i64, state: &str) {
        recorder.observe(SpanKind::Probe, at(seconds), Observation::new("w1/Kubelet", state));
    }

    #[test]
    fn equal_observations_make_one_span_and_a_change_makes_another() {
        let mut recorder = Recorder::new();
        for (seconds, state) in [(1, "open"), (2, "open"), (3, "silent"), (4, "silent"), (5, "open")] {
            look(&mut recorder, seconds, state);
        }
        let seen: Vec<_> =
            recorder.spans().0.iter().map(|s| (s.state.as_str(), s.from.boot_us, s.to.boot_us, s.samples)).collect();
        let s = 1_000_000;
        assert_eq!(seen, [("open", s, 2 * s, 2), ("silent", 3 * s, 4 * s, 2), ("open", 5 * s, 5 * s, 1)]);
    }

    #[test]
    fn a_gap_begins_a_new_span_because_nobody_looked() {
        let mut recorder = Recorder::new();
        look(&mut recorder, 1, "open");
        look(&mut recorder, 60, "open");
        assert_eq!(recorder.spans().0.len(), 2);
    }

    #[test]
    fn a_resumed_recorder_goes_on_with_the_same_span() {
        let mut recorder = Recorder::new();
        look(&mut recorder, 1, "open");
        let mut recorder = Recorder::resume(recorder.spans().0.to_vec(), 0);
        look(&mut recorder, 3, "open");
        assert_eq!(recorder.spans().0.len(), 1);
    }

    #[test]
    fn a_full_record_says_what_was_left_out() {
        let mut recorder = Recorder::new();
        for i in 0..=Recorder::BOUND {
            look(&mut recorder, i as i64, if i % 2 == 0 { "open" } else { "silent" });
        }
        assert_eq!((recorder.spans().0.len(), recorder.spans().1), (Recorder::BOUND, 1));
    }
}
