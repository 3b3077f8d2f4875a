//! What theory says will happen: a snapshot, a fault and its length become a forecast for every Lease, node and workload.

pub mod constants;
mod etcd;
mod lease;
mod node;
mod recovery;
#[cfg(test)]
mod tests;
mod window;
mod workload;

pub use etcd::{ApiForecast, EtcdForecast, majority};
pub use lease::{LeaseForecast, OWN_LEASE, elects};
pub use node::{CONTROLLER_MANAGER, NodeForecast, grace_is_short, taint_rate};
pub use recovery::RecoveryForecast;
pub use window::{Certainty, interval, seconds, shifted};
pub use workload::{Replacement, WorkloadForecast, count};

use crate::{
    api::{Check, Prediction, Prospect, Side},
    fault::Fault,
    topology::{Snapshot, Timer},
};
use std::time::Duration;

/// The prediction as people read it, and the same typed, for the judge.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    pub predictions: Vec<Prediction>,
    /// What was assumed because it could not be read.
    pub assumptions: Vec<String>,
    pub etcd: Vec<EtcdForecast>,
    pub api: Vec<ApiForecast>,
    pub leases: Vec<LeaseForecast>,
    pub nodes: Vec<NodeForecast>,
    pub workloads: Vec<WorkloadForecast>,
    pub recovery: RecoveryForecast,
}

/// Predicts a cut of this length.
pub fn predict(snapshot: &Snapshot, fault: &Fault, sides: &[Side], duration: Duration) -> Forecast {
    let length = duration.as_secs_f64();
    let (etcd, api) = (etcd::etcd(snapshot, sides), etcd::api(snapshot, sides));
    let leases = lease::leases(snapshot, sides, length);
    let nodes = node::nodes(snapshot, sides, &leases, length);
    let losing: Vec<&str> =
        sides.iter().filter(|s| s.served != Prospect::Yes).flat_map(|s| s.nodes.iter().map(String::as_str)).collect();
    let workloads = workload::workloads(snapshot, &nodes, &losing, length);
    let recovery = recovery::recovery(snapshot, sides, &leases, &workloads, length);
    let mut predictions = vec![fault_proven(fault)];
    predictions.extend(etcd.iter().map(EtcdForecast::prediction));
    predictions.extend(api.iter().map(ApiForecast::prediction));
    predictions.extend(leases.iter().flat_map(LeaseForecast::predictions));
    predictions.extend(nodes.iter().map(NodeForecast::prediction));
    predictions.extend(workloads.iter().flat_map(WorkloadForecast::predictions));
    predictions.push(recovery.prediction());
    predictions.sort_by_key(|p| p.check);
    let assumptions = assumptions(snapshot, sides, &leases);
    Forecast { predictions, assumptions, etcd, api, leases, nodes, workloads, recovery }
}

fn fault_proven(fault: &Fault) -> Prediction {
    Prediction {
        check: Check::FaultProven,
        subject: "network".into(),
        expected: "every cut pair silent during the cut, every other one alive; all alive before and after".into(),
        window: None,
        reason: format!("{} directed edges are cut", fault.edges()),
    }
}

fn assumptions(snapshot: &Snapshot, sides: &[Side], leases: &[LeaseForecast]) -> Vec<String> {
    let timers = &snapshot.timers;
    let named: [(&str, &Timer); 5] = [
        ("node monitor grace period", &timers.node_monitor_grace),
        ("node monitor period", &timers.node_monitor_period),
        ("node eviction rate", &timers.node_eviction_rate),
        ("kubelets' Lease renewal", &timers.node_lease_renew),
        ("etcd election timeout", &timers.etcd_election),
    ];
    let mut all: Vec<String> = named.iter().filter(|(_, t)| t.assumed).map(|(what, t)| assumed(what, t)).collect();
    for lease in snapshot.leases.iter().filter(|l| elects(l)) {
        for (what, timer) in [("renew deadline", &lease.renew_deadline), ("retry period", &lease.retry_period)] {
            if timer.assumed {
                all.push(assumed(&format!("{what} of {}", lease.subject()), timer));
            }
        }
        if !leases.iter().any(|l| l.lease.subject() == lease.subject()) {
            all.push(format!(
                "{}: where its holder {} runs is not known; nothing is predicted",
                lease.subject(),
                lease.holder
            ));
        }
    }
    if !leases.iter().any(|l| l.lease.subject() == CONTROLLER_MANAGER) {
        all.push("the leading controller manager is on the side that can write".into());
    }
    if Side::most_writable(sides).is_empty() {
        all.push("no side can write: nobody can mark nodes, evict pods or take Leases before the heal".into());
    }
    all
}

fn assumed(what: &str, timer: &Timer) -> String {
    format!("{what}: {} ({})", timer.seconds, timer.source)
}
