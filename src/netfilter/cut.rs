//! The chains that cut: each rule of a spec as rules of the kernel, for both families.

use super::LOOPBACK;
use super::expr::Expressions;
use super::family::{FAMILIES, Family, keys, matches};
use super::numbers::*;
use super::rule::{Effect, Hook, Port, Rule, Transport, Unit};
use super::writer::{NETWORK_ORDER, PARTS, Set, Writer};

/// Register 2, and register `n` of four bytes: hashes want their bytes side by side, and register 1 for the result.
const REG_2: u32 = 2;
const fn reg32(n: u32) -> u32 {
    8 + n
}
/// The second four bytes of register 1.
const REG_1_SECOND: u32 = reg32(1);

const SOURCE_PORT: u32 = 0;
const DESTINATION_PORT: u32 = 2;
/// The bit of a reset among the flags of TCP, byte 13 of its header.
const TCP_RST: u8 = 4;
/// "Destination unreachable" of ICMP and of ICMPv6.
const UNREACHABLE: [(u8, u8); 2] = [(IPPROTO_ICMP, 3), (IPPROTO_ICMPV6, 1)];
/// Protocols whose first four bytes are two ports.
const WITH_PORTS: [u8; 3] = [Transport::Tcp as u8, Transport::Udp as u8, Transport::Sctp as u8];

/// A chain that base chains jump to while the cut has effect.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Chain {
    Ingress,
    Egress,
    /// Egress rules that reject, which the kernel allows elsewhere only.
    EgressReject,
}

impl Chain {
    pub const ALL: [Self; 3] = [Self::Ingress, Self::Egress, Self::EgressReject];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
            Self::EgressReject => "egress-reject",
        }
    }
    pub fn of(rule: &Rule) -> Self {
        match (rule.hook, rule.effect) {
            (Hook::Ingress, _) => Self::Ingress,
            (Hook::Egress, Effect::Reject) => Self::EgressReject,
            (Hook::Egress, _) => Self::Egress,
        }
    }
    /// Creates it. What the node sends to itself goes back at once.
    pub fn write(self, w: &mut Writer<'_>) {
        let interface = if self == Self::Ingress { meta::IIF } else { meta::OIF };
        w.chain(self.name(), |_| {});
        w.rule(self.name(), "the rule for loopback", None, |e| e.meta(interface).eq(&LOOPBACK.to_ne_bytes()).back());
    }
}

/// Writes rule `n` into its chain, with the sets that it needs. `seed`: of the hash of flows.
pub fn write(w: &mut Writer<'_>, n: usize, rule: &Rule, seed: u32) {
    let chain = Chain::of(rule).name();
    let reject = format!("reject-{n}");
    if rule.effect == Effect::Reject {
        write_reject(w, n, &reject);
    }
    let ports = (!rule.ports.is_empty()).then(|| port_set(w, &format!("ports-{n}"), &rule.ports));
    let by_flow = matches!(rule.effect, Effect::Loss { per: Unit::Flow, .. });
    let transports = (by_flow && ports.is_none()).then(|| transport_set(w, n));
    let traffic = match &transports {
        Some(set) => vec![Traffic::WithPorts(set), Traffic::Portless(set)],
        None => of_ports(ports.as_ref()),
    };
    let (sources, destinations) = (keys(&rule.sources), keys(&rule.destinations));
    for (i, family) in FAMILIES.iter().enumerate() {
        let sources = matches(w, &format!("sources{}-{n}", family.name), family, &rule.sources, &sources[i]);
        let name = format!("destinations{}-{n}", family.name);
        let destinations = matches(w, &name, family, &rule.destinations, &destinations[i]);
        let ends = sources.iter().flat_map(|s| destinations.iter().map(move |d| (s, d)));
        for ((source, destination), traffic) in ends.flat_map(|ends| traffic.iter().map(move |t| (ends, t))) {
            w.rule(chain, &format!("rule {n} for IPv{}", family.name), Some(n), |e| {
                let e = e.meta(meta::NFPROTO).eq(&[family.number]);
                let e = destination.look_up(source.look_up(e, family.source), family.destination);
                let e = traffic.look_up(e);
                match rule.effect {
                    Effect::Drop => e.counter().drop(),
                    Effect::Reject => e.jump(&reject),
                    Effect::Loss { permille, per } => {
                        let e = match per {
                            Unit::Packet => e.random(1000),
                            Unit::Flow => flow(e, family, !matches!(traffic, Traffic::Portless(_)), seed),
                        };
                        e.below(permille.into()).counter().drop()
                    }
                }
            });
        }
    }
}

/// Packets with one of these ports, or all.
pub fn of_ports(ports: Option<&Set>) -> Vec<Traffic<'_>> {
    ports.map_or(vec![Traffic::All], |set| vec![Traffic::FromPort(set), Traffic::ToPort(set)])
}

/// A part of a rule's traffic that one rule of the kernel can match.
pub enum Traffic<'a> {
    All,
    FromPort(&'a Set),
    /// And not from such a port: packets between two of them are met once, or they would be lost twice as often.
    ToPort(&'a Set),
    /// Of transport protocols with ports.
    WithPorts(&'a Set),
    Portless(&'a Set),
}

impl Traffic<'_> {
    pub fn look_up<'a>(&self, e: Expressions<'a>) -> Expressions<'a> {
        let port =
            |e: Expressions<'a>, offset| e.meta(meta::L4PROTO).payload_to(REG_1_SECOND, base::TRANSPORT, offset, 2);
        match self {
            Self::All => e,
            Self::FromPort(set) => port(e, SOURCE_PORT).look_up(set, true),
            Self::ToPort(set) => port(port(e, SOURCE_PORT).look_up(set, false), DESTINATION_PORT).look_up(set, true),
            Self::WithPorts(set) => e.meta(meta::L4PROTO).look_up(set, true),
            Self::Portless(set) => e.meta(meta::L4PROTO).look_up(set, false),
        }
    }
}

/// Protocols and ports.
pub fn port_set(w: &mut Writer<'_>, name: &str, ports: &[Port]) -> Set {
    let mut ports = ports.to_vec();
    ports.sort_unstable();
    ports.dedup();
    // Each part of a key is padded to the four bytes of a register.
    let key =
        |p: &Port| [[p.transport as u8, 0, 0, 0], [p.port.to_be_bytes()[0], p.port.to_be_bytes()[1], 0, 0]].concat();
    let set = w.new_set(name.to_owned(), 0, (datatype::INET_PROTO_AND_SERVICE, 8), PARTS);
    w.keys(&set, &ports.iter().map(key).collect::<Vec<_>>());
    set
}

/// The protocols with ports, for the hash of flows.
fn transport_set(w: &mut Writer<'_>, n: usize) -> Set {
    let set = w.new_set(format!("transports-{n}"), 0, (datatype::INET_PROTO, 1), NETWORK_ORDER);
    w.keys(&set, &WITH_PORTS.map(|p| vec![p]));
    set
}

/// Loads a number below 1000 that is the same for all packets of a flow.
fn flow<'a>(e: Expressions<'a>, family: &Family, ports: bool, seed: u32) -> Expressions<'a> {
    let words = family.length / 4;
    let e = e.payload_to(REG_2, base::NETWORK, family.source, family.length).payload_to(
        reg32(4 + words),
        base::NETWORK,
        family.destination,
        family.length,
    );
    if !ports {
        return e.jhash(REG_2, 2 * family.length, 1000, seed);
    }
    e.payload_to(reg32(4 + 2 * words), base::TRANSPORT, SOURCE_PORT, 2)
        .payload_to(reg32(5 + 2 * words), base::TRANSPORT, DESTINATION_PORT, 2)
        .jhash(REG_2, 2 * family.length + 8, 1000, seed)
}

/// The chain in which rule `n` rejects. What the other end's table answers goes back: see [`Effect::Reject`].
fn write_reject(w: &mut Writer<'_>, n: usize, chain: &str) {
    w.chain(chain, |_| {});
    let label = &format!("the rejection of rule {n}");
    w.rule(chain, label, None, |e| {
        e.meta(meta::L4PROTO).eq(&[IPPROTO_TCP]).payload(base::TRANSPORT, 13, 1).and(&[TCP_RST]).not_eq(&[0]).back()
    });
    for (protocol, kind) in UNREACHABLE {
        w.rule(chain, label, None, |e| {
            e.meta(meta::L4PROTO).eq(&[protocol]).payload(base::TRANSPORT, 0, 1).eq(&[kind]).back()
        });
    }
    w.rule(chain, label, Some(n), |e| e.meta(meta::L4PROTO).eq(&[IPPROTO_TCP]).counter().reject_tcp());
    w.rule(chain, label, Some(n), |e| e.counter().reject_icmp());
}
