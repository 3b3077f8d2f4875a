//! The one place where a machine's clock becomes the operator's.

use crate::api::{self, ClockAnchor, Moment};

/// How the moments of one record are read.
#[derive(Debug)]
pub enum Clock<'a> {
    /// The operator's own wall clock: the reference of a run. Read directly, as another replica may have gone on with a record.
    Reference,
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

    pub fn is_known(&self) -> bool {
        !matches!(self, Clock::Unknown)
    }

    /// The operator's wall clock at `moment`, in seconds since the epoch `zero_us`, and the error in seconds.
    pub fn read(&self, moment: &Moment, zero_us: i64) -> (f64, f64) {
        let wall = |us: i64| (us - zero_us) as f64 / 1e6;
        let raw = moment.wall.0.as_microsecond();
        match self {
            Clock::Reference => (wall(raw), 0.0),
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
}
