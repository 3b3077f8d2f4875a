//! The table of a run as transactions: everything between a `TableSpec` and bytes.

use super::expr::Expressions;
use super::interval::{self, Interval};
use super::numbers::*;
use super::wire::{Attrs, Batch};
use super::{Error, TableSpec, TimeWindow};
use std::time::Duration;

pub const GATE: &str = "gate";
pub const WINDOWS: &str = "windows";
const PEERS4: &str = "peers4";
const PEERS6: &str = "peers6";
const CHAIN: &str = "prerouting";
/// Before connection tracking (-200) and `raw` (-300), so that established connections are cut too and sources are still the
/// real ones; after reassembly (-400), so that no fragment slips by. From `linux/netfilter_ipv4.h`.
const PRIORITY: i32 = -350;
/// Types of ICMPv6 neighbour discovery, RFC 4861: router and neighbour, solicitation and advertisement. Without them
/// neighbours time out in mid-cut and not even the heal packet arrives.
const NEIGHBOUR_DISCOVERY: [u8; 4] = [133, 134, 135, 136];
/// The one key of the gate.
const GATE_KEY: [u8; 4] = [0; 4];
/// Intervals in one message. The longest (IPv6) takes 64 bytes, and an attribute ends at 64 KiB.
const INTERVALS_PER_MESSAGE: usize = 500;

/// User data that `nft list` wants of a set (`libnftnl/udata.h`): byte order of the key, 1 host or 2 network.
const fn byte_order(order: u8) -> [u8; 6] {
    [0, 4, order, 0, 0, 0]
}
/// The same with a `typeof meta time`, without which `nft list` cannot name the type: an expression (3) that is a meta (9)
/// with the key 30. As `nft` 1.0.6 writes it.
const TYPEOF_META_TIME: [u8; 22] = [0, 4, 1, 0, 0, 0, 3, 14, 0, 4, 9, 0, 0, 0, 1, 6, 0, 4, 30, 0, 0, 0];

struct Set {
    name: &'static str,
    /// Names the set inside of one transaction, where the kernel has not numbered it yet.
    id: u32,
    flags: u32,
    /// Data type for listings, and length in bytes.
    key: (u32, u32),
    userdata: &'static [u8],
}

const PEERS4_SET: Set =
    Set { name: PEERS4, id: 1, flags: set::INTERVAL, key: (datatype::IPV4_ADDR, 4), userdata: &byte_order(2) };
const PEERS6_SET: Set =
    Set { name: PEERS6, id: 2, flags: set::INTERVAL, key: (datatype::IPV6_ADDR, 16), userdata: &byte_order(2) };
const WINDOWS_SET: Set =
    Set { name: WINDOWS, id: 3, flags: set::INTERVAL, key: (datatype::TIME, 8), userdata: &TYPEOF_META_TIME };
const GATE_SET: Set =
    Set { name: GATE, id: 4, flags: set::DYNAMIC_TIMEOUT, key: (datatype::MARK, 4), userdata: &byte_order(1) };
const NEIGHBOURS_SET: Set = Set {
    name: "__set%d", // the kernel counts anonymous sets by this pattern
    id: 5,
    flags: set::ANONYMOUS_CONSTANT,
    key: (datatype::ICMPV6_TYPE, 1),
    userdata: &byte_order(2),
};

/// Message of [`arm`]'s batch that fails with EEXIST where the table is there already.
pub const CREATE: usize = 1;

/// Everything but the windows.
pub fn arm(spec: &TableSpec, gate: Duration) -> Batch {
    let (v4, v6) = interval::of_sources(&spec.sources);
    let families = [(PEERS4_SET, NFPROTO_IPV4, 12, v4), (PEERS6_SET, NFPROTO_IPV6, 8, v6)];
    let families = families.into_iter().filter(|f| !f.3.is_empty()).collect::<Vec<_>>();
    let mut w = Writer::new(&spec.name);
    w.push("the table", msg::NEWTABLE, F_CREATE | F_EXCL, |_| {});
    for (peers, .., sources) in &families {
        w.set(peers);
        w.intervals(peers, sources);
    }
    w.set(&WINDOWS_SET);
    w.set(&GATE_SET);
    w.gate(gate);
    w.push("chain prerouting", msg::NEWCHAIN, F_CREATE, |a| {
        a.str(chain::NAME, CHAIN)
            .nest(chain::HOOK, |h| {
                h.be32(chain::HOOK_NUM, chain::PREROUTING).bytes(chain::HOOK_PRIORITY, &PRIORITY.to_be_bytes());
            })
            .be32(chain::POLICY, 1)
            .str(chain::TYPE, "filter");
    });
    // The counter comes first: a packet that has deleted something has been counted before. See `Netfilter::cut`.
    w.rule("the heal rule", |e| {
        e.meta(meta::L4PROTO)
            .eq(&[IPPROTO_UDP])
            .payload(base::TRANSPORT, 2, 2)
            .eq(&spec.heal_port.to_be_bytes())
            .payload(base::TRANSPORT, 8, 16)
            .eq(&spec.heal_token)
            .counter()
            .constant()
            .delete_from(GATE, GATE_SET.id)
    });
    w.set(&NEIGHBOURS_SET);
    w.elements(&NEIGHBOURS_SET, "the types of neighbour discovery", |l| {
        for kind in NEIGHBOUR_DISCOVERY {
            element(l, &[kind], |_| {});
        }
    });
    w.rule("the rule for neighbour discovery", |e| {
        e.meta(meta::NFPROTO)
            .eq(&[NFPROTO_IPV6])
            .meta(meta::L4PROTO)
            .eq(&[IPPROTO_ICMPV6])
            .payload(base::TRANSPORT, 0, 1)
            .lookup(NEIGHBOURS_SET.name, NEIGHBOURS_SET.id)
            .accept()
    });
    for (peers, family, offset, _) in &families {
        w.rule(&format!("the drop rule of {}", peers.name), |e| {
            // Whose packet it is comes first: all that is not cut leaves the rule there, before gate and clock are read.
            e.meta(meta::NFPROTO)
                .eq(&[*family])
                .payload(base::NETWORK, *offset, peers.key.1)
                .lookup(peers.name, peers.id)
                .constant()
                .lookup(GATE, GATE_SET.id)
                .meta(meta::TIME_NS)
                .hton64()
                .lookup(WINDOWS, WINDOWS_SET.id)
                .counter()
                .drop()
        });
    }
    w.batch
}

/// Message of [`cut`]'s batch that fails with ENOENT where the gate is closed.
pub const TAKE_GATE: usize = 1;

/// Takes the gate, puts it in again for the rest of the run, and loads the windows.
pub fn cut(table: &str, windows: &[TimeWindow], gate: Duration) -> Result<Batch, Error> {
    let windows = interval::of_windows(windows)?;
    let mut w = Writer::new(table);
    w.push("the open gate", msg::DELSETELEM, 0, |a| {
        a.str(elem::LIST_SET, GATE).nest(elem::LIST_ELEMENTS, |l| element(l, &GATE_KEY, |_| {}));
    });
    // Right behind, so that a heal packet in between finds the new element, not the one that is going.
    w.gate(gate);
    w.intervals(&WINDOWS_SET, &windows);
    Ok(w.batch)
}

/// Empties the gate, open or not.
pub fn close_gate(table: &str) -> Batch {
    let mut w = Writer::new(table);
    w.push("the gate", msg::DELSETELEM, 0, |a| {
        a.str(elem::LIST_SET, GATE);
    });
    w.batch
}

pub fn remove(table: &str) -> Batch {
    let mut w = Writer::new(table);
    w.push("the table", msg::DELTABLE, 0, |_| {});
    w.batch
}

struct Writer<'a> {
    table: &'a str,
    batch: Batch,
}

impl<'a> Writer<'a> {
    fn new(table: &'a str) -> Self {
        Self { table, batch: Batch::new() }
    }
    fn push(&mut self, label: impl Into<String>, msg: u16, flags: u16, build: impl FnOnce(&mut Attrs)) {
        self.batch.push(label, msg, flags, |a| build(a.str(TABLE, self.table)));
    }
    fn set(&mut self, set: &Set) {
        self.push(format!("set {}", set.name), msg::NEWSET, F_CREATE, |a| {
            a.str(set::NAME, set.name)
                .be32(set::FLAGS, set.flags)
                .be32(set::KEY_TYPE, set.key.0)
                .be32(set::KEY_LEN, set.key.1)
                .be32(set::ID, set.id)
                .bytes(set::USERDATA, set.userdata);
        });
    }
    fn rule(&mut self, label: &str, build: impl FnOnce(Expressions<'_>) -> Expressions<'_>) {
        self.push(label, msg::NEWRULE, F_CREATE | F_APPEND, |a| {
            a.str(rule::CHAIN, CHAIN).nest(rule::EXPRESSIONS, |l| {
                build(Expressions(l));
            });
        });
    }
    fn elements(&mut self, set: &Set, label: &str, build: impl FnOnce(&mut Attrs)) {
        self.push(label, msg::NEWSETELEM, F_CREATE, |a| {
            a.str(elem::LIST_SET, set.name).be32(elem::LIST_SET_ID, set.id).nest(elem::LIST_ELEMENTS, build);
        });
    }
    /// The dead-man switch: one element that the kernel forgets.
    fn gate(&mut self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.elements(&GATE_SET, "the element of the gate", |l| {
            element(l, &GATE_KEY, |e| {
                e.be64(elem::TIMEOUT, millis);
            });
        });
    }
    fn intervals(&mut self, set: &Set, intervals: &[Interval]) {
        for (n, chunk) in intervals.chunks(INTERVALS_PER_MESSAGE).enumerate() {
            let first = n * INTERVALS_PER_MESSAGE;
            let label = format!("elements {first} to {} of set {}", first + chunk.len() - 1, set.name);
            self.elements(set, &label, |l| {
                for (from, to) in chunk {
                    element(l, from, |_| {});
                    if let Some(to) = to {
                        element(l, to, |e| {
                            e.be32(elem::FLAGS, elem::INTERVAL_END);
                        });
                    }
                }
            });
        }
    }
}

fn element(list: &mut Attrs, key: &[u8], more: impl FnOnce(&mut Attrs)) {
    list.nest(LIST_ELEM, |e| {
        e.nest(elem::KEY, |k| {
            k.bytes(DATA_VALUE, key);
        });
        more(e);
    });
}

#[cfg(test)]
mod tests {
    use super::super::decode::messages;
    use super::*;
    use std::net::Ipv6Addr;

    #[test]
    fn ten_thousand_sources_are_messages_below_64_kib_in_one_transaction() {
        let sources = (0..10_000u128).map(|i| std::net::IpAddr::from(Ipv6Addr::from(2 * i)).into()).collect();
        let spec = TableSpec { name: "rackpartition-x".into(), sources, heal_port: 1, heal_token: [7; 16] };
        let (buf, labels) = arm(&spec, Duration::from_secs(60)).finish(1);
        let lengths: Vec<usize> = messages(&buf).map(|m| m.body.len() + 16).collect();
        assert_eq!(lengths.len(), labels.len() + 1, "each has a label but the end");
        assert_eq!(lengths.iter().sum::<usize>(), buf.len());
        assert!(lengths.iter().all(|l| *l < 1 << 16), "{lengths:?}");
        assert_eq!(labels[CREATE], "the table");
        assert_eq!(labels[22], "elements 9500 to 9999 of set peers6");
    }

    #[test]
    fn a_cut_takes_the_gate_before_anything_else() {
        let from = jiff::Timestamp::UNIX_EPOCH;
        let windows = [TimeWindow { from, to: jiff::Timestamp::MAX }];
        let (buf, labels) = cut("rackpartition-x", &windows, Duration::from_secs(1)).unwrap().finish(1);
        assert_eq!(labels[TAKE_GATE..], ["the open gate", "the element of the gate", "elements 0 to 0 of set windows"]);
        let kinds = messages(&buf).map(|m| m.kind & 0xff).collect::<Vec<_>>();
        assert_eq!(kinds, [BATCH_BEGIN, msg::DELSETELEM, msg::NEWSETELEM, msg::NEWSETELEM, BATCH_END]);
    }
}
