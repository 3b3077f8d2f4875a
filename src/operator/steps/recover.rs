//! Recover: watch on after the heal, until the cluster is whole and has stayed so, or until watching ends.

use super::{Error, Next, arm, end, failed_to, planned, seconds_until};
use crate::{
    api::{Phase, RackPartition, RackPartitionStatus},
    operator::context::Context,
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
use std::{sync::Arc, time::Duration};

/// For so long everything desired must have been actual without a break. Longer than the eviction, probe and resync periods of
/// seconds that could break it again, and half of what research asks for at upstream's timers (60 s), because the wait is paid
/// in every run.
const HOLD_SECONDS: f64 = 30.0;

/// # Errors
/// Where the API does not answer.
pub async fn step(run: &RackPartition, ctx: &Arc<Context>) -> Result<Next, Error> {
    let status = run.status.clone().unwrap_or_default();
    let planned = planned(run, ctx).await?;
    let (agents, operator) = ctx.records_of(run).await.map_err(failed_to("read the node records"))?;
    ctx.observers.ensure(ctx, run, &planned.plan, &planned.snapshot, operator.as_ref());
    let status = RackPartitionStatus { agents: Some(arm::count(&planned, &agents, &status)), ..status };
    let Some(schedule) = status.schedule.clone() else {
        return Ok(super::abort::next(status, "the schedule is missing"));
    };
    let uid = &planned.plan.run_uid;
    let whole = ctx.observers.whole_for(uid);
    let since_heal = -seconds_until(schedule.heal_at.0);
    let status = end::healed_condition(status, &planned.plan, &agents);
    let all_healed = status.agents.as_ref().is_some_and(|a| a.healed >= a.wanted);
    let left = seconds_until(schedule.recover_by.0);
    let recovered = all_healed && whole.min(since_heal) >= HOLD_SECONDS;
    if !recovered && left > 0.0 {
        let message = match ctx.observers.convergence(uid) {
            Ok(None) if all_healed => format!("whole for {whole:.0} s of {HOLD_SECONDS:.0} s"),
            Ok(None) => "waiting for every node's word that it has healed".into(),
            Ok(Some(waiting)) => format!("healed {since_heal:.0} s ago; waiting for {waiting}"),
            Err(()) => "looking at the cluster".into(),
        };
        return Ok(Next::wait(status, Duration::from_secs(1), message));
    }
    let mut schedule = schedule;
    schedule.observed_until = Some(MicroTime(Timestamp::now()));
    let message =
        if recovered { "recovered; gathering the records" } else { "not recovered in time; gathering the records" };
    Ok(Next::phase(RackPartitionStatus { schedule: Some(schedule), ..status }, Phase::Judging, "Judging", message))
}
