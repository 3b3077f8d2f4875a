//! Plan: look at the cluster, expand the cut, predict, check the guards, write it all down. Nothing is touched.

use super::{
    Error, end, failed_to, fit, seconds_until,
    survey::{self, Survey},
};
use crate::{
    api::{Phase, Plan, RackPartition, RackPartitionStatus, Side, conditions},
    course::{LEAD_SECONDS, Next, later},
    fault::{self, PlanParts, Refusal, RunPlan},
    operator::{context::Context, gather, objects},
    predict,
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use rand::Rng;
use std::time::Duration;

/// How much longer than all of these a gate of an armed node lasts.
const MARGIN_SECONDS: f64 = 30.0;

/// # Errors
/// Where the API does not answer; refusals are a [`Next`].
pub async fn step(run: &RackPartition, ctx: &Context) -> Result<Next, Error> {
    let status = RackPartitionStatus { observed_generation: run.metadata.generation, ..Default::default() };
    let refused = |refusal: String| Ok(refused(status.clone(), &refusal));
    // Nobody could, or nobody was there: whoever waited for it does not any more.
    if !is_younger(run, LONGEST_SECONDS) {
        return refused(format!("not planned within {LONGEST_SECONDS:.0} s of its creation: create it again"));
    }
    if let Some(other) = other_run(run, ctx).await? {
        return refused(other.to_string());
    }
    let policy = ctx.settings.policy.policy();
    let elected = ctx.settings.lease_namespaces();
    let gathered = gather::gather(&ctx.client, &run.spec, &ctx.settings.namespace, &elected, &policy).await;
    let mut snapshot = match gathered {
        Ok(snapshot) => snapshot,
        Err(gather::Error::Refused(
            refusal @ (Refusal::UnresolvedEndpoint { .. } | Refusal::UnresolvedEtcd { .. }),
        )) if is_younger(run, PATIENCE_SECONDS) => {
            return Ok(Next::wait(status.clone(), Duration::from_secs(1), format!("planning; so far {refusal}")));
        }
        Err(gather::Error::Refused(refusal)) => return refused(refusal.to_string()),
        // Asking again would not make it any clearer.
        Err(error @ gather::Error::Understand { .. }) => return refused(error.to_string()),
        Err(error) => return Err(error.into()),
    };
    let mut expanded = fault::expand(&run.spec, &snapshot);
    if expanded.as_ref().is_err_and(|refusal| survey::would_help(refusal, &snapshot)) {
        match survey::survey(run, ctx, &snapshot).await? {
            Survey::Waiting(message) => return Ok(Next::wait(status.clone(), Duration::from_millis(500), message)),
            Survey::Failed(why) => return refused(why),
            Survey::Leader(leader) => snapshot.etcd.iter_mut().for_each(|m| m.leads = Some(m.node == leader)),
        }
        expanded = fault::expand(&run.spec, &snapshot);
    }
    let fault = match expanded {
        Ok(fault) => fault,
        Err(refusal) => return refused(refusal.to_string()),
    };
    let sides = fault::sides(&snapshot, &fault);
    let duration = Duration::from(run.spec.duration);
    let guarded = fault::check_guards(&run.spec.guards, &snapshot, &fault, &sides);
    if let Err(refusal) = guarded.and_then(|()| policy.check(duration, &snapshot, &fault)) {
        return refused(refusal.to_string());
    }
    let forecast = predict::predict(&snapshot, &fault, &sides, duration);
    let parts = PlanParts {
        run: run.name_any(),
        run_uid: run.uid().unwrap_or_default(),
        token: format!("{:032x}", rand::rng().random::<u128>()),
        duration_seconds: duration.as_secs_f64(),
        longest_seconds: ctx.settings.arms_within(&run.spec.guards).as_secs_f64()
            + LEAD_SECONDS
            + duration.as_secs_f64()
            + MARGIN_SECONDS,
        writable: Side::most_writable(&sides).into_iter().flat_map(|s| s.api_servers.clone()).collect(),
    };
    let plan = RunPlan::new(&snapshot, &fault, parts);
    let mut message = format!("planned: {}, {} directed edges", fault.title, fault.edges());
    let (told, left_out) = fit::fitting_plan(Plan {
        hash: plan.hash(),
        at: Some(MicroTime(Timestamp::now())),
        cut: fault.title.clone(),
        sides,
        edges: fault.edges() as u32,
        resolved_roles: fault.resolved_roles,
        assumptions: fault.assumptions.into_iter().chain(forecast.assumptions_of(run.spec.recovery.into())).collect(),
        prediction: forecast.predictions,
    });
    if let Some(why) = fit::too_large(&told) {
        return refused(why);
    }
    if left_out > 0 {
        message += &format!("; {} of the prediction left out for want of room", predict::count(left_out, "line"));
    }
    // Written before the status names it, so that a status with a plan always has one. Where the status is not written for sure it is taken
    // back; what an attempt wrote that was interrupted has another name, and goes with the run.
    let map = objects::plan_map(run, &ctx.settings.agent.agent_namespace, &plan, &snapshot);
    ctx.plans().create(&PostParams::default(), &map).await.map_err(failed_to("write the plan"))?;
    let status = RackPartitionStatus { plan: Some(told), ..status };
    Ok(Next::phase(status, Phase::Planned, "Planned", &message).condition(
        conditions::PLANNED,
        ("True", "Planned"),
        &message,
        Timestamp::now(),
    ))
}

/// Deletes what was written of a plan that no status names, nor ever will: each attempt's has another name, and a secret. Only after the
/// API server has said for sure that the status is not written, see [`Error::is_unwritten`]. One that may still be written names its plan
/// then, and who looks now can't tell; that plan stays, and goes with the run.
pub async fn take_back(run: &RackPartition, ctx: &Context, hash: &str) {
    // By the right that deletes a run's plans when it ends.
    let unnamed = objects::of_run(run).fields(&format!("metadata.name={}", objects::plan_name(run, hash)));
    if let Err(error) = ctx.plans().delete_collection(&DeleteParams::background(), &unnamed).await {
        tracing::warn!(%error, run = run.name_any(), "failed to delete a plan that was not planned with");
    }
}

fn refused(status: RackPartitionStatus, refusal: &str) -> Next {
    let next = Next::phase(status, Phase::Refused, "Refused", refusal);
    next.condition(conditions::PLANNED, ("False", "Refused"), refusal, Timestamp::now())
}

/// What follows a plan that could not be made: it is tried again for a while, and not for ever.
pub fn failed(run: &RackPartition, error: &Error, again_in: Duration) -> Next {
    let status = run.status.clone().unwrap_or_default();
    let patience = if error.is_refusal() { PATIENCE_SECONDS } else { LONGEST_SECONDS };
    match is_younger(run, patience) {
        true => Next::wait(status, again_in, format!("planning; so far: {error}")),
        false => {
            let why = format!("no plan could be made in {patience:.0} s: {error}");
            refused(status, &format!("{why}; mend that and create the run again"))
        }
    }
}

/// What the API server refuses, or the cluster's own name service does not know, may be on its way: permissions that are being
/// installed, a name service that comes back from an earlier run.
const PATIENCE_SECONDS: f64 = 60.0;
/// An API server that does not answer is waited for so long; then a run must not begin out of the blue any more, nor stand in
/// others' way.
const LONGEST_SECONDS: f64 = 600.0;

fn is_younger(run: &RackPartition, seconds: f64) -> bool {
    run.creation_timestamp().is_some_and(|t| seconds_until(later(t.0, seconds)) > 0.0)
}

/// A run without a phase that may get one yet.
fn is_being_planned(run: &RackPartition) -> bool {
    run.metadata.deletion_timestamp.is_none() && is_younger(run, LONGEST_SECONDS)
}

/// One run at a time: two faults at once can't be told apart. A run looks before it is planned, and again once its plan is written
/// down: of two runs that two replicas plan at the same moment, each sure that it leads, at least one then sees the other.
///
/// # Errors
/// Where the API does not answer.
pub async fn other_run(run: &RackPartition, ctx: &Context) -> Result<Option<Refusal>, Error> {
    let runs = ctx.runs().list(&ListParams::default()).await.map_err(failed_to("list runs"))?;
    let is_planned = run.status.as_ref().is_some_and(|s| s.phase.is_some());
    let going = runs.items.into_iter().find_map(|other| {
        let is_other = other.uid() != run.uid();
        let age = |run: &RackPartition| (run.creation_timestamp(), run.uid());
        let (going, phase) = match other.status.as_ref().and_then(|s| s.phase) {
            Some(phase) => (!phase.is_final() || end::may_still_cut(&other), format!("{phase:?}")),
            // It may be asking who leads etcd; of two that are being planned the older one goes on.
            None => (!is_planned && is_being_planned(&other) && age(&other) < age(run), "being planned".to_owned()),
        };
        (is_other && going).then(|| Refusal::AnotherRun { other: other.name_any(), phase })
    });
    Ok(going)
}
