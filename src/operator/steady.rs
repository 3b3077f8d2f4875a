//! The time by which a run's schedule counts for the operator, whatever becomes of its wall clock meanwhile.
//!
//! Kernels heal by clocks of their own. An operator whose wall clock is stepped ahead in mid-cut must not believe that they have: it would
//! take the agents away, let the next run in, and look at `spec.abortWhen` no more.

use crate::{
    api::{Moment, Schedule},
    course::later,
    observe,
};
use k8s_openapi::jiff::Timestamp;
use std::{collections::BTreeMap, sync::Mutex};

/// For so long a schedule is known after it was first seen, microseconds: a day. A cut lasts an hour at the most. Ours.
const KEPT_US: i64 = 24 * 3600 * 1_000_000;

/// Of this process, for a machine has one clock of each kind.
static SEEN: Mutex<Seen> = Mutex::new(Seen(BTreeMap::new()));

/// The time now by the wall clock as it was when this process first saw the schedule, gone on since then by the clock that nobody can set.
/// Where there is no schedule the wall clock itself: it may be put right until there is one.
pub fn now(schedule: Option<&Schedule>) -> Timestamp {
    match schedule {
        None => Timestamp::now(),
        Some(schedule) => SEEN.lock().expect("no holder panics").now(schedule.cut_at.0, &observe::now()),
    }
}

/// When each schedule was first seen, by its `cutAt`: one run at a time has one.
struct Seen(BTreeMap<Timestamp, Moment>);

impl Seen {
    fn now(&mut self, cut_at: Timestamp, now: &Moment) -> Timestamp {
        self.0.retain(|_, first| now.boot_us - first.boot_us < KEPT_US);
        let first = self.0.entry(cut_at).or_insert_with(|| now.clone());
        later(first.wall.0, (now.boot_us - first.boot_us) as f64 / 1e6)
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
        let mut seen = Seen(BTreeMap::new());
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
    fn a_schedule_of_long_ago_is_forgotten() {
        let mut seen = Seen(BTreeMap::new());
        seen.now(at(10), &moment(0, 0));
        seen.now(at(20), &moment(24 * HOUR, 0));
        assert_eq!(seen.0.into_keys().collect::<Vec<_>>(), [at(20)]);
    }
}
