//! End: after a verdict, a refusal, an abort or a deletion. Nothing with effect is left, and nothing is said that nobody saw.

use super::{Error, abort, failed_to, later, or_gone, plan_of, seconds_until};
use crate::{
    api::{FINALIZER, NodeRecord, Phase, RackPartition, RackPartitionStatus, RecordPhase, conditions},
    fault::RunPlan,
    operator::{canary, context::Context, objects},
};
use k8s_openapi::jiff::Timestamp;
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;
use std::{collections::BTreeSet, time::Duration};

/// The gate outlives the windows by a quarter of a second (agent), clocks differ by less than a second.
const SLACK_SECONDS: f64 = 2.0;

/// An agent looks at its table every second and says so every three, seconds. One that is still told to be there this long after
/// the heal was seen after it.
const LATE_SECONDS: f64 = 10.0;

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
    let status = match &plan {
        Some(plan) => healed_condition(status, plan, &agents),
        None => {
            let nodes: BTreeSet<String> =
                status.plan.iter().flat_map(|p| &p.sides).flat_map(|s| s.nodes.clone()).collect();
            healed_on(status, &nodes.iter().map(String::as_str).collect(), &agents)
        }
    };
    let holding: Vec<&str> = agents.iter().filter(|r| !says_gone(r)).map(|r| r.spec.node.as_str()).collect();
    let deadline = deadline(run, &status);
    if !holding.is_empty() && seconds_until(deadline) > 0.0 {
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

/// After this no rule of the run can have effect anywhere, whatever else happens: the windows' end, or the longest gate.
fn deadline(run: &RackPartition, status: &RackPartitionStatus) -> Timestamp {
    if let Some(schedule) = &status.schedule {
        return later(schedule.heal_at.0, SLACK_SECONDS);
    }
    // Never scheduled: windows are empty everywhere, so a table without a word from its agent has no effect either. What is
    // waited for is tidiness.
    const TIDY_SECONDS: f64 = 20.0;
    let created = run.metadata.deletion_timestamp.as_ref().map(|t| t.0);
    let ended = created.or_else(|| status.conditions.iter().map(|c| c.last_transition_time.0).max());
    later(ended.unwrap_or_else(Timestamp::now), TIDY_SECONDS)
}

/// A record without a word about the kernel says nothing: its agent may have armed and not have told yet.
fn says_gone(record: &NodeRecord) -> bool {
    let Some(status) = &record.status else { return false };
    let gone = status.kernel.as_ref().is_some_and(|k| !k.table);
    gone && status.phase.is_some_and(|p| matches!(p, RecordPhase::Healed | RecordPhase::Aborted | RecordPhase::Unfit))
}

/// The node said after this moment that its table is still there.
fn says_left(record: &NodeRecord, over: Timestamp) -> bool {
    let Some(status) = &record.status else { return false };
    let seen = status.observed_until.as_ref().is_some_and(|until| until.0 > over);
    seen && status.kernel.as_ref().is_some_and(|k| k.table)
}

/// Healed is True with every node's word, False where a node says that its table outlived the cut, else Unknown with the names
/// of those that have not spoken.
pub fn healed_condition(status: RackPartitionStatus, plan: &RunPlan, agents: &[NodeRecord]) -> RackPartitionStatus {
    healed_on(status, &plan.agents(), agents)
}

fn healed_on(mut status: RackPartitionStatus, nodes: &BTreeSet<&str>, agents: &[NodeRecord]) -> RackPartitionStatus {
    let spoke = |n: &&str| agents.iter().any(|r| r.spec.node == **n && says_gone(r));
    // Before scheduling, a node without a record holds nothing.
    let held = |n: &&str| status.schedule.is_some() || agents.iter().any(|r| r.spec.node == **n);
    let silent: Vec<&str> = nodes.iter().copied().filter(|n| held(n) && !spoke(n)).collect();
    let over = status.schedule.as_ref().map(|s| later(s.heal_at.0, LATE_SECONDS));
    let left = |n: &&str| agents.iter().any(|r| r.spec.node == **n && over.is_some_and(|over| says_left(r, over)));
    let left: Vec<&str> = nodes.iter().copied().filter(left).collect();
    let (value, reason, message) = match () {
        _ if !left.is_empty() => ("False", "TablesLeft", format!("a table is still there on {}", left.join(", "))),
        _ if silent.is_empty() => ("True", "TablesGone", "every node says that its table is gone".to_owned()),
        _ => ("Unknown", "NodesSilent", format!("no word yet from {}", silent.join(", "))),
    };
    let generation = status.observed_generation;
    conditions::set(&mut status.conditions, conditions::HEALED, value, reason, &message, generation);
    status
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
    !is_wound_up(run) && heal_at.is_some_and(|at| seconds_until(at) + SLACK_SECONDS > 0.0)
}

/// Whether a run in its final phase still has something on the nodes.
pub fn is_wound_up(run: &RackPartition) -> bool {
    !run.finalizers().iter().any(|f| f == FINALIZER)
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

/// Whether this phase can have left something on nodes.
pub fn may_have_touched(phase: Option<Phase>) -> bool {
    !matches!(phase, None | Some(Phase::Planned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Kernel, NodeRecordSpec, NodeRecordStatus, Observer, Schedule};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    /// A run whose cut ended a minute ago, and the word of its one node.
    fn healed(phase: Option<RecordPhase>, table: bool, seen_seconds_after_heal: f64) -> String {
        let heal_at = later(Timestamp::now(), -60.0);
        let at = |seconds| MicroTime(later(heal_at, seconds));
        let schedule = Schedule { cut_at: at(-60.0), heal_at: at(0.0), recover_by: at(300.0), observed_until: None };
        let spec = NodeRecordSpec {
            run: "r".into(),
            run_uid: "u".into(),
            node: "w1".into(),
            observer: Observer::Agent,
            clock_reply: None,
        };
        let status = NodeRecordStatus {
            phase,
            kernel: Some(Kernel { table, ..Default::default() }),
            observed_until: Some(at(seen_seconds_after_heal)),
            ..Default::default()
        };
        let record = NodeRecord { status: Some(status), ..NodeRecord::new("w1", spec) };
        let status = RackPartitionStatus { schedule: Some(schedule), ..Default::default() };
        let status = healed_on(status, &BTreeSet::from(["w1"]), &[record]);
        status.conditions.iter().find(|c| c.type_ == conditions::HEALED).map(|c| c.status.clone()).unwrap()
    }

    #[test]
    fn healed_is_true_false_or_unknown_and_each_by_a_nodes_word() {
        assert_eq!(healed(Some(RecordPhase::Healed), false, 5.0), "True");
        assert_eq!(healed(Some(RecordPhase::Loaded), true, 30.0), "False", "it outlived the cut");
        assert_eq!(healed(Some(RecordPhase::Loaded), true, -10.0), "Unknown", "that was during the cut");
    }
}
