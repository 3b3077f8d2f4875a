//! What should not happen and does: plans that vanish, replicas on the better side that never come.

use crate::{
    agents::Agents,
    cluster::{BAD, Cluster, GOOD},
    replica::{AGENTS, Replica},
    wait::{SOON, until},
};
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use rackpartition::api::Phase;
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn a_run_whose_plan_is_gone_is_aborted_and_leaves_nothing() {
    let cluster = Cluster::start().await;
    let _replica = Replica::start(&cluster.plane, GOOD.0, GOOD.1);
    for name in ["left", "aborted", "deleted"] {
        cluster.begin(name, json!({})).await;
        cluster.until_phase(name, &[Phase::Arming]).await;
        let plan = cluster.plan_map_of(name).await.expect("a plan").name_any();
        cluster.plans().delete(&plan, &DeleteParams::default()).await.expect("somebody's mistake");
        match name {
            "aborted" => drop(cluster.patch(name, json!({"spec": {"abort": true}})).await.expect("an abort")),
            "deleted" => cluster.delete(name).await,
            _ => {}
        }
        if name != "deleted" {
            let status = cluster.until_phase(name, &[Phase::Aborted]).await;
            let word = if name == "left" { "plan" } else { "abort" };
            assert!(status.message.as_ref().is_some_and(|m| m.contains(word)), "{:?}", status.message);
            cluster.until_wound_up(name).await.expect("an aborted run stays");
        }
    }
}

#[tokio::test]
async fn a_replica_that_would_be_cut_off_itself_cuts_nobody() {
    let cluster = Cluster::start().await;
    // There is a pod on the better side, so the plan is made; it never leads.
    let _bad = Replica::start_with(&cluster.plane, BAD.0, BAD.1, Duration::from_secs(20));
    cluster.begin("planned", json!({})).await;
    let status = cluster.until_phase("planned", &[Phase::Refused]).await;
    let message = status.message.unwrap_or_default();
    assert!(message.contains("two replicas") && message.contains("operator.replicas"), "{message}");
    cluster.until_wound_up("planned").await;
}

#[tokio::test]
async fn a_run_that_lost_its_leader_on_the_better_side_is_not_cut() {
    let cluster = Cluster::start().await;
    let bad = Replica::start_with(&cluster.plane, BAD.0, BAD.1, Duration::from_secs(30));
    let good = Replica::start(&cluster.plane, GOOD.0, GOOD.1);
    cluster.begin("run", json!({})).await;
    cluster.until_phase("run", &[Phase::Arming]).await;
    until("the better side to lead", SOON, || async { (cluster.leader().await? == GOOD.0).then_some(()) }).await;
    good.crash();
    let _agents = Agents::play(&cluster, "run", &[]);
    let status = cluster.until_phase("run", &[Phase::Refused]).await;
    assert!(status.schedule.is_none());
    assert!(status.message.as_ref().is_some_and(|m| m.contains("replica")), "{:?}", status.message);
    cluster.until_wound_up("run").await;
    drop(bad);
}

#[tokio::test]
async fn a_plan_that_the_api_server_refuses_is_tried_for_a_minute_and_then_refused() {
    let cluster = Cluster::start().await;
    let _replica = Replica::start(&cluster.plane, GOOD.0, GOOD.1);
    // Admission goes by the status, which nobody else writes here.
    let none = json!({"count/configmaps": "0"});
    let quota = json!({"metadata": {"name": "none", "namespace": AGENTS}, "spec": {"hard": none}});
    let quotas = Api::<ResourceQuota>::namespaced(cluster.client.clone(), AGENTS);
    cluster.create(&quotas, quota).await;
    let status = Patch::Merge(json!({"status": {"hard": none, "used": none}}));
    quotas.patch_status("none", &PatchParams::default(), &status).await.expect("a quota's status");
    cluster.begin("run", json!({})).await;
    let why = until("a word about the quota", SOON, || async {
        cluster.status("run").await?.message.filter(|m| m.contains("quota"))
    })
    .await;
    assert!(why.starts_with("planning; so far"), "{why}");
    let status = cluster.until_phase("run", &[Phase::Refused]).await;
    assert!(status.message.as_ref().is_some_and(|m| m.contains("quota") && m.contains("60 s")), "{:?}", status.message);
    cluster.until_wound_up("run").await.expect("a refused run stays");
}
