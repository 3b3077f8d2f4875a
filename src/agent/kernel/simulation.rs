//! Random runs of three agents and the operator, of the real state machines over kernels and objects in memory and a time that is
//! ours: processes are killed, nodes reboot, clocks are stepped, messages come late or never, writes are lost, somebody aborts. Nothing
//! is cut after an abort, nothing longer than promised, and nobody says what is not so.

use super::*;
use crate::{
    agent::{follow::Seen, orders::order},
    api::{
        FINALIZER, NodeRecord, NodeRecordSpec, NodeRecordStatus, Observer, Phase, RackPartition, RackPartitionStatus,
        RecordPhase::*, conditions,
    },
    course::{self, Next, Nodes},
};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use serde_json::json;
use std::sync::{Arc, Mutex, MutexGuard};

const NODES: usize = 3;
const TICK: Duration = Duration::from_millis(250);
const TICKS: usize = 4 * 200;
/// Between two looks of an agent, and until a killed one is back.
const LOOK_TICKS: usize = 4;
const BACK_TICKS: usize = 12;
const CUT: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(100);
const ARM_DEADLINE: Duration = Duration::from_secs(30);
const HOUR: i64 = 3600;
const UID: &str = "u1";

/// What may go wrong, at a tick.
#[derive(Clone, Copy, Debug)]
enum Mishap {
    /// The agent's process is killed and started again.
    Kill(usize),
    /// The node goes down hard and comes back.
    Reboot(usize),
    /// The wall clock is stepped by so many hours.
    Step(usize, i64),
    /// By so many seconds, where this node is being cut. Before, so little goes by as a clock out of step, which refuses a run.
    StepInMidCut(usize, i64),
    /// Nothing of the API's reaches this node for so many ticks.
    Deaf(usize, usize),
    /// Nothing that this node says reaches the API for so many ticks.
    Mute(usize, usize),
    /// No operator for so many ticks.
    NoOperator(usize),
    /// The operator acts for so many ticks, and nothing of what it writes arrives: it dies between the two.
    LostWrites(usize),
    Abort,
    /// The object is deleted.
    Delete,
    /// Of the heal packets sent from now on this node gets none.
    NoPackets(usize),
}

fn mishap() -> impl Strategy<Value = (usize, Mishap)> {
    let node = || 0..NODES;
    let what = prop_oneof![
        4 => node().prop_map(Mishap::Kill),
        1 => node().prop_map(Mishap::Reboot),
        1 => (node(), prop_oneof![Just(-1), Just(1)]).prop_map(|(node, hours)| Mishap::Step(node, hours)),
        2 => (node(), -60..60_i64).prop_map(|(node, seconds)| Mishap::StepInMidCut(node, seconds)),
        2 => (node(), 1..200_usize).prop_map(|(node, ticks)| Mishap::Deaf(node, ticks)),
        2 => (node(), 1..200_usize).prop_map(|(node, ticks)| Mishap::Mute(node, ticks)),
        2 => (1..200_usize).prop_map(Mishap::NoOperator),
        2 => (1..60_usize).prop_map(Mishap::LostWrites),
        2 => Just(Mishap::Abort),
        1 => Just(Mishap::Delete),
        1 => node().prop_map(Mishap::NoPackets),
    ];
    // Arming, scheduling and the cut take 200 ticks where all goes well.
    (0..240_usize, what)
}

#[derive(Default)]
struct Table {
    /// When it closes, by the clock that is never stepped.
    gate: Option<Duration>,
    windows: Vec<TimeWindow>,
    heal_packets: u64,
}

/// Kernels, and the time.
struct World {
    begun: (Timestamp, Instant),
    running: Duration,
    /// By how much each node's wall clock is ahead.
    ahead: [SignedDuration; NODES],
    tables: [Option<Table>; NODES],
    deafened: [bool; NODES],
    /// A heal packet or an abort has reached this node and its table: it may never be cut again.
    stopped: [bool; NODES],
}

impl World {
    fn wall(&self, node: usize) -> Timestamp {
        self.begun.0 + self.running + self.ahead[node]
    }
    fn gate(&self, node: usize) -> Option<Duration> {
        self.tables[node].as_ref()?.gate.filter(|ends| *ends > self.running)
    }
    fn cuts(&self, node: usize) -> bool {
        let wall = self.wall(node);
        let windows = self.tables[node].iter().flat_map(|t| &t.windows);
        self.gate(node).is_some() && windows.into_iter().any(|w| w.from <= wall && wall < w.to)
    }
    fn heal_packet(&mut self, node: usize) {
        if let Some(table) = self.tables[node].as_mut().filter(|_| !self.deafened[node]) {
            (table.gate, table.heal_packets) = (None, table.heal_packets + 1);
            self.stopped[node] = true;
        }
    }
}

/// One node's kernel.
struct Kernel {
    world: Arc<Mutex<World>>,
    node: usize,
}

impl Kernel {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }
}

impl Firewall for Kernel {
    fn arm(&mut self, _: &TableSpec, gate: Duration) -> Result<(), netfilter::Error> {
        let mut world = self.world();
        let gate = Some(world.running + gate);
        world.tables[self.node] = Some(Table { gate, ..Default::default() });
        Ok(())
    }
    fn cut(&mut self, table: &str, windows: &[TimeWindow], gate: Duration) -> Result<(), netfilter::Error> {
        let mut world = self.world();
        let (open, ends) = (world.gate(self.node).is_some(), world.running + gate);
        match &mut world.tables[self.node] {
            None => Err(netfilter::Error::NoTable { table: table.into() }),
            Some(_) if !open => Err(netfilter::Error::GateClosed { table: table.into() }),
            Some(table) => {
                (table.gate, table.windows) = (Some(ends), windows.to_vec());
                Ok(())
            }
        }
    }
    fn close_gate(&mut self, table: &str) -> Result<(), netfilter::Error> {
        let mut world = self.world();
        let own = world.tables[self.node].as_mut();
        own.map(|t| t.gate = None).ok_or(netfilter::Error::NoTable { table: table.into() })
    }
    fn remove(&mut self, _: &str) -> Result<(), netfilter::Error> {
        self.world().tables[self.node] = None;
        Ok(())
    }
    fn tables(&mut self) -> Result<Vec<String>, netfilter::Error> {
        Ok(self.world().tables[self.node].iter().map(|_| TABLE.to_owned()).collect())
    }
    fn state(&mut self, _: &str) -> Result<Option<TableState>, netfilter::Error> {
        let world = self.world();
        let gate = world.gate(self.node).map(|ends| ends - world.running);
        Ok(world.tables[self.node].as_ref().map(|t| TableState {
            gate,
            windows: t.windows.len(),
            heal_packets: t.heal_packets,
            ..Default::default()
        }))
    }
    fn send_heal(&mut self, addresses: &[IpAddr], _: &TableSpec) -> std::io::Result<usize> {
        let mut world = self.world();
        (0..NODES).for_each(|node| world.heal_packet(node));
        Ok(addresses.len())
    }
    fn now(&self) -> (Timestamp, Instant) {
        let world = self.world();
        (world.wall(self.node), world.begun.1 + world.running)
    }
}

const TABLE: &str = "rackpartition-own";

/// One node: what outlives its agent, and the agent while there is one.
struct Node {
    disk: tempfile::TempDir,
    boots: usize,
    back_at: usize,
    agent: Option<Keeper<Kernel>>,
    order: Order,
    deaf_until: usize,
    mute_until: usize,
    /// What the API has of the agent.
    said: NodeRecordStatus,
    cut_for: Duration,
    stepped: bool,
}

impl Node {
    fn new() -> Self {
        // In memory where there is such a thing: an agent waits for its disk.
        let disk = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        Node {
            disk,
            boots: 0,
            back_at: 0,
            agent: None,
            order: Order::default(),
            deaf_until: 0,
            mute_until: 0,
            said: NodeRecordStatus::default(),
            cut_for: Duration::ZERO,
            stepped: false,
        }
    }

    fn start(&mut self, world: &Arc<Mutex<World>>, node: usize) {
        let store = Store::open(self.disk.path(), UID).unwrap();
        let boot_id = format!("b{}", self.boots);
        let journal = Journal::new("hash".into(), boot_id.clone(), store.journal());
        let setup = Setup {
            windows: vec![(Duration::ZERO, CUT)],
            spec: TableSpec { name: TABLE.into(), rules: Vec::new(), heal_port: 1, heal_token: [0; 16] },
            longest: LONGEST,
            duration: CUT,
            heal_addresses: vec!["198.18.0.1".parse().unwrap(); NODES],
            boot_id,
            ready_file: self.disk.path().join("ready"),
        };
        let kernel = Kernel { world: world.clone(), node };
        self.order = Order::default();
        self.agent = Some(Keeper::new(kernel, setup, store, journal, watch::Sender::new(None)).unwrap());
    }
}

/// The object, and an operator that is there or not.
struct Operator {
    run: RackPartition,
    /// Agents and plan are deleted.
    removed: bool,
    over: bool,
    gone: bool,
    away_until: usize,
    writes_from: usize,
}

impl Operator {
    fn new(begun: Timestamp) -> Self {
        let run = json!({
            "apiVersion": "rackpartition.io/v1alpha1", "kind": "RackPartition",
            "metadata": {"name": "run", "uid": UID, "finalizers": [FINALIZER]},
            "spec": {"cut": {"isolate": {"racks": ["r1"]}}, "duration": "30s", "recovery": "40s"},
            "status": {"phase": "Arming"},
        });
        let mut run: RackPartition = serde_json::from_value(run).unwrap();
        let conditions = &mut run.status.as_mut().unwrap().conditions;
        conditions::set(conditions, conditions::ARMED, "False", "Arming", "", None, begun);
        Operator { run, removed: false, over: false, gone: false, away_until: 0, writes_from: 0 }
    }

    fn phase(&self) -> Phase {
        self.run.status.as_ref().and_then(|s| s.phase).expect("it begins with one")
    }

    fn says_healed(&self) -> bool {
        let conditions = self.run.status.iter().flat_map(|s| &s.conditions);
        conditions.into_iter().any(|c| c.type_ == conditions::HEALED && c.status == "True")
    }

    fn cut_at(&self) -> Option<Timestamp> {
        Some(self.run.status.as_ref()?.schedule.as_ref()?.cut_at.0)
    }

    /// As [`crate::operator`] goes on from the objects alone, with the same words.
    fn step(&mut self, tick: usize, world: &Mutex<World>, nodes: &[Node]) {
        if tick < self.away_until || self.over {
            return;
        }
        let now = world.lock().map(|w| w.begun.0 + w.running).unwrap();
        let names: Vec<String> = (0..NODES).map(|n| n.to_string()).collect();
        let records: Vec<NodeRecord> = names.iter().zip(nodes).map(|(name, node)| record(name, &node.said)).collect();
        let nodes = Nodes { names: names.iter().map(String::as_str).collect(), records: &records };
        let status = self.run.status.clone().unwrap();
        let status = RackPartitionStatus { agents: Some(nodes.count(&status)), ..status };
        let is_deleted = self.run.metadata.deletion_timestamp.is_some();
        let next = match self.phase() {
            Phase::Done | Phase::Aborted | Phase::Refused => return self.wind_up(tick, world, &nodes, now),
            _ if is_deleted => course::aborted(status, "deleted", now),
            _ if self.run.spec.abort => course::aborted(status, "aborted", now),
            Phase::Arming => match nodes.given_up() {
                Some((node, why)) => course::refused(status, format!("{node}: {why}"), now),
                None => {
                    let waits = nodes.unarmed(Some(&"hash".to_owned())).map(|node| ("AgentsMissing", node.to_owned()));
                    course::arming(&self.run.spec, status, waits, ARM_DEADLINE.as_secs_f64(), now)
                }
            },
            Phase::Scheduled => course::before(status, &nodes, now),
            Phase::Cut => course::during(status, now),
            Phase::Recovering => course::after(status, &nodes, f64::INFINITY, Ok(None), now),
            _ => Next::phase(nodes.healed(status, now), Phase::Done, "Judged", "judged"),
        };
        if next.heal {
            heal(world);
        }
        if next.is(Phase::Cut) && self.phase() == Phase::Scheduled {
            let schedule = next.status.schedule.as_ref().unwrap();
            let have_loaded =
                records.iter().all(|r| r.status.as_ref().unwrap().loaded_cut_at.as_ref() == Some(&schedule.cut_at));
            assert!(have_loaded, "cut, and not every node had said that it is ready");
        }
        self.write(tick, next.status);
    }

    fn wind_up(&mut self, tick: usize, world: &Mutex<World>, nodes: &Nodes<'_>, now: Timestamp) {
        let status = nodes.healed(self.run.status.clone().unwrap(), now);
        let deleted = self.run.metadata.deletion_timestamp.as_ref().map(|t| t.0);
        let waits = !nodes.holding().is_empty() && now < course::deadline(&status, deleted, now);
        if waits {
            heal(world);
        }
        self.removed |= !waits;
        if self.write(tick, status) && !waits {
            self.over = true;
            self.gone = deleted.is_some();
        }
    }

    /// Whether it arrived.
    fn write(&mut self, tick: usize, status: RackPartitionStatus) -> bool {
        let arrives = tick >= self.writes_from;
        if arrives {
            // As the API gives it back.
            let status = serde_json::to_value(status).unwrap();
            self.run.status = Some(serde_json::from_value(status).unwrap());
        }
        arrives
    }

    fn seen(&self) -> Seen<RackPartition> {
        if self.gone { Seen::Gone } else { Seen::There(self.run.clone()) }
    }
}

/// One datagram to everybody.
fn heal(world: &Mutex<World>) {
    let mut world = world.lock().unwrap();
    (0..NODES).for_each(|node| world.heal_packet(node));
}

fn record(node: &str, status: &NodeRecordStatus) -> NodeRecord {
    let spec = NodeRecordSpec {
        run: "run".into(),
        run_uid: UID.into(),
        node: node.into(),
        observer: Observer::Agent,
        clock_reply: None,
    };
    NodeRecord { status: Some(status.clone()), ..NodeRecord::new(node, spec) }
}

/// All at the end.
fn simulate(mishaps: &[(usize, Mishap)]) -> (Operator, Vec<Node>) {
    let begun = Timestamp::from_second(1_900_000_000).unwrap();
    let world = Arc::new(Mutex::new(World {
        begun: (begun, Instant::now()),
        running: Duration::ZERO,
        ahead: [SignedDuration::ZERO; NODES],
        tables: Default::default(),
        deafened: [false; NODES],
        stopped: [false; NODES],
    }));
    let mut nodes: Vec<Node> = (0..NODES).map(|_| Node::new()).collect();
    let mut operator = Operator::new(begun);
    for tick in 0..TICKS {
        for (_, mishap) in mishaps.iter().filter(|(at, _)| *at == tick) {
            happen(*mishap, tick, &world, &mut nodes, &mut operator);
        }
        operator.step(tick, &world, &nodes);
        for (i, node) in nodes.iter_mut().enumerate() {
            // The kubelet starts it again until it hears that it is not wanted any more.
            let is_wanted = !operator.removed || !hears(tick, i, node, &world);
            if node.agent.is_none() && tick >= node.back_at && is_wanted {
                node.start(&world, i);
            }
            act(tick, i, node, &world, &operator);
        }
        check(&world, &mut nodes, &operator);
        world.lock().unwrap().running += TICK;
    }
    // Everybody was heard again long ago.
    assert!(operator.over, "{:?}", operator.run.status);
    for (i, node) in nodes.iter().enumerate() {
        if world.lock().unwrap().tables[i].is_some() {
            // Its agent was not there when it was taken away. `check` has seen that the table has no effect and that nobody says it is
            // gone; the next agent on this node removes it.
            assert!(!world.lock().unwrap().cuts(i));
            continue;
        }
        // Whoever was away when the agents were taken away has said no last word, and the operator knows.
        let said = node.said.phase;
        assert!(matches!(said, Some(Healed | Aborted | Unfit)) || !operator.says_healed(), "node {i} ends as {said:?}");
        if said == Some(Healed) && !node.stepped {
            let short = CUT.saturating_sub(node.cut_for);
            assert!(short <= 2 * TICK, "node {i} says Healed and was cut for {:?}", node.cut_for);
        }
    }
    (operator, nodes)
}

fn happen(mishap: Mishap, tick: usize, world: &Mutex<World>, nodes: &mut [Node], operator: &mut Operator) {
    match mishap {
        Mishap::Kill(node) => (nodes[node].agent, nodes[node].back_at) = (None, tick + BACK_TICKS),
        Mishap::Reboot(node) => {
            (nodes[node].agent, nodes[node].back_at) = (None, tick + 3 * BACK_TICKS);
            nodes[node].boots += 1;
            world.lock().unwrap().tables[node] = None;
        }
        Mishap::Step(node, hours) => step(world, &mut nodes[node], node, hours * HOUR),
        Mishap::StepInMidCut(node, seconds) => {
            if world.lock().unwrap().cuts(node) {
                step(world, &mut nodes[node], node, seconds);
            }
        }
        Mishap::Deaf(node, ticks) => nodes[node].deaf_until = tick + ticks,
        Mishap::Mute(node, ticks) => nodes[node].mute_until = tick + ticks,
        Mishap::NoOperator(ticks) => operator.away_until = tick + ticks,
        Mishap::LostWrites(ticks) => operator.writes_from = tick + ticks,
        Mishap::Abort => operator.run.spec.abort = true,
        Mishap::Delete => {
            let world = world.lock().unwrap();
            operator.run.metadata.deletion_timestamp.get_or_insert(Time(world.begun.0 + world.running));
        }
        Mishap::NoPackets(node) => world.lock().unwrap().deafened[node] = true,
    }
}

fn step(world: &Mutex<World>, of: &mut Node, node: usize, seconds: i64) {
    world.lock().unwrap().ahead[node] += SignedDuration::from_secs(seconds);
    of.stepped = true;
}

/// The agent of one node hears what there is to hear, and looks.
fn act(tick: usize, i: usize, node: &mut Node, world: &Mutex<World>, operator: &Operator) {
    let hears = hears(tick, i, node, world);
    let Some(agent) = node.agent.as_mut() else { return };
    let news = hears.then(|| order(&operator.seen(), UID)).filter(|o| *o != node.order && node.order.abort.is_none());
    if news.is_none() && !(tick + i).is_multiple_of(LOOK_TICKS) && !operator.removed {
        return;
    }
    node.order = news.unwrap_or(node.order.clone());
    let now = agent.firewall.now().0;
    agent.turn(&node.order, now);
    if node.order.abort.is_some() {
        world.lock().unwrap().stopped[i] = true;
    }
    let says = agent.journal.status();
    let world = world.lock().unwrap();
    let table = world.tables[i].as_ref().map(|t| !t.windows.is_empty());
    let is_so = match says.phase {
        Some(Armed) => table == Some(false),
        Some(Loaded) => table == Some(true),
        Some(Healed | Aborted | Unfit) => table.is_none(),
        None => table.is_none(),
    };
    assert!(is_so, "tick {tick}: node {i} says {:?}, and its table is {table:?}", says.phase);
    if hears && tick >= node.mute_until && !world.cuts(i) {
        node.said = says;
    }
    drop(world);
    if hears && operator.removed {
        agent.leave();
        node.said = agent.journal.status();
        node.agent = None;
    }
}

/// Who is cut does not hear the API.
fn hears(tick: usize, i: usize, node: &Node, world: &Mutex<World>) -> bool {
    tick >= node.deaf_until && !world.lock().unwrap().cuts(i)
}

fn check(world: &Mutex<World>, nodes: &mut [Node], operator: &Operator) {
    let world = world.lock().unwrap();
    let now = world.begun.0 + world.running;
    for (i, node) in nodes.iter_mut().enumerate().filter(|(i, _)| world.cuts(*i)) {
        node.cut_for += TICK;
        assert!(!world.stopped[i], "node {i} is cut after an abort or a heal packet");
        assert!(node.cut_for <= CUT + 2 * TICK, "node {i} is cut for {:?}", node.cut_for);
        let cut_at = operator.cut_at().expect("nobody is cut without a schedule");
        assert!(now <= cut_at + CUT + 2 * TICK, "node {i} is cut after the end");
        assert_ne!(operator.phase(), Phase::Refused, "node {i} is cut");
    }
    assert!(!operator.says_healed() || world.tables.iter().all(Option::is_none), "Healed, and a table is there");
    if operator.phase() == Phase::Cut {
        assert!(operator.cut_at().unwrap() <= now, "called cut before it is");
    }
}

#[test]
fn where_nothing_goes_wrong_everybody_is_cut_and_healed() {
    let (operator, nodes) = simulate(&[]);
    assert_eq!(operator.phase(), Phase::Done);
    assert!(operator.says_healed());
    for node in nodes {
        assert_eq!(node.said.phase, Some(Healed));
        assert!(node.cut_for + 2 * TICK >= CUT, "cut for {:?}", node.cut_for);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn whatever_goes_wrong_nobody_is_cut_after_an_abort_or_too_long_or_lies(
        mishaps in proptest::collection::vec(mishap(), 0..10)
    ) {
        simulate(&mishaps);
    }
}
