//! The kube controller: one run at a time, one step at a time.

use super::{
    context::Context,
    steady,
    steps::{
        Error, abort, arm, cut, end, failed_to,
        judge::{self, PATIENCE_SECONDS},
        plan, recover,
    },
};
use crate::{
    api::{Phase, RackPartition, RackPartitionStatus, Side},
    course::{Due, Next, aborted, deadline, due},
};
use futures::StreamExt;
use kube::{
    Api, ResourceExt,
    api::PostParams,
    runtime::{
        Controller,
        controller::{self, Action},
        watcher,
    },
};
use std::{sync::Arc, time::Duration};

/// Tried again after an error; the API may be on its way to another leader.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// Reconciles until dropped.
pub async fn run(ctx: Arc<Context>) {
    let runs: Api<RackPartition> = ctx.runs();
    // Short watches: one that died silently hides an abort for no longer than this.
    let config = watcher::Config::default().timeout(20);
    Controller::new(runs, config)
        .with_config(controller::Config::default().concurrency(1))
        .run(reconcile, error_policy, ctx)
        .for_each(|result| async move {
            match result {
                Ok(_) | Err(controller::Error::ObjectNotFound(_)) => {}
                Err(error) => tracing::debug!(%error, "reconcile ended with an error"),
            }
        })
        .await;
}

fn error_policy(run: Arc<RackPartition>, error: &Error, _: Arc<Context>) -> Action {
    tracing::warn!(%error, run = run.name_any(), "failed to reconcile");
    Action::requeue(AFTER_ERROR)
}

/// One step of one run.
async fn reconcile(cached: Arc<RackPartition>, ctx: Arc<Context>) -> Result<Action, Error> {
    // The cache may not have our own last write yet; a step on an old status would only fail at the end of it.
    let run = ctx.runs().get_opt(&cached.name_any()).await.map_err(failed_to("read the run"))?;
    let Some(run) = run else { return Ok(Action::await_change()) };
    pin(&run, &ctx);
    let phase = run.status.as_ref().and_then(|s| s.phase);
    let next = match (due(&run), phase) {
        (Due::Nothing, _) => return Ok(Action::await_change()),
        (Due::Hold, _) => {
            end::add_finalizer(&run, &ctx).await?;
            return Ok(Action::requeue(Duration::ZERO));
        }
        (Due::WindUp, _) => return wind_up(&run, &ctx).await,
        (Due::Abort(why), _) => Ok(abort::step(&run, &ctx, why).await),
        (Due::Step, None) => plan::step(&run, &ctx).await,
        (Due::Step, Some(Phase::Planned)) => arm::start(&run, &ctx).await,
        (Due::Step, Some(Phase::Arming)) => arm::step(&run, &ctx).await,
        (Due::Step, Some(Phase::Scheduled)) => cut::scheduled(&run, &ctx).await,
        (Due::Step, Some(Phase::Cut)) => cut::cutting(&run, &ctx).await,
        (Due::Step, Some(Phase::Recovering)) => recover::step(&run, &ctx).await,
        (Due::Step, Some(Phase::Judging)) => judge::step(&run, &ctx).await,
        (Due::Step, Some(Phase::Done | Phase::Refused | Phase::Aborted)) => unreachable!("they are wound up"),
    };
    let refused_for =
        ctx.refusals.last(&run.uid().unwrap_or_default(), "step", next.as_ref().is_err_and(Error::is_refusal));
    let next = match next {
        // Asked again, it would fail for ever.
        Err(error) if error.is_lost_plan() || ends_refused(&run, refused_for) => called_off(&run, &error),
        // Nothing was touched yet, and people wait for a plan.
        Err(error) if phase.is_none() => {
            tracing::warn!(%error, run = run.name_any(), "failed to plan");
            plan::failed(&run, &error, AFTER_ERROR)
        }
        next => next?,
    };
    let ends_arming = phase == Some(Phase::Arming) && !next.is(Phase::Arming);
    let planned = next.status.plan.as_ref().filter(|_| phase.is_none()).map(|plan| plan.hash.clone());
    let saved = save(&run, &ctx, next).await;
    if let (Err(error), Some(hash)) = (&saved, planned)
        && error.is_unwritten()
    {
        plan::take_back(&run, &ctx, &hash).await;
    }
    let action = saved?;
    // Only whoever wrote the end down tells of it, so that it is told once.
    if ends_arming {
        arm::tell_leftovers(&run, &ctx).await;
    }
    Ok(action)
}

/// Whether a run ends because the API has refused for so long, seconds, what its next step needs: before the cut, or once nothing can be cut
/// any more. In mid-cut it is waited for.
fn ends_refused(run: &RackPartition, refused_for: f64) -> bool {
    let status = run.status.clone().unwrap_or_default();
    let now = steady::now(status.schedule.as_ref());
    let is_its_turn = match status.phase {
        Some(Phase::Arming | Phase::Scheduled) => true,
        Some(Phase::Cut | Phase::Recovering | Phase::Judging) => now >= deadline(&status, None, now),
        _ => false,
    };
    is_its_turn && refused_for >= PATIENCE_SECONDS
}

/// What follows where the plan is lost, or the API refuses for good. When it ended is by the time that its schedule goes by, as all that
/// comes of it is.
fn called_off(run: &RackPartition, error: &Error) -> Next {
    let status = run.status.clone().unwrap_or_default();
    let now = steady::now(status.schedule.as_ref());
    aborted(status, format!("aborted: {error}"), now)
}

/// Requests go to API servers of the side that stays writable, from before the cut until the heal. After it any that answers will do.
fn pin(run: &RackPartition, ctx: &Context) {
    let Some(status) = &run.status else { return };
    let Some(plan) = &status.plan else { return };
    if !matches!(status.phase, Some(Phase::Planned | Phase::Arming | Phase::Scheduled | Phase::Cut)) {
        return;
    }
    let mut writable = Side::most_writable(&plan.sides);
    // In a partial partition not all of them are within reach of this replica.
    if let Some(own) = plan.sides.iter().find(|s| s.nodes.contains(&ctx.settings.node)) {
        let heard = |s: &&Side| s.name == own.name || own.hears.contains(&s.name);
        let (within_reach, beyond): (Vec<_>, Vec<_>) = writable.into_iter().partition(heard);
        writable = if within_reach.is_empty() { beyond } else { within_reach };
    }
    let writable: Vec<String> = writable.into_iter().flat_map(|s| s.api_servers.iter().cloned()).collect();
    let pinned = ctx.route.current().is_some_and(|s| writable.contains(&s.name));
    if !writable.is_empty() && !pinned {
        ctx.route.prefer(&writable);
        tracing::info!(run = run.name_any(), server = ?ctx.route.current(), "dialled a server that stays writable");
    }
}

async fn save(run: &RackPartition, ctx: &Context, next: Next) -> Result<Action, Error> {
    let (phase, verdict) = (next.status.phase, next.status.verdict);
    write_status(run, ctx, next.status).await?;
    ctx.metrics.count(run.status.as_ref().and_then(|s| s.phase), phase, verdict);
    if let Some((reason, note, warning)) = next.event {
        tracing::info!(run = run.name_any(), reason, note);
        ctx.tell(run, warning, reason, &note).await;
    }
    Ok(Action::requeue(next.again_in.max(Duration::from_millis(50))))
}

/// Replaces the status at the version that was read: of two replicas that both believe to lead, one fails here.
async fn write_status(run: &RackPartition, ctx: &Context, status: RackPartitionStatus) -> Result<(), Error> {
    if run.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let new = RackPartition { status: Some(status), ..run.clone() };
    let replaced = ctx.runs().replace_status(&run.name_any(), &PostParams::default(), &new).await;
    replaced.map(drop).map_err(failed_to("write the status"))
}

/// Heals what is left, then lets the object go; never waits longer than the kernels do.
async fn wind_up(run: &RackPartition, ctx: &Context) -> Result<Action, Error> {
    let is_deleted = run.metadata.deletion_timestamp.is_some();
    // The last message says why the run ended; it stays as long as the object.
    let ended = run.status.as_ref().and_then(|s| s.message.clone()).filter(|_| !is_deleted);
    match end::wind_up(run, ctx).await? {
        end::Ending::Waiting { status, again_in } => {
            let message = ended.or(status.message);
            write_status(run, ctx, RackPartitionStatus { message, ..*status }).await?;
            Ok(Action::requeue(again_in))
        }
        end::Ending::Over { .. } if is_deleted => {
            end::let_go(run, ctx).await?;
            Ok(Action::await_change())
        }
        end::Ending::Over { status } => {
            write_status(run, ctx, *status).await?;
            let run = ctx.runs().get_opt(&run.name_any()).await.map_err(failed_to("read the run"))?;
            if let Some(run) = run {
                end::let_go(&run, ctx).await?;
            }
            Ok(Action::await_change())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::Schedule, course::seconds_between};
    use k8s_openapi::jiff::Timestamp;

    #[test]
    fn a_run_whose_plan_is_lost_ends_by_the_time_of_its_schedule() {
        let spec = serde_json::json!({"cut": {"isolate": {"racks": ["r1"]}}, "duration": "60s"});
        let mut run = RackPartition::new("run", serde_json::from_value(spec).unwrap());
        let schedule = serde_json::json!({
            "cutAt": "2031-01-01T00:00:00.000001Z",
            "healAt": "2031-01-01T00:01:00.000000Z",
            "recoverBy": "2031-01-01T00:06:00.000000Z",
        });
        let schedule: Schedule = serde_json::from_value(schedule).unwrap();
        // Its wall clock was stepped ahead since.
        steady::tests::see(&schedule, -3600.0);
        let status = RackPartitionStatus { phase: Some(Phase::Cut), schedule: Some(schedule), ..Default::default() };
        run.status = Some(status);
        let next = called_off(&run, &Error::PlanGone { run: "run".into() });
        assert!(next.is(Phase::Aborted) && next.heal);
        // What the API refuses it refuses before the cut, or after it.
        let ends = |phase: Phase, run: &mut RackPartition, refused_for| {
            run.status.as_mut().unwrap().phase = Some(phase);
            ends_refused(run, refused_for)
        };
        for phase in [Phase::Cut, Phase::Recovering, Phase::Judging] {
            assert!(!ends(phase, &mut run, 3600.0), "its windows are not over");
        }
        for phase in [Phase::Arming, Phase::Scheduled] {
            assert!(ends(phase, &mut run, PATIENCE_SECONDS) && !ends(phase, &mut run, PATIENCE_SECONDS - 1.0));
        }
        assert!(!ends(Phase::Planned, &mut run, 3600.0), "nothing was touched");
        let ended = next.status.conditions.iter().map(|c| c.last_transition_time.0).max().expect("a condition");
        assert!((3500.0..3700.0).contains(&seconds_between(ended, Timestamp::now())), "{ended}");
    }
}
