//! The time by which a run's schedule counts for one process of the operator, whatever becomes of its wall clock meanwhile.
//!
//! Kernels heal by clocks of their own. An operator whose wall clock is stepped ahead in mid-cut must not believe that they have: it would
//! take the agents away, let the next run in, and look at `spec.abortWhen` no more.

use super::later;
use crate::api::Moment;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// For so long a schedule is known after it was first seen, microseconds: a day. A cut lasts an hour at the most. Ours.
const KEPT_US: i64 = 24 * 3600 * 1_000_000;

/// When each schedule was first seen, by its `cutAt`: one run at a time has one.
#[derive(Clone, Debug, Default)]
pub struct Seen(BTreeMap<Timestamp, Moment>);

impl Seen {
    /// Of a process that has seen none.
    pub const fn new() -> Self {
        Seen(BTreeMap::new())
    }

    /// The time now by the wall clock as it was when the schedule with this `cutAt` was first seen, gone on since then by the clock that
    /// nobody can set.
    pub fn now(&mut self, cut_at: Timestamp, now: &Moment) -> Timestamp {
        self.0.retain(|_, first| now.boot_us - first.boot_us < KEPT_US);
        let first = self.0.entry(cut_at).or_insert_with(|| now.clone());
        later(first.wall.0, (now.boot_us - first.boot_us) as f64 / 1e6)
    }

    /// Goes by the wall clock as it is from now on. A process that begins to lead does so: another one may have led meanwhile, by its own
    /// clock, and a machine that was paused, and had its wall clock put right since, would be behind that for as long as the process lasts.
    pub fn forget(&mut self) {
        self.0.clear();
    }

    /// Whether the schedule with this `cutAt` has been seen.
    #[cfg(test)]
    pub fn has(&self, cut_at: Timestamp) -> bool {
        self.0.contains_key(&cut_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    const BEGUN: i64 = 1_900_000_000;
    const HOUR: i64 = 3600;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(BEGUN + seconds).unwrap()
    }

    /// So many seconds after the beginning, by a wall clock that is so many seconds ahead.
    fn moment(seconds: i64, ahead: i64) -> Moment {
        Moment { boot_us: seconds * 1_000_000, wall: MicroTime(at(seconds + ahead)) }
    }

    #[test]
    fn a_wall_clock_that_is_stepped_does_not_change_the_time_of_a_schedule() {
        let mut seen = Seen::new();
        let cut_at = at(10);
        assert_eq!(seen.now(cut_at, &moment(0, 0)), at(0));
        for (seconds, ahead) in [(20, 0), (21, HOUR), (30, -HOUR), (70, 0)] {
            assert_eq!(seen.now(cut_at, &moment(seconds, ahead)), at(seconds), "{ahead} s ahead");
        }
        // That of another run goes by the clock as it is then.
        assert_eq!(seen.now(at(10 + HOUR), &moment(80, HOUR)), at(80 + HOUR));
        assert_eq!(seen.now(cut_at, &moment(90, HOUR)), at(90));
    }

    #[test]
    fn whoever_was_paused_and_begins_to_lead_again_goes_by_its_wall_clock() {
        let mut seen = Seen::new();
        let cut_at = at(10);
        seen.now(cut_at, &moment(0, 0));
        // The machine was paused for ten minutes, in which its clocks stood still; then its wall clock was put right.
        let resumed = moment(30, 600);
        assert_eq!(seen.now(cut_at, &resumed), at(30), "for as long as it leads");
        seen.forget();
        assert_eq!(seen.now(cut_at, &resumed), at(630));
    }

    #[test]
    fn a_schedule_of_long_ago_is_forgotten() {
        let mut seen = Seen::new();
        seen.now(at(10), &moment(0, 0));
        seen.now(at(20), &moment(24 * HOUR, 0));
        assert!(!seen.has(at(10)) && seen.has(at(20)));
    }
}
