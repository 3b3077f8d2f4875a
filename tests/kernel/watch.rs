//! The table that watches: what it counts in front of the cut and behind it, whom it calls a stranger, and that it goes.

use crate::fixture::{Net, Ns, PORT, TABLE, cut, eventually, nets};
use rackpartition::netfilter::{Port, Rule, Sight, Strangers, Transport, Watch, WatchSpec};
use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, UdpSocket},
    process::Command,
    time::Duration,
};

const MARK: [u8; 16] = *b"a mark of a run.";
const NAME: &str = "rackpartition_watch_test";

fn spec(known: Option<&[&str]>) -> WatchSpec {
    let strangers = known.map(|known| Strangers { but: nets(known), ports: Vec::new() });
    WatchSpec { name: NAME.into(), ports: vec![PORT], marks: vec![MARK], senders: vec![1], strangers }
}

fn open(ns: &Ns, known: Option<&[&str]>) -> Watch {
    ns.run(|| Watch::open(spec(known)).unwrap())
}

/// One that expects these senders.
fn expecting(ns: &Ns, senders: &[u32]) -> Watch {
    ns.run(|| Watch::open(WatchSpec { senders: senders.to_vec(), ..spec(None) }).unwrap())
}

fn datagram(mark: [u8; 16], key: u32) -> Vec<u8> {
    [&mark[..], &key.to_be_bytes()].concat()
}

fn send(from: &UdpSocket, to: IpAddr, key: u32) {
    from.send_to(&datagram(MARK, key), SocketAddr::new(to, PORT)).unwrap();
}

/// Key and count of each sender.
fn counts(list: &[rackpartition::netfilter::Count<u32>]) -> Vec<(u32, u64)> {
    let mut all: Vec<_> = list.iter().map(|c| (c.from, c.packets)).collect();
    all.sort_unstable();
    all
}

/// Looks until as many datagrams have arrived.
fn arrived(watch: &mut Watch, packets: u64) -> Sight {
    let mut sight = Sight::default();
    eventually("every datagram has arrived", || {
        sight = watch.look().unwrap();
        sight.arrived.iter().map(|c| c.packets).sum::<u64>() >= packets
    });
    sight
}

#[test]
fn whoever_is_expected_has_its_counters_before_the_first_datagram() {
    let net = Net::new();
    let mut right = expecting(&net.right, &[10, 12]);
    let sight = right.look().unwrap();
    assert_eq!((counts(&sight.arrived), counts(&sight.heard)), (vec![(10, 0), (12, 0)], vec![(10, 0), (12, 0)]));
    let from = net.left.udp(net.left.address(true));
    for key in [10, 10] {
        send(&from, net.right.address(true), key);
    }
    let sight = arrived(&mut right, 2);
    let all = vec![(10, 2), (12, 0)];
    assert_eq!((counts(&sight.arrived), counts(&sight.heard)), (all.clone(), all));
    // They last as those that packets put in.
    let ages = sight.heard.iter().map(|c| c.age).max().unwrap_or_default();
    assert!(ages < Duration::from_secs(60), "{ages:?}");
}

/// Its first datagrams may go uncounted: [`WatchSpec::senders`] says why.
#[test]
fn who_is_not_expected_is_counted_too() {
    let net = Net::new();
    let mut right = expecting(&net.right, &[10]);
    let from = net.left.udp(net.left.address(true));
    eventually("11 is counted", || {
        send(&from, net.right.address(true), 11);
        let sight = right.look().unwrap();
        [&sight.arrived, &sight.heard].iter().all(|list| list.iter().any(|c| c.from == 11 && c.packets > 0))
    });
}

#[test]
fn each_direction_is_counted_in_front_of_the_cut_and_behind_it() {
    let net = Net::new();
    let (mut left, mut right) = (expecting(&net.left, &[20, 21]), expecting(&net.right, &[10, 11]));
    let (from_left, from_right) = (
        [true, false].map(|v4| net.left.udp(net.left.address(v4))),
        [true, false].map(|v4| net.right.udp(net.right.address(v4))),
    );
    let round = || {
        for (i, v4) in [true, false].into_iter().enumerate() {
            send(&from_left[i], net.right.address(v4), 10 + i as u32);
            send(&from_right[i], net.left.address(v4), 20 + i as u32);
        }
    };
    round();
    let (l, r) = (arrived(&mut left, 2), arrived(&mut right, 2));
    assert_eq!((counts(&r.arrived), counts(&r.heard)), (vec![(10, 1), (11, 1)], vec![(10, 1), (11, 1)]));
    assert_eq!((counts(&l.arrived), counts(&l.heard)), (vec![(20, 1), (21, 1)], vec![(20, 1), (21, 1)]));

    // One way only: right no longer hears left.
    let table = cut(&net.right, vec![Rule::drop_from(nets(&[&net.left.v4.to_string(), &net.left.v6.to_string()]))]);
    round();
    round();
    let (l, r) = (arrived(&mut left, 6), arrived(&mut right, 6));
    assert_eq!((counts(&r.arrived), counts(&r.heard)), (vec![(10, 3), (11, 3)], vec![(10, 1), (11, 1)]));
    assert_eq!(counts(&l.heard), [(20, 3), (21, 3)]);

    let mut table = table;
    table.remove(TABLE).unwrap();
    round();
    let r = arrived(&mut right, 8);
    assert_eq!(counts(&r.heard), [(10, 2), (11, 2)], "the table that watches outlives the cut");
}

#[test]
fn stamps_are_those_of_the_last_datagram() {
    let net = Net::new();
    let mut right = open(&net.right, None);
    send(&net.left.udp(net.left.v4), net.right.v4, 1);
    let first = arrived(&mut right, 1).heard[0].age;
    assert!(first < Duration::from_secs(5), "{first:?}");
    let mut age = first;
    eventually("the stamp grows old", || {
        age = right.look().unwrap().heard[0].age;
        age >= first + Duration::from_millis(300)
    });
    send(&net.left.udp(net.left.v4), net.right.v4, 1);
    assert!(arrived(&mut right, 2).heard[0].age < age, "the second datagram renews it");
}

#[test]
fn only_marked_datagrams_are_counted_and_taken() {
    let net = Net::new();
    let mut right = open(&net.right, None);
    let (sender, receiver) =
        (net.left.udp(net.left.v4), net.right.run(|| UdpSocket::bind((net.right.v4, PORT)).unwrap()));
    receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let to = SocketAddr::new(net.right.v4, PORT);
    send(&sender, net.right.v4, 1);
    for other in [datagram([0; 16], 1), MARK.to_vec(), b"x".to_vec()] {
        sender.send_to(&other, to).unwrap();
        let mut said = [0; 64];
        let length = receiver.recv(&mut said).unwrap();
        assert_eq!(&said[..length], other, "and not the marked one before it");
    }
    let sight = arrived(&mut right, 1);
    assert_eq!((counts(&sight.arrived), counts(&sight.heard)), (vec![(1, 1)], vec![(1, 1)]));
    // Without a listener: no answer that the port is unreachable.
    drop(receiver);
    let connected = net.left.udp(net.left.v4);
    connected.connect(to).unwrap();
    connected.send(&datagram(MARK, 1)).unwrap();
    arrived(&mut right, 2);
    assert_eq!(connected.recv(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
    connected.send(b"x").unwrap();
    connected.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(connected.recv(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionRefused, "as others are answered");
}

#[test]
fn strangers_are_who_gets_through_from_an_address_that_is_nobodys() {
    let net = Net::new();
    net.left.ip(&["addr", "add", "198.18.0.77/24", "dev", net.left.device]);
    net.left.ip(&["addr", "add", "fd00::77/64", "dev", net.left.device, "nodad"]);
    // `::` asks for its address and reports its groups.
    let known = ["198.18.0.1", "198.18.0.2", "fd00::1", "fd00::2", "fe80::/10", "::"];
    let mut right = open(&net.right, Some(&known));
    let to = |v4: bool| SocketAddr::new(net.right.address(v4), 9);
    let senders = [("198.18.0.1", true), ("fd00::1", false), ("198.18.0.77", true), ("fd00::77", false)]
        .map(|(from, v4)| (net.left.udp(from.parse().unwrap()), to(v4)));
    // What the node says to itself is nobody else's.
    net.right.udp("127.0.0.1".parse().unwrap()).send_to(b"x", "127.0.0.1:9").unwrap();
    let (mut sent, mut strangers) = (0, Vec::new());
    // Again until then: the first datagram of somebody new may go uncounted.
    eventually("both strangers are noticed", || {
        senders.iter().for_each(|(from, to)| assert_eq!(from.send_to(b"x", to).unwrap(), 1));
        sent += 1;
        strangers = right.look().unwrap().strangers;
        strangers.len() >= 2
    });
    let mut names: Vec<_> = strangers.iter().map(|c| c.from.to_string()).collect();
    names.sort();
    assert_eq!(names, ["198.18.0.77", "fd00::77"]);
    // No more than was sent: asking who has an address makes nobody a stranger.
    assert!(strangers.iter().all(|c| c.packets <= sent), "{strangers:?} of {sent}");
}

#[test]
fn to_a_cut_of_some_ports_others_are_no_strangers() {
    let net = Net::new();
    let ports = vec![Port { transport: Transport::Udp, port: 9 }];
    let strangers = Some(Strangers { but: nets(&["198.18.0.2", "fd00::/64", "fe80::/10", "::"]), ports });
    let mut right = net.right.run(|| Watch::open(WatchSpec { strangers, ..spec(None) }).unwrap());
    let sender = net.left.udp(net.left.v4);
    sender.send_to(b"x", (net.right.v4, 10)).unwrap();
    send(&sender, net.right.v4, 1);
    assert_eq!(arrived(&mut right, 1).strangers, []);
    eventually("the one with the port", || {
        sender.send_to(b"x", (net.right.v4, 9)).unwrap();
        right.look().unwrap().strangers.len() == 1
    });
}

#[test]
fn groups_have_no_strangers() {
    let net = Net::new();
    let mut right = open(&net.right, Some(&["198.18.0.2", "fd00::/64", "fe80::/10", "::"]));
    let sender = net.left.udp(net.left.v4);
    sender.set_broadcast(true).unwrap();
    for group in ["224.0.0.1:9", "198.18.0.255:9"] {
        sender.send_to(b"x", group).unwrap();
    }
    let (mut sent, mut strangers) = (0, Vec::new());
    // They came after those, by the same wire.
    eventually("the sender is noticed", || {
        send(&sender, net.right.v4, 1);
        sent += 1;
        strangers = right.look().unwrap().strangers.iter().map(|c| (c.from, c.packets)).collect();
        !strangers.is_empty()
    });
    assert!(
        matches!(strangers[..], [(from, n)] if from == net.left.v4 && n <= sent),
        "only what was for this node: {strangers:?}"
    );
}

#[test]
fn nobody_is_a_stranger_to_whom_the_cut_takes() {
    let net = Net::new();
    let mut right = open(&net.right, Some(&["198.18.0.2", "fd00::2", "fe80::/10", "::"]));
    let _table = cut(&net.right, vec![Rule::drop_from(nets(&["198.18.0.1"]))]);
    send(&net.left.udp(net.left.v4), net.right.v4, 1);
    let sight = arrived(&mut right, 1);
    assert_eq!((counts(&sight.heard), sight.strangers.len()), (vec![(1, 0)], 0));
}

#[test]
fn the_table_goes_with_its_process_and_not_before() {
    let net = Net::new();
    let watch = open(&net.right, Some(&[]));
    assert!(net.right.nft(&["list", "tables"]).contains(NAME));
    let listing = net.right.nft(&["list", "table", "inet", NAME]);
    for part in ["flags owner", "@strangers4", "@arrived", "priority -351", "priority -349"] {
        assert!(listing.contains(part), "{part} is not in {listing}");
    }
    let others = net.right.run(|| Watch::open(spec(None)).err().map(|e| e.to_string()));
    assert!(others.is_some_and(|e| e.contains("exist")), "a second one has to wait");
    assert!(net.right.netfilter().tables().unwrap().is_empty(), "it is none that can cut");
    let deleted =
        Command::new("ip").args(["netns", "exec", &net.right.name, "nft", "delete", "table", "inet", NAME]).output();
    assert!(!deleted.unwrap().status.success(), "nobody else can remove it");
    drop(watch);
    assert!(!net.right.nft(&["list", "tables"]).contains(NAME));
}
