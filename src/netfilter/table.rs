//! The table of a run as transactions: everything between a `TableSpec` and bytes.

use super::cut::{self, Chain};
use super::numbers::*;
use super::wire::Batch;
use super::writer::{HOST_ORDER, Set, Writer, element};
use super::{Effect, Error, TableSpec, TimeWindow, interval};
use std::{borrow::Cow, time::Duration};

pub const GATE: &str = "gate";
pub const WINDOWS: &str = "windows";
/// Before connection tracking (-200) and `raw` (-300), so that established connections are cut too and sources are still the
/// real ones; after reassembly (-400), so that no fragment slips by. From `linux/netfilter_ipv4.h`.
pub const INGRESS_PRIORITY: i32 = -350;
/// After the translation of destinations (-100, at `output` and `prerouting`) and before that of sources (100), so that both
/// are the real ones. From `linux/netfilter_ipv4.h`.
const EGRESS_PRIORITY: i32 = 50;
/// Types of ICMPv6 that no rule may touch, RFC 4890 section 4.4.1: neighbour discovery (router and neighbour, solicitation and
/// advertisement) and multicast listener discovery (query, report, done, report of version 2), on which switches rely to pass
/// solicitations on.
const OPEN_ICMPV6: [u8; 8] = [130, 131, 132, 133, 134, 135, 136, 143];
/// The one key of the gate.
const GATE_KEY: [u8; 4] = [0; 4];
/// User data of a set with a `typeof meta time`, without which `nft list` cannot name the type: byte order of the host, and an
/// expression (3) that is a meta (9) with the key 30. As `nft` 1.0.6 writes it.
const TYPEOF_META_TIME: [u8; 22] = [0, 4, 1, 0, 0, 0, 3, 14, 0, 4, 9, 0, 0, 0, 1, 6, 0, 4, 30, 0, 0, 0];

const WINDOWS_SET: Set = Set {
    name: Cow::Borrowed(WINDOWS),
    id: 1,
    flags: set::INTERVAL,
    key: (datatype::TIME, 8),
    size: 0,
    userdata: &TYPEOF_META_TIME,
};
const GATE_SET: Set = Set {
    name: Cow::Borrowed(GATE),
    id: 2,
    flags: set::DYNAMIC_TIMEOUT,
    key: (datatype::MARK, 4),
    size: 0,
    userdata: HOST_ORDER,
};

/// Where packets enter the table: name of the chain, hook and priority, and what it jumps to while the cut has effect.
const BASES: [(&str, u32, i32, Chain); 4] = [
    ("prerouting", chain::PREROUTING, INGRESS_PRIORITY, Chain::Ingress),
    ("postrouting", chain::POSTROUTING, EGRESS_PRIORITY, Chain::Egress),
    ("output", chain::OUTPUT, EGRESS_PRIORITY, Chain::EgressReject),
    ("forward", chain::FORWARD, EGRESS_PRIORITY, Chain::EgressReject),
];

/// Message of [`arm`]'s batch that fails with EEXIST where the table is there already.
pub const CREATE: usize = 1;

/// Everything but the windows.
pub fn arm(spec: &TableSpec, gate: Duration) -> Result<Batch, Error> {
    for rule in &spec.rules {
        if let Effect::Loss { permille, .. } = rule.effect
            && !(1..=1000).contains(&permille)
        {
            return Err(Error::Loss { permille });
        }
    }
    let mut w = Writer::new(&spec.name);
    w.push("the table", msg::NEWTABLE, F_CREATE | F_EXCL, |_| {});
    w.set(&WINDOWS_SET);
    w.set(&GATE_SET);
    put_gate(&mut w, gate);
    let used = |chain: &Chain| spec.rules.iter().any(|r| Chain::of(r) == *chain);
    for chain in Chain::ALL.iter().filter(|c| used(c)) {
        chain.write(&mut w);
    }
    let seed = seed(&spec.name);
    for (n, rule) in spec.rules.iter().enumerate() {
        cut::write(&mut w, n, rule, seed);
    }
    for (name, hook, priority, target) in BASES {
        // The heal packet comes in by the first, whatever the rules.
        if target == Chain::Ingress || used(&target) {
            base_chain(&mut w, spec, (name, hook, priority), target, used(&target));
        }
    }
    Ok(w.batch)
}

fn base_chain(
    w: &mut Writer<'_>,
    spec: &TableSpec,
    (name, hook, priority): (&str, u32, i32),
    target: Chain,
    used: bool,
) {
    w.base_chain(name, hook, priority);
    w.rule(name, "the heal rule", None, |e| {
        let e = e.datagram(spec.heal_port, &spec.heal_token);
        match target {
            // The counter comes first: a packet that has deleted something has been counted before. See `Netfilter::cut`.
            Chain::Ingress => e.counter().constant().delete_from(&GATE_SET),
            // Out to another node: nothing to this one.
            _ => e.accept(),
        }
    });
    pass_neighbour_discovery(w, name);
    if used {
        w.rule(name, "the rule of the cut", None, |e| {
            e.constant()
                .look_up(&GATE_SET, true)
                .meta(meta::TIME_NS)
                .hton64()
                .look_up(&WINDOWS_SET, true)
                .jump(target.name())
        });
    }
}

/// Lets through what hosts need of each other to be neighbours at all.
pub fn pass_neighbour_discovery(w: &mut Writer<'_>, chain: &str) {
    let open = w.anonymous(datatype::ICMPV6_TYPE, &OPEN_ICMPV6);
    w.rule(chain, "the rule for neighbour discovery", None, |e| {
        e.meta(meta::NFPROTO)
            .eq(&[NFPROTO_IPV6])
            .meta(meta::L4PROTO)
            .eq(&[IPPROTO_ICMPV6])
            .payload(base::TRANSPORT, 0, 1)
            .look_up(&open, true)
            .accept()
    });
}

/// A number that goes with the name: 32 bit FNV-1a.
fn seed(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// The dead-man switch: one element that the kernel forgets.
fn put_gate(w: &mut Writer<'_>, time: Duration) {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    w.elements(&GATE_SET, "the element of the gate", |l| {
        element(l, &GATE_KEY, |e| {
            e.be64(elem::TIMEOUT, millis);
        });
    });
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
    put_gate(&mut w, gate);
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

#[cfg(test)]
mod tests {
    use super::super::Rule;
    use super::super::decode::messages;
    use super::*;
    use std::net::Ipv6Addr;

    #[test]
    fn ten_thousand_sources_are_messages_below_64_kib_in_one_transaction() {
        let sources = (0..10_000u128).map(|i| std::net::IpAddr::from(Ipv6Addr::from(2 * i)).into()).collect();
        let rules = vec![Rule::drop_from(sources)];
        let spec = TableSpec { name: "rackpartition-x".into(), rules, heal_port: 1, heal_token: [7; 16] };
        let (buf, labels) = arm(&spec, Duration::from_secs(60)).unwrap().finish(1);
        let lengths: Vec<usize> = messages(&buf).map(|m| m.body.len() + 16).collect();
        assert_eq!(lengths.len(), labels.len() + 1, "each has a label but the end");
        assert_eq!(lengths.iter().sum::<usize>(), buf.len());
        assert!(lengths.iter().all(|l| *l < 1 << 16), "{lengths:?}");
        assert_eq!(labels[CREATE], "the table");
        assert_eq!(labels[27], "elements 9500 to 9999 of set sources6-0-hosts");
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
