//! What the nodes of a run say, each in its record.

use super::later;
use crate::api::{AgentCount, NAMED, NodeRecord, RackPartitionStatus, RecordPhase, conditions, first};
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

    /// The nodes that have not said that their table is gone, of those that may have one. Once there was a schedule that is every node:
    /// somebody may have deleted its record since.
    pub fn holding(&self, status: &RackPartitionStatus) -> BTreeSet<&'a str> {
        let all_had_one = status.schedule.is_some();
        let planned = self.names.iter().copied().filter(|_| all_had_one);
        let may_hold = planned.chain(self.records.iter().map(|r| r.spec.node.as_str()));
        may_hold.filter(|n| !self.of(n).is_some_and(says_gone)).collect()
    }

    /// The nodes that have not said that their table is gone, once the cut has been over for so long that they should have. A machine that
    /// was paused in mid-cut goes on where it was, with clocks that stood still: for it the cut is not over.
    pub fn overdue(&self, status: &RackPartitionStatus, now: Timestamp) -> BTreeSet<&'a str> {
        let is_late = status.schedule.as_ref().is_some_and(|s| now > later(s.heal_at.0, LATE_SECONDS));
        let silent = |n: &&str| is_late && !self.of(n).is_some_and(says_gone);
        self.names.iter().copied().filter(silent).collect()
    }

    /// Whether every node has said that its table is gone. Then nobody is cut any more, whatever any clock shows: what ended once is
    /// never armed again.
    pub fn are_all_free(&self) -> bool {
        !self.names.is_empty() && self.names.iter().all(|node| self.of(node).is_some_and(says_gone))
    }

    /// Sets the condition: Healed is True with every node's word, False where a node says that its table outlived the cut, else
    /// Unknown with the names of those that have not spoken.
    pub fn healed(&self, mut status: RackPartitionStatus, now: Timestamp) -> RackPartitionStatus {
        let spoke = |n: &&str| self.of(n).is_some_and(says_gone);
        // Before scheduling, a node without a record holds nothing: agents write theirs before they arm.
        let held = |n: &&str| status.schedule.is_some() || self.of(n).is_some();
        let silent: Vec<&str> = self.names.iter().copied().filter(|n| held(n) && !spoke(n)).collect();
        let over = status.schedule.as_ref().map(|s| later(s.heal_at.0, LATE_SECONDS));
        let left = |n: &&str| self.of(n).is_some_and(|r| over.is_some_and(|over| says_left(r, over)));
        let left: Vec<&str> = self.names.iter().copied().filter(left).collect();
        let (value, reason, message) = match () {
            _ if !left.is_empty() => {
                ("False", "TablesLeft", format!("a table is still there on {}", first(&left, NAMED)))
            }
            _ if silent.is_empty() => ("True", "TablesGone", "every node says that its table is gone".to_owned()),
            _ => ("Unknown", "NodesSilent", format!("no word yet from {}", first(&silent, NAMED))),
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

    fn record(node: &str, status: NodeRecordStatus) -> NodeRecord {
        let spec = NodeRecordSpec::new("r", "u", node, Observer::Agent);
        NodeRecord { status: Some(status), ..NodeRecord::new(node, spec) }
    }

    /// A run whose cut ended a minute ago, and the word of its one node.
    fn healed(phase: Option<RecordPhase>, table: bool, seen_seconds_after_heal: f64) -> String {
        let heal_at = later(Timestamp::now(), -60.0);
        let at = |seconds| MicroTime(later(heal_at, seconds));
        let schedule = Schedule { cut_at: at(-60.0), heal_at: at(0.0), recover_by: at(300.0), observed_until: None };
        let status = NodeRecordStatus {
            phase,
            kernel: Some(Kernel { table, ..Default::default() }),
            observed_until: Some(at(seen_seconds_after_heal)),
            ..Default::default()
        };
        let records = [record("w1", status)];
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

    #[test]
    fn a_node_without_a_record_has_not_healed_once_there_is_a_schedule() {
        let now = Timestamp::now();
        let kernel = Some(Kernel::default());
        let status = NodeRecordStatus { phase: Some(RecordPhase::Healed), kernel, ..Default::default() };
        let records = [record("w1", status)];
        let nodes = Nodes { names: BTreeSet::from(["w1", "w2"]), records: &records };
        let healed = |schedule: Option<Schedule>| {
            let status = nodes.healed(RackPartitionStatus { schedule, ..Default::default() }, now);
            let found = status.conditions.into_iter().find(|c| c.type_ == conditions::HEALED).unwrap();
            (found.status, found.message)
        };
        let at = |seconds| MicroTime(later(now, seconds));
        let schedule = Schedule { cut_at: at(-60.0), heal_at: at(0.0), recover_by: at(300.0), observed_until: None };
        assert_eq!(healed(Some(schedule)), ("Unknown".to_owned(), "no word yet from w2".to_owned()));
        assert_eq!(healed(None).0, "True", "nobody was asked to cut, and w2 never came");
    }

    #[test]
    fn of_many_silent_nodes_the_first_are_named() {
        let now = Timestamp::now();
        let names: Vec<String> = (10..25).map(|i| format!("w{i}")).collect();
        let nodes = Nodes { names: names.iter().map(String::as_str).collect(), records: &[] };
        let at = |seconds| MicroTime(later(now, seconds));
        let schedule = Schedule { cut_at: at(-60.0), heal_at: at(0.0), recover_by: at(300.0), observed_until: None };
        let status = nodes.healed(RackPartitionStatus { schedule: Some(schedule), ..Default::default() }, now);
        let message = &status.conditions.iter().find(|c| c.type_ == conditions::HEALED).unwrap().message;
        assert_eq!(message, "no word yet from w10, w11, w12, w13, w14, w15, w16, w17, w18, w19 and 5 more");
    }

    #[test]
    fn a_node_whose_record_is_gone_is_waited_for_once_there_is_a_schedule() {
        let says = |phase, table| NodeRecordStatus {
            phase: Some(phase),
            kernel: Some(Kernel { table, ..Default::default() }),
            ..Default::default()
        };
        let records = [record("w1", says(RecordPhase::Aborted, false)), record("w2", says(RecordPhase::Loaded, true))];
        let nodes = Nodes { names: BTreeSet::from(["w1", "w2", "w3"]), records: &records };
        let holding = |schedule: Option<Schedule>| -> Vec<&str> {
            nodes.holding(&RackPartitionStatus { schedule, ..Default::default() }).into_iter().collect()
        };
        let at = |seconds| MicroTime(later(Timestamp::now(), seconds));
        let schedule = Schedule { cut_at: at(-60.0), heal_at: at(0.0), recover_by: at(300.0), observed_until: None };
        assert_eq!(holding(Some(schedule)), ["w2", "w3"]);
        assert_eq!(holding(None), ["w2"], "w3 never came");
    }

    #[test]
    fn all_are_free_by_the_word_of_each() {
        use RecordPhase::{Aborted, Armed, Healed, Loaded, Unfit};
        let says = |phase, kernel: Option<bool>| NodeRecordStatus {
            phase,
            kernel: kernel.map(|table| Kernel { table, ..Default::default() }),
            ..Default::default()
        };
        let are_all_free = |names: &[&'static str], other: NodeRecordStatus| {
            let records = [record("w1", says(Some(Healed), Some(false))), record("w2", other)];
            Nodes { names: names.iter().copied().collect(), records: &records }.are_all_free()
        };
        for phase in [Healed, Aborted, Unfit] {
            assert!(are_all_free(&["w1", "w2"], says(Some(phase), Some(false))), "{phase:?}");
            assert!(!are_all_free(&["w1", "w2"], says(Some(phase), Some(true))), "{phase:?} and a table");
            assert!(!are_all_free(&["w1", "w2"], says(Some(phase), None)), "{phase:?} and nobody looked");
        }
        for phase in [None, Some(Armed), Some(Loaded)] {
            assert!(!are_all_free(&["w1", "w2"], says(phase, Some(false))), "{phase:?}");
        }
        let free = || says(Some(Healed), Some(false));
        assert!(!are_all_free(&["w1", "w2", "w3"], free()), "w3 has no record");
        assert!(!are_all_free(&[], free()), "of nobody nothing is known");
    }

    #[test]
    fn who_should_have_spoken_is_told_and_nobody_else() {
        use RecordPhase::{Healed, Loaded};
        let heal_at = Timestamp::now();
        let at = |seconds| MicroTime(later(heal_at, seconds));
        let schedule = Schedule { cut_at: at(-60.0), heal_at: at(0.0), recover_by: at(300.0), observed_until: None };
        let says = |phase, table| NodeRecordStatus {
            phase: Some(phase),
            kernel: Some(Kernel { table, ..Default::default() }),
            ..Default::default()
        };
        let overdue = |schedule: Option<Schedule>, w2: NodeRecordStatus, seconds: f64| -> Vec<String> {
            let records = [record("w1", says(Healed, false)), record("w2", w2)];
            let nodes = Nodes { names: BTreeSet::from(["w1", "w2", "w3"]), records: &records };
            let status = RackPartitionStatus { schedule, ..Default::default() };
            nodes.overdue(&status, later(heal_at, seconds)).into_iter().map(str::to_owned).collect()
        };
        let scheduled = || Some(schedule.clone());
        assert_eq!(overdue(scheduled(), says(Loaded, true), 11.0), ["w2", "w3"], "w3 has no record");
        assert_eq!(overdue(scheduled(), says(Healed, true), 11.0), ["w2", "w3"], "a table is a table");
        assert_eq!(overdue(scheduled(), says(Healed, false), 11.0), ["w3"]);
        let nobody = Vec::<String>::new();
        assert_eq!(overdue(scheduled(), says(Loaded, true), 9.0), nobody, "it may be about to say so");
        assert_eq!(overdue(None, says(Loaded, true), 11.0), nobody, "nothing was scheduled");
        let records = ["w1", "w2"].map(|node| record(node, says(Healed, false)));
        let nodes = Nodes { names: BTreeSet::from(["w1", "w2"]), records: &records };
        let status = RackPartitionStatus { schedule: scheduled(), ..Default::default() };
        assert!(nodes.overdue(&status, later(heal_at, 3600.0)).is_empty(), "all have spoken");
    }
}
