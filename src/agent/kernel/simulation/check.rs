//! What must be so at every tick, and in the end.

use super::*;

/// In so many ticks, two seconds, whoever is within reach of somebody who tells it to stop has stopped.
const STOPS_TICKS: usize = 8;
/// The operator takes a table for one that outlived the cut so long after it (`course/nodes.rs`), and a second more.
const LATE: Duration = Duration::from_secs(11);

pub fn at_every_tick(tick: usize, world: &Mutex<World>, nodes: &mut [Node], operator: &Operator) {
    let world = world.lock().unwrap();
    let (now, phase) = (world.now(), operator.phase());
    let leads = operator.is_there(tick);
    let is_told = operator.is_to_end && (leads || nodes.iter().any(|node| node.tells(tick)));
    // An operator with a wrong clock may think otherwise.
    let is_late = operator.cut_at().is_some_and(|cut_at| now >= cut_at + CUT + LATE) && !operator.was_wrong;
    let is_told_late = leads && is_late && phase == Phase::Recovering;
    for (i, node) in nodes.iter_mut().enumerate() {
        let is_within_reach = world.is_within_reach(i);
        // Who was paused while an abort was told hears of it by its agent, or with whoever is late.
        node.told_ticks += usize::from(is_told && is_within_reach && world.stood[i].is_zero());
        node.told_late_ticks += usize::from(is_told_late && is_within_reach);
        let is_over = node.agent.as_ref().is_some_and(|agent| agent.known.ended.is_some());
        let opens = !world.calls[i].fails(Failure::Refuses) && !world.is_paused(i);
        node.over_ticks = if is_over && opens { node.over_ticks + 1 } else { 0 };
        assert!(!world.left[i] || world.tables[i].is_none(), "node {i} is armed beside a table of an earlier run");
        if !world.cuts(i) {
            continue;
        }
        node.cut_for += TICK;
        assert!(!world.stopped[i], "node {i} is cut after an abort or a heal packet");
        assert!(node.told_ticks < STOPS_TICKS, "node {i} is cut, and for two seconds an abort could be told to it");
        assert!(node.told_late_ticks < STOPS_TICKS, "node {i} is cut after the deadline, and could be told");
        assert!(node.over_ticks < STOPS_TICKS, "node {i} is cut, and its agent's part has been over for two seconds");
        // A clock that is stepped back begins a window anew, and never moves the gate.
        let most = if node.was_stepped { node.lasts() } else { node.is_cut_for() };
        assert!(node.cut_for <= most + 2 * TICK, "node {i} is cut for {:?}", node.cut_for);
        let cut_at = operator.cut_at().expect("nobody is cut without a schedule");
        let ends = cut_at + node.lasts() + world.stood[i];
        assert!(now <= ends + 2 * TICK, "node {i} is cut after its end");
        assert_ne!(phase, Phase::Refused, "node {i} is cut");
        // Unless a wrong clock called it so, or one that stood still goes on.
        let is_called_over = matches!(phase, Phase::Recovering | Phase::Judging | Phase::Done);
        let is_known = !operator.was_wrong && world.stood[i].is_zero();
        assert!(!is_called_over || !is_known, "node {i} is cut, and the run is called {phase:?}");
    }
    assert!(!operator.says_healed() || world.tables.iter().all(Option::is_none), "Healed, and a table is there");
    assert!(world.armed.iter().all(|times| *times <= 1), "a node was armed twice: {:?}", world.armed);
    if phase == Phase::Cut {
        assert!(operator.cut_at().unwrap() <= now, "called cut before it is");
    }
}

/// Whether what a node says is so, of a table that is there, with windows or without, and of one that is not. Where its agent can't look,
/// it says nothing of the kernel and what it said last of itself; of a table that has just gone without a word it may still speak.
pub fn is_so(says: &NodeRecordStatus, table: Option<bool>, calls: &Calls) -> bool {
    let has_gone = !calls.work() && table.is_none();
    match says.phase {
        _ if calls.fails(Failure::Unreadable) => says.kernel.is_none(),
        Some(Armed) => has_gone || table == Some(false),
        Some(Loaded) => has_gone || table == Some(true),
        Some(Healed | Aborted | Unfit) | None => table.is_none(),
    }
}

pub fn in_the_end(world: &Mutex<World>, nodes: &[Node], operator: &Operator) {
    // Everybody was heard again long ago. One whose clock is an hour behind waits that long for whom another has sent away.
    let is_left = operator.was_wrong && operator.removed;
    assert!(operator.over || is_left, "{:?}", operator.run.status);
    let is_aborted = operator.phase() == Phase::Aborted;
    assert!(!operator.is_to_end || is_aborted, "asked to end, and {:?}", operator.phase());
    let world = world.lock().unwrap();
    for (i, node) in nodes.iter().enumerate() {
        if world.tables[i].is_some() {
            // Its agent was not there when it was taken away. `at_every_tick` has seen that the table has no effect and that nobody says
            // it is gone; the next agent on this node removes it.
            assert!(!world.cuts(i));
            continue;
        }
        // Whoever was away when the agents were taken away has said no last word, and the operator knows. Unless it had, and another
        // agent was begun since.
        let said = node.said.phase;
        let has_ended = matches!(said, Some(Healed | Aborted | Unfit)) || (said.is_none() && node.agents > 1);
        assert!(has_ended || !operator.says_healed(), "node {i} ends as {said:?}");
        if said == Some(Healed) && !node.put_right && !node.was_full {
            let short = node.is_cut_for().saturating_sub(node.cut_for);
            let is_told = short <= 2 * TICK || shows_a_step(&node.said);
            assert!(is_told, "node {i} says Healed and nothing else, and was cut for {:?}", node.cut_for);
        }
    }
}

/// Whether anything in this record was seen by a wall clock that was out of step with the operator's: the judge goes by the same.
pub fn shows_a_step(said: &NodeRecordStatus) -> bool {
    let is_off = |at: &Moment| at.wall.0 != begun() + SignedDuration::from_micros(at.boot_us);
    said.spans.iter().any(|s| is_off(&s.from) || is_off(&s.to))
}
