//! Survey: what only an agent can see and a plan needs, asked before there is a plan. Agents on the nodes of etcd's members, in
//! a run without a phase, so that they arm nothing; they are gone before the plan is made.

use super::{Error, failed_to, or_gone, seconds_until};
use crate::{
    api::{ETCD, NodeRecord, RackPartition, Role, SpanKind},
    course::later,
    fault::{Fault, PlanParts, Refusal, RunPlan},
    operator::{context::Context, objects},
    topology::Snapshot,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use std::time::Duration;

/// A member was last seen leading no longer than this before the end of its record, seconds: several looks.
const FRESH: f64 = 6.0;

/// An agent that looked ends within its grace period of 5 s; one that takes longer than this, seconds, is stuck.
const STUCK: f64 = 60.0;

/// What is known by now.
pub enum Survey {
    /// The node whose member of etcd leads. Nothing of the survey is left.
    Leader(String),
    /// Ask again.
    Waiting(String),
    /// Nobody will know.
    Failed(String),
}

/// Whether a cut can't be expanded for want of what a survey can tell. External members have no agents beside them.
pub fn would_help(refusal: &Refusal, snapshot: &Snapshot) -> bool {
    let is_asked = matches!(refusal, Refusal::UnresolvedRole { role, .. } if *role == Role::EtcdLeader.name());
    is_asked && snapshot.etcd.iter().any(|m| snapshot.node(&m.node).is_some())
}

/// Asks who leads etcd.
///
/// # Errors
/// Where the API does not answer.
pub async fn survey(run: &RackPartition, ctx: &Context, snapshot: &Snapshot) -> Result<Survey, Error> {
    let (agents, _) = ctx.records_of(run).await.map_err(failed_to("read the node records"))?;
    match leader(&agents) {
        None => start(run, ctx, snapshot).await,
        Some(leader) => Ok(match left(run, ctx).await? {
            None => Survey::Leader(leader),
            Some((pod, seconds)) if seconds > STUCK => {
                Survey::Failed(format!("pod {pod}, which asked who leads etcd, does not end: see what keeps it"))
            }
            Some((pod, _)) => Survey::Waiting(format!("{leader} leads etcd; waiting for {pod}, which asked, to end")),
        }),
    }
}

/// The one member that says it leads: of two that do, in the moments of an election, neither is believed.
pub fn leader(agents: &[NodeRecord]) -> Option<String> {
    let mut leading = agents.iter().filter(|r| leads(r)).map(|r| r.spec.node.clone());
    leading.next().filter(|_| leading.next().is_none())
}

fn leads(record: &NodeRecord) -> bool {
    let Some(status) = &record.status else { return false };
    let of_member = status.spans.iter().filter(|s| s.kind == SpanKind::Etcd && s.subject == ETCD);
    let latest = of_member.max_by_key(|s| s.to.boot_us);
    let until = status.observed_until.as_ref().map(|t| t.0.as_microsecond());
    latest.zip(until).is_some_and(|(span, until)| {
        let age = (until - span.to.wall.0.as_microsecond()) as f64 / 1e6;
        span.state == "leads" && age <= FRESH
    })
}

async fn start(run: &RackPartition, ctx: &Context, snapshot: &Snapshot) -> Result<Survey, Error> {
    let deadline = Duration::from(ctx.settings.arm_deadline).as_secs_f64();
    let there =
        ctx.daemon_sets().list(&objects::of_run(run)).await.map_err(failed_to("look for the survey's agents"))?;
    let begun = there.items.first().and_then(ResourceExt::creation_timestamp);
    if begun.is_some_and(|t| seconds_until(later(t.0, deadline)) <= 0.0) {
        let why =
            "no member of etcd said that it leads: agents ask at 127.0.0.1:2381 (kubeadm's --listen-metrics-urls)";
        let advice = "let etcd answer there, or name racks instead of the role";
        return Ok(Survey::Failed(format!("{why}, and none was answered within {deadline} s; {advice}")));
    }
    if there.items.is_empty() {
        let members = |name: &str| snapshot.etcd.iter().any(|m| m.node == name);
        let nodes = snapshot.nodes.iter().filter(|n| members(&n.name)).cloned().collect();
        let part = Snapshot { nodes, api_servers: snapshot.api_servers.clone(), ..Default::default() };
        let parts = PlanParts {
            run: run.name_any(),
            run_uid: run.uid().unwrap_or_default(),
            token: "0".repeat(32),
            duration_seconds: 0.0,
            longest_seconds: 0.0,
            writable: Vec::new(),
        };
        let plan = RunPlan { survey: true, probes: Vec::new(), ..RunPlan::new(&part, &Fault::default(), parts) };
        let namespace = &ctx.settings.agent.agent_namespace;
        let map = objects::plan_map(run, namespace, &plan, &part);
        match ctx.plans().create(&PostParams::default(), &map).await {
            Err(kube::Error::Api(answer)) if answer.is_already_exists() => {}
            other => drop(other.map_err(failed_to("write the survey"))?),
        }
        let mut set = objects::daemon_set(run, namespace, &plan, &ctx.settings.agent);
        set.metadata.name = Some(objects::survey_name(run));
        let params = PatchParams::apply("rackpartition-operator").force();
        let applied = ctx.daemon_sets().patch(&objects::survey_name(run), &params, &Patch::Apply(&set)).await;
        applied.map_err(failed_to("create the agents of the survey"))?;
    }
    Ok(Survey::Waiting("asking the members of etcd who leads".into()))
}

/// Ends the agents that looked. One that is still there, and for how long it has been ending, seconds.
async fn left(run: &RackPartition, ctx: &Context) -> Result<Option<(String, f64)>, Error> {
    let deleted = ctx.daemon_sets().delete(&objects::survey_name(run), &DeleteParams::background()).await;
    or_gone(deleted.map(drop)).map_err(failed_to("delete the agents of the survey"))?;
    let pods = ctx.agent_pods().list(&objects::of_run(run)).await.map_err(failed_to("list the agents' pods"))?;
    let ending = |pod: &Pod| pod.metadata.deletion_timestamp.as_ref().map_or(0.0, |t| -seconds_until(t.0));
    Ok(pods.items.first().map(|pod| (pod.name_any(), ending(pod))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{NodeRecordSpec, NodeRecordStatus, Observer, Span},
        observe::{before, now},
    };

    fn record(node: &str, state: &str, age: Duration) -> NodeRecord {
        let spec = NodeRecordSpec::new("r", "u", node, Observer::Agent);
        let at = before(&now(), age);
        let span = Span::bare(SpanKind::Etcd, "etcd", state, at.clone(), at);
        let status =
            NodeRecordStatus { spans: vec![span], observed_until: Some(now().wall), ..NodeRecordStatus::default() };
        NodeRecord { status: Some(status), ..NodeRecord::new(node, spec) }
    }

    #[test]
    fn one_member_that_was_just_seen_leading_is_the_leader() {
        let (just, long) = (Duration::from_secs(1), Duration::from_secs(60));
        assert_eq!(leader(&[record("a", "follows", just), record("b", "leads", just)]).as_deref(), Some("b"));
        assert_eq!(leader(&[record("a", "leads", just), record("b", "leads", just)]), None, "an election");
        assert_eq!(leader(&[record("a", "leads", long), record("b", "alone", just)]), None, "nobody looks any more");
    }
}
