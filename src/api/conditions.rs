//! Condition types and reasons of a `RackPartition`.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The plan is written.
pub const PLANNED: &str = "Planned";
/// Every node of the plan holds an inert table and its clock is in step.
pub const ARMED: &str = "Armed";
/// The fault is proven by kernel counters and probes.
pub const INJECTED: &str = "Injected";
/// No rule with effect is left: True by every node's word, False where one says after the cut that its table is still there,
/// else Unknown.
pub const HEALED: &str = "Healed";
/// There is a verdict.
pub const JUDGED: &str = "Judged";

/// Sets one condition; its transition time becomes `now` only when its status changes.
pub fn set(
    conditions: &mut Vec<Condition>,
    type_: &str,
    status: &str,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    let old = conditions.iter().find(|c| c.type_ == type_);
    let last_transition_time = match old {
        Some(old) if old.status == status => old.last_transition_time.clone(),
        _ => Time(now),
    };
    let new = Condition {
        type_: type_.into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        observed_generation: generation,
        last_transition_time,
    };
    match conditions.iter_mut().find(|c| c.type_ == type_) {
        Some(old) => *old = new,
        None => conditions.push(new),
    }
}
