//! What only agents can see is asked before there is a plan.

use crate::{
    cluster::{Cluster, GOOD, of_run},
    replica::{AGENTS, Replica},
    wait::{SOON, until},
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use rackpartition::{
    agent::record_name,
    api::{NodeRecord, NodeRecordSpec, NodeRecordStatus, Observer, Phase, RUN_LABEL, RackPartition, Span, SpanKind},
    observe::now,
};
use serde_json::json;

/// The record of an agent whose member of etcd was just seen in this state.
pub async fn say(cluster: &Cluster, run: &RackPartition, node: &str, state: &str) {
    let (name, uid) = (run.name_any(), run.uid().expect("a uid"));
    let spec = NodeRecordSpec::new(&name, &uid, node, Observer::Agent);
    let mut record = NodeRecord::new(&record_name(&name, &uid, node), spec);
    record.labels_mut().insert(RUN_LABEL.into(), name);
    record.metadata.namespace = Some(AGENTS.into());
    let records = cluster.records();
    let _ = records.create(&PostParams::default(), &record).await;
    let span = Span {
        kind: SpanKind::Etcd,
        subject: "etcd".into(),
        state: state.into(),
        from: now(),
        to: now(),
        samples: 1,
        uid: None,
        id: None,
        node: None,
        detail: None,
    };
    let until = Some(MicroTime(Timestamp::now()));
    let status = NodeRecordStatus { spans: vec![span], observed_until: until, ..Default::default() };
    let patch = Patch::Merge(json!({"status": status}));
    records.patch_status(&record.name_any(), &PatchParams::default(), &patch).await.expect("a record");
}

async fn surveyors(cluster: &Cluster) -> Vec<String> {
    let sets = cluster.daemon_sets().list(&of_run("run")).await.expect("an answer").items;
    sets.iter().map(ResourceExt::name_any).filter(|n| n.ends_with("-survey")).collect()
}

#[tokio::test]
async fn members_are_asked_who_leads_and_the_askers_are_gone_before_the_plan() {
    let cluster = Cluster::start().await;
    let _replica = Replica::start(&cluster.plane, GOOD.0, GOOD.1);
    cluster.begin("run", json!({"cut": {"isolate": {"role": "etcd-leader"}}})).await;
    until("agents that ask", SOON, || async { (surveyors(&cluster).await.len() == 1).then_some(()) }).await;
    let status = until("a word about it", SOON, || async {
        cluster.status("run").await.filter(|s| s.message.as_ref().is_some_and(|m| m.contains("who leads")))
    })
    .await;
    assert!(status.phase.is_none() && status.plan.is_none(), "nothing is armed for it: {status:?}");

    let run = cluster.runs().get("run").await.expect("the run");
    say(&cluster, &run, "c1", "follows").await;
    say(&cluster, &run, "c3", "leads").await;
    let status = cluster.until_phase("run", &[Phase::Arming]).await;
    let plan = status.plan.expect("a plan");
    assert_eq!(plan.resolved_roles.get("etcd-leader").map(String::as_str), Some("c3"));
    assert_eq!(plan.cut, "isolate r3");
    assert!(surveyors(&cluster).await.is_empty(), "they would be in the way of the run's own agents");

    // It moves on before anything is cut.
    say(&cluster, &run, "c3", "follows").await;
    say(&cluster, &run, "c2", "leads").await;
    let status = cluster.until_phase("run", &[Phase::Refused]).await;
    let message = status.message.expect("a message");
    assert!(message.contains("moved from c3 to c2"), "{message}");
}

#[tokio::test]
async fn an_abort_before_the_plan_takes_the_askers_away() {
    let cluster = Cluster::start().await;
    let _replica = Replica::start(&cluster.plane, GOOD.0, GOOD.1);
    cluster.begin("run", json!({"cut": {"isolate": {"role": "etcd-leader"}}})).await;
    until("agents that ask", SOON, || async { (surveyors(&cluster).await.len() == 1).then_some(()) }).await;
    // Younger, and therefore not the one that goes on. Objects tell their age in whole seconds.
    let created = cluster.runs().get("run").await.expect("the run").creation_timestamp().expect("a time").0;
    until("another second", SOON, || async { (Timestamp::now().as_second() > created.as_second()).then_some(()) })
        .await;
    cluster.begin("second", json!({})).await;
    let refused = cluster.until_phase("second", &[Phase::Refused]).await.message.expect("a message");
    assert!(refused.contains("being planned") && refused.contains("one run at a time"), "{refused}");

    let abort = Patch::Merge(json!({"spec": {"abort": true}}));
    cluster.runs().patch("run", &PatchParams::default(), &abort).await.expect("an abort");
    cluster.until_phase("run", &[Phase::Aborted]).await;
    cluster.until_wound_up("run").await;
    assert!(surveyors(&cluster).await.is_empty());
}
