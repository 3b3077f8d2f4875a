//! What every step may use.

use super::{
    metrics::Metrics, objects, observer::Observers, refusals::Refusals, settings::Settings, steps::abort::Reminder,
};
use crate::{
    api::{NodeRecord, Observer, RackPartition},
    connection::Route,
};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    coordination::v1::Lease,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, Client, ResourceExt,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use std::sync::Arc;
use tokio::sync::watch;

pub struct Context {
    pub settings: Settings,
    pub route: Route,
    pub client: Client,
    pub observers: Observers,
    pub reminder: Reminder,
    pub refusals: Refusals,
    pub metrics: Arc<Metrics>,
    /// Set to give leadership away to a replica on a better side.
    pub hand_over: watch::Sender<bool>,
    recorder: Recorder,
}

impl Context {
    pub fn new(settings: Settings, route: Route) -> Self {
        let client = route.client();
        let reporter = Reporter { controller: "rackpartition".into(), instance: Some(settings.pod.clone()) };
        Context {
            recorder: Recorder::new(client.clone(), reporter),
            observers: Observers::default(),
            reminder: Reminder::default(),
            refusals: Refusals::default(),
            metrics: Arc::new(Metrics::new()),
            hand_over: watch::Sender::new(false),
            settings,
            route,
            client,
        }
    }

    pub fn runs(&self) -> Api<RackPartition> {
        Api::all(self.client.clone())
    }
    pub fn records(&self) -> Api<NodeRecord> {
        Api::namespaced(self.client.clone(), &self.settings.agent.agent_namespace)
    }
    pub fn plans(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.settings.agent.agent_namespace)
    }
    /// Where ended runs' plans are without their secrets. Apart from the plans: who may read these need not be let read those.
    pub fn journals(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.settings.namespace)
    }
    pub fn daemon_sets(&self) -> Api<DaemonSet> {
        Api::namespaced(self.client.clone(), &self.settings.agent.agent_namespace)
    }
    pub fn canary_leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.settings.agent.agent_namespace)
    }
    pub fn agent_pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.settings.agent.agent_namespace)
    }

    /// The agents' records of this run as they are, and the operator's with its spans unpacked: it is what an operator goes on from. Whoever
    /// reads agents' spans after the heal unpacks them, see [`unpack`].
    ///
    /// # Errors
    /// Where they can't be read.
    pub async fn records_of(&self, run: &RackPartition) -> kube::Result<(Vec<NodeRecord>, Option<NodeRecord>)> {
        let records = self.records().list(&objects::of_run(run)).await?.items;
        let (agents, mut operator) = tell_apart(run, records);
        unpack(operator.as_mut_slice());
        Ok((agents, operator))
    }

    /// The plan of this run, where it has been made.
    ///
    /// # Errors
    /// Where it can't be read.
    pub async fn plan_map_of(&self, run: &RackPartition) -> kube::Result<Option<ConfigMap>> {
        let Some(plan) = run.status.as_ref().and_then(|s| s.plan.as_ref()) else { return Ok(None) };
        self.plans().get_opt(&objects::plan_name(run, &plan.hash)).await
    }

    /// Tells people who look at the object's events. A failure is only logged: events are for convenience.
    pub async fn tell(&self, run: &RackPartition, warning: bool, reason: &str, note: &str) {
        let event = Event {
            type_: if warning { EventType::Warning } else { EventType::Normal },
            reason: reason.into(),
            // The API takes at most 1 kB.
            note: Some(note.chars().take(1000).collect()),
            action: reason.into(),
            secondary: None,
        };
        use kube::Resource;
        if let Err(error) = self.recorder.publish(&event, &run.object_ref(&())).await {
            tracing::warn!(%error, reason, "failed to publish an event");
        }
    }
}

/// The agents' records of this run, and the operator's. Only the one of the operator's own name is: agents create records too, and whatever
/// leads next goes on from it.
fn tell_apart(run: &RackPartition, mut records: Vec<NodeRecord>) -> (Vec<NodeRecord>, Option<NodeRecord>) {
    // A run of the same name may have been here before, and so may agents that only looked before there was a plan.
    records.retain(|r| Some(&r.spec.run_uid) == run.uid().as_ref());
    if let Some(plan) = run.status.as_ref().and_then(|s| s.plan.as_ref()) {
        let of_another =
            |r: &NodeRecord| r.status.as_ref().and_then(|s| s.plan_hash.as_ref()).is_some_and(|h| *h != plan.hash);
        records.retain(|r| !of_another(r));
    }
    let name = objects::record_name(run);
    let (agents, operators): (Vec<_>, Vec<_>) = records.into_iter().partition(|r| r.spec.observer == Observer::Agent);
    (agents, operators.into_iter().find(|r| r.name_any() == name))
}

/// Unpacks spans, which takes a while of many records. One whose spans can't be read stays packed: what else it says counts, and for the
/// judge it is no record.
pub fn unpack(records: &mut [NodeRecord]) {
    for record in records {
        if let Err(error) = record.unpack() {
            tracing::warn!(%error, record = record.name_any(), "failed to unpack a record");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::NodeRecordSpec;

    #[test]
    fn only_the_record_of_the_operators_own_name_is_the_operators() {
        let uid = "0a1b2c3d-4e5f";
        let spec = serde_json::json!({"cut": {"isolate": {"racks": ["r1"]}}, "duration": "60s"});
        let mut run = RackPartition::new("run", serde_json::from_value(spec).unwrap());
        run.metadata.uid = Some(uid.into());
        let record =
            |name: &str, uid: &str, observer| NodeRecord::new(name, NodeRecordSpec::new("run", uid, "w1", observer));
        let own = || record("run-0a1b2c3d.operator", uid, Observer::Operator);
        // Of a node that is called so.
        let agents = || record("run-0a1b2c3d-operator", uid, Observer::Agent);
        // An agent's word, by whatever name, and whichever comes last.
        let forged = || record("run-0a1b2c3d-w1.operator", uid, Observer::Operator);
        let earlier = || record("run-0a1b2c3d.operator", "another", Observer::Operator);
        let names = |records: Vec<NodeRecord>| {
            let (agents, operator) = tell_apart(&run, records);
            (agents.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), operator.map(|r| r.name_any()))
        };
        let agent = vec!["run-0a1b2c3d-operator".to_owned()];
        let expected = (agent.clone(), Some("run-0a1b2c3d.operator".to_owned()));
        assert_eq!(names(vec![own(), agents(), forged()]), expected);
        assert_eq!(names(vec![forged(), own(), agents()]), expected);
        assert_eq!(names(vec![forged(), agents(), earlier()]), (agent, None), "it has said nothing yet");
    }
}
