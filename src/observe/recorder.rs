//! Joins consecutive equal observations to spans, within a bound.

use crate::api::{Moment, NodeRecordStatus, Span, SpanKind};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

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
    left_out_by_kind: BTreeMap<String, u32>,
    bound: Bound,
    /// Characters that the spans take packed, as far as that is known beforehand.
    packed: usize,
}

/// How much a record takes.
#[derive(Clone, Copy, Debug)]
enum Bound {
    Spans(usize),
    Packed(usize),
}

impl Recorder {
    /// A NodeRecord with this many spans stays under 700 KiB, well within etcd's 1.5 MiB for an object.
    pub const BOUND: usize = 2000;
    /// Characters of a packed record, by `packed_size`: some 12,000 spans of nodes, or 7,500 of pods. The API takes 1,000,000
    /// (`NodeRecordStatus::packed_spans`); pods at random times whose names and uids are random took 3 % more than is reckoned.
    pub const PACKED_BOUND: usize = 800_000;
    /// An observation later than this after the last one of its series begins a new span: the observer was away. Several times
    /// the slowest sampling period with its deadline (probes: every second, with a deadline of one).
    pub const MAX_GAP: Duration = Duration::from_secs(6);

    pub fn new() -> Self {
        Self::resume(NodeRecordStatus::default())
    }

    /// Goes on from what an earlier process of this observer wrote down.
    pub fn resume(earlier: NodeRecordStatus) -> Self {
        let spans = earlier.spans;
        Recorder {
            latest: spans.iter().enumerate().map(|(i, s)| (series(s), i)).collect(),
            packed: spans.iter().map(packed_size).sum(),
            spans,
            left_out: earlier.spans_left_out,
            left_out_by_kind: earlier.spans_left_out_by_kind,
            bound: Bound::Spans(Self::BOUND),
        }
    }

    /// The same with room for what fits when it is packed.
    #[must_use]
    pub fn for_packed(self) -> Self {
        Recorder { bound: Bound::Packed(Self::PACKED_BOUND), ..self }
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
        let packed = self.packed + packed_size(&span);
        let is_full = match self.bound {
            Bound::Spans(most) => self.spans.len() >= most,
            Bound::Packed(most) => packed > most,
        };
        if is_full {
            self.left_out += 1;
            *self.left_out_by_kind.entry(format!("{:?}", span.kind)).or_default() += 1;
            return;
        }
        self.packed = packed;
        self.latest.insert(series(&span), self.spans.len());
        self.spans.push(span);
    }

    /// Everything seen so far.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// A status that says all of it, and how much was left out.
    pub fn write(&self, status: NodeRecordStatus) -> NodeRecordStatus {
        NodeRecordStatus {
            spans: self.spans.clone(),
            spans_left_out: self.left_out,
            spans_left_out_by_kind: self.left_out_by_kind.clone(),
            ..status
        }
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

/// Characters that a span takes in a packed record, about: of its times and numbers what does not repeat, and half of its words. Spans of
/// 5,000 nodes, whose names come twice, took half of it.
fn packed_size(span: &Span) -> usize {
    const NUMBERS: usize = 32;
    let more = [&span.uid, &span.id, &span.node, &span.detail].into_iter().flatten();
    let words = [&span.subject, &span.state].into_iter().chain(more).map(String::len).sum::<usize>();
    NUMBERS + words / 2
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
            recorder.spans().iter().map(|s| (s.state.as_str(), s.from.boot_us, s.to.boot_us, s.samples)).collect();
        let s = 1_000_000;
        assert_eq!(seen, [("open", s, 2 * s, 2), ("silent", 3 * s, 4 * s, 2), ("open", 5 * s, 5 * s, 1)]);
    }

    #[test]
    fn a_gap_begins_a_new_span_because_nobody_looked() {
        let mut recorder = Recorder::new();
        look(&mut recorder, 1, "open");
        look(&mut recorder, 60, "open");
        assert_eq!(recorder.spans().len(), 2);
    }

    #[test]
    fn a_resumed_recorder_goes_on_with_the_same_span() {
        let mut recorder = Recorder::new();
        look(&mut recorder, 1, "open");
        let mut recorder = Recorder::resume(recorder.write(NodeRecordStatus::default()));
        look(&mut recorder, 3, "open");
        assert_eq!(recorder.spans().len(), 1);
    }

    #[test]
    fn a_full_record_says_what_was_left_out() {
        let mut recorder = Recorder::new();
        for i in 0..=Recorder::BOUND {
            look(&mut recorder, i as i64, if i % 2 == 0 { "open" } else { "silent" });
        }
        recorder.observe(SpanKind::Health, at(0), Observation::new("etcd", "ok"));
        look(&mut recorder, 9999, "refused");
        let written = recorder.write(NodeRecordStatus::default());
        assert_eq!((written.spans.len(), written.spans_left_out), (Recorder::BOUND, 3));
        let of_kinds = [("Health".to_owned(), 1), ("Probe".to_owned(), 2)];
        assert_eq!(written.spans_left_out_by_kind, BTreeMap::from(of_kinds));
        // Another process of this observer goes on counting.
        let mut recorder = Recorder::resume(written);
        recorder.observe(SpanKind::Health, at(1), Observation::new("etcd", "failing"));
        let written = recorder.write(NodeRecordStatus::default());
        assert_eq!((written.spans_left_out, written.spans_left_out_by_kind["Health"]), (4, 2));
    }

    /// Words as random as names of pods and their uids, always the same ones.
    struct Random(u64);

    impl Random {
        fn below(&mut self, most: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % most
        }
        fn word(&mut self, length: usize, letters: &[u8]) -> String {
            (0..length).map(|_| char::from(letters[self.below(letters.len() as u64) as usize])).collect()
        }
    }

    fn packed_length(recorder: &Recorder) -> usize {
        recorder.write(NodeRecordStatus::default()).packed().packed_spans.unwrap().len()
    }

    #[test]
    fn what_is_written_packed_has_room_for_5000_nodes() {
        let (mut recorder, mut random) = (Recorder::new().for_packed(), Random(1));
        for i in 0..5000 {
            let address = [0; 3].map(|_| random.below(256).to_string()).join("-");
            let node = format!("ip-10-{address}-{i}.eu-central-1.compute.internal");
            let since = Observation::new(&node, "True").detail(format!("since=2026-11-22T20:14:{:02}Z", i % 60));
            recorder.observe(SpanKind::Node, at(i), since);
            recorder.observe(SpanKind::Taint, at(i), Observation::new(&node, "none"));
        }
        let written = recorder.write(NodeRecordStatus::default());
        assert_eq!((written.spans.len(), written.spans_left_out), (10_000, 0));
        assert!(packed_length(&recorder) < 1_000_000);
    }

    #[test]
    fn a_record_that_is_full_fits_packed_whatever_its_words() {
        let (mut recorder, mut random) = (Recorder::new().for_packed(), Random(1));
        let (letters, digits) = (b"bcdfghjklmnpqrstvwxz2456789", b"0123456789abcdef");
        while recorder.left_out == 0 {
            let at = Moment { boot_us: random.below(700_000_000) as i64, ..at(random.below(700) as i64) };
            let set = format!("service-{}-{}", random.below(400), random.word(10, letters));
            let pod = format!("team-{}/{set}-{}", random.below(40), random.word(5, letters));
            let seen = Observation {
                uid: Some(random.word(36, digits)),
                node: Some(format!("ip-10-0-{}-{}.compute.internal", random.below(256), random.below(256))),
                ..Observation::new(pod, "Running/Ready").detail(format!("ReplicaSet/{set}"))
            };
            recorder.observe(SpanKind::Pod, at, seen);
        }
        assert!(recorder.spans.len() > 3 * Recorder::BOUND, "{}", recorder.spans.len());
        let length = packed_length(&recorder);
        // By the definition of `packedSpans`.
        assert!(length <= 1_000_000, "{length}");
    }
}
