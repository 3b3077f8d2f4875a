//! What in the spec ends a run early: each is met in mid-cut, and keeps from cutting where it is met before.

use crate::{
    agents::Agents,
    cluster::{Cluster, GOOD},
    heal::Packets,
    replica::Replica,
    wait::{SOON, until_or},
};
use k8s_openapi::{
    api::apps::v1::{DaemonSet, Deployment, StatefulSet},
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use rackpartition::api::{Phase, RackPartitionStatus};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{
    fmt::Debug,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

/// An HTTP server that says the same to everybody.
struct Server {
    address: SocketAddr,
    says: Arc<Mutex<(&'static str, Value)>>,
    asked: Arc<Mutex<String>>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(status: &'static str, body: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let says = Arc::new(Mutex::new((status, body)));
        let asked = Arc::new(Mutex::new(String::new()));
        let (says_now, asked_now) = (says.clone(), asked.clone());
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                let read = stream.read(&mut request).await.unwrap_or_default();
                *asked_now.lock().unwrap() = String::from_utf8_lossy(&request[..read]).into_owned();
                let (status, body) = says_now.lock().unwrap().clone();
                let body = body.to_string();
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            }
        });
        Server { address, says, asked, task }
    }
    fn say(&self, status: &'static str, body: Value) {
        *self.says.lock().unwrap() = (status, body);
    }
}

fn vector(series: &[Value]) -> Value {
    json!({"status": "success", "data": {"resultType": "vector", "result": series}})
}

/// A workload in `default`, with these fields beside those that all kinds have.
fn workload(name: &str, more: &Value) -> Value {
    let labels = json!({"app": name});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": name, "image": name}]}});
    let mut spec = json!({"selector": {"matchLabels": labels}, "template": template});
    for (key, value) in more.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    json!({"metadata": {"name": name}, "spec": spec})
}

/// No controller is here: what a workload's status says, tests say.
async fn says<K: Clone + DeserializeOwned + Debug>(workloads: &Api<K>, name: &str, status: Value) {
    let status = Patch::Merge(json!({"status": status}));
    workloads.patch_status(name, &PatchParams::default(), &status).await.expect("a status");
}

async fn until_cut(cluster: &Cluster, name: &str, abort_when: Value) -> (Agents, RackPartitionStatus) {
    cluster.begin(name, json!({"duration": "60s", "abortWhen": abort_when})).await;
    let agents = Agents::play(cluster, name, &[]);
    let status = cluster.until_phase(name, &[Phase::Cut]).await;
    (agents, status)
}

/// It has ended long before its windows, for this reason, and every node has been told.
async fn assert_ended(cluster: &Cluster, name: &str, cut: &RackPartitionStatus, packets: &Packets, words: &str) {
    let status = cluster.until_phase(name, &[Phase::Aborted]).await;
    let message = status.message.unwrap_or_default();
    assert!(message.contains("aborted by spec.abortWhen") && message.contains(words), "{name}: {message}");
    let heal_at = cut.schedule.as_ref().expect("a schedule").heal_at.0;
    assert!(Timestamp::now() < heal_at, "{name} ended by its windows");
    let token = cluster.plan_of(name).await.expect("a plan").heal.token_bytes().expect("a token");
    packets.assert_everywhere(&token);
    cluster.until_wound_up(name).await;
}

#[tokio::test]
async fn a_condition_that_is_met_ends_the_cut() {
    let cluster = Cluster::start().await;
    let _replica = Replica::start(&cluster.plane, GOOD.0, GOOD.1);
    let packets = Packets::receive(&cluster);

    let shop = Server::start("200 OK", json!({})).await;
    let http = json!({"http": [{"url": format!("http://{}/healthz", shop.address)}], "holdsFor": "2s"});
    let (_agents, cut) = until_cut(&cluster, "http", http).await;
    assert!(shop.asked.lock().unwrap().starts_with("GET /healthz "));
    shop.say("503 Service Unavailable", json!({}));
    assert_ended(&cluster, "http", &cut, &packets, "answers 503").await;

    let prometheus = Server::start("200 OK", vector(&[])).await;
    let url = format!("http://{}/", prometheus.address);
    let query = json!({"prometheus": [{"url": url, "query": "up == 0"}], "holdsFor": "0s"});
    let (_agents, cut) = until_cut(&cluster, "query", query.clone()).await;
    assert!(prometheus.asked.lock().unwrap().starts_with("GET /api/v1/query?query=up+%3D%3D+0 "));
    prometheus.say("200 OK", vector(&[json!({"metric": {}, "value": [0, "1"]})]));
    assert_ended(&cluster, "query", &cut, &packets, "up == 0 has 1 results").await;

    // Who can't be asked may have been cut off, and with it whoever would have said stop.
    prometheus.say("200 OK", vector(&[]));
    let (_agents, cut) = until_cut(&cluster, "gone", query).await;
    prometheus.task.abort();
    assert_ended(&cluster, "gone", &cut, &packets, "can't be asked").await;

    let deployments = Api::<Deployment>::namespaced(cluster.client.clone(), "default");
    cluster.create(&deployments, workload("web", &json!({"replicas": 2}))).await;
    says(&deployments, "web", json!({"replicas": 2, "readyReplicas": 2, "observedGeneration": 1})).await;
    let below = json!({"workloads": [{"namespace": "default", "name": "web", "readyBelow": 2}], "holdsFor": "1s"});
    let (_agents, cut) = until_cut(&cluster, "workload", below).await;
    says(&deployments, "web", json!({"replicas": 2, "readyReplicas": 1, "observedGeneration": 1})).await;
    assert_ended(&cluster, "workload", &cut, &packets, "default/web has 1 ready pods, fewer than 2").await;
}

/// Each in the field of its own kind.
#[tokio::test]
async fn a_stateful_set_or_a_daemon_set_with_too_few_ready_pods_ends_the_cut() {
    let cluster = Cluster::start().await;
    let _replica = Replica::start(&cluster.plane, GOOD.0, GOOD.1);
    let packets = Packets::receive(&cluster);
    let sets = Api::<StatefulSet>::namespaced(cluster.client.clone(), "default");
    cluster.create(&sets, workload("db", &json!({"replicas": 3, "serviceName": "db"}))).await;
    says(&sets, "db", json!({"replicas": 3, "readyReplicas": 3, "observedGeneration": 1})).await;
    let daemons = Api::<DaemonSet>::namespaced(cluster.client.clone(), "default");
    cluster.create(&daemons, workload("log", &json!({}))).await;
    says(&daemons, "log", json!({"desiredNumberScheduled": 6, "numberReady": 6, "observedGeneration": 1})).await;
    let below = |kind: &str, name: &str, least: u32| json!({"kind": kind, "namespace": "default", "name": name, "readyBelow": least});
    let both = json!({
        "workloads": [below("StatefulSet", "db", 2), below("DaemonSet", "log", 6)], "holdsFor": "0s",
    });

    let (_agents, cut) = until_cut(&cluster, "stateful", both.clone()).await;
    says(&sets, "db", json!({"readyReplicas": 1})).await;
    assert_ended(&cluster, "stateful", &cut, &packets, "StatefulSet default/db has 1 ready pods, fewer than 2").await;

    says(&sets, "db", json!({"readyReplicas": 3})).await;
    packets.forget();
    let (_agents, cut) = until_cut(&cluster, "daemons", both).await;
    says(&daemons, "log", json!({"numberReady": 5})).await;
    assert_ended(&cluster, "daemons", &cut, &packets, "DaemonSet default/log has 5 ready pods, fewer than 6").await;
}

#[tokio::test]
async fn a_condition_that_is_met_before_keeps_from_cutting() {
    let cluster = Cluster::start().await;
    let _replica = Replica::start_with(&cluster.plane, GOOD.0, GOOD.1, Duration::from_secs(15));
    let prometheus =
        Server::start("200 OK", json!({"status": "success", "data": {"resultType": "scalar", "result": [0, "1"]}}))
            .await;
    let url = format!("http://{}", prometheus.address);
    let query = json!({"prometheus": [{"url": url, "query": "1"}], "holdsFor": "10m"});
    cluster.begin("run", json!({"abortWhen": query})).await;
    let _agents = Agents::play(&cluster, "run", &[]);
    let status = cluster.until_phase("run", &[Phase::Refused]).await;
    let message = status.message.clone().unwrap_or_default();
    assert!(message.contains("spec.abortWhen.prometheus") && message.contains("not a vector"), "{message}");
    assert!(status.schedule.is_none());
    cluster.until_wound_up("run").await;

    // Not only where it can't be seen. However long it would have to hold in the cut.
    let daemons = Api::<DaemonSet>::namespaced(cluster.client.clone(), "default");
    cluster.create(&daemons, workload("log", &json!({}))).await;
    says(&daemons, "log", json!({"desiredNumberScheduled": 6, "numberReady": 5})).await;
    let below = json!({"kind": "DaemonSet", "namespace": "default", "name": "log", "readyBelow": 6});
    cluster.begin("below", json!({"abortWhen": {"workloads": [below], "holdsFor": "10m"}})).await;
    let _agents = Agents::play(&cluster, "below", &[]);
    let status = cluster.until_phase("below", &[Phase::Refused]).await;
    let message = status.message.clone().unwrap_or_default();
    assert!(message.contains("DaemonSet default/log has 5 ready pods, fewer than 6"), "{message}");
    assert!(status.schedule.is_none());
}

/// Where the API is what was lost, no step of the run can be taken, and yet the nodes are told.
#[tokio::test]
async fn nodes_are_healed_while_the_api_is_silent() {
    let cluster = Cluster::start().await;
    let _replica = Replica::start(&cluster.plane, GOOD.0, GOOD.1);
    let packets = Packets::receive(&cluster);
    let (_agents, cut) = until_cut(&cluster, "silent", json!({"apiUnavailable": "4s"})).await;
    let token = cluster.plan_of("silent").await.expect("a plan").heal.token_bytes().expect("a token");
    packets.forget();
    cluster.plane.freeze();
    let told = until_or(SOON, || async { packets.are_everywhere(&token).then_some(()) }).await;
    cluster.plane.thaw();
    assert!(told.is_some(), "no heal packets arrived while the API was silent");
    assert_ended(&cluster, "silent", &cut, &packets, "spec.abortWhen.apiUnavailable 4 s").await;
}
