//! Timers that an older snapshot, or one written by hand, may not have. Upstream's defaults stand in for them, and are told.

use super::{constants::*, window::seconds};
use crate::topology::{Timer, Timers};

/// A timer as reasons tell it: `15 s (--flag of pod)`.
pub fn sourced(timer: &Timer) -> String {
    format!("{} ({})", seconds(timer.seconds), timer.source)
}

/// Every such timer, read or assumed.
pub struct Known {
    /// Nodes per second that are tainted in a large zone that is partly disrupted.
    pub secondary_eviction_rate: Timer,
    /// Share of unready nodes from which a zone is partly disrupted.
    pub unhealthy_zone_share: Timer,
    /// Nodes up to which a zone that is partly disrupted stops evictions.
    pub large_zone_nodes: Timer,
    /// How long an API server's health checks wait for etcd, seconds.
    pub etcd_check: Timer,
    /// Seconds between two liveness probes of an API server, how many must fail, and how long it has to end.
    pub liveness_period: Timer,
    pub liveness_failures: Timer,
    pub api_server_grace: Timer,
}

impl Known {
    pub fn of(timers: &Timers) -> Self {
        let or = |read: &Option<Timer>, default: f64, source: &str| {
            read.clone().unwrap_or_else(|| Timer::assumed(default, format!("upstream's default, {source}")))
        };
        let kubeadm = "cmd/kubeadm/app/util/staticpod/utils.go";
        Known {
            secondary_eviction_rate: or(&timers.secondary_eviction_rate, SECONDARY_EVICTION_RATE, EVICTION_DEFAULTS),
            unhealthy_zone_share: or(&timers.unhealthy_zone_share, UNHEALTHY_ZONE_SHARE, EVICTION_DEFAULTS),
            large_zone_nodes: or(&timers.large_zone_nodes, LARGE_ZONE_NODES, EVICTION_DEFAULTS),
            etcd_check: or(&timers.etcd_check, ETCD_CHECK_TIMEOUT, "apiserver server/options/etcd.go"),
            liveness_period: or(&timers.liveness_period, LIVENESS_PERIOD, kubeadm),
            liveness_failures: or(&timers.liveness_failures, LIVENESS_FAILURES, kubeadm),
            api_server_grace: or(&timers.api_server_grace, TERMINATION_GRACE, "pkg/apis/core/types.go"),
        }
    }

    /// Those that say how fast nodes are tainted.
    pub fn of_zones(&self) -> [(&'static str, &Timer); 3] {
        [
            ("secondary node eviction rate", &self.secondary_eviction_rate),
            ("share of unready nodes that disrupts a zone", &self.unhealthy_zone_share),
            ("nodes of a large zone", &self.large_zone_nodes),
        ]
    }

    /// Those that say what becomes of an API server without etcd.
    pub fn of_api_servers(&self) -> [(&'static str, &Timer); 4] {
        [
            ("API servers' wait for etcd in a health check", &self.etcd_check),
            ("period of API servers' liveness probe", &self.liveness_period),
            ("failures of API servers' liveness probe", &self.liveness_failures),
            ("grace period of API servers", &self.api_server_grace),
        ]
    }
}
