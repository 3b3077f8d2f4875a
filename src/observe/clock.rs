//! This machine's clocks.

use crate::api::Moment;
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::{SignedDuration, Timestamp},
};
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Now, by `CLOCK_BOOTTIME` with `CLOCK_REALTIME` beside it.
pub fn now() -> Moment {
    let (mut apart_us, mut closest) = pair();
    // Whoever lost the processor between the two clocks asks again.
    for _ in 0..TRIES {
        if apart_us <= TOGETHER_US {
            break;
        }
        let again = pair();
        if again.0 < apart_us {
            (apart_us, closest) = again;
        }
    }
    closest
}

/// Both clocks, and how long it took to read them, microseconds.
fn pair() -> (i64, Moment) {
    let (boot_us, wall) = (boottime_us(), Timestamp::now());
    (boottime_us() - boot_us, Moment { boot_us, wall: MicroTime(wall) })
}

/// Two clocks read within this are read at once, microseconds.
const TOGETHER_US: i64 = 100;
const TRIES: usize = 3;

/// `CLOCK_BOOTTIME`, microseconds.
fn boottime_us() -> i64 {
    let boot = clock_gettime(ClockId::Boottime);
    boot.tv_sec * 1_000_000 + boot.tv_nsec / 1_000
}

/// The moment this long before `now`.
pub fn before(now: &Moment, ago: Duration) -> Moment {
    let ago_us = i64::try_from(ago.as_micros()).unwrap_or(i64::MAX);
    let wall = now.wall.0.checked_sub(SignedDuration::from_micros(ago_us)).unwrap_or(Timestamp::MIN);
    Moment { boot_us: now.boot_us.saturating_sub(ago_us), wall: MicroTime(wall) }
}

/// The moment at which this machine's wall clock showed `wall`, had it not been stepped since.
pub fn moment_at_wall(wall: Timestamp) -> Moment {
    let now = now();
    let ago_us = now.wall.0.as_microsecond() - wall.as_microsecond();
    Moment { boot_us: now.boot_us - ago_us, wall: MicroTime(wall) }
}

/// Changes at every boot.
///
/// # Errors
/// Where procfs is not mounted.
pub fn boot_id() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}
