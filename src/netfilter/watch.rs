//! The table that watches. It counts and stamps marked datagrams in front of the cut and behind it, so that each direction
//! between two nodes is proven by the receiver's kernel and no port has to be open; and it notices whoever is a stranger.
//!
//! It takes nothing but its own datagrams off their way, and the kernel removes it when the process that made it ends, however
//! that ends: the table belongs to its socket.

use super::decode::{Attributes, Message};
use super::family::{FAMILIES, Side, intervals};
use super::handle::{is, refused};
use super::numbers::*;
use super::rule::Addresses;
use super::socket::Socket;
use super::state::items;
use super::table::INGRESS_PRIORITY;
use super::wire::Batch;
use super::writer::{NETWORK_ORDER, Set, Writer};
use super::{Error, LOOPBACK};
use ipnet::IpNet;
use rustix::io::Errno;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

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
    /// UDP destination port of the datagrams.
    pub port: u16,
    /// The first 16 bytes of their payload; the sender's key follows, four bytes in network order.
    pub mark: [u8; 16],
    /// Everybody whose place is known. Whoever else gets a packet to this node through the cut is a stranger. `None`: nobody is
    /// looked for.
    pub known: Option<Vec<IpNet>>,
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
    /// Datagrams that came to the node, by the sender's key.
    pub arrived: Vec<Count<u32>>,
    /// Those of them that the cut let through. Looked at after `arrived`, so the difference never accuses a cut of a packet
    /// that was on its way between the two hooks.
    pub heard: Vec<Count<u32>>,
    /// Packets of any kind that the cut let through and that came from nobody who is known.
    pub strangers: Vec<Count<IpAddr>>,
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
            e if refusal.message == CREATE && is(&e, Errno::EXIST) => Error::TableExists { table: spec.name.clone() },
            _ => refused("watch with", &spec.name, refusal),
        })?;
        Ok(Self { socket, spec })
    }

    /// What the kernel has counted.
    ///
    /// # Errors
    /// Where the kernel refuses or does not answer; [`Error::Read`] with ENOENT where somebody removed the table.
    pub fn look(&mut self) -> Result<Sight, Error> {
        let arrived = self.counts("the datagrams that came", &ARRIVED.name, key)?;
        let heard = self.counts("the datagrams that were heard", &HEARD.name, key)?;
        let mut strangers = Vec::new();
        if self.spec.known.is_some() {
            strangers.extend(self.counts("the strangers of IPv4", &strangers_set(0).name, v4)?);
            strangers.extend(self.counts("the strangers of IPv6", &strangers_set(1).name, v6)?);
        }
        Ok(Sight { arrived, heard, strangers })
    }

    fn counts<K>(
        &mut self,
        what: &'static str,
        set: &str,
        read: impl Fn(&[u8]) -> Option<K>,
    ) -> Result<Vec<Count<K>>, Error> {
        let build = |a: &mut super::wire::Attrs| {
            a.str(TABLE, &self.spec.name).str(elem::LIST_SET, set);
        };
        let counted = |m: &Message<'_>| items(m.attributes()).filter_map(|e| count(e, &read)).collect::<Vec<_>>();
        let rows = self.socket.dump(what, msg::GETSETELEM, build, counted)?;
        Ok(rows.map_err(|source| Error::Read { what, source })?.into_iter().flatten().collect())
    }
}

/// Message of the batch that fails with EEXIST where the table is there already.
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
    w.set(&ARRIVED);
    w.set(&HEARD);
    count_datagrams(&mut w, spec, ("in-front", INGRESS_PRIORITY - 1), &ARRIVED, false);
    count_datagrams(&mut w, spec, ("behind", INGRESS_PRIORITY + 1), &HEARD, true);
    if let Some(known) = &spec.known {
        notice_strangers(&mut w, "behind", known);
    }
    w.batch
}

/// A chain at `prerouting` that counts marked datagrams by their sender, and takes them if nobody is to see them after it.
fn count_datagrams(w: &mut Writer<'_>, spec: &WatchSpec, (chain, priority): (&str, i32), set: &Set, take: bool) {
    w.base_chain(chain, chain::PREROUTING, priority);
    w.rule(chain, "the rule for datagrams", None, |e| {
        let e = e
            .meta(meta::L4PROTO)
            .eq(&[IPPROTO_UDP])
            .payload(base::TRANSPORT, 2, 2)
            .eq(&spec.port.to_be_bytes())
            .payload(base::TRANSPORT, 8, 16)
            .eq(&spec.mark)
            .payload(base::TRANSPORT, KEY_OFFSET, 4)
            .count_in(set, KEPT.as_millis() as u64);
        // Nobody listens there, and the node would answer that the port is unreachable.
        if take { e.drop() } else { e }
    });
}

/// Rules behind which only strangers come, and one that notes them.
fn notice_strangers(w: &mut Writer<'_>, chain: &str, known: &[IpNet]) {
    w.rule(chain, "the rule for loopback", None, |e| e.meta(meta::IIF).eq(&LOOPBACK.to_ne_bytes()).accept());
    let known = Addresses::AllBut(known.to_vec());
    let networks = intervals(&known);
    for (i, family) in FAMILIES.iter().enumerate() {
        let set = strangers_set(i);
        w.set(&set);
        let name = format!("known{}", family.name);
        let Some(unknown) = Side::new(w, name, family, &known, &networks[i]) else { continue };
        w.rule(chain, "the rule for strangers", None, |e| {
            let e = e.meta(meta::NFPROTO).eq(&[family.number]);
            // The address stays in the register behind the lookup, but not where there is none.
            let e = unknown.look_up(e, family.source).payload(base::NETWORK, family.source, family.length);
            e.count_in(&set, KEPT.as_millis() as u64)
        });
    }
}

fn count<K>(element: Attributes<'_>, read: impl Fn(&[u8]) -> Option<K>) -> Option<Count<K>> {
    let from = read(element.nested(elem::KEY).get(DATA_VALUE)?)?;
    let left = Duration::from_millis(element.be64(elem::EXPIRATION)?);
    let counter = element.nested(elem::EXPR);
    let packets = counter.nested(rule::EXPR_DATA).be64(rule::COUNTER_PACKETS)?;
    Some(Count { from, packets, age: KEPT.saturating_sub(left) })
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
