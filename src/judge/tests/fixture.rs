//! A synthetic run that passes: three racks, six nodes, short timers, rack r1 cut for 75 s with both leaders in it.

pub use super::cluster::snapshot;
use crate::{
    api::*,
    fault::{self, Fault, PlanParts, RunPlan, Sample},
    judge::{Evidence, Judgement, judge},
    predict::{Forecast, predict},
    topology::Snapshot,
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
use std::{collections::BTreeMap, time::Duration};

pub const CUT: f64 = 75.0;
pub const START: f64 = -30.0;
pub const END: f64 = 225.0;
/// The instant of the cut by the operator's wall clock, microseconds.
const ZERO_US: i64 = 1_900_000_000_000_000;
/// Seconds by which the clock of each node is behind the operator's.
const OFFSET: f64 = 0.2;

pub struct Run {
    pub spec: RackPartitionSpec,
    pub snapshot: Snapshot,
    pub fault: Fault,
    pub plan: RunPlan,
    pub sides: Vec<Side>,
    pub schedule: Schedule,
    pub operator: Option<NodeRecord>,
    pub agents: Vec<NodeRecord>,
}

impl Run {
    pub fn judge(&self) -> Judgement {
        judge(&self.evidence())
    }
    pub fn evidence(&self) -> Evidence<'_> {
        Evidence {
            spec: &self.spec,
            snapshot: &self.snapshot,
            fault: &self.fault,
            plan: &self.plan,
            sides: &self.sides,
            schedule: &self.schedule,
            operator: self.operator.as_ref(),
            agents: &self.agents,
        }
    }
    pub fn forecast(&self) -> Forecast {
        predict(&self.snapshot, &self.fault, &self.sides, Duration::from_secs_f64(CUT))
    }
    pub fn status(&mut self, node: &str) -> &mut NodeRecordStatus {
        let record = self.agents.iter_mut().find(|r| r.spec.node == node).expect("a node of the fixture");
        record.status.as_mut().expect("a status")
    }
    pub fn operator_status(&mut self) -> &mut NodeRecordStatus {
        self.operator.as_mut().and_then(|r| r.status.as_mut()).expect("the operator's record")
    }
    /// Replaces the history of one subject in the record of a node.
    pub fn rewrite(&mut self, node: &str, kind: SpanKind, subject: &str, history: &[(&str, f64, f64)]) {
        let spans = &mut self.status(node).spans;
        spans.retain(|s| s.kind != kind || s.subject != subject);
        spans.extend(history.iter().map(|(state, from, to)| span(OFFSET, kind, subject, state, *from, *to)));
    }
    /// The same in the operator's record.
    pub fn rewrite_operator(&mut self, kind: SpanKind, subject: &str, history: &[(&str, f64, f64)]) {
        let spans = &mut self.operator_status().spans;
        spans.retain(|s| s.kind != kind || s.subject != subject);
        spans.extend(history.iter().map(|(state, from, to)| span(0.0, kind, subject, state, *from, *to)));
        count_changes(spans);
    }
    /// What the API said of one pod, in place of what the operator's record has.
    pub fn rewrite_pod(&mut self, uid: &str, history: &[(&str, f64, f64)]) {
        let spans = &mut self.operator_status().spans;
        let old = spans.iter().find(|s| s.uid.as_deref() == Some(uid)).expect("a pod of the fixture").clone();
        spans.retain(|s| s.uid.as_deref() != Some(uid));
        spans.extend(history.iter().map(|(state, from, to)| {
            let (from, to) = (moment(0.0, *from), moment(0.0, *to));
            Span { state: (*state).into(), from, to, ..old.clone() }
        }));
    }
    /// The containers of one pod on its node: state, start and end.
    pub fn rewrite_containers(&mut self, node: &str, uid: &str, history: &[(&str, f64, f64)]) {
        let spans = &mut self.status(node).spans;
        let subject = spans.iter().find(|s| s.uid.as_deref() == Some(uid)).expect("a container").subject.clone();
        spans.retain(|s| s.uid.as_deref() != Some(uid));
        spans.extend(history.iter().map(|(state, from, to)| container(&subject, uid, state, *from, *to)));
    }
}

/// Every change of a Lease's holder is counted in it, as by whoever takes it.
fn count_changes(spans: &mut [Span]) {
    let mut latest: BTreeMap<String, (String, u32)> = BTreeMap::new();
    for span in spans.iter_mut().filter(|s| s.kind == SpanKind::Lease && !s.state.is_empty()) {
        let (holder, changes) = latest.entry(span.subject.clone()).or_insert((span.state.clone(), 0));
        *changes += u32::from(*holder != span.state);
        holder.clone_from(&span.state);
        span.detail = Some(format!("transitions={changes}"));
    }
}

/// A moment `at` seconds after the cut on a clock that is `behind` seconds behind the operator's.
pub fn moment(behind: f64, at: f64) -> Moment {
    let us = ((at - behind) * 1e6).round() as i64;
    let wall = MicroTime(Timestamp::from_microsecond(ZERO_US + us).expect("in range"));
    Moment { boot_us: 5_000_000_000 + (at * 1e6).round() as i64, wall }
}

pub fn span(behind: f64, kind: SpanKind, subject: &str, state: &str, from: f64, to: f64) -> Span {
    let samples = (to - from).max(0.0) as u32 + 1;
    Span { samples, ..Span::bare(kind, subject, state, moment(behind, from), moment(behind, to)) }
}

/// One that has exited was killed.
pub fn container(subject: &str, uid: &str, state: &str, from: f64, to: f64) -> Span {
    let id = Some(format!("{subject}@{from}"));
    let detail = (state == "exited").then(|| "exit=137 Error".to_owned());
    Span { uid: Some(uid.into()), id, detail, ..span(OFFSET, SpanKind::Container, subject, state, from, to) }
}

pub fn pod(subject: &str, uid: &str, node: &str, owner: &str, state: &str, from: f64, to: f64) -> Span {
    let (uid, node, detail) = (Some(uid.into()), Some(node.into()), Some(owner.into()));
    Span { uid, node, detail, ..span(0.0, SpanKind::Pod, subject, state, from, to) }
}

fn record(node: &str, observer: Observer, status: NodeRecordStatus) -> NodeRecord {
    NodeRecord { status: Some(status), ..NodeRecord::new(node, NodeRecordSpec::new("run", "1", node, observer)) }
}

/// Before, during and after the cut.
fn thrice(kind: SpanKind, subject: &str, states: [&str; 2]) -> Vec<Span> {
    let [well, cut] = states;
    vec![
        span(OFFSET, kind, subject, well, START, -0.3),
        span(OFFSET, kind, subject, cut, 0.7, CUT - 0.5),
        span(OFFSET, kind, subject, well, CUT + 0.5, END),
    ]
}

fn agent_spans(node: &str, plan: &RunPlan) -> Vec<Span> {
    let mut spans = Vec::new();
    for target in Sample::new(plan).targets_of(node) {
        let subject = target.subject();
        match plan.breaks_tcp(node, target) {
            true => spans.extend(thrice(SpanKind::Probe, &subject, ["open", "silent"])),
            false => spans.push(span(OFFSET, SpanKind::Probe, &subject, "open", START, END)),
        }
    }
    let receiver = plan.member(node).expect("a member");
    for sender in plan.members.iter().filter(|m| m.has_agent) {
        for way in plan.ways(sender, receiver) {
            let (subject, broken) = (way.subject(&sender.name), plan.datagram_loss(&sender.name, node, way) > 0.0);
            let mut history = |kind, state, from, to| spans.push(span(OFFSET, kind, &subject, state, from, to));
            if broken {
                history(SpanKind::Heard, "heard", START, -0.004);
                history(SpanKind::Lost, "lost", 0.006, CUT);
                history(SpanKind::Heard, "heard", CUT + 0.004, END);
            } else {
                history(SpanKind::Heard, "heard", START, END);
            }
        }
    }
    spans.extend(super::etcd::spans(node));
    spans.extend(super::api_server::spans(node));
    spans.extend(super::register::spans(node));
    let local = |name: &str| format!("kube-system/{name}-{node}/{name}");
    match node {
        "cp1" => {
            spans.push(span(OFFSET, SpanKind::Health, "etcd", "ok", START, 0.9));
            spans.push(span(OFFSET, SpanKind::Health, "etcd", "failing", 1.9, CUT + 3.0));
            spans.push(span(OFFSET, SpanKind::Health, "etcd", "ok", CUT + 4.0, END));
            spans.extend(thrice(SpanKind::Canary, "cp1", ["acknowledged", "failed"]));
            for (name, end) in [("kube-controller-manager", 4.6), ("kube-scheduler", 4.9)] {
                spans.push(container(&local(name), name, "exited", -900.0, end));
                spans.push(container(&local(name), name, "running", end + 1.0, END));
            }
        }
        "cp2" | "cp3" => {
            spans.push(span(OFFSET, SpanKind::Health, "etcd", "ok", START, END));
            spans.push(span(OFFSET, SpanKind::Canary, node, "acknowledged", START, END));
            spans.push(container(&local("kube-scheduler"), "ks", "running", -900.0, END));
            // The one that takes the Lease.
            if node == "cp2" {
                spans.push(container(&local("kube-controller-manager"), "kcm", "running", -900.0, END));
            }
        }
        "w1" => {
            spans.push(container("default/web-7d4b9c6f58-aaaaa/app", "web-1", "exited", -600.0, CUT + 9.0));
            spans.push(container("default/db-0/app", "db-1", "exited", -600.0, CUT + 9.0));
            spans.push(container("default/db-0/app", "db-2", "running", CUT + 12.0, END));
            spans.push(container("default/dns-5bc6f7d8f4-ccccc/app", "dns-1", "running", -600.0, END));
        }
        "w2" => spans.push(container("default/web-7d4b9c6f58-bbbbb/app", "web-2", "running", -600.0, END)),
        _ => spans.push(container("default/web-7d4b9c6f58-ddddd/app", "web-3", "running", 42.0, END)),
    }
    spans
}

fn operator_spans() -> Vec<Span> {
    let mut spans = Vec::new();
    let mut history = |kind, subject: &str, states: &[(&str, f64, f64)]| {
        spans.extend(states.iter().map(|(state, from, to)| span(0.0, kind, subject, state, *from, *to)));
    };
    history(
        SpanKind::Canary,
        "cp1",
        &[("acknowledged", START, 0.0), ("unknown", 1.0, 76.0), ("acknowledged", 78.0, END)],
    );
    for server in ["cp2", "cp3"] {
        let gap = [("acknowledged", START, 0.2), ("unknown", 0.7, 2.0), ("acknowledged", 2.4, END)];
        history(SpanKind::Canary, server, &gap);
    }
    let moved = [("cp1_1", START, 8.5), ("cp2_2", 9.0, END)];
    history(SpanKind::Lease, "kube-system/kube-controller-manager", &moved);
    history(SpanKind::Lease, "kube-system/kube-scheduler", &moved);
    history(SpanKind::Lease, "kube-system/snapshot-controller", &[("cp2_1", START, END)]);
    for (node, tainted) in [("cp1", 24.0), ("w1", 34.0)] {
        history(SpanKind::Node, node, &[("True", START, 22.0), ("Unknown", 22.5, 80.0), ("True", 80.5, END)]);
        let taint = "node.kubernetes.io/unreachable";
        history(SpanKind::Taint, node, &[("none", START, tainted - 0.5), (taint, tainted, 81.0), ("none", 81.5, END)]);
    }
    for node in ["cp2", "cp3", "w2", "w3"] {
        history(SpanKind::Node, node, &[("True", START, END)]);
    }
    history(SpanKind::Convergence, "cluster", &[("ok", START, 0.5), ("waiting", 1.5, 95.0), ("ok", 96.0, END)]);
    for (name, uid, owner) in
        [("web-7d4b9c6f58-aaaaa", "web-1", "ReplicaSet/web-7d4b9c6f58"), ("db-0", "db-1", "StatefulSet/db")]
    {
        let subject = format!("default/{name}");
        spans.push(pod(&subject, uid, "w1", owner, "Running/Ready", START, 38.5));
        spans.push(pod(&subject, uid, "w1", owner, "Running/Terminating", 39.0, CUT + 9.0));
    }
    spans.push(pod("default/db-0", "db-2", "w1", "StatefulSet/db", "Running/Ready", CUT + 10.0, END));
    let web = "ReplicaSet/web-7d4b9c6f58";
    spans.push(pod("default/web-7d4b9c6f58-ddddd", "web-3", "w3", web, "Running/Ready", 39.5, END));
    spans.push(pod("default/web-7d4b9c6f58-bbbbb", "web-2", "w2", web, "Running/Ready", START, END));
    let dns = "ReplicaSet/dns-5bc6f7d8f4";
    spans.push(pod("default/dns-5bc6f7d8f4-ccccc", "dns-1", "w1", dns, "Running/Ready", START, END));
    spans.extend(super::register::read_back());
    spans.extend(super::endpoints::spans());
    count_changes(&mut spans);
    spans
}

/// The run that passes.
pub fn passing() -> Run {
    let json = serde_json::json!({"cut": {"isolate": {"racks": ["r1"]}}, "duration": "75s", "recovery": "3m"});
    let spec: RackPartitionSpec = serde_json::from_value(json).expect("a spec");
    let snapshot = snapshot();
    let fault = fault::expand(&spec, &snapshot).expect("a fault");
    let sides = fault::sides(&snapshot, &fault);
    let parts = PlanParts {
        run: "run".into(),
        run_uid: "1".into(),
        token: "0".repeat(32),
        duration_seconds: CUT,
        longest_seconds: CUT + 60.0,
        writable: vec!["cp2".into(), "cp3".into()],
    };
    let plan = RunPlan::new(&snapshot, &fault, parts);
    let wall = |at: f64| moment(0.0, at).wall;
    let schedule = Schedule {
        cut_at: wall(0.0),
        heal_at: wall(CUT),
        recover_by: wall(CUT + 180.0),
        observed_until: Some(wall(END)),
    };
    let anchor = |at: f64| ClockAnchor {
        at: moment(OFFSET, at),
        offset_us: (OFFSET * 1e6) as i64,
        error_us: 3000,
        clock: String::new(),
    };
    let agent = |node: &str| NodeRecordStatus {
        phase: Some(RecordPhase::Healed),
        clock: Some(Clock { synchronised: true, anchors: vec![anchor(-20.0), anchor(100.0)], ..Clock::default() }),
        kernel: Some(Kernel { dropped_packets: 4711, ..Kernel::default() }),
        reads_containers: true,
        observed_until: Some(wall(END)),
        spans: agent_spans(node, &plan),
        ..NodeRecordStatus::default()
    };
    let agents = plan.agents().into_iter().map(|n| record(n, Observer::Agent, agent(n))).collect();
    let seen =
        NodeRecordStatus { observed_until: Some(wall(END)), spans: operator_spans(), ..NodeRecordStatus::default() };
    let operator = Some(record("w2", Observer::Operator, seen));
    Run { spec, snapshot, fault, plan, sides, schedule, operator, agents }
}
