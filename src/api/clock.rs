//! What is known of a machine's clock: four timestamps through the objects, and what several of them say together.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Share by which a clock may run away from another one. Synchronised: Spanner's worst case (OSDI 2012, section 3). Free-running:
/// the largest error that the kernel's own clock discipline corrects (`MAXFREQ` of adjtimex(2), 500 ppm).
const DRIFT_SYNCHRONISED: f64 = 200e-6;
const DRIFT_FREE: f64 = 500e-6;

/// What a machine says of its clock, and what was measured.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Clock {
    /// adjtimex(2): whether the kernel counts its clock as synchronised. Where it does not, the clock drifts freely.
    pub synchronised: bool,
    /// adjtimex(2) `maxerror`, in microseconds.
    pub max_error_us: i64,
    /// The agent's half of the four timestamps that are still to be answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ping: Option<ClockPing>,
    /// Completed measurements, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub anchors: Vec<ClockAnchor>,
    /// For the printer column: offset and error of the best measurement.
    #[serde(default)]
    pub summary: String,
}

/// First timestamp: the agent asks.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClockPing {
    pub sequence: u32,
    /// The agent's wall clock when it sent this.
    pub sent: MicroTime,
}

/// Second and third timestamps: the operator answers.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClockReply {
    pub sequence: u32,
    /// The operator's wall clock when it saw the ping.
    pub received: MicroTime,
    /// The operator's wall clock when it sent this.
    pub answered: MicroTime,
    /// Whose clock that is: the boot id of the machine. Another replica of the operator may be on another one.
    #[serde(default)]
    pub clock: String,
}

/// One completed measurement: the operator's wall clock is this machine's plus `offset_us`, give or take `error_us`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClockAnchor {
    pub at: super::Moment,
    pub offset_us: i64,
    pub error_us: i64,
    /// With whose clock it was compared.
    #[serde(default)]
    pub clock: String,
}

impl Clock {
    /// Share by which this clock may run away from the operator's.
    pub fn drift(&self) -> f64 {
        if self.synchronised { DRIFT_SYNCHRONISED } else { DRIFT_FREE }
    }

    /// All measurements together, at the time of the newest; those before a step of the operator's clock know nothing of it.
    pub fn known(&self) -> Option<ClockAnchor> {
        let mut newest_first = self.anchors.iter().rev();
        let newest = newest_first.next()?.clone();
        let (Ok(known) | Err(known)) =
            newest_first.try_fold(newest, |known, older| known.narrowed_by(older, self.drift()).ok_or(known));
        Some(known)
    }
}

impl ClockAnchor {
    /// What both measurements say together, where both are of the same clock, at the time of this one, of a clock that drifts by
    /// this share. The slow half of one round trip is often the fast half of another, so this is better than the best of them.
    ///
    /// `None` where they contradict each other, as they do when the operator's clock was stepped in between. A step of this
    /// machine's own wall clock changes nothing: they are compared along the monotonic one.
    pub fn narrowed_by(&self, other: &ClockAnchor, drift: f64) -> Option<ClockAnchor> {
        let (low, high) = self.common(other, drift).filter(|_| self.clock == other.clock)?;
        let (offset_us, error_us) = ((low + high).div_euclid(2), (high - low + 1) / 2);
        Some(ClockAnchor { offset_us, error_us, ..self.clone() })
    }

    /// Whether both can be true.
    pub fn agrees_with(&self, other: &ClockAnchor, drift: f64) -> bool {
        self.common(other, drift).is_some()
    }

    /// How far the two clocks that this one was compared with may be apart at the time of this measurement, microseconds.
    pub fn largest_difference_us(&self, other: &ClockAnchor, drift: f64) -> i64 {
        let (offset_us, error_us) = other.carried_to(self, drift);
        (self.offset_us - offset_us).abs() + self.error_us + error_us
    }

    /// The lowest and the highest offset that both allow at the time of this one.
    fn common(&self, other: &ClockAnchor, drift: f64) -> Option<(i64, i64)> {
        let (offset_us, error_us) = other.carried_to(self, drift);
        let low = (self.offset_us - self.error_us).max(offset_us - error_us);
        let high = (self.offset_us + self.error_us).min(offset_us + error_us);
        (low <= high).then_some((low, high))
    }

    /// What this measurement says of the offset at the time of another one, and the error by then, both in microseconds.
    fn carried_to(&self, then: &ClockAnchor, drift: f64) -> (i64, i64) {
        let wall_us = |a: &ClockAnchor| a.at.wall.0.as_microsecond();
        let since_us = then.at.boot_us - self.at.boot_us;
        let offset_us = wall_us(self) + self.offset_us + since_us - wall_us(then);
        (offset_us, self.error_us + (since_us.unsigned_abs() as f64 * drift).ceil() as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Moment;
    use k8s_openapi::jiff::Timestamp;
    use proptest::prelude::*;

    fn anchor(boot_us: i64, wall_us: i64, offset_us: i64, error_us: i64) -> ClockAnchor {
        let wall = MicroTime(Timestamp::from_microsecond(wall_us).unwrap());
        ClockAnchor { at: Moment { boot_us, wall }, offset_us, error_us, clock: "b1".into() }
    }

    #[test]
    fn the_slow_half_of_one_round_trip_is_the_fast_half_of_another() {
        // Both took 400 ms: once nearly all of it there, once nearly all of it back.
        let (there, back) = (anchor(0, 0, 190_000, 200_000), anchor(1_000_000, 1_000_000, -190_000, 200_000));
        let both = back.narrowed_by(&there, 500e-6).unwrap();
        assert_eq!((both.at, both.offset_us, both.error_us), (back.at, -250, 10_250));
    }

    #[test]
    fn what_is_of_two_clocks_narrows_nothing() {
        let (one, other) = (anchor(0, 0, 0, 1000), ClockAnchor { clock: "b2".into(), ..anchor(0, 0, 1500, 1000) });
        assert_eq!(one.narrowed_by(&other, 0.0), None);
        assert!(one.agrees_with(&other, 0.0), "and yet both can be true");
        let clock = Clock { anchors: vec![one, other.clone()], ..Default::default() };
        assert_eq!(clock.known(), Some(other));
    }

    #[test]
    fn a_step_of_the_operators_clock_contradicts_and_one_of_our_own_does_not() {
        let before = anchor(0, 0, 0, 1000);
        assert_eq!(anchor(1_000_000, 1_000_000, 5_000_000, 1000).narrowed_by(&before, 500e-6), None);
        let own = anchor(1_000_000, 6_000_000, -5_000_000, 1000);
        assert_eq!(own.narrowed_by(&before, 0.0), Some(own));
    }

    proptest! {
        #[test]
        fn the_truth_is_in_what_both_say(
            truth in -5_000_000..5_000_000i64, apart in -60_000_000..60_000_000i64, drift in -500e-6..500e-6f64,
            (a, b) in (0..1_000_000i64, 0..1_000_000i64), (off_a, off_b) in (-1.0..1.0f64, -1.0..1.0f64),
        ) {
            // The other clock is `apart` older, and the two have drifted since.
            let then = truth - (apart as f64 * drift) as i64;
            let at = |boot: i64, truth: i64, error: i64, off: f64| {
                anchor(boot, 100_000_000 + boot, truth + (error as f64 * off) as i64, error)
            };
            let both = at(0, truth, a, off_a).narrowed_by(&at(-apart, then, b, off_b), 500e-6).unwrap();
            prop_assert!((both.offset_us - truth).abs() <= both.error_us + 1);
            prop_assert!(both.error_us <= a);
        }
    }
}
