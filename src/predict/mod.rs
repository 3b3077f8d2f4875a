//! What theory says will happen: a snapshot, a fault and its length become a forecast for every Lease, node and workload.

mod api_server;
mod bounds;
mod budget;
pub mod constants;
mod endpoints;
mod etcd;
mod lease;
mod node;
mod recovery;
mod scene;
mod streams;
#[cfg(test)]
mod tests;
mod timers;
mod window;
mod workload;
mod zone;

pub use api_server::{ApiServerForecast, StaleForecast, cache_age};
pub use budget::BudgetForecast;
pub use endpoints::{EndpointsForecast, ServiceForecast};
pub use etcd::{ApiForecast, EtcdForecast, majority};
pub use lease::{LeaseForecast, OWN_LEASE, elects};
pub use node::{CONTROLLER_MANAGER, NodeForecast, grace_is_short};
pub use recovery::{Milestone, RecoveryForecast};
pub use window::{Certainty, interval, seconds, shifted, some};
pub use workload::{Replacement, WorkloadForecast, count};
pub use zone::ZoneState;

use crate::{
    api::{Check, Prediction, Side},
    fault::Fault,
    topology::{Snapshot, Timer},
};
use constants::KUBELET_STATUS_UPDATE;
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
    pub endpoints: Vec<EndpointsForecast>,
    pub service: Vec<ServiceForecast>,
    /// Told in the assumptions where nobody looks at all of their pods.
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
    let mut forecast = Forecast {
        predictions: Vec::new(),
        assumptions: Vec::new(),
        etcd: etcd::etcd(&scene),
        api: etcd::api(&scene),
        api_servers: api_server::api_servers(&scene),
        stale: api_server::stale(&scene),
        endpoints: endpoints::endpoints(&scene, &nodes),
        service: endpoints::service(&scene),
        budgets: budget::budgets(&scene, &nodes),
        recovery: recovery::recovery(&scene, &elected, &workloads),
        leases: elected.iter().filter(|l| l.unpredicted.is_none()).cloned().collect(),
        nodes,
        workloads,
    };
    forecast.predictions = predictions(&scene, &forecast);
    forecast.assumptions = assumptions(&scene, &forecast, &elected);
    forecast.assumptions.extend(unjudged(&scene, &forecast).into_iter().map(|told| format!("not judged: {told}")));
    forecast
}

impl Forecast {
    /// All that was assumed, for a run that goes on watching for so long after the heal.
    pub fn assumptions_of(&self, watched: Duration) -> impl Iterator<Item = String> {
        self.assumptions.iter().cloned().chain(self.recovery.beyond(watched.as_secs_f64()))
    }
}

/// What people read, in the order of its checks.
fn predictions(scene: &Scene<'_>, forecast: &Forecast) -> Vec<Prediction> {
    let mut all = vec![fault_proven(scene)];
    all.extend(forecast.etcd.iter().map(EtcdForecast::prediction));
    all.extend(forecast.api.iter().map(ApiForecast::prediction));
    all.extend(forecast.api_servers.iter().flat_map(ApiServerForecast::predictions));
    all.extend(forecast.stale.iter().map(StaleForecast::prediction));
    all.extend(forecast.leases.iter().flat_map(LeaseForecast::predictions));
    all.extend(forecast.nodes.iter().map(NodeForecast::prediction));
    all.extend(node::taint_predictions(&forecast.nodes));
    all.extend(endpoints::predictions(scene, &forecast.endpoints, &forecast.service));
    all.extend(forecast.workloads.iter().flat_map(WorkloadForecast::predictions));
    all.extend(forecast.budgets.iter().filter_map(BudgetForecast::prediction));
    all.extend(forecast.recovery.predictions());
    all.sort_by_key(|p| p.check);
    all
}

/// What is predicted and has no check: nobody writes down what it would take.
fn unjudged(scene: &Scene<'_>, forecast: &Forecast) -> Vec<String> {
    let mut all = budget::told(scene, &forecast.budgets);
    all.extend(forecast.leases.iter().filter_map(LeaseForecast::unjudged));
    match workload::unaffected(scene) {
        0 => {}
        pods => all.push(format!(
            "{} of DaemonSets and static pods on the losing side go on running: they tolerate the taint for ever",
            count(pods, "observed pod")
        )),
    }
    all
}

fn fault_proven(scene: &Scene<'_>) -> Prediction {
    let (expected, reason) = match scene.fault.edges() {
        0 => ("every pair alive all the time", "a rehearsal: nobody is cut".to_owned()),
        edges => (
            "every cut pair silent during the cut, every other one alive; all alive before and after",
            format!("{edges} directed edges are cut"),
        ),
    };
    // Of a cut that comes and goes, or takes some packets only, no pair is silent all the time.
    let is_whole = scene.fault.edges() == 0 || scene.fault.pattern.is_steady();
    let bounded = if is_whole { bounds::throughout(0.0, scene.duration) } else { None };
    bounds::prediction(Check::FaultProven, "network", expected, bounded, reason)
}

/// `elected`: all Leases whose holders' nodes are known.
fn assumptions(scene: &Scene<'_>, forecast: &Forecast, elected: &[LeaseForecast]) -> Vec<String> {
    let (snapshot, timers) = (scene.snapshot, &scene.snapshot.timers);
    let status_period = Timer::assumed(KUBELET_STATUS_UPDATE, STATUS_PERIOD_SOURCE);
    let mut named: Vec<(&str, &Timer)> = vec![
        ("node monitor grace period", &timers.node_monitor_grace),
        ("node monitor period", &timers.node_monitor_period),
        ("node eviction rate", &timers.node_eviction_rate),
        ("kubelets' Lease renewal", &timers.node_lease_renew),
        ("etcd election timeout", &timers.etcd_election),
    ];
    if scene.losing().next().is_some() {
        named.push(("kubelets' node status period", &status_period));
    }
    // The rates of other zones matter where one is disrupted so.
    let is_partial = |n: &NodeForecast| n.zone == ZoneState::Partial;
    if forecast.nodes.iter().any(is_partial) {
        named.extend(scene.known.of_zones());
    }
    if !forecast.api_servers.is_empty() {
        named.extend(scene.known.of_api_servers());
    }
    let mut all: Vec<String> = named.iter().filter(|(_, t)| t.assumed).map(|(what, t)| assumed(what, t)).collect();
    // A side that hears none of them is none of those that are counted.
    if scene.sides.iter().any(|s| s.etcd_members > 0 && etcd::loses_members(s)) {
        all.push(VOTERS.into());
    }
    all.extend(etcd::unwatched(snapshot));
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
    let unread = "it has no Lease, and whether it has a lock by annotation may not be read; nothing is predicted";
    all.extend(snapshot.unread_locks.iter().map(|name| format!("kube-system/{name}: {unread}")));
    all.extend(snapshot.unread_leases.iter().map(|what| format!("{what}; nothing is predicted of them")));
    let unlike = "they differ, and what is predicted may not hold for each";
    all.extend(snapshot.unlike_flags.iter().map(|what| format!("{what}: {unlike}")));
    all.extend(endpoints::assumed(scene));
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
        Some(known) if known.is_coordinated() => Some(either.into()),
        Some(_) => None,
        None if scene.snapshot.leases.iter().any(|l| elects(l) && is_manager(&l.subject())) => Some(either.into()),
        None => Some("the leading controller manager is on the side that can write".into()),
    }
}

/// What a majority is counted of.
const VOTERS: &str = "every member of etcd has a vote: a learner, which has none, is not told apart";

/// `nodeStatusUpdateFrequency` is in each kubelet's own configuration, which no object shows.
const STATUS_PERIOD_SOURCE: &str =
    "nodeStatusUpdateFrequency can't be read; upstream's default, pkg/kubelet/apis/config/v1beta1/defaults.go";

fn assumed(what: &str, timer: &Timer) -> String {
    format!("{what}: {} ({})", timer.seconds, timer.source)
}
