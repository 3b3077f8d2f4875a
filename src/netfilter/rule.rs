//! What one rule of a table says, as plain data: whose packets, to whom, of which traffic, and what becomes of them.

use ipnet::IpNet;

/// One rule. It concerns a packet where `sources`, `destinations` and `ports` all do; a packet that an earlier rule has hit is
/// not seen by a later one.
///
/// Whatever the rules say, three kinds of packets pass: those that the node sends to itself over its loopback interface;
/// neighbour discovery and multicast listener discovery of IPv6 (RFC 4890, section 4.4.1), without which neighbours time out
/// and not even a heal packet arrives; and heal packets of the run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    pub sources: Addresses,
    pub destinations: Addresses,
    /// Empty: any traffic, with or without ports. Otherwise packets that have one of these as source or as destination port,
    /// since in one direction of every conversation the service's port is the source. A fragment but the first has no port,
    /// and passes; connection tracking, where it is in use, puts fragments together before.
    pub ports: Vec<Port>,
    pub effect: Effect,
    pub hook: Hook,
}

impl Rule {
    /// Drops everything that comes from these on ingress.
    pub fn drop_from(sources: Vec<IpNet>) -> Self {
        Self {
            sources: Addresses::Of(sources),
            destinations: Addresses::Any,
            ports: Vec::new(),
            effect: Effect::Drop,
            hook: Hook::Ingress,
        }
    }
}

/// Addresses of both families, in any order; overlaps are merged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Addresses {
    Any,
    /// These only. With an empty list, nobody: a list that came out empty by mistake must not cut a node from everything.
    Of(Vec<IpNet>),
    /// Everybody else: with the addresses of its rack as sources, nothing from outside of the rack. A family that is not in
    /// the list is out as a whole.
    AllBut(Vec<IpNet>),
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Port {
    pub transport: Transport,
    pub port: u16,
}

/// Transport protocols with ports, by their IANA protocol number.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Transport {
    Tcp = 6,
    Udp = 17,
    Sctp = 132,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Silence.
    Drop,
    /// The sender is told at once: TCP by a reset, everything else by ICMP "administratively prohibited" (type 3 code 13, or
    /// type 1 code 1 of ICMPv6). The kernel limits its ICMP errors to about one a second for each peer (`icmp_ratelimit` in
    /// `Documentation/networking/ip-sysctl.rst`); what is above is dropped silently. TCP resets are not limited.
    ///
    /// Resets and ICMP "unreachable" pass a rule with this effect: where both ends reject, the answers would not arrive
    /// otherwise, and both would see silence. On ingress this needs Linux 5.9 (`reject` at `prerouting`).
    Reject,
    /// Some are dropped: `permille` (1 to 1000) of a thousand, chosen by chance for each packet, or once for each flow.
    Loss { permille: u16, per: Unit },
}

/// What chance decides about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unit {
    /// Each packet anew, as a bad cable.
    Packet,
    /// All packets of a flow alike, as one bad link of a bundle: some conversations never get through, all others always. A
    /// flow is source, destination and both ports (of TCP, UDP and SCTP), so the two directions of a conversation are two
    /// flows, as they are to the two ends of a bundle. Which flows are lost is decided by a hash seeded with the table's name:
    /// others in another run, the same on every node of one run.
    Flow,
}

/// Where packets are looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hook {
    /// What arrives at the node, for itself or for its pods, before connection tracking and before any address translation:
    /// to the sender it is as if a switch had swallowed it.
    Ingress,
    /// What leaves the node, its own or its pods', after the destination was translated (a Service's address is an endpoint's
    /// by then) and before the source is. For packets to those that have no agent: a load balancer, an external etcd.
    ///
    /// A chain at `postrouting`, and for [`Effect::Reject`] at `output` and `forward`, since the kernel allows no `reject` at
    /// `postrouting`.
    ///
    /// What senders see of a drop, measured on Linux 6.18: an established connection that writes one byte right after the cut,
    /// and datagrams of a connected socket.
    ///
    /// | where | UDP of the node | TCP of the node | the byte arrives after the heal of a cut of 20 s, of 60 s |
    /// |---|---|---|---|
    /// | `prerouting` of the receiver, the wire | silence | silence | 6.7 s, 47.8 s |
    /// | `postrouting` | EPERM | silence | 6.5 s, 47.5 s |
    /// | `output` | EPERM | silence | 6.5 s, 47.5 s |
    /// | `netdev egress`, forwarded to a sink | silence | silence | 6.6 s, 47.7 s |
    /// | `netdev egress`, dropped | silence, or ENOBUFS with `IP_RECVERR` | probes twice a second | never: it fails with ETIMEDOUT after 7.9 s of cut |
    ///
    /// So at `postrouting` the node's own TCP behaves as on a wire, and so does everything of its pods, whose packets are
    /// forwarded. Only the node's own datagrams tell: programs in the host's network get EPERM where a wire would be silent.
    /// Only `netdev egress` with a sink would be silent there too, but family `inet` has no egress hook (EOPNOTSUPP): it takes a
    /// second table, a chain for each device and a device as sink, thus two gates, no longer one transaction, and something
    /// to clean up after a crash. Too much for an error that hardly any component of a cluster meets.
    Egress,
}
