//! What the nodes of a run say, each in its record.

use super::later;
use crate::api::{AgentCount, NodeRecord, RackPartitionStatus, RecordPhase, conditions};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use std::collections::BTreeSet;

/// An agent looks at its table every second and says so every three, seconds. One that is still told to be there this long after
/// the heal was seen after it.
const LATE_SECONDS: f64 = 10.0;

/// The nodes that carry an agent by the plan, and the records that were read of them.
#[derive(Clone, Debug)]
pub struct Nodes<'a> {
    pub names: BTreeSet<&'a str>,
    pub records: &'a [NodeRecord],
}

impl<'a> Nodes<'a> {
    /// How far the agents are.
    pub fn count(&self, status: &RackPartitionStatus) -> AgentCount {
        let number = |test: &dyn Fn(&NodeRecord) -> bool| self.records.iter().filter(|r| test(r)).count() as u32;
        let wanted = self.names.len() as u32;
        let armed = number(&|r| phase(r).is_some_and(|p| p != RecordPhase::Unfit));
        AgentCount {
            wanted,
            armed,
            loaded: number(&|r| has_loaded(r, cut_at(status))),
            healed: number(&|r| phase(r).is_some_and(|p| matches!(p, RecordPhase::Healed | RecordPhase::Aborted))),
            summary: format!("{armed}/{wanted}"),
        }
    }

    /// The first node whose agent is not armed with this plan.
    pub fn unarmed(&self, plan_hash: Option<&String>) -> Option<&'a str> {
        let is_armed = |r: &NodeRecord| {
            phase(r) == Some(RecordPhase::Armed) && r.status.as_ref().is_some_and(|s| s.plan_hash.as_ref() == plan_hash)
        };
        self.names.iter().copied().find(|n| !self.of(n).is_some_and(is_armed))
    }

    /// The nodes that have not loaded the windows of this schedule, or have given up since.
    pub fn not_loaded(&self, status: &RackPartitionStatus) -> Vec<&'a str> {
        let has_loaded = |n: &&str| self.of(n).is_some_and(|r| has_loaded(r, cut_at(status)));
        self.names.iter().copied().filter(|n| !has_loaded(n)).collect()
    }

    /// A node that takes part no longer, whatever it did before, and why in its own words.
    pub fn given_up(&self) -> Option<(&'a str, String)> {
        let record = self.records.iter().find(|r| has_given_up(r))?;
        let why = record.status.as_ref().and_then(|s| s.message.clone());
        Some((record.spec.node.as_str(), why.unwrap_or_else(|| "it gave no reason".into())))
    }

    /// The nodes with a record that does not say that their table is gone.
    pub fn holding(&self) -> Vec<&'a str> {
        self.records.iter().filter(|r| !says_gone(r)).map(|r| r.spec.node.as_str()).collect()
    }

    /// Sets the condition: Healed is True with every node's word, False where a node says that its table outlived the cut, else
    /// Unknown with the names of those that have not spoken.
    pub fn healed(&self, mut status: RackPartitionStatus, now: Timestamp) -> RackPartitionStatus {
        let spoke = |n: &&str| self.records.iter().any(|r| r.spec.node == **n && says_gone(r));
        // Before scheduling, a node without a record holds nothing.
        let held = |n: &&str| status.schedule.is_some() || self.of(n).is_some();
        let silent: Vec<&str> = self.names.iter().copied().filter(|n| held(n) && !spoke(n)).collect();
        let over = status.schedule.as_ref().map(|s| later(s.heal_at.0, LATE_SECONDS));
        let left = |n: &&str| self.of(n).is_some_and(|r| over.is_some_and(|over| says_left(r, over)));
        let left: Vec<&str> = self.names.iter().copied().filter(left).collect();
        let (value, reason, message) = match () {
            _ if !left.is_empty() => ("False", "TablesLeft", format!("a table is still there on {}", left.join(", "))),
            _ if silent.is_empty() => ("True", "TablesGone", "every node says that its table is gone".to_owned()),
            _ => ("Unknown", "NodesSilent", format!("no word yet from {}", silent.join(", "))),
        };
        let generation = status.observed_generation;
        conditions::set(&mut status.conditions, conditions::HEALED, value, reason, &message, generation, now);
        status
    }

    fn of(&self, node: &str) -> Option<&'a NodeRecord> {
        self.records.iter().find(|r| r.spec.node == node)
    }
}

fn phase(record: &NodeRecord) -> Option<RecordPhase> {
    record.status.as_ref()?.phase
}

fn cut_at(status: &RackPartitionStatus) -> Option<&MicroTime> {
    status.schedule.as_ref().map(|s| &s.cut_at)
}

fn has_loaded(record: &NodeRecord, cut_at: Option<&MicroTime>) -> bool {
    let loaded = record.status.as_ref().and_then(|s| s.loaded_cut_at.as_ref());
    cut_at.is_some() && loaded == cut_at && !has_given_up(record)
}

fn has_given_up(record: &NodeRecord) -> bool {
    phase(record).is_some_and(|p| matches!(p, RecordPhase::Unfit | RecordPhase::Aborted))
}

/// A record without a word about the kernel says nothing: its agent may have armed and not have told yet.
fn says_gone(record: &NodeRecord) -> bool {
    let gone = record.status.as_ref().and_then(|s| s.kernel.as_ref()).is_some_and(|k| !k.table);
    gone && phase(record).is_some_and(|p| matches!(p, RecordPhase::Healed | RecordPhase::Aborted | RecordPhase::Unfit))
}

/// The node said after this moment that its table is still there.
fn says_left(record: &NodeRecord, over: Timestamp) -> bool {
    let Some(status) = &record.status else { return false };
    let seen = status.observed_until.as_ref().is_some_and(|until| until.0 > over);
    seen && status.kernel.as_ref().is_some_and(|k| k.table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Kernel, NodeRecordSpec, NodeRecordStatus, Observer, Schedule};

    /// A run whose cut ended a minute ago, and the word of its one node.
    fn healed(phase: Option<RecordPhase>, table: bool, seen_seconds_after_heal: f64) -> String {
        let heal_at = later(Timestamp::now(), -60.0);
        let at = |seconds| MicroTime(later(heal_at, seconds));
        let schedule = Schedule { cut_at: at(-60.0), heal_at: at(0.0), recover_by: at(300.0), observed_until: None };
        let spec = NodeRecordSpec {
            run: "r".into(),
            run_uid: "u".into(),
            node: "w1".into(),
            observer: Observer::Agent,
            clock_reply: None,
        };
        let status = NodeRecordStatus {
            phase,
            kernel: Some(Kernel { table, ..Default::default() }),
            observed_until: Some(at(seen_seconds_after_heal)),
            ..Default::default()
        };
        let records = [NodeRecord { status: Some(status), ..NodeRecord::new("w1", spec) }];
        let status = RackPartitionStatus { schedule: Some(schedule), ..Default::default() };
        let status = Nodes { names: BTreeSet::from(["w1"]), records: &records }.healed(status, Timestamp::now());
        status.conditions.iter().find(|c| c.type_ == conditions::HEALED).map(|c| c.status.clone()).unwrap()
    }

    #[test]
    fn healed_is_true_false_or_unknown_and_each_by_a_nodes_word() {
        assert_eq!(healed(Some(RecordPhase::Healed), false, 5.0), "True");
        assert_eq!(healed(Some(RecordPhase::Loaded), true, 30.0), "False", "it outlived the cut");
        assert_eq!(healed(Some(RecordPhase::Loaded), true, -10.0), "Unknown", "that was during the cut");
    }
}
