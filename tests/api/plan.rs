//! Every refusal of a plan ends in a phase, with a message that says what to do.

use crate::{
    agents::Agents,
    cluster::{BAD, Cluster, GOOD, NODES, of_run},
    replica::{NAMESPACE, Replica},
    wait::{SOON, until},
};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use rackpartition::api::{Phase, RackPartitionStatus};
use serde_json::{Value, json};

/// Begins a run that must be refused, and returns the message.
async fn refused(cluster: &Cluster, name: &str, spec: Value) -> String {
    cluster.begin(name, spec).await;
    let status = cluster.until_phase(name, &[Phase::Refused]).await;
    let planned = status.conditions.iter().find(|c| c.type_ == "Planned").expect("a condition");
    assert_eq!((planned.status.as_str(), planned.reason.as_str()), ("False", "Refused"));
    assert!(status.schedule.is_none() && status.plan.is_none());
    cluster.until_wound_up(name).await;
    cluster.delete(name).await;
    status.message.unwrap_or_default()
}

fn has(message: &str, words: &[&str]) {
    words.iter().for_each(|w| assert!(message.contains(w), "{w:?} is not in {message:?}"));
}

#[tokio::test]
async fn what_a_plan_can_tell_is_refused() {
    let cluster = Cluster::start().await;
    let _replica = Replica::start(&cluster.plane, GOOD.0, GOOD.1);

    let racks = |racks: &[&str]| json!({"cut": {"isolate": {"racks": racks}}});
    has(&refused(&cluster, "rack", racks(&["r9"])).await, &["r9", "topology.kubernetes.io/zone", "r1, r2, r3"]);
    let label = json!({"rackLabel": "example.org/rack"});
    has(&refused(&cluster, "label", label).await, &["example.org/rack", "spec.rackLabel"]);
    has(&refused(&cluster, "all", racks(&["r1", "r2", "r3"])).await, &["isolate r1+r2+r3", "name fewer racks"]);
    let groups = json!({"cut": {"split": {"groups": [{"racks": ["r1"]}, {"racks": ["r2"]}]}}, "guards": {"allowQuorumLoss": true}});
    has(&refused(&cluster, "alone", groups).await, &["spec.guards.allowAllRacks"]);

    cluster.set_ready("w3", false).await;
    has(&refused(&cluster, "ready", json!({})).await, &["w3", "spec.guards.allowUnhealthyBaseline"]);
    cluster.set_ready("w3", true).await;

    cluster.remove_pod(NAMESPACE, GOOD.0).await;
    let words = ["no replica of the operator", "c2", "two replicas", "operator.replicas"];
    has(&refused(&cluster, "operator", json!({})).await, &words);
    cluster.add_operator_pod(GOOD.0, GOOD.1).await;

    cluster.remove_pod("kube-system", "etcd-c3").await;
    has(&refused(&cluster, "quorum", json!({})).await, &["2 etcd members", "spec.guards.allowQuorumLoss"]);
    cluster.remove_pod("kube-system", "etcd-c1").await;
    cluster.remove_pod("kube-system", "etcd-c2").await;
    has(&refused(&cluster, "etcd", json!({})).await, &["etcd", "kube-system"]);
}

#[tokio::test]
async fn one_run_at_a_time_and_a_role_is_resolved_once() {
    let cluster = Cluster::start().await;
    let _replica = Replica::start(&cluster.plane, GOOD.0, GOOD.1);
    cluster.begin("first", json!({"cut": {"isolate": {"role": "kube-controller-manager-leader"}}})).await;
    let status = cluster.until_phase("first", &[Phase::Arming]).await;
    let plan = status.plan.expect("a plan");
    assert_eq!(plan.resolved_roles.get("kube-controller-manager-leader").map(String::as_str), Some("c1"));
    assert_eq!(plan.cut, "isolate r1");
    let isolated = plan.sides.iter().find(|s| s.name == "isolated").expect("a side");
    assert_eq!((isolated.nodes.as_slice(), isolated.quorum), (["c1", "w1"].map(str::to_owned).as_slice(), false));
    let words = ["first", "Arming", "one run at a time", "kubectl delete rackpartition first"];
    has(&refused(&cluster, "second", json!({})).await, &words);
    assert_eq!(cluster.status("first").await.and_then(|s| s.phase), Some(Phase::Arming), "left alone");
    cluster.delete("first").await;
    assert_ne!(cluster.leader().await.as_deref(), Some(BAD.0));
}

/// As two replicas would leave it that each believed to lead: both runs have a plan, and neither saw the other before.
#[tokio::test]
async fn of_two_runs_that_were_planned_at_the_same_moment_one_is_refused_before_it_arms() {
    let cluster = Cluster::start().await;
    let replica = Replica::start(&cluster.plane, GOOD.0, GOOD.1);
    cluster.begin("first", json!({})).await;
    let status = cluster.until_phase("first", &[Phase::Arming]).await;
    replica.crash();
    let mut second = cluster.begin("second", json!({})).await;
    second.status = Some(RackPartitionStatus { phase: Some(Phase::Planned), ..status });
    cluster.runs().replace_status("second", &PostParams::default(), &second).await.expect("a planned run");

    let _replica = Replica::start(&cluster.plane, GOOD.0, GOOD.1);
    let status = cluster.until_phase("second", &[Phase::Refused]).await;
    has(&status.message.unwrap_or_default(), &["first", "Arming", "one run at a time"]);
    assert_eq!(cluster.status("first").await.and_then(|s| s.phase), Some(Phase::Arming), "left alone");
    cluster.delete("first").await;
}

/// The nodes that agents are to be on, by their DaemonSet.
async fn nodes_with_agents(cluster: &Cluster, run: &str) -> Option<Vec<String>> {
    let set = cluster.daemon_sets().list(&of_run(run)).await.ok()?.items.pop()?;
    let affinity = set.spec?.template.spec?.affinity?.node_affinity?;
    let terms = affinity.required_during_scheduling_ignored_during_execution?.node_selector_terms;
    let fields = terms.into_iter().filter_map(|term| term.match_fields).flatten();
    Some(fields.filter_map(|field| field.values).flatten().collect())
}

/// Also where the operator dies before it has started the agents, so that the next one does after racks have changed.
#[tokio::test]
async fn whom_a_run_is_about_is_settled_when_it_is_planned() {
    let cluster = Cluster::start().await;
    let replica = Replica::start(&cluster.plane, GOOD.0, GOOD.1);
    cluster.begin("run", json!({})).await;
    let planned = cluster.until_phase("run", &[Phase::Arming]).await.plan.expect("a plan");
    let map = cluster.plan_map_of("run").await.expect("the plan's ConfigMap");
    assert_eq!(nodes_with_agents(&cluster, "run").await.expect("the agents"), NODES);
    replica.crash();

    let agents = cluster.daemon_sets().delete_collection(&DeleteParams::background(), &of_run("run")).await;
    agents.expect("agents to remove");
    // One node moves into the rack that is to be cut off, and another one joins there.
    let nodes = Api::<Node>::all(cluster.client.clone());
    let metadata = json!({"labels": {"topology.kubernetes.io/zone": "r1"}});
    let moved = json!({"metadata": metadata});
    nodes.patch("w3", &PatchParams::default(), &Patch::Merge(moved)).await.expect("a node's label");
    let mut joined = json!({"metadata": metadata});
    joined["metadata"]["name"] = json!("w4");
    cluster.create(&nodes, joined).await;
    let phase = json!({"status": {"phase": "Planned"}});
    cluster.runs().patch_status("run", &PatchParams::default(), &Patch::Merge(phase)).await.expect("a planned run");

    let _replica = Replica::start(&cluster.plane, GOOD.0, GOOD.1);
    let again = async || nodes_with_agents(&cluster, "run").await;
    assert_eq!(until("the agents to be started anew", SOON, again).await, NODES);
    let _agents = Agents::play(&cluster, "run", &[]);
    let status = cluster.until_phase("run", &[Phase::Scheduled]).await;
    assert_eq!(status.agents.map(|a| a.wanted), Some(6));
    let plan = status.plan.expect("a plan");
    assert_eq!((plan.hash, plan.sides), (planned.hash.clone(), planned.sides));
    let same = cluster.plan_map_of("run").await.expect("the plan's ConfigMap");
    assert_eq!((same.uid(), same.data, same.binary_data), (map.uid(), map.data, map.binary_data));
    assert_eq!(cluster.plan_of("run").await.map(|p| p.hash()), Some(planned.hash));
    assert_eq!(nodes_with_agents(&cluster, "run").await.expect("the agents"), NODES);
}
