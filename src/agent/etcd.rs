//! Who leads etcd, in the words of the member on this node.

use super::{
    health::{Answer, ask, client, listens},
    journal::Journal,
};
use crate::{
    api::SpanKind,
    observe::{Observation, now},
};
use std::{net::SocketAddr, time::Duration};
use tokio::time::{MissedTickBehavior, interval};

/// Between two looks: metrics are long, and an election takes a second or more.
const PERIOD: Duration = Duration::from_secs(2);

/// Writes down whether this node's member leads, for as long as there is one. Never returns.
pub async fn watch(address: SocketAddr, journal: Journal) {
    let client = match client("http", address) {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(%error, "failed to make a client for the metrics of etcd");
            return std::future::pending().await;
        }
    };
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        // Most nodes have no etcd, and the client would log every failed connection.
        if listens(address).await.is_err() {
            continue;
        }
        if let Answer::Said { code: 200, body } = ask(&client, "/metrics").await
            && let Some(state) = state(&body)
        {
            journal.observe(SpanKind::Etcd, now(), Observation::new("etcd", state));
        }
    }
}

/// From `etcd_server_is_leader` and `etcd_server_has_leader` (`server/etcdserver/metrics.go`), gauges of 0 or 1.
fn state(metrics: &str) -> Option<&'static str> {
    let gauge = |name: &str| {
        let line = metrics.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '))?;
        Some(line.trim() == "1")
    };
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
}
