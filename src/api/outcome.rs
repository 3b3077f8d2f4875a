//! What is predicted before a cut and found after it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The checks of a verdict, in the order in which a reader wants them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Check {
    /// Every edge silent, every non-edge alive, while the cut lasted; all alive before and after; kernel counters moved.
    FaultProven,
    /// etcd has a leader where a majority is connected and none where it is not.
    EtcdQuorum,
    /// Never do two members of etcd lead in one raft term, and after the heal all follow one leader in one term.
    EtcdLeaders,
    /// After the heal every member of etcd holds the same.
    StoreAgreement,
    /// API servers accept writes where theory says so.
    ApiWritable,
    /// An API server without etcd says that it is not ready, and its kubelet starts it anew, in the predicted intervals.
    ApiServerReady,
    /// A consistent read returns everything that was acknowledged before it was asked; how old an answer of the watch cache may be.
    StaleRead,
    /// After the heal every write that was acknowledged is there, and none that was refused.
    LostWrites,
    /// A Lease whose holder was cut off moves to a holder on the writable side, in the predicted interval.
    LeaseTakeover,
    /// Seconds without a leader, from the old holder's process end to the new holder's start.
    LeaderGap,
    /// Seconds with two leaders.
    LeaderOverlap,
    /// A Lease whose holder was not cut off does not move.
    LeaseStable,
    /// Every change of a Lease's holder is counted in the Lease, once.
    LeaseHistory,
    /// A node that was cut off from every writable API server becomes NotReady, in the predicted interval.
    NodeNotReady,
    /// Such a node is tainted so that its pods are evicted, in the predicted interval.
    NodeTainted,
    /// Pods of such nodes leave the EndpointSlices of their Services, and API servers without etcd the Service `kubernetes`, and are back
    /// after the heal, in the predicted intervals.
    EndpointsRemoved,
    /// Pods on such nodes are deleted, in the predicted interval, and no others are.
    WorkloadEvicted,
    /// Containers that ran on the cut side go on running.
    WorkloadKept,
    /// A second copy of a pod runs elsewhere: expected of Deployments, never of StatefulSets.
    WorkloadDoubled,
    /// No container outlives its pod in the API.
    WorkloadOrphaned,
    /// A pod that is neither running for the API nor replaced.
    WorkloadStuck,
    /// No workload loses its last ready pod because the network is whole again, and no disruption budget is crossed that was not to be.
    HealDamage,
    /// Everything desired is actual again and stays so, in the predicted interval after the heal.
    Recovery,
    /// No table left, every record complete, no node rebooted.
    HealProven,
}

/// An interval in seconds. What it is counted from, or that it is a length, is said beside it: of a prediction's by its `bounds`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    pub earliest_seconds: f64,
    pub latest_seconds: f64,
}

/// What the two ends of a prediction's window are: moments and lengths are never told as the same thing.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Bounds {
    /// It happens between these two moments after the cut.
    AfterCut,
    /// It happens between these two moments after the heal.
    AfterHeal,
    /// It is so all the time from the first of these moments to the second, both after the cut.
    Throughout,
    /// It lasts no shorter and no longer than this, whenever it begins.
    Length,
}

/// What theory says will happen to one subject.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Prediction {
    pub check: Check,
    /// What it is about: a Lease, a node, an API server, a workload, a side.
    pub subject: String,
    /// In words, as people read it in the plan.
    pub expected: String,
    /// When or for how long: its `bounds` say which. None where nothing is bounded, or the cut is over before it would begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// What the window's ends are: without it, as in older plans, moments after the cut, and of `Recovery` after the heal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounds: Option<Bounds>,
    /// The arithmetic and the source of each constant in it.
    pub reason: String,
}

/// When the cut took effect, microseconds after the schedule's `cutAt` by the operator's clock.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Onset {
    /// Nodes of which it is known: those that no longer hear another node, and saw both the last datagram that got through and
    /// one that did not.
    pub nodes: u32,
    /// On the first and on the last of them.
    pub first_us: i64,
    pub last_us: i64,
    /// Between the two.
    pub skew_us: i64,
    /// How far each may be off: half of the time between two datagrams (two connections, where only ports are cut), the kernel's ticks,
    /// and the clocks' error.
    pub error_us: i64,
}

/// How one finding came out.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum FindingResult {
    /// As predicted, with evidence.
    Held,
    /// Worth telling, and no fault of the cluster: a Deployment's second copy, a slower recovery than usual.
    Noted,
    /// Outside of what was predicted, within what users may accept.
    Degraded,
    /// Evidence is missing or the clocks leave it open.
    Inconclusive,
    /// Proven to differ from what must hold.
    Violated,
}

/// One line of the verdict.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    pub check: Check,
    pub subject: String,
    pub predicted: String,
    pub observed: String,
    pub result: FindingResult,
    /// What was let pass beside the prediction, with the clocks' error where times were compared. None where there was nothing to compare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<String>,
    /// Who saw it and when: observer, span and time.
    pub evidence: String,
}

/// A check that a run did not make, so that nobody takes its verdict for more than it is.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NotMade {
    /// As findings call it, or by its number in `docs/checks.md` where no run makes it.
    pub check: String,
    /// What would have it made, or what of it nobody looks at.
    pub reason: String,
}

/// The answer to "did the cluster behave?".
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum Verdict {
    Pass,
    Degraded,
    Fail,
    /// The fault or the evidence is not proven. Never counted as Pass.
    Inconclusive,
}
