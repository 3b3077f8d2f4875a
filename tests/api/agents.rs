//! Agents as the operator sees them: played here, over the same objects, without kernels.

use crate::{
    cluster::{Cluster, of_run},
    replica::AGENTS,
};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::{
    api::core::v1::ConfigMap,
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::{SignedDuration, Timestamp},
};
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use rackpartition::{
    agent::record_name,
    api::{
        Clock, ClockAnchor, ClockPing, ETCD, ETCD_DISK, ETCD_LEADER, Kernel, Moment, NodeRecord, NodeRecordSpec,
        NodeRecordStatus, Observer, Phase, RUN_LABEL, RackPartition, RecordPhase, Span, SpanKind,
    },
    fault::{PortClass, RunPlan, Way},
    observe::{before, boot_id, now},
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

const UPLOAD_EVERY: Duration = Duration::from_secs(3);
/// For so long members of etcd have been seen when a play begins: longer than a run waits for.
const SEEN_FOR: Duration = Duration::from_secs(20);

/// How the member of etcd beside an agent looks to it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Member {
    #[default]
    Well,
    /// It writes slowly.
    Slow,
    /// Its leader is another one at every look.
    Fickle,
    /// It does not say a word.
    Silent,
}

impl Member {
    /// What there is to see of its leader and of its disk.
    fn states(self) -> Option<[&'static str; 2]> {
        match self {
            Member::Well => Some(["steady", "fast"]),
            Member::Slow => Some(["steady", "slow"]),
            Member::Fickle => Some(["changed", "fast"]),
            Member::Silent => None,
        }
    }
}

/// When the member of etcd beside an agent leads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Leads {
    Always,
    /// No longer once its agent has loaded the windows.
    UntilLoaded,
    /// Not before.
    OnceLoaded,
}

impl Leads {
    /// Of its member, before and after its agent has loaded the windows.
    fn state(self, loaded: bool) -> &'static str {
        let leads = match self {
            Leads::Always => true,
            Leads::UntilLoaded => !loaded,
            Leads::OnceLoaded => loaded,
        };
        if leads { "leads" } else { "follows" }
    }
}

/// What one agent does otherwise than well.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// Its clock is this far ahead of the operator's.
    pub ahead_ms: i64,
    /// It never loads the windows.
    pub never_loads: bool,
    /// It gives up between loading and the instant.
    pub gives_up: bool,
    /// Once armed it never says a word again.
    pub mute: bool,
    /// It says from the start that it can't take part.
    pub unfit: bool,
    /// It does not reach its probes' targets.
    pub walled_in: bool,
    /// No datagram arrives at its node.
    pub deaf: bool,
    /// None of the operator's pod does.
    pub deaf_to_operator: bool,
    /// How the member of etcd beside it looks, where there is one.
    pub etcd: Member,
    /// When that member leads; `None`: it does not say.
    pub leads: Option<Leads>,
    /// An interface of its node has this address.
    pub holds: Option<IpAddr>,
    /// Its node hears this address, which is nobody's.
    pub stranger: Option<IpAddr>,
    /// So many tables of earlier runs were on its node.
    pub leftovers: u32,
}

/// Agents of one run, on every node of its plan, until dropped.
pub struct Agents(JoinHandle<()>);

impl Agents {
    /// `manners` by node; whoever is not named behaves.
    pub fn play(cluster: &Cluster, run: &str, manners: &[(&str, Manner)]) -> Self {
        let manners = manners.iter().map(|(node, manner)| ((*node).to_owned(), *manner)).collect();
        let (runs, records, plans) = (cluster.runs(), cluster.records(), cluster.plans());
        let play = Play { runs, records, run: run.to_owned(), manners };
        Agents(tokio::spawn(async move {
            let of_run = of_run(&play.run);
            let mut ticks = interval(Duration::from_millis(100));
            loop {
                ticks.tick().await;
                // As agents' pods: not before the operator starts them.
                let arming = play.this_run().await.filter(|r| phase(r) == Some(Phase::Arming));
                let Some(armed) = arming.and_then(|r| Some(r.status?.plan?.hash)) else { continue };
                let Ok(maps) = plans.list(&of_run).await else { continue };
                let read = |m: ConfigMap| serde_json::from_str::<RunPlan>(m.data?.get("plan.json")?).ok();
                // Those who ask who leads etcd have a plan as well.
                if let Some(plan) = maps.into_iter().filter_map(read).find(|plan| plan.hash() == armed) {
                    return play.agents(plan).await;
                }
            }
        }))
    }

    /// All of them, forever silent once armed.
    pub fn play_mute(cluster: &Cluster, run: &str) -> Self {
        let mute = Manner { mute: true, ..Default::default() };
        Self::play(cluster, run, &crate::cluster::NODES.map(|n| (n, mute)))
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Play {
    runs: Api<RackPartition>,
    records: Api<NodeRecord>,
    run: String,
    manners: BTreeMap<String, Manner>,
}

impl Play {
    async fn this_run(&self) -> Option<RackPartition> {
        self.runs.get_opt(&self.run).await.ok().flatten()
    }

    async fn agents(&self, plan: RunPlan) {
        let names: Vec<String> = plan.agents().into_iter().map(str::to_owned).collect();
        let mut agents: Vec<Agent> = names
            .into_iter()
            .map(|node| Agent::new(&plan, self.manners.get(&node).copied().unwrap_or_default(), node))
            .collect();
        let mut replies = watcher(self.records.clone(), watcher::Config::default()).touched_objects().boxed();
        let mut ticks = interval(Duration::from_millis(400));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // What waits to be heard makes clocks look out of step.
                biased;
                Ok(Some(record)) = replies.try_next() => {
                    // Those of earlier runs are still there: nobody collects them here.
                    let of_this_run = record.spec.run_uid == plan.run_uid;
                    for agent in agents.iter_mut().filter(|a| of_this_run && a.node == record.spec.node) {
                        agent.hear(&record);
                    }
                }
                _ = ticks.tick() => {
                    // A failure is no word from the API: the next tick asks again.
                    let Ok(run) = self.runs.get_opt(&self.run).await else { continue };
                    for agent in &mut agents {
                        agent.follow(run.as_ref());
                        agent.speak(&self.records, &plan).await;
                    }
                }
            }
        }
    }
}

fn phase(run: &RackPartition) -> Option<Phase> {
    run.status.as_ref().and_then(|s| s.phase)
}

struct Agent {
    node: String,
    manner: Manner,
    status: NodeRecordStatus,
    created: bool,
    spoken: bool,
    /// What it said last, and when.
    said: Option<(NodeRecordStatus, Instant)>,
    sequence: u32,
}

impl Agent {
    fn new(plan: &RunPlan, manner: Manner, node: String) -> Self {
        let state = if manner.walled_in { "silent" } else { "open" };
        let span = |kind, subject: String, state: &str| Span {
            kind,
            subject,
            state: state.into(),
            from: now(),
            to: now(),
            samples: 3,
            uid: None,
            id: None,
            node: None,
            detail: None,
        };
        let receiver = plan.member(&node).expect("a member of the plan");
        let ways = plan.members.iter().flat_map(|m| plan.ways(m, receiver).map(move |way| way.subject(&m.name)));
        // Whichever replica leads.
        let operators = plan.agents().into_iter().map(|at| plan.operator_subject(at, Way::Ipv4));
        let operators = operators.filter(|_| !manner.deaf_to_operator);
        let heard = ways.chain(operators).filter(|_| !manner.deaf);
        let heard = heard.map(|subject| span(SpanKind::Heard, subject, "heard"));
        let held = manner.holds.map(|address| span(SpanKind::Address, address.to_string(), "held"));
        let stranger = manner.stranger.map(|address| span(SpanKind::Stranger, address.to_string(), "heard"));
        let is_member = plan.probes.iter().any(|p| p.member == node && p.class == PortClass::EtcdClient);
        let states = manner.etcd.states().filter(|_| is_member);
        let etcd = states.into_iter().flat_map(|states| [ETCD_LEADER, ETCD_DISK].into_iter().zip(states)).map(
            |(subject, state)| Span { from: before(&now(), SEEN_FOR), ..span(SpanKind::Etcd, subject.into(), state) },
        );
        let leads = manner.leads.map(|leads| span(SpanKind::Etcd, ETCD.into(), leads.state(false)));
        let status = NodeRecordStatus {
            phase: Some(if manner.unfit { RecordPhase::Unfit } else { RecordPhase::Armed }),
            message: manner.unfit.then(|| "the kernel has no nftables".into()),
            plan_hash: Some(plan.hash()),
            boot_id: boot_id().ok(),
            kernel: Some(Kernel {
                table: !manner.unfit,
                gate_open: !manner.unfit,
                leftovers_removed: manner.leftovers,
                ..Default::default()
            }),
            spans: plan
                .probes
                .iter()
                .map(|p| span(SpanKind::Probe, p.subject(), state))
                .chain(heard)
                .chain(etcd)
                .chain(leads)
                .chain(held)
                .chain(stranger)
                .collect(),
            clock: Some(Clock { synchronised: true, ..Default::default() }),
            ..Default::default()
        };
        Agent { node, manner, status, created: false, spoken: false, said: None, sequence: 0 }
    }

    fn clock_now(&self) -> Timestamp {
        Timestamp::now() + SignedDuration::from_millis(self.manner.ahead_ms)
    }

    /// Takes the operator's answer to the open question.
    fn hear(&mut self, record: &NodeRecord) {
        let back = self.clock_now();
        let clock = self.status.clock.get_or_insert_default();
        let Some(reply) = &record.spec.clock_reply else { return };
        let Some(ping) = clock.ping.take_if(|p| p.sequence == reply.sequence) else { return };
        let [sent, received, answered] = [&ping.sent, &reply.received, &reply.answered].map(|t| t.0.as_microsecond());
        let (there, home) = (received - sent, answered - back.as_microsecond());
        let at = Moment { wall: MicroTime(back), ..now() };
        // All played agents share the operator's clock, so the offset is known; a crowded machine's round trips would only blur it. The
        // exchange itself must have bounded it, or the operator's half is wrong.
        let (offset_us, measured, error) = (-self.manner.ahead_ms * 1000, (there + home) / 2, (there - home) / 2);
        assert!((measured - offset_us).abs() <= error + 1000, "measured {measured} ± {error} µs, true {offset_us} µs");
        let clock_of = reply.clock.clone();
        clock.anchors.push(ClockAnchor { at, offset_us, error_us: error.min(50_000), clock: clock_of });
    }

    /// Does what the run asks.
    fn follow(&mut self, run: Option<&RackPartition>) {
        let over = |p| matches!(p, Some(RecordPhase::Healed | RecordPhase::Aborted | RecordPhase::Unfit));
        if over(self.status.phase) {
            return;
        }
        let ends = run.is_none_or(|r| {
            let ended = matches!(phase(r), Some(Phase::Aborted | Phase::Refused));
            ended || r.spec.abort || r.metadata.deletion_timestamp.is_some()
        });
        let schedule = run.and_then(|r| r.status.as_ref()?.schedule.clone());
        let scheduled = run.is_some_and(|r| phase(r) == Some(Phase::Scheduled));
        let loaded = self.status.loaded_cut_at.is_some();
        match schedule {
            _ if ends => self.end(RecordPhase::Aborted),
            Some(s) if loaded && s.heal_at.0 <= Timestamp::now() => self.end(RecordPhase::Healed),
            Some(_) if loaded && self.manner.gives_up => self.end(RecordPhase::Aborted),
            Some(s) if scheduled && !loaded && !self.manner.never_loads => {
                self.status.loaded_cut_at = Some(s.cut_at);
                self.status.phase = Some(RecordPhase::Loaded);
                let leads = self.manner.leads.map(|leads| leads.state(true));
                for (span, state) in self.status.spans.iter_mut().filter(|s| s.subject == ETCD).zip(leads) {
                    span.state = state.into();
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, phase: RecordPhase) {
        self.status.phase = Some(phase);
        self.status.kernel = Some(Kernel { leftovers_removed: self.manner.leftovers, ..Default::default() });
    }

    /// Writes the record, with a question about the time while there is no answer yet.
    async fn speak(&mut self, records: &Api<NodeRecord>, plan: &RunPlan) {
        let answered = self.status.clock.as_ref().is_some_and(|c| c.anchors.len() >= 3);
        // Mute from when it has taken part, or the run would not come so far.
        if self.manner.mute && self.spoken && answered && self.status.phase != Some(RecordPhase::Loaded) {
            return;
        }
        let sent = MicroTime(self.clock_now());
        let clock = self.status.clock.get_or_insert_default();
        if clock.ping.is_none() && !answered {
            self.sequence += 1;
            clock.ping = Some(ClockPing { sequence: self.sequence, sent });
        }
        if self.said.as_ref().is_some_and(|(said, at)| *said == self.status && at.elapsed() < UPLOAD_EVERY) {
            return;
        }
        let said = (self.status.clone(), Instant::now());
        let mut status = NodeRecordStatus { observed_until: Some(MicroTime(Timestamp::now())), ..self.status.clone() };
        // Whoever sends goes on sending, a member goes on being what it was, and an address goes on being there.
        let goes_on = |s: &&mut Span| matches!(s.kind, SpanKind::Heard | SpanKind::Etcd | SpanKind::Address);
        status.spans.iter_mut().filter(goes_on).for_each(|s| s.to = now());
        let name = record_name(&plan.run, &plan.run_uid, &self.node);
        if !self.created {
            self.created = create(records, plan, &name, &self.node).await.is_ok();
        }
        let params = PatchParams::apply("rackpartition-agent").force();
        let patch = json!({
            "apiVersion": NodeRecord::api_version(&()), "kind": NodeRecord::kind(&()), "status": status,
        });
        let written = records.patch_status(&name, &params, &Patch::Apply(patch)).await;
        self.spoken = written.is_ok() && answered;
        self.said = written.is_ok().then_some(said);
    }
}

async fn create(records: &Api<NodeRecord>, plan: &RunPlan, name: &str, node: &str) -> kube::Result<()> {
    let spec = NodeRecordSpec::new(&plan.run, &plan.run_uid, node, Observer::Agent);
    let mut record = NodeRecord::new(name, spec);
    record.labels_mut().insert(RUN_LABEL.into(), plan.run.clone());
    record.metadata.namespace = Some(AGENTS.into());
    match records.create(&PostParams::default(), &record).await {
        Err(kube::Error::Api(answer)) if answer.is_already_exists() => Ok(()),
        other => other.map(drop),
    }
}
