//! Whom a rule concerns: ports in both directions of a conversation, destinations, everybody but some; several rules at once.

use crate::fixture::{LONG, Net, Ns, TABLE, TOKEN, always, cut, eventually, nets, rule, tcp, with_rules};
use crate::heal::heal;
use rackpartition::netfilter::{Addresses, Effect, Error, Netfilter, Rule, Unit};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Long enough for a handshake on this machine when it is busy, short of a second for those that never end.
const HANDSHAKE: Duration = Duration::from_millis(700);
/// And one that gets through takes as long as the machine does.
const AT_LAST: Duration = Duration::from_secs(10);

fn packets(netfilter: &mut Netfilter) -> Vec<u64> {
    netfilter.state(TABLE).unwrap().unwrap().rule_packets
}

/// Whether `client` gets a connection to a listener of `server` in that time.
fn connects(client: &Ns, server: &Ns, v4: bool, port: u16, within: Duration) -> bool {
    let address = SocketAddr::new(server.address(v4), port);
    let _listener = server.run(|| TcpListener::bind(address).unwrap());
    match client.run(|| TcpStream::connect_timeout(&address, within)) {
        Ok(_) => true,
        Err(e) if e.kind() == ErrorKind::TimedOut => false,
        Err(e) => panic!("a cut is silent: {e}"),
    }
}

/// Sends datagrams from one address to another until one has arrived or a rule has hit one.
pub fn arrives(netfilter: &mut Netfilter, from: (&Ns, IpAddr), to: (&Ns, IpAddr)) -> bool {
    let (sender, receiver) = (from.0.udp(from.1), to.0.udp(to.1));
    receiver.set_nonblocking(true).unwrap();
    let before = packets(netfilter);
    let mut arrived = false;
    eventually("a datagram arrives or is hit", || {
        sender.send_to(b"x", receiver.local_addr().unwrap()).unwrap();
        arrived = receiver.recv(&mut [0; 1]).is_ok();
        arrived || packets(netfilter) != before
    });
    arrived
}

#[test]
fn a_port_is_cut_whichever_end_it_is_on_and_other_ports_live() {
    let net = Net::new();
    let sources = Addresses::Of(nets(&["198.18.0.1", "fd00::1"]));
    let rule = Rule { sources, ports: vec![tcp(2380), tcp(7777)], ..rule() };
    let mut netfilter = cut(&net.right, vec![rule]);
    for v4 in [true, false] {
        // Its packets to the service, and its answers from one: both come from `left`.
        for (client, server) in [(&net.left, &net.right), (&net.right, &net.left)] {
            assert!(connects(client, server, v4, 2379, AT_LAST), "another port");
            let before = packets(&mut netfilter)[0];
            assert!(!connects(client, server, v4, 2380, HANDSHAKE));
            assert!(packets(&mut netfilter)[0] > before);
        }
        // The same number of another transport protocol.
        let (sender, receiver) = (net.left.udp(net.left.address(v4)), (net.right.address(v4), 2380));
        let receiver = net.right.run(|| std::net::UdpSocket::bind(receiver).unwrap());
        receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        sender.send_to(b"x", receiver.local_addr().unwrap()).unwrap();
        receiver.recv(&mut [0; 1]).unwrap();
    }
}

#[test]
fn only_the_destinations_named_are_cut() {
    let net = Net::new();
    for (v4, second) in [(true, "198.18.0.3/24"), (false, "fd00::3/64")] {
        net.right.ip(&[&["addr", "add", second, "dev", "right"][..], if v4 { &[] } else { &["nodad"] }].concat());
    }
    let destinations = Addresses::Of(nets(&["198.18.0.3", "fd00::3"]));
    let mut netfilter = cut(&net.right, vec![Rule { destinations, ..rule() }]);
    for (v4, second) in [(true, "198.18.0.3"), (false, "fd00::3")] {
        let from = (&net.left, net.left.address(v4));
        assert!(arrives(&mut netfilter, from, (&net.right, net.right.address(v4))));
        assert!(!arrives(&mut netfilter, from, (&net.right, second.parse().unwrap())));
    }
}

#[test]
fn everybody_but_the_rack_is_cut() {
    let net = Net::new();
    net.left.ip(&["addr", "add", "198.18.0.9/24", "dev", "left"]);
    net.left.ip(&["addr", "add", "fd00::9/64", "dev", "left", "nodad"]);
    for (rack, v6) in [(&["198.18.0.0/29", "fd00::/125"][..], true), (&["198.18.0.0/29"], false)] {
        let sources = Addresses::AllBut(nets(rack));
        let mut netfilter = cut(&net.right, vec![Rule { sources, ..rule() }]);
        for (source, inside) in [("198.18.0.1", true), ("198.18.0.9", false), ("fd00::1", v6), ("fd00::9", false)] {
            let source: IpAddr = source.parse().unwrap();
            let to = (&net.right, net.right.address(source.is_ipv4()));
            assert_eq!(arrives(&mut netfilter, (&net.left, source), to), inside, "{source} of {rack:?}");
        }
        netfilter.remove(TABLE).unwrap();
    }
}

#[test]
fn a_list_that_came_out_empty_cuts_nobody() {
    let net = Net::new();
    let nobody = Rule { sources: Addresses::Of(Vec::new()), ..rule() };
    let nowhere = Rule { destinations: Addresses::Of(Vec::new()), ..rule() };
    let mut netfilter = cut(&net.right, vec![nobody, nowhere]);
    for v4 in [true, false] {
        assert!(arrives(&mut netfilter, (&net.left, net.left.address(v4)), (&net.right, net.right.address(v4))));
    }
    assert_eq!(packets(&mut netfilter), [] as [u64; 0]);
}

#[test]
fn a_node_that_hears_nobody_still_hears_itself_its_neighbours_and_the_heal_packet() {
    let net = Net::new();
    let mut netfilter = cut(&net.right, vec![rule()]);
    for v4 in [true, false] {
        let (left, right) = ((&net.left, net.left.address(v4)), (&net.right, net.right.address(v4)));
        assert!(!arrives(&mut netfilter, left, right));
        assert!(arrives(&mut netfilter, right, right), "over loopback");
    }
    for ns in [&net.left, &net.right] {
        ns.ip(&["-6", "neigh", "flush", "dev", ns.device]);
    }
    heal(&net.left, net.right.v6, &TOKEN);
    eventually("the heal packet", || netfilter.state(TABLE).unwrap().unwrap().gate.is_none());
}

#[test]
fn two_rules_count_each_for_itself_and_one_heal_packet_ends_both() {
    let net = Net::new();
    net.left.ip(&["addr", "add", "198.18.0.9/24", "dev", "left"]);
    let second = Rule { sources: Addresses::Of(nets(&["198.18.0.9"])), ..rule() };
    let mut netfilter = cut(&net.right, vec![Rule { ports: vec![tcp(2380)], ..rule() }, second]);
    assert!(!connects(&net.left, &net.right, true, 2380, HANDSHAKE));
    let [first, 0] = packets(&mut netfilter)[..] else { panic!("{:?}", packets(&mut netfilter)) };
    assert!(first > 0);
    let (to, other) = ((&net.right, net.right.v4), (&net.left, "198.18.0.9".parse().unwrap()));
    assert!(!arrives(&mut netfilter, other, to));
    assert!(arrives(&mut netfilter, (&net.left, net.left.v4), to), "neither the port nor the address");
    let state = netfilter.state(TABLE).unwrap().unwrap();
    assert!(state.rule_packets[1] > 0, "{state:?}");
    assert_eq!(state.dropped_packets, state.rule_packets.iter().sum::<u64>());

    heal(&net.left, net.right.v4, &TOKEN);
    eventually("the heal packet", || netfilter.state(TABLE).unwrap().unwrap().heal_packets == 1);
    assert!(connects(&net.left, &net.right, true, 2380, AT_LAST));
    assert!(arrives(&mut netfilter, other, to));
}

#[test]
fn an_impossible_loss_is_refused_before_the_kernel_sees_it() {
    let net = Net::new();
    let mut netfilter = net.right.netfilter();
    for permille in [0, 1001] {
        let effect = Effect::Loss { permille, per: Unit::Packet };
        let refused = netfilter.arm(&with_rules(vec![Rule { effect, ..rule() }]), LONG);
        assert!(matches!(refused, Err(Error::Loss { permille: p }) if p == permille), "{refused:?}");
    }
    assert_eq!(netfilter.tables().unwrap(), [] as [String; 0]);
    assert!(matches!(netfilter.cut(TABLE, &[always()], LONG), Err(Error::NoTable { .. })));
}
