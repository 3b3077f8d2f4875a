//! What follows from each phase.

use super::{LEAD_SECONDS, Next, Nodes, later, seconds_between};
use crate::api::{Phase, RackPartitionSpec, RackPartitionStatus, Schedule, conditions};
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
const HOLD_SECONDS: f64 = 30.0;

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
            refused(status, format!("ready to cut only after more than {deadline} s: run it again"), now)
        }
        None => schedule(spec, status, now),
        Some((_, what)) if is_late => {
            refused(status, format!("not ready to cut after {deadline} s: waiting for {what}"), now)
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
        return aborted(status, format!("{what}: {node} takes part no longer: {why}"), now);
    }
    let missing = nodes.not_loaded(&status);
    if !missing.is_empty() && left > LAST_CALL_SECONDS {
        let wanted = nodes.names.len();
        let loaded = wanted - missing.len();
        let message = format!("windows loaded on {loaded} of {wanted} nodes; cutting in {left:.0} s");
        return Next::wait(status, Duration::from_millis(200), message);
    }
    if !missing.is_empty() {
        return aborted(status, format!("{what}: no word in time of windows loaded on {}", missing.join(", ")), now);
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

/// Cut: until the windows are over.
pub fn during(status: RackPartitionStatus, now: Timestamp) -> Next {
    let Some(schedule) = status.schedule.clone() else { return aborted(status, "the schedule is missing", now) };
    let left = seconds_between(now, schedule.heal_at.0) + AFTER_HEAL_SECONDS;
    if left > 0.0 {
        let message = format!("cut; heals in {:.0} s", (left - AFTER_HEAL_SECONDS).max(0.0));
        return Next::wait(status, Duration::from_secs_f64(left.min(1.0)), message);
    }
    let message = "the windows are over; watching the recovery".to_owned();
    Next::phase(status, Phase::Recovering, "Recovering", &message).condition(
        conditions::HEALED,
        ("Unknown", "WindowsOver"),
        "the windows are over; waiting for every node to say that its table is gone",
        now,
    )
}

/// Recovering: until the cluster is whole and has stayed so, or until watching ends. `whole` is for how many seconds it has been,
/// `waiting` for what it is waited if it is not; an error where nobody has looked yet.
pub fn after(
    status: RackPartitionStatus,
    nodes: &Nodes<'_>,
    whole: f64,
    waiting: Result<Option<String>, ()>,
    now: Timestamp,
) -> Next {
    let Some(mut schedule) = status.schedule.clone() else { return aborted(status, "the schedule is missing", now) };
    let since_heal = -seconds_between(now, schedule.heal_at.0);
    let status = nodes.healed(status, now);
    let all_healed = status.agents.as_ref().is_some_and(|a| a.healed >= a.wanted);
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
    use crate::api::{NodeRecord, NodeRecordSpec, NodeRecordStatus, Observer, RecordPhase};
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
            let spec = NodeRecordSpec {
                run: "r".into(),
                run_uid: "u".into(),
                node: node.into(),
                observer: Observer::Agent,
                clock_reply: None,
            };
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
        let gave_up = "w1 takes part no longer: it said so";
        let no_word = "no word in time of windows loaded on w1";
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
