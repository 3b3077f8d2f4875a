//! Schedule and cut: every node says that its windows are loaded, or nobody is cut; then the kernels do it.

use super::{Error, abort, arm, failed_to, planned, seconds_until};
use crate::{
    api::{Phase, RackPartition, RackPartitionStatus},
    course::{LAST_CALL_SECONDS, Next, aborted, before, during},
    operator::context::Context,
};
use k8s_openapi::jiff::Timestamp;
use std::{sync::Arc, time::Duration};

/// Scheduled: until the instant, or back.
///
/// # Errors
/// Where the API does not answer.
pub async fn scheduled(run: &RackPartition, ctx: &Arc<Context>) -> Result<Next, Error> {
    let status = run.status.clone().unwrap_or_default();
    let Some(schedule) = status.schedule.clone() else {
        return Ok(aborted(status, "the schedule is missing"));
    };
    let planned = planned(run, ctx).await?;
    let (agents, operator) = ctx.records_of(run).await.map_err(failed_to("read the node records"))?;
    ctx.observers.ensure(ctx, run, &planned.plan, &planned.snapshot, operator.as_ref());
    let nodes = planned.nodes(&agents);
    let status = RackPartitionStatus { agents: Some(nodes.count(&status)), ..status };
    let left = seconds_until(schedule.cut_at.0);
    // Later it is the cut that moves it.
    if let Some((was, now)) = arm::moved_leader(&planned, &agents).filter(|_| left > 0.0) {
        abort::send_heal_packets(&planned.plan).await;
        return Ok(aborted(status, format!("called off: etcd's leader moved from {was} to {now}; run it again")));
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
        return Ok(aborted(status, "called off: nobody has looked at spec.abortWhen in time"));
    }
    let next = before(status, &nodes, Timestamp::now());
    if next.is(Phase::Aborted) {
        abort::send_heal_packets(&planned.plan).await;
    }
    if next.is(Phase::Cut) {
        // Whatever connection was made before the cut may end on the wrong side of it.
        ctx.route.redial();
    }
    Ok(next)
}

/// Cut: until the windows are over.
///
/// # Errors
/// Where the API does not answer.
pub async fn cutting(run: &RackPartition, ctx: &Arc<Context>) -> Result<Next, Error> {
    let status = run.status.clone().unwrap_or_default();
    let planned = planned(run, ctx).await?;
    let (_, operator) = ctx.records_of(run).await.map_err(failed_to("read the node records"))?;
    ctx.observers.ensure(ctx, run, &planned.plan, &planned.snapshot, operator.as_ref());
    let lasts = status.schedule.as_ref().is_some_and(|s| seconds_until(s.heal_at.0) > 0.0);
    if lasts && let Some(next) = abort::when(ctx, &planned.plan, &status, false).await {
        return Ok(next);
    }
    let next = during(status, Timestamp::now());
    if next.is(Phase::Recovering) {
        ctx.route.redial();
    }
    Ok(next)
}
