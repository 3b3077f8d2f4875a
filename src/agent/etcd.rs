//! Who leads etcd, and how well it is, in the words of the member on this node.

use super::{
    health::{Answer, DEADLINE, ask, client, listens},
    journal::Journal,
};
use crate::{
    api::{ETCD, ETCD_DISK, ETCD_LEADER, SpanKind},
    observe::{Look, Observation, now},
};
use std::{net::SocketAddr, time::Duration};
use tokio::time::{MissedTickBehavior, interval};

/// Between two looks: metrics are long, and an election takes a second or more.
const PERIOD: Duration = Duration::from_secs(2);

/// A write to the log that takes longer may cost a leader its place: the largest bucket below upstream's election timeout of 1 s
/// (`server/storage/wal/metrics.go`: doubling from 1 ms), where etcd's own tuning guide wants 10 ms at the 99th percentile.
const SLOW: &str = "0.512";

/// Writes down whether this node's member leads, for as long as there is one, and whether elections and slow writes are added to
/// those before. Never returns.
pub async fn watch(address: SocketAddr, journal: Journal) {
    let client = match client("http", address) {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(%error, "failed to make a client for the metrics of etcd");
            return std::future::pending().await;
        }
    };
    let mut before: Option<Counts> = None;
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let look = Look::begin();
        // Most nodes have no etcd, and the client would log every failed connection.
        if listens(address).await.is_err() {
            continue;
        }
        if let Answer::Said { code: 200, body } = ask(&client, "/metrics").await
            && !look.was_held(2 * DEADLINE)
            && let Some(state) = state(&body)
        {
            journal.observe(SpanKind::Etcd, now(), Observation::new(ETCD, state));
            let Some(counts) = Counts::of(&body) else { continue };
            for seen in counts.since(before) {
                journal.observe(SpanKind::Etcd, now(), seen);
            }
            before = Some(counts);
        }
    }
}

/// What a member has counted since it was started.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counts {
    /// `etcd_server_leader_changes_seen_total` (`server/etcdserver/metrics.go`).
    elections: f64,
    /// Writes to the log that took longer than [`SLOW`], of `etcd_disk_wal_fsync_duration_seconds`.
    slow: f64,
    /// `process_start_time_seconds` (client_golang, `process_collector.go`): one that was started anew may count the same again.
    started: Option<f64>,
}

impl Counts {
    pub fn of(metrics: &str) -> Option<Self> {
        let fsync = "etcd_disk_wal_fsync_duration_seconds";
        let fast = value(metrics, &format!("{fsync}_bucket{{le=\"{SLOW}\"}}"))?;
        let elections = value(metrics, "etcd_server_leader_changes_seen_total")?;
        let slow = value(metrics, &format!("{fsync}_count"))? - fast;
        Some(Counts { elections, slow, started: value(metrics, "process_start_time_seconds") })
    }

    /// What has become of the counts of the look before. The first look tells nothing of the time before it, nor of the time since an
    /// earlier process of this agent looked: said in so many words, or what that one saw would seem to go on.
    pub fn since(self, before: Option<Self>) -> [Observation; 2] {
        let (leader, disk) = match before {
            None => ("unknown", "unknown"),
            Some(before) => {
                let same = self.elections == before.elections && self.started == before.started;
                (if same { "steady" } else { "changed" }, if self.slow <= before.slow { "fast" } else { "slow" })
            }
        };
        [Observation::new(ETCD_LEADER, leader), Observation::new(ETCD_DISK, disk)]
    }
}

/// Of the sample with this name and these labels.
fn value(metrics: &str, name: &str) -> Option<f64> {
    metrics.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '))?.trim().parse().ok()
}

/// From `etcd_server_is_leader` and `etcd_server_has_leader` (`server/etcdserver/metrics.go`), gauges of 0 or 1.
pub fn state(metrics: &str) -> Option<&'static str> {
    let gauge = |name: &str| Some(value(metrics, name)? == 1.0);
    match (gauge("etcd_server_is_leader")?, gauge("etcd_server_has_leader")?) {
        (true, _) => Some("leads"),
        (false, true) => Some("follows"),
        (false, false) => Some("alone"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_gauges_tell_the_state() {
        let metrics = |is: u8, has: u8| {
            format!(
                "# HELP etcd_server_is_leader Whether\n# TYPE etcd_server_is_leader gauge\n\
                etcd_server_has_leader {has}\netcd_server_is_leader {is}\netcd_server_is_learner 0\n"
            )
        };
        assert_eq!(
            [(1, 1), (0, 1), (0, 0)].map(|(is, has)| state(&metrics(is, has)).unwrap()),
            ["leads", "follows", "alone"]
        );
        assert_eq!((state(""), state("something_else 1")), (None, None));
    }

    #[test]
    fn what_is_added_to_the_counts_is_told() {
        let started_at = |started: &str, elections: u32, fast: u32, all: u32| {
            Counts::of(&format!(
                "process_start_time_seconds {started}\netcd_server_leader_changes_seen_total {elections}\n\
                etcd_disk_wal_fsync_duration_seconds_bucket{{le=\"0.256\"}} 1\n\
                etcd_disk_wal_fsync_duration_seconds_bucket{{le=\"0.512\"}} {fast}\n\
                etcd_disk_wal_fsync_duration_seconds_bucket{{le=\"+Inf\"}} {all}\n\
                etcd_disk_wal_fsync_duration_seconds_count {all}\n"
            ))
            .unwrap()
        };
        let metrics = |elections, fast, all| started_at("1.7e+09", elections, fast, all);
        let told = |before, now: Counts| now.since(before).map(|o| format!("{} {}", o.subject, o.state));
        let before = Some(metrics(2, 90, 91));
        assert_eq!(
            told(before, metrics(2, 99, 100)),
            ["etcd/leader steady", "etcd/disk fast"],
            "one was slow long ago"
        );
        assert_eq!(told(before, metrics(3, 99, 101)), ["etcd/leader changed", "etcd/disk slow"]);
        assert_eq!(told(before, started_at("1.8e+09", 2, 9, 9)), ["etcd/leader changed", "etcd/disk fast"]);
        assert_eq!(
            told(None, metrics(2, 90, 91)),
            ["etcd/leader unknown", "etcd/disk unknown"],
            "nobody looked before"
        );
        assert_eq!(Counts::of("etcd_server_leader_changes_seen_total 1\n"), None);
    }
}
