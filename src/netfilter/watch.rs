//! The table that watches. It counts and stamps marked datagrams in front of the cut and behind it, so that each direction
//! between two nodes is proven by the receiver's kernel and no port has to be open; and it notices whoever is a stranger.
//!
//! It takes nothing but its own datagrams off their way, and the kernel removes it when the process that made it ends, however
//! that ends: the table belongs to its socket.

use super::cut;
use super::decode::{Attributes, Message};
use super::family::{FAMILIES, keys, matches};
use super::handle::{is, refused};
use super::numbers::*;
use super::rule::{Addresses, Port};
use super::socket::Socket;
use super::state::items;
use super::table::{INGRESS_PRIORITY, pass_neighbour_discovery};
use super::wire::Batch;
use super::writer::{NETWORK_ORDER, Set, Writer};
use super::{Error, LOOPBACK};
use ipnet::IpNet;
use rustix::io::Errno;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

/// How long an element is kept after its last packet; what is left of it tells when that was. Far longer than any run.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Senders that are told apart; more than any plan makes a node listen to.
const SENDERS: u32 = 1 << 16;
/// Strangers that are told apart. Somebody who sends from ever new addresses fills no more of the kernel's memory than this.
const STRANGERS: u32 = 64;
/// Where the key of the sender stands: behind the header of UDP and the mark.
const KEY_OFFSET: u32 = 8 + 16;

/// What a node listens to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WatchSpec {
    /// Name of the table, from [`crate::api::watch_table_name`].
    pub name: String,
    /// UDP destination ports of the datagrams.
    pub ports: Vec<u16>,
    /// The first 16 bytes of their payload, one of these; the sender's key follows, four bytes in network order. What has none of them
    /// goes on: also what a pod here sends to another node comes by both hooks.
    pub marks: Vec<[u8; 16]>,
    /// Keys of those who are expected. Their counters are there from the start: a packet that meets a new key needs per-CPU memory for
    /// one, which the kernel does not wait for (`nft_counter_clone`, GFP_ATOMIC), and goes uncounted while there is none at hand. In
    /// one of the two places that would look like a loss.
    pub senders: Vec<u32>,
    /// Who is a stranger. `None`: nobody is looked for.
    pub strangers: Option<Strangers>,
}

/// Whoever gets a packet to this node, and not to a group of nodes, that the cut would take from others.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Strangers {
    /// Everybody but these, whose place is known.
    pub but: Vec<IpNet>,
    /// Only packets with one of these ports, as [`super::Rule::ports`].
    pub ports: Vec<Port>,
}

/// What came from one sender since the table was made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Count<K> {
    pub from: K,
    pub packets: u64,
    /// Since the last of them, by the kernel's ticks (1 to 10 ms).
    pub age: Duration,
}

/// One look at the table.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Sight {
    /// Datagrams that came to the node, by the sender's key; those who are expected are among them, also where none came.
    pub arrived: Vec<Count<u32>>,
    /// Those of them that the cut let through. Looked at after `arrived`; and yet a packet may be between the two hooks for as
    /// long as its processor is taken away, and is missing here in one look.
    pub heard: Vec<Count<u32>>,
    /// Packets that the cut let through and that came from a stranger.
    pub strangers: Vec<Count<IpAddr>>,
    /// There may be more strangers than these: no more are told apart in one family.
    pub more_strangers: bool,
}

/// The table, as long as this lives.
pub struct Watch {
    socket: Socket,
    spec: WatchSpec,
}

impl Watch {
    /// Makes the table.
    ///
    /// # Errors
    /// [`Error::TableExists`] while an earlier process of the run still has it; [`Error::Refused`] where the kernel knows no
    /// tables with an owner (before Linux 5.12).
    pub fn open(spec: WatchSpec) -> Result<Self, Error> {
        let mut socket = Socket::open().map_err(Error::Open)?;
        socket.commit(table(&spec))?.map_err(|refusal| match refusal.source {
            e if refusal.message == CREATE && (is(&e, Errno::EXIST) || is(&e, Errno::PERM)) => {
                Error::TableExists { table: spec.name.clone() }
            }
            _ => refused("watch with", &spec.name, refusal),
        })?;
        Ok(Self { socket, spec })
    }

    /// What the kernel has counted.
    ///
    /// # Errors
    /// Where the kernel refuses or does not answer; [`Error::Read`] with ENOENT where somebody removed the table.
    pub fn look(&mut self) -> Result<Sight, Error> {
        let begun = Instant::now();
        let arrived = self.counts(begun, "the datagrams that came", &ARRIVED.name, key)?;
        let heard = self.counts(begun, "the datagrams that were heard", &HEARD.name, key)?;
        let (mut strangers, mut more_strangers) = (Vec::new(), false);
        if self.spec.strangers.is_some() {
            let v4 = self.counts(begun, "the strangers of IPv4", &strangers_set(0).name, v4)?;
            let v6 = self.counts(begun, "the strangers of IPv6", &strangers_set(1).name, v6)?;
            more_strangers = [&v4, &v6].iter().any(|list| list.len() >= STRANGERS as usize);
            strangers = [v4, v6].concat();
            // While somebody else's transaction is committed, as kube-proxy's are all the time, kernels may for a moment not find
            // what is in a set, and take a member for a stranger.
            let known = self.spec.strangers.iter().flat_map(|s| &s.but);
            strangers.retain(|c: &Count<IpAddr>| !known.clone().any(|net| net.contains(&c.from)));
        }
        Ok(Sight { arrived, heard, strangers, more_strangers })
    }

    /// Ages are told as of `begun`, whatever looking took.
    fn counts<K>(
        &mut self,
        begun: Instant,
        what: &'static str,
        set: &str,
        read: impl Fn(&[u8]) -> Option<K>,
    ) -> Result<Vec<Count<K>>, Error> {
        let build = |a: &mut super::wire::Attrs| {
            a.str(TABLE, &self.spec.name).str(elem::LIST_SET, set);
        };
        let counted = |m: &Message<'_>| items(m.attributes()).filter_map(|e| count(e, &read)).collect::<Vec<_>>();
        let rows =
            self.socket.dump(what, msg::GETSETELEM, build, counted)?.map_err(|source| Error::Read { what, source })?;
        let took = begun.elapsed();
        let as_of_begun = |c: Count<K>| Count { age: c.age.saturating_sub(took), ..c };
        Ok(rows.into_iter().flatten().map(as_of_begun).collect())
    }
}

/// The two chains, on either side of the cut's.
const IN_FRONT: &str = "in-front";
const BEHIND: &str = "behind";
/// `PACKET_HOST` of `linux/if_packet.h`: for this host, and not for a group or for everybody.
const FOR_THIS_HOST: u8 = 0;

/// Message of the batch that fails with EEXIST where the table is there already, and with EPERM where it is another process's.
/// Without CAP_NET_ADMIN the message before it fails.
const CREATE: usize = 1;

const ARRIVED: Set = senders("arrived", 1);
const HEARD: Set = senders("heard", 2);

const fn senders(name: &'static str, id: u32) -> Set {
    let key = (datatype::MARK, 4);
    Set {
        name: std::borrow::Cow::Borrowed(name),
        id,
        flags: set::DYNAMIC_TIMEOUT,
        key,
        size: SENDERS,
        userdata: NETWORK_ORDER,
    }
}

/// Of the family with this index.
fn strangers_set(i: usize) -> Set {
    let family = &FAMILIES[i];
    Set {
        name: format!("strangers{}", family.name).into(),
        id: 3 + i as u32,
        flags: set::DYNAMIC_TIMEOUT,
        key: (family.address, family.length),
        size: STRANGERS,
        userdata: NETWORK_ORDER,
    }
}

fn table(spec: &WatchSpec) -> Batch {
    let mut w = Writer::new(&spec.name);
    w.push("the table", msg::NEWTABLE, F_CREATE | F_EXCL, |a| {
        a.be32(table::FLAGS, table::OWNER);
    });
    let expected: Vec<Vec<u8>> = spec.senders.iter().map(|key| key.to_be_bytes().to_vec()).collect();
    for set in [&ARRIVED, &HEARD] {
        w.set(set);
        w.counters(set, &expected, KEPT.as_millis() as u64);
    }
    w.base_chain(IN_FRONT, chain::PREROUTING, INGRESS_PRIORITY - 1);
    count_datagrams(&mut w, spec, IN_FRONT, &ARRIVED, false);
    w.base_chain(BEHIND, chain::PREROUTING, INGRESS_PRIORITY + 1);
    if let Some(strangers) = &spec.strangers {
        notice(&mut w, BEHIND, strangers);
    }
    count_datagrams(&mut w, spec, BEHIND, &HEARD, true);
    w.batch
}

/// Counts marked datagrams by their sender, and takes them if nobody is to see them after it.
fn count_datagrams(w: &mut Writer<'_>, spec: &WatchSpec, chain: &str, set: &Set, take: bool) {
    for (port, mark) in spec.ports.iter().flat_map(|port| spec.marks.iter().map(move |mark| (*port, mark))) {
        w.rule(chain, "the rule for datagrams", None, |e| {
            let e = e.datagram(port, mark).payload(base::TRANSPORT, KEY_OFFSET, 4);
            let e = e.count_in(set, KEPT.as_millis() as u64);
            // Nobody listens there, and the node would answer that the port is unreachable; or somebody else does.
            if take { e.drop() } else { e }
        });
    }
}

/// Notes strangers, and lets them go on. Neighbours are none, whatever addresses they ask with.
fn notice(w: &mut Writer<'_>, chain: &str, strangers: &Strangers) {
    pass_neighbour_discovery(w, chain);
    let but = Addresses::AllBut(strangers.but.clone());
    let keys = keys(&but);
    let ports = (!strangers.ports.is_empty()).then(|| cut::port_set(w, "ports", &strangers.ports));
    for (i, family) in FAMILIES.iter().enumerate() {
        let set = strangers_set(i);
        w.set(&set);
        let unknown = matches(w, &format!("known{}", family.name), family, &but, &keys[i]);
        let traffic = cut::of_ports(ports.as_ref());
        for (unknown, traffic) in unknown.iter().flat_map(|u| traffic.iter().map(move |t| (u, t))) {
            w.rule(chain, "the rule for strangers", None, |e| {
                let e = e.meta(meta::PKTTYPE).eq(&[FOR_THIS_HOST]).meta(meta::IIF).not_eq(&LOOPBACK.to_ne_bytes());
                let e = unknown.look_up(e.meta(meta::NFPROTO).eq(&[family.number]), family.source);
                let e = traffic.look_up(e).payload(base::NETWORK, family.source, family.length);
                e.count_in(&set, KEPT.as_millis() as u64)
            });
        }
    }
}

fn count<K>(element: Attributes<'_>, read: impl Fn(&[u8]) -> Option<K>) -> Option<Count<K>> {
    let from = read(element.nested(elem::KEY).get(DATA_VALUE)?)?;
    let left = Duration::from_millis(element.be64(elem::EXPIRATION)?);
    let counter = element.nested(elem::EXPR);
    let packets = counter.nested(rule::EXPR_DATA).be64(rule::COUNTER_PACKETS)?;
    Some(Count { from, packets, age: KEPT.saturating_sub(left) })
}

#[cfg(fuzzing)]
pub fn read_anything(message: Attributes<'_>) {
    for element in items(message) {
        let _ = (count(element, key), count(element, v4), count(element, v6));
    }
}

fn key(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_be_bytes)
}

fn v4(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).ok().map(|b| Ipv4Addr::from(b).into())
}

fn v6(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 16]>::try_from(bytes).ok().map(|b| Ipv6Addr::from(b).into())
}
