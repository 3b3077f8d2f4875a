//! What goes wrong, and when.

use super::*;

/// What may go wrong, at a tick.
#[derive(Clone, Copy, Debug)]
pub enum Mishap {
    /// The agent's process is killed and started again.
    Kill(usize),
    /// The node goes down hard and comes back.
    Reboot(usize),
    /// The agent's process ends by itself or with its node, at a call that changes something in the kernel, after so many others: whenever
    /// that is.
    EndAt {
        node: usize,
        calls: usize,
        ends: Ends,
        with_node: bool,
    },
    /// What is asked of this node's kernel fails for so many ticks, beside other ways in which it does.
    KernelFails(usize, Failure, usize),
    /// This node's disk takes nothing for so many ticks.
    DiskFull(usize, usize),
    /// The machine is paused for so many ticks: no clock of it goes on, and nobody sets one afterwards.
    Pause(usize, u32),
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
    /// No operator for so many ticks, then one that has seen nothing.
    NoOperator(usize),
    /// The operator acts for so many ticks, and nothing of what it writes arrives: it dies between the two.
    LostWrites(usize),
    /// A second operator reads all that there is and does so many ticks later what follows, by the time of then or of when it read.
    SecondOperator {
        ticks: usize,
        by_old_time: bool,
    },
    Abort,
    /// The object is deleted.
    Delete,
    /// The heal packets sent from now on take so many ticks to this node.
    LatePackets(usize, u32),
    /// This node gets none of them.
    NoPackets(usize),
}

pub fn any_mishap() -> impl Strategy<Value = (usize, Mishap)> {
    let node = || 0..NODES;
    let failure = prop_oneof![Just(Failure::Refuses), Just(Failure::Silent), Just(Failure::Unreadable)];
    let ends = prop_oneof![Just(Ends::Before), Just(Ends::After)];
    let what = prop_oneof![
        4 => node().prop_map(Mishap::Kill),
        1 => node().prop_map(Mishap::Reboot),
        4 => (node(), 0..6_usize, ends, any::<bool>())
            .prop_map(|(node, calls, ends, with_node)| Mishap::EndAt { node, calls, ends, with_node }),
        2 => (node(), failure, 1..40_usize)
            .prop_map(|(node, failure, ticks)| Mishap::KernelFails(node, failure, ticks)),
        1 => (node(), 1..40_usize).prop_map(|(node, ticks)| Mishap::DiskFull(node, ticks)),
        1 => (node(), 1..160_u32).prop_map(|(node, ticks)| Mishap::Pause(node, ticks)),
        1 => (node(), prop_oneof![Just(-1), Just(1)]).prop_map(|(node, hours)| Mishap::Step(node, hours)),
        2 => (node(), -60..60_i64).prop_map(|(node, seconds)| Mishap::StepInMidCut(node, seconds)),
        1 => prop_oneof![Just(-1), Just(1)].prop_map(Mishap::StepOperatorInMidCut),
        2 => (node(), 1..200_usize).prop_map(|(node, ticks)| Mishap::Deaf(node, ticks)),
        2 => (node(), 1..100_usize).prop_map(|(node, ticks)| Mishap::Stale(node, ticks)),
        2 => (node(), 1..200_usize).prop_map(|(node, ticks)| Mishap::Mute(node, ticks)),
        2 => (1..200_usize).prop_map(Mishap::NoOperator),
        2 => (1..60_usize).prop_map(Mishap::LostWrites),
        2 => (1..60_usize, any::<bool>())
            .prop_map(|(ticks, by_old_time)| Mishap::SecondOperator { ticks, by_old_time }),
        2 => Just(Mishap::Abort),
        1 => Just(Mishap::Delete),
        1 => (node(), 1..60_u32).prop_map(|(node, ticks)| Mishap::LatePackets(node, ticks)),
        1 => node().prop_map(Mishap::NoPackets),
    ];
    // Arming and scheduling take a few ticks where all goes well, and with the cut 160.
    (prop_oneof![1 => 0..8_usize, 3 => 0..240_usize], what)
}

impl Mishap {
    pub fn happen(self, tick: usize, world: &Mutex<World>, nodes: &mut [Node], operator: &mut Operator) {
        match self {
            Mishap::Kill(node) => nodes[node].kill(tick),
            Mishap::Reboot(node) => nodes[node].go_down(node, tick, world),
            Mishap::EndAt { node, calls, ends, with_node } => {
                nodes[node].ends_with_it = with_node;
                world.lock().unwrap().calls[node].ends = Some((calls, ends));
            }
            Mishap::KernelFails(node, failure, ticks) => {
                world.lock().unwrap().calls[node].fail(failure, tick + ticks);
            }
            Mishap::DiskFull(node, ticks) => nodes[node].fill_disk(tick + ticks),
            Mishap::Pause(node, ticks) => world.lock().unwrap().pause(node, ticks * TICK),
            Mishap::Step(node, hours) => step(&mut world.lock().unwrap(), &mut nodes[node], node, hours * HOUR),
            Mishap::StepInMidCut(node, seconds) => {
                let mut world = world.lock().unwrap();
                if is_in_mid_cut(&world, node, operator) {
                    step(&mut world, &mut nodes[node], node, seconds);
                }
            }
            Mishap::StepOperatorInMidCut(hours) => {
                if operator.phase() == Phase::Cut {
                    operator.step_clock(SignedDuration::from_hours(hours));
                }
            }
            Mishap::Deaf(node, ticks) => nodes[node].deaf_until = tick + ticks,
            Mishap::Stale(node, ticks) => (nodes[node].late_by, nodes[node].stale_until) = (ticks, tick + 2 * ticks),
            Mishap::Mute(node, ticks) => nodes[node].mute_until = tick + ticks,
            Mishap::NoOperator(ticks) => operator.go_away(tick + ticks),
            Mishap::LostWrites(ticks) => operator.writes_from = tick + ticks,
            Mishap::SecondOperator { ticks, by_old_time } => {
                let now = world.lock().unwrap().now();
                operator.lead_twice(tick + ticks, by_old_time.then_some(now), nodes);
            }
            Mishap::Abort => operator.ask_to_end(|run| run.spec.abort = true),
            Mishap::Delete => {
                let now = Time(world.lock().unwrap().now());
                operator.ask_to_end(|run| {
                    run.metadata.deletion_timestamp.get_or_insert(now);
                });
            }
            Mishap::LatePackets(node, ticks) => world.lock().unwrap().packets_take[node] = Some(ticks * TICK),
            Mishap::NoPackets(node) => world.lock().unwrap().packets_take[node] = None,
        }
    }
}

/// Whether this node's windows are loaded and the cut of the run goes on, by its clock that is never stepped.
fn is_in_mid_cut(world: &World, node: usize, operator: &Operator) -> bool {
    let now = world.begun.0 + world.clock(node);
    let goes_on = operator.cut_at().is_some_and(|at| (at..at + CUT).contains(&now));
    goes_on && world.tables[node].as_ref().is_some_and(|table| !table.windows.is_empty())
}

fn step(world: &mut World, of: &mut Node, node: usize, seconds: i64) {
    world.ahead[node] += SignedDuration::from_secs(seconds);
    of.was_stepped = true;
    of.put_right |= world.ahead[node].is_zero();
}
