//! The operator dies, and another replica goes on from the objects alone.

use crate::{
    agents::Agents,
    cluster::{Cluster, GOOD},
    replica::Replica,
    wait::{SOON, until},
};
use kube::api::ListParams;
use rackpartition::api::{NodeRecord, Observer, Phase, Span, SpanKind};
use serde_json::json;

#[tokio::test]
async fn another_replica_goes_on_in_arming_and_in_the_cut() {
    let cluster = Cluster::start().await;
    cluster.add_operator_pod("operator-second", "w3").await;
    let first = Replica::start(&cluster.plane, GOOD.0, GOOD.1);
    cluster.begin("run", json!({"duration": "40s"})).await;
    let planned = cluster.until_phase("run", &[Phase::Arming]).await.plan.expect("a plan");
    let before = spans(&cluster, 1).await;
    first.crash();

    let second = Replica::start(&cluster.plane, "operator-second", "w3");
    let _agents = Agents::play(&cluster, "run", &[]);
    let status = cluster.until_phase("run", &[Phase::Cut]).await;
    assert_eq!(cluster.leader().await.as_deref(), Some("operator-second"));
    assert_eq!(status.plan.as_ref().map(|p| &p.hash), Some(&planned.hash), "not planned anew");
    let after = spans(&cluster, before.samples + 1).await;
    assert_eq!(after.from.boot_us, before.from.boot_us, "what the first replica saw is still there");
    second.crash();

    let _third = Replica::start(&cluster.plane, GOOD.0, GOOD.1);
    until("the third replica to watch the cut", SOON, || async {
        let leads = cluster.leader().await.as_deref() == Some(GOOD.0);
        let newest = records(&cluster).await?.status?.observed_until?;
        (leads && newest.0 > after.to.wall.0).then_some(())
    })
    .await;
    cluster.until_phase("run", &[Phase::Recovering]).await;
    let status = cluster.until_phase("run", &[Phase::Done]).await;
    assert!(status.verdict.is_some());
    let record = records(&cluster).await.expect("the operator's record").status.expect("a status");
    assert!(record.spans.iter().any(|s| s.from.boot_us == before.from.boot_us), "all three are in one record");
    let canaries: Vec<_> = record.spans.iter().filter(|s| s.kind == SpanKind::Canary).collect();
    assert!(canaries.len() >= 3, "a gap for each time that nobody led: {canaries:?}");
    cluster.until_wound_up("run").await;
}

async fn records(cluster: &Cluster) -> Option<NodeRecord> {
    let records = cluster.records().list(&ListParams::default()).await.ok()?;
    records.items.into_iter().find(|r| r.spec.observer == Observer::Operator)
}

/// The operator's first canary span, once it has written down so many samples.
async fn spans(cluster: &Cluster, samples: u32) -> Span {
    until("the operator's record", SOON, || async {
        let spans = records(cluster).await?.status?.spans;
        let canaries: Vec<_> = spans.into_iter().filter(|s| s.kind == SpanKind::Canary).collect();
        let total: u32 = canaries.iter().map(|s| s.samples).sum();
        let newest = canaries.last()?.to.clone();
        (total >= samples).then(|| Span { samples: total, to: newest, ..canaries[0].clone() })
    })
    .await
}
