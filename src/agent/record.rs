//! Keeps this agent's NodeRecord in step with its journal, and asks the operator for the time.

use super::{Error, clock::Exchange, follow, journal::Journal};
use crate::{
    api::{
        ClockReply, Moment, NodeRecord, NodeRecordSpec, NodeRecordStatus, Observer, RUN_LABEL, RackPartition,
        RecordPhase,
    },
    connection::Route,
    observe,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use std::time::Duration;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};

/// Field manager of everything an agent writes.
pub const MANAGER: &str = "rackpartition-agent";
/// Between two uploads of observations. Changes of phase and questions of the clock are uploaded at once.
const UPLOAD_EVERY: Duration = Duration::from_secs(3);
/// After a failure; the route moves on to another API server meanwhile.
const RETRY: Duration = Duration::from_secs(1);
/// Between two rounds of the clock exchange while the run waits for this node, and afterwards. The first round falls into the start
/// of all agents at once, when round trips are long.
const ROUND_WHILE_ARMED: Duration = Duration::from_secs(5);
const ROUND_EVERY: Duration = Duration::from_secs(30);
/// Characters of a run's uid in names: enough to tell runs of one name apart.
const UID_LENGTH: usize = 8;

/// Name of the NodeRecord of `node` in `run`.
pub fn record_name(run: &str, run_uid: &str, node: &str) -> String {
    let uid: String = run_uid.chars().take(UID_LENGTH).collect();
    format!("{run}-{uid}-{node}")
}

/// Owner reference to the run: what it owns goes when it goes.
pub fn owner(run: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: RackPartition::api_version(&()).into_owned(),
        kind: RackPartition::kind(&()).into_owned(),
        name: run.into(),
        uid: uid.into(),
        ..Default::default()
    }
}

/// This agent's NodeRecord.
#[derive(Clone)]
pub struct Record {
    api: Api<NodeRecord>,
    name: String,
    spec: NodeRecordSpec,
    journal: Journal,
    route: Route,
}

impl Record {
    pub fn new(route: Route, namespace: &str, (run, run_uid): (&str, &str), node: &str, journal: Journal) -> Self {
        let spec = NodeRecordSpec::new(run, run_uid, node, Observer::Agent);
        let api = Api::namespaced(route.client(), namespace);
        Record { api, name: record_name(run, run_uid, node), spec, journal, route }
    }

    /// Passes on every answer of the operator's clock with the moment of its arrival. Never returns.
    pub async fn follow_replies(self, replies: mpsc::Sender<(ClockReply, Moment)>) {
        follow::follow(self.api.clone(), &self.name, |seen| {
            if let follow::Seen::There(NodeRecord { spec: NodeRecordSpec { clock_reply: Some(reply), .. }, .. }) = seen
            {
                // Seen again with every change of the record; a full queue holds the same answer already.
                let _ = replies.try_send((reply, observe::now()));
            }
        })
        .await
    }

    /// Uploads the journal: at once when the phase changes, every few seconds otherwise; `there` from the first time on. Never returns.
    pub async fn keep(
        self,
        mut phases: watch::Receiver<Option<RecordPhase>>,
        mut replies: mpsc::Receiver<(ClockReply, Moment)>,
        there: watch::Sender<bool>,
    ) {
        let mut exchange = Exchange::new(self.journal.clock().anchors);
        let (mut exists, mut urgent, mut failed) = (false, true, String::new());
        let (mut uploaded, mut tried, mut round) = (0, Instant::now(), Instant::now());
        let mut ticks = interval(Duration::from_millis(250));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        exchange.begin_round();
        loop {
            let waited = tried.elapsed();
            let due = match failed.is_empty() {
                true => urgent || (waited >= UPLOAD_EVERY && uploaded != self.journal.revision()),
                false => waited >= RETRY,
            };
            // Asked last before it leaves, so that the round trip is short.
            let asks = failed.is_empty() && exchange.ask(&observe::now());
            if due || asks {
                self.journal.set_clock(exchange.clock());
                (urgent, tried) = (false, Instant::now());
                let revision = self.journal.revision();
                let attempt = self.upload(&mut exists);
                // The connection that waits for the end of the cut would wait longer than a new one.
                let result = tokio::select! {
                    result = attempt => result,
                    () = ends(phases.clone()) => Err(Error::RecordDeadline { verb: "patch", name: self.name.clone() }),
                };
                match result {
                    Ok(()) => {
                        failed.clear();
                        uploaded = revision;
                        there.send_replace(true);
                    }
                    Err(error) => {
                        // Deleted with its run: made anew it would belong to nobody.
                        let is_over = *phases.borrow() == Some(RecordPhase::Aborted);
                        exists &= is_over || !is_missing(&error);
                        let text = error.to_string();
                        if text != failed {
                            tracing::warn!(error = text, "the record is behind");
                        }
                        failed = text;
                    }
                }
            }
            tokio::select! {
                Ok(()) = phases.changed() => {
                    let phase = *phases.borrow_and_update();
                    urgent = true;
                    if has_ended(phase) {
                        self.route.redial();
                        failed.clear();
                        exchange.begin_round();
                    }
                }
                Some((reply, at)) = replies.recv() => urgent |= exchange.answer(&reply, &at),
                _ = ticks.tick() => {
                    // While a node is cut off nobody answers, and the anchors at both ends bound what happens in between.
                    let phase = *phases.borrow();
                    let every = if phase == Some(RecordPhase::Armed) { ROUND_WHILE_ARMED } else { ROUND_EVERY };
                    if round.elapsed() >= every && phase != Some(RecordPhase::Loaded) {
                        round = Instant::now();
                        exchange.begin_round();
                    }
                }
            }
        }
    }

    /// Uploads the journal once, creating the record where it is not known to exist.
    ///
    /// # Errors
    /// Where the API server refuses or can't be reached, or the record belongs to an earlier run.
    pub async fn upload(&self, exists: &mut bool) -> Result<(), Error> {
        if !*exists {
            self.create().await?;
            *exists = true;
        }
        let status = to_upload(self.journal.status());
        let patch = json!({
            "apiVersion": NodeRecord::api_version(&()), "kind": NodeRecord::kind(&()), "status": status,
        });
        let params = PatchParams::apply(MANAGER).force();
        let patched = self.api.patch_status(&self.name, &params, &Patch::Apply(patch)).await;
        patched.map(drop).map_err(|e| Error::record("patch", &self.name, e))
    }

    async fn create(&self) -> Result<(), Error> {
        let found = self.api.get_opt(&self.name).await.map_err(|e| Error::record("read", &self.name, e))?;
        if let Some(found) = found {
            return match is_own(&found.spec, &self.spec) {
                true => Ok(()),
                // An earlier run's the garbage collector removes; until then every try ends here.
                false => Err(Error::RecordOfEarlierRun { name: self.name.clone() }),
            };
        }
        let mut record = NodeRecord::new(&self.name, self.spec.clone());
        record.labels_mut().insert(RUN_LABEL.into(), self.spec.run.clone());
        record.owner_references_mut().push(owner(&self.spec.run, &self.spec.run_uid));
        let params = PostParams { field_manager: Some(MANAGER.into()), ..Default::default() };
        let created = self.api.create(&params, &record).await;
        created.map(drop).map_err(|e| Error::record("create", &self.name, e))
    }
}

/// Whether a record of the same name is this agent's: two nodes' names may make one with the names of two runs.
fn is_own(found: &NodeRecordSpec, own: &NodeRecordSpec) -> bool {
    (&found.run_uid, &found.node, found.observer) == (&own.run_uid, &own.node, own.observer)
}

/// What of a journal goes into the record. While it is looked at under way, by the operator before the cut and by people, its spans are
/// plain. Later they are packed: every agent uploads all that it saw then, as soon as its API server answers, and again every few seconds.
fn to_upload(status: NodeRecordStatus) -> NodeRecordStatus {
    if has_ended(status.phase) { status.packed() } else { status }
}

fn has_ended(phase: Option<RecordPhase>) -> bool {
    matches!(phase, Some(RecordPhase::Healed | RecordPhase::Aborted))
}

/// Resolves when this node's part ends; never where it has ended before.
async fn ends(mut phases: watch::Receiver<Option<RecordPhase>>) {
    if has_ended(*phases.borrow()) || phases.wait_for(|p| has_ended(*p)).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Record { source, .. } if matches!(&**source, kube::Error::Api(s) if s.code == 404))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::fixture::passing;

    #[test]
    fn records_are_named_after_run_and_uid_and_node() {
        let uid = "0a1b2c3d-4e5f-6789-abcd-ef0123456789";
        assert_eq!(record_name("isolate", uid, "w1.example.org"), "isolate-0a1b2c3d-w1.example.org");
        assert_eq!(record_name("isolate", "u1", "w1"), "isolate-u1-w1");
    }

    #[test]
    fn a_record_of_this_name_is_an_agents_own_by_run_node_and_observer() {
        let own = NodeRecordSpec::new("isolate", "u1", "rack-w1", Observer::Agent);
        assert!(is_own(&own.clone(), &own));
        for (uid, node, observer) in
            [("u0", "rack-w1", Observer::Agent), ("u1", "w1", Observer::Agent), ("u1", "rack-w1", Observer::Operator)]
        {
            assert!(!is_own(&NodeRecordSpec::new("isolate", uid, node, observer), &own), "{uid} {node}");
        }
    }

    #[test]
    fn what_an_agent_saw_is_plain_before_its_part_ends_and_packed_from_then_on() {
        let seen = passing().status("cp1").clone();
        for phase in [None, Some(RecordPhase::Unfit), Some(RecordPhase::Armed), Some(RecordPhase::Loaded)] {
            let status = NodeRecordStatus { phase, ..seen.clone() };
            assert_eq!(to_upload(status.clone()), status, "{phase:?}");
        }
        for phase in [RecordPhase::Healed, RecordPhase::Aborted] {
            let status = NodeRecordStatus { phase: Some(phase), ..seen.clone() };
            let uploaded = to_upload(status.clone());
            assert!(uploaded.spans.is_empty() && uploaded.packed_spans.is_some(), "{phase:?}");
            let spec = NodeRecordSpec::new("isolate", "u1", "cp1", Observer::Agent);
            let mut record = NodeRecord { status: Some(uploaded), ..NodeRecord::new("record", spec) };
            record.unpack().unwrap();
            assert_eq!(record.status, Some(status), "{phase:?}");
        }
    }

    #[test]
    fn the_run_owns_its_records() {
        let owner = owner("isolate", "u1");
        assert_eq!((owner.api_version, owner.kind.as_str()), ("rackpartition.io/v1alpha1".into(), "RackPartition"));
    }
}
