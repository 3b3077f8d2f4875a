//! What the API server itself refuses, fills in and prints.

use crate::cluster::Cluster;
use http::{Request, header::ACCEPT};
use kube::api::PostParams;
use rackpartition::api::{Phase, RackPartitionStatus};
use serde_json::{Value, json};

async fn refusal(cluster: &Cluster, name: &str, spec: Value) -> String {
    match cluster.try_begin(name, spec.clone()).await {
        Err(kube::Error::Api(answer)) if answer.code == 422 => answer.message,
        other => panic!("{spec} was not refused as invalid: {other:?}"),
    }
}

#[tokio::test]
async fn the_api_server_refuses_what_needs_no_cluster_to_refuse() {
    let cluster = Cluster::start().await;
    for (field, value, words) in [
        ("duration", json!("0s"), "a cut lasts from 10s to 1h"),
        ("duration", json!("48h"), "a cut lasts from 10s to 1h"),
        ("duration", json!("2d"), "spec.duration"),
        ("recovery", json!("0s"), "watch the recovery"),
        ("cut", json!({}), "name exactly one cut"),
        ("cut", json!({"isolate": {"racks": ["r1"]}, "ring": {}}), "name exactly one cut"),
        ("cut", json!({"isolate": {}}), "name racks, nodes, endpoints or a role"),
        ("cut", json!({"isolate": {"racks": []}}), "spec.cut.isolate.racks"),
        ("cut", json!({"edges": []}), "spec.cut.edges"),
        ("cut", json!({"bridge": {"groups": [{"racks": ["r1"]}]}}), "spec.cut.bridge.groups"),
        (
            "cut",
            json!({"split": {"groups": [{"racks": ["r1", "r2"]}, {"racks": ["r2"]}]}}),
            "name each of the racks in one group only",
        ),
        (
            "cut",
            json!({"bridge": {"groups": [{"nodes": ["w1"]}, {"racks": ["r2"], "nodes": ["w1"]}]}}),
            "name each of the nodes in one group only",
        ),
        ("expect", json!({"leaderTakeover": "0s"}), "accept more than 0s"),
        (
            "workloads",
            json!({"labelSelector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}}),
            "match In and NotIn",
        ),
        (
            "workloads",
            json!({"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}),
            "match In and NotIn",
        ),
        ("cut", json!({"star": {}}), "spec.cut.star.hub"),
        ("traffic", json!([{"class": "Gossip"}]), "spec.traffic[0].class"),
        ("traffic", json!([{"class": "Pods", "protocol": "TCP", "port": 80}]), "either a class of traffic"),
        ("traffic", json!([{"protocol": "TCP", "port": 0}]), "spec.traffic[0].port"),
        ("effect", json!({"drop": {}, "loss": {"percent": 5}}), "name one effect"),
        ("effect", json!({"loss": {"percent": 0}}), "spec.effect.loss.percent"),
        ("flap", json!({"down": "5s", "up": "10ms"}), "from 1s to 1h"),
        ("stagger", json!("1h"), "stagger the heal by 1s to 10m"),
        ("cut", json!({"isolate": {"role": "king"}}), "spec.cut.isolate.role"),
        ("cut", json!({"isolate": {"racks": ["r1", "r1"]}}), "spec.cut.isolate.racks"),
        ("guards", json!({"maxClockError": "1h"}), "allow a clock error"),
        ("guards", json!({"etcdQuietFor": "0s"}), "watch etcd for 1s to 10m"),
        ("guards", json!({"etcdQuietFor": "11m"}), "watch etcd for 1s to 10m"),
        ("endpoints", json!([{"name": "lb", "cidrs": ["nowhere"]}]), "give CIDRs"),
        ("endpoints", json!([{"name": "lb", "cidrs": []}]), "spec.endpoints[0].cidrs"),
        (
            "endpoints",
            json!([{"name": "lb", "cidrs": ["198.18.0.40/32"]}, {"name": "lb", "cidrs": ["198.18.0.41/32"]}]),
            "a name of its own",
        ),
        (
            "abortWhen",
            json!({"workloads": [{"namespace": "a", "name": "b", "readyBelow": 4_294_967_296_u64}]}),
            "readyBelow",
        ),
        ("abortWhen", json!({"http": [{"url": "https://user:secret@shop"}]}), "without a password"),
        (
            "endpoints",
            json!([{"name": "lb", "cidrs": ["198.18.0.40/32"], "ports": [6443, 0]}]),
            "spec.endpoints[0].ports[1]",
        ),
        ("rackLabel", json!(""), "spec.rackLabel"),
        ("rackLabel", json!("no label"), "give the key of a label"),
        ("rackLabel", json!("example.org/"), "give the key of a label"),
        ("rackLabel", json!("Example.org/rack"), "give the key of a label"),
        ("rackLabel", json!("a/b/c"), "give the key of a label"),
        ("rackLabel", json!(format!("example.org/{}", "x".repeat(64))), "give the key of a label"),
    ] {
        let message = refusal(&cluster, "refused", json!({field: value})).await;
        assert!(message.contains(words), "{field} {value}: {message}");
    }
    let message = refusal(&cluster, &"x".repeat(41), json!({})).await;
    assert!(message.contains("at most 40 characters"), "{message}");
    cluster.begin(&"x".repeat(40), json!({})).await;
    let exists = json!({"labelSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}});
    cluster.begin("exists", json!({"workloads": exists})).await;
    for (name, label) in [("plain", "rack"), ("prefixed", "row-1.example.org/Rack_No.1")] {
        cluster.begin(name, json!({"rackLabel": label})).await;
    }
}

#[tokio::test]
async fn defaults_are_filled_and_a_started_run_can_only_be_aborted() {
    let cluster = Cluster::start().await;
    let mut run = cluster.begin("run", json!({"guards": {}})).await;
    assert_eq!(run.spec.rack_label, "topology.kubernetes.io/zone");
    assert_eq!(run.spec.guards.max_clock_error.to_string(), "500ms");
    assert_eq!(run.spec.guards.etcd_quiet_for.to_string(), "15s");
    assert!(!run.spec.abort && !run.spec.rehearsal && !run.spec.guards.allow_all_racks);
    // Not started: still to be changed.
    run = cluster.patch("run", json!({"spec": {"duration": "20s"}})).await.expect("a run that has not started");
    run.status = Some(RackPartitionStatus {
        phase: Some(Phase::Arming),
        message: Some("armed 2/6".into()),
        ..Default::default()
    });
    cluster.runs().replace_status("run", &PostParams::default(), &run).await.expect("a status");
    for spec in [
        json!({"duration": "30s"}),
        json!({"recovery": "30s"}),
        json!({"cut": {"isolate": {"racks": ["r2"]}}}),
        json!({"rackLabel": "rack"}),
        json!({"guards": {"allowQuorumLoss": true}}),
        json!({"endpoints": [{"name": "lb", "cidrs": ["198.18.0.9/32"]}]}),
        json!({"expect": {"leaderTakeover": "1h"}}),
        json!({"workloads": {"labelSelector": {"matchLabels": {"a": "b"}}}}),
        json!({"rehearsal": true}),
    ] {
        let error = cluster.patch("run", json!({"spec": spec})).await.expect_err("a run that has started");
        assert!(error.to_string().contains("immutable once it has started"), "{spec}: {error}");
    }
    let metadata = json!({"metadata": {"labels": {"a": "b"}}});
    cluster.patch("run", metadata).await.expect("labels are nobody's business");
    cluster.patch("run", json!({"spec": {"abort": true}})).await.expect("an abort");
    let error = cluster.patch("run", json!({"spec": {"abort": false}})).await.expect_err("no way back");
    assert!(error.to_string().contains("can't be taken back"), "{error}");
    assert_eq!(columns(&cluster).await, ["Name", "Phase", "Verdict", "Cut", "Duration", "Agents", "Message", "Age"]);
}

/// Columns of `kubectl get rp -o wide`.
async fn columns(cluster: &Cluster) -> Vec<String> {
    let request = Request::get("/apis/rackpartition.io/v1alpha1/rackpartitions")
        .header(ACCEPT, "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Vec::new())
        .expect("a request");
    let table: Value = cluster.client.request(request).await.expect("a table");
    let cells = table["rows"][0]["cells"].as_array().expect("cells");
    assert!(cells.contains(&json!("Arming")) && cells.contains(&json!("armed 2/6")), "{cells:?}");
    let columns = table["columnDefinitions"].as_array().expect("columns");
    columns.iter().map(|c| c["name"].as_str().unwrap_or_default().to_owned()).collect()
}
