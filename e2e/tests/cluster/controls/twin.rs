//! Two pods of a StatefulSet with one name.

use super::{ended, into_the_cut, node, removed, violated};
use crate::{
    harness::{Harness, told},
    refusals::isolate,
};
use anyhow::{Context, Result, ensure};
use e2e::lab::RACK_LABEL;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{Node, Pod},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams, Preconditions},
};
use rackpartition::api::{Check, Finding, Verdict};
use serde_json::{Value, json};
use std::time::Duration;

const TWIN: &str = "twin";
const FIRST: &str = "twin-0";

/// A pod of a StatefulSet whose node can't be asked is deleted by force, which the documentation of StatefulSets warns of: another one of
/// its name starts elsewhere while it runs.
pub async fn a_twin_of_a_stateful_set(h: &Harness) -> Result<()> {
    // So that nobody who marks nodes and makes pods has to be replaced first.
    h.lab.gather_leaders("r2").await?;
    let sets: Api<StatefulSet> = Api::namespaced(h.client.clone(), "shop");
    sets.create(&PostParams::default(), &serde_json::from_value(set_that_may_go_elsewhere())?).await?;
    let caught = twin_is_caught(h).await;
    // One that could not be removed is told, and not in the place of what it was for.
    caught.and(removed(h, &sets, TWIN).await)
}

/// One pod, in r1 if that has room. Unlike those of the example's StatefulSet it has no place that it must go back to.
fn set_that_may_go_elsewhere() -> Value {
    let labels = json!({"app": TWIN});
    let in_r1 = json!({"matchExpressions": [{"key": RACK_LABEL, "operator": "In", "values": ["r1"]}]});
    let prefers = json!({"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": in_r1}]});
    let container = json!({
        "name": "pause", "image": "registry.k8s.io/pause:3.10", "imagePullPolicy": "IfNotPresent",
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    });
    let pod = json!({
        "affinity": {"nodeAffinity": prefers}, "containers": [container], "terminationGracePeriodSeconds": 5,
        "automountServiceAccountToken": false,
        "securityContext": {"runAsNonRoot": true, "runAsUser": 65535, "seccompProfile": {"type": "RuntimeDefault"}},
    });
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": TWIN},
        "spec": {
            "serviceName": "db", "replicas": 1, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    })
}

async fn twin_is_caught(h: &Harness) -> Result<()> {
    let worker = node(h, "r1", false)?;
    let old = twin(h, Duration::from_secs(60), |_| true).await?;
    ensure!(node_of(&old) == worker, "the scheduler put {FIRST} on {}, which is not cut off", node_of(&old));
    let uid = old.uid().context("no uid")?;
    let name = "twin";
    let mut spec = isolate(&["r1"]);
    spec["duration"] = json!("90s");
    spec["recovery"] = json!("2m");
    spec["workloads"] = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}});
    h.create(name, spec).await?;
    into_the_cut(h, name, 0.0).await?;
    // Else it might be bound to the same node again, and wait there.
    unreachable(h, &worker).await?;
    delete_by_force(h, &uid).await?;
    let new = twin(h, Duration::from_secs(40), |pod| pod.uid().as_ref() != Some(&uid)).await?;
    println!("  {FIRST} runs on {} beside the one on {worker}", node_of(&new));
    let status = ended(h, name).await?;
    let findings = &status.findings;
    let doubled: Vec<&Finding> = violated(findings).filter(|f| f.check == Check::WorkloadDoubled).collect();
    let is_caught = matches!(doubled[..], [found] if found.subject.contains(TWIN));
    ensure!(is_caught, "of two pods called {FIRST}, and of nobody else, both ran: {}", told(findings));
    ensure!(status.verdict == Some(Verdict::Fail), "{:?}: {}", status.verdict, told(findings));
    h.no_tables(Duration::from_secs(30)).await
}

/// The pod of that name, as soon as it runs and is the one that is meant.
async fn twin(h: &Harness, deadline: Duration, is_meant: impl Fn(&Pod) -> bool) -> Result<Pod> {
    let pods: Api<Pod> = Api::namespaced(h.client.clone(), "shop");
    h.until(&format!("{FIRST} to run"), deadline, async |_: &Harness| {
        let runs = |pod: &Pod| pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running");
        Ok(pods.get_opt(FIRST).await?.filter(|pod| runs(pod) && is_meant(pod)))
    })
    .await
}

fn node_of(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default()
}

async fn unreachable(h: &Harness, node: &str) -> Result<()> {
    let nodes: Api<Node> = Api::all(h.client.clone());
    h.until(&format!("{node} to be tainted"), Duration::from_secs(60), async |_: &Harness| {
        let taints = nodes.get(node).await?.spec.and_then(|s| s.taints).unwrap_or_default();
        let is_closed = taints.iter().any(|t| t.key == "node.kubernetes.io/unreachable" && t.effect == "NoSchedule");
        Ok(is_closed.then_some(()))
    })
    .await
}

/// What `kubectl delete pod --force --grace-period=0` asks for, of the pod of this uid only: asked a second time it would take the new one.
async fn delete_by_force(h: &Harness, uid: &str) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(h.client.clone(), "shop");
    let only = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    let by_force = DeleteParams::default().grace_period(0).preconditions(only);
    h.until(&format!("{FIRST} to be deleted"), Duration::from_secs(40), async |_: &Harness| {
        match pods.delete(FIRST, &by_force).await {
            // Gone, or another one is there already.
            Err(kube::Error::Api(answer)) if [404, 409].contains(&answer.code) => Ok(Some(())),
            other => Ok(Some(other.map(drop)?)),
        }
    })
    .await
}
