//! `RackPartition`: one run.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, MicroTime};
use kube::{
    CustomResource, KubeSchema,
    core::{Duration, Rule},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time};

use super::{
    AbortWhen, Cut, Effect, Finding, Flap, NotMade, Onset, Prediction, Side, StoreRevisions, Traffic, Verdict,
};

/// One cut of the cluster: what is cut from what, for how long, and what is watched meanwhile.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[kube(
    group = "rackpartition.io",
    version = "v1alpha1",
    kind = "RackPartition",
    plural = "rackpartitions",
    shortname = "rp",
    category = "chaos",
    status = "RackPartitionStatus",
    derive = "PartialEq",
    doc = "Cuts racks off the rest of the cluster, watches both sides, heals, and says whether the cluster behaved.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Verdict", type_ = "string", json_path = ".status.verdict"),
    printcolumn(name = "Cut", type_ = "string", json_path = ".status.plan.cut"),
    printcolumn(name = "Duration", type_ = "string", json_path = ".spec.duration"),
    printcolumn(name = "Agents", type_ = "string", json_path = ".status.agents.summary", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 40")
        .message("the name must have at most 40 characters: the run's DaemonSet and records are named after it"),
    validation = Rule::new(
        "!has(oldSelf.status) || !has(oldSelf.status.phase) || (self.spec.cut == oldSelf.spec.cut && self.spec.rackLabel == oldSelf.spec.rackLabel && self.spec.duration == oldSelf.spec.duration && self.spec.effect == oldSelf.spec.effect && has(self.spec.traffic) == has(oldSelf.spec.traffic) && (!has(self.spec.traffic) || self.spec.traffic == oldSelf.spec.traffic) && has(self.spec.flap) == has(oldSelf.spec.flap) && (!has(self.spec.flap) || self.spec.flap == oldSelf.spec.flap) && has(self.spec.stagger) == has(oldSelf.spec.stagger) && (!has(self.spec.stagger) || self.spec.stagger == oldSelf.spec.stagger) && self.spec.recovery == oldSelf.spec.recovery && self.spec.workloads == oldSelf.spec.workloads && self.spec.endpoints == oldSelf.spec.endpoints && self.spec.expect == oldSelf.spec.expect && self.spec.guards == oldSelf.spec.guards && has(self.spec.abortWhen) == has(oldSelf.spec.abortWhen) && (!has(self.spec.abortWhen) || self.spec.abortWhen == oldSelf.spec.abortWhen) && self.spec.rehearsal == oldSelf.spec.rehearsal)"
    )
    .message("a run is immutable once it has started, save spec.abort; create another one"),
    validation = Rule::new("!oldSelf.spec.abort || self.spec.abort").message("an abort can't be taken back")
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
pub struct RackPartitionSpec {
    /// The node label whose values are the racks.
    #[serde(default = "default_rack_label")]
    #[schemars(length(min = 1, max = 317))]
    #[x_kube(
        validation = Rule::new("self.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$')")
            .message("give the key of a label, such as topology.kubernetes.io/zone")
    )]
    pub rack_label: String,
    /// What is cut from what.
    pub cut: Cut,
    /// Which packets of a cut edge are hit; all by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub traffic: Vec<Traffic>,
    /// What becomes of them; they vanish by default.
    #[serde(default)]
    pub effect: Effect,
    /// The cut comes and goes within `duration`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flap: Option<Flap>,
    /// Racks heal one after another, this far apart, by name; the last one when `duration` is over. Default: all at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('10m')")
            .message("stagger the heal by 1s to 10m")
    )]
    #[serde(deserialize_with = "super::length_if_any")]
    pub stagger: Option<Duration>,
    /// How long the cut lasts, from 10s to 1h.
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('10s') && duration(self) <= duration('1h')")
            .message("a cut lasts from 10s to 1h")
    )]
    #[schemars(length(max = 32))]
    #[serde(deserialize_with = "super::length")]
    pub duration: Duration,
    /// How long to keep watching after the heal at the most, up to 1h. Damage often comes at the heal.
    #[serde(default = "default_recovery")]
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('10s') && duration(self) <= duration('1h')")
            .message("watch the recovery for 10s to 1h")
    )]
    #[schemars(length(max = 32))]
    #[serde(deserialize_with = "super::length")]
    pub recovery: Duration,
    /// The workloads whose pods and containers are watched; all of every namespace by default.
    #[serde(default)]
    pub workloads: Workloads,
    /// What takes part and is no node: load balancers, external etcd members.
    #[serde(default)]
    #[schemars(length(max = 64))]
    #[x_kube(
        validation = Rule::new("self.all(e, self.exists_one(other, other.name == e.name))")
            .message("give each endpoint a name of its own")
    )]
    pub endpoints: Vec<Endpoint>,
    /// What you accept. It can tighten or loosen a finding, and never turns missing evidence into Pass.
    #[serde(default)]
    pub expect: Expect,
    /// Guards that you open knowingly.
    #[serde(default)]
    pub guards: Guards,
    /// End the run early when one of these is met.
    #[serde(default, skip_serializing_if = "AbortWhen::is_empty")]
    pub abort_when: AbortWhen,
    /// Do everything but cut: every guard is asked about the cut, agents load tables and windows without a rule of the cut, all is
    /// watched and judged, and nothing is predicted to happen. Whatever a rehearsal finds, no cut has caused.
    #[serde(default)]
    pub rehearsal: bool,
    /// End the run early: heal at once.
    #[serde(default)]
    pub abort: bool,
}

/// What `metav1.LabelSelectorAsSelector` takes: its schema alone allows operators that there are not.
fn selector() -> Rule {
    Rule::new(
        "!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator in ['In', 'NotIn'] ? has(e.values) && size(e.values) > 0 : e.operator in ['Exists', 'DoesNotExist'] && (!has(e.values) || size(e.values) == 0))",
    )
    .message("match In and NotIn with values, Exists and DoesNotExist without")
}

/// Which pods are watched.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Workloads {
    /// Namespaces by their labels; empty selects all.
    #[serde(default)]
    #[x_kube(validation = selector())]
    pub namespace_selector: LabelSelector,
    /// Pods by their labels; empty selects all.
    #[serde(default)]
    #[x_kube(validation = selector())]
    pub label_selector: LabelSelector,
}

/// Something with addresses that is no node.
#[derive(KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Its addresses, as CIDRs of either family.
    #[schemars(length(min = 1, max = 64), inner(length(max = 43)))]
    #[x_kube(validation = Rule::new("self.all(c, isCIDR(c))").message("give CIDRs, such as 198.18.0.40/32"))]
    pub cidrs: Vec<String>,
    /// The TCP ports it serves, for probes.
    #[serde(default)]
    #[schemars(length(max = 16), inner(range(min = 1)))]
    pub ports: Vec<u16>,
    /// The rack it is in, or `outside`.
    #[serde(default = "outside")]
    #[schemars(length(min = 1, max = 63))]
    pub rack: String,
    /// Nodes that are cut from it also drop what they send there, after DNAT. Dropping its answers ends every conversation; this
    /// is for datagrams and for edges that lead only there.
    #[serde(default)]
    pub egress: bool,
}

/// Nothing in a cluster takes no time.
fn some_time() -> Rule {
    Rule::new("duration(self) > duration('0s')").message("accept more than 0s")
}

/// What you accept.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Expect {
    /// Longest time without an acknowledged write on the writable side. Default: from the prediction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = some_time())]
    #[serde(deserialize_with = "super::length_if_any")]
    pub api_unavailable: Option<Duration>,
    /// Longest time from the cut to a new holder of a Lease. Default: from the prediction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = some_time())]
    #[serde(deserialize_with = "super::length_if_any")]
    pub leader_takeover: Option<Duration>,
    /// Longest time from the heal to a recovered cluster. Default: from the prediction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = some_time())]
    #[serde(deserialize_with = "super::length_if_any")]
    pub recovered_within: Option<Duration>,
}

/// Each guard refuses a run unless opened here.
#[derive(KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Guards {
    /// Allow a cut after which no side has a majority of etcd members, or in which etcd may have no leader for long.
    #[serde(default)]
    pub allow_quorum_loss: bool,
    /// Allow a cut of every API server from every majority of etcd members, or one in which etcd may be led by a member that no API server's member follows.
    #[serde(default)]
    pub allow_api_server_loss: bool,
    /// Allow a cut of every rack from every other.
    #[serde(default)]
    pub allow_all_racks: bool,
    /// Allow a start while a node is not Ready, a workload is not whole, or a member of etcd beside an agent has not been seen well
    /// for `etcdQuietFor`. A node that is not Ready can't be armed, so the run will be refused later all the same if it is concerned.
    #[serde(default)]
    pub allow_unhealthy_baseline: bool,
    /// Allow a run in which nodes hear addresses whose place nobody knows, such as clients and name servers. One of them may be
    /// another address of a node that is cut off; they are named, and no longer make the run Inconclusive.
    #[serde(default)]
    pub allow_unplaced_sources: bool,
    /// For so long every member of etcd beside an agent must have been seen with a leader, without an election, without being started
    /// anew and without a write of over half a second to its log, before anybody is cut: 1s to 10m. Members keep counts and no times, so
    /// what was before the agents came is not known. So the run watches for all of this time, and whatever was before is over for as
    /// long. It may arm for longer than the chart's `agent.armDeadline`, by what this is above 15s.
    #[serde(default = "default_etcd_quiet_for")]
    #[schemars(length(max = 32))]
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('10m')")
            .message("watch etcd for 1s to 10m")
    )]
    #[serde(deserialize_with = "super::length")]
    pub etcd_quiet_for: Duration,
    /// Largest error between the clocks of two machines: measured offset, its uncertainty and the drift to come. At most
    /// 900ms: the last call before a cut and the deadline after it leave room for a second.
    #[serde(default = "default_max_clock_error")]
    #[schemars(length(max = 32))]
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('1ms') && duration(self) <= duration('900ms')")
            .message("allow a clock error from 1ms to 900ms")
    )]
    #[serde(deserialize_with = "super::length")]
    pub max_clock_error: Duration,
}

impl Default for Guards {
    fn default() -> Self {
        Guards {
            allow_quorum_loss: false,
            allow_api_server_loss: false,
            allow_all_racks: false,
            allow_unhealthy_baseline: false,
            allow_unplaced_sources: false,
            etcd_quiet_for: default_etcd_quiet_for(),
            max_clock_error: default_max_clock_error(),
        }
    }
}

impl Guards {
    /// How much longer than usual etcd has to be watched before a cut. Nothing where nobody waits for it.
    pub fn watched_longer(&self) -> time::Duration {
        match self.allow_unhealthy_baseline {
            true => time::Duration::ZERO,
            false => time::Duration::from(self.etcd_quiet_for).saturating_sub(ETCD_QUIET_FOR),
        }
    }
}

fn default_rack_label() -> String {
    "topology.kubernetes.io/zone".into()
}
fn default_recovery() -> Duration {
    time::Duration::from_secs(300).into()
}
fn outside() -> String {
    "outside".into()
}
/// As many looks at etcd as tell a lasting trouble from one slow write; every run pays for more. Ours.
const ETCD_QUIET_FOR: time::Duration = time::Duration::from_secs(15);
fn default_etcd_quiet_for() -> Duration {
    ETCD_QUIET_FOR.into()
}
/// A tenth of the shortest default timer that a cut is compared with, etcd's dial and stream timeouts of 5 s.
fn default_max_clock_error() -> Duration {
    time::Duration::from_millis(500).into()
}

/// Where a run is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Phase {
    /// The plan is written; nothing has been touched.
    Planned,
    /// Agents are starting, loading inert tables and measuring the baseline.
    Arming,
    /// The common instant is written; agents load their windows.
    Scheduled,
    /// Between `cutAt` and `healAt`.
    Cut,
    /// The windows are over; both sides are still watched.
    Recovering,
    /// Records are gathered and judged.
    Judging,
    /// There is a verdict.
    Done,
    /// Nothing was cut; the message says why and what would allow it.
    Refused,
    /// Ended early and healed.
    Aborted,
}

impl Phase {
    /// No step follows.
    pub fn is_final(self) -> bool {
        matches!(self, Phase::Done | Phase::Refused | Phase::Aborted)
    }
}

/// What the operator says of a run.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RackPartitionStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// One sentence: what is going on, or what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agents: Option<AgentCount>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onset: Option<Onset>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// Checks of which a judged run has no finding, because nobody was to look: the verdict does not speak of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_looked_at: Vec<NotMade>,
    /// Checks, and parts of checks, that no run makes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_supported: Vec<NotMade>,
    /// Where the stores of etcd's members are found to differ: the way back, step by step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runbook: Option<String>,
    /// At which revisions etcd's members hash what they hold, where agents read etcd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_revisions: Option<StoreRevisions>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// The plan as people read it. What agents need is in the run's ConfigMap.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// SHA-256 of the agents' plan, in hexadecimal. Every agent says which plan it armed.
    pub hash: String,
    /// When the plan was made.
    pub at: Option<MicroTime>,
    /// The shape and who is named in it: `isolate r1`, `split r1 | r2+r3`, `rehearsal of isolate r1`.
    #[serde(default)]
    pub cut: String,
    pub sides: Vec<Side>,
    /// Directed edges: pairs of members of which the second no longer hears the first. None in a rehearsal.
    pub edges: u32,
    /// Each role of the spec and the node it stood for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resolved_roles: BTreeMap<String, String>,
    pub prediction: Vec<Prediction>,
    /// What was assumed because it could not be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assumptions: Vec<String>,
}

/// How far the agents are.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentCount {
    pub wanted: u32,
    pub armed: u32,
    /// Windows loaded for `schedule.cutAt`.
    pub loaded: u32,
    pub healed: u32,
    /// For the printer column: `armed/wanted`.
    pub summary: String,
}

/// The instants of a run, by the operator's wall clock.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    pub cut_at: MicroTime,
    pub heal_at: MicroTime,
    /// Watching ends here at the latest.
    pub recover_by: MicroTime,
    /// When the cluster was seen recovered for good, or watching ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_until: Option<MicroTime>,
}
