//! What the operator is told by its Deployment.

use crate::{
    api::{Guards, parse_length},
    fault::Policy,
};
use clap::Args;
use std::time::Duration;

/// Set by the chart, by environment.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// Identity in the leader election.
    #[arg(long, env = "POD_NAME")]
    pub pod: String,
    /// The operator's namespace; its Lease is there.
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: String,
    /// The node this replica runs on.
    #[arg(long, env = "NODE_NAME")]
    pub node: String,
    /// Agents have this long to arm; a slow image pull is the usual reason for more than seconds.
    #[arg(long, env = "ARM_DEADLINE", default_value = "3m", value_parser = parse_length)]
    pub arm_deadline: kube::core::Duration,
    /// Where metrics and health are served. 0: nowhere.
    #[arg(long, env = "METRICS_PORT", default_value_t = 0)]
    pub metrics_port: u16,
    /// Namespaces whose Events are written down. None: no Event is read.
    #[arg(long, env = "EVENT_NAMESPACES", value_delimiter = ',')]
    pub event_namespaces: Vec<String>,
    /// Namespaces whose Leases are looked at, beside those of `kube-system`.
    #[arg(long, env = "LEASE_NAMESPACES", value_delimiter = ',')]
    pub lease_namespaces: Vec<String>,
    #[command(flatten)]
    pub agent: AgentSettings,
    #[command(flatten)]
    pub policy: PolicySettings,
}

impl Settings {
    /// How long a run with these guards may take to arm. The deadline has room for etcd to be watched as long as usual; what a run asks
    /// for beyond comes on top.
    pub fn arms_within(&self, guards: &Guards) -> Duration {
        Duration::from(self.arm_deadline) + guards.watched_longer()
    }

    /// Namespaces whose Events may be read.
    pub fn event_namespaces(&self) -> Vec<String> {
        words(&self.event_namespaces)
    }
    /// Namespaces whose Leases may be read, beside those of `kube-system`.
    pub fn lease_namespaces(&self) -> Vec<String> {
        words(&self.lease_namespaces)
    }
}

/// An environment variable that is set to nothing is a list of one empty word.
fn words(list: &[String]) -> Vec<String> {
    list.iter().filter(|w| !w.is_empty()).cloned().collect()
}

/// What the cluster's owner allows any run.
#[derive(Args, Clone, Debug)]
pub struct PolicySettings {
    /// No cut lasts longer than this.
    #[arg(long = "policy-max-duration", env = "POLICY_MAX_DURATION", default_value = "1h", value_parser = parse_length)]
    pub max_duration: kube::core::Duration,
    /// Share of the nodes that may lose the API.
    #[arg(long = "policy-max-nodes-percent", env = "POLICY_MAX_NODES_PERCENT", default_value_t = 100,
        value_parser = clap::value_parser!(u8).range(1..=100))]
    pub max_nodes_percent: u8,
    /// Racks of which no node may lose the API.
    #[arg(long = "policy-protected-racks", env = "POLICY_PROTECTED_RACKS", value_delimiter = ',')]
    pub protected_racks: Vec<String>,
    /// The node label whose values the protected racks are.
    #[arg(long = "policy-rack-label", env = "POLICY_RACK_LABEL", default_value = "topology.kubernetes.io/zone")]
    pub rack_label: String,
    /// Namespaces of whose pods no node may lose the API.
    #[arg(long = "policy-protected-namespaces", env = "POLICY_PROTECTED_NAMESPACES", value_delimiter = ',')]
    pub protected_namespaces: Vec<String>,
    /// A label that the namespace kube-system must have, with the value `true`. Empty: none.
    #[arg(long = "policy-opt-in-label", env = "POLICY_OPT_IN_LABEL", default_value = "")]
    pub opt_in_label: String,
}

impl PolicySettings {
    pub fn policy(&self) -> Policy {
        Policy {
            max_duration: self.max_duration.into(),
            max_nodes_percent: self.max_nodes_percent,
            rack_label: self.rack_label.clone(),
            protected_racks: words(&self.protected_racks),
            protected_namespaces: words(&self.protected_namespaces),
            opt_in_label: self.opt_in_label.clone(),
        }
    }
}

/// How agents are started.
#[derive(Args, Clone, Debug)]
pub struct AgentSettings {
    /// Where agents, plans and records are; privileged pods must be allowed there.
    #[arg(long, env = "AGENT_NAMESPACE", default_value = "rackpartition-agents")]
    pub agent_namespace: String,
    #[arg(long = "agent-image", env = "AGENT_IMAGE")]
    pub image: String,
    #[arg(long = "agent-image-pull-policy", env = "AGENT_IMAGE_PULL_POLICY", default_value = "IfNotPresent")]
    pub image_pull_policy: String,
    #[arg(long = "agent-image-pull-secrets", env = "AGENT_IMAGE_PULL_SECRETS", value_delimiter = ',')]
    pub image_pull_secrets: Vec<String>,
    #[arg(long = "agent-service-account", env = "AGENT_SERVICE_ACCOUNT", default_value = "rackpartition-agent")]
    pub service_account: String,
    /// Run agents privileged, where SELinux or AppArmor keep the runtime socket from them otherwise.
    #[arg(long = "agent-privileged", env = "AGENT_PRIVILEGED", default_value_t = false, action = clap::ArgAction::Set)]
    pub privileged: bool,
    /// The container runtime's socket on the nodes. Empty: containers are not read.
    #[arg(
        long = "agent-runtime-socket",
        env = "AGENT_RUNTIME_SOCKET",
        default_value = "/run/containerd/containerd.sock"
    )]
    pub runtime_socket: String,
    /// The folder on control-plane nodes with the certificate and key for etcd's client port, by kubeadm's names. Empty: etcd is read by
    /// its metrics only.
    #[arg(long = "agent-etcd-certificates", env = "AGENT_ETCD_CERTIFICATES", default_value = "")]
    pub etcd_certificates: String,
    /// The folder on the nodes with the logs of their pods. Empty: no log is read.
    #[arg(long = "agent-pod-logs", env = "AGENT_POD_LOGS", default_value = "")]
    pub pod_logs: String,
    /// Whether agents ask controller managers and schedulers by their metrics whether they lead.
    #[arg(
        long = "agent-leader-metrics",
        env = "AGENT_LEADER_METRICS",
        default_value_t = false,
        action = clap::ArgAction::Set
    )]
    pub leader_metrics: bool,
    /// Where agents keep their journal on the nodes.
    #[arg(long = "agent-state-dir", env = "AGENT_STATE_DIR", default_value = "/var/lib/rackpartition")]
    pub state_dir: String,
}

#[cfg(test)]
impl AgentSettings {
    /// Agents that are given nothing of their nodes but what every one needs.
    pub fn plain() -> Self {
        AgentSettings {
            agent_namespace: "agents".into(),
            image: "rackpartition:test".into(),
            image_pull_policy: "IfNotPresent".into(),
            image_pull_secrets: Vec::new(),
            service_account: "agent".into(),
            privileged: false,
            runtime_socket: String::new(),
            etcd_certificates: String::new(),
            pod_logs: String::new(),
            leader_metrics: false,
            state_dir: "/var/lib/rackpartition".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        settings: Settings,
    }

    #[test]
    fn a_run_that_watches_etcd_for_longer_may_arm_for_longer() {
        let words = ["operator", "--pod", "p", "--namespace", "n", "--node", "w1", "--agent-image", "i"];
        let CommandLine { settings } = CommandLine::parse_from(words.into_iter().chain(["--arm-deadline", "3m"]));
        let quiet = |seconds| Guards { etcd_quiet_for: Duration::from_secs(seconds).into(), ..Guards::default() };
        let within = |guards: &Guards| settings.arms_within(guards).as_secs();
        assert_eq!(within(&Guards::default()), 180);
        assert_eq!(within(&quiet(1)), 180, "images take as long to be pulled");
        assert_eq!(within(&quiet(600)), 180 + 585);
        let unwatched = Guards { allow_unhealthy_baseline: true, ..quiet(600) };
        assert_eq!(within(&unwatched), 180, "nobody waits for etcd");
    }

    #[test]
    fn a_list_that_is_set_to_nothing_has_no_words() {
        let list = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        assert!(words(&list(&[""])).is_empty() && words(&[]).is_empty());
        assert_eq!(words(&list(&["default", "", "shop"])), ["default", "shop"]);
    }
}
