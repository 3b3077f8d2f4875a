//! The kernel's interval sets hold exactly the addresses meant, few or many.

use crate::fixture::{LONG, Net, Ns, TABLE, always, eventually, spec, with_rules};
use ipnet::IpNet;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rackpartition::netfilter::{Netfilter, Rule};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Instant;

/// Every second address, so that nothing merges.
fn apart(n: u32, v4: bool) -> Vec<IpNet> {
    let address = |i: u32| match v4 {
        true => IpAddr::from(Ipv4Addr::from(0x0a00_0000 + 2 * i)),
        false => IpAddr::from(Ipv6Addr::from((0xfd01_u128 << 112) + u128::from(2 * i))),
    };
    (0..n).map(|i| address(i).into()).collect()
}

#[test]
fn ten_thousand_peers_load_and_match() {
    let net = Net::new();
    let mut netfilter = net.right.netfilter();
    for n in [100, 1_000, 10_000] {
        let table = with_rules(vec![Rule::drop_from([apart(n / 2, true), apart(n / 2, false)].concat())]);
        let start = Instant::now();
        netfilter.arm(&table, LONG).unwrap();
        println!("arm with {n} peers: {:.2} ms", start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        netfilter.remove(TABLE).unwrap();
        println!("remove with {n} peers: {:.2} ms", start.elapsed().as_secs_f64() * 1e3);
    }
    for v4 in [true, false] {
        let sources = apart(10_000, v4);
        let addresses = sources.iter().map(IpNet::addr).collect::<Vec<_>>();
        netfilter.arm(&with_rules(vec![Rule::drop_from(sources)]), LONG).unwrap();
        netfilter.cut(TABLE, &[always()], LONG).unwrap();
        let after_last = next(*addresses.last().unwrap());
        // The ends of the kernel's messages are among them.
        let cases = [(0, true), (499, true), (500, true), (5_000, true), (9_999, true)].map(|(i, d)| (addresses[i], d));
        let outside = [(next(addresses[0]), false), (next(addresses[499]), false), (after_last, false)];
        for (address, dropped) in cases.into_iter().chain(outside) {
            assert_eq!(arrives(&net, &mut netfilter, address), !dropped, "{address}");
        }
        netfilter.remove(TABLE).unwrap();
    }
}

fn next(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(a) => Ipv4Addr::from(u32::from(a) + 1).into(),
        IpAddr::V6(a) => Ipv6Addr::from(u128::from(a) + 1).into(),
    }
}

/// Sends one datagram to `right` with this source address, and says whether it arrived or was dropped.
fn arrives(net: &Net, netfilter: &mut Netfilter, source: IpAddr) -> bool {
    let host = IpNet::from(source).to_string();
    let nodad: &[&str] = if source.is_ipv6() { &["nodad"] } else { &[] };
    net.left.ip(&[&["addr", "add", &host, "dev", "lo"], nodad].concat());
    let receiver = net.right.udp(net.right.address(source.is_ipv4()));
    receiver.set_nonblocking(true).unwrap();
    let mut dropped = || netfilter.state(TABLE).unwrap().unwrap().dropped_packets;
    let before = dropped();
    let to = receiver.local_addr().unwrap();
    net.left.run(|| UdpSocket::bind((source, 0)).unwrap().send_to(b"x", to)).unwrap();
    let mut arrived = false;
    eventually("the datagram arrives or is dropped", || {
        arrived = receiver.recv(&mut [0; 1]).is_ok();
        arrived || dropped() > before
    });
    assert_eq!(dropped() - before, u64::from(!arrived), "{source}");
    arrived
}

/// Whether the kernel finds the address in the set, by `nft`.
fn in_set(ns: &Ns, set: &str, address: IpAddr) -> bool {
    let element = format!("{{ {address} }}");
    let mut nft = ns.command("nft");
    nft.args(["get", "element", "inet", TABLE, set, &element]).output().unwrap().status.success()
}

/// Blocks are in the set, single addresses in one beside it.
fn is_source(ns: &Ns, set: &str, address: IpAddr) -> bool {
    let (blocks, hosts) = (in_set(ns, set, address), in_set(ns, &format!("{set}-hosts"), address));
    assert!(!(blocks && hosts), "{address} is met once");
    blocks || hosts
}

#[test]
fn the_edges_of_the_address_space_are_in() {
    let net = Net::new();
    let mut netfilter = net.right.netfilter();
    let highest6 = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    for (sources, set, inside, outside) in [
        (["0.0.0.0/0", "10.0.0.1"], "sources4-0", vec!["0.0.0.0", "10.0.0.1", "255.255.255.255"], vec![]),
        (
            ["255.255.255.255", "0.0.0.0"],
            "sources4-0",
            vec!["0.0.0.0", "255.255.255.255"],
            vec!["0.0.0.1", "255.255.255.254"],
        ),
        (["::/0", "fd00::1"], "sources6-0", vec!["::", "fd00::1", highest6], vec![]),
        ([highest6, "::"], "sources6-0", vec!["::", highest6], vec!["::1", "fd00::1"]),
    ] {
        netfilter.arm(&spec(&sources), LONG).unwrap();
        for (addresses, expected) in [(inside, true), (outside, false)] {
            for a in addresses {
                assert_eq!(is_source(&net.right, set, a.parse().unwrap()), expected, "{a} in {sources:?}");
            }
        }
        netfilter.remove(TABLE).unwrap();
    }
    // And with packets.
    netfilter.arm(&spec(&["0.0.0.0/0", "::/0"]), LONG).unwrap();
    netfilter.cut(TABLE, &[always()], LONG).unwrap();
    for source in ["198.18.7.1", "fd07::1"] {
        assert!(!arrives(&net, &mut netfilter, source.parse().unwrap()));
    }
}

/// Blocks that lie close enough together to touch and overlap often.
fn block() -> impl Strategy<Value = IpNet> {
    let v4 = (0u32..64, 26u8..=32).prop_map(|(a, p)| IpNet::new(Ipv4Addr::from(0x0a00_0000 + a).into(), p).unwrap());
    let v6 =
        (0u128..64, 122u8..=128).prop_map(|(a, p)| IpNet::new(Ipv6Addr::from((0xfd << 120) + a).into(), p).unwrap());
    let wide = (any::<u32>(), 0u8..8).prop_map(|(a, p)| IpNet::new(Ipv4Addr::from(a).into(), p).unwrap());
    prop_oneof![6 => v4, 6 => v6, 1 => wide]
}

#[test]
fn membership_in_the_kernel_is_membership() {
    let net = Net::new();
    let mut runner = TestRunner::new(Config { cases: 40, failure_persistence: None, ..Config::default() });
    let sources = prop::collection::vec(block(), 1..12);
    let picks = prop::collection::vec((any::<bool>(), 0u32..66), 8);
    let netfilter = std::cell::RefCell::new(net.right.netfilter());
    let check = |(sources, picks): (Vec<IpNet>, Vec<(bool, u32)>)| {
        let mut netfilter = netfilter.borrow_mut();
        netfilter.remove(TABLE).unwrap();
        netfilter.arm(&with_rules(vec![Rule::drop_from(sources.clone())]), LONG).unwrap();
        for (v4, n) in picks {
            let address: IpAddr = match v4 {
                true => Ipv4Addr::from(0x09ff_ffff + n).into(),
                false => Ipv6Addr::from((0xfd_u128 << 120) - 1 + u128::from(n)).into(),
            };
            let expected = sources.iter().any(|s| s.contains(&address));
            let set = if v4 { "sources4-0" } else { "sources6-0" };
            prop_assert_eq!(is_source(&net.right, set, address), expected, "{} in {:?}", address, &sources);
        }
        Ok(())
    };
    runner.run(&(sources, picks), check).unwrap();
}
