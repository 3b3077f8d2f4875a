//! What keeps a run that arms from its cut, in sentences. Each says what to do, and names the field that does without, or says that none
//! does.

#[cfg(test)]
mod tests;

use crate::{fault::Way, operator::clocks::Spread};
use std::net::SocketAddr;
use thiserror::Error;

/// What is still missing before a cut. Read after "waiting for".
#[derive(Clone, Debug, Error, PartialEq)]
pub enum Waits {
    #[error("the agent on {node} ({why})")]
    Agent { node: String, why: String },
    #[error(
        "the clock of {node} to be measured (if that lasts, see its agent's log; no field of the spec does without)"
    )]
    ClockUnmeasured { node: String },
    #[error("{}", out_of_step(.spread, .allowed_us))]
    ClocksOutOfStep {
        spread: Spread,
        /// What the guard allows, microseconds.
        allowed_us: i64,
    },
    #[error("one member of etcd to say that it leads (or name racks in spec.cut instead of the role)")]
    EtcdLeader,
    #[error("the record of {node} (if that lasts, see its agent's log; no field of the spec does without)")]
    Record { node: String },
    #[error("the baseline of {node} (if that lasts, see its agent's log; no field of the spec does without)")]
    Probes { node: String },
    #[error(
        "{node} to reach {subject} at {address} (now {state}): a firewall, or a component that is down; let it through or start it, no field of the spec does without"
    )]
    Port { node: String, subject: String, address: SocketAddr, state: String },
    #[error(
        "{node} to reach {subject} at {address} (now {state}): a firewall, or nobody who listens; let it through, or name ports that are served in spec.endpoints[].ports"
    )]
    EndpointPort { node: String, subject: String, address: SocketAddr, state: String },
    #[error("{}", not_heard(.receiver, .sender, .way, .port))]
    Datagrams { receiver: String, sender: String, way: Way, port: u16 },
    #[error(
        "{node} to hear nobody but members of the plan, and it hears {source_address}: name it in spec.endpoints by address, with a TCP port that it serves and its rack if it is in one, or set spec.guards.allowUnplacedSources"
    )]
    Stranger { node: String, source_address: String },
    #[error(
        "{address} of {member} to be where the plan has it: {node} holds it, in rack {rack}, and its packets would go by the cut; give it that rack in spec.endpoints, or set spec.guards.allowUnplacedSources"
    )]
    Misplaced { address: String, member: String, node: String, rack: String },
    #[error(
        "the kernel of {node} to tell which addresses its interfaces have ({why}): one of another rack's may be among them; see its agent's log, or set spec.guards.allowUnplacedSources"
    )]
    Addresses { node: String, why: String },
    #[error(
        "the operator's pod on {own} to have a way to {nodes}: it has no address of a family that they have, and none of its heal packets could leave for them; give the operator's pods one, no field of the spec or of the chart does without"
    )]
    OperatorsFamily { own: String, nodes: String },
    #[error(
        "{nodes} to hear the operator's pod on {own} by {way:?}: a NetworkPolicy on egress of the operator's pods, or a firewall, may stop UDP port {port} from there, and would stop heal packets too; let it through to every node's addresses, no field of the spec or of the chart does without"
    )]
    OperatorsDatagrams { nodes: String, own: String, way: Way, port: u16 },
    #[error("a first look at spec.abortWhen")]
    Alarms,
    #[error("what would end the run at once to be over: {why}; mend that, or leave it out of spec.abortWhen")]
    Alarm { why: String },
    #[error(
        "etcd on {node} to be well for {quiet_seconds} s (spec.guards.etcdQuietFor): {why} (or set spec.guards.allowUnhealthyBaseline)"
    )]
    EtcdUnwell {
        node: String,
        quiet_seconds: f64,
        why: String,
        /// Whether somebody saw that it was not; else nobody has seen for long enough that it is.
        was_seen: bool,
    },
    #[error("a first look at the cluster (or set spec.guards.allowUnhealthyBaseline)")]
    Cluster,
    #[error("{what} (or set spec.guards.allowUnhealthyBaseline)")]
    ClusterUnwell { what: String },
}

impl Waits {
    /// Of the condition `Armed`.
    pub fn reason(&self) -> &'static str {
        match self {
            Waits::Agent { .. } => "AgentsMissing",
            Waits::ClockUnmeasured { .. } => "ClocksUnmeasured",
            Waits::ClocksOutOfStep { .. } => "ClocksOutOfStep",
            Waits::Stranger { .. } | Waits::Misplaced { .. } => "UnplacedSources",
            Waits::Alarm { .. } => "AbortCondition",
            Waits::EtcdUnwell { was_seen: true, .. } | Waits::ClusterUnwell { .. } => "UnhealthyBaseline",
            Waits::EtcdLeader
            | Waits::Record { .. }
            | Waits::Probes { .. }
            | Waits::Port { .. }
            | Waits::EndpointPort { .. }
            | Waits::Datagrams { .. }
            | Waits::Addresses { .. }
            | Waits::OperatorsFamily { .. }
            | Waits::OperatorsDatagrams { .. }
            | Waits::Alarms
            | Waits::EtcdUnwell { was_seen: false, .. }
            | Waits::Cluster => "NoBaseline",
        }
    }
}

/// Why a run is refused while it arms, without waiting any longer.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum Stops {
    #[error(
        "node {node} can't take part: {why}; see to that node and its agent's pod, then create the run again: no field of the spec does without"
    )]
    Unfit { node: String, why: String },
    #[error(
        "node {node} can't prove what it hears: {why} (it takes Linux 5.12 or later); start another kernel there, no field of the spec does without"
    )]
    Unwatched { node: String, why: String },
    #[error(
        "etcd's leader moved from {was} to {leads} while nodes were armed: run it again, or name racks in spec.cut instead of the role"
    )]
    LeaderMoved { was: String, leads: String },
    #[error(
        "no replica of the operator on the side that stays writable ({nodes}) has taken over: run two replicas in different racks, by operator.replicas and rackLabel of the chart"
    )]
    NoSuccessor { nodes: String },
}

fn not_heard(receiver: &str, sender: &str, way: &Way, port: &u16) -> String {
    let whose = if way.is_of_pods() { "pods of " } else { "" };
    let remedy = match () {
        _ if way.is_of_pods() => {
            "between the nodes' pod ranges, or leave the class Pods out of spec.traffic: the cut is about them"
        }
        _ if way.is_to_port() => "between all nodes, or leave it out of spec.traffic: the cut is about it",
        _ => "between all nodes: what stops it would stop heal packets too, no field of the spec does without",
    };
    format!("{receiver} to hear {whose}{sender} by {way:?}; let UDP port {port} through {remedy}")
}

fn out_of_step(spread: &Spread, allowed_us: &i64) -> String {
    let Spread { largest_us, worst, ahead_us, error_us } = spread;
    format!(
        "the clocks to be in step: by the end of the cut they may differ by {} ms, spec.guards.maxClockError allows {} ms; that of {worst} \
         is {} ms {} most, give or take {} ms: start an NTP client there, cut for less long, or raise spec.guards.maxClockError",
        largest_us / 1000,
        allowed_us / 1000,
        ahead_us.abs() / 1000,
        if *ahead_us < 0 { "behind" } else { "ahead of" },
        error_us / 1000,
    )
}
