//! By which time this process counts a run's schedule: see [`Seen`].

use crate::{api::Schedule, course::steady::Seen, observe};
use k8s_openapi::jiff::Timestamp;
use std::sync::Mutex;

/// Of this process, for a machine has one clock of each kind.
static SEEN: Mutex<Seen> = Mutex::new(Seen::new());

/// The time now by the wall clock as it was when this process first saw the schedule, gone on since then by the clock that nobody can set.
/// Where there is no schedule the wall clock itself: it may be put right until there is one.
pub fn now(schedule: Option<&Schedule>) -> Timestamp {
    match schedule {
        None => Timestamp::now(),
        Some(schedule) => SEEN.lock().expect("no holder panics").now(schedule.cut_at.0, &observe::now()),
    }
}

/// This process begins to lead, and goes by its wall clock as that is now, see [`Seen::forget`].
pub fn begin_term() {
    SEEN.lock().expect("no holder panics").forget();
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::{api::Moment, course::later};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    /// As if this process had first seen the schedule just now, by a wall clock that was so many seconds ahead.
    pub fn see(schedule: &Schedule, ahead: f64) {
        let now = observe::now();
        let first = Moment { wall: MicroTime(later(now.wall.0, ahead)), ..now };
        SEEN.lock().unwrap().now(schedule.cut_at.0, &first);
    }

    /// Whether this process has seen the schedule.
    pub fn has_seen(schedule: &Schedule) -> bool {
        SEEN.lock().unwrap().has(schedule.cut_at.0)
    }
}
