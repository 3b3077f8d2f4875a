//! When etcd is itself after the heal. Its members hear each other by streams, which are connections of TCP that nobody ends in a cut that
//! takes packets without a word: whoever reads sets no timeout, and whoever writes waits for the kernel to try again.
//!
//! rafthttp means a stream to end after 5 s of silence (`ConnReadTimeout`), and since etcd 3.5 it does not: `NewTransport` sets
//! `DialContext`, beside which `http.Transport` does not look at the `Dial` that has the timeout (`client/pkg/transport/transport.go`,
//! `timeout_transport.go`; v3.6.6). Observed on the lab after the heal of cuts of 30, 60 and 85 s: 18 to 27 s, 14 to 73 s and 22 to 42 s,
//! while new connections got through within 2 s and etcd's log told of no stream that ended; 1 s where the cut rejected.

use super::{constants::*, etcd::loses_members, scene::Scene, window::seconds};
use crate::{api::Side, fault::Effect};

/// Seconds after the heal by which all members of etcd follow one leader again.
pub fn etcd_back(scene: &Scene<'_>) -> f64 {
    still(scene) + if scene.sides.iter().any(|s| s.quorum) { ETCD_REJOIN } else { ETCD_REELECTION }
}

/// The same with its sources, in short: [`why`] says how.
pub fn sourced(scene: &Scene<'_>) -> String {
    let waits = if still(scene) > 0.0 { "TCP_RTO_MAX, kernel/time/timer.c, " } else { "" };
    let then = if scene.sides.iter().any(|s| s.quorum) { "theory C22" } else { "ours, from the lab" };
    format!("{} ({waits}{then})", seconds(etcd_back(scene)))
}

/// The same in words.
pub fn why(scene: &Scene<'_>) -> String {
    let then = match scene.sides.iter().any(|s| s.quorum) {
        true => format!("the log or a snapshot {} (theory C22)", seconds(ETCD_REJOIN)),
        false => format!("a new election among all members {} (ours, from the lab)", seconds(ETCD_REELECTION)),
    };
    match still(scene) {
        still if still > 0.0 => format!(
            "streams between members go on when TCP tries again, within {}: it waits twice as long each time, up to {} (TCP_RTO_MAX), and \
             an eighth of that longer (kernel/time/timer.c); then {then}",
            seconds(still),
            seconds(TCP_LONGEST_RETRANSMISSION)
        ),
        _ => format!("streams between members have ended and are dialled again and again; then {then}"),
    }
}

/// For how long after the heal streams may still carry nothing, seconds. Members outside of the nodes go on hearing each other.
fn still(scene: &Scene<'_>) -> f64 {
    let has_one = |side: &Side| scene.snapshot.etcd.iter().any(|m| side.nodes.contains(&m.node));
    match scene.sides.iter().any(|side| has_one(side) && loses_members(side)) {
        true => still_after(scene.fault.pattern.effect, scene.duration),
        false => 0.0,
    }
}

fn still_after(effect: Effect, duration: f64) -> f64 {
    let late = 1.0 + KERNEL_TIMER_LATE;
    match effect {
        // Whoever writes is told at once.
        Effect::Reject => 0.0,
        // Whoever reads has given up.
        _ if duration >= ETCD_STREAM_KEEPALIVE * late => 0.0,
        // Each wait is as long as all before it together, and the first one.
        _ => (duration + TCP_FIRST_RETRANSMISSION).min(TCP_LONGEST_RETRANSMISSION) * late,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_stand_still_for_as_long_again_as_the_cut_was() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 0.01, "{a} is not {b}");
        let dropped = |duration| still_after(Effect::Drop, duration);
        close(dropped(8.0), 9.23);
        close(dropped(60.0), 67.73);
        close(dropped(85.0), 95.85);
        // TCP waits no longer than 120 s.
        close(dropped(150.0), 135.0);
        close(dropped(337.0), 135.0);
        // 30 s of idleness and nine probes, 30 s apart, each an eighth late.
        close(dropped(338.0), 0.0);
        close(still_after(Effect::Reject, 60.0), 0.0);
    }

    #[test]
    fn what_the_lab_showed_is_within() {
        // Length of the cut, and when the last member was healthy after its heal.
        for (duration, observed) in [(30.0, 27.0), (60.0, 72.6), (60.0, 48.1), (85.0, 42.2), (85.0, 25.4)] {
            let latest = still_after(Effect::Drop, duration) + ETCD_REJOIN;
            assert!(observed <= latest, "{observed} after {duration}, not within {latest}");
        }
    }
}
