//! Schedule and cut: every node says that its windows are loaded, or nobody is cut; then the kernels do it.

use super::{Error, Next, abort, arm, failed_to, planned, seconds_until};
use crate::{
    api::{Phase, RackPartition, RackPartitionStatus, conditions},
    operator::context::Context,
};
use std::{sync::Arc, time::Duration};

/// Whoever has not loaded this long before the instant, seconds, is too late for a heal packet to be sure to come first.
const LAST_CALL_SECONDS: f64 = 1.0;
/// After the windows' end until the API is dialled anew: clocks differ by no more than the guard allows.
const AFTER_HEAL_SECONDS: f64 = 1.0;

/// Scheduled: until the instant, or back.
///
/// # Errors
/// Where the API does not answer.
pub async fn scheduled(run: &RackPartition, ctx: &Arc<Context>) -> Result<Next, Error> {
    let status = run.status.clone().unwrap_or_default();
    let Some(schedule) = status.schedule.clone() else {
        return Ok(abort::next(status, "the schedule is missing"));
    };
    let planned = planned(run, ctx).await?;
    let (agents, operator) = ctx.records_of(run).await.map_err(failed_to("read the node records"))?;
    ctx.observers.ensure(ctx, run, &planned.plan, &planned.snapshot, operator.as_ref());
    let count = arm::count(&planned, &agents, &status);
    let (loaded, wanted) = (count.loaded, count.wanted);
    let status = RackPartitionStatus { agents: Some(count), ..status };
    let left = seconds_until(schedule.cut_at.0);
    // Later it is the cut that moves it.
    if let Some((was, now)) = arm::moved_leader(&planned, &agents).filter(|_| left > 0.0) {
        abort::send_heal_packets(&planned.plan).await;
        return Ok(abort::next(status, format!("not cut: etcd's leader moved from {was} to {now}; run it again")));
    }
    // Nothing is cut yet, so there is no reason to wait and see.
    if let Some(next) = abort::when(ctx, &planned.plan, &status, left > 0.0).await {
        return Ok(next);
    }
    // This replica may just have taken over.
    let unseen = !run.spec.abort_when.is_empty() && ctx.observers.alarms(&planned.plan.run_uid).is_none();
    if unseen && left > 0.0 {
        if left > LAST_CALL_SECONDS {
            return Ok(Next::wait(status, Duration::from_millis(200), "waiting for a first look at spec.abortWhen"));
        }
        abort::send_heal_packets(&planned.plan).await;
        return Ok(abort::next(status, "not cut: nobody has looked at spec.abortWhen in time"));
    }
    let gave_up = agents.iter().any(arm::has_given_up);
    if loaded < wanted && left > LAST_CALL_SECONDS && !gave_up {
        let message = format!("windows loaded on {loaded} of {wanted} nodes; cutting in {left:.0} s");
        return Ok(Next::wait(status, Duration::from_millis(200), message));
    }
    if loaded < wanted {
        abort::send_heal_packets(&planned.plan).await;
        let cut_at = Some(&schedule.cut_at);
        let has_loaded = |n: &&str| agents.iter().any(|r| r.spec.node == **n && arm::has_loaded(r, cut_at));
        let names: Vec<_> = planned.plan.agents().into_iter().filter(|n| !has_loaded(n)).collect();
        let why = agents.iter().filter(|r| arm::has_given_up(r)).find_map(|r| r.status.as_ref()?.message.clone());
        let why = why.map(|w| format!(": {w}")).unwrap_or_default();
        return Ok(abort::next(status, format!("not cut: no windows loaded in time on {}{why}", names.join(", "))));
    }
    if left > 0.0 {
        let message = format!("windows loaded on every node; cutting in {left:.0} s");
        return Ok(Next::wait(status, Duration::from_secs_f64(left.min(0.5)), message));
    }
    // Whatever connection was made before the cut may end on the wrong side of it.
    ctx.route.redial();
    let message = format!("cut until {:.3}", schedule.heal_at.0);
    Ok(Next::phase(status, Phase::Cut, "Cut", &message).condition(
        conditions::INJECTED,
        "Unknown",
        "Cutting",
        "every node has loaded its windows; the proof comes with the records after the heal",
    ))
}

/// Cut: until the windows are over.
///
/// # Errors
/// Where the API does not answer.
pub async fn cutting(run: &RackPartition, ctx: &Arc<Context>) -> Result<Next, Error> {
    let status = run.status.clone().unwrap_or_default();
    let Some(schedule) = status.schedule.clone() else {
        return Ok(abort::next(status, "the schedule is missing"));
    };
    let planned = planned(run, ctx).await?;
    let (_, operator) = ctx.records_of(run).await.map_err(failed_to("read the node records"))?;
    ctx.observers.ensure(ctx, run, &planned.plan, &planned.snapshot, operator.as_ref());
    let left = seconds_until(schedule.heal_at.0) + AFTER_HEAL_SECONDS;
    if left > AFTER_HEAL_SECONDS
        && let Some(next) = abort::when(ctx, &planned.plan, &status, false).await
    {
        return Ok(next);
    }
    if left > 0.0 {
        let message = format!("cut; heals in {:.0} s", (left - AFTER_HEAL_SECONDS).max(0.0));
        return Ok(Next::wait(status, Duration::from_secs_f64(left.min(1.0)), message));
    }
    ctx.route.redial();
    let message = "the windows are over; watching the recovery".to_owned();
    Ok(Next::phase(status, Phase::Recovering, "Recovering", &message).condition(
        conditions::HEALED,
        "Unknown",
        "WindowsOver",
        "the windows are over; waiting for every node to say that its table is gone",
    ))
}
