//! Schedule and cut: every node says that its windows are loaded, or nobody is cut; then the kernels do it.

use super::{Error, Planned, abort, arm, failed_to, judge::goes_without, planned};
use crate::{
    api::{Phase, RackPartition, RackPartitionStatus},
    course::{LAST_CALL_SECONDS, Next, Nodes, aborted, before, during, seconds_between},
    operator::{context::Context, steady},
};
use std::{sync::Arc, time::Duration};

/// Scheduled: until the instant, or back.
///
/// # Errors
/// Where the API does not answer.
pub async fn scheduled(run: &RackPartition, ctx: &Arc<Context>) -> Result<Next, Error> {
    let status = run.status.clone().unwrap_or_default();
    let planned = planned(run, ctx).await?;
    let (agents, operator) = ctx.records_of(run).await.map_err(failed_to("read the node records"))?;
    ctx.observers.ensure(ctx, run, &planned.plan, &planned.snapshot, operator.as_ref());
    let nodes = planned.nodes(&agents);
    let status = RackPartitionStatus { agents: Some(nodes.count(&status)), ..status };
    let next = next(run, ctx, &planned, &nodes, status);
    if next.is(Phase::Cut) {
        // Whatever connection was made before the cut may end on the wrong side of it.
        ctx.route.redial();
    }
    Ok(abort::told(&planned.plan, next).await)
}

fn next(run: &RackPartition, ctx: &Context, planned: &Planned, nodes: &Nodes<'_>, status: RackPartitionStatus) -> Next {
    let now = steady::now(status.schedule.as_ref());
    let left = status.schedule.as_ref().map_or(0.0, |s| seconds_between(now, s.cut_at.0));
    // Later it is the cut that moves it.
    if let Some((was, leads)) = arm::moved_leader(planned, nodes.records).filter(|_| left > 0.0) {
        return aborted(status, format!("called off: etcd's leader moved from {was} to {leads}; run it again"), now);
    }
    // Nothing is cut yet, so there is no reason to wait and see.
    if let Some(next) = abort::when(ctx, &planned.plan, &status, left > 0.0) {
        return next;
    }
    // This replica may just have taken over.
    let unseen = !run.spec.abort_when.is_empty() && ctx.observers.alarms(&planned.plan.run_uid).is_none();
    match unseen && left > 0.0 {
        true if left > LAST_CALL_SECONDS => {
            Next::wait(status, Duration::from_millis(200), "waiting for a first look at spec.abortWhen")
        }
        true => aborted(status, "called off: nobody has looked at spec.abortWhen in time", now),
        false => before(status, nodes, now),
    }
}

/// Cut: until the windows are over, or every node has said that it is free.
///
/// # Errors
/// Where the API does not answer.
pub async fn cutting(run: &RackPartition, ctx: &Arc<Context>) -> Result<Next, Error> {
    let status = run.status.clone().unwrap_or_default();
    let planned = planned(run, ctx).await?;
    let read = ctx.records_of(run).await.map_err(failed_to("read the node records"));
    let now = steady::now(status.schedule.as_ref());
    let refused = ctx.refusals.last(&planned.plan.run_uid, "records", read.as_ref().is_err_and(Error::is_refusal));
    let over = status.schedule.as_ref().map_or(0.0, |s| seconds_between(s.heal_at.0, now));
    let (agents, operator) = match read {
        // The windows are over, whatever nodes say.
        Err(error) if goes_without(&error, over.min(refused)) => return Ok(during(status, &planned.nodes(&[]), now)),
        read => read?,
    };
    ctx.observers.ensure(ctx, run, &planned.plan, &planned.snapshot, operator.as_ref());
    let lasts = status.schedule.as_ref().is_some_and(|s| now < s.heal_at.0);
    let alarm = if lasts { abort::when(ctx, &planned.plan, &status, false) } else { None };
    let next = alarm.unwrap_or_else(|| during(status, &planned.nodes(&agents), now));
    if next.is(Phase::Recovering) {
        ctx.route.redial();
    }
    Ok(abort::told(&planned.plan, next).await)
}
