//! A run from its plan to its verdict.

use crate::{
    agents::Agents,
    cluster::{Cluster, GOOD, NODES, of_run, pod},
    replica::{AGENTS, Replica},
    wait::{SOON, until},
};
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Namespace, Pod},
        discovery::v1::EndpointSlice,
        events::v1::Event,
    },
    jiff::Timestamp,
};
use kube::{Api, ResourceExt, api::ListParams};
use rackpartition::api::{Check, Observer, Phase, SpanKind};
use serde_json::json;

#[tokio::test]
async fn a_run_goes_from_its_plan_to_a_verdict() {
    let cluster = Cluster::start().await;
    let _replica = Replica::start(&cluster.plane, GOOD.0, GOOD.1);
    selects_a_pod(&cluster).await;
    elects_a_pod(&cluster).await;
    cluster.begin("run", json!({})).await;
    let status = cluster.until_phase("run", &[Phase::Arming]).await;
    let plan = cluster.plan_of("run").await.expect("a plan in a ConfigMap");
    let planned = status.plan.expect("a plan in the status");
    assert_eq!(plan.hash(), planned.hash);
    let predicted = planned.prediction.iter().find(|p| p.subject == "shop/cert").expect("the Lease of others");
    assert_eq!((predicted.check, predicted.expected.as_str()), (Check::LeaseStable, "stays with w2"));
    assert_eq!(plan.agents().into_iter().collect::<Vec<_>>(), NODES);
    has_agents_on_the_plans_nodes(&cluster).await;

    let _agents = Agents::play(&cluster, "run", &[]);
    let status = cluster.until_phase("run", &[Phase::Scheduled]).await;
    let schedule = status.schedule.expect("a schedule");
    let ahead = schedule.cut_at.0.as_microsecond() - Timestamp::now().as_microsecond();
    assert!((0..=10_000_000).contains(&ahead), "{ahead} us ahead");
    assert_eq!(schedule.heal_at.0.as_microsecond() - schedule.cut_at.0.as_microsecond(), 10_000_000);

    let status = cluster.until_phase("run", &[Phase::Cut]).await;
    assert!(Timestamp::now() >= schedule.cut_at.0, "not before the instant");
    assert_eq!(status.agents.map(|a| (a.wanted, a.armed, a.loaded)), Some((6, 6, 6)));
    writes_canaries(&cluster).await;
    let status = cluster.until_phase("run", &[Phase::Recovering]).await;
    assert!(Timestamp::now() >= schedule.heal_at.0, "not before the end of the cut");
    assert_eq!(status.schedule.map(|s| (s.cut_at, s.heal_at)), Some((schedule.cut_at, schedule.heal_at)));

    let status = cluster.until_phase("run", &[Phase::Done]).await;
    assert!(status.verdict.is_some() && !status.findings.is_empty());
    for type_ in ["Planned", "Armed", "Healed", "Judged"] {
        let found = status.conditions.iter().find(|c| c.type_ == type_).map(|c| c.status.as_str());
        assert_eq!(found, Some("True"), "{type_}");
    }
    cluster.until_wound_up("run").await.expect("a run with a verdict stays");
    let records = cluster.records().list(&ListParams::default()).await.expect("records");
    assert_eq!(records.items.len(), 7, "records stay as long as the run");
    tells_by_events(&cluster).await;
}

/// Makes an EndpointSlice, as the control plane does of a Service, that has one pod of r1.
async fn selects_a_pod(cluster: &Cluster) {
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), "kube-system");
    let pod = pods.get("kube-scheduler-c1").await.expect("a pod");
    let target = json!({"kind": "Pod", "namespace": "kube-system", "name": pod.name_any(), "uid": pod.uid()});
    let labels = json!({"kubernetes.io/service-name": "scheduler",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"});
    let slice = json!({
        "metadata": {"name": "scheduler-x", "labels": labels}, "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.0.7"], "conditions": {"ready": true}, "targetRef": target}],
    });
    cluster.create(&Api::<EndpointSlice>::namespaced(cluster.client.clone(), "kube-system"), slice).await;
}

/// Makes a Lease of somebody else's, in a namespace that the operator was told of, and the pod that holds it.
async fn elects_a_pod(cluster: &Cluster) {
    cluster.create(&Api::<Namespace>::all(cluster.client.clone()), json!({"metadata": {"name": "shop"}})).await;
    cluster.add_pod("shop", pod("cert-1", "w2", json!({}), &["cert"]), true).await;
    let lease = json!({
        "metadata": {"name": "cert", "namespace": "shop"},
        "spec": {"holderIdentity": "cert-1_9f2a", "leaseDurationSeconds": 30},
    });
    cluster.create(&Api::<Lease>::namespaced(cluster.client.clone(), "shop"), lease).await;
}

async fn has_agents_on_the_plans_nodes(cluster: &Cluster) {
    let map = cluster.plan_map_of("run").await.expect("the plan");
    assert_eq!(map.immutable, Some(true));
    let set = cluster.daemon_sets().list(&of_run("run")).await.expect("an answer").items.pop().expect("the agents");
    assert_eq!(set.owner_references().first().map(|o| o.name.as_str()), Some("run"));
    let spec = set.spec.and_then(|s| s.template.spec).expect("a pod's spec");
    let required = spec.affinity.and_then(|a| a.node_affinity?.required_during_scheduling_ignored_during_execution);
    let fields = required.expect("an affinity").node_selector_terms.into_iter().map(|t| {
        let field = t.match_fields.expect("by field").remove(0);
        (field.key, field.operator, field.values.unwrap_or_default())
    });
    let expected: Vec<_> = NODES.map(|n| ("metadata.name".to_owned(), "In".to_owned(), vec![n.to_owned()])).into();
    assert_eq!(fields.collect::<Vec<_>>(), expected);
}

async fn writes_canaries(cluster: &Cluster) {
    let leases = Api::<Lease>::namespaced(cluster.client.clone(), AGENTS);
    until("a canary through the API server of c2", SOON, || async {
        leases.get_opt("rackpartition-canary-operator-c2").await.ok()?.map(drop)
    })
    .await;
    until("the operator to write down what it sees", SOON, || async {
        let records = cluster.records().list(&ListParams::default()).await.ok()?;
        let record = records.items.into_iter().find(|r| r.spec.observer == Observer::Operator)?;
        let spans = record.status?.spans;
        let seen = |kind, state: &str| spans.iter().any(|s| s.kind == kind && s.state == state).then_some(());
        seen(SpanKind::Canary, "acknowledged")?;
        seen(SpanKind::Convergence, "ok")?;
        seen(SpanKind::Lease, "c1_4c1b")?;
        seen(SpanKind::Lease, "cert-1_9f2a")?;
        seen(SpanKind::Endpoint, "ready")?;
        seen(SpanKind::Node, "True")
    })
    .await;
}

async fn tells_by_events(cluster: &Cluster) {
    let events = Api::<Event>::all(cluster.client.clone()).list(&ListParams::default()).await.expect("events");
    let reasons: Vec<_> = events.items.into_iter().filter_map(|e| e.reason).collect();
    for reason in ["Planned", "Arming", "Scheduled", "Cut", "Recovering", "Judged"] {
        assert!(reasons.iter().any(|r| r == reason), "{reason} is not in {reasons:?}");
    }
}
