//! End: after a verdict, a refusal, an abort or a deletion. Nothing with effect is left, and nothing is said that nobody saw.

use super::{Error, abort, failed_to, or_gone, plan_map_of, plan_of};
use crate::{
    api::{FINALIZER, NAMED, RackPartition, RackPartitionStatus, first},
    course::{Nodes, SLACK_SECONDS, deadline, is_held, seconds_between},
    operator::{canary, context::Context, objects, steady},
};
use k8s_openapi::jiff::Timestamp;
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use std::time::Duration;

/// For so long after the end of a run, seconds, what the API server refuses is tried again: one that has just come back may not know
/// anybody's rights yet.
const PATIENCE_SECONDS: f64 = 20.0;

/// Where the nodes of a run are on the way out.
pub enum Ending {
    /// Ask again.
    Waiting { status: Box<RackPartitionStatus>, again_in: Duration },
    /// The agents are gone.
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
    ctx.refusals.forget(&uid);
    let plan = match plan_of(run, ctx).await {
        Ok(plan) => Some(plan),
        Err(Error::PlanGone { .. }) if status.plan.is_none() => {
            // Agents of a survey may be there.
            remove_agents(run, ctx).await?;
            return Ok(Ending::Over { status: Box::new(status) });
        }
        // Without its token no heal packet can be sent; all else goes on.
        Err(error) if error.is_lost_plan() || goes_without(run, &error, steady::now(status.schedule.as_ref())) => None,
        Err(error) => return Err(error),
    };
    let records = ctx.records_of(run).await;
    // Where nobody knows who is armed, all may be.
    if let (Err(_), Some(plan)) = (&records, &plan) {
        abort::send_heal_packets(plan).await;
    }
    let (agents, _) = match records.map_err(failed_to("read the node records")) {
        Err(error) if goes_without(run, &error, steady::now(status.schedule.as_ref())) => {
            tracing::warn!(%error, run = run.name_any(), "ends without a word from any node");
            remove_agents(run, ctx).await?;
            return Ok(Ending::Over { status: Box::new(status) });
        }
        read => read?,
    };
    // Without a plan those whom the status names.
    let names = match &plan {
        Some(plan) => plan.agents(),
        None => status.plan.iter().flat_map(|p| &p.sides).flat_map(|s| &s.nodes).map(String::as_str).collect(),
    };
    let nodes = Nodes { names, records: &agents };
    let now = steady::now(status.schedule.as_ref());
    let status = nodes.healed(status.clone(), now);
    let holding = nodes.holding(&status);
    let deadline = deadline(&status, run.metadata.deletion_timestamp.as_ref().map(|t| t.0), now);
    if !holding.is_empty() && now < deadline {
        if let Some(plan) = &plan {
            abort::send_heal_packets(plan).await;
        }
        let message = format!(
            "healing: waiting for {}; by {deadline:.0} the kernel has healed every node by itself",
            first(&holding.into_iter().collect::<Vec<_>>(), NAMED)
        );
        let status = RackPartitionStatus { message: Some(message), ..status };
        return Ok(Ending::Waiting { status: Box::new(status), again_in: Duration::from_millis(500) });
    }
    remove_agents(run, ctx).await?;
    Ok(Ending::Over { status: Box::new(status) })
}

/// Whether a run is let go though nobody may read its plan or what its nodes say, or remove what it owns, such as where NodeRecords or the
/// operator's rights were uninstalled before it: nothing can have effect any more, and asked again and again it would stay for ever. The
/// condition goes on saying what was known of its nodes, and what it owns goes with it once it is deleted.
fn goes_without(run: &RackPartition, error: &Error, now: Timestamp) -> bool {
    let status = run.status.clone().unwrap_or_default();
    let deleted = run.metadata.deletion_timestamp.as_ref().map(|t| t.0);
    error.is_refusal() && !has_just_ended(run) && now >= deadline(&status, deleted, now)
}

/// The same of what is only tidied up.
fn or_goes_without(run: &RackPartition, result: Result<(), Error>) -> Result<(), Error> {
    let now = steady::now(run.status.as_ref().and_then(|s| s.schedule.as_ref()));
    match result {
        Err(error) if goes_without(run, &error, now) => {
            tracing::warn!(%error, run = run.name_any(), "leaves to the garbage collector what it may not remove");
            Ok(())
        }
        other => other,
    }
}

/// Agents and canaries go; records stay, they belong to the run.
async fn remove_agents(run: &RackPartition, ctx: &Context) -> Result<(), Error> {
    let delete = DeleteParams::background();
    for name in [objects::name(run), objects::survey_name(run)] {
        let deleted = or_gone(ctx.daemon_sets().delete(&name, &delete).await.map(drop));
        or_goes_without(run, deleted.map_err(failed_to("delete the agents")))?;
    }
    or_goes_without(run, or_gone(canary::remove(ctx, run).await).map_err(failed_to("delete the canary Leases")))
}

/// The last that is done for a run: what it was made of is written where it stays, the plan goes with its secret, and then the
/// finalizer. In this order, so that whoever goes on after an attempt that ended in between loses nothing.
///
/// # Errors
/// Where the API does not answer.
pub async fn let_go(run: &RackPartition, ctx: &Context) -> Result<(), Error> {
    // All that a run owns goes with it.
    if run.metadata.deletion_timestamp.is_none() {
        keep(run, ctx).await?;
    }
    let deleted = ctx.plans().delete_collection(&DeleteParams::background(), &objects::of_run(run)).await.map(drop);
    or_goes_without(run, or_gone(deleted).map_err(failed_to("delete the plan")))?;
    drop_finalizer(run, ctx).await
}

/// Writes what the run was made of, without its secret, where the plan is still there.
async fn keep(run: &RackPartition, ctx: &Context) -> Result<(), Error> {
    let armed = match plan_map_of(run, ctx).await {
        Ok((armed, _)) => armed,
        // There never was one, somebody deleted it, or an earlier attempt has written it down and got further.
        Err(error) if error.is_lost_plan() => return Ok(()),
        Err(error) => return or_goes_without(run, Err(error)),
    };
    let journal = objects::journal_map(run, &ctx.settings.namespace, &armed)?;
    let written = match ctx.journals().create(&PostParams::default(), &journal).await {
        // By an earlier attempt. Nobody else's has this name.
        Err(kube::Error::Api(answer)) if answer.is_already_exists() => Ok(()),
        other => other.map(drop).map_err(failed_to("keep what the run was made of")),
    };
    match written {
        // Tried again and again, the secret would stay for ever.
        Err(error) if error.is_refusal() && !has_just_ended(run) => {
            let note = format!("{error}; so the run can't be exported, nor judged again");
            tracing::warn!(run = run.name_any(), note);
            ctx.tell(run, true, "NotKept", &note).await;
            Ok(())
        }
        other => other,
    }
}

fn has_just_ended(run: &RackPartition) -> bool {
    let now = steady::now(run.status.as_ref().and_then(|s| s.schedule.as_ref()));
    let conditions = run.status.iter().flat_map(|s| &s.conditions);
    let mut ages = conditions.map(|c| seconds_between(c.last_transition_time.0, now));
    // None of the future: a clock that was stepped back must not hold the run.
    ages.any(|age| (0.0..PATIENCE_SECONDS).contains(&age))
}

/// Whether a run that has ended may still have nodes cut: those that have not said otherwise, until the kernels' deadline.
pub fn may_still_cut(run: &RackPartition) -> bool {
    // First: of runs that are over nobody goes by their schedules any more.
    if !is_held(run) {
        return false;
    }
    let schedule = run.status.as_ref().and_then(|s| s.schedule.as_ref());
    schedule.is_some_and(|s| seconds_between(steady::now(schedule), s.heal_at.0) + SLACK_SECONDS > 0.0)
}

/// # Errors
/// Where the API does not answer.
pub async fn add_finalizer(run: &RackPartition, ctx: &Context) -> Result<(), Error> {
    set_finalizers(run, ctx, |f| f.push(FINALIZER.into())).await
}

async fn drop_finalizer(run: &RackPartition, ctx: &Context) -> Result<(), Error> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{Phase, Schedule, conditions},
        course::later,
        operator::steady::tests::has_seen,
    };
    use kube::core::Status;

    #[test]
    fn a_run_whose_records_nobody_may_read_is_let_go_once_nothing_can_be_cut_any_more() {
        let spec = json!({"cut": {"isolate": {"racks": ["r1"]}}, "duration": "60s"});
        let now = Timestamp::now();
        let goes = |code: u16, ended_ago: f64| {
            let mut status = RackPartitionStatus { phase: Some(Phase::Aborted), ..Default::default() };
            let at = later(now, -ended_ago);
            conditions::set(&mut status.conditions, conditions::HEALED, "Unknown", "Aborting", "", None, at);
            let mut run = RackPartition::new("run", serde_json::from_value(spec.clone()).unwrap());
            run.status = Some(status);
            let answer = kube::Error::Api(Status::failure("why", "").with_code(code).boxed());
            goes_without(&run, &failed_to("read the node records")(answer), now)
        };
        assert!(goes(404, 60.0) && goes(403, 60.0));
        assert!(!goes(404, 10.0), "agents may be about to heal, and rights about to be there");
        assert!(!goes(503, 3600.0), "it will answer");
    }

    #[test]
    fn the_schedule_of_a_run_that_is_over_is_not_looked_at() {
        let spec = json!({"cut": {"isolate": {"racks": ["r1"]}}, "duration": "60s"});
        let mut run = RackPartition::new("run", serde_json::from_value(spec).unwrap());
        let schedule = json!({
            "cutAt": "2032-01-01T00:00:00.000001Z",
            "healAt": "2032-01-01T00:01:00.000000Z",
            "recoverBy": "2032-01-01T00:06:00.000000Z",
        });
        let schedule: Schedule = serde_json::from_value(schedule).unwrap();
        run.status = Some(RackPartitionStatus { schedule: Some(schedule.clone()), ..Default::default() });
        assert!(!may_still_cut(&run) && !has_seen(&schedule));
        run.metadata.finalizers = Some(vec![FINALIZER.into()]);
        assert!(may_still_cut(&run) && has_seen(&schedule));
    }
}
