//! What theory says will happen: a snapshot, a fault and its length become a forecast for every Lease, node and workload.

mod api_server;
mod budget;
pub mod constants;
mod endpoints;
mod etcd;
mod lease;
mod node;
mod recovery;
mod scene;
#[cfg(test)]
mod tests;
mod timers;
mod window;
mod workload;
mod zone;

pub use api_server::{ApiServerForecast, StaleForecast};
pub use budget::BudgetForecast;
pub use endpoints::{EndpointsForecast, ServiceForecast};
pub use etcd::{ApiForecast, EtcdForecast, majority};
pub use lease::{LeaseForecast, OWN_LEASE, elects};
pub use node::{CONTROLLER_MANAGER, NodeForecast, grace_is_short};
pub use recovery::{Milestone, RecoveryForecast};
pub use window::{Certainty, interval, seconds, shifted};
pub use workload::{Replacement, WorkloadForecast, count};
pub use zone::ZoneState;

use crate::{
    api::{Check, Prediction, Side},
    fault::Fault,
    topology::{Snapshot, Timer},
};
use scene::Scene;
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
    pub api_servers: Vec<ApiServerForecast>,
    pub stale: Vec<StaleForecast>,
    /// Told in the assumptions, as are the two after it: there is no check of them.
    pub endpoints: Vec<EndpointsForecast>,
    pub service: Vec<ServiceForecast>,
    pub budgets: Vec<BudgetForecast>,
    pub recovery: RecoveryForecast,
}

/// Predicts a cut of this length.
pub fn predict(snapshot: &Snapshot, fault: &Fault, sides: &[Side], duration: Duration) -> Forecast {
    let scene = Scene::new(snapshot, fault, sides, duration.as_secs_f64());
    let elected = lease::leases(&scene);
    let manager = lease::manager(&scene, &elected);
    let nodes = node::nodes(&scene, manager.as_ref());
    let workloads = workload::workloads(&scene, &nodes);
    let recovery = recovery::recovery(&scene, &elected, &workloads);
    let mut forecast = Forecast {
        predictions: Vec::new(),
        assumptions: Vec::new(),
        etcd: etcd::etcd(&scene),
        api: etcd::api(&scene),
        api_servers: api_server::api_servers(&scene),
        stale: api_server::stale(&scene),
        endpoints: endpoints::endpoints(&scene, &nodes),
        service: endpoints::service(&scene),
        budgets: budget::budgets(&scene, &nodes, recovery.kubelets_told),
        recovery,
        leases: elected.iter().filter(|l| l.unpredicted.is_none()).cloned().collect(),
        nodes,
        workloads,
    };
    forecast.predictions = predictions(fault, &forecast);
    forecast.assumptions = assumptions(&scene, &forecast, &elected);
    forecast.assumptions.extend(unjudged(&scene, &forecast).into_iter().map(|told| format!("not judged: {told}")));
    forecast
}

/// What people read, in the order of its checks.
fn predictions(fault: &Fault, forecast: &Forecast) -> Vec<Prediction> {
    let mut all = vec![fault_proven(fault)];
    all.extend(forecast.etcd.iter().map(EtcdForecast::prediction));
    all.extend(forecast.api.iter().map(ApiForecast::prediction));
    all.extend(forecast.api_servers.iter().map(ApiServerForecast::prediction));
    all.extend(forecast.stale.iter().map(StaleForecast::prediction));
    all.extend(forecast.leases.iter().flat_map(LeaseForecast::predictions));
    all.extend(forecast.nodes.iter().map(NodeForecast::prediction));
    all.extend(node::taint_predictions(&forecast.nodes));
    all.extend(forecast.workloads.iter().flat_map(WorkloadForecast::predictions));
    all.extend(forecast.recovery.predictions());
    all.sort_by_key(|p| p.check);
    all
}

/// What is predicted and has no check: nobody writes down what it would take.
fn unjudged(scene: &Scene<'_>, forecast: &Forecast) -> Vec<String> {
    let mut all = endpoints::told(scene, &forecast.endpoints, &forecast.service);
    all.extend(budget::told(scene, &forecast.budgets));
    match workload::unaffected(scene) {
        0 => {}
        pods => all.push(format!(
            "{} of DaemonSets and static pods on the losing side go on running: they tolerate the taint for ever",
            count(pods, "observed pod")
        )),
    }
    all
}

fn fault_proven(fault: &Fault) -> Prediction {
    let (expected, reason) = match fault.edges() {
        0 => ("every pair alive all the time", "a rehearsal: nobody is cut".to_owned()),
        edges => (
            "every cut pair silent during the cut, every other one alive; all alive before and after",
            format!("{edges} directed edges are cut"),
        ),
    };
    Prediction { check: Check::FaultProven, subject: "network".into(), expected: expected.into(), window: None, reason }
}

/// `elected`: all Leases whose holders' nodes are known.
fn assumptions(scene: &Scene<'_>, forecast: &Forecast, elected: &[LeaseForecast]) -> Vec<String> {
    let (snapshot, timers) = (scene.snapshot, &scene.snapshot.timers);
    let mut named: Vec<(&str, &Timer)> = vec![
        ("node monitor grace period", &timers.node_monitor_grace),
        ("node monitor period", &timers.node_monitor_period),
        ("node eviction rate", &timers.node_eviction_rate),
        ("kubelets' Lease renewal", &timers.node_lease_renew),
        ("etcd election timeout", &timers.etcd_election),
    ];
    // The rates of other zones matter where one is disrupted so.
    let is_partial = |n: &NodeForecast| n.zone == ZoneState::Partial;
    if forecast.nodes.iter().any(is_partial) {
        named.extend(scene.known.of_zones());
    }
    if !forecast.api_servers.is_empty() {
        named.extend(scene.known.of_api_servers());
    }
    let mut all: Vec<String> = named.iter().filter(|(_, t)| t.assumed).map(|(what, t)| assumed(what, t)).collect();
    for lease in snapshot.leases.iter().filter(|l| elects(l)) {
        let subject = lease.subject();
        for (what, timer) in [("renew deadline", &lease.renew_deadline), ("retry period", &lease.retry_period)] {
            if timer.assumed {
                all.push(assumed(&format!("{what} of {subject}"), timer));
            }
        }
        match elected.iter().find(|l| l.lease.subject() == subject) {
            Some(LeaseForecast { unpredicted: Some(why), .. }) => {
                all.push(format!("{subject}: {why}; nothing is predicted of it"));
            }
            Some(_) => {}
            None => all
                .push(format!("{subject}: where its holder {} runs is not known; nothing is predicted", lease.holder)),
        }
    }
    all.extend(of_manager(scene, elected));
    if !scene.may_be_written() {
        all.push("no side can write: nobody can mark nodes, evict pods or take Leases before the heal".into());
    }
    all
}

/// What the intervals of nodes rest on where it is not known whose heartbeats count from when.
fn of_manager(scene: &Scene<'_>, elected: &[LeaseForecast]) -> Option<String> {
    let is_manager = |subject: &str| subject == CONTROLLER_MANAGER;
    let either = "the leading controller manager may be on either side, or move: nodes' intervals allow for both";
    match elected.iter().find(|l| is_manager(&l.lease.subject())) {
        Some(known) if known.unpredicted.is_some() => Some(either.into()),
        Some(_) => None,
        None if scene.snapshot.leases.iter().any(|l| elects(l) && is_manager(&l.subject())) => Some(either.into()),
        None => Some("the leading controller manager is on the side that can write".into()),
    }
}

fn assumed(what: &str, timer: &Timer) -> String {
    format!("{what}: {} ({})", timer.seconds, timer.source)
}
