//! The objects people and programs see: `RackPartition`, `NodeRecord`, their conditions and reasons. No client, no effects.

mod abort_when;
mod clock;
pub mod conditions;
pub mod crds;
mod cut;
mod gone;
mod length;
mod names;
mod node_record;
mod numbers;
mod observation;
mod outcome;
mod packed;
mod rack_partition;
pub mod register;
mod side;
mod store;
#[cfg(test)]
mod tests;
mod traffic;

pub use abort_when::{AbortWhen, HttpProbe, PrometheusQuery, WorkloadBelow, WorkloadKind};
pub use clock::{Clock, ClockAnchor, ClockPing, ClockReply};
pub use cut::{Bridge, Chain, Cut, Edge, Isolate, Ring, Role, Selection, Split, Star};
pub use gone::is_gone;
pub use length::{length, length_if_any, parse_length};
pub use names::{NAMED, first};
pub use node_record::{Kernel, NodeRecord, NodeRecordSpec, NodeRecordStatus, Observer, RecordPhase};
pub use numbers::Numbers;
pub use observation::{
    ADDRESSES, ADDRESSES_UNREAD, CLUSTER_UNREAD, CONTAINER_READ, CONTAINER_UNREAD, ENDPOINT_NONE, ENDPOINT_PARTLY,
    ENDPOINT_READY, ENDPOINT_UNREADY, ETCD, ETCD_DISK, ETCD_LEADER, KUBERNETES_SERVICE, LEADER_DOWN, LEADER_UNREAD,
    LEADING, Moment, NOT_LEADING, SINCE, Span, SpanKind,
};
pub use outcome::{Bounds, Check, Finding, FindingResult, NotMade, Onset, Prediction, Verdict, Window};
pub use packed::Error as PackedError;
pub use rack_partition::{
    AgentCount, Endpoint, Expect, Guards, Phase, Plan, RackPartition, RackPartitionSpec, RackPartitionStatus, Schedule,
    Workloads,
};
pub use side::{Prospect, Side};
pub use store::{
    CORRUPT, NO_ALARM, RaftRole, RaftState, STORE, STORE_ALARMS, STORE_HASH_AFTER, STORE_HASH_BEFORE, STORE_OFF,
    STORE_PANIC, STORE_RAFT, STORE_UNREAD, StoreHash, StoreRevisions,
};
pub use traffic::{Effect, Flap, Loss, LossPer, Nothing, Protocol, Traffic, TrafficClass};

/// API group of every object here.
pub const GROUP: &str = "rackpartition.io";
/// Version served and stored.
pub const VERSION: &str = "v1alpha1";
/// Prefix of every nftables table of ours that can cut; the rest is [`table_name`]'s.
pub const TABLE_PREFIX: &str = "rackpartition-";
/// Holds a `RackPartition` until its cut is gone or its deadline has passed.
pub const FINALIZER: &str = "rackpartition.io/heal";
/// Label on everything a run owns; its value is the run's name.
pub const RUN_LABEL: &str = "rackpartition.io/run";

/// Name of a run's table on every node: the prefix and the first group of the run's uid.
pub fn table_name(run_uid: &str) -> String {
    format!("{TABLE_PREFIX}{}", first_group(run_uid))
}

/// Name of the table with which an agent watches. Without the prefix: it cuts nothing, and goes with the agent's process.
pub fn watch_table_name(run_uid: &str) -> String {
    format!("rackpartition_watch_{}", first_group(run_uid))
}

fn first_group(uid: &str) -> &str {
    uid.split('-').next().unwrap_or(uid)
}
