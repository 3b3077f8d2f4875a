//! The records of a run that went as predicted, of as many nodes as one likes: one rack is cut off for ten minutes under upstream's
//! timers, and in it are both leaders and a member of etcd.

use crate::{interrupted::interrupted, master::Master};
use ipnet::{IpNet, Ipv4Net};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
use rackpartition::{
    api::{
        Clock, ClockAnchor, ENDPOINT_NONE, ENDPOINT_READY, ENDPOINT_UNREADY, KUBERNETES_SERVICE, Kernel, Moment,
        NodeRecord, NodeRecordSpec, NodeRecordStatus, Observer, RackPartitionSpec, RecordPhase, Schedule, Side, Span,
        SpanKind,
    },
    fault::{self, Fault, Member, PlanParts, RunPlan, Sample},
    judge::{Evidence, followed_pods, followed_servers},
    topology::{ApiServer, EtcdMember, Lease, Node, Pod, Snapshot, Timer, Timers},
};
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

/// Length of the cut, and from when to when it is watched, seconds after its beginning.
pub const CUT: f64 = 600.0;
pub const START: f64 = -30.0;
pub const END: f64 = CUT + 120.0;
/// The instant of the cut, microseconds.
const ZERO_US: i64 = 1_900_000_000_000_000;
/// The same by every node's own clock, microseconds since it started.
const BOOT_US: i64 = 5_000_000_000;
/// When the first node of the cut rack is tainted and the rest by their turns, and how long pods tolerate that, seconds.
const FIRST_TAINT: f64 = 78.0;
const BETWEEN_TAINTS: f64 = 10.0;
const TOLERATED: f64 = 300.0;

/// How large a cluster, and how full its records.
#[derive(Clone, Copy)]
pub struct Size {
    pub nodes: usize,
    pub nodes_of_rack: usize,
    /// Every tenth is a StatefulSet, the others are Deployments.
    pub workloads: usize,
    pub replicas: usize,
    /// About so many spans an agent's record has, if not more.
    pub spans: usize,
}

pub struct Run {
    spec: RackPartitionSpec,
    snapshot: Snapshot,
    fault: Fault,
    plan: RunPlan,
    sides: Vec<Side>,
    schedule: Schedule,
    operator: NodeRecord,
    agents: Vec<NodeRecord>,
}

impl Run {
    pub fn new(size: Size) -> Self {
        let json = serde_json::json!({"cut": {"isolate": {"racks": ["r0"]}}, "duration": "10m", "recovery": "5m"});
        let spec: RackPartitionSpec = serde_json::from_value(json).expect("a spec");
        let snapshot = snapshot(size);
        let fault = fault::expand(&spec, &snapshot).expect("a fault");
        let sides = fault::sides(&snapshot, &fault);
        let masters = size.masters();
        let parts = PlanParts {
            run: "run".into(),
            run_uid: "1".into(),
            token: "0".repeat(32),
            duration_seconds: CUT,
            longest_seconds: CUT + 60.0,
            writable: masters[1..].iter().map(|i| name(*i)).collect(),
        };
        let plan = RunPlan::new(&snapshot, &fault, parts);
        let agents = agents(size, &snapshot, &plan);
        let operator = record("n0001", Observer::Operator, operator_spans(size, &snapshot, &sides));
        let schedule = Schedule {
            cut_at: moment(0.0).wall,
            heal_at: moment(CUT).wall,
            recover_by: moment(CUT + 300.0).wall,
            observed_until: Some(moment(END).wall),
        };
        Run { spec, snapshot, fault, plan, sides, schedule, operator, agents }
    }

    pub fn evidence(&self) -> Evidence<'_> {
        Evidence {
            spec: &self.spec,
            snapshot: &self.snapshot,
            fault: &self.fault,
            plan: &self.plan,
            sides: &self.sides,
            schedule: &self.schedule,
            operator: Some(&self.operator),
            agents: &self.agents,
        }
    }

    /// How many spans there are to judge.
    pub fn spans(&self) -> usize {
        let records = self.agents.iter().chain([&self.operator]);
        records.filter_map(|r| r.status.as_ref()).map(|s| s.spans.len()).sum()
    }
}

impl Size {
    /// The first node of each of the first three racks.
    fn masters(self) -> [usize; 3] {
        [0, self.nodes_of_rack, 2 * self.nodes_of_rack]
    }
    fn is_cut_off(self, node: usize) -> bool {
        node < self.nodes_of_rack
    }
    /// The second of them leads etcd.
    fn master<'a>(self, node: usize, name: &'a str, whose: &'a str) -> Master<'a> {
        let leads_etcd = node == self.masters()[1];
        Master { node: name, whose, leads_etcd, is_cut_off: self.is_cut_off(node) }
    }
    fn pods(self) -> impl Iterator<Item = PodAt> {
        (0..self.workloads * self.replicas).map(move |index| PodAt {
            index,
            workload: index / self.replicas,
            node: index % self.nodes,
        })
    }
}

/// A pod by its number.
#[derive(Clone, Copy)]
struct PodAt {
    index: usize,
    workload: usize,
    node: usize,
}

impl PodAt {
    fn is_of_stateful_set(self) -> bool {
        self.workload.is_multiple_of(10)
    }
    fn uid(self) -> String {
        format!("u{}", self.index)
    }
    fn owner(self) -> (&'static str, String) {
        match self.is_of_stateful_set() {
            true => ("StatefulSet", format!("db{}", self.workload)),
            false => ("ReplicaSet", format!("web{}-7d4b9c6f58", self.workload)),
        }
    }
    fn name(self) -> String {
        format!("{}-{}", self.owner().1, self.index)
    }
    /// When it is deleted, seconds after the cut, if it is before the heal.
    fn deleted(self, size: Size) -> Option<f64> {
        let at = FIRST_TAINT + BETWEEN_TAINTS * self.node as f64 + TOLERATED;
        (size.is_cut_off(self.node) && at < CUT).then_some(at)
    }
    /// Where its second copy runs, and as whom.
    fn copy(self, size: Size) -> (usize, String, String) {
        let (suffix, uid) = (format!("{}b", self.name()), format!("{}b", self.uid()));
        match self.is_of_stateful_set() {
            true => (self.node, self.name(), uid),
            false => (self.node + size.nodes_of_rack, suffix, uid),
        }
    }
}

fn name(node: usize) -> String {
    format!("n{node:04}")
}

fn address(node: usize) -> Ipv4Addr {
    Ipv4Addr::from(0x0a40_0000 + u32::try_from(node).expect("a few thousand"))
}

fn snapshot(size: Size) -> Snapshot {
    let nodes = (0..size.nodes).map(|i| {
        let rack = Some(format!("r{}", i / size.nodes_of_rack));
        let pods = Ipv4Addr::from(0x0a80_0000 + (u32::try_from(i).expect("a few thousand") << 8));
        Node {
            name: name(i),
            zone: rack.clone(),
            rack,
            ready: true,
            addresses: vec![IpAddr::V4(address(i))],
            pod_cidrs: vec![IpNet::V4(Ipv4Net::new(pods, 24).expect("a range"))],
            ..Node::default()
        }
    });
    let masters = size.masters();
    let lease = |component: &str| Lease {
        namespace: "kube-system".into(),
        name: component.into(),
        holder: format!("{}_1", name(0)),
        holder_node: Some(name(0)),
        lease_duration: 15.0,
        renew_deadline: Timer::read(10.0, "--leader-elect-renew-deadline"),
        retry_period: Timer::read(2.0, "--leader-elect-retry-period"),
        candidate_nodes: masters[1..].iter().map(|i| name(*i)).collect(),
        ..Lease::default()
    };
    let pod = |at: PodAt| Pod {
        namespace: "shop".into(),
        name: at.name(),
        uid: at.uid(),
        node: name(at.node),
        owner_kind: Some(at.owner().0.into()),
        owner_name: Some(at.owner().1),
        ready: true,
        restart_always: true,
        tolerates_unreachable: Some(TOLERATED),
        grace_period: 30.0,
        containers: vec!["app".into()],
    };
    let member = |i: &usize| EtcdMember { node: name(*i), client_port: 2379, peer_port: 2380, ..Default::default() };
    let server = |i: &usize| ApiServer { name: name(*i), address: SocketAddr::new(IpAddr::V4(address(*i)), 6443) };
    Snapshot {
        rack_label: "topology.kubernetes.io/zone".into(),
        nodes: nodes.collect(),
        etcd: masters.iter().map(member).collect(),
        api_servers: masters.iter().map(server).collect(),
        leases: ["kube-controller-manager", "kube-scheduler"].map(lease).into(),
        pods: size.pods().map(pod).collect(),
        timers: Timers {
            node_monitor_grace: Timer::read(50.0, "--node-monitor-grace-period"),
            node_monitor_period: Timer::read(5.0, "--node-monitor-period"),
            node_eviction_rate: Timer::read(0.1, "--node-eviction-rate"),
            node_lease_renew: Timer::read(10.0, "node Leases"),
            etcd_election: Timer::read(1.0, "--election-timeout"),
            ..Timers::default()
        },
        ..Snapshot::default()
    }
}

/// A moment so many seconds after the cut.
pub fn moment(at: f64) -> Moment {
    let us = (at * 1e6).round() as i64;
    let wall = MicroTime(Timestamp::from_microsecond(ZERO_US + us).expect("in range"));
    Moment { boot_us: BOOT_US + us, wall }
}

/// So many seconds after the cut a moment is.
pub fn at(moment: &Moment) -> f64 {
    (moment.boot_us - BOOT_US) as f64 / 1e6
}

pub fn span(kind: SpanKind, subject: impl Into<String>, state: &str, from: f64, to: f64) -> Span {
    Span {
        kind,
        subject: subject.into(),
        state: state.into(),
        from: moment(from),
        to: moment(to),
        samples: (to - from).max(0.0) as u32 + 1,
        uid: None,
        id: None,
        node: None,
        detail: None,
    }
}

pub fn container(pod: &str, uid: &str, state: &str, from: f64, to: f64) -> Span {
    Span { uid: Some(uid.into()), id: Some(format!("{uid}@{from}")), ..span(SpanKind::Container, pod, state, from, to) }
}

pub fn history(spans: &mut Vec<Span>, kind: SpanKind, subject: &str, states: &[(&str, f64, f64)]) {
    spans.extend(states.iter().map(|(state, from, to)| span(kind, subject, state, *from, *to)));
}

fn record(node: &str, observer: Observer, spans: Vec<Span>) -> NodeRecord {
    let anchor = |at: f64| ClockAnchor { at: moment(at), offset_us: 0, error_us: 3000, clock: String::new() };
    let of_agent = observer == Observer::Agent;
    let clock = Clock { synchronised: true, anchors: vec![anchor(-20.0), anchor(CUT + 30.0)], ..Clock::default() };
    let status = NodeRecordStatus {
        phase: of_agent.then_some(RecordPhase::Healed),
        clock: of_agent.then_some(clock),
        kernel: of_agent.then(|| Kernel { dropped_packets: 4711, ..Kernel::default() }),
        reads_containers: of_agent,
        observed_until: Some(moment(END).wall),
        spans,
        ..NodeRecordStatus::default()
    };
    NodeRecord { status: Some(status), ..NodeRecord::new(node, NodeRecordSpec::new("run", "1", node, observer)) }
}

fn agents(size: Size, snapshot: &Snapshot, plan: &RunPlan) -> Vec<NodeRecord> {
    let members: HashMap<&str, (&Member, bool)> = plan
        .members
        .iter()
        .map(|m| (m.name.as_str(), (m, (0..size.nodes_of_rack).any(|i| name(i) == m.name))))
        .collect();
    let sample = Sample::new(plan);
    let whose = plan.register_to_read().expect("a register");
    let mut containers = containers(size);
    let of = |(i, node): (usize, &Node)| {
        let mut spans = network(&node.name, plan, &sample, &members);
        spans.append(&mut containers[i]);
        if size.masters().contains(&i) {
            spans.extend(size.master(i, &node.name, whose).spans());
        }
        record(&node.name, Observer::Agent, interrupted(spans, size.spans))
    };
    snapshot.nodes.iter().enumerate().map(of).collect()
}

/// What a node saw of all that it looked at.
fn network(node: &str, plan: &RunPlan, sample: &Sample<'_>, members: &HashMap<&str, (&Member, bool)>) -> Vec<Span> {
    let mut spans = Vec::new();
    let (own, is_cut_off) = members[node];
    for target in sample.targets_of(node) {
        let states = match members[target.member.as_str()].1 == is_cut_off {
            true => vec![("open", START, END)],
            false => vec![("open", START, -0.3), ("silent", 0.7, CUT - 0.5), ("open", CUT + 0.5, END)],
        };
        history(&mut spans, SpanKind::Probe, &target.subject(), &states);
    }
    for sender in sample.of(node) {
        let (sender, sender_is_cut_off) = members[sender];
        for way in plan.ways(sender, own) {
            let subject = way.subject(&sender.name);
            if sender_is_cut_off == is_cut_off {
                history(&mut spans, SpanKind::Heard, &subject, &[("heard", START, END)]);
            } else {
                let heard = [("heard", START, -0.004), ("heard", CUT + 0.004, END)];
                history(&mut spans, SpanKind::Heard, &subject, &heard);
                history(&mut spans, SpanKind::Lost, &subject, &[("lost", 0.006, CUT)]);
            }
        }
    }
    spans
}

/// Of each node the containers of pods.
fn containers(size: Size) -> Vec<Vec<Span>> {
    let mut all = vec![Vec::new(); size.nodes];
    for at in size.pods() {
        let (subject, uid) = (format!("shop/{}/app", at.name()), at.uid());
        match at.deleted(size) {
            None => all[at.node].push(container(&subject, &uid, "running", -900.0, END)),
            Some(deleted) => {
                all[at.node].push(container(&subject, &uid, "exited", -900.0, CUT + 20.0));
                let start = if at.is_of_stateful_set() { CUT + 30.0 } else { deleted + 5.0 };
                let (node, name, uid) = at.copy(size);
                all[node].push(container(&format!("shop/{name}/app"), &uid, "running", start, END));
            }
        }
    }
    all
}

fn operator_spans(size: Size, snapshot: &Snapshot, sides: &[Side]) -> Vec<Span> {
    let mut spans = endpoints(size, snapshot, sides);
    for (i, server) in size.masters().into_iter().enumerate() {
        let states = match i {
            0 => [("acknowledged", START, 0.0), ("unknown", 1.0, CUT + 1.0), ("acknowledged", CUT + 31.0, END)],
            _ => [("acknowledged", START, 0.2), ("unknown", 0.7, 2.0), ("acknowledged", 2.4, END)],
        };
        let server_name = name(server);
        history(&mut spans, SpanKind::Canary, &server_name, &states);
        spans.push(size.master(server, &server_name, &server_name).read_back());
    }
    for lease in &snapshot.leases {
        let new = format!("{}_2", name(size.masters()[1]));
        for (i, (holder, from, to)) in [(&lease.holder, START, 17.0), (&new, 17.5, END)].into_iter().enumerate() {
            let detail = Some(format!("transitions={i}"));
            spans.push(Span { detail, ..span(SpanKind::Lease, lease.subject(), holder, from, to) });
        }
    }
    for (i, node) in snapshot.nodes.iter().enumerate() {
        let taint = FIRST_TAINT + BETWEEN_TAINTS * i as f64;
        let tainted = ("node.kubernetes.io/unreachable", taint, CUT + 12.0);
        let (ready, taints) = match size.is_cut_off(i) {
            true => (
                vec![("True", START, 72.0), ("Unknown", 72.5, CUT + 10.0), ("True", CUT + 10.5, END)],
                vec![("none", START, taint - 0.5), tainted, ("none", CUT + 12.5, END)],
            ),
            false => (vec![("True", START, END)], vec![("none", START, END)]),
        };
        history(&mut spans, SpanKind::Node, &node.name, &ready);
        history(&mut spans, SpanKind::Taint, &node.name, &taints);
    }
    for at in size.pods() {
        spans.extend(api_pod(at, size));
    }
    let whole = [("ok", START, 0.5), ("waiting", 1.5, CUT + 60.0), ("ok", CUT + 61.0, END)];
    history(&mut spans, SpanKind::Convergence, "cluster", &whole);
    spans
}

/// Which of the pods that it followed were ready for their Services, and which API servers for theirs.
fn endpoints(size: Size, snapshot: &Snapshot, sides: &[Side]) -> Vec<Span> {
    let mut spans = Vec::new();
    for pod in followed_pods(snapshot, sides) {
        let at = size.pods().find(|at| at.name() == pod.name).expect("one of its pods");
        let (state, healed) = match at.deleted(size) {
            Some(_) => (ENDPOINT_NONE, CUT + 20.5),
            None => (ENDPOINT_READY, CUT + 15.0),
        };
        let away = (ENDPOINT_UNREADY, 73.0, healed - 0.5);
        let states = [(ENDPOINT_READY, START, 72.5), away, (state, healed, END)];
        history(&mut spans, SpanKind::Endpoint, &pod.subject(), &states);
    }
    for server in followed_servers(snapshot, sides) {
        let away = (ENDPOINT_NONE, 18.0, CUT + 39.5);
        let states = [(ENDPOINT_READY, START, 17.5), away, (ENDPOINT_READY, CUT + 40.0, END)];
        history(&mut spans, SpanKind::Endpoint, &format!("{KUBERNETES_SERVICE}/{}", server.name), &states);
    }
    spans
}

/// What the API said of one pod and of its copy.
fn api_pod(at: PodAt, size: Size) -> Vec<Span> {
    let (kind, owner) = at.owner();
    let of = |pod: &str, uid: &str, node: usize, state: &str, from: f64, to: f64| Span {
        uid: Some(uid.into()),
        node: Some(name(node)),
        detail: Some(format!("{kind}/{owner}")),
        ..span(SpanKind::Pod, format!("shop/{pod}"), state, from, to)
    };
    let (pod, uid) = (at.name(), at.uid());
    let Some(deleted) = at.deleted(size) else { return vec![of(&pod, &uid, at.node, "Running/Ready", START, END)] };
    let start = if at.is_of_stateful_set() { CUT + 25.0 } else { deleted + 1.0 };
    let (node, copy, copy_uid) = at.copy(size);
    vec![
        of(&pod, &uid, at.node, "Running/Ready", START, deleted - 0.5),
        of(&pod, &uid, at.node, "Running/Terminating", deleted, CUT + 20.0),
        of(&copy, &copy_uid, node, "Running/Ready", start, END),
    ]
}
