//! Guards: each refuses with a sentence that names the field that would allow it.

use super::{
    Fault,
    graph::{Leaderless, leader_without_api_server, leaderless},
};
use crate::{
    api::{Guards, NAMED, Prospect, Side, first},
    topology::Snapshot,
};
use std::collections::BTreeSet;
use thiserror::Error;

/// Why a run is not begun. Every text says what to do.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum Refusal {
    #[error("spec.cut names nothing to cut: set isolate, split, bridge, ring, star, chain or edges")]
    NoConstructor,
    #[error(
        "the cut ({cut}) is empty: everybody would go on hearing everybody; name fewer racks in spec.cut, or others"
    )]
    Empty { cut: String },
    #[error("{name} is in two groups of spec.cut: groups must be disjoint")]
    Overlap { name: String },
    #[error("{name} is in no group of spec.cut: name it in one, or give it a rack that is")]
    Unplaced { name: String },
    #[error(
        "nobody could drop what {from} sends to {to}: neither of them has an agent that would; set spec.endpoints[].egress"
    )]
    Unenforced { from: String, to: String },
    #[error("spec.traffic stands for no port of this cluster: name a protocol and a port")]
    NoSuchTraffic,
    #[error(
        "endpoint {endpoint} has addresses of {node}, which is a node: leave them out of spec.endpoints[].cidrs, nodes are known by themselves"
    )]
    EndpointOverNode { endpoint: String, node: String },
    #[error(
        "everybody is in a group of spec.cut.bridge: nobody is left to be the bridge; use split, or leave a rack out"
    )]
    NoBridge,
    #[error(
        "there is no exact ring of {members} members: {why}; 4, 5, 6, 8, 9 and so on have one: name so many in spec.cut.ring.members"
    )]
    NoSuchRing { members: usize, why: String },
    #[error("there is no {kind} {name}: name one that the cluster or spec.endpoints has")]
    NoSuchMember { kind: &'static str, name: String },
    #[error(
        "with spec.stagger the first rack would heal {needed_seconds} s before the end of a cut of {length_seconds} s: lengthen spec.duration or shorten spec.stagger"
    )]
    StaggerTooLong { needed_seconds: f64, length_seconds: f64 },
    #[error("no node has the label {label}: label the nodes or set spec.rackLabel")]
    NoSuchLabel { label: String },
    #[error("there is no rack {rack}: the values of {label} are {known}; name one of these, or set spec.rackLabel")]
    NoSuchRack { rack: String, label: String, known: String },
    #[error("the role {role} stands for nobody: {why}; name racks in spec.cut instead")]
    UnresolvedRole { role: String, why: String },
    #[error(
        "the cut would leave no two racks that hear each other, or no rack outside: cut less, or set spec.guards.allowAllRacks"
    )]
    AllRacks,
    #[error(
        "no side would keep a majority of the {total} etcd members ({split}): cut fewer racks, or set spec.guards.allowQuorumLoss"
    )]
    QuorumLoss { total: u32, split: String },
    #[error(
        "etcd may be left without a leader, though {members} would hear a majority of its members: those may lack what others have written down, and nobody votes for a shorter log; cut other racks, or set spec.guards.allowQuorumLoss"
    )]
    NoElection { members: String },
    #[error(
        "etcd's leader may be deposed again and again: {members} would not hear it, would hear others that do, and ask for votes without PreVote (etcd before 3.5, or --pre-vote=false); cut other racks, or set spec.guards.allowQuorumLoss"
    )]
    LeaderDeposed { members: String },
    #[error(
        "no side with a majority of etcd would keep an API server: cut fewer racks, or set spec.guards.allowApiServerLoss"
    )]
    ApiServerLoss,
    #[error(
        "if {leader} leads etcd during the cut, no API server would have a member that follows it: cut other racks, or set spec.guards.allowApiServerLoss"
    )]
    ApiServerInDoubt { leader: String },
    #[error(
        "{count} of {total} nodes would or may lose the API, more than {most_percent} %: cut fewer racks, or raise policy.maxNodesPercent of the chart"
    )]
    TooManyNodes { count: usize, total: usize, most_percent: u8 },
    #[error(
        "node {node} of the protected rack {rack} would lose the API: cut others, or take the rack out of policy.protectedRacks of the chart"
    )]
    ProtectedRack { rack: String, node: String },
    #[error(
        "node {node} would lose the API, and {pod} of the protected namespace {namespace} runs there: cut other racks, or take the namespace out of policy.protectedNamespaces of the chart"
    )]
    ProtectedNamespace { namespace: String, pod: String, node: String },
    #[error(
        "a cut of {seconds} s is longer than this cluster allows ({most_seconds} s): shorten spec.duration, or raise policy.maxDuration of the chart"
    )]
    TooLong { seconds: f64, most_seconds: f64 },
    #[error(
        "this cluster has not agreed to be cut: label the namespace kube-system with {label}=true, or empty policy.optInLabel of the chart"
    )]
    NotOptedIn { label: String },
    #[error(
        "no etcd member was found: RackPartition looks for static pods in kube-system and for --etcd-servers of the API servers"
    )]
    NoEtcd,
    #[error(
        "the etcd member {url} of the API servers' --etcd-servers has no address ({why}): name it there by its address, or let its name resolve for the operator"
    )]
    UnresolvedEtcd { url: String, why: String },
    #[error(
        "the etcd member on node {node} has several ports ({ports}) in --{flag}, and a cut of some traffic would hit only the first: leave spec.traffic out, or let its URLs share one port"
    )]
    EtcdPorts { node: String, flag: &'static str, ports: String },
    #[error("node {node} is in no rack: label it with {label}, or set spec.rackLabel to a label that every node has")]
    NodeWithoutRack { node: String, label: String },
    #[error(
        "node {node} is not Ready: a run needs a healthy baseline; mend it, or set spec.guards.allowUnhealthyBaseline"
    )]
    NodeNotReady { node: String },
    #[error("node {node} has no address: its kubelet has not reported one, see to it")]
    NodeWithoutAddress { node: String },
    #[error(
        "no replica of the operator is ready on the side that stays writable ({nodes}): run two replicas in different racks, by operator.replicas and rackLabel of the chart"
    )]
    OperatorOnLosingSide { nodes: String },
    #[error(
        "run {other} is still going ({phase}): one run at a time; wait until it has ended or delete it (kubectl delete rackpartition {other}), then create this one again"
    )]
    AnotherRun { other: String, phase: String },
    #[error(
        "the control-plane endpoint {endpoint} does not resolve ({why}): give its addresses in spec.endpoints, with its port or by the name control-plane-endpoint, or cut traffic would go round by it"
    )]
    UnresolvedEndpoint { endpoint: String, why: String },
}

/// Checks every guard that a plan can answer.
///
/// # Errors
/// The first [`Refusal`] that applies.
pub fn check(guards: &Guards, snapshot: &Snapshot, fault: &Fault, sides: &[Side]) -> Result<(), Refusal> {
    // The sides of a rehearsal are those of a whole network.
    let rehearsed = fault.rehearsed.as_deref().map(|meant| super::sides(snapshot, meant));
    let (fault, sides) = (fault.meant(), rehearsed.as_deref().unwrap_or(sides));
    if let Some(node) = snapshot.nodes.iter().find(|n| n.rack.is_none()) {
        return Err(Refusal::NodeWithoutRack { node: node.name.clone(), label: snapshot.rack_label.clone() });
    }
    if let Some(node) = snapshot.nodes.iter().find(|n| n.addresses.is_empty()) {
        return Err(Refusal::NodeWithoutAddress { node: node.name.clone() });
    }
    for endpoint in &snapshot.endpoints {
        let overlaps = |c: &ipnet::IpNet| {
            let nodes = snapshot.nodes.iter();
            let own = |n: &&crate::topology::Node| {
                n.addresses.iter().any(|a| c.contains(a)) || n.pod_cidrs.iter().any(|p| p.contains(c) || c.contains(p))
            };
            nodes.clone().find(own).map(|n| n.name.clone())
        };
        if let Some(node) = endpoint.cidrs.iter().find_map(overlaps) {
            return Err(Refusal::EndpointOverNode { endpoint: endpoint.name.clone(), node });
        }
    }
    if !guards.allow_all_racks && leaves_no_two_racks(snapshot, fault, sides) {
        return Err(Refusal::AllRacks);
    }
    if snapshot.etcd.is_empty() {
        return Err(Refusal::NoEtcd);
    }
    if !guards.allow_quorum_loss && !sides.iter().any(|s| s.quorum) {
        let split = sides.iter().map(|s| format!("{} {}", s.name, s.etcd_members)).collect::<Vec<_>>().join(", ");
        return Err(Refusal::QuorumLoss { total: snapshot.etcd.len() as u32, split });
    }
    // Whoever hears a majority need not lead, or not for long.
    if !guards.allow_quorum_loss
        && let Some(why) = leaderless(snapshot, fault)
    {
        return Err(match why {
            Leaderless::Unelectable { members } => Refusal::NoElection { members: members.join(", ") },
            Leaderless::Deposed { members } => Refusal::LeaderDeposed { members: members.join(", ") },
        });
    }
    // As if it were whole: what loses most of the packets may lose the API as well.
    let goes_on = |s: &Side| !s.api_servers.is_empty() && s.writable != Prospect::No;
    let may_lose = !guards.allow_api_server_loss && sides.iter().any(|s| s.quorum);
    let whole = fault.whole();
    if may_lose && !super::sides(snapshot, &whole).iter().any(goes_on) {
        return Err(Refusal::ApiServerLoss);
    }
    if may_lose && let Some(leader) = leader_without_api_server(snapshot, &whole) {
        return Err(Refusal::ApiServerInDoubt { leader });
    }
    if !guards.allow_unhealthy_baseline
        && let Some(node) = snapshot.nodes.iter().find(|n| !n.ready)
    {
        return Err(Refusal::NodeNotReady { node: node.name.clone() });
    }
    let writable: Vec<_> = Side::most_writable(sides).into_iter().flat_map(|s| s.nodes.iter().cloned()).collect();
    if !writable.is_empty() && !snapshot.operators.iter().any(|o| o.ready && writable.contains(&o.node)) {
        return Err(Refusal::OperatorOnLosingSide { nodes: first(&writable, NAMED) });
    }
    Ok(())
}

/// Whether every rack would be alone, or an `isolate` names every node.
fn leaves_no_two_racks(snapshot: &Snapshot, fault: &Fault, sides: &[Side]) -> bool {
    let racks = |name: &String| sides.iter().find(|s| s.name == *name).map(|s| s.racks.as_slice()).unwrap_or_default();
    let hears_another = |s: &Side| s.racks.len() > 1 || s.hears.iter().any(|other| racks(other) != s.racks);
    // Two racks are what a small cluster has: cutting the one from the other leaves a rack outside.
    let several = sides.iter().flat_map(|s| &s.racks).collect::<BTreeSet<_>>().len() > 2;
    let all_isolated = snapshot.nodes.iter().all(|n| fault.isolated.contains(&n.name));
    all_isolated || (several && !sides.iter().any(hears_another))
}
