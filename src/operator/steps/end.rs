//! End: after a verdict, a refusal, an abort or a deletion. Nothing with effect is left, and nothing is said that nobody saw.

use super::{Error, abort, failed_to, or_gone, plan_of, seconds_until};
use crate::{
    api::{FINALIZER, RackPartition, RackPartitionStatus},
    course::{Nodes, SLACK_SECONDS, deadline, is_held},
    operator::{canary, context::Context, objects},
};
use k8s_openapi::jiff::Timestamp;
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;
use std::time::Duration;

/// Where the nodes of a run are on the way out.
pub enum Ending {
    /// Ask again.
    Waiting { status: Box<RackPartitionStatus>, again_in: Duration },
    /// Agents and plan are gone.
    Over { status: Box<RackPartitionStatus> },
}

/// Waits for every node's word that its table is gone, heal packets and all, but never longer than the kernels' own deadline;
/// then removes the agents.
///
/// # Errors
/// Where the API does not answer.
pub async fn wind_up(run: &RackPartition, ctx: &Context) -> Result<Ending, Error> {
    let status = run.status.clone().unwrap_or_default();
    let uid = run.uid().unwrap_or_default();
    ctx.observers.end(&uid);
    let plan = match plan_of(run, ctx).await {
        Ok(plan) => Some(plan),
        Err(Error::PlanGone { .. }) if status.plan.is_none() => {
            // Agents of a survey may be there.
            remove(run, ctx).await?;
            return Ok(Ending::Over { status: Box::new(status) });
        }
        // Without its token no heal packet can be sent; all else goes on.
        Err(error) if error.is_lost_plan() => None,
        Err(error) => return Err(error),
    };
    let (agents, _) = ctx.records_of(run).await.map_err(failed_to("read the node records"))?;
    // Without a plan those whom the status names.
    let names = match &plan {
        Some(plan) => plan.agents(),
        None => status.plan.iter().flat_map(|p| &p.sides).flat_map(|s| &s.nodes).map(String::as_str).collect(),
    };
    let nodes = Nodes { names, records: &agents };
    let now = Timestamp::now();
    let status = nodes.healed(status.clone(), now);
    let holding = nodes.holding();
    let deadline = deadline(&status, run.metadata.deletion_timestamp.as_ref().map(|t| t.0), now);
    if !holding.is_empty() && now < deadline {
        if let Some(plan) = &plan {
            abort::send_heal_packets(plan).await;
        }
        let message = format!(
            "healing: waiting for {}; by {deadline:.0} the kernel has healed every node by itself",
            holding.join(", ")
        );
        let status = RackPartitionStatus { message: Some(message), ..status };
        return Ok(Ending::Waiting { status: Box::new(status), again_in: Duration::from_millis(500) });
    }
    remove(run, ctx).await?;
    Ok(Ending::Over { status: Box::new(status) })
}

/// Agents, plan and canaries go; records stay, they belong to the run.
async fn remove(run: &RackPartition, ctx: &Context) -> Result<(), Error> {
    let delete = DeleteParams::background();
    for name in [objects::name(run), objects::survey_name(run)] {
        or_gone(ctx.daemon_sets().delete(&name, &delete).await.map(drop)).map_err(failed_to("delete the agents"))?;
    }
    or_gone(canary::remove(ctx, run).await).map_err(failed_to("delete the canary Leases"))?;
    or_gone(ctx.plans().delete_collection(&delete, &objects::of_run(run)).await.map(drop))
        .map_err(failed_to("delete the plan"))?;
    Ok(())
}

/// Whether a run that has ended may still have nodes cut: those that have not said otherwise, until the kernels' deadline.
pub fn may_still_cut(run: &RackPartition) -> bool {
    let heal_at = run.status.as_ref().and_then(|s| s.schedule.as_ref()).map(|s| s.heal_at.0);
    is_held(run) && heal_at.is_some_and(|at| seconds_until(at) + SLACK_SECONDS > 0.0)
}

/// # Errors
/// Where the API does not answer.
pub async fn add_finalizer(run: &RackPartition, ctx: &Context) -> Result<(), Error> {
    set_finalizers(run, ctx, |f| f.push(FINALIZER.into())).await
}

/// # Errors
/// Where the API does not answer.
pub async fn drop_finalizer(run: &RackPartition, ctx: &Context) -> Result<(), Error> {
    set_finalizers(run, ctx, |f| f.retain(|f| f != FINALIZER)).await
}

async fn set_finalizers(
    run: &RackPartition,
    ctx: &Context,
    change: impl FnOnce(&mut Vec<String>),
) -> Result<(), Error> {
    let mut finalizers = run.finalizers().to_vec();
    change(&mut finalizers);
    // With the version: somebody else's finalizer must not be lost.
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": run.resource_version()}});
    let patched = ctx.runs().patch(&run.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await;
    or_gone(patched.map(drop)).map_err(failed_to("change the finalizers"))
}
