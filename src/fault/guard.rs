//! Guards: each refuses with a sentence that names the field that would allow it.

use super::Fault;
use crate::{
    api::{Guards, Side},
    topology::Snapshot,
};
use thiserror::Error;

/// Why a run is not begun. Every text says what to do.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Refusal {
    #[error("spec.cut names nothing to cut: set spec.cut.isolate")]
    NoConstructor,
    #[error("no node has the label {label}: label the nodes or set spec.rackLabel")]
    NoSuchLabel { label: String },
    #[error("there is no rack {rack}: the values of {label} are {known}")]
    NoSuchRack { rack: String, label: String, known: String },
    #[error("the rack of the holder of {lease} can't be told: {why}; name racks in spec.cut.isolate.racks instead")]
    UnresolvedRole { lease: String, why: String },
    #[error("the cut would isolate every rack: leave one out, or set spec.guards.allowAllRacks")]
    AllRacks,
    #[error(
        "no side would keep a majority of the {total} etcd members ({split}): cut fewer racks, or set spec.guards.allowQuorumLoss"
    )]
    QuorumLoss { total: u32, split: String },
    #[error("no etcd member was found: RackPartition needs etcd as static pods in kube-system to predict anything")]
    NoEtcd,
    #[error("node {node} is in no rack: label it with {label}")]
    NodeWithoutRack { node: String, label: String },
    #[error(
        "node {node} is not Ready: a run needs a healthy baseline; mend it, or set spec.guards.allowUnhealthyBaseline"
    )]
    NodeNotReady { node: String },
    #[error("node {node} has no address: its kubelet has not reported one")]
    NodeWithoutAddress { node: String },
    #[error(
        "no replica of the operator is ready on the side that stays writable ({nodes}): run two replicas in different racks"
    )]
    OperatorOnLosingSide { nodes: String },
    #[error("run {other} is still going ({phase}): one run at a time; wait for it or delete it")]
    AnotherRun { other: String, phase: String },
    #[error(
        "the control-plane endpoint {endpoint} does not resolve ({why}): give its addresses in spec.endpoints, or cut traffic would go round by it"
    )]
    UnresolvedEndpoint { endpoint: String, why: String },
}

/// Checks every guard that a plan can answer.
///
/// # Errors
/// The first [`Refusal`] that applies.
pub fn check(guards: &Guards, snapshot: &Snapshot, fault: &Fault, sides: &[Side]) -> Result<(), Refusal> {
    if let Some(node) = snapshot.nodes.iter().find(|n| n.rack.is_none()) {
        return Err(Refusal::NodeWithoutRack { node: node.name.clone(), label: snapshot.rack_label.clone() });
    }
    if let Some(node) = snapshot.nodes.iter().find(|n| n.addresses.is_empty()) {
        return Err(Refusal::NodeWithoutAddress { node: node.name.clone() });
    }
    let racks = snapshot.racks();
    if !guards.allow_all_racks && racks.iter().all(|r| fault.isolated_racks.contains(*r)) {
        return Err(Refusal::AllRacks);
    }
    if snapshot.etcd.is_empty() {
        return Err(Refusal::NoEtcd);
    }
    if !guards.allow_quorum_loss && !sides.iter().any(|s| s.quorum) {
        let split = sides.iter().map(|s| format!("{} {}", s.name, s.etcd_members)).collect::<Vec<_>>().join(", ");
        return Err(Refusal::QuorumLoss { total: snapshot.etcd.len() as u32, split });
    }
    if !guards.allow_unhealthy_baseline
        && let Some(node) = snapshot.nodes.iter().find(|n| !n.ready)
    {
        return Err(Refusal::NodeNotReady { node: node.name.clone() });
    }
    let writable: Vec<_> = sides.iter().filter(|s| s.writable).flat_map(|s| s.nodes.iter().cloned()).collect();
    if !writable.is_empty() && !snapshot.operators.iter().any(|o| o.ready && writable.contains(&o.node)) {
        return Err(Refusal::OperatorOnLosingSide { nodes: writable.join(", ") });
    }
    Ok(())
}
