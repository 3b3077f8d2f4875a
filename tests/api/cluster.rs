//! Six nodes in three racks, as objects: what the operator reads before it plans.

use crate::{
    control_plane::ControlPlane,
    replica::{AGENTS, NAMESPACE},
    wait::{SOON, until, until_or},
};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    coordination::v1::Lease,
    core::v1::{ConfigMap, Namespace, Node, Pod},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use rackpartition::{
    api::{FINALIZER, NodeRecord, Phase, RackPartition, RackPartitionStatus},
    fault::RunPlan,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{
    cell::RefCell,
    net::Ipv4Addr,
    sync::atomic::{AtomicU8, Ordering},
};
use tracing_subscriber::EnvFilter;

/// One control-plane node and one worker for each of the racks r1 to r3. The only API server is c2's.
pub const NODES: [&str; 6] = ["c1", "c2", "c3", "w1", "w2", "w3"];
/// The operator's replicas: one on the side that a cut of r1 leaves writable, one in r1.
pub const GOOD: (&str, &str) = ("operator-good", "w2");
pub const BAD: (&str, &str) = ("operator-bad", "w1");

pub struct Cluster {
    pub plane: ControlPlane,
    pub client: Client,
    /// Loopback addresses for this cluster's nodes, so that heal packets arrive at the test and nowhere else.
    net: u8,
}

impl Cluster {
    pub async fn start() -> Self {
        static NETS: AtomicU8 = AtomicU8::new(1);
        let filter =
            EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn,kube_client=off,rackpartition=info".into());
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_test_writer().try_init();
        let plane = ControlPlane::start().await;
        let cluster = Cluster { client: plane.client.clone(), plane, net: NETS.fetch_add(1, Ordering::Relaxed) };
        cluster.fill().await;
        cluster
    }

    async fn fill(&self) {
        for name in [NAMESPACE, AGENTS] {
            self.create(&Api::<Namespace>::all(self.client.clone()), json!({"metadata": {"name": name}})).await;
        }
        for name in NODES {
            self.add_node(name).await;
        }
        for node in ["c1", "c2", "c3"] {
            for (component, command) in [
                ("etcd", "--election-timeout=1000"),
                ("kube-controller-manager", "--node-monitor-grace-period=50s"),
                ("kube-scheduler", "--leader-elect=true"),
            ] {
                let name = format!("{component}-{node}");
                let pod = pod(&name, node, json!({"component": component}), &[component, command]);
                self.add_pod("kube-system", pod, true).await;
            }
        }
        for component in ["kube-controller-manager", "kube-scheduler"] {
            let lease = json!({
                "metadata": {"name": component, "namespace": "kube-system"},
                "spec": {"holderIdentity": "c1_4c1b", "leaseDurationSeconds": 15, "leaseTransitions": 3},
            });
            self.create(&Api::<Lease>::namespaced(self.client.clone(), "kube-system"), lease).await;
        }
        let config = json!({"metadata": {"name": "kubeadm-config", "namespace": "kube-system"},
            "data": {"ClusterConfiguration": "apiVersion: kubeadm.k8s.io/v1beta4\nclusterName: test\n"}});
        self.create(&Api::<ConfigMap>::namespaced(self.client.clone(), "kube-system"), config).await;
        for (name, node) in [GOOD, BAD] {
            self.add_operator_pod(name, node).await;
        }
    }

    async fn add_node(&self, name: &str) {
        let rack = format!("r{}", &name[1..]);
        let node = json!({
            "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": rack}},
        });
        let nodes = Api::<Node>::all(self.client.clone());
        self.create(&nodes, node).await;
        let mut addresses = vec![json!({"type": "InternalIP", "address": self.node_address(name)})];
        if name == "c2" {
            addresses.push(json!({"type": "InternalIP", "address": self.plane.address}));
        }
        let status = json!({"status": {"addresses": addresses}});
        nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.expect("a node's addresses");
        self.set_ready(name, true).await;
    }

    pub fn node_address(&self, name: &str) -> Ipv4Addr {
        let host = NODES.iter().position(|n| *n == name).expect("a node") as u8 + 10;
        Ipv4Addr::new(127, 77, self.net, host)
    }

    pub async fn set_ready(&self, node: &str, ready: bool) {
        let condition = json!([{"type": "Ready", "status": if ready { "True" } else { "False" }}]);
        let status = json!({"status": {"conditions": condition}});
        let nodes = Api::<Node>::all(self.client.clone());
        nodes.patch_status(node, &PatchParams::default(), &Patch::Strategic(status)).await.expect("a node's condition");
    }

    pub async fn add_operator_pod(&self, name: &str, node: &str) {
        let labels = json!({"app.kubernetes.io/name": "rackpartition", "app.kubernetes.io/component": "operator"});
        self.add_pod(NAMESPACE, pod(name, node, labels, &["/rackpartition"]), true).await;
    }

    pub async fn add_pod(&self, namespace: &str, pod: Value, ready: bool) {
        let pods = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let name = pod["metadata"]["name"].as_str().expect("a name").to_owned();
        self.create(&pods, pod).await;
        let status = json!({"status": {"phase": "Running",
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}});
        pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.expect("a pod's status");
    }

    /// Removed at once: nobody is there to end it.
    pub async fn remove_pod(&self, namespace: &str, name: &str) {
        let pods = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let now = DeleteParams { grace_period_seconds: Some(0), ..Default::default() };
        pods.delete(name, &now).await.expect("a pod to remove");
    }

    pub async fn create<K>(&self, api: &Api<K>, object: Value)
    where
        K: Resource + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
    {
        let text = object.to_string();
        let object: K = serde_json::from_value(object).expect("a fixture");
        api.create(&PostParams::default(), &object).await.unwrap_or_else(|e| panic!("failed to create {text}: {e}"));
    }

    pub fn runs(&self) -> Api<RackPartition> {
        Api::all(self.client.clone())
    }

    pub fn records(&self) -> Api<NodeRecord> {
        Api::namespaced(self.client.clone(), AGENTS)
    }

    pub fn daemon_sets(&self) -> Api<DaemonSet> {
        Api::namespaced(self.client.clone(), AGENTS)
    }

    pub fn plans(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), AGENTS)
    }

    pub async fn leader(&self) -> Option<String> {
        let leases = Api::<Lease>::namespaced(self.client.clone(), NAMESPACE);
        let lease = leases.get_opt("rackpartition-operator").await.ok()??;
        lease.spec?.holder_identity.filter(|h| !h.is_empty())
    }

    pub async fn until_leader(&self, pod: &str) {
        until(&format!("{pod} to lead"), SOON, || async { (self.leader().await? == pod).then_some(()) }).await;
    }

    /// Begins a run of r1 unless `spec` says otherwise; its fields replace the usual ones.
    pub async fn begin(&self, name: &str, spec: Value) -> RackPartition {
        self.try_begin(name, spec).await.unwrap_or_else(|e| panic!("failed to create run {name}: {e}"))
    }

    pub async fn try_begin(&self, name: &str, spec: Value) -> kube::Result<RackPartition> {
        let mut run = json!({
            "apiVersion": "rackpartition.io/v1alpha1", "kind": "RackPartition", "metadata": {"name": name},
            // Clocks are the same here, but answers come late on a busy machine.
            "spec": {"cut": {"isolate": {"racks": ["r1"]}}, "duration": "10s", "recovery": "10s",
                "guards": {"maxClockError": "900ms"}},
        });
        for (key, value) in spec.as_object().expect("an object") {
            run["spec"][key] = value.clone();
        }
        let request = kube::core::Request::new("/apis/rackpartition.io/v1alpha1/rackpartitions");
        // As written, not as our types would write it.
        let request = request.create(&PostParams::default(), run.to_string().into_bytes()).expect("a request");
        self.client.request(request).await
    }

    pub async fn status(&self, run: &str) -> Option<RackPartitionStatus> {
        self.runs().get_opt(run).await.ok()??.status
    }

    /// Waits for one of these phases. Panics with what the run says when it has ended in another one.
    pub async fn until_phase(&self, run: &str, wanted: &[Phase]) -> RackPartitionStatus {
        let last = RefCell::new(String::new());
        let answer = until_or(SOON * 2, || async {
            let status = self.status(run).await?;
            let phase = status.phase?;
            last.replace(format!("{phase:?}: {}", status.message.as_deref().unwrap_or_default()));
            if wanted.contains(&phase) {
                return Some(status);
            }
            assert!(!phase.is_final(), "run {run} is {phase:?}, not {wanted:?}: {:?}", status.message);
            None
        })
        .await;
        answer.unwrap_or_else(|| panic!("run {run} has not become {wanted:?} in time; it is {}", last.into_inner()))
    }

    /// Waits until nothing holds the run any more, and checks that nothing of it is left but its records.
    pub async fn until_wound_up(&self, run: &str) -> Option<RackPartition> {
        let left = until(&format!("run {run} to be wound up"), SOON, || async {
            match self.runs().get_opt(run).await.ok()? {
                Some(run) if run.finalizers().iter().any(|f| f == FINALIZER) => None,
                other => Some(other),
            }
        })
        .await;
        let of_run = of_run(run);
        assert!(self.daemon_sets().list(&of_run).await.expect("an answer").items.is_empty(), "the DaemonSet is left");
        assert!(self.plan_map_of(run).await.is_none(), "the plan is left");
        let leases = Api::<Lease>::namespaced(self.client.clone(), AGENTS);
        // An API server that froze in between may have taken a canary's last write late.
        until("the canary Leases to go", SOON, || async {
            leases.list(&of_run).await.ok()?.items.is_empty().then_some(())
        })
        .await;
        left
    }

    /// Deletes a run and waits for the end of it.
    pub async fn delete(&self, run: &str) {
        self.runs().delete(run, &DeleteParams::background()).await.expect("a run to delete");
        until(&format!("run {run} to be gone"), SOON, || async {
            self.runs().get_opt(run).await.ok()?.is_none().then_some(())
        })
        .await;
        self.until_wound_up(run).await;
    }

    pub async fn patch(&self, run: &str, patch: Value) -> kube::Result<RackPartition> {
        self.runs().patch(run, &PatchParams::default(), &Patch::Merge(patch)).await
    }

    pub async fn plan_of(&self, run: &str) -> Option<RunPlan> {
        serde_json::from_str(self.plan_map_of(run).await?.data?.get("plan.json")?).ok()
    }

    pub async fn plan_map_of(&self, run: &str) -> Option<ConfigMap> {
        self.plans().list(&of_run(run)).await.ok()?.items.pop()
    }
}

/// Everything that a run owns.
pub fn of_run(run: &str) -> ListParams {
    ListParams::default().labels(&format!("rackpartition.io/run={run}"))
}

pub fn pod(name: &str, node: &str, labels: Value, command: &[&str]) -> Value {
    json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "none", "command": command}]},
    })
}
