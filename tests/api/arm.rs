//! Arming is all or nothing: who is missing, out of step, unfit or late is named, and nobody is cut.

use crate::{
    agents::{Agents, Manner},
    cluster::{Cluster, GOOD, pod},
    replica::{AGENTS, Replica},
    wait::{SOON, until},
};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use rackpartition::api::{Phase, RackPartitionStatus};
use serde_json::json;
use std::time::Duration;

fn condition<'a>(status: &'a RackPartitionStatus, type_: &str) -> (&'a str, &'a str) {
    let found = status.conditions.iter().find(|c| c.type_ == type_);
    found.map(|c| (c.status.as_str(), c.message.as_str())).unwrap_or_default()
}

#[tokio::test]
async fn agents_that_never_come_end_the_run_in_the_kubelets_words() {
    let cluster = Cluster::start().await;
    let _replica = Replica::start_with(&cluster.plane, GOOD.0, GOOD.1, Duration::from_secs(8));
    cluster.begin("run", json!({})).await;
    cluster.until_phase("run", &[Phase::Arming]).await;
    cluster.add_pod(AGENTS, pod("agent", "c1", json!({"rackpartition.io/run": "run"}), &["agent"]), false).await;
    let waiting = json!({"reason": "ImagePullBackOff", "message": "Back-off pulling image rackpartition:test"});
    let container = json!({"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": waiting}});
    let status = json!({"status": {"phase": "Pending", "containerStatuses": [container]}});
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), AGENTS);
    pods.patch_status("agent", &PatchParams::default(), &Patch::Merge(status)).await.expect("a waiting pod");

    let status = cluster.until_phase("run", &[Phase::Refused]).await;
    let message = status.message.clone().unwrap_or_default();
    assert!(message.contains("c1") && message.contains("ImagePullBackOff: Back-off pulling image"), "{message}");
    assert_eq!(condition(&status, "Armed").0, "False");
    assert!(status.schedule.is_none());
    let run = cluster.until_wound_up("run").await.expect("a refused run stays");
    let status = run.status.expect("a status");
    assert_eq!(status.message, Some(message), "the reason is not written over");
    assert_eq!(condition(&status, "Healed").0, "True");
}

#[tokio::test]
async fn who_is_unfit_walled_in_out_of_step_or_holds_what_is_elsewhere_is_named() {
    let cluster = Cluster::start().await;
    let _replica = Replica::start_with(&cluster.plane, GOOD.0, GOOD.1, Duration::from_secs(15));
    let ahead = Manner { ahead_ms: 1500, ..Default::default() };
    // A virtual address that w1 holds, in the rack that is cut off, is planned to be outside of it.
    let vip = json!([{"name": "vip", "cidrs": ["198.18.0.100/32"]}]);
    let holds = Manner { holds: Some("198.18.0.100".parse().expect("an address")), ..Default::default() };
    cluster.begin("vip", json!({"endpoints": vip})).await;
    let _agents = Agents::play(&cluster, "vip", &[("w1", holds)]);
    let message = cluster.until_phase("vip", &[Phase::Refused]).await.message.unwrap_or_default();
    ["198.18.0.100 of vip", "w1 holds it, in rack r1", "spec.guards.allowUnplacedSources"]
        .iter()
        .for_each(|w| assert!(message.contains(w), "{w} is not in {message}"));
    cluster.until_wound_up("vip").await.expect("a refused run stays");
    for (name, guards, manner, words) in [
        ("unfit", json!({}), Manner { unfit: true, ..Default::default() }, ["w3", "the kernel has no nftables"]),
        (
            "wall",
            json!({"maxClockError": "900ms"}),
            Manner { walled_in: true, ..Default::default() },
            ["w3", "firewall"],
        ),
        (
            "disk",
            json!({"maxClockError": "900ms"}),
            Manner { slow_disk: true, ..Default::default() },
            ["etcd on w3", "spec.guards.allowUnhealthyBaseline"],
        ),
        ("clock", json!({"maxClockError": "800ms"}), ahead, ["spec.guards.maxClockError", "allows 800 ms"]),
    ] {
        cluster.begin(name, json!({"guards": guards})).await;
        let _agents = Agents::play(&cluster, name, &[("w3", manner)]);
        let status = cluster.until_phase(name, &[Phase::Refused]).await;
        let message = status.message.unwrap_or_default();
        words.iter().for_each(|w| assert!(message.contains(w), "{name}: {w} is not in {message}"));
        assert!(status.schedule.is_none(), "{name} was scheduled");
        let run = cluster.until_wound_up(name).await.expect("a refused run stays");
        assert_eq!(condition(&run.status.expect("a status"), "Healed").0, "True", "{name}: every agent has said so");
    }
    // The same cluster with every clock in step.
    cluster.begin("in-step", json!({})).await;
    let _agents = Agents::play(&cluster, "in-step", &[]);
    cluster.until_phase("in-step", &[Phase::Scheduled]).await;
}

#[tokio::test]
async fn nobody_is_cut_where_one_does_not_load_or_gives_up() {
    let cluster = Cluster::start().await;
    let _replica = Replica::start(&cluster.plane, GOOD.0, GOOD.1);
    let late = Manner { never_loads: true, ..Default::default() };
    let gone = Manner { gives_up: true, ..Default::default() };
    for (name, manner) in [("late", late), ("gone", gone)] {
        cluster.begin(name, json!({})).await;
        let _agents = Agents::play(&cluster, name, &[("w3", manner)]);
        let status = cluster.until_phase(name, &[Phase::Aborted]).await;
        let message = status.message.unwrap_or_default();
        assert!(message.contains("called off") && message.contains("w3"), "{name}: {message}");
        assert!(!message.contains("w2"), "{name}: {message}");
        let run = cluster.until_wound_up(name).await.expect("an aborted run stays");
        let status = run.status.expect("a status");
        assert_eq!(condition(&status, "Healed"), ("True", "every node says that its table is gone"), "{name}");
        assert_eq!(condition(&status, "Injected").0, "", "{name} was never cut");
    }
}

#[tokio::test]
async fn a_cluster_that_is_not_whole_is_not_cut() {
    let cluster = Cluster::start().await;
    let _replica = Replica::start_with(&cluster.plane, GOOD.0, GOOD.1, Duration::from_secs(15));
    cluster.begin("run", json!({})).await;
    cluster.until_phase("run", &[Phase::Arming]).await;
    cluster.set_ready("c3", false).await;
    let _agents = Agents::play(&cluster, "run", &[]);
    let status = cluster.until_phase("run", &[Phase::Refused]).await;
    let message = status.message.unwrap_or_default();
    assert!(message.contains("node c3 to be Ready"), "{message}");
    assert!(message.contains("spec.guards.allowUnhealthyBaseline"), "{message}");
    cluster.until_wound_up("run").await;
    // What an unready node was refused for is allowed by the guard, and so is an etcd that isn't well.
    cluster.begin("allowed", json!({"guards": {"allowUnhealthyBaseline": true, "maxClockError": "900ms"}})).await;
    let slow = Manner { slow_disk: true, ..Default::default() };
    let _agents = Agents::play(&cluster, "allowed", &[("w3", slow)]);
    until("the guard to open", SOON, || async {
        let phase = cluster.status("allowed").await?.phase?;
        matches!(phase, Phase::Scheduled | Phase::Cut).then_some(())
    })
    .await;
}
