//! Watches a run from the operator's side, writes down what it saw every few seconds, and goes on where another replica ended.

use super::{
    alarms::{self, Alarms},
    canary,
    context::Context,
    convergence, endpoints, events, heal_path, leases, objects, register,
};
use crate::{
    api::{NodeRecord, NodeRecordSpec, NodeRecordStatus, Observer, Phase, RackPartition, Schedule, SpanKind},
    fault::RunPlan,
    observe::{Look, Observation, Recorder, boot_id, now},
    topology::Snapshot,
};
use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::apis::meta::v1::MicroTime};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::watch,
    task::{JoinSet, spawn_blocking},
    time::{MissedTickBehavior, interval},
};

const WRITE_PERIOD: Duration = Duration::from_secs(3);
/// For one look. An answer later than this says little about its moment.
const LOOK_DEADLINE: Duration = Duration::from_secs(2);

/// What this operator watches now, by the run's uid.
#[derive(Default)]
pub struct Observers(Mutex<HashMap<String, Watching>>);

struct Watching {
    /// The alarms and what they need. Ends with this value.
    _alarms: JoinSet<()>,
    /// Whether there is any condition to look at.
    has_alarms: bool,
    /// Everything else, the record's writer among it; none once another replica may do that.
    looks: Option<JoinSet<()>>,
    convergence: watch::Receiver<Option<String>>,
    alarms: watch::Receiver<Option<Alarms>>,
    schedule: watch::Sender<Option<Schedule>>,
    record: Record,
}

/// The operator's record of a run, shared by the tasks that look.
#[derive(Clone)]
pub struct Record {
    recorder: Arc<Mutex<Recorder>>,
    /// Held by whoever writes it to the API.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Record {
    fn new(recorder: Recorder) -> Self {
        Record { recorder: Arc::new(Mutex::new(recorder)), turn: Arc::default() }
    }

    /// Writes down one observation made now.
    pub fn observe(&self, kind: SpanKind, seen: Observation) {
        self.recorder.lock().expect("no holder panics").observe(kind, now(), seen);
    }
    /// What the latest span of each subject of this kind tells.
    pub fn told(&self, kind: SpanKind) -> HashMap<String, String> {
        let recorder = self.recorder.lock().expect("no holder panics");
        let told = recorder.spans().iter().filter(|s| s.kind == kind);
        told.filter_map(|s| Some((s.subject.clone(), s.detail.clone()?))).collect()
    }

    /// Has all that was seen so far written, as the patch of a status. One write at a time: an older one that lands last would take away
    /// what a later one has written, and the judge goes by what it finds.
    async fn write_by<W: Future<Output = kube::Result<()>>>(&self, write: impl FnOnce(Value) -> W) -> kube::Result<()> {
        let _turn = self.turn.lock().await;
        let status = {
            let recorder = self.recorder.lock().expect("no holder panics");
            recorder.write(NodeRecordStatus {
                boot_id: boot_id().ok(),
                observed_until: Some(MicroTime(k8s_openapi::jiff::Timestamp::now())),
                ..Default::default()
            })
        };
        write(patch_of(status).await?).await
    }
}

impl Observers {
    /// Begins to watch this run, unless it is being watched. `earlier` is what another process wrote down.
    pub fn ensure(
        &self,
        ctx: &Arc<Context>,
        run: &RackPartition,
        plan: &RunPlan,
        snapshot: &Snapshot,
        earlier: Option<&NodeRecord>,
    ) {
        let mut all = self.0.lock().expect("no holder panics");
        // What was only kept is begun anew: another replica may have gone on with the record.
        let kept = all.extract_if(|uid, watching| *uid == plan.run_uid && watching.looks.is_none()).next();
        let ended = kept.and_then(|(_, watching)| watching.alarms.borrow().clone()?.ends);
        let begin = || Watching::begin(ctx, run, plan, snapshot, earlier, ended);
        let watching = all.entry(plan.run_uid.clone()).or_insert_with(begin);
        watching.schedule.send_replace(run.status.as_ref().and_then(|s| s.schedule.clone()));
    }

    /// What the cluster waits for to be whole; None when it is whole, Err before the first look.
    pub fn convergence(&self, run_uid: &str) -> Result<Option<String>, ()> {
        let watching = self.0.lock().expect("no holder panics");
        let seen = watching.get(run_uid).ok_or(())?.convergence.borrow().clone();
        match seen {
            None => Err(()),
            Some(waiting) => Ok(Some(waiting).filter(|w| !w.is_empty())),
        }
    }

    /// What `spec.abortWhen` says; `None` before the first look.
    pub fn alarms(&self, run_uid: &str) -> Option<Alarms> {
        let watching = self.0.lock().expect("no holder panics");
        watching.get(run_uid)?.alarms.borrow().clone()
    }

    /// Seconds for which the cluster has been seen whole without a break, up to now.
    pub fn whole_for(&self, run_uid: &str) -> f64 {
        let watching = self.0.lock().expect("no holder panics");
        let Some(watching) = watching.get(run_uid) else { return 0.0 };
        let recorder = watching.record.recorder.lock().expect("no holder panics");
        let latest = recorder.spans().iter().rfind(|s| s.kind == SpanKind::Convergence);
        latest.filter(|s| s.state == "ok").map_or(0.0, |s| (s.to.boot_us - s.from.boot_us) as f64 / 1e6)
    }

    /// Writes the record a last time.
    pub async fn write(&self, ctx: &Context, run: &RackPartition) -> kube::Result<()> {
        let uid = run.uid().unwrap_or_default();
        let record = self.0.lock().expect("no holder panics").get(&uid).map(|w| w.record.clone());
        match record {
            Some(record) => write(ctx, run, &record).await,
            None => Ok(()),
        }
    }

    pub fn end(&self, run_uid: &str) {
        self.0.lock().expect("no holder panics").remove(run_uid);
    }

    /// Stops everything: this process ends.
    pub fn end_all(&self) {
        self.0.lock().expect("no holder panics").clear();
    }

    /// Stops everything but the alarms of a cut: this replica leads no more, and maybe nobody does, because the API is what was
    /// lost. Then nobody else would see it.
    pub fn keep_alarms(&self) {
        let mut all = self.0.lock().expect("no holder panics");
        all.retain(|_, watching| watching.has_alarms && alarms::is_cut(watching.schedule.borrow().as_ref()));
        all.values_mut().for_each(|watching| watching.looks = None);
    }

    /// Stops what was kept of cuts that are over.
    pub fn end_kept(&self) {
        let mut all = self.0.lock().expect("no holder panics");
        all.retain(|_, w| w.looks.is_some() || alarms::is_cut(w.schedule.borrow().as_ref()));
    }
}

impl Watching {
    fn begin(
        ctx: &Arc<Context>,
        run: &RackPartition,
        plan: &RunPlan,
        snapshot: &Snapshot,
        earlier: Option<&NodeRecord>,
        ended: Option<String>,
    ) -> Self {
        let status = earlier.and_then(|r| r.status.clone()).unwrap_or_default();
        let is_same_boot = status.boot_id == boot_id().ok();
        let mut recorder = Recorder::resume(status).for_packed();
        if !is_same_boot {
            recorder.separate();
        }
        let record = Record::new(recorder);
        let (whole, convergence) = watch::channel(None);
        let (bells, alarms) = watch::channel(None);
        let (mut looks, mut tasks) = (JoinSet::new(), JoinSet::new());
        for (namespace, planned) in leases::of_plan(snapshot) {
            looks.spawn(leases::watch_leases(ctx.clone(), namespace, planned, record.clone()));
        }
        let sides = run.status.as_ref().and_then(|s| s.plan.as_ref()).map(|p| p.sides.clone()).unwrap_or_default();
        looks.spawn(endpoints::watch_services(ctx.clone(), snapshot.clone(), sides, record.clone()));
        looks.spawn(events::watch_events(ctx.clone(), record.clone()));
        looks.spawn(convergence::watch_cluster(ctx.clone(), run.clone(), snapshot.clone(), record.clone(), whole));
        looks.spawn(write_down(ctx.clone(), run.clone(), record.clone()));
        looks.spawn(register::read_back(ctx.clone(), plan.clone(), record.clone()));
        let (schedule, scheduled) = watch::channel(None);
        if run.status.as_ref().and_then(|s| s.phase) == Some(Phase::Arming) {
            looks.spawn(heal_path::try_nodes(plan.clone(), ctx.settings.node.clone(), scheduled.clone()));
        }
        let acknowledged = canary::Acknowledged::default();
        let watched = alarms::Watched {
            run: run.clone(),
            plan: plan.clone(),
            acknowledged: acknowledged.clone(),
            ended,
            schedule: scheduled,
        };
        tasks.spawn(alarms::watch_all(ctx.clone(), watched, bells));
        for server in &plan.api_servers {
            let (ctx, run, acknowledged) = (ctx.clone(), run.clone(), acknowledged.clone());
            tasks.spawn(canary::write_through(ctx, run, server.clone(), record.clone(), acknowledged));
        }
        let has_alarms = !run.spec.abort_when.is_empty();
        Watching { _alarms: tasks, has_alarms, looks: Some(looks), convergence, alarms, schedule, record }
    }
}

/// A clock for looks: one that was missed is not made up for.
pub fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Awaits one look within the deadline. A failed one leaves a gap in the record, which the judge sees.
pub async fn look<T>(what: &str, answer: impl Future<Output = kube::Result<T>>) -> Option<T> {
    match Look::within(LOOK_DEADLINE, answer).await {
        Some(Ok(seen)) => Some(seen),
        Some(Err(error)) => {
            tracing::debug!(%error, what, "failed to look");
            None
        }
        None => {
            tracing::debug!(what, "failed to look in time");
            None
        }
    }
}

async fn write_down(ctx: Arc<Context>, run: RackPartition, record: Record) {
    let mut ticks = every(WRITE_PERIOD);
    loop {
        ticks.tick().await;
        if let Err(error) = write(&ctx, &run, &record).await {
            tracing::debug!(%error, "failed to write the operator's record");
        }
    }
}

/// Creates the operator's record, or replaces what it says.
async fn write(ctx: &Context, run: &RackPartition, record: &Record) -> kube::Result<()> {
    record.write_by(|status| put(ctx, run, status)).await
}

async fn put(ctx: &Context, run: &RackPartition, status: Value) -> kube::Result<()> {
    let name = objects::record_name(run);
    let records = ctx.records();
    let patched = records.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await;
    match patched {
        Err(kube::Error::Api(answer)) if answer.is_not_found() => {
            let uid = run.uid().unwrap_or_default();
            let spec = NodeRecordSpec::new(run.name_any(), uid, &ctx.settings.node, Observer::Operator);
            let mut new = NodeRecord::new(&name, spec);
            new.metadata.labels = Some(objects::labels(run));
            new.metadata.owner_references = Some(objects::owner(run));
            records.create(&PostParams::default(), &new).await?;
            records.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await.map(drop)
        }
        other => other.map(drop),
    }
}

/// The patch that writes this. To pack thousands of spans takes a while, and whoever looks at the cluster must not wait for it.
///
/// # Errors
/// Where this process ends meanwhile.
async fn patch_of(status: NodeRecordStatus) -> kube::Result<Value> {
    let patch = spawn_blocking(move || json!({"status": replacing(status)})).await;
    patch.map_err(|error| kube::Error::Service(error.into()))
}

/// As a merge patch that leaves none of the spans that were written before: plain as long as an agent's would be, and packed where there
/// are more. In both forms at once nobody could tell which count.
fn replacing(status: NodeRecordStatus) -> Value {
    let (mut patch, other) = match status.spans.len() <= Recorder::BOUND {
        true => (json!(status), "packedSpans"),
        false => (json!(status.packed()), "spans"),
    };
    patch[other] = Value::Null;
    patch
}

/// What the API says of one pod, as spans call it.
pub fn pod_state(pod: &core::Pod, ready: bool) -> String {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("Unknown");
    let state = match (pod.metadata.deletion_timestamp.is_some(), ready) {
        (true, _) => "Terminating",
        (false, true) => "Ready",
        (false, false) => "NotReady",
    };
    format!("{phase}/{state}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Span;
    use tokio::time::sleep;

    fn node(i: usize) -> Span {
        Span::bare(SpanKind::Node, format!("n{i}"), "True", now(), now())
    }

    #[test]
    fn more_spans_than_fit_plain_are_written_packed_and_the_other_form_goes() {
        let written = |spans: usize| {
            let spans = (0..spans).map(node).collect();
            replacing(NodeRecordStatus { spans, ..NodeRecordStatus::default() })
        };
        let plain = written(Recorder::BOUND);
        assert!(plain["spans"].is_array() && plain.get("packedSpans") == Some(&Value::Null));
        let packed = written(Recorder::BOUND + 1);
        assert!(packed["packedSpans"].is_string() && packed.get("spans") == Some(&Value::Null));
    }

    #[tokio::test]
    async fn what_was_seen_later_is_written_last() {
        let (record, landed) = (Record::new(Recorder::new()), Mutex::new(Vec::new()));
        let see = |node: &str| record.observe(SpanKind::Node, Observation::new(node, "True"));
        let write = |lasts: Duration| {
            let landed = &landed;
            record.write_by(move |patch| async move {
                sleep(lasts).await;
                landed.lock().unwrap().push(patch["status"]["spans"].as_array().map_or(0, Vec::len));
                Ok(())
            })
        };
        see("n1");
        // The first has what was seen so far, and takes its time.
        let later = async {
            see("n2");
            write(Duration::ZERO).await
        };
        let (first, last) = tokio::join!(write(Duration::from_millis(100)), later);
        first.and(last).unwrap();
        assert_eq!(*landed.lock().unwrap(), [1, 2]);
    }

    #[tokio::test]
    async fn others_look_while_a_record_is_packed() {
        let spans = (0..5 * Recorder::BOUND).map(node).collect();
        // In a runtime of one thread it has its turn only when whoever packs gives the thread away.
        let looks = tokio::spawn(async {});
        let patch = patch_of(NodeRecordStatus { spans, ..NodeRecordStatus::default() }).await.unwrap();
        assert!(looks.is_finished() && patch["status"]["packedSpans"].is_string());
    }
}
