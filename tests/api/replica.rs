//! One replica of the operator, in a runtime of its own: it can be asked to end, and it can die.

use crate::control_plane::ControlPlane;
use rackpartition::{
    connection::Route,
    operator::{self, AgentSettings, PolicySettings, Settings},
};
use std::time::Duration;
use tokio::{
    runtime::{Builder, Runtime},
    sync::oneshot,
    task::JoinHandle,
};

pub const NAMESPACE: &str = "rackpartition";
pub const AGENTS: &str = "rackpartition-agents";
/// Time for agents that are played to arm.
const ARMED_WITHIN: Duration = Duration::from_secs(120);

pub struct Replica {
    runtime: Option<Runtime>,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
}

impl Replica {
    pub fn start(plane: &ControlPlane, pod: &str, node: &str) -> Self {
        Self::start_with(plane, pod, node, ARMED_WITHIN)
    }

    pub fn start_with(plane: &ControlPlane, pod: &str, node: &str, arm_deadline: Duration) -> Self {
        Self::serve(plane, settings(pod, node, arm_deadline))
    }

    /// One that tells its metrics on this port.
    pub fn start_telling(plane: &ControlPlane, pod: &str, node: &str, metrics_port: u16) -> Self {
        Self::serve(plane, Settings { metrics_port, ..settings(pod, node, ARMED_WITHIN) })
    }

    fn serve(plane: &ControlPlane, settings: Settings) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let route = Route::new(plane.config.clone(), &[]);
        let (stop, stopped) = oneshot::channel();
        let task = runtime.spawn(operator::serve_until(settings, route, async {
            let _ = stopped.await;
        }));
        Replica { runtime: Some(runtime), stop: Some(stop), task: Some(task) }
    }

    /// Ends as a process does that is killed: in the middle of whatever it does.
    pub fn crash(mut self) {
        self.end();
    }

    /// Ends as a process does that is asked to.
    pub async fn retire(mut self) {
        let stop = self.stop.take().expect("not asked before");
        stop.send(()).expect("it runs");
        self.task.take().expect("not asked before").await.expect("it ends by itself");
    }

    fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.end();
    }
}

fn settings(pod: &str, node: &str, arm_deadline: Duration) -> Settings {
    Settings {
        pod: pod.into(),
        metrics_port: 0,
        event_namespaces: vec!["default".into(), "kube-system".into()],
        lease_namespaces: vec!["shop".into()],
        namespace: NAMESPACE.into(),
        node: node.into(),
        arm_deadline: arm_deadline.into(),
        agent: AgentSettings {
            agent_namespace: AGENTS.into(),
            image: "rackpartition:test".into(),
            image_pull_policy: "IfNotPresent".into(),
            image_pull_secrets: Vec::new(),
            service_account: "rackpartition-agent".into(),
            privileged: false,
            runtime_socket: "/run/containerd/containerd.sock".into(),
            etcd_certificates: String::new(),
            pod_logs: String::new(),
            leader_metrics: true,
            state_dir: "/var/lib/rackpartition".into(),
        },
        // The chart's defaults, save that any share of nodes may be cut off.
        policy: PolicySettings {
            max_duration: Duration::from_secs(3600).into(),
            max_nodes_percent: 100,
            rack_label: String::new(),
            protected_racks: Vec::new(),
            protected_namespaces: Vec::new(),
            opt_in_label: String::new(),
        },
    }
}
