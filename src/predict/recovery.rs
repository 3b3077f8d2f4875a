//! From the heal until everything desired is actual again.

use super::{
    constants::*,
    lease::LeaseForecast,
    window::{Certainty, seconds, window},
    workload::WorkloadForecast,
};
use crate::{
    api::{Check, Prediction, Prospect, Side, Window},
    topology::Snapshot,
};

/// How long a cluster may take after the heal.
#[derive(Clone, Debug, PartialEq)]
pub struct RecoveryForecast {
    /// Seconds after the heal.
    pub window: Window,
    reason: String,
}

/// The longest wait that a container crashing since `first` (seconds after the cut) still has before it at the heal: its
/// back-off doubles, so the current one is at most as long as it has been crashing, and the first one.
pub fn back_off_left(first: f64, duration: f64) -> f64 {
    let (shortest, longest) = CRASH_BACK_OFF;
    if duration < first { 0.0 } else { (duration - first + shortest).min(longest) }
}

pub fn recovery(
    snapshot: &Snapshot,
    sides: &[Side],
    leases: &[LeaseForecast],
    workloads: &[WorkloadForecast],
    duration: f64,
) -> RecoveryForecast {
    let mut terms = Vec::new();
    let mut add = |term: f64, what: &str| terms.push((term, format!("{} {}", what, seconds(term))));
    add(if sides.iter().any(|s| s.quorum) { ETCD_REJOIN } else { ETCD_REELECTION }, "etcd");
    let losing = || sides.iter().filter(|s| s.writable != Prospect::Yes);
    let api_server =
        if losing().any(|s| !s.api_servers.is_empty()) { back_off_left(API_SERVER_LIVENESS, duration) } else { 0.0 };
    let leader = leases
        .iter()
        .filter(|l| l.cut_off && l.moves != Certainty::MustNot)
        .map(|l| back_off_left(l.stop.earliest_seconds, duration))
        .fold(0.0, f64::max);
    let crash = api_server.max(leader);
    if crash > 0.0 {
        add(crash + STATIC_POD_START, "back-off and start of crashed API servers and leaders");
    }
    let renew = snapshot.timers.node_lease_renew.seconds;
    let node = KUBELET_HEARTBEAT_TIMEOUT + KUBELET_LEASE_BACK_OFF + renew + KUBELET_STATUS_UPDATE + TAINT_REMOVAL;
    add(node, "kubelet's renewal, Ready and taints");
    let latest_node = terms.iter().map(|t| t.0).sum::<f64>();
    let grace = workloads
        .iter()
        .filter(|w| w.evicted != Certainty::MustNot)
        .flat_map(|w| &w.pods)
        .map(|p| p.grace_period)
        .fold(None, |a: Option<f64>, b| Some(a.map_or(b, |a| a.max(b))));
    let pods = grace.map(|g| KUBELET_RECONNECT + g + POD_STOP_SLACK + POD_START);
    let mut reason = terms.into_iter().map(|t| t.1).collect::<Vec<_>>().join(", ");
    if let Some(pods) = pods {
        reason += &format!("; evicted pods end and start again {}", seconds(pods));
    }
    RecoveryForecast { window: window(0.0, latest_node.max(pods.unwrap_or(0.0))), reason }
}

impl RecoveryForecast {
    pub fn prediction(&self) -> Prediction {
        Prediction {
            check: Check::Recovery,
            subject: "cluster".into(),
            expected: format!("recovered within {} of the heal, and stays so", seconds(self.window.latest_seconds)),
            window: Some(self.window),
            reason: self.reason.clone(),
        }
    }
}
