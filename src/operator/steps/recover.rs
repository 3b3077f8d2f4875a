//! Recover: watch on after the heal, until the cluster is whole and has stayed so, or until watching ends.

use super::{Error, failed_to, judge::goes_without, planned, store};
use crate::{
    api::{RackPartition, RackPartitionStatus},
    course::{Next, after, seconds_between},
    operator::{context::Context, steady},
};
use kube::ResourceExt;
use std::sync::Arc;

/// # Errors
/// Where the API does not answer.
pub async fn step(run: &RackPartition, ctx: &Arc<Context>) -> Result<Next, Error> {
    let status = run.status.clone().unwrap_or_default();
    let planned = planned(run, ctx).await?;
    let read = ctx.records_of(run).await.map_err(failed_to("read the node records"));
    let now = steady::now(status.schedule.as_ref());
    let uid = &planned.plan.run_uid;
    let refused = ctx.refusals.last(uid, "records", read.as_ref().is_err_and(Error::is_refusal));
    let over = status.schedule.as_ref().map_or(0.0, |s| seconds_between(s.recover_by.0, now));
    let (agents, operator) = match read {
        Err(error) if goes_without(&error, over.min(refused)) => {
            tracing::warn!(%error, run = run.name_any(), "watches no longer for what nobody may read");
            return Ok(after(status, 0.0, Err(()), now));
        }
        read => read?,
    };
    ctx.observers.ensure(ctx, run, &planned.plan, &planned.snapshot, operator.as_ref());
    let nodes = planned.nodes(&agents);
    ctx.reminder.remind(&planned.plan, &nodes.overdue(&status, now));
    let status = RackPartitionStatus { agents: Some(nodes.count(&status)), ..status };
    let status = nodes.healed(store::healed(run, &ctx.settings.agent, status), now);
    Ok(after(status, ctx.observers.whole_for(uid), ctx.observers.convergence(uid), now))
}
