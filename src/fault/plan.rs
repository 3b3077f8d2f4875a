//! The plan that every agent gets: members, edges, heal token, probes. Immutable once written, known by its hash.

use super::{
    Block, Effect, Fault, Pattern, Ports,
    enforce::{Kind, enforcer},
    fate,
};
use crate::{
    api::Protocol,
    topology::{ApiServer, Endpoint, Snapshot},
};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

/// One who can be cut: a node, or something with addresses that is none.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    pub name: String,
    /// Nodes carry an agent and enforce their own ingress; endpoints do not.
    pub has_agent: bool,
    /// For those without an agent: whether nodes drop what they send there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub egress: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
    /// Its own addresses.
    #[schemars(with = "Vec<String>")]
    pub cidrs: Vec<IpNet>,
    /// Those of its pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub pod_cidrs: Vec<IpNet>,
    /// Addresses that pods of it have, at most one for each family: their packets' way is the one to prove.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<IpAddr>,
    /// Where heal packets reach it: its node addresses, one for each family. Empty for endpoints.
    pub heal_addresses: Vec<IpAddr>,
}

/// What a port serves.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum PortClass {
    Kubelet,
    EtcdClient,
    EtcdPeer,
    ApiServer,
    /// A port of an endpoint.
    Endpoint,
    /// A TCP port that the cut names and no component is known to serve. Where nobody listens a reset is an answer, too.
    Named,
}

/// A port that is there anyway and takes TCP connections.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeTarget {
    pub member: String,
    pub class: PortClass,
    pub address: SocketAddr,
}

impl ProbeTarget {
    /// Those of `all` that are the same service at other addresses, itself among them: an endpoint may have several addresses, and
    /// not every one serves every port.
    pub fn same_service<'a>(&self, all: &'a [&'a ProbeTarget]) -> impl Iterator<Item = &'a ProbeTarget> {
        let key = |t: &ProbeTarget| (t.class, t.address.port());
        all.iter().copied().filter(move |t| t.member == self.member && key(t) == key(self))
    }

    /// The subject of its spans: `<member>/<class>`, with `/Ipv6` for that family; `<member>/<address>` where there may be several.
    pub fn subject(&self) -> String {
        match self.class {
            PortClass::Endpoint | PortClass::Named => format!("{}/{}", self.member, self.address),
            class if self.address.is_ipv6() => format!("{}/{class:?}/Ipv6", self.member),
            class => format!("{}/{class:?}", self.member),
        }
    }
}

/// How a heal packet is known.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Heal {
    /// UDP destination port.
    pub port: u16,
    /// 128 bits in hexadecimal. Whoever knows it can end the run early, nothing else. Where the plan is kept or exported its SHA-256
    /// stands here instead, after `sha256:`.
    pub token: String,
}

impl Heal {
    /// Port of heal packets, unassigned by IANA. Whoever happens to use it is not disturbed: the rule looks at the token, and
    /// every other datagram passes.
    pub const PORT: u16 = 40441;

    /// In front of what stands where the token was taken out. It opens nothing: of 128 random bits nobody finds the token again.
    const DIGEST: &str = "sha256:";

    fn without_token(&self) -> Self {
        let token = match self.token.starts_with(Self::DIGEST) {
            true => self.token.clone(),
            false => format!("{}{}", Self::DIGEST, sha256(self.token.as_bytes())),
        };
        Heal { port: self.port, token }
    }

    /// The token as it stands in the packet.
    ///
    /// # Errors
    /// Where the text is no 32 hexadecimal digits.
    pub fn token_bytes(&self) -> Result<[u8; 16], std::num::ParseIntError> {
        u128::from_str_radix(&self.token, 16).map(u128::to_be_bytes)
    }
}

/// What every agent of a run needs to know.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunPlan {
    pub run: String,
    pub run_uid: String,
    /// Only to look: nobody is armed, whatever the run's phase.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub survey: bool,
    pub members: Vec<Member>,
    pub edges: Vec<Block>,
    /// The packets of an edge that are hit.
    #[serde(default, skip_serializing_if = "Ports::is_everything")]
    pub ports: Ports,
    /// What becomes of them, and when.
    #[serde(default, skip_serializing_if = "Pattern::is_plain")]
    pub pattern: Pattern,
    /// Members that hear nobody but each other, known or not.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub sealed: BTreeSet<String>,
    pub heal: Heal,
    /// Length of the cut, seconds.
    pub duration_seconds: f64,
    /// How long the gate of an armed node lasts: the longest time from arming to the end of the cut, seconds.
    pub longest_seconds: f64,
    pub probes: Vec<ProbeTarget>,
    pub api_servers: Vec<ApiServer>,
    /// API servers of the side that stays writable.
    pub writable: Vec<String>,
}

/// What a plan is made of beside the fault and the snapshot.
#[derive(Clone, Debug)]
pub struct PlanParts {
    pub run: String,
    pub run_uid: String,
    pub token: String,
    pub duration_seconds: f64,
    pub longest_seconds: f64,
    pub writable: Vec<String>,
}

impl RunPlan {
    /// The plan's name among the data of its ConfigMap, and as a file in an agent's pod.
    pub const FILE: &str = "plan.json";

    pub fn new(snapshot: &Snapshot, fault: &Fault, parts: PlanParts) -> Self {
        let nodes = snapshot.nodes.iter().map(|n| Member {
            name: n.name.clone(),
            has_agent: true,
            egress: false,
            rack: n.rack.clone(),
            cidrs: n.addresses.iter().map(|a| IpNet::from(*a)).collect(),
            pod_cidrs: n.pod_cidrs.clone(),
            pods: n.pods.clone(),
            heal_addresses: if n.internal.is_empty() { n.addresses.clone() } else { n.internal.clone() },
        });
        let endpoints = snapshot.endpoints.iter().map(|e| Member {
            name: e.name.clone(),
            has_agent: false,
            egress: e.egress,
            rack: e.rack.clone(),
            cidrs: e.cidrs.clone(),
            pod_cidrs: Vec::new(),
            pods: Vec::new(),
            heal_addresses: Vec::new(),
        });
        RunPlan {
            run: parts.run,
            run_uid: parts.run_uid,
            survey: false,
            members: nodes.chain(endpoints).collect(),
            edges: fault.blocks.clone(),
            ports: fault.ports.clone(),
            pattern: fault.pattern.clone(),
            sealed: if fault.sealed { fault.isolated.clone() } else { BTreeSet::new() },
            heal: Heal { port: Heal::PORT, token: parts.token },
            duration_seconds: parts.duration_seconds,
            longest_seconds: parts.longest_seconds,
            probes: probes(snapshot, &fault.ports),
            api_servers: snapshot.api_servers.clone(),
            writable: parts.writable,
        }
    }

    /// The same plan for others to see: the token's SHA-256 stands where the token was.
    pub fn without_token(&self) -> Self {
        RunPlan { heal: self.heal.without_token(), ..self.clone() }
    }

    /// SHA-256 of the plan as JSON, in hexadecimal. The token counts by its own SHA-256, so that whoever got the plan without it can
    /// check it too.
    pub fn hash(&self) -> String {
        sha256(&serde_json::to_vec(&self.without_token()).expect("a plan is plain data"))
    }

    pub fn cuts(&self, from: &str, to: &str) -> bool {
        self.edges.iter().any(|b| b.cuts(from, to))
    }

    /// Whether TCP between a node and a probe's target is broken: a cut of either direction breaks it, where it hits that port.
    /// Nodes drop what arrives, and what leaves for somebody without an agent.
    pub fn breaks_tcp(&self, node: &str, target: &ProbeTarget) -> bool {
        self.ports.hit_tcp(target.address.port()) && self.breaks(node, &target.member)
    }

    /// Whether any conversation between the two is broken.
    pub fn breaks(&self, a: &str, b: &str) -> bool {
        self.enforcers(a, b).next().is_some()
    }

    /// The node that drops packets from one member to the other, where that edge is cut and somebody does.
    pub fn enforcer<'a>(&self, from: &'a Member, to: &'a Member) -> Option<&'a str> {
        let enforcer = || enforcer((&from.name, from.kind()), (&to.name, to.kind()));
        self.cuts(&from.name, &to.name).then(enforcer).flatten()
    }

    /// Whether this node drops anything.
    pub fn drops_at(&self, node: &str) -> bool {
        let Some(own) = self.member(node) else { return false };
        let drops = |from, to| self.enforcer(from, to) == Some(node);
        self.members.iter().any(|m| drops(m, own) || drops(own, m))
    }

    /// Who drops packets between the two, in either direction.
    fn enforcers(&self, a: &str, b: &str) -> impl Iterator<Item = &str> {
        let both = self.member(a).zip(self.member(b));
        let who = both.map(|(a, b)| [self.enforcer(a, b), self.enforcer(b, a)]);
        who.into_iter().flatten().flatten()
    }

    /// Share of fresh connections between the two that should fail while the cut has effect: each direction takes its part.
    pub fn expected_loss(&self, a: &str, b: &str) -> f64 {
        let through = match self.pattern.effect {
            Effect::Drop | Effect::Reject => 0.0,
            Effect::LossPerPacket { percent } | Effect::LossPerFlow { percent } => 1.0 - f64::from(percent) / 100.0,
        };
        1.0 - f64::powi(through, self.enforcers(a, b).count() as i32)
    }

    /// When packets between the two are hit, seconds after the beginning of a cut of this length. The one who drops decides.
    pub fn windows_between(&self, a: &str, b: &str, length: f64) -> Vec<(f64, f64)> {
        let longer = |x: Vec<(f64, f64)>, y: Vec<(f64, f64)>| {
            let end = |w: &Vec<(f64, f64)>| w.last().map_or(0.0, |w| w.1);
            if end(&x) >= end(&y) { x } else { y }
        };
        let ends = self.enforcers(a, b).map(|name| self.windows_at(name, length));
        ends.reduce(longer).unwrap_or_default()
    }

    /// When the cut has effect on a member, seconds after the beginning of a cut of this length.
    pub fn windows_at(&self, member: &str, length: f64) -> Vec<(f64, f64)> {
        self.pattern.windows(self.member(member).and_then(|m| m.rack.as_deref()), length)
    }

    /// Whom the plan takes an address for that this node has, where the cut does something else to that one: a virtual address, which
    /// is now here and now there.
    pub fn mistaken(&self, node: &str, address: IpAddr) -> Option<&Member> {
        let own = |m: &Member| m.cidrs.iter().filter(|c| c.contains(&address)).map(IpNet::prefix_len).max();
        let others = self.members.iter().filter(|m| m.name != node);
        others
            .filter_map(|m| Some((own(m)?, m)))
            .max_by_key(|(length, _)| *length)
            .map(|(_, m)| m)
            .filter(|m| !fate(&self.edges, node).eq(fate(&self.edges, &m.name)))
    }

    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|m| m.name == name)
    }

    /// Names of the nodes that carry an agent.
    pub fn agents(&self) -> BTreeSet<&str> {
        self.members.iter().filter(|m| m.has_agent).map(|m| m.name.as_str()).collect()
    }
}

impl Member {
    fn kind(&self) -> Kind {
        if self.has_agent { Kind::Node } else { Kind::Endpoint { egress: self.egress } }
    }
    /// Its own addresses and those of its pods.
    pub fn all_cidrs(&self) -> impl Iterator<Item = IpNet> {
        self.cidrs.iter().chain(&self.pod_cidrs).copied()
    }
}

/// In hexadecimal.
fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Merged and sorted.
pub fn merged(cidrs: impl Iterator<Item = IpNet>) -> Vec<IpNet> {
    IpNet::aggregate(&cidrs.collect())
}

/// One target in each family for each port that a node or an endpoint is known to serve, and for each TCP port that the cut names.
fn probes(snapshot: &Snapshot, cut: &Ports) -> Vec<ProbeTarget> {
    let mut probes = Vec::new();
    for node in &snapshot.nodes {
        let mut add = |class, port| add_all(&mut probes, &node.name, class, each_family(&node.addresses), port);
        add(PortClass::Kubelet, node.kubelet_port);
        for member in snapshot.etcd.iter().filter(|m| m.node == node.name) {
            add(PortClass::EtcdClient, member.client_port);
            add(PortClass::EtcdPeer, member.peer_port);
        }
        for server in snapshot.api_servers.iter().filter(|a| a.name == node.name) {
            add(PortClass::ApiServer, server.address.port());
        }
    }
    for endpoint in &snapshot.endpoints {
        let mut add = |class, hosts, port| add_all(&mut probes, &endpoint.name, class, hosts, port);
        let etcd = snapshot.etcd.iter().find(|m| m.node == endpoint.name);
        if let Some(member) = etcd {
            add(PortClass::EtcdClient, each_family(&hosts(endpoint)), member.client_port);
        }
        let is_etcds = |port: u16| etcd.is_some_and(|m| [m.client_port, m.peer_port].contains(&port));
        for port in endpoint.ports.iter().filter(|port| !is_etcds(**port)) {
            add(PortClass::Endpoint, hosts(endpoint), *port);
        }
    }
    // External members take their peers' connections only, and nobody of them is here.
    let peers = snapshot.etcd.iter().map(|m| m.peer_port);
    let known: BTreeSet<u16> = probes.iter().map(|t| t.address.port()).chain(peers).collect();
    let named = cut.ports.iter().filter(|(protocol, port)| *protocol == Protocol::Tcp && !known.contains(port));
    for (_, port) in named {
        for node in &snapshot.nodes {
            add_all(&mut probes, &node.name, PortClass::Named, each_family(&node.addresses), *port);
        }
        for endpoint in &snapshot.endpoints {
            add_all(&mut probes, &endpoint.name, PortClass::Named, each_family(&hosts(endpoint)), *port);
        }
    }
    probes
}

fn add_all(probes: &mut Vec<ProbeTarget>, member: &str, class: PortClass, hosts: Vec<IpAddr>, port: u16) {
    let target = |host| ProbeTarget { member: member.to_owned(), class, address: SocketAddr::new(host, port) };
    probes.extend(hosts.into_iter().map(target));
}

/// The first address of each family.
fn each_family(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let first = |is_ipv4| addresses.iter().copied().find(|a| a.is_ipv4() == is_ipv4);
    [first(true), first(false)].into_iter().flatten().collect()
}

/// Addresses of an endpoint that are one host's.
fn hosts(endpoint: &Endpoint) -> Vec<IpAddr> {
    endpoint.cidrs.iter().filter(|c| c.prefix_len() == c.max_prefix_len()).map(IpNet::addr).collect()
}
