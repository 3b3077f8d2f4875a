//! Nodes that no writable side hears: when they become NotReady and when their pods may be evicted.

use super::{
    constants::*,
    lease::LeaseForecast,
    window::{Certainty, after, certainty, interval, seconds, window},
};
use crate::{
    api::{Check, Prediction, Prospect, Side, Window},
    topology::Snapshot,
};

/// One node that is cut off from every writable API server.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeForecast {
    pub node: String,
    pub side: String,
    pub not_ready: Certainty,
    /// When it becomes NotReady, seconds after the cut.
    pub window: Window,
    /// The same, seconds after the new controller manager took over, where the old one was cut off.
    pub after_takeover: Option<Window>,
    pub tainted: Certainty,
    /// When it is tainted `NoExecute`, seconds after the cut.
    pub taint: Window,
    reason: String,
}

/// From the heal until a kubelet renews its Lease again, seconds.
fn renewal_after_heal(snapshot: &Snapshot) -> f64 {
    KUBELET_HEARTBEAT_TIMEOUT + KUBELET_LEASE_BACK_OFF + snapshot.timers.node_lease_renew.seconds
}

/// Nodes per second that are tainted in the zone of `node` while `cut` are unready; 0 where evictions stop
/// (`ComputeZoneState`, `handleDisruption`).
pub fn taint_rate(snapshot: &Snapshot, cut: &[&str], node: &str) -> f64 {
    let unready = |n: &crate::topology::Node| !n.ready || cut.contains(&n.name.as_str());
    if snapshot.nodes.iter().all(unready) {
        return 0.0;
    }
    let zone = snapshot.node(node).and_then(|n| n.zone.as_deref());
    let of_zone = || snapshot.nodes.iter().filter(|n| n.zone.as_deref() == zone);
    let (total, down) = (of_zone().count(), of_zone().filter(|n| unready(n)).count());
    let partly = down > PARTIAL_DISRUPTION_NODES && down as f64 >= UNHEALTHY_ZONE_SHARE * total as f64;
    match (down == total, partly, total > LARGE_ZONE_NODES) {
        (false, true, true) => SECONDARY_EVICTION_RATE,
        (false, true, false) => 0.0,
        _ => snapshot.timers.node_eviction_rate.seconds,
    }
}

/// Nodes that no writable side hears. Empty where no side can write: nobody could mark them.
pub fn nodes(snapshot: &Snapshot, sides: &[Side], leases: &[LeaseForecast], duration: f64) -> Vec<NodeForecast> {
    if Side::most_writable(sides).is_empty() {
        return Vec::new();
    }
    let manager = leases.iter().find(|l| l.lease.subject() == CONTROLLER_MANAGER).filter(|l| l.cut_off);
    let losing = || sides.iter().filter(|s| s.served != Prospect::Yes);
    let cut: Vec<&str> = losing().flat_map(|s| s.nodes.iter().map(String::as_str)).collect();
    let of = |side: &Side, node: &String| {
        let mut forecast = forecast(snapshot, &side.name, node, &cut, manager, duration);
        if side.served == Prospect::Maybe {
            forecast.not_ready = forecast.not_ready.min(Certainty::May);
            forecast.tainted = forecast.tainted.min(Certainty::May);
        }
        forecast
    };
    losing().flat_map(|s| s.nodes.iter().map(move |n| of(s, n))).collect()
}

/// The Lease of the component that watches over nodes.
pub const CONTROLLER_MANAGER: &str = "kube-system/kube-controller-manager";

fn forecast(
    snapshot: &Snapshot,
    side: &str,
    node: &str,
    cut: &[&str],
    manager: Option<&LeaseForecast>,
    duration: f64,
) -> NodeForecast {
    let timers = &snapshot.timers;
    let (grace, period) = (timers.node_monitor_grace.seconds, timers.node_monitor_period.seconds);
    let renew = timers.node_lease_renew.seconds * LEASE_RENEW_JITTER;
    let source = &timers.node_monitor_grace.source;
    let kept = window(grace - renew, grace + period);
    let kept_term = format!("counted from the last renewal, up to {} old", seconds(renew));
    let (not_ready_window, after_takeover, term) = match manager {
        // A new controller manager has seen no Lease yet and counts from its start.
        Some(lease) => {
            let relative = window(grace, grace + 2.0 * period + CONTROLLER_START);
            let absolute = after(&lease.takeover, (relative.earliest_seconds, relative.latest_seconds));
            let term = format!("counted from the new controller manager's start, {}", interval(&lease.takeover));
            match lease.moves {
                Certainty::Must => (absolute, Some(relative), term),
                // If the old one stays it goes on counting.
                _ => (
                    window(kept.earliest_seconds, absolute.latest_seconds),
                    None,
                    format!("{kept_term}, or {term}, if there is one"),
                ),
            }
        }
        None => (kept, None, kept_term),
    };
    let heard = duration + renewal_after_heal(snapshot);
    let mut not_ready = certainty(&not_ready_window, duration, heard);
    if manager.is_some_and(|l| l.moves != Certainty::Must) {
        not_ready = not_ready.min(Certainty::May);
    }
    let rate = taint_rate(snapshot, cut, node);
    let zone = snapshot.node(node).and_then(|n| n.zone.as_deref());
    let before =
        cut.iter().filter(|n| snapshot.node(n).and_then(|n| n.zone.as_deref()) == zone).count().saturating_sub(1);
    let queue = if rate > 0.0 { before as f64 / rate } else { 0.0 };
    let taint = after(&not_ready_window, (0.0, period + queue));
    let mut tainted = certainty(&taint, duration, heard).min(not_ready);
    let rate_term = if rate > 0.0 {
        format!("taint one pass later, {rate} nodes per second")
    } else {
        // The first nodes are tainted before the controller sees how many are down.
        tainted = tainted.min(Certainty::May);
        "evictions stop in a zone as disrupted as this".into()
    };
    NodeForecast {
        node: node.into(),
        side: side.into(),
        not_ready,
        window: not_ready_window,
        after_takeover,
        tainted,
        taint,
        reason: format!(
            "grace period {} ({source}), looked at every {}; {term}; {rate_term}",
            seconds(grace),
            seconds(period)
        ),
    }
}

/// Whether the cut may make nodes of a writable side NotReady for a while: a kubelet whose connection ended on the other side
/// needs its client's timeout and a back-off, and a short grace period is over by then.
pub fn grace_is_short(snapshot: &Snapshot) -> bool {
    let timers = &snapshot.timers;
    timers.node_monitor_grace.seconds < renewal_after_heal(snapshot) + timers.node_monitor_period.seconds
}

impl NodeForecast {
    pub fn prediction(&self) -> Prediction {
        let when = interval(&self.window);
        let (expected, window) = match self.not_ready {
            Certainty::Must => (format!("NotReady within {when}"), Some(self.window)),
            Certainty::May => (format!("stays Ready or becomes NotReady within {when}"), Some(self.window)),
            Certainty::MustNot => ("stays Ready: the cut heals before".into(), None),
        };
        let (check, subject, reason) = (Check::NodeNotReady, self.node.clone(), self.reason.clone());
        Prediction { check, subject, expected, window, reason }
    }
}
