//! What an observer saw, as spans: from when to when something was in one state.
//!
//! Every source (probes, health checks, containers, Leases, pods, canary writes) is written in this one form. It is bounded by
//! the number of changes and not by the length of a run, people can read it with kubectl, and the judge needs nothing else.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One instant on one machine: its monotonic clock with its wall clock beside it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Moment {
    /// `CLOCK_BOOTTIME` in microseconds since this machine's boot. Not stepped by time synchronisation.
    pub boot_us: i64,
    /// `CLOCK_REALTIME` as this machine had it, not corrected by the measured offset.
    pub wall: MicroTime,
}

/// The source of an observation. It fixes what `subject` and `state` mean.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum SpanKind {
    /// A fresh TCP connection by an agent. Subject `<member>/<port class>`, state `open`, `refused` (an answer: the path is
    /// alive), `silent` (no answer in time) or `unreachable` (the local stack had no route).
    Probe,
    /// A component of this node on localhost. Subject `etcd`, `kube-apiserver`, `kube-controller-manager` or
    /// `kube-scheduler`; state `ok`, `failing` (it answered so) or `down` (nothing answers); detail says what failed.
    Health,
    /// Whether a component of this node believes that it leads, by its metric `leader_election_master_status`. Subject
    /// `kube-controller-manager` or `kube-scheduler`, which is its Lease's name too; id: the socket on which it listens, which is
    /// another one for another process; state `leading` (at least when it was asked) or `not leading`, detail `started=<time>` of its
    /// process, by its node's clock; `unread` (it listens; detail says why it did not tell, and nothing follows from it), or without an
    /// id `down`: nobody listens any more.
    LeaderMetric,
    /// A write through one API server. Subject: the API server's member name; state `acknowledged`, `failed` (refused for sure, as by
    /// 403: an API server without etcd refuses everybody) or `unknown` (no answer in time, a connection that broke, an error of the
    /// server's own: the write may come true).
    Canary,
    /// A numbered write to the register of this node, through its own API server. Subject: the node; states as before; id: the first
    /// number of the stretch, detail: the stretch's numbers and the last one's error. Each number is tried once.
    Register,
    /// A read of a register. By an agent, through its own API server: subject `<whose>/consistent` (no resourceVersion) or
    /// `<whose>/cached` (resourceVersion 0), state `read` (detail `n=<largest number>`), `gone` or `failed`, from and to when it was
    /// asked for. Beside them, with an id, the stalest answer, detail `n=<number> next=<number> acknowledged=<time>` by the
    /// writer's clock, and one that went `backwards`. By the operator: subject: whose, state `read` or `gone`, detail all numbers.
    Reading,
    /// One container by CRI. Subject `<namespace>/<pod>/<container>`, uid: the pod's, id: the container's, state `running`,
    /// `exited`, or `gone` where it vanished while nobody could look; from and to are the runtime's own start and end times, or
    /// the last look's. Subject `unread`, id: a container's of which the runtime did not tell when it ran; state `unread` (detail says
    /// whose and why: it may have run at any time) or, once it told, `read`.
    Container,
    /// A Lease. Subject `<namespace>/<name>`, state: the holder (empty when released), detail `transitions=<n> acquired=<time>
    /// renewed=<time> seen=<time>`: both by the holder's clock, and by the operator's when the last renewal was first seen.
    Lease,
    /// A node's Ready condition. Subject: node, state `True`, `False` or `Unknown`, detail `since=<time>`: the condition's own word of
    /// when it changed last.
    Node,
    /// A node's `NoExecute` taints. Subject: node, state `none` or the taints' keys joined by commas.
    Taint,
    /// A pod of the observed workloads. Subject `<namespace>/<pod>`, uid: its uid, node: where it is bound, state
    /// `<phase>/Ready`, `<phase>/NotReady` or `<phase>/Terminating`, detail: `<owner kind>/<owner name>`.
    Pod,
    /// A pod of the plan in the EndpointSlices of the Services that select it. Subject `<namespace>/<pod>`, node: where it was planned,
    /// state `ready` (in all that have it), `partly` (in some), `unready` (in none of them) or `none` (no EndpointSlice has it). Or an API
    /// server in those of the Service `kubernetes`: subject `default/kubernetes/<member>`, state `ready` or `none`.
    Endpoint,
    /// Datagrams of another agent, or of the operator's pod while nodes are armed, that got through to this node. Subject
    /// `<sender>/<way>`, of the operator `operator on <node>/<way>`, state `heard`; every datagram is a sample, from and to are the
    /// kernel's own stamps of the last one in each look.
    Heard,
    /// Datagrams of another agent that came to this node and that its cut took. Subject and samples as before, state `lost`.
    Lost,
    /// Packets that got through to this node from an address that is nobody's. Subject: the address, state `heard`; every packet
    /// is a sample.
    Stranger,
    /// An address on an interface of this node that the plan does not give it. Subject: the address, state `held`. Named and not
    /// trusted: it may move. Subject `addresses`, state `unread`: the kernel did not tell which there are; detail says why.
    Address,
    /// The member of etcd on this node, by its own metrics. Subject `etcd`, state `leads`, `follows` or `alone` (it knows no
    /// leader); subject `etcd/leader`, state `steady` or `changed` (or started anew) since the look before; subject `etcd/disk`, state
    /// `fast` or `slow` (a write to its log took longer than half a second). Both are `unknown` at an agent's first look.
    Etcd,
    /// The member of etcd on this node, by its client port and with the certificates that the cluster's owner lets agents have.
    /// Subject `store`, state `off` (no certificates) or `unread` (detail says why); `store/raft`, id: the member's, state
    /// `leads <term>`, `follows <term>` or `asks <term>` (for votes); `store/alarms`, state `none` or each alarm with the id of its
    /// member, detail version, revision, indices and sizes in bytes; `store/hash/before` and `store/hash/after`, state `<hash> at
    /// <revision> from <compact revision>` or `unread`; `store/panic`, state: the component whose log has a panic that tells of a
    /// broken store.
    Store,
    /// What components told by Events, of the reasons that matter in a cut. Subject `<reason>/<kind>/<namespace>/<name>`, state `Normal` or
    /// `Warning`; from: when the operator saw it first, to: when it saw it counted last, detail `count=<n> last=<time> by=<component>`, the
    /// time by the component's own clock. Subject `left out`, state `unread`: there were more, and what the detail says was not read or not
    /// written down. For people: no check rests on it.
    Event,
    /// Whether everything desired was actual. Subject `cluster`, state `ok`, `waiting` (detail says for what) or `unread` (no answer).
    Convergence,
}

/// Subjects of [`SpanKind::Etcd`].
pub const ETCD: &str = "etcd";
pub const ETCD_LEADER: &str = "etcd/leader";
pub const ETCD_DISK: &str = "etcd/disk";

/// States of a [`SpanKind::LeaderMetric`].
pub const LEADING: &str = "leading";
pub const NOT_LEADING: &str = "not leading";
pub const LEADER_UNREAD: &str = "unread";
pub const LEADER_DOWN: &str = "down";

/// Subject and state of a [`SpanKind::Container`] whose times were not read.
pub const CONTAINER_UNREAD: &str = "unread";
/// Its state once they were.
pub const CONTAINER_READ: &str = "read";

/// Subject and state of a [`SpanKind::Address`] where the kernel did not tell which addresses there are.
pub const ADDRESSES: &str = "addresses";
pub const ADDRESSES_UNREAD: &str = "unread";

/// States of a [`SpanKind::Endpoint`].
pub const ENDPOINT_READY: &str = "ready";
pub const ENDPOINT_PARTLY: &str = "partly";
pub const ENDPOINT_UNREADY: &str = "unready";
pub const ENDPOINT_NONE: &str = "none";
/// What stands before an API server's name in the subject of a [`SpanKind::Endpoint`].
pub const KUBERNETES_SERVICE: &str = "default/kubernetes";

/// State of a [`SpanKind::Convergence`] of which the API did not answer in time: that says nothing of the cluster.
pub const CLUSTER_UNREAD: &str = "unread";

/// What the detail of a [`SpanKind::Node`] tells.
pub const SINCE: &str = "since";

/// From when to when something was seen in one state.
///
/// Consecutive equal observations make one span. Between two spans of a subject lies at most one sampling period unless the
/// observer itself was away.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    pub kind: SpanKind,
    pub subject: String,
    pub state: String,
    /// First time seen in this state.
    pub from: Moment,
    /// Last time seen in this state.
    pub to: Moment,
    /// How many observations make this span.
    pub samples: u32,
    /// Tells two things of one name apart: a pod's uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// A container's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The node a pod is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The latest detail seen, for people and for evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Span {
    /// What follows `name=` in the detail, up to the next blank.
    pub fn told(&self, name: &str) -> Option<&str> {
        self.detail.as_deref()?.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }
}

#[cfg(test)]
impl Span {
    /// One sample, and nothing told beyond what each span has.
    pub fn bare(kind: SpanKind, subject: impl Into<String>, state: &str, from: Moment, to: Moment) -> Self {
        let (subject, state) = (subject.into(), state.into());
        Span { kind, subject, state, from, to, samples: 1, uid: None, id: None, node: None, detail: None }
    }
}
