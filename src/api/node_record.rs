//! `NodeRecord`: what one observer did and saw in one run.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::{Clock, ClockReply, Span};

// Several columns are strings; the lint takes their `type_` for a repetition.
#[allow(clippy::duplicated_attributes)]
/// What one agent, or the operator, did and saw in one run. Owned by the run, bounded in size.
///
/// The observer creates the object and writes the status; the operator writes only `spec.clockReply`.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[kube(
    group = "rackpartition.io",
    version = "v1alpha1",
    kind = "NodeRecord",
    plural = "noderecords",
    shortname = "nrec",
    category = "chaos",
    namespaced,
    status = "NodeRecordStatus",
    derive = "PartialEq",
    doc = "What one observer did and saw in one run of a RackPartition.",
    printcolumn(name = "Run", type_ = "string", json_path = ".spec.run"),
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.node"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Dropped", type_ = "integer", json_path = ".status.kernel.droppedPackets"),
    printcolumn(name = "Clock", type_ = "string", json_path = ".status.clock.summary"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct NodeRecordSpec {
    pub run: String,
    pub run_uid: String,
    /// The node the observer runs on.
    pub node: String,
    pub observer: Observer,
    /// The operator's half of the four timestamps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_reply: Option<ClockReply>,
}

impl NodeRecordSpec {
    /// As the observer creates it: the operator has not answered yet.
    pub fn new(
        run: impl Into<String>,
        run_uid: impl Into<String>,
        node: impl Into<String>,
        observer: Observer,
    ) -> Self {
        NodeRecordSpec { run: run.into(), run_uid: run_uid.into(), node: node.into(), observer, clock_reply: None }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Observer {
    Agent,
    Operator,
}

/// Where an agent is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum RecordPhase {
    /// Table loaded, gate in, windows empty: nothing is cut.
    Armed,
    /// Windows loaded for the run's schedule.
    Loaded,
    /// The windows are over and the table is gone.
    Healed,
    /// Ended early; the table is gone. It will not be armed again in this run.
    Aborted,
    /// This node can't take part; the message says why. Nothing is loaded.
    Unfit,
}

#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRecordStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<RecordPhase>,
    /// One sentence where something is amiss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// SHA-256 of the plan that was armed, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_hash: Option<String>,
    /// The kernel's boot id at the last write. Another one in the same run means a reboot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// `cutAt` of the schedule whose windows are loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loaded_cut_at: Option<MicroTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<Clock>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<Kernel>,
    /// False where the container runtime is not read, so that findings which need it become Inconclusive.
    #[serde(default)]
    pub reads_containers: bool,
    /// Why this node's kernel counts no datagrams of others, where it does not: nobody knows then which directions were cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unwatched: Option<String>,
    /// Everything up to here is in the spans, by this observer's wall clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_until: Option<MicroTime>,
    /// Spans left out because the record was full.
    #[serde(default)]
    pub spans_left_out: u32,
    /// How many of each kind these are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub spans_left_out_by_kind: BTreeMap<String, u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4000))]
    pub spans: Vec<Span>,
    /// The same in less room, once an agent's part is over, and where the operator saw more than 2,000; then nothing is in `spans`.
    /// Base64 of gzip of what would be there, as JSON:
    /// `kubectl get noderecord NAME -o jsonpath={.status.packedSpans} | base64 -d | gunzip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000000))]
    pub packed_spans: Option<String>,
}

/// What the kernel of a node says of our table.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Kernel {
    /// Our table is there.
    pub table: bool,
    /// The gate holds its element: windows have effect.
    pub gate_open: bool,
    /// Windows are loaded.
    pub windows: bool,
    /// Packets dropped so far, from the rules' counters.
    pub dropped_packets: u64,
    /// The same by rule of this node's part of the plan.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rule_packets: Vec<u64>,
    /// What somebody else did to the table while it was armed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<String>,
    /// Heal packets with the run's token.
    pub heal_packets: u64,
    /// Tables of other runs that were found and removed at the start.
    #[serde(default)]
    pub leftovers_removed: u32,
}
