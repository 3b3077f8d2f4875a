//! Arm: an agent on every node of the plan, with an inert table, a clock in step and a healthy baseline. All or nothing.

use super::{
    Error, Planned, baseline, failed_to, plan, planned, store, survey,
    waits::{Stops, Waits},
};
use crate::{
    api::{NAMED, NodeRecord, Phase, RackPartition, RackPartitionStatus, Role, Side, conditions, first},
    course::{LEAD_SECONDS, Next, arming, is_late, refused},
    observe::boot_id,
    operator::{clocks, context::Context, convergence, heal_path, objects},
};
use k8s_openapi::jiff::Timestamp;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use std::{sync::Arc, time::Duration};

const AGAIN: Duration = Duration::from_millis(500);

/// Planned: leadership goes to a replica that will stay on the writable side; then the agents are started.
///
/// # Errors
/// Where the API does not answer.
pub async fn start(run: &RackPartition, ctx: &Context) -> Result<Next, Error> {
    let status = run.status.clone().unwrap_or_default();
    if let Some(other) = plan::other_run(run, ctx).await? {
        return Ok(refuse(status, other.to_string()));
    }
    let Planned { plan, sides, .. } = planned(run, ctx).await?;
    if let Some(next) = hand_over(run, ctx, &sides, &status, conditions::PLANNED) {
        return Ok(next);
    }
    let set = objects::daemon_set(run, &ctx.settings.agent.agent_namespace, &plan, &ctx.settings.agent);
    let params = PatchParams::apply("rackpartition-operator").force();
    let applied = ctx.daemon_sets().patch(&objects::name(run), &params, &Patch::Apply(&set)).await;
    applied.map_err(failed_to("create the agents"))?;
    let wanted = plan.agents().len();
    let message = format!("waiting for {wanted} agents");
    Ok(Next::phase(status, Phase::Arming, "Arming", &message).condition(
        conditions::ARMED,
        ("False", "Arming"),
        &message,
        Timestamp::now(),
    ))
}

/// Arming: until every node of the plan is armed with this plan, its clock in step, the baseline healthy.
///
/// # Errors
/// Where the API does not answer.
pub async fn step(run: &RackPartition, ctx: &Arc<Context>) -> Result<Next, Error> {
    let status = run.status.clone().unwrap_or_default();
    let planned = planned(run, ctx).await?;
    let (agents, operator) = ctx.records_of(run).await.map_err(failed_to("read the node records"))?;
    // Whoever armed may have died since.
    if let Some(next) = hand_over(run, ctx, &planned.sides, &status, conditions::ARMED) {
        return Ok(next);
    }
    ctx.observers.ensure(ctx, run, &planned.plan, &planned.snapshot, operator.as_ref());
    next(run, ctx, &planned, &agents, status).await
}

async fn next(
    run: &RackPartition,
    ctx: &Context,
    planned: &Planned,
    agents: &[NodeRecord],
    status: RackPartitionStatus,
) -> Result<Next, Error> {
    let nodes = planned.nodes(agents);
    let status = RackPartitionStatus { agents: Some(nodes.count(&status)), ..status };
    let status = store::armed(run, &ctx.settings.agent, status);
    if let Some((node, why)) = nodes.given_up() {
        return Ok(refuse(status, Stops::Unfit { node: node.into(), why }.to_string()));
    }
    if let Some(stops) = unwatched(agents) {
        return Ok(refuse(status, stops.to_string()));
    }
    let waits = waits_for(run, ctx, planned, agents).await?;
    if let Some((was, leads)) = moved_leader(planned, agents) {
        return Ok(refuse(status, Stops::LeaderMoved { was, leads }.to_string()));
    }
    let waits = waits.map(|waits| (waits.reason(), waits.to_string()));
    Ok(arming(&run.spec, status, waits, arm_deadline(run, ctx), Timestamp::now()))
}

fn unwatched(agents: &[NodeRecord]) -> Option<Stops> {
    agents.iter().find_map(|r| {
        let why = r.status.as_ref()?.unwatched.clone()?;
        Some(Stops::Unwatched { node: r.spec.node.clone(), why })
    })
}

fn arm_deadline(run: &RackPartition, ctx: &Context) -> f64 {
    ctx.settings.arms_within(&run.spec.guards).as_secs_f64()
}

/// Tells of tables that this run's agents have found by the end of its arming, however it ends.
pub async fn tell_leftovers(run: &RackPartition, ctx: &Context) {
    let Ok((agents, _)) = ctx.records_of(run).await else { return };
    if let Some((tables, note)) = leftovers(&agents) {
        ctx.metrics.add_leftovers(tables);
        ctx.tell(run, true, "LeftoversRemoved", &note).await;
    }
}

/// Tables of runs that are over, which agents found and removed: without effect, and yet somebody was not there when they should
/// have gone.
fn leftovers(agents: &[NodeRecord]) -> Option<(u32, String)> {
    let of = |r: &NodeRecord| r.status.as_ref()?.kernel.as_ref().map(|k| k.leftovers_removed).filter(|n| *n > 0);
    let found: Vec<String> = agents.iter().filter_map(|r| Some(format!("{} on {}", of(r)?, r.spec.node))).collect();
    let note = || format!("tables of earlier runs were removed: {}", first(&found, NAMED));
    (!found.is_empty()).then(|| (agents.iter().filter_map(of).sum(), note()))
}

/// The member that was to be cut off as etcd's leader, and the one that leads now, where it is another one.
pub fn moved_leader(planned: &Planned, agents: &[NodeRecord]) -> Option<(String, String)> {
    let was = planned.fault.resolved_roles.get(&Role::EtcdLeader.name())?;
    let now = survey::leader(agents).filter(|now| now != was)?;
    Some((was.clone(), now))
}

/// What follows where this replica is about to be cut off: another one leads, and where none comes in time, nobody is cut.
fn hand_over(
    run: &RackPartition,
    ctx: &Context,
    sides: &[Side],
    status: &RackPartitionStatus,
    since: &str,
) -> Option<Next> {
    let writable: Vec<_> = Side::most_writable(sides).into_iter().flat_map(|s| s.nodes.iter().cloned()).collect();
    let is_planned = sides.iter().any(|s| s.nodes.contains(&ctx.settings.node));
    if writable.is_empty() || !is_planned || writable.contains(&ctx.settings.node) {
        return None;
    }
    if is_late(status, since, arm_deadline(run, ctx), Timestamp::now()) {
        return Some(refuse(status.clone(), Stops::NoSuccessor { nodes: first(&writable, NAMED) }.to_string()));
    }
    ctx.hand_over.send_replace(true);
    Some(Next::wait(status.clone(), AGAIN, "handing over to a replica on the side that will stay writable"))
}

fn refuse(status: RackPartitionStatus, why: impl Into<String>) -> Next {
    refused(status, why, Timestamp::now())
}

/// What is still missing before a cut; None when nothing is.
async fn waits_for(
    run: &RackPartition,
    ctx: &Context,
    planned: &Planned,
    agents: &[NodeRecord],
) -> Result<Option<Waits>, Error> {
    let hash = run.status.as_ref().and_then(|s| s.plan.as_ref()).map(|p| p.hash.clone());
    if let Some(node) = planned.nodes(agents).unarmed(hash.as_ref()) {
        let pod = why_not_armed(run, ctx, node).await?;
        let why = match said(agents, node) {
            Some(message) => format!("{pod}, and says: {message}"),
            None => pod,
        };
        return Ok(Some(Waits::Agent { node: node.into(), why }));
    }
    let allowed_us = Duration::from(run.spec.guards.max_clock_error).as_micros() as i64;
    let own = boot_id().unwrap_or_default();
    match clocks::spread(agents, &own, LEAD_SECONDS + planned.plan.duration_seconds, Timestamp::now()) {
        Err(node) => return Ok(Some(Waits::ClockUnmeasured { node })),
        Ok(spread) if spread.largest_us > allowed_us => {
            return Ok(Some(Waits::ClocksOutOfStep { spread, allowed_us }));
        }
        Ok(_) => {}
    }
    if planned.fault.resolved_roles.contains_key(&Role::EtcdLeader.name()) && survey::leader(agents).is_none() {
        return Ok(Some(Waits::EtcdLeader));
    }
    if let Some(waits) = baseline::lacks(&planned.plan, agents, &run.spec.guards) {
        return Ok(Some(waits));
    }
    let families = heal_path::families(&planned.plan);
    if let Some(waits) = baseline::deaf_to_operator(&planned.plan, agents, &ctx.settings.node, &families) {
        return Ok(Some(waits));
    }
    match ctx.observers.alarms(&planned.plan.run_uid) {
        None => return Ok(Some(Waits::Alarms)),
        Some(alarms) => {
            if let Some(why) = alarms.rings {
                return Ok(Some(Waits::Alarm { why }));
            }
        }
    }
    if run.spec.guards.allow_unhealthy_baseline {
        return Ok(None);
    }
    // Members that are no nodes have no agent beside them.
    let members = planned.snapshot.etcd.iter().map(|m| m.node.as_str());
    let members = members.filter(|node| planned.snapshot.node(node).is_some());
    let quiet = Duration::from(run.spec.guards.etcd_quiet_for).as_secs_f64();
    if let Some(waits) = baseline::unrest(members, agents, quiet) {
        return Ok(Some(waits));
    }
    if ctx.observers.convergence(&planned.plan.run_uid).is_err() {
        return Ok(Some(Waits::Cluster));
    }
    // Asked last and anew: the observer's latest look may be from before a node went down.
    let waiting = convergence::waits_now(ctx, run, &planned.snapshot).await;
    Ok(waiting.map(|what| Waits::ClusterUnwell { what }))
}

/// What keeps this node's agent from arming, in its own words, where it speaks.
fn said<'a>(agents: &'a [NodeRecord], node: &str) -> Option<&'a str> {
    agents.iter().find(|agent| agent.spec.node == node)?.status.as_ref()?.message.as_deref()
}

/// What the pod of this node's agent waits for, in the kubelet's words, and what to do about it.
async fn why_not_armed(run: &RackPartition, ctx: &Context, node: &str) -> Result<String, Error> {
    let of_run = objects::of_run(run).fields(&format!("spec.nodeName={node}"));
    let pods = ctx.agent_pods().list(&of_run).await.map_err(failed_to("list the agents' pods"))?.items;
    let Some(pod) = pods.first() else { return Ok("its pod is not scheduled yet".into()) };
    let status = pod.status.clone().unwrap_or_default();
    let container = status.container_statuses.unwrap_or_default().into_iter().next();
    let state = container.and_then(|c| c.state);
    let waiting = state.and_then(|s| s.waiting).map(|w| {
        let (reason, message) = (w.reason.unwrap_or_default(), w.message.map(|m| format!(": {m}")));
        format!("{reason}{}{}", message.unwrap_or_default(), remedy(&reason))
    });
    Ok(waiting.unwrap_or_else(|| format!("its pod {} is {}", pod.name_any(), status.phase.unwrap_or_default())))
}

/// What to do about a container that waits for this reason (`pkg/kubelet/images/types.go`, `pkg/kubelet/kubelet_pods.go`).
fn remedy(reason: &str) -> &'static str {
    match reason {
        "ContainerCreating" | "PodInitializing" => "",
        reason if reason.contains("Image") => "; mend the image or its pull secret",
        _ => "; see to that pod",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{ETCD, NodeRecordSpec, NodeRecordStatus, Observer, Span, SpanKind},
        judge::tests::fixture::passing,
        observe::now,
    };

    /// The record of a node beside whose agent a member was just seen in this state.
    fn record(node: &str, state: &str) -> NodeRecord {
        let status = NodeRecordStatus {
            spans: vec![Span::bare(SpanKind::Etcd, ETCD, state, now(), now())],
            observed_until: Some(now().wall),
            ..NodeRecordStatus::default()
        };
        let spec = NodeRecordSpec::new("run", "1", node, Observer::Agent);
        NodeRecord { status: Some(status), ..NodeRecord::new(node, spec) }
    }

    #[test]
    fn a_leader_has_moved_where_another_member_alone_says_that_it_leads() {
        let passed = passing();
        let (plan, snapshot, sides) = (passed.plan.clone(), passed.snapshot.clone(), passed.sides.clone());
        let mut planned = Planned { plan, snapshot, fault: passed.fault.clone(), sides };
        let moved = [record("cp1", "follows"), record("cp2", "leads")];
        assert_eq!(moved_leader(&planned, &moved), None, "no run of that role");
        planned.fault.resolved_roles.insert(Role::EtcdLeader.name(), "cp1".into());
        assert_eq!(moved_leader(&planned, &moved), Some(("cp1".into(), "cp2".into())));
        assert_eq!(moved_leader(&planned, &[record("cp1", "leads"), record("cp2", "follows")]), None);
        assert_eq!(moved_leader(&planned, &[record("cp1", "leads"), record("cp2", "leads")]), None, "an election");
        assert_eq!(moved_leader(&planned, &[record("cp1", "alone"), record("cp2", "follows")]), None, "nobody leads");
    }
}
