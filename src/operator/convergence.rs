//! Nodes, taints and pods as the API has them, and whether everything desired is actual.
//!
//! Lists and no watches: a watch that died silently looks like a cluster in which nothing changes, which is just what a partition
//! makes of it. A list that was answered by its deadline was answered by a majority of etcd at that moment, and one that was not is
//! an observation as well. On a cluster whose answers take longer than the period they follow each other more slowly.

use super::{
    context::Context,
    gather::{is_ready, watched_pods},
    observer::{Record, every, look, pod_state},
};
use crate::{
    api::{CLUSTER_UNREAD, RUN_LABEL, RackPartition, SINCE, SpanKind},
    observe::Observation,
    topology::Snapshot,
};
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, StatefulSet},
    core::v1::{Node, NodeCondition, Pod},
};
use kube::{Api, ResourceExt, api::ListParams};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

const PERIOD: Duration = Duration::from_secs(1);
const NO_ANSWER: &str = "the API to answer";

/// What one look at the whole cluster saw.
struct Look {
    nodes: Vec<Node>,
    pods: Vec<Pod>,
    waiting: Vec<String>,
}

/// Looks until dropped. `whole` gets what the cluster waits for; empty when it is whole.
pub async fn watch_cluster(
    ctx: Arc<Context>,
    run: RackPartition,
    snapshot: Snapshot,
    record: Record,
    whole: watch::Sender<Option<String>>,
) {
    let mut ticks = every(PERIOD);
    loop {
        ticks.tick().await;
        let seen = look_at_cluster(&ctx, &run, &snapshot).await;
        record.observe(SpanKind::Convergence, summary(seen.as_ref()));
        let Some(seen) = seen else {
            whole.send_replace(Some(NO_ANSWER.into()));
            continue;
        };
        for node in &seen.nodes {
            let since = ready_condition(node).and_then(|c| c.last_transition_time.as_ref());
            let detail = since.map(|time| format!("{SINCE}={}", time.0));
            record.observe(SpanKind::Node, Observation { detail, ..Observation::new(node.name_any(), ready(node)) });
            record.observe(SpanKind::Taint, Observation::new(node.name_any(), taints(node)));
        }
        for pod in &seen.pods {
            record.observe(SpanKind::Pod, pod_seen(pod));
        }
        whole.send_replace(Some(seen.waiting.join(", ")));
    }
}

/// What one look says of the whole cluster. That the API did not answer in time says nothing of it: it may be this operator that did not
/// get through.
fn summary(seen: Option<&Look>) -> Observation {
    match seen.map(|look| look.waiting.first()) {
        None => Observation::new("cluster", CLUSTER_UNREAD),
        Some(None) => Observation::new("cluster", "ok"),
        Some(Some(first)) => Observation::new("cluster", "waiting").detail(first),
    }
}

/// What the cluster waits for at this moment; None when it is whole. For decisions that an earlier look is too old for.
pub async fn waits_now(ctx: &Context, run: &RackPartition, snapshot: &Snapshot) -> Option<String> {
    let seen = look_at_cluster(ctx, run, snapshot).await;
    seen.map_or(Some(NO_ANSWER.into()), |s| Some(s.waiting.join(", ")).filter(|w| !w.is_empty()))
}

/// None where the API does not answer all of it in time.
async fn look_at_cluster(ctx: &Context, run: &RackPartition, snapshot: &Snapshot) -> Option<Look> {
    let all = ListParams::default();
    let nodes = Api::<Node>::all(ctx.client.clone());
    let deployments = Api::<Deployment>::all(ctx.client.clone());
    let stateful_sets = Api::<StatefulSet>::all(ctx.client.clone());
    let daemon_sets = Api::<DaemonSet>::all(ctx.client.clone());
    let pods = async { watched_pods(&ctx.client, &run.spec).await.map_err(|e| kube::Error::Service(e.into())) };
    // One after the other would add up to several seconds on a cluster that answers slowly.
    let (nodes, pods, deployments, stateful_sets, daemon_sets) = tokio::join!(
        look("nodes", nodes.list(&all)),
        look("pods", pods),
        look("Deployments", deployments.list(&all)),
        look("StatefulSets", stateful_sets.list(&all)),
        look("DaemonSets", daemon_sets.list(&all)),
    );
    let (nodes, pods) = (nodes?.items, pods?);
    let waiting = unready_nodes(&nodes, snapshot)
        .chain(pods.iter().filter(|p| is_stuck(p)).map(|p| format!("pod {} to end", p.name_any())))
        .chain(deployments?.iter().filter_map(deployment_waits))
        .chain(stateful_sets?.iter().filter_map(stateful_set_waits))
        .chain(daemon_sets?.iter().filter_map(daemon_set_waits))
        .collect();
    Some(Look { nodes, pods, waiting })
}

fn ready(node: &Node) -> String {
    ready_condition(node).map_or("Unknown".into(), |c| c.status.clone())
}

fn ready_condition(node: &Node) -> Option<&NodeCondition> {
    node.status.as_ref()?.conditions.as_deref()?.iter().find(|c| c.type_ == "Ready")
}

fn taints(node: &Node) -> String {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
    let keys: Vec<_> = taints.iter().filter(|t| t.effect == "NoExecute").map(|t| t.key.as_str()).collect();
    if keys.is_empty() { "none".into() } else { keys.join(",") }
}

fn pod_seen(pod: &Pod) -> Observation {
    let owner = pod.owner_references().iter().find(|o| o.controller == Some(true));
    Observation {
        uid: pod.uid(),
        node: pod.spec.as_ref().and_then(|s| s.node_name.clone()),
        detail: owner.map(|o| format!("{}/{}", o.kind, o.name)),
        ..Observation::new(
            format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any()),
            pod_state(pod, is_ready(pod)),
        )
    }
}

fn unready_nodes<'a>(nodes: &'a [Node], snapshot: &'a Snapshot) -> impl Iterator<Item = String> + 'a {
    snapshot.nodes.iter().filter_map(|wanted| {
        let Some(node) = nodes.iter().find(|n| n.name_any() == wanted.name) else {
            return Some(format!("node {} to come back", wanted.name));
        };
        if wanted.ready && ready(node) != "True" {
            return Some(format!("node {} to be Ready", wanted.name));
        }
        (taints(node).contains("node.kubernetes.io/")).then(|| format!("the taints of node {} to go", wanted.name))
    })
}

/// A pod that is being deleted: nothing is settled before it is gone.
fn is_stuck(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

fn deployment_waits(set: &Deployment) -> Option<String> {
    let wanted = set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
    let has = set.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0);
    let settled = set.status.as_ref().and_then(|s| s.observed_generation) == set.metadata.generation;
    (has < wanted || !settled).then(|| format!("Deployment {} ({has} of {wanted} ready)", set.name_any()))
}

fn stateful_set_waits(set: &StatefulSet) -> Option<String> {
    let wanted = set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
    let has = set.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0);
    let settled = set.status.as_ref().and_then(|s| s.observed_generation) == set.metadata.generation;
    (has < wanted || !settled).then(|| format!("StatefulSet {} ({has} of {wanted} ready)", set.name_any()))
}

fn daemon_set_waits(set: &DaemonSet) -> Option<String> {
    // Our own agents are not Ready any more once they have healed.
    if set.labels().contains_key(RUN_LABEL) {
        return None;
    }
    let status = set.status.clone().unwrap_or_default();
    let (has, wanted) = (status.number_ready, status.desired_number_scheduled);
    let settled = status.observed_generation == set.metadata.generation;
    (has < wanted || !settled).then(|| format!("DaemonSet {} ({has} of {wanted} ready)", set.name_any()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_without_an_answer_is_not_one_at_a_cluster_that_waits() {
        let look = |waiting: &[&str]| {
            let waiting = waiting.iter().map(|w| (*w).to_owned()).collect();
            Look { nodes: Vec::new(), pods: Vec::new(), waiting }
        };
        let told = |seen: Option<Look>| {
            let said = summary(seen.as_ref());
            (said.state, said.detail)
        };
        assert_eq!(told(Some(look(&[]))), ("ok".into(), None));
        let waiting = ("waiting".into(), Some("node w1 to be Ready".into()));
        assert_eq!(told(Some(look(&["node w1 to be Ready", "Deployment web"]))), waiting);
        assert_eq!(told(None), ("unread".into(), None));
    }
}
