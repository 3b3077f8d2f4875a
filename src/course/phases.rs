//! What follows from each phase.

use super::{LEAD_SECONDS, Next, Nodes, later, seconds_between};
use crate::api::{NAMED, Phase, RackPartitionSpec, RackPartitionStatus, Schedule, conditions, first};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use std::time::Duration;

/// Whoever has not loaded this long before the instant, seconds, is too late for a heal packet to be sure to come first.
pub const LAST_CALL_SECONDS: f64 = 1.0;

/// After the windows' end until the cut is called over, seconds: clocks differ by no more than the guard allows.
const AFTER_HEAL_SECONDS: f64 = 1.0;

/// The gate outlives the windows by a quarter of a second (agent), clocks differ by less than a second.
pub const SLACK_SECONDS: f64 = 2.0;

/// For so long everything desired must have been actual without a break. Longer than the eviction, probe and resync periods of
/// seconds that could break it again, and half of what research asks for at upstream's timers (60 s), because the wait is paid
/// in every run.
pub const HOLD_SECONDS: f64 = 30.0;

/// What to do about a node on which it failed.
const ADVICE: &str = "see to the node and its agent's pod, then create the run again";

/// Arming: until nothing is waited for any more, `waits` a reason and a sentence, but no longer than `deadline` seconds. Also where all
/// is ready then, as after a while without an operator: the gates of the nodes that were armed first would close in mid-cut.
pub fn arming(
    spec: &RackPartitionSpec,
    status: RackPartitionStatus,
    waits: Option<(&str, String)>,
    deadline: f64,
    now: Timestamp,
) -> Next {
    let is_late = is_late(&status, conditions::ARMED, deadline, now);
    match waits {
        None if is_late => {
            let why = format!("ready to cut only after more than {deadline} s");
            refused(status, format!("{why}: create the run again, or raise agent.armDeadline of the chart"), now)
        }
        None => schedule(spec, status, now),
        Some((_, what)) if is_late => {
            let why = format!("not ready to cut after {deadline} s: waiting for {what}");
            let advice = "mend that and create the run again, or raise agent.armDeadline of the chart";
            refused(status, format!("{why}; {advice} where it only takes longer"), now)
        }
        Some((reason, what)) => {
            let armed = status.agents.as_ref().map(|a| a.summary.clone()).unwrap_or_default();
            let message = format!("armed {armed}; waiting for {what}");
            Next::wait(status, Duration::from_millis(500), &message).condition(
                conditions::ARMED,
                ("False", reason),
                &message,
                now,
            )
        }
    }
}

/// Whether so many seconds have passed since this condition was set.
pub fn is_late(status: &RackPartitionStatus, since: &str, deadline: f64, now: Timestamp) -> bool {
    let since = status.conditions.iter().find(|c| c.type_ == since).map(|c| c.last_transition_time.0);
    since.is_some_and(|since| seconds_between(since, now) >= deadline)
}

/// Every node is armed: the common instant, a few seconds ahead.
fn schedule(spec: &RackPartitionSpec, status: RackPartitionStatus, now: Timestamp) -> Next {
    let cut_at = later(now, LEAD_SECONDS);
    let heal_at = later(cut_at, Duration::from(spec.duration).as_secs_f64());
    let recover_by = later(heal_at, Duration::from(spec.recovery).as_secs_f64());
    let schedule = Schedule {
        cut_at: MicroTime(cut_at),
        heal_at: MicroTime(heal_at),
        recover_by: MicroTime(recover_by),
        observed_until: None,
    };
    let message = format!("every node is armed; cutting at {cut_at:.3}");
    let status = RackPartitionStatus { schedule: Some(schedule), ..status };
    Next::phase(status, Phase::Scheduled, "Scheduled", &message).condition(
        conditions::ARMED,
        ("True", "Armed"),
        &message,
        now,
    )
}

/// Arming ends without a cut.
pub fn refused(status: RackPartitionStatus, why: impl Into<String>, now: Timestamp) -> Next {
    let why = why.into();
    Next::phase(status, Phase::Refused, "Refused", &why).condition(conditions::ARMED, ("False", "Refused"), &why, now)
}

/// Scheduled: every node says in time that its windows are loaded, or nobody is cut.
pub fn before(status: RackPartitionStatus, nodes: &Nodes<'_>, now: Timestamp) -> Next {
    let Some(schedule) = status.schedule.clone() else { return aborted(status, "the schedule is missing", now) };
    let left = seconds_between(now, schedule.cut_at.0);
    // After the instant others may be cut already, and who has not said that it is ready too: it can't tell then.
    let what = if left > 0.0 { "called off" } else { "aborted" };
    if let Some((node, why)) = nodes.given_up() {
        return aborted(status, format!("{what}: {node} takes part no longer: {why}; {ADVICE}"), now);
    }
    let missing = nodes.not_loaded(&status);
    if !missing.is_empty() && left > LAST_CALL_SECONDS {
        let wanted = nodes.names.len();
        let loaded = wanted - missing.len();
        let message = format!("windows loaded on {loaded} of {wanted} nodes; cutting in {left:.0} s");
        return Next::wait(status, Duration::from_millis(200), message);
    }
    if !missing.is_empty() {
        let who = first(&missing, NAMED);
        return aborted(status, format!("{what}: no word in time of windows loaded on {who}; {ADVICE}"), now);
    }
    if left > 0.0 {
        let message = format!("windows loaded on every node; cutting in {left:.0} s");
        return Next::wait(status, Duration::from_secs_f64(left.min(0.5)), message);
    }
    let message = format!("cut until {:.3}", schedule.heal_at.0);
    Next::phase(status, Phase::Cut, "Cut", &message).condition(
        conditions::INJECTED,
        ("Unknown", "Cutting"),
        "every node has loaded its windows; the proof comes with the records after the heal",
        now,
    )
}

/// Cut: until the windows are over, or every node says that it is free: the operator's clock may have been stepped back, and the kernels
/// do not go by it.
pub fn during(status: RackPartitionStatus, nodes: &Nodes<'_>, now: Timestamp) -> Next {
    let Some(schedule) = status.schedule.clone() else { return aborted(status, "the schedule is missing", now) };
    let left = seconds_between(now, schedule.heal_at.0) + AFTER_HEAL_SECONDS;
    let are_all_free = nodes.are_all_free();
    if left > 0.0 && !are_all_free {
        let message = format!("cut; heals in {:.0} s", (left - AFTER_HEAL_SECONDS).max(0.0));
        return Next::wait(status, Duration::from_secs_f64(left.min(1.0)), message);
    }
    let over = if are_all_free { "every node says that its table is gone" } else { "the windows are over" };
    Next::phase(status, Phase::Recovering, "Recovering", format!("{over}; watching the recovery")).condition(
        conditions::HEALED,
        ("Unknown", "WindowsOver"),
        "the windows are over; waiting for every node to say that its table is gone",
        now,
    )
}

/// Recovering: until the cluster is whole and has stayed so, or until watching ends. `whole` is for how many seconds it has been,
/// `waiting` for what it is waited if it is not; an error where nobody has looked yet. What nodes say of themselves the condition `Healed`
/// of `status` knows already: where nobody may read it any more, it stands.
pub fn after(status: RackPartitionStatus, whole: f64, waiting: Result<Option<String>, ()>, now: Timestamp) -> Next {
    let Some(mut schedule) = status.schedule.clone() else { return aborted(status, "the schedule is missing", now) };
    // By the schedule, or since every node said so where the operator's clock was stepped back meanwhile.
    let healed = status.conditions.iter().find(|c| c.type_ == conditions::HEALED && c.status == "True");
    let since_word = healed.map_or(f64::NEG_INFINITY, |c| seconds_between(c.last_transition_time.0, now));
    let since_heal = seconds_between(schedule.heal_at.0, now).max(since_word);
    let all_healed = healed.is_some();
    let recovered = all_healed && whole.min(since_heal) >= HOLD_SECONDS;
    if !recovered && seconds_between(now, schedule.recover_by.0) > 0.0 {
        let message = match waiting {
            Ok(None) if all_healed => format!("whole for {whole:.0} s of {HOLD_SECONDS:.0} s"),
            Ok(None) => "waiting for every node's word that it has healed".into(),
            Ok(Some(waiting)) => format!("healed {since_heal:.0} s ago; waiting for {waiting}"),
            Err(()) => "looking at the cluster".into(),
        };
        return Next::wait(status, Duration::from_secs(1), message);
    }
    schedule.observed_until = Some(MicroTime(now));
    let message =
        if recovered { "recovered; gathering the records" } else { "not recovered in time; gathering the records" };
    Next::phase(RackPartitionStatus { schedule: Some(schedule), ..status }, Phase::Judging, "Judging", message)
}

/// Whether this phase can have left something on nodes.
pub fn may_have_touched(phase: Option<Phase>) -> bool {
    !matches!(phase, None | Some(Phase::Planned))
}

/// After this no rule of a run that has ended can have effect anywhere, whatever else happens: the windows' end. Where there were
/// none, what is waited for is tidiness. `deleted` is when somebody deleted it.
pub fn deadline(status: &RackPartitionStatus, deleted: Option<Timestamp>, now: Timestamp) -> Timestamp {
    if let Some(schedule) = &status.schedule {
        return later(schedule.heal_at.0, SLACK_SECONDS);
    }
    const TIDY_SECONDS: f64 = 20.0;
    let ended = deleted.or_else(|| status.conditions.iter().map(|c| c.last_transition_time.0).max());
    later(ended.unwrap_or(now), TIDY_SECONDS)
}

/// A run that ends early. What was cut is healed until proven.
pub fn aborted(status: RackPartitionStatus, why: impl Into<String>, now: Timestamp) -> Next {
    let why = why.into();
    let heal = may_have_touched(status.phase);
    let next = Next { heal, ..Next::phase(status, Phase::Aborted, "Aborted", &why) };
    let (state, message) = match heal {
        false => (("True", "NeverCut"), "nothing was loaded on any node"),
        true => (("Unknown", "Aborting"), "waiting for every node to say that its table is gone"),
    };
    next.condition(conditions::HEALED, state, message, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Kernel, NodeRecord, NodeRecordSpec, NodeRecordStatus, Observer, RecordPhase};
    use std::collections::BTreeSet;

    const CUT_AT: i64 = 1_900_000_000;

    /// What follows so many seconds before the instant, where w2 has loaded and w1 says this.
    fn before_the_cut(left: f64, loaded: bool, phase: RecordPhase) -> (Option<Phase>, String, bool) {
        let cut_at = Timestamp::from_second(CUT_AT).unwrap();
        let at = |seconds| MicroTime(later(cut_at, seconds));
        let schedule = Schedule { cut_at: at(0.0), heal_at: at(60.0), recover_by: at(360.0), observed_until: None };
        let status =
            RackPartitionStatus { phase: Some(Phase::Scheduled), schedule: Some(schedule), ..Default::default() };
        let record = |node: &str, loaded: bool, phase| {
            let spec = NodeRecordSpec::new("r", "u", node, Observer::Agent);
            let loaded_cut_at = loaded.then(|| at(0.0));
            let message = Some("it said so".to_owned());
            let status = NodeRecordStatus { phase: Some(phase), message, loaded_cut_at, ..Default::default() };
            NodeRecord { status: Some(status), ..NodeRecord::new(node, spec) }
        };
        let records = [record("w1", loaded, phase), record("w2", true, RecordPhase::Loaded)];
        let nodes = Nodes { names: BTreeSet::from(["w1", "w2"]), records: &records };
        let next = before(status, &nodes, later(cut_at, -left));
        (next.status.phase, next.status.message.unwrap_or_default(), next.heal)
    }

    #[test]
    fn every_node_says_in_time_that_it_is_ready_or_nobody_is_cut() {
        use RecordPhase::{Aborted, Armed, Loaded};
        let scheduled = |message: &str| (Some(Phase::Scheduled), message.to_owned(), false);
        let aborted = |message: &str| (Some(Phase::Aborted), message.to_owned(), true);
        let gave_up = format!("w1 takes part no longer: it said so; {ADVICE}");
        let no_word = format!("no word in time of windows loaded on w1; {ADVICE}");
        assert_eq!(before_the_cut(8.0, false, Armed), scheduled("windows loaded on 1 of 2 nodes; cutting in 8 s"));
        assert_eq!(before_the_cut(8.0, true, Loaded), scheduled("windows loaded on every node; cutting in 8 s"));
        assert_eq!(before_the_cut(8.0, true, Aborted), aborted(&format!("called off: {gave_up}")));
        assert_eq!(before_the_cut(0.5, false, Armed), aborted(&format!("called off: {no_word}")));
        assert_eq!(before_the_cut(0.5, true, Loaded), scheduled("windows loaded on every node; cutting in 0 s"));
        assert_eq!(before_the_cut(0.0, false, Armed), aborted(&format!("aborted: {no_word}")), "it may be cut already");
        assert_eq!(before_the_cut(-3.0, true, Aborted), aborted(&format!("aborted: {gave_up}")));
        assert_eq!(before_the_cut(0.0, true, Loaded).0, Some(Phase::Cut));
    }

    #[test]
    fn a_cut_is_over_by_its_schedule_or_by_every_nodes_word() {
        let cut_at = Timestamp::from_second(CUT_AT).unwrap();
        let at = |seconds| MicroTime(later(cut_at, seconds));
        let schedule = Schedule { cut_at: at(0.0), heal_at: at(60.0), recover_by: at(360.0), observed_until: None };
        let status = RackPartitionStatus { phase: Some(Phase::Cut), schedule: Some(schedule), ..Default::default() };
        let record = |node: &str, free: bool| {
            let phase = Some(if free { RecordPhase::Healed } else { RecordPhase::Loaded });
            let kernel = Some(Kernel { table: !free, ..Default::default() });
            let status = NodeRecordStatus { phase, kernel, ..Default::default() };
            let spec = NodeRecordSpec::new("r", "u", node, Observer::Agent);
            NodeRecord { status: Some(status), ..NodeRecord::new(node, spec) }
        };
        // Seconds after cutAt by the operator's clock; an hour was taken off it.
        let phase = |seconds, free: [bool; 2]| {
            let records = [record("w1", free[0]), record("w2", free[1])];
            let nodes = Nodes { names: BTreeSet::from(["w1", "w2"]), records: &records };
            during(status.clone(), &nodes, later(cut_at, seconds)).status.phase
        };
        assert_eq!(phase(30.0, [false, false]), Some(Phase::Cut));
        assert_eq!(phase(61.5, [false, false]), Some(Phase::Recovering), "who says nothing is waited for there");
        assert_eq!(phase(-3540.0, [true, false]), Some(Phase::Cut));
        assert_eq!(phase(-3540.0, [true, true]), Some(Phase::Recovering));
        // And that goes on to its end as well.
        let records = [record("w1", true), record("w2", true)];
        let nodes = Nodes { names: BTreeSet::from(["w1", "w2"]), records: &records };
        let status = RackPartitionStatus { agents: Some(nodes.count(&status)), ..status };
        let step = |status, seconds| {
            let now = later(cut_at, seconds);
            after(nodes.healed(status, now), 600.0, Ok(None), now).status
        };
        let begun = step(status, -3540.0);
        let ended = |seconds| step(begun.clone(), seconds).phase;
        assert_eq!((ended(-3511.0), ended(-3509.0)), (Some(Phase::Cut), Some(Phase::Judging)));
    }

    #[test]
    fn what_was_known_of_the_nodes_stands_where_nobody_may_read_their_records_any_more() {
        for known in ["True", "False"] {
            let cut_at = Timestamp::from_second(CUT_AT).unwrap();
            let at = |seconds| MicroTime(later(cut_at, seconds));
            let schedule = Schedule { cut_at: at(0.0), heal_at: at(60.0), recover_by: at(360.0), observed_until: None };
            let mut status = RackPartitionStatus { schedule: Some(schedule), ..Default::default() };
            let at = later(cut_at, 70.0);
            conditions::set(&mut status.conditions, conditions::HEALED, known, "Known", "so it was", None, at);
            let before = status.conditions.clone();
            let next = after(status, 0.0, Err(()), later(cut_at, 381.0));
            assert!(next.is(Phase::Judging), "{next:?}");
            assert_eq!(next.status.conditions, before);
        }
    }

    #[test]
    fn who_is_ready_too_late_is_not_cut() {
        let now = Timestamp::from_second(CUT_AT).unwrap();
        let spec = serde_json::json!({"cut": {"isolate": {"racks": ["r1"]}}, "duration": "60s"});
        let spec = serde_json::from_value(spec).unwrap();
        let after = |seconds: f64, waits: Option<(&str, String)>| {
            let mut status = RackPartitionStatus { phase: Some(Phase::Arming), ..Default::default() };
            conditions::set(
                &mut status.conditions,
                conditions::ARMED,
                "False",
                "Arming",
                "",
                None,
                later(now, -seconds),
            );
            arming(&spec, status, waits, 60.0, now).status.phase
        };
        let waits = || Some(("AgentsMissing", "somebody".to_owned()));
        assert_eq!(after(59.0, waits()), Some(Phase::Arming));
        assert_eq!(after(59.0, None), Some(Phase::Scheduled));
        assert_eq!(after(61.0, waits()), Some(Phase::Refused));
        assert_eq!(after(61.0, None), Some(Phase::Refused), "no operator for a while");
    }

    #[test]
    fn what_was_never_touched_needs_no_healing() {
        let now = Timestamp::from_second(CUT_AT).unwrap();
        for (phase, heal) in [(None, false), (Some(Phase::Planned), false), (Some(Phase::Arming), true)] {
            let status = RackPartitionStatus { phase, ..Default::default() };
            assert_eq!(aborted(status, "why", now).heal, heal, "{phase:?}");
        }
    }
}
