//! What an agent does next: a pure function of what it wrote down, what the kernel holds, what the run asks and what time it is.

#[cfg(any(test, fuzzing))]
mod any_state;
#[cfg(test)]
mod tests;

#[cfg(fuzzing)]
pub use any_state::read_any_state;

use crate::{
    api::{RecordPhase, StoreRevisions},
    netfilter::TableState,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The instants of a run, by wall clock.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Times {
    pub cut_at: Timestamp,
    pub heal_at: Timestamp,
}

impl Times {
    /// So long after the beginning of the cut, and no later than its end.
    pub fn after(self, begun: Duration) -> Timestamp {
        self.cut_at.checked_add(begun).map_or(self.heal_at, |at| at.min(self.heal_at))
    }
}

/// What the run asks of this node, as far as it is known.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Order {
    /// The run was read and has a phase, and this node has a record. Until then nothing is armed: the run may have ended long ago, and
    /// a node without a record counts as one that holds nothing.
    pub known: bool,
    pub times: Option<Times>,
    /// The run is in a phase in which nodes are armed.
    pub may_arm: bool,
    /// The run is in a phase in which windows may be loaded.
    pub may_load: bool,
    /// The run is done: a table that is still there goes.
    pub done: bool,
    /// The run is to end early; says why.
    pub abort: Option<String>,
    /// At which revisions etcd's member on this node is to be hashed. Nothing that is done about the cut depends on it.
    pub store: StoreRevisions,
}

/// How a node's part in a run ended.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ending {
    pub phase: RecordPhase,
    pub message: Option<String>,
}

impl Ending {
    fn new(phase: RecordPhase, message: impl Into<String>) -> Self {
        Ending { phase, message: Some(message.into()) }
    }
    fn healed() -> Self {
        Ending { phase: RecordPhase::Healed, message: None }
    }
}

/// What must outlive the process and the machine's uptime. On the node's disk before a table is made, loaded or, but for a heal, removed.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Persisted {
    /// Boot id under which the table was armed.
    pub boot_id: String,
    /// A table was, or was about to be, armed in this run. Never twice.
    pub armed: bool,
    /// Rules that the table had right after arming.
    pub rules: Option<usize>,
    /// Handed to the kernel, or about to be: whether the windows are loaded the kernel says.
    pub times: Option<Times>,
    /// The cut was over, and its table is about to be removed: by nobody else, if it is gone.
    pub removing: bool,
    /// Nothing follows. Set before an abort removes the table, and after a heal has.
    pub ended: Option<Ending>,
}

/// The next thing to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Write down `armed`, then load the inert table.
    Arm,
    /// Leave the table as it is. The message says what is amiss.
    Hold(Option<&'static str>),
    /// Write down the times, then load the windows.
    Load(Times),
    /// Tell every node, close the gate, write down the ending, remove the table.
    Abort(Ending),
    /// Nothing in the table has effect any more, or should have: remove it, then write down the ending; one other than Healed before that,
    /// with the gate closed.
    Remove(Ending),
    /// There is no table and there will be none: write down the ending.
    End(Ending),
}

const LATE: &str = "the schedule came too late: this node was not cut";

/// The next thing to do at `now`, by this node's wall clock. `lasts` is from the beginning of a cut to the end of this node's last
/// window: of a staggered heal, or of a link that is up in the end, less than the cut of the run.
///
/// The kernel is believed before the disk and the disk before the API: a table with windows carries the plan whatever else
/// is known, and what was armed once is never armed again.
pub fn decide(
    known: &Persisted,
    table: Option<&TableState>,
    boot_id: &str,
    order: &Order,
    lasts: Duration,
    now: Timestamp,
) -> Step {
    let Some(table) = table else { return without_table(known, boot_id, order, now) };
    let is_over = is_over(known, order, now).unwrap_or(false);
    match (&known.ended, &order.abort) {
        // An abort that a crash cut short.
        (Some(ending), _) if ending.phase == RecordPhase::Aborted && !is_over => Step::Abort(ending.clone()),
        (Some(ending), _) => Step::Remove(ending.clone()),
        // Tools that save rulesets restore them, with a gate that is open.
        (None, _) if was_rebooted(known, boot_id) => Step::Remove(Ending::new(
            RecordPhase::Unfit,
            "the node was rebooted during the run and somebody brought its table back",
        )),
        (None, Some(reason)) if table.windows == 0 || !is_over => {
            Step::Abort(Ending::new(RecordPhase::Aborted, reason.clone()))
        }
        (None, _) => with_table(known, table, order, lasts, now),
    }
}

fn with_table(known: &Persisted, table: &TableState, order: &Order, lasts: Duration, now: Timestamp) -> Step {
    let cuts = table.windows > 0;
    match if cuts { loaded(known, table, order, lasts, now) } else { armed(table, order, now) } {
        Step::Hold(_) if order.done && cuts => Step::Remove(Ending::new(
            RecordPhase::Healed,
            "the run was done before the end of the cut by this node's wall clock",
        )),
        Step::Hold(_) if order.done => {
            Step::Remove(Ending::new(RecordPhase::Aborted, "the run was done and this node never cut"))
        }
        step => step,
    }
}

/// The times of the cut, where they are known. The disk first: what it has is in the kernel, whatever the object says by now.
fn times(known: &Persisted, order: &Order) -> Option<Times> {
    known.times.or(order.times)
}

/// Whether the cut is over, everywhere; `None` where its times are unknown.
fn is_over(known: &Persisted, order: &Order, now: Timestamp) -> Option<bool> {
    times(known, order).map(|times| now >= times.heal_at)
}

/// Since its table was armed. Where the disk has lost that it was, nobody can tell.
fn was_rebooted(known: &Persisted, boot_id: &str) -> bool {
    known.armed && known.boot_id != boot_id
}

fn without_table(known: &Persisted, boot_id: &str, order: &Order, now: Timestamp) -> Step {
    if let Some(ending) = &known.ended {
        return Step::End(ending.clone());
    }
    if was_rebooted(known, boot_id) {
        return Step::End(Ending::new(
            RecordPhase::Unfit,
            "the node was rebooted during the run and its table went with it",
        ));
    }
    match (&order.abort, known.armed, known.times) {
        (Some(reason), ..) => Step::End(Ending::new(RecordPhase::Aborted, reason.clone())),
        (None, false, _) if !order.known => Step::Hold(None),
        (None, false, _) if order.may_arm => Step::Arm,
        (None, false, _) => Step::End(Ending::new(RecordPhase::Unfit, "the run went on before this node was armed")),
        (None, true, None) => Step::End(Ending::new(RecordPhase::Unfit, "the table vanished before the cut")),
        // A process that ended between removing the table and writing it down.
        (None, true, Some(times)) if known.removing && now >= times.heal_at => Step::End(Ending::healed()),
        (None, true, Some(times)) if now >= times.heal_at => {
            Step::End(Ending::new(RecordPhase::Unfit, "the table vanished while nobody looked, perhaps in mid-cut"))
        }
        (None, true, Some(times)) if now >= times.cut_at => {
            Step::End(Ending::new(RecordPhase::Unfit, "the table vanished in mid-cut"))
        }
        (None, true, Some(_)) => Step::End(Ending::new(RecordPhase::Unfit, "the table vanished before the cut")),
    }
}

fn loaded(known: &Persisted, table: &TableState, order: &Order, lasts: Duration, now: Timestamp) -> Step {
    // The gate closes with this node's last window, whatever others still have to come.
    let own_is_over = || times(known, order).is_some_and(|times| now >= times.after(lasts));
    match (is_over(known, order, now), table.gate.is_some()) {
        // Nobody looked in between, so nobody knows on which side of the end it came.
        (Some(true), _) if table.heal_packets > 0 => {
            Step::Remove(Ending::new(RecordPhase::Aborted, "a heal packet came, and the cut may have ended early"))
        }
        (Some(true), _) => Step::Remove(Ending::healed()),
        // It came while the windows were loaded: its element was replaced by the one of the load.
        (_, true) if table.heal_packets > 0 => {
            Step::Abort(Ending::new(RecordPhase::Aborted, "a heal packet came while the windows were being loaded"))
        }
        (_, true) => Step::Hold(None),
        (_, false) if table.heal_packets > 0 => {
            Step::Remove(Ending::new(RecordPhase::Aborted, "a heal packet ended the cut early"))
        }
        // Of a table that can't be read, once the run is done, the agent closes the gate: nobody can tell that from the kernel's deadline.
        (Some(false), false) if own_is_over() || order.done => Step::Hold(None),
        (Some(false), false) => Step::Remove(Ending::new(
            RecordPhase::Healed,
            "the kernel's deadline came before the end of the cut by the wall clock, which must have been stepped back",
        )),
        (None, false) => Step::Remove(Ending::healed()),
    }
}

fn armed(table: &TableState, order: &Order, now: Timestamp) -> Step {
    let aborted = |message| Step::Remove(Ending::new(RecordPhase::Aborted, message));
    match (table.gate, order.times) {
        (None, _) if table.heal_packets > 0 => aborted("a heal packet came before the cut"),
        // As of one that is loaded.
        (None, _) if order.done => Step::Hold(None),
        (None, _) => aborted("the kernel's deadline came before a schedule"),
        (Some(_), Some(times)) if now >= times.heal_at => aborted(LATE),
        (Some(_), Some(times)) if order.may_load && now < times.cut_at => Step::Load(times),
        (Some(_), Some(times)) if now >= times.cut_at => Step::Hold(Some(LATE)),
        (Some(_), _) => Step::Hold(None),
    }
}
