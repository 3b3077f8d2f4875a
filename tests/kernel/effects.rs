//! What becomes of packets: rejected at once, lost by chance packet by packet, or flow by flow.

use crate::fixture::{Net, Ns, TABLE, cut, eventually, rule};
use rackpartition::netfilter::{Effect, Netfilter, Port, Rule, Transport, Unit};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

/// For answers that come at once: far above any, far below a second SYN (1 s).
const AT_ONCE: Duration = Duration::from_millis(800);

fn refused(client: &Ns, address: SocketAddr) {
    let refused = client.run(|| TcpStream::connect_timeout(&address, AT_ONCE).map(|_| ()).map_err(|e| e.kind()));
    assert_eq!(refused, Err(ErrorKind::ConnectionRefused), "{address}");
}

#[test]
fn who_is_rejected_is_told_at_once_even_where_both_ends_reject() {
    let net = Net::new();
    let listeners = [true, false].map(|v4| net.right.run(|| TcpListener::bind((net.right.address(v4), 0)).unwrap()));
    let mut old = listeners.each_ref().map(|l| net.left.run(|| TcpStream::connect(l.local_addr().unwrap()).unwrap()));
    let reject = || vec![Rule { effect: Effect::Reject, ..rule() }];
    let mut right = cut(&net.right, reject());
    for both in [false, true] {
        let _left = both.then(|| cut(&net.left, reject()));
        for listener in &listeners {
            refused(&net.left, listener.local_addr().unwrap());
            // No retry: a limit of the kernel's ICMP errors would swallow a third or fourth.
            let sender = net.left.udp(net.left.address(listener.local_addr().unwrap().is_ipv4()));
            sender.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            sender.connect(listener.local_addr().unwrap()).unwrap();
            sender.send(b"x").unwrap();
            let told = sender.recv(&mut [0; 1]).unwrap_err().kind();
            assert!(matches!(told, ErrorKind::HostUnreachable | ErrorKind::PermissionDenied), "{told:?}");
        }
    }
    for connection in &mut old {
        connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        connection.write_all(b"x").unwrap();
        assert_eq!(connection.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    let state = right.state(TABLE).unwrap().unwrap();
    // Each a SYN and a datagram, of two families, twice; and an old connection of each. No answer of the other end.
    assert_eq!((state.dropped_packets, &state.rule_packets[..]), (10, &[10][..]));
    right.close_gate(TABLE).unwrap();
    net.left.netfilter().close_gate(TABLE).unwrap();
    for listener in &listeners {
        net.left.run(|| TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    }
}

/// Sends `each` datagrams from each socket and waits until every one has arrived or was counted. Returns arrivals by sender.
fn send(
    netfilter: &mut Netfilter,
    senders: &[UdpSocket],
    receiver: &UdpSocket,
    each: u64,
) -> BTreeMap<SocketAddr, u64> {
    let mut lost = || netfilter.state(TABLE).unwrap().unwrap().rule_packets.iter().sum::<u64>();
    let before = lost();
    receiver.set_nonblocking(true).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size_force(receiver, 8 << 20).unwrap();
    let mut arrived: BTreeMap<SocketAddr, u64> = senders.iter().map(|s| (s.local_addr().unwrap(), 0)).collect();
    let take = |arrived: &mut BTreeMap<SocketAddr, u64>| {
        while let Ok((_, from)) = receiver.recv_from(&mut [0; 1]) {
            *arrived.get_mut(&from).unwrap() += 1;
        }
    };
    for _ in 0..each {
        for sender in senders {
            sender.send_to(b"x", receiver.local_addr().unwrap()).unwrap();
            take(&mut arrived);
        }
    }
    let sent = each * senders.len() as u64;
    eventually("every datagram has arrived or is counted as lost", || {
        take(&mut arrived);
        arrived.values().sum::<u64>() + lost() - before == sent
    });
    arrived
}

/// Fails where `hits` of `n` is further than six standard deviations of the binomial distribution from `permille`: by chance
/// that happens once in 500 million times.
fn assert_share(what: &str, hits: u64, n: u64, permille: u16) {
    let (n, p) = (n as f64, f64::from(permille) / 1000.0);
    let bound = 6.0 * (n * p * (1.0 - p)).sqrt();
    println!("{what}: {hits} of {n}, expected {:.0} ± {bound:.0}", n * p);
    assert!((hits as f64 - n * p).abs() <= bound, "{what}: {hits} of {n} is not {permille} in a thousand");
}

#[test]
fn loss_by_packet_hits_its_share_of_packets() {
    let net = Net::new();
    for permille in [100, 500] {
        let effect = Effect::Loss { permille, per: Unit::Packet };
        let mut netfilter = cut(&net.right, vec![Rule { effect, ..rule() }]);
        for v4 in [true, false] {
            let (sender, receiver) = (net.left.udp(net.left.address(v4)), net.right.udp(net.right.address(v4)));
            let arrived = send(&mut netfilter, &[sender], &receiver, 2000).values().sum::<u64>();
            assert_share(&format!("loss by packet, IPv4 {v4}"), 2000 - arrived, 2000, permille);
        }
        netfilter.remove(TABLE).unwrap();
    }
}

#[test]
fn loss_is_not_doubled_between_two_ports_of_a_rule() {
    let net = Net::new();
    let effect = Effect::Loss { permille: 500, per: Unit::Packet };
    let sockets = |ns: &Ns, port| ns.run(|| UdpSocket::bind((ns.v4, port)).unwrap());
    let (sender, receiver) = (sockets(&net.left, 51820), sockets(&net.right, 51820));
    let ports = vec![Port { transport: Transport::Udp, port: 51820 }];
    let mut netfilter = cut(&net.right, vec![Rule { effect, ports, ..rule() }]);
    let arrived = send(&mut netfilter, &[sender], &receiver, 2000).values().sum::<u64>();
    assert_share("loss between two ports of a rule", 2000 - arrived, 2000, 500);
}

#[test]
fn loss_by_flow_takes_some_flows_whole_and_leaves_the_others_whole() {
    let net = Net::new();
    for v4 in [true, false] {
        // What waits for its neighbour's answer may be lost for want of room.
        let probe = net.right.udp(net.right.address(v4));
        eventually("the neighbours know each other", || {
            net.left.udp(net.left.address(v4)).send_to(b"x", probe.local_addr().unwrap()).unwrap();
            probe.recv(&mut [0; 1]).is_ok()
        });
        let senders = (0..300).map(|_| net.left.udp(net.left.address(v4))).collect::<Vec<_>>();
        let receiver = net.right.udp(net.right.address(v4));
        let port = receiver.local_addr().unwrap().port();
        let lost = [vec![], vec![Port { transport: Transport::Udp, port }]].map(|ports| {
            let effect = Effect::Loss { permille: 300, per: Unit::Flow };
            let mut netfilter = cut(&net.right, vec![Rule { effect, ports, ..rule() }]);
            let arrived = send(&mut netfilter, &senders, &receiver, 8);
            netfilter.remove(TABLE).unwrap();
            assert!(arrived.values().all(|n| [0, 8].contains(n)), "whole flows: {arrived:?}");
            arrived.into_iter().filter(|a| a.1 == 0).map(|a| a.0).collect::<Vec<_>>()
        });
        assert_share(&format!("loss by flow, IPv4 {v4}"), lost[0].len() as u64, 300, 300);
        assert_eq!(lost[0], lost[1], "a table of the same name loses the same flows");
    }
}
