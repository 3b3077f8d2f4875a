//! Random runs of three agents and the operator, of the real state machines over kernels and objects in memory and a time that is
//! ours: processes are killed, nodes reboot, clocks are stepped, messages come late or never, writes are lost, somebody aborts. All
//! nodes heal together, or one after another. Nothing is cut after an abort, nothing longer than promised, and nobody says what is not
//! so.

mod operator;
mod world;

use super::*;
use crate::{
    agent::{follow::Seen, orders::order},
    api::{
        FINALIZER, Moment, NodeRecord, NodeRecordSpec, NodeRecordStatus, Observer, Phase, RackPartition,
        RackPartitionStatus, RecordPhase::*, SpanKind, conditions,
    },
    course::{self, Due, Next, Nodes},
    observe::Observation,
};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use operator::Operator;
use proptest::prelude::*;
use serde_json::json;
use std::sync::{Arc, Mutex, MutexGuard};
use world::{Kernel, World};

const NODES: usize = 3;
const TICK: Duration = Duration::from_millis(250);
const TICKS: usize = 4 * 200;
/// Between two looks of an agent, and until a killed one is back.
const LOOK_TICKS: usize = 4;
const BACK_TICKS: usize = 12;
const CUT: Duration = Duration::from_secs(30);
/// How long each node is cut: all as long as the run's cut lasts, or of a staggered heal, the last one as long.
const TOGETHER: [Duration; NODES] = [CUT; NODES];
const STAGGERED: [Duration; NODES] = [Duration::from_secs(10), Duration::from_secs(20), CUT];
const LONGEST: Duration = Duration::from_secs(100);
const ARM_DEADLINE: Duration = Duration::from_secs(30);
const HOUR: i64 = 3600;
const UID: &str = "u1";
const TABLE: &str = "rackpartition-own";

/// What may go wrong, at a tick.
#[derive(Clone, Copy, Debug)]
enum Mishap {
    /// The agent's process is killed and started again.
    Kill(usize),
    /// The node goes down hard and comes back.
    Reboot(usize),
    /// The wall clock is stepped by so many hours.
    Step(usize, i64),
    /// By so many seconds, where this node's windows are loaded and the cut of the run goes on, whether its own is over or not. Before,
    /// so little goes by as a clock out of step, which refuses a run.
    StepInMidCut(usize, i64),
    /// The operator's wall clock is stepped by so many hours in mid-cut.
    StepOperatorInMidCut(i64),
    /// Nothing of the API's reaches this node for so many ticks.
    Deaf(usize, usize),
    /// For twice so many ticks this node hears so many ticks late what the run asks. Never what is older than what it has heard: a
    /// read takes a quorum of etcd, and a watch goes on from there (`agent/follow.rs`).
    Stale(usize, usize),
    /// Nothing that this node says reaches the API for so many ticks.
    Mute(usize, usize),
    /// No operator for so many ticks.
    NoOperator(usize),
    /// The operator acts for so many ticks, and nothing of what it writes arrives: it dies between the two.
    LostWrites(usize),
    Abort,
    /// The object is deleted.
    Delete,
    /// The heal packets sent from now on take so many ticks to this node.
    LatePackets(usize, u32),
    /// This node gets none of them.
    NoPackets(usize),
}

fn mishap() -> impl Strategy<Value = (usize, Mishap)> {
    let node = || 0..NODES;
    let what = prop_oneof![
        4 => node().prop_map(Mishap::Kill),
        1 => node().prop_map(Mishap::Reboot),
        1 => (node(), prop_oneof![Just(-1), Just(1)]).prop_map(|(node, hours)| Mishap::Step(node, hours)),
        2 => (node(), -60..60_i64).prop_map(|(node, seconds)| Mishap::StepInMidCut(node, seconds)),
        1 => prop_oneof![Just(-1), Just(1)].prop_map(Mishap::StepOperatorInMidCut),
        2 => (node(), 1..200_usize).prop_map(|(node, ticks)| Mishap::Deaf(node, ticks)),
        2 => (node(), 1..100_usize).prop_map(|(node, ticks)| Mishap::Stale(node, ticks)),
        2 => (node(), 1..200_usize).prop_map(|(node, ticks)| Mishap::Mute(node, ticks)),
        2 => (1..200_usize).prop_map(Mishap::NoOperator),
        2 => (1..60_usize).prop_map(Mishap::LostWrites),
        2 => Just(Mishap::Abort),
        1 => Just(Mishap::Delete),
        1 => (node(), 1..60_u32).prop_map(|(node, ticks)| Mishap::LatePackets(node, ticks)),
        1 => node().prop_map(Mishap::NoPackets),
    ];
    // Arming, scheduling and the cut take 200 ticks where all goes well.
    (0..240_usize, what)
}

/// One node: what outlives its agent, and the agent while there is one.
struct Node {
    /// From the beginning of the cut to the end of this node's window.
    lasts: Duration,
    disk: tempfile::TempDir,
    boots: usize,
    back_at: usize,
    agent: Option<Keeper<Kernel>>,
    /// When the agent began.
    since: usize,
    order: Order,
    /// The tick of the newest order that has reached this node.
    heard: usize,
    deaf_until: usize,
    stale_until: usize,
    /// By so many ticks, until then.
    late_by: usize,
    mute_until: usize,
    /// What the API has of the agent.
    said: NodeRecordStatus,
    cut_for: Duration,
    /// Its wall clock was stepped and stepped back again: where nobody looked in between, that leaves no trace.
    put_right: bool,
}

impl Node {
    fn new(lasts: Duration) -> Self {
        // In memory where there is such a thing: an agent waits for its disk.
        let disk = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        Node {
            lasts,
            disk,
            boots: 0,
            back_at: 0,
            agent: None,
            since: 0,
            order: Order::default(),
            heard: 0,
            deaf_until: 0,
            stale_until: 0,
            late_by: 0,
            mute_until: 0,
            said: NodeRecordStatus::default(),
            cut_for: Duration::ZERO,
            put_right: false,
        }
    }

    fn start(&mut self, world: &Arc<Mutex<World>>, node: usize, tick: usize) {
        let store = Store::open(self.disk.path(), UID).unwrap();
        let boot_id = format!("b{}", self.boots);
        let journal = Journal::new("hash".into(), boot_id.clone(), store.journal());
        let setup = Setup {
            windows: vec![(Duration::ZERO, self.lasts)],
            spec: TableSpec { name: TABLE.into(), rules: Vec::new(), heal_port: 1, heal_token: [0; 16] },
            longest: LONGEST,
            duration: CUT,
            heal_addresses: vec!["198.18.0.1".parse().unwrap(); NODES],
            boot_id,
            ready_file: self.disk.path().join("ready"),
        };
        let kernel = Kernel { world: world.clone(), node };
        (self.order, self.since) = (Order::default(), tick);
        self.agent = Some(Keeper::new(kernel, setup, store, journal, watch::Sender::new(None)).unwrap());
    }

    /// The tick of the order that this node goes by now, where its agent has heard any.
    fn hear(&mut self, tick: usize) -> Option<usize> {
        let late_by = if tick < self.stale_until { self.late_by } else { 0 };
        // Whoever begins reads what there is then.
        let newest = tick.checked_sub(late_by).filter(|newest| *newest >= self.since)?;
        self.heard = self.heard.max(newest);
        Some(self.heard)
    }
}

fn begun() -> Timestamp {
    Timestamp::from_second(1_900_000_000).unwrap()
}

/// All at the end.
fn simulate(lasts: [Duration; NODES], mishaps: &[(usize, Mishap)]) -> (Operator, Vec<Node>) {
    let world = Arc::new(Mutex::new(World::new(begun())));
    let mut nodes: Vec<Node> = lasts.map(Node::new).into();
    let mut operator = Operator::new(begun());
    for tick in 0..TICKS {
        for (_, mishap) in mishaps.iter().filter(|(at, _)| *at == tick) {
            happen(*mishap, tick, &world, &mut nodes, &mut operator);
        }
        operator.step(tick, &world, &nodes);
        operator.ask();
        for (i, node) in nodes.iter_mut().enumerate() {
            // The kubelet starts it again until it hears that it is not wanted any more.
            let is_wanted = !operator.removed || !hears(tick, i, node, &world);
            if node.agent.is_none() && tick >= node.back_at && is_wanted {
                node.start(&world, i, tick);
            }
            act(tick, i, node, &world, &operator);
        }
        check(&world, &mut nodes, &operator);
        world.lock().unwrap().go_on();
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
        if said == Some(Healed) && !node.put_right {
            let short = node.lasts.saturating_sub(node.cut_for);
            let is_told = short <= 2 * TICK || shows_a_step(&node.said);
            assert!(is_told, "node {i} says Healed and nothing else, and was cut for {:?}", node.cut_for);
        }
    }
    (operator, nodes)
}

/// Whether anything in this record was seen by a wall clock that was out of step with the operator's: the judge goes by the same.
fn shows_a_step(said: &NodeRecordStatus) -> bool {
    let is_off = |at: &Moment| at.wall.0 != begun() + SignedDuration::from_micros(at.boot_us);
    said.spans.iter().any(|s| is_off(&s.from) || is_off(&s.to))
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
            if is_in_mid_cut(&world.lock().unwrap(), node, operator) {
                step(world, &mut nodes[node], node, seconds);
            }
        }
        Mishap::StepOperatorInMidCut(hours) => {
            if operator.phase() == Phase::Cut {
                operator.ahead += SignedDuration::from_hours(hours);
            }
        }
        Mishap::Deaf(node, ticks) => nodes[node].deaf_until = tick + ticks,
        Mishap::Stale(node, ticks) => (nodes[node].late_by, nodes[node].stale_until) = (ticks, tick + 2 * ticks),
        Mishap::Mute(node, ticks) => nodes[node].mute_until = tick + ticks,
        Mishap::NoOperator(ticks) => operator.away_until = tick + ticks,
        Mishap::LostWrites(ticks) => operator.writes_from = tick + ticks,
        Mishap::Abort => operator.run.spec.abort = true,
        Mishap::Delete => {
            operator.run.metadata.deletion_timestamp.get_or_insert(Time(world.lock().unwrap().now()));
        }
        Mishap::LatePackets(node, ticks) => world.lock().unwrap().packets_take[node] = Some(ticks * TICK),
        Mishap::NoPackets(node) => world.lock().unwrap().packets_take[node] = None,
    }
}

/// Whether this node's windows are loaded and the cut of the run goes on, by clocks that nobody has stepped.
fn is_in_mid_cut(world: &World, node: usize, operator: &Operator) -> bool {
    let goes_on = operator.cut_at().is_some_and(|at| (at..at + CUT).contains(&world.now()));
    goes_on && world.tables[node].as_ref().is_some_and(|table| !table.windows.is_empty())
}

fn step(world: &Mutex<World>, of: &mut Node, node: usize, seconds: i64) {
    let mut world = world.lock().unwrap();
    world.ahead[node] += SignedDuration::from_secs(seconds);
    of.put_right |= world.ahead[node].is_zero();
}

/// The agent of one node hears what there is to hear, and looks.
fn act(tick: usize, i: usize, node: &mut Node, world: &Mutex<World>, operator: &Operator) {
    let hears = hears(tick, i, node, world);
    let heard = if hears { node.hear(tick) } else { None };
    let Some(agent) = node.agent.as_mut() else { return };
    let order = heard.map(|heard| operator.orders[heard].clone());
    let news = order.filter(|o| *o != node.order && node.order.abort.is_none());
    if news.is_none() && !(tick + i).is_multiple_of(LOOK_TICKS) && !operator.removed {
        return;
    }
    node.order = news.unwrap_or(node.order.clone());
    let now = agent.firewall.now().0;
    agent.turn(&node.order, now);
    // As the tasks beside it, which look at the network.
    let boot_us = world.lock().unwrap().running.as_micros() as i64;
    let seen = Observation::new("w1/Kubelet", "open");
    agent.journal.observe(SpanKind::Probe, Moment { boot_us, wall: MicroTime(now) }, seen);
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
    let now = world.now();
    for (i, node) in nodes.iter_mut().enumerate().filter(|(i, _)| world.cuts(*i)) {
        node.cut_for += TICK;
        assert!(!world.stopped[i], "node {i} is cut after an abort or a heal packet");
        assert!(node.cut_for <= node.lasts + 2 * TICK, "node {i} is cut for {:?}", node.cut_for);
        let cut_at = operator.cut_at().expect("nobody is cut without a schedule");
        assert!(now <= cut_at + node.lasts + 2 * TICK, "node {i} is cut after its end");
        assert_ne!(operator.phase(), Phase::Refused, "node {i} is cut");
    }
    assert!(!operator.says_healed() || world.tables.iter().all(Option::is_none), "Healed, and a table is there");
    if operator.phase() == Phase::Cut {
        assert!(operator.cut_at().unwrap() <= now, "called cut before it is");
    }
}

#[test]
fn where_nothing_goes_wrong_everybody_is_cut_and_healed() {
    for lasts in [TOGETHER, STAGGERED] {
        let (operator, nodes) = simulate(lasts, &[]);
        assert_eq!(operator.phase(), Phase::Done);
        assert!(operator.says_healed());
        for node in nodes {
            assert_eq!((node.said.phase, node.said.message), (Some(Healed), None));
            assert!(node.cut_for + 2 * TICK >= node.lasts, "cut for {:?}", node.cut_for);
        }
    }
}

/// Whenever that is: in its own cut, or after it while others are still cut.
#[test]
fn of_a_staggered_heal_nobody_is_cut_again_by_a_clock_that_is_stepped_back() {
    let mut stepped = 0;
    for tick in (40..160).step_by(4) {
        for seconds in [-8, -15] {
            let (_, nodes) = simulate(STAGGERED, &[(tick, Mishap::StepInMidCut(0, seconds))]);
            stepped += usize::from(shows_a_step(&nodes[0].said));
        }
    }
    assert!(stepped > 30, "only {stepped} of them were in the cut");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn whatever_goes_wrong_nobody_is_cut_after_an_abort_or_too_long_or_lies(
        lasts in prop_oneof![Just(TOGETHER), Just(STAGGERED)],
        mishaps in proptest::collection::vec(mishap(), 0..10),
    ) {
        simulate(lasts, &mishaps);
    }
}
