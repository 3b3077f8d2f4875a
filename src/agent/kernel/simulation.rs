//! Random runs of three agents, of the real state machine over kernels in memory and a time that is ours: processes are killed, nodes
//! reboot, clocks are stepped, messages come late or never, somebody aborts. Nothing is cut after an abort, nothing longer than
//! promised, and no agent says what is not so.

use super::*;
use crate::{
    agent::{follow::Seen, orders::order},
    api::{Phase, RackPartition, RecordPhase::*},
};
use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::json;
use std::sync::{Arc, Mutex, MutexGuard};

const NODES: usize = 3;
const TICK: Duration = Duration::from_millis(250);
const TICKS: usize = 4 * 150;
/// Between two looks of an agent, and until a killed one is back.
const LOOK_TICKS: usize = 4;
const BACK_TICKS: usize = 12;
const CUT: Duration = Duration::from_secs(30);
const LEAD: Duration = Duration::from_secs(10);
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
    /// No operator for so many ticks.
    NoOperator(usize),
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
        2 => (1..200_usize).prop_map(Mishap::NoOperator),
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
    /// What the agent said last.
    said: Option<RecordPhase>,
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
            said: None,
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
    phase: Phase,
    times: Option<(Duration, Times)>,
    abort: bool,
    gone: bool,
    away_until: usize,
}

impl Operator {
    /// As [`crate::operator`] goes on from the object alone.
    fn step(&mut self, tick: usize, world: &Mutex<World>, nodes: &[Node]) {
        if tick < self.away_until {
            return;
        }
        let (running, begun) = world.lock().map(|w| (w.running, w.begun.0)).unwrap();
        let all = |phase: RecordPhase| nodes.iter().all(|n| n.said == Some(phase));
        let to_cut = self.times.map(|(at, _)| (at, at + CUT));
        let next = match (self.phase, to_cut) {
            (Phase::Done | Phase::Aborted | Phase::Refused, _) => None,
            _ if self.abort => Some(Phase::Aborted),
            (Phase::Arming, _) if all(Armed) => {
                let at = running + LEAD;
                let times = Times { cut_at: begun + at, heal_at: begun + at + CUT };
                self.times = Some((at, times));
                Some(Phase::Scheduled)
            }
            (Phase::Arming, _) => (running > ARM_DEADLINE).then_some(Phase::Refused),
            (Phase::Scheduled, Some((at, _))) if running + Duration::from_secs(1) >= at => {
                Some(if all(Loaded) && running < at { Phase::Cut } else { Phase::Aborted })
            }
            (Phase::Cut, Some((_, end))) => (running >= end).then_some(Phase::Recovering),
            (Phase::Recovering, Some((_, end))) => (running >= end + LEAD).then_some(Phase::Done),
            _ => None,
        };
        if let Some(next) = next {
            self.phase = next;
        }
        if self.phase == Phase::Aborted || self.phase == Phase::Refused {
            let mut world = world.lock().unwrap();
            (0..NODES).for_each(|node| world.heal_packet(node));
        }
    }

    fn seen(&self) -> Seen<RackPartition> {
        if self.gone {
            return Seen::Gone;
        }
        let schedule = self
            .times
            .map(|(_, t)| json!({"cutAt": six(t.cut_at), "healAt": six(t.heal_at), "recoverBy": six(t.heal_at)}));
        let run = json!({
            "apiVersion": "rackpartition.io/v1alpha1", "kind": "RackPartition", "metadata": {"name": "run", "uid": UID},
            "spec": {"cut": {"isolate": {"racks": ["r1"]}}, "duration": "30s", "abort": self.abort},
            "status": {"phase": self.phase, "schedule": schedule},
        });
        Seen::There(serde_json::from_value(run).unwrap())
    }
}

/// As the API writes it.
fn six(at: Timestamp) -> String {
    format!("{at:.6}")
}

fn simulate(mishaps: &[(usize, Mishap)]) {
    let world = Arc::new(Mutex::new(World {
        begun: (Timestamp::from_second(1_900_000_000).unwrap(), Instant::now()),
        running: Duration::ZERO,
        ahead: [SignedDuration::ZERO; NODES],
        tables: Default::default(),
        deafened: [false; NODES],
        stopped: [false; NODES],
    }));
    let mut nodes: Vec<Node> = (0..NODES).map(|_| Node::new()).collect();
    let mut operator = Operator { phase: Phase::Arming, times: None, abort: false, gone: false, away_until: 0 };
    for tick in 0..TICKS {
        for (_, mishap) in mishaps.iter().filter(|(at, _)| *at == tick) {
            happen(*mishap, tick, &world, &mut nodes, &mut operator);
        }
        operator.step(tick, &world, &nodes);
        for (i, node) in nodes.iter_mut().enumerate() {
            if node.agent.is_none() && tick >= node.back_at {
                node.start(&world, i);
            }
            act(tick, i, node, &world, &operator);
        }
        check(&world, &mut nodes, &operator);
        world.lock().unwrap().running += TICK;
    }
    // Everybody was heard again long ago.
    for (i, node) in nodes.iter().enumerate() {
        assert!(world.lock().unwrap().tables[i].is_none(), "node {i} has a table left");
        let said = node.said.expect("a phase");
        assert!(matches!(said, Healed | Aborted | Unfit), "node {i} ends as {said:?}");
        if said == Healed && !node.stepped {
            let short = CUT.saturating_sub(node.cut_for);
            assert!(short <= 2 * TICK, "node {i} says Healed and was cut for {:?}", node.cut_for);
        }
    }
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
        Mishap::NoOperator(ticks) => operator.away_until = tick + ticks,
        Mishap::Abort => operator.abort = true,
        Mishap::Delete => {
            operator.abort = true;
            operator.gone = true;
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
    let Some(agent) = node.agent.as_mut() else { return };
    // Who is cut does not hear the API.
    let hears = tick >= node.deaf_until && !world.lock().unwrap().cuts(i);
    let news = hears.then(|| order(&operator.seen(), UID)).filter(|o| *o != node.order && node.order.abort.is_none());
    if news.is_none() && !(tick + i).is_multiple_of(LOOK_TICKS) {
        return;
    }
    node.order = news.unwrap_or(node.order.clone());
    let now = agent.firewall.now().0;
    agent.turn(&node.order, now);
    if node.order.abort.is_some() {
        world.lock().unwrap().stopped[i] = true;
    }
    node.said = agent.journal.last_report().phase;
    let world = world.lock().unwrap();
    let table = world.tables[i].as_ref().map(|t| !t.windows.is_empty());
    let is_so = match node.said {
        Some(Armed) => table == Some(false),
        Some(Loaded) => table == Some(true),
        Some(Healed | Aborted | Unfit) => table.is_none(),
        None => table.is_none(),
    };
    assert!(is_so, "tick {tick}: node {i} says {:?}, and its table is {table:?}", node.said);
}

fn check(world: &Mutex<World>, nodes: &mut [Node], operator: &Operator) {
    let world = world.lock().unwrap();
    for (i, node) in nodes.iter_mut().enumerate().filter(|(i, _)| world.cuts(*i)) {
        node.cut_for += TICK;
        assert!(!world.stopped[i], "node {i} is cut after an abort or a heal packet");
        assert!(node.cut_for <= CUT + 2 * TICK, "node {i} is cut for {:?}", node.cut_for);
        let (at, _) = operator.times.expect("nobody is cut without a schedule");
        assert!(world.running <= at + CUT + 2 * TICK, "node {i} is cut after the end");
    }
}

#[test]
fn where_nothing_goes_wrong_everybody_is_cut_and_healed() {
    simulate(&[]);
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
