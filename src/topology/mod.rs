//! What the cluster looks like: racks, nodes, etcd members, API servers, Leases, pods and the timers that rule them.
//!
//! Plain data without a client. The operator gathers it, `ConfigMap`s carry it, and everything pure works on it.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// The cluster at one moment, as far as a plan needs it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Snapshot {
    /// The node label whose values are racks here.
    pub rack_label: String,
    pub nodes: Vec<Node>,
    pub etcd: Vec<EtcdMember>,
    pub api_servers: Vec<ApiServer>,
    /// What takes part and is no node, the control-plane endpoint among them.
    pub endpoints: Vec<Endpoint>,
    pub leases: Vec<Lease>,
    /// Components that have no Lease, where nobody may read whether they have a lock by annotation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unread_locks: Vec<String>,
    /// Leases that were asked for and are not among these, in words: those of which namespace, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unread_leases: Vec<String>,
    /// How API servers keep the endpoints of the Service `kubernetes`; without it, as upstream does by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_reconciler: Option<EndpointReconciler>,
    /// Flags that a prediction reads and on which the pods of one component do not agree, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unlike_flags: Vec<String>,
    pub pods: Vec<Pod>,
    pub timers: Timers,
    /// Replicas of this operator.
    pub operators: Vec<OperatorReplica>,
    /// Pods of namespaces that no run may cut off, without those that run on every node anyway.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub protected_pods: Vec<ProtectedPod>,
    /// Disruption budgets of the observed pods' namespaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<Budget>,
    /// Nodes of members of etcd that ask for votes without asking first whether they would get them (PreVote).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub without_pre_vote: Vec<String>,
    /// The cluster carries its owner's consent, where one is asked for.
    pub opted_in: bool,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProtectedPod {
    pub namespace: String,
    pub name: String,
    pub node: String,
}

#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Node {
    pub name: String,
    /// Value of the rack label.
    pub rack: Option<String>,
    /// The rack in which no run may cut it off, by the label of the cluster's owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protected: Option<String>,
    /// What the node lifecycle controller takes for a failure domain: the value of `topology.kubernetes.io/zone`, with that of
    /// `topology.kubernetes.io/region` before it where there is one.
    pub zone: Option<String>,
    /// Its label `node.kubernetes.io/exclude-disruption` takes it out of the count of its zone's unready nodes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub excluded_from_disruption: bool,
    pub ready: bool,
    /// Where its kubelet listens, by the node's own status.
    pub kubelet_port: u16,
    pub addresses: Vec<IpAddr>,
    /// Those of them by which nodes know each other; empty: all.
    pub internal: Vec<IpAddr>,
    #[schemars(with = "Vec<String>")]
    pub pod_cidrs: Vec<IpNet>,
    /// Of each family an address that a pod there has, of the pod that is likely to stay longest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<IpAddr>,
}

impl Default for Node {
    fn default() -> Self {
        Node {
            name: String::new(),
            rack: None,
            protected: None,
            zone: None,
            excluded_from_disruption: false,
            ready: false,
            kubelet_port: KUBELET_PORT,
            addresses: Vec::new(),
            internal: Vec::new(),
            pod_cidrs: Vec::new(),
            pods: Vec::new(),
        }
    }
}

/// Port of a kubelet that does not say (`pkg/cluster/ports`, KubeletPort).
pub const KUBELET_PORT: u16 = 10250;

/// A voting member of etcd.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EtcdMember {
    /// The node it runs on (stacked), or the endpoint that it is (external).
    pub node: String,
    /// Whether it leads, where that is known.
    pub leads: Option<bool>,
    /// Ports of its client and peer URLs.
    pub client_port: u16,
    pub peer_port: u16,
    /// `--name`, `--initial-advertise-peer-urls` and `--data-dir` of its static pod, as they stand there. Empty where they could not be
    /// read.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub peer_urls: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub data_dir: String,
}

/// Name of the control-plane endpoint among members, where it is no node.
pub const CONTROL_PLANE_ENDPOINT: &str = "control-plane-endpoint";

/// An API server by its own address, not through a Service or a load balancer.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiServer {
    /// The node it runs on, or its address where that is no node.
    pub name: String,
    pub address: SocketAddr,
}

/// Something with addresses that is no node.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    pub name: String,
    /// `None`: outside of every rack.
    pub rack: Option<String>,
    #[schemars(with = "Vec<String>")]
    pub cidrs: Vec<IpNet>,
    pub ports: Vec<u16>,
    /// Nodes also drop what they send there, after DNAT.
    pub egress: bool,
}

/// A Lease of a component that elects a leader.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Lease {
    pub namespace: String,
    pub name: String,
    /// The holder's identity.
    pub holder: String,
    /// The node the holder runs on, where the identity or a pod tells.
    pub holder_node: Option<String>,
    pub transitions: i32,
    /// LD, seconds, from the Lease itself.
    pub lease_duration: f64,
    /// RD and RP, seconds.
    pub renew_deadline: Timer,
    pub retry_period: Timer,
    /// Nodes on which another candidate runs.
    pub candidate_nodes: Vec<String>,
    /// Where pods hold it and not components of the control plane: its holder's pod, and those that have the same controller.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<Candidate>,
    /// How its holder is picked where leader election is coordinated: the Lease's own `strategy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
}

/// A pod that holds a Lease or may take it.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Candidate {
    pub pod: String,
    pub node: String,
}

/// The host of a process that elects as client-go's do: its identity is the host's name, or that with `_` and more behind it. A pod of the
/// host's network has its node's, any other one its own name. Neither has a `_` in it (RFC 1123), so that it ends at the first one.
pub fn host_of(identity: &str) -> &str {
    identity.split_once('_').map_or(identity, |(host, _)| host)
}

impl Lease {
    /// `namespace/name`, as spans and predictions call it.
    pub fn subject(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
    /// The node of whoever goes by this identity: its pod's, where it is one of those that were known, else its host.
    pub fn node_of<'a>(&'a self, identity: &'a str) -> &'a str {
        let host = host_of(identity);
        self.pods.iter().find(|p| p.pod == host).map_or(host, |p| p.node.as_str())
    }
}

/// kube-apiserver `--endpoint-reconciler-type` (`pkg/controlplane/reconcilers/reconcilers.go`).
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndpointReconciler {
    /// Whoever does not renew its key is dropped by the others.
    Lease,
    /// Nobody is dropped before there are more than were told.
    MasterCount,
    /// API servers leave them alone.
    None,
}

/// A pod of the observed workloads.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub node: String,
    /// Kind of the controlling owner: ReplicaSet, StatefulSet, DaemonSet, Job, Node (static pods); None for a bare pod.
    pub owner_kind: Option<String>,
    pub owner_name: Option<String>,
    pub ready: bool,
    /// Its containers are started anew however they end: restartPolicy Always, as where a snapshot does not say.
    pub restart_always: bool,
    /// Seconds for which it tolerates `node.kubernetes.io/unreachable:NoExecute`; None: for ever.
    pub tolerates_unreachable: Option<f64>,
    pub grace_period: f64,
    /// Containers of the pod, without init containers.
    pub containers: Vec<String>,
}

impl Default for Pod {
    fn default() -> Self {
        Pod {
            namespace: String::new(),
            name: String::new(),
            uid: String::new(),
            node: String::new(),
            owner_kind: None,
            owner_name: None,
            ready: false,
            restart_always: true,
            tolerates_unreachable: None,
            grace_period: 0.0,
            containers: Vec::new(),
        }
    }
}

impl Pod {
    /// `namespace/name`, as spans and predictions call it.
    pub fn subject(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// A disruption budget.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Budget {
    pub namespace: String,
    pub name: String,
    /// Healthy pods that it wants, by its own status; None: its status does not say so yet.
    pub desired_healthy: Option<u32>,
    /// Names of the Ready pods that it selects, observed or not.
    pub healthy: Vec<String>,
}

impl Budget {
    /// `namespace/name`, as predictions call it.
    pub fn subject(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// A value in seconds and where it comes from.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Timer {
    pub seconds: f64,
    /// `--flag of pod` where it was read.
    pub source: String,
    /// True where it could not be read.
    pub assumed: bool,
}

impl Timer {
    pub fn read(seconds: f64, source: impl Into<String>) -> Self {
        Timer { seconds, source: source.into(), assumed: false }
    }
    pub fn assumed(seconds: f64, source: impl Into<String>) -> Self {
        Timer { seconds, source: source.into(), assumed: true }
    }
}

/// Timers of the cluster that a prediction needs.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Timers {
    /// kube-controller-manager `--node-monitor-grace-period`.
    pub node_monitor_grace: Timer,
    /// kube-controller-manager `--node-monitor-period`.
    pub node_monitor_period: Timer,
    /// kube-controller-manager `--node-eviction-rate`, nodes per second.
    pub node_eviction_rate: Timer,
    /// How often a kubelet renews its node Lease: a quarter of the Lease's duration.
    pub node_lease_renew: Timer,
    /// etcd `--election-timeout`.
    pub etcd_election: Timer,
    /// kube-controller-manager `--secondary-node-eviction-rate`, nodes per second. This one and those below may be missing: a
    /// prediction then assumes upstream's defaults, and says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secondary_eviction_rate: Option<Timer>,
    /// kube-controller-manager `--unhealthy-zone-threshold`, a share of nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unhealthy_zone_share: Option<Timer>,
    /// kube-controller-manager `--large-cluster-size-threshold`, nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub large_zone_nodes: Option<Timer>,
    /// The longer of kube-apiserver `--etcd-healthcheck-timeout` and `--etcd-readycheck-timeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd_check: Option<Timer>,
    /// `periodSeconds` of kube-apiserver's liveness probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub liveness_period: Option<Timer>,
    /// `failureThreshold` of that probe, a number of failures in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub liveness_failures: Option<Timer>,
    /// How long kube-apiserver has to end when that probe has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_server_grace: Option<Timer>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OperatorReplica {
    pub pod: String,
    pub node: String,
    pub ready: bool,
}

impl Snapshot {
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|n| n.name == name)
    }
    /// The rack of a node or an endpoint.
    pub fn rack_of(&self, member: &str) -> Option<&str> {
        let of_node = self.node(member).map(|n| &n.rack);
        let rack = of_node.or_else(|| self.endpoints.iter().find(|e| e.name == member).map(|e| &e.rack));
        rack?.as_deref()
    }
    /// Endpoints that pass requests on to API servers: those that serve a port of theirs, and the control plane's own, which may
    /// serve another one.
    pub fn relays(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().filter(|e| self.relayed_ports(e).next().is_some())
    }
    /// On which of its ports an endpoint passes requests on to API servers.
    pub fn relayed_ports<'a>(&'a self, endpoint: &'a Endpoint) -> impl Iterator<Item = u16> + 'a {
        let is_own = endpoint.name == CONTROL_PLANE_ENDPOINT;
        let serves = move |port: &u16| is_own || self.api_servers.iter().any(|a| a.address.port() == *port);
        endpoint.ports.iter().copied().filter(serves)
    }
    /// All racks, sorted.
    pub fn racks(&self) -> Vec<&str> {
        let mut racks: Vec<_> = self
            .nodes
            .iter()
            .filter_map(|n| n.rack.as_deref())
            .chain(self.endpoints.iter().filter_map(|e| e.rack.as_deref()))
            .collect();
        racks.sort_unstable();
        racks.dedup();
        racks
    }
}
