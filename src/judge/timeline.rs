//! All records on one time line: seconds after the cut by the operator's wall clock, each with its error.

use super::clock::{Clock, epochs_us};
use crate::api::{Moment, NodeRecord, NodeRecordStatus, Schedule, Span, SpanKind};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use std::collections::BTreeMap;

/// One span on the time line.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub span: &'a Span,
    /// Seconds after the cut.
    pub from: f64,
    pub to: f64,
    /// Error of each against the operator's clock, seconds; infinite where the clocks were never compared.
    pub from_error: f64,
    pub to_error: f64,
}

impl Seen<'_> {
    pub fn is(&self, state: &str) -> bool {
        self.span.state == state
    }
    pub fn meets(&self, from: f64, to: f64) -> bool {
        self.from <= to && self.to >= from && from <= to
    }
    /// From when to when it was certainly so, seconds after the cut.
    pub fn certain(&self) -> (f64, f64) {
        (self.from + self.from_error, self.to - self.to_error)
    }
}

/// One observer's record on the time line.
#[derive(Debug)]
pub struct Track<'a> {
    /// As evidence names it.
    pub who: String,
    pub node: &'a str,
    pub status: &'a NodeRecordStatus,
    /// Largest error of its spans, seconds.
    pub error: f64,
    /// How far the record is complete, seconds after the cut by its own wall clock.
    pub until: Option<f64>,
    clock: Clock<'a>,
    zero_us: i64,
    series: BTreeMap<SpanKind, BTreeMap<&'a str, Vec<Seen<'a>>>>,
}

impl<'a> Track<'a> {
    fn new(record: &'a NodeRecord, who: String, clock: Clock<'a>, zero_us: i64) -> Option<Self> {
        // Whoever could not unpack its spans has no record: with none it would seem that nothing was seen.
        let status = record.status.as_ref().filter(|status| status.packed_spans.is_none())?;
        let mut series: BTreeMap<SpanKind, BTreeMap<&'a str, Vec<Seen<'a>>>> = BTreeMap::new();
        let mut error: f64 = if clock.is_known() { 0.0 } else { f64::INFINITY };
        for span in &status.spans {
            let ((from, from_error), (to, to_error)) = (clock.read(&span.from, zero_us), clock.read(&span.to, zero_us));
            let seen = Seen { span, from, to: to.max(from), from_error, to_error };
            // A container may have started days before the anchors; that is no reason to doubt the run's own spans.
            if span.kind != SpanKind::Container {
                error = error.max(from_error).max(to_error);
            }
            series.entry(span.kind).or_default().entry(span.subject.as_str()).or_default().push(seen);
        }
        series
            .values_mut()
            .flat_map(BTreeMap::values_mut)
            .for_each(|all| all.sort_by(|a, b| a.from.total_cmp(&b.from)));
        let mut track = Track { who, node: &record.spec.node, status, error, until: None, clock, zero_us, series };
        track.until = status.observed_until.as_ref().map(|at| track.after_cut(at));
        Some(track)
    }

    /// Seconds after the cut of what any machine's wall clock showed: as good as their clocks agree.
    pub fn after_cut(&self, at: &MicroTime) -> f64 {
        (at.0.as_microsecond() - self.zero_us) as f64 / 1e6
    }

    /// Whether its moments can be compared with the operator's.
    pub fn clock_known(&self) -> bool {
        self.clock.is_known()
    }

    /// What this machine's wall clock showed when somebody else read it: seconds after the cut, and the error.
    pub fn read_wall(&self, at: &MicroTime) -> Option<(f64, f64)> {
        let (least, most) = epochs_us(self.status)?;
        let moment = Moment { boot_us: at.0.as_microsecond() - least, wall: at.clone() };
        let (at, error) = self.clock.read(&moment, self.zero_us);
        Some((at, error + (most - least) as f64 / 1e6))
    }

    /// When a look was, seconds after the cut, how far this machine's wall clock was ahead then, and the error of both.
    pub fn ahead(&self, look: &Moment) -> (f64, f64, f64) {
        let (at, error) = self.clock.read(look, self.zero_us);
        (at, self.after_cut(&look.wall) - at, error)
    }

    /// Spans of one subject, by time.
    pub fn series(&self, kind: SpanKind, subject: &str) -> &[Seen<'a>] {
        self.series.get(&kind).and_then(|all| all.get(subject)).map_or(&[], Vec::as_slice)
    }
    /// Spans of one kind.
    pub fn of_kind(&self, kind: SpanKind) -> impl Iterator<Item = &Seen<'a>> {
        self.series.get(&kind).into_iter().flat_map(|all| all.values().flatten())
    }
}

/// The run on one time line.
#[derive(Debug)]
pub struct Timeline<'a> {
    /// Length of the cut, seconds: the heal's time.
    pub heal: f64,
    /// End of watching, seconds after the cut.
    pub end: f64,
    pub operator: Option<Track<'a>>,
    agents: BTreeMap<&'a str, Track<'a>>,
}

impl<'a> Timeline<'a> {
    pub fn new(schedule: &Schedule, operator: Option<&'a NodeRecord>, agents: &'a [NodeRecord]) -> Self {
        let zero_us = schedule.cut_at.0.as_microsecond();
        let after_cut = |t: &MicroTime| (t.0.as_microsecond() - zero_us) as f64 / 1e6;
        let agent = |record: &'a NodeRecord| {
            let clock = record.status.as_ref().and_then(|s| s.clock.as_ref()).map_or(Clock::Unknown, Clock::compared);
            let track = Track::new(record, record.spec.node.clone(), clock, zero_us)?;
            Some((record.spec.node.as_str(), track))
        };
        Timeline {
            heal: after_cut(&schedule.heal_at),
            end: after_cut(schedule.observed_until.as_ref().unwrap_or(&schedule.recover_by)),
            operator: operator.and_then(|r| Track::new(r, "operator".into(), reference(r, agents), zero_us)),
            agents: agents.iter().filter_map(agent).collect(),
        }
    }

    pub fn agent(&self, node: &str) -> Option<&Track<'a>> {
        self.agents.get(node)
    }
    pub fn agents(&self) -> impl Iterator<Item = &Track<'a>> {
        self.agents.values()
    }
}

/// The operator's own clock.
fn reference<'a>(operator: &NodeRecord, agents: &'a [NodeRecord]) -> Clock<'a> {
    let clocks: Vec<_> = agents.iter().filter_map(|r| r.status.as_ref()?.clock.as_ref()).collect();
    operator.status.as_ref().map_or(Clock::Unknown, |status| Clock::of_operator(status, &clocks))
}

/// Seconds for which two things certainly went on at the same time, and for which they may have at the most: each end moved by its own
/// error, inwards and outwards (theory §8.1). Below zero where they did not. Of two things that one clock has timed it tells the order.
pub fn overlap(a: &Seen<'_>, b: &Seen<'_>, one_clock: bool) -> (f64, f64) {
    let error = |error: f64| if one_clock { 0.0 } else { error };
    let with = |sign: f64| {
        let start = |s: &Seen<'_>| s.from + sign * error(s.from_error);
        let end = |s: &Seen<'_>| s.to - sign * error(s.to_error);
        end(a).min(end(b)) - start(a).max(start(b))
    };
    (with(1.0), with(-1.0))
}

/// Times that overlap as one, in order.
pub fn merged(mut times: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut all: Vec<(f64, f64)> = Vec::new();
    for (from, to) in times {
        match all.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => all.push((from, to)),
        }
    }
    all
}

/// What is left of some times without their edges, seconds.
pub fn within(times: impl IntoIterator<Item = (f64, f64)>, edge: f64) -> Vec<(f64, f64)> {
    times.into_iter().map(|(from, to)| (from + edge, to - edge)).filter(|(from, to)| from < to).collect()
}

/// What was last seen before the cut.
pub fn before_cut<'s, 'a>(spans: &'s [Seen<'a>]) -> Option<&'s Seen<'a>> {
    spans.iter().rfind(|s| s.from <= 0.0)
}

/// The longest time between `from` and `to` of which no span says anything, seconds.
pub fn longest_hole<'s, 'a: 's>(spans: impl IntoIterator<Item = &'s Seen<'a>>, from: f64, to: f64) -> f64 {
    longest_hole_at(spans, from, to).1
}

/// The same, and before it when that time begins.
pub fn longest_hole_at<'s, 'a: 's>(spans: impl IntoIterator<Item = &'s Seen<'a>>, from: f64, to: f64) -> (f64, f64) {
    longest_between(spans.into_iter().map(|s| (s.from, s.to)).collect(), from, to)
}

/// The same for spans of one subject, without the times for which nobody looked and the span after them vouches all the same.
pub fn longest_unknown(spans: &[Seen<'_>], from: f64, to: f64, vouches: impl Fn(&Seen<'_>, &Seen<'_>) -> bool) -> f64 {
    let seen = spans.iter().map(|s| (s.from, s.to));
    let vouched = spans.windows(2).filter(|two| vouches(&two[0], &two[1])).map(|two| (two[0].to, two[1].from));
    longest_between(seen.chain(vouched).collect(), from, to).1
}

/// Whether an object that says how often or when it changed last says the same in both: then it did not change in between.
pub fn unchanged(before: &Seen<'_>, after: &Seen<'_>) -> bool {
    let said = |s: &Seen<'_>| (s.span.state.clone(), s.span.detail.clone());
    after.span.detail.is_some() && said(before) == said(after)
}

/// When the longest time between `from` and `to` begins of which nothing is known, and how long it is, seconds.
pub fn longest_between(mut known: Vec<(f64, f64)>, from: f64, to: f64) -> (f64, f64) {
    known.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut at, mut hole) = (from, (from, 0.0_f64));
    // And what is left at the end.
    for (start, end) in known.into_iter().chain([(to, to)]) {
        let length = start.min(to) - at;
        if length > hole.1 {
            hole = (at, length);
        }
        at = at.max(end);
    }
    hole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::fixture::span;

    fn seen(span: &Span, (from, to): (f64, f64), error: f64) -> Seen<'_> {
        Seen { span, from, to, from_error: error, to_error: error }
    }

    #[test]
    fn ends_are_moved_inwards_to_be_sure_and_outwards_to_be_possible() {
        let span = span(0.0, SpanKind::Container, "a/b/c", "running", 0.0, 1.0);
        let both = |a, b, error| {
            let (definite, possible) = overlap(&seen(&span, a, error), &seen(&span, b, 2.0 * error), false);
            ((definite * 1e3).round() / 1e3, (possible * 1e3).round() / 1e3)
        };
        // The later start and the earlier end count, each with the error of its own clock.
        assert_eq!(both((0.0, 10.0), (4.0, 20.0), 0.1), (5.7, 6.3));
        assert_eq!(both((0.0, 10.0), (4.0, 8.0), 0.1), (3.6, 4.4));
        assert_eq!(both((0.0, 10.0), (9.9, 20.0), 0.1), (-0.2, 0.4), "neither proven nor excluded");
        assert_eq!(both((0.0, 10.0), (11.0, 20.0), 0.1), (-1.3, -0.7));
        // A start long ago is known badly, and that is no doubt of what came later.
        let (old, new) = (Seen { from_error: 500.0, ..seen(&span, (-1e6, 10.0), 0.1) }, seen(&span, (4.0, 20.0), 0.1));
        assert!((overlap(&old, &new, false).0 - 5.8).abs() < 1e-9);
        let unknown = seen(&span, (0.0, 10.0), f64::INFINITY);
        let (definite, possible) = overlap(&unknown, &new, false);
        assert!(definite == f64::NEG_INFINITY && (possible - 16.2).abs() < 1e-9, "{definite} {possible}");
        assert_eq!(overlap(&unknown, &new, true), (6.0, 6.0), "one clock");
    }

    #[test]
    fn times_that_touch_are_one() {
        assert_eq!(merged(vec![(5.0, 6.0), (0.0, 2.0), (1.0, 4.0), (4.0, 4.5)]), [(0.0, 4.5), (5.0, 6.0)]);
    }
}
