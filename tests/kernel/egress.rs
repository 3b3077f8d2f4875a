//! Rules on what leaves a node, and what its senders see of them.

use crate::fixture::{LONG, Net, TABLE, TOKEN, always, cut, eventually, nets, rule, with_rules};
use crate::heal::heal;
use crate::traffic::arrives;
use rackpartition::netfilter::{Addresses, Effect, Hook, Rule};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

fn to_left() -> Rule {
    Rule { destinations: Addresses::Of(nets(&["198.18.0.1", "fd00::1"])), hook: Hook::Egress, ..rule() }
}

/// A pod of `right`: the namespace of another net, with one more link, and routes through `right`.
fn pod(net: &Net) -> Net {
    let pod = Net::new();
    net.right.ip(&["link", "add", "pod", "type", "veth", "peer", "name", "eth0", "netns", &pod.left.name]);
    for (ns, device, v4, v6) in
        [(&net.right, "pod", "10.1.0.1/24", "fd01::1/64"), (&pod.left, "eth0", "10.1.0.2/24", "fd01::2/64")]
    {
        ns.ip(&["addr", "add", v4, "dev", device]);
        ns.ip(&["addr", "add", v6, "dev", device, "nodad"]);
        ns.ip(&["link", "set", device, "up"]);
    }
    // Its own first link has the addresses of `net`.
    pod.left.ip(&["link", "del", "left"]);
    for (ns, v4, v6) in [(&pod.left, "10.1.0.1", "fd01::1"), (&net.left, "198.18.0.2", "fd00::2")] {
        ns.ip(&["route", "add", "default", "via", v4]);
        ns.ip(&["route", "add", "default", "via", v6]);
    }
    net.right.run(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
    });
    pod
}

#[test]
fn datagrams_of_the_node_fail_those_of_its_pods_vanish_and_others_pass() {
    let net = Net::new();
    let pod = pod(&net);
    let mut netfilter = cut(&net.right, vec![to_left()]);
    for (v4, address) in [(true, "10.1.0.2"), (false, "fd01::2")] {
        let receiver = net.left.udp(net.left.address(v4));
        let node = net.right.udp(net.right.address(v4));
        let failed = node.send_to(b"x", receiver.local_addr().unwrap()).unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::PermissionDenied, "the difference to a wire");
        let from = (&pod.left, address.parse().unwrap());
        assert!(!arrives(&mut netfilter, from, (&net.left, net.left.address(v4))), "and no error");
        assert!(
            arrives(&mut netfilter, (&net.left, net.left.address(v4)), (&net.right, net.right.address(v4))),
            "one way"
        );
        assert!(arrives(&mut netfilter, from, (&net.right, net.right.address(v4))), "another destination");
        assert!(arrives(&mut netfilter, (&net.right, net.right.address(v4)), from), "another destination");
    }
}

/// The other way to drop what leaves, beside ours: at the device, forwarded to a sink. To connections it is the same. It hides the
/// drop from the node's own datagrams too, as a wire does; but it needs a chain for each device and a device of its own, which
/// nothing would take away from a node whose agent is gone, and it sees a tunnel's packets instead of those inside.
#[test]
fn a_sink_at_the_device_differs_by_the_error_alone() {
    let (sink, ours) = (Net::new(), Net::new());
    sink.right.ip(&["link", "add", "sink", "type", "veth", "peer", "name", "drain"]);
    sink.right.ip(&["link", "set", "sink", "up"]);
    let chain = "add chain netdev sink out { type filter hook egress device right priority 0; }";
    sink.right
        .nft(&[&format!("add table netdev sink; {chain}; add rule netdev sink out ip daddr 198.18.0.1 fwd to sink")]);
    let _ours = cut(&ours.right, vec![to_left()]);
    let seen = |net: &Net| {
        let receiver = net.left.udp(net.left.v4);
        let sent = net.right.udp(net.right.v4).send_to(b"x", receiver.local_addr().unwrap()).map_err(|e| e.kind());
        let heard = receiver.recv(&mut [0; 1]).map_err(|e| e.kind());
        let listener = net.left.run(|| TcpListener::bind((net.left.v4, 0)).unwrap());
        let address = listener.local_addr().unwrap();
        let fresh = net.right.run(|| TcpStream::connect_timeout(&address, Duration::from_millis(300)).map(drop));
        (sent, heard, fresh.map_err(|e| e.kind()))
    };
    let (nobody, silent) = (Err(ErrorKind::WouldBlock), Err(ErrorKind::TimedOut));
    assert_eq!(seen(&sink), (Ok(1), nobody, silent));
    assert_eq!(seen(&ours), (Err(ErrorKind::PermissionDenied), nobody, silent));
}

#[test]
fn connections_of_the_node_go_silent_and_come_back() {
    let net = Net::new();
    for v4 in [true, false] {
        let listener = net.left.run(|| TcpListener::bind((net.left.address(v4), 0)).unwrap());
        let mut client = net.right.run(|| TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let (mut server, _) = listener.accept().unwrap();
        client.set_nodelay(true).unwrap();
        client.write_all(b"1").unwrap();
        server.read_exact(&mut [0; 1]).unwrap();
        let mut netfilter = cut(&net.right, vec![to_left()]);
        client.write_all(b"2").unwrap();
        let hits = || net.right.netfilter().state(TABLE).unwrap().unwrap().rule_packets[0];
        eventually("TCP sends again by itself", || hits() >= 3);
        server.set_nonblocking(true).unwrap();
        assert_eq!(server.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
        let fresh =
            net.right.run(|| TcpStream::connect_timeout(&listener.local_addr().unwrap(), Duration::from_millis(300)));
        assert_eq!(fresh.unwrap_err().kind(), ErrorKind::TimedOut, "no error at once");
        netfilter.close_gate(TABLE).unwrap();
        eventually("what was written during the cut", || server.read(&mut [0; 1]).is_ok_and(|n| n == 1));
        netfilter.remove(TABLE).unwrap();
    }
}

#[test]
fn destinations_are_those_after_translation() {
    let net = Net::new();
    net.right.ip(&["route", "add", "198.19.0.0/24", "dev", "right"]);
    let nat = "add table ip svc; add chain ip svc out { type nat hook output priority -100; }; \
               add rule ip svc out ip daddr 198.19.0.1 dnat to 198.18.0.1";
    net.right.nft(&[nat]);
    let listener = net.left.run(|| TcpListener::bind((net.left.v4, 0)).unwrap());
    let service = SocketAddr::new("198.19.0.1".parse().unwrap(), listener.local_addr().unwrap().port());
    let connect = |within| net.right.run(|| TcpStream::connect_timeout(&service, within).map(|_| ()));
    let (silent, at_last) = (Duration::from_millis(500), Duration::from_secs(10));
    connect(at_last).expect("the Service works");
    for (effect, kind) in [(Effect::Drop, ErrorKind::TimedOut), (Effect::Reject, ErrorKind::ConnectionRefused)] {
        let mut netfilter = cut(&net.right, vec![Rule { effect, ..to_left() }]);
        assert_eq!(connect(silent).unwrap_err().kind(), kind, "{effect:?}");
        netfilter.remove(TABLE).unwrap();
    }
    connect(at_last).expect("and again");
}

#[test]
fn the_node_and_its_pods_are_told_at_once_where_egress_rejects() {
    let net = Net::new();
    let pod = pod(&net);
    let mut netfilter = cut(&net.right, vec![Rule { effect: Effect::Reject, ..to_left() }]);
    for v4 in [true, false] {
        let listener = net.left.run(|| TcpListener::bind((net.left.address(v4), 0)).unwrap());
        let address = listener.local_addr().unwrap();
        for client in [&net.right, &pod.left] {
            let connect = client.run(|| TcpStream::connect_timeout(&address, Duration::from_millis(800)));
            assert_eq!(connect.unwrap_err().kind(), ErrorKind::ConnectionRefused, "{address}");
        }
    }
    assert_eq!(netfilter.state(TABLE).unwrap().unwrap().rule_packets, [4]);
}

/// A node that may send nothing still sends heal packets and finds its neighbours; and itself.
#[test]
fn heal_packets_leave_whatever_egress_says() {
    let net = Net::new();
    let everything = [Effect::Drop, Effect::Reject].map(|effect| Rule { effect, hook: Hook::Egress, ..rule() });
    let mut right = cut(&net.right, everything.to_vec());
    for v4 in [true, false] {
        let itself = (&net.right, net.right.address(v4));
        assert!(arrives(&mut right, itself, itself), "over loopback");
        let mut left = net.left.netfilter();
        left.arm(&with_rules(vec![rule()]), LONG).unwrap();
        left.cut(TABLE, &[always()], LONG).unwrap();
        for ns in [&net.left, &net.right] {
            ns.ip(&["-6", "neigh", "flush", "dev", ns.device]);
        }
        let stray = net.right.run(|| UdpSocket::bind((net.right.address(v4), 0)).unwrap());
        assert!(stray.send_to(&[1; 16], (net.left.address(v4), crate::fixture::PORT)).is_err(), "another's token");
        heal(&net.right, net.left.address(v4), &TOKEN);
        eventually("the heal packet", || left.state(TABLE).unwrap().unwrap().gate.is_none());
        left.remove(TABLE).unwrap();
    }
    let state = right.state(TABLE).unwrap().unwrap();
    assert!(state.gate.is_some() && state.heal_packets == 0, "what leaves heals others: {state:?}");
    heal(&net.left, net.right.v6, &TOKEN);
    eventually("the heal packet", || right.state(TABLE).unwrap().unwrap().gate.is_none());
    assert!(arrives(&mut right, (&net.right, net.right.v4), (&net.left, net.left.v4)));
}
