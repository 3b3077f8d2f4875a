//! Datagrams between agents: one direction at a time, which no connection can show. And from the operator's pod to every node, the way
//! that its heal packets take.

use super::{Effect, Heal, Member, RunPlan};
use crate::api::Protocol;
use ipnet::IpNet;
use sha2::{Digest, Sha256};
use std::net::IpAddr;

/// Source ports that a sender uses in turns: a cut that loses flows shall meet many of them, and connection tracking few.
pub const FLOWS: usize = 32;

/// A way on which datagrams go from one node to another.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Way {
    /// Between node addresses.
    Ipv4,
    Ipv6,
    /// Between addresses of the nodes' pod ranges, as if a pod had sent them to a pod.
    PodIpv4,
    PodIpv6,
    /// To a pod that is there. A data path that goes round the kernel's hooks (eBPF) takes only what is for such a one.
    LivePodIpv4,
    LivePodIpv6,
    /// Between node addresses, to the lowest UDP port that the cut names: a cut of that port alone hits no other datagram of ours.
    PortIpv4,
    PortIpv6,
}

impl Way {
    pub const ALL: [Self; 8] = [
        Self::Ipv4,
        Self::Ipv6,
        Self::PodIpv4,
        Self::PodIpv6,
        Self::LivePodIpv4,
        Self::LivePodIpv6,
        Self::PortIpv4,
        Self::PortIpv6,
    ];
    /// To node addresses, and so those of heal packets.
    pub const OF_HEAL: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    pub fn is_of_pods(self) -> bool {
        matches!(self, Self::PodIpv4 | Self::PodIpv6 | Self::LivePodIpv4 | Self::LivePodIpv6)
    }
    pub fn is_to_port(self) -> bool {
        matches!(self, Self::PortIpv4 | Self::PortIpv6)
    }
    pub fn is_ipv4(self) -> bool {
        matches!(self, Self::Ipv4 | Self::PodIpv4 | Self::LivePodIpv4 | Self::PortIpv4)
    }
    /// Of a way to a pod that is there, the one to its range.
    pub fn to_range(self) -> Option<Self> {
        match self {
            Self::LivePodIpv4 => Some(Self::PodIpv4),
            Self::LivePodIpv6 => Some(Self::PodIpv6),
            _ => None,
        }
    }
    /// `<sender>/<way>`, the subject of what is heard on it.
    pub fn subject(self, sender: &str) -> String {
        format!("{sender}/{self:?}")
    }
    /// The address of a member that sends on this way, if it has one. Of pods an address that none has, where there is one: what a
    /// pod itself may send is its policies' business.
    pub fn source(self, member: &Member) -> Option<IpAddr> {
        if !self.is_of_pods() {
            return self.own(member);
        }
        self.of_range(member).or_else(|| self.of_pod(member))
    }
    /// The address of a member that is sent to on this way, if it has one.
    pub fn destination(self, member: &Member) -> Option<IpAddr> {
        match (self.is_of_pods(), self.to_range()) {
            (false, _) => self.own(member),
            (true, None) => self.of_range(member),
            (true, Some(_)) => self.of_pod(member),
        }
    }

    fn own(self, member: &Member) -> Option<IpAddr> {
        self.first(&member.heal_addresses)
    }
    fn of_pod(self, member: &Member) -> Option<IpAddr> {
        self.first(&member.pods)
    }
    fn of_range(self, member: &Member) -> Option<IpAddr> {
        member.pod_cidrs.iter().filter(|c| c.addr().is_ipv4() == self.is_ipv4()).find_map(late_host)
    }
    /// Of its family.
    fn first(self, addresses: &[IpAddr]) -> Option<IpAddr> {
        addresses.iter().copied().find(|a| a.is_ipv4() == self.is_ipv4())
    }
}

/// An address near the end of a range: whoever gives addresses to pods begins at the other end.
fn late_host(range: &IpNet) -> Option<IpAddr> {
    match range {
        // The last one is for broadcast.
        IpNet::V4(range) if range.prefix_len() < 31 => Some(IpAddr::V4((u32::from(range.broadcast()) - 1).into())),
        IpNet::V6(range) if range.prefix_len() < 127 => Some(IpAddr::V6((u128::from(range.broadcast()) - 1).into())),
        _ => None,
    }
}

/// In front of the node on which a pod of the operator is, in the name of that sender. No node's name has a space.
const OPERATOR: &str = "operator on ";

/// Whether what is heard under this subject was sent by a pod of the operator.
pub fn is_operators(subject: &str) -> bool {
    subject.starts_with(OPERATOR)
}

/// Of the member with this index in the plan; behind them come the operator's pods.
fn key(index: usize, way: Way) -> u32 {
    u32::try_from(index << 3 | way as usize).expect("a plan names fewer than a billion members")
}

impl Heal {
    /// What marks a datagram of this run. Made from the token, which stays secret: whoever reads one of these can heal nobody.
    pub fn mark(&self) -> [u8; 16] {
        self.digest("datagram")
    }

    /// The same for those of the operator's pod to this node. Each node has another, for the kernel of the node that the pod is on sees
    /// all of them go by, and takes what has a mark of its own.
    pub fn mark_for(&self, node: &str) -> [u8; 16] {
        self.digest(&format!("datagram to {node}"))
    }

    fn digest(&self, what: &str) -> [u8; 16] {
        let digest = Sha256::digest(format!("{what} {}", self.token));
        digest[..16].try_into().expect("32 bytes")
    }
}

impl RunPlan {
    /// The ways from one node to another.
    pub fn ways<'a>(&self, from: &'a Member, to: &'a Member) -> impl Iterator<Item = Way> + use<'a> {
        let pods = self.ports.is_everything() || self.ports.pods;
        let to_port = self.udp_port().is_some();
        let of_agents = from.has_agent && to.has_agent && from.name != to.name;
        let usable = move |way: &Way| {
            let is_meant = (pods || !way.is_of_pods()) && (to_port || !way.is_to_port());
            of_agents && is_meant && way.source(from).is_some() && way.destination(to).is_some()
        };
        Way::ALL.into_iter().filter(usable)
    }

    /// The lowest UDP port that the cut names.
    pub fn udp_port(&self) -> Option<u16> {
        let named = |(protocol, port): &&(Protocol, u16)| *protocol == Protocol::Udp && *port != self.heal.port;
        self.ports.ports.iter().find(named).map(|(_, port)| *port)
    }

    /// The UDP port to which datagrams on this way go.
    pub fn port_of(&self, way: Way) -> u16 {
        self.udp_port().filter(|_| way.is_to_port()).unwrap_or(self.heal.port)
    }

    /// What a datagram on this way carries behind the mark, so that the receiver knows whose it is.
    pub fn key(&self, from: &str, way: Way) -> Option<u32> {
        Some(key(self.place_of(from)?, way))
    }

    /// Every key, and the subject of what carries it.
    pub fn subjects(&self) -> impl Iterator<Item = (u32, String)> {
        let agents = self.members.iter().enumerate().filter(|(_, m)| m.has_agent);
        let of_agents = agents.flat_map(|(i, m)| Way::ALL.map(|way| (key(i, way), way.subject(&m.name))));
        let operators = (0..self.members.len()).map(Some).chain([None]);
        of_agents.chain(operators.flat_map(move |place| {
            let (index, sender) = self.operator_at(place);
            Way::OF_HEAL.map(|way| (key(index, way), way.subject(&sender)))
        }))
    }

    /// What the operator's pod on this node sends to another one to try the way of its heal packets, in that way's family.
    pub fn operator_datagram(&self, node: &str, to: &str, way: Way) -> Vec<u8> {
        let (index, _) = self.operator_at(self.place_of(node));
        [&self.heal.mark_for(to)[..], &key(index, way).to_be_bytes()].concat()
    }

    /// The subject of what is heard of it.
    pub fn operator_subject(&self, node: &str, way: Way) -> String {
        way.subject(&self.operator_at(self.place_of(node)).1)
    }

    /// The operator's pod on the member with this index, as a sender: the index of its keys, and its name. A sender of its own for each
    /// node, so that what was heard of one leader vouches for no other. `None`: on a node that joined after the plan was made.
    fn operator_at(&self, place: Option<usize>) -> (usize, String) {
        let count = self.members.len();
        match place {
            Some(i) => (count + i, format!("{OPERATOR}{}", self.members[i].name)),
            None => (2 * count, format!("{OPERATOR}another node")),
        }
    }

    fn place_of(&self, member: &str) -> Option<usize> {
        self.members.iter().position(|m| m.name == member)
    }

    /// Share of the datagrams from one to the other that should be lost while the cut has effect on the receiver.
    pub fn datagram_loss(&self, from: &str, to: &str, way: Way) -> f64 {
        let hit = self.ports.is_everything()
            || self.ports.ports.contains(&(Protocol::Udp, self.port_of(way)))
            || (self.ports.pods && way.is_of_pods());
        match self.pattern.effect {
            _ if !hit || !self.cuts(from, to) => 0.0,
            Effect::Drop | Effect::Reject => 1.0,
            Effect::LossPerPacket { percent } | Effect::LossPerFlow { percent } => f64::from(percent) / 100.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plan(ports: serde_json::Value) -> RunPlan {
        let member = |name: &str, host: u8, agent: bool| {
            json!({"name": name, "hasAgent": agent, "cidrs": [], "podCidrs": [format!("198.19.{host}.0/24"), "fd00:1::/64"],
                "healAddresses": [format!("198.18.0.{host}"), format!("fd00::{host}")]})
        };
        serde_json::from_value(json!({
            "run": "r", "runUid": "u", "members": [member("a", 1, true), member("b", 2, true), member("lb", 9, false)],
            "edges": [{"from": ["a"], "to": ["b"]}], "ports": ports,
            "heal": {"port": 40441, "token": "00"}, "durationSeconds": 1.0, "longestSeconds": 1.0, "probes": [],
            "apiServers": [], "writable": [],
        }))
        .unwrap()
    }

    fn ways(plan: &RunPlan, from: &str, to: &str) -> Vec<Way> {
        plan.ways(plan.member(from).unwrap(), plan.member(to).unwrap()).collect()
    }

    #[test]
    fn datagrams_go_between_agents_in_every_family_they_share() {
        let mut plan = plan(json!({}));
        // Nobody has a pod.
        assert_eq!(ways(&plan, "a", "b"), Way::ALL[..4]);
        assert!(ways(&plan, "a", "lb").is_empty() && ways(&plan, "a", "a").is_empty());
        plan.members[1].heal_addresses.truncate(1);
        plan.members[1].pods = vec!["198.19.2.7".parse().unwrap()];
        assert_eq!(ways(&plan, "a", "b"), [Way::Ipv4, Way::PodIpv4, Way::PodIpv6, Way::LivePodIpv4]);
        assert_eq!(ways(&plan, "b", "a"), [Way::Ipv4, Way::PodIpv4, Way::PodIpv6]);
        let ends = |way: Way| [way.source(&plan.members[1]), way.destination(&plan.members[1])];
        let addresses = |all: [&str; 2]| all.map(|a| Some(a.parse::<IpAddr>().unwrap()));
        assert_eq!(ends(Way::PodIpv4), addresses(["198.19.2.254"; 2]));
        assert_eq!(ends(Way::PodIpv6), addresses(["fd00:1::ffff:ffff:ffff:fffe"; 2]));
        assert_eq!(ends(Way::LivePodIpv4), addresses(["198.19.2.254", "198.19.2.7"]));
    }

    #[test]
    fn each_direction_and_class_is_lost_by_itself() {
        let all = plan(json!({}));
        assert_eq!((all.datagram_loss("a", "b", Way::Ipv4), all.datagram_loss("b", "a", Way::Ipv4)), (1.0, 0.0));
        let etcd = plan(json!({"ports": [["TCP", 2380]]}));
        assert_eq!(etcd.datagram_loss("a", "b", Way::Ipv4), 0.0);
        assert_eq!(ways(&etcd, "a", "b"), [Way::Ipv4, Way::Ipv6]);
        let named = plan(json!({"ports": [["TCP", 2380], ["UDP", 53], ["UDP", 123]]}));
        assert_eq!(ways(&named, "a", "b"), [Way::Ipv4, Way::Ipv6, Way::PortIpv4, Way::PortIpv6]);
        assert_eq!((named.port_of(Way::PortIpv6), named.port_of(Way::Ipv4)), (53, 40441));
        let loss = |from, to, way| named.datagram_loss(from, to, way);
        assert_eq!(
            (loss("a", "b", Way::PortIpv4), loss("b", "a", Way::PortIpv4), loss("a", "b", Way::Ipv4)),
            (1.0, 0.0, 0.0)
        );
        let pods = plan(json!({"pods": true}));
        assert_eq!((pods.datagram_loss("a", "b", Way::PodIpv6), pods.datagram_loss("a", "b", Way::Ipv6)), (1.0, 0.0));
    }

    #[test]
    fn keys_differ_and_the_mark_does_not_tell_the_token() {
        let plan = plan(json!({}));
        let keys: std::collections::BTreeSet<_> =
            ["a", "b"].iter().flat_map(|n| Way::ALL.map(|w| plan.key(n, w).unwrap())).collect();
        assert_eq!((keys.len(), plan.key("nobody", Way::Ipv4)), (2 * Way::ALL.len(), None));
        assert_ne!(plan.heal.mark(), plan.heal.token_bytes().unwrap());
    }

    #[test]
    fn each_of_the_operators_pods_is_a_sender_of_its_own() {
        let plan = plan(json!({}));
        let subjects: std::collections::BTreeMap<u32, String> = plan.subjects().collect();
        assert_eq!(subjects.len(), plan.subjects().count(), "no key twice");
        for (node, subject) in [("a", "operator on a/Ipv6"), ("joined", "operator on another node/Ipv6")] {
            let datagram = plan.operator_datagram(node, "b", Way::Ipv6);
            let (mark, key) = datagram.split_at(16);
            assert_eq!(mark, plan.heal.mark_for("b"));
            let key = u32::from_be_bytes(key.try_into().unwrap());
            assert_eq!(subjects[&key], subject);
            assert_eq!(plan.operator_subject(node, Way::Ipv6), subject);
            assert!(is_operators(subject));
        }
        assert!(!is_operators(&Way::Ipv4.subject("operator")), "a node may have that name");
        let marks = [plan.heal.mark(), plan.heal.mark_for("a"), plan.heal.mark_for("b")];
        assert_eq!(std::collections::BTreeSet::from(marks).len(), 3, "no node takes what is for another");
    }
}
