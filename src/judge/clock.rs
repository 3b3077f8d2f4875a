//! The one place where a machine's clock becomes the operator's.

use crate::api::{self, ClockAnchor, Moment, NodeRecordStatus};
use std::collections::BTreeSet;

/// How the moments of one record are read.
#[derive(Debug)]
pub enum Clock<'a> {
    /// The operator's own wall clock: the reference of a run. `error`, seconds: by how much it may be another replica's, or have
    /// been stepped.
    Reference { error: f64 },
    /// Compared with the operator's by four timestamps.
    Compared { anchors: &'a [ClockAnchor], drift: f64 },
    /// Never compared, or the comparisons contradict each other: the error is infinite, so that nothing is ever definite.
    Unknown,
}

impl<'a> Clock<'a> {
    /// A machine's clock from what was measured of it.
    pub fn compared(clock: &'a api::Clock) -> Self {
        let (anchors, drift) = (&clock.anchors[..], clock.drift());
        let agree = |pair: &[ClockAnchor]| pair[1].agrees_with(&pair[0], drift);
        match anchors {
            [] => Clock::Unknown,
            all if !all.windows(2).all(agree) => Clock::Unknown,
            anchors => Clock::Compared { anchors, drift },
        }
    }

    /// The operator's own clock, from its record and from what the agents measured of it.
    ///
    /// The boot clock and the wall clock of one machine go on side by side. Where they do all through the record, one machine wrote
    /// it, and its wall clock is the reference itself. Else another replica went on, or the clock was stepped: then two wall clocks
    /// are in the record, and how far they may be apart is known only from agents that were compared with both.
    pub fn of_operator(record: &NodeRecordStatus, agents: &[&'a api::Clock]) -> Self {
        let spread_us = epochs_us(record).map_or(0, |(least, most)| most - least);
        let compared = agents.iter().flat_map(|c| &c.anchors).map(|a| a.clock.as_str());
        // Whoever wrote last, too: two machines that were started at the same moment look like one.
        let machines: BTreeSet<&str> = compared.chain(record.boot_id.as_deref()).collect();
        if spread_us <= SLEWED_US && machines.len() <= 1 {
            return Clock::Reference { error: spread_us as f64 / 1e6 };
        }
        let between = |clock: &&api::Clock| largest_difference_us(&clock.anchors, clock.drift());
        match agents.iter().filter_map(between).min() {
            Some(error_us) => Clock::Reference { error: error_us as f64 / 1e6 },
            None => Clock::Unknown,
        }
    }

    pub fn is_known(&self) -> bool {
        !matches!(self, Clock::Unknown)
    }

    /// The operator's wall clock at `moment`, in seconds since the epoch `zero_us`, and the error in seconds.
    pub fn read(&self, moment: &Moment, zero_us: i64) -> (f64, f64) {
        let wall = |us: i64| (us - zero_us) as f64 / 1e6;
        let raw = moment.wall.0.as_microsecond();
        match self {
            Clock::Reference { error } => (wall(raw), *error),
            Clock::Unknown => (wall(raw), f64::INFINITY),
            Clock::Compared { anchors, drift } => anchors
                .iter()
                .map(|a| {
                    // On the monotonic clock from the anchor on, so that a stepped wall clock changes nothing.
                    let since_us = moment.boot_us - a.at.boot_us;
                    let at = wall(a.at.wall.0.as_microsecond() + a.offset_us + since_us);
                    (at, a.error_us.max(0) as f64 / 1e6 + drift * (since_us as f64 / 1e6).abs())
                })
                .min_by(|a, b| a.1.total_cmp(&b.1))
                .unwrap_or((wall(raw), f64::INFINITY)),
        }
    }
}

/// From a record's boot clock to its wall clock, least and most, microseconds. Where they differ the wall clock was slewed or stepped, or
/// two machines wrote the record. `None` where it has no spans.
pub fn epochs_us(record: &NodeRecordStatus) -> Option<(i64, i64)> {
    let moments = record.spans.iter().flat_map(|s| [&s.from, &s.to]);
    moments.map(|m| m.wall.0.as_microsecond() - m.boot_us).fold(None, |all: Option<(i64, i64)>, at| {
        Some(all.map_or((at, at), |(least, most)| (least.min(at), most.max(at))))
    })
}

/// How much a wall clock may move against the boot clock within a run without having been stepped, microseconds: what the kernel
/// slews at most (500 ppm) in two hours and a bit, the longest run and its recovery.
const SLEWED_US: i64 = 4_000_000;

/// How far the clocks of two machines that this one was compared with may be apart, microseconds. `None` where it was compared
/// with one only.
fn largest_difference_us(anchors: &[ClockAnchor], drift: f64) -> Option<i64> {
    let pairs = anchors.iter().enumerate().flat_map(|(i, a)| anchors[i + 1..].iter().map(move |b| (a, b)));
    pairs.filter(|(a, b)| a.clock != b.clock).map(|(a, b)| a.largest_difference_us(b, drift)).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::{apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};

    fn moment(boot_s: i64, wall_s: i64) -> Moment {
        let wall = MicroTime(Timestamp::from_second(wall_s).unwrap());
        Moment { boot_us: boot_s * 1_000_000, wall }
    }
    fn anchor(boot_s: i64, wall_s: i64, offset_ms: i64) -> ClockAnchor {
        ClockAnchor { at: moment(boot_s, wall_s), offset_us: offset_ms * 1000, error_us: 5000, clock: String::new() }
    }
    fn synchronised<const N: usize>(anchors: [ClockAnchor; N]) -> api::Clock {
        api::Clock { synchronised: true, anchors: anchors.into(), ..Default::default() }
    }

    #[test]
    fn the_nearest_anchor_counts_and_the_error_grows_away_from_it() {
        let mut clock = synchronised([anchor(0, 1000, 250), anchor(600, 1600, 250)]);
        let read = |clock: &api::Clock| Clock::compared(clock).read(&moment(300, 1300), 1_000_000_000);
        let (at, error) = read(&clock);
        assert!((at - 300.25).abs() < 1e-6 && (error - 0.065).abs() < 1e-6, "{at} {error}");
        clock.synchronised = false;
        assert!((read(&clock).1 - 0.155).abs() < 1e-6, "one that nobody disciplines runs away faster");
    }

    #[test]
    fn a_stepped_wall_clock_changes_nothing() {
        let clock = synchronised([anchor(0, 1000, 0)]);
        let (at, _) = Clock::compared(&clock).read(&moment(10, 5000), 1_000_000_000);
        assert!((at - 10.0).abs() < 1e-6);
    }

    #[test]
    fn contradicting_or_missing_anchors_leave_it_open() {
        assert!(!Clock::compared(&synchronised([anchor(0, 1000, 0), anchor(600, 1600, 400)])).is_known());
        assert_eq!(Clock::compared(&synchronised([])).read(&moment(10, 1010), 1_000_000_000), (10.0, f64::INFINITY));
    }

    fn record(moments: &[Moment]) -> NodeRecordStatus {
        let span = |m: &Moment| api::Span::bare(api::SpanKind::Node, "w1", "True", m.clone(), m.clone());
        NodeRecordStatus { spans: moments.iter().map(span).collect(), ..Default::default() }
    }
    fn of_machine(anchor: ClockAnchor, machine: &str) -> ClockAnchor {
        ClockAnchor { clock: machine.into(), ..anchor }
    }
    fn error(clock: &Clock<'_>) -> f64 {
        clock.read(&moment(20, 1020), 1_000_000_000).1
    }

    #[test]
    fn one_operators_wall_clock_is_the_reference_and_what_it_was_slewed_is_its_error() {
        let agent = synchronised([anchor(0, 1000, 250)]);
        let steady = record(&[moment(10, 1010), moment(90, 1090)]);
        assert_eq!(error(&Clock::of_operator(&steady, &[&agent])), 0.0);
        let slewed = record(&[moment(10, 1010), moment(90, 1091)]);
        assert_eq!(error(&Clock::of_operator(&slewed, &[&agent])), 1.0);
        let stepped = record(&[moment(10, 1010), moment(90, 4690)]);
        assert!(
            !Clock::of_operator(&stepped, &[&agent]).is_known(),
            "nobody can say which of them the schedule went by"
        );
    }

    #[test]
    fn after_a_failover_the_two_wall_clocks_are_as_far_apart_as_agents_leave_open() {
        // The second machine booted an hour later.
        let two = record(&[moment(10, 1010), moment(90 - 3600, 1090)]);
        let both = synchronised([of_machine(anchor(0, 1000, 250), "b1"), of_machine(anchor(100, 1100, 265), "b2")]);
        let one = synchronised([of_machine(anchor(0, 1000, 250), "b1")]);
        let clock = Clock::of_operator(&two, &[&one, &both]);
        // 15 ms seen between them, 5 ms of error each, and 100 s of drift.
        assert!((error(&clock) - 0.045).abs() < 1e-6, "{}", error(&clock));
        assert!(!Clock::of_operator(&two, &[&one]).is_known());
        assert!(!Clock::of_operator(&two, &[]).is_known());
        // Started at the same moment, and the agent was compared with the one that did not write last.
        let alike = record(&[moment(10, 1010), moment(90, 1090)]);
        let of = |boot_id: &str| {
            let record = NodeRecordStatus { boot_id: Some(boot_id.into()), ..alike.clone() };
            Clock::of_operator(&record, &[&one]).is_known()
        };
        assert_eq!((of("b1"), of("b2")), (true, false));
    }
}
