//! A cut takes established connections too, and looks like silence from the other end.

use crate::fixture::{LONG, Net, TABLE, always, eventually};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

fn established(net: &Net, v4: bool) -> (TcpStream, TcpStream) {
    let listener = net.right.run(|| TcpListener::bind((net.right.address(v4), 0)).unwrap());
    let client = net.left.run(|| TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    let (server, _) = listener.accept().unwrap();
    for end in [&client, &server] {
        end.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        end.set_nodelay(true).unwrap();
    }
    (client, server)
}

fn hears(end: &mut TcpStream) -> bool {
    match end.read(&mut [0; 1]) {
        Ok(n) => n == 1,
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
        Err(e) => panic!("an established connection goes silent, it does not fail: {e}"),
    }
}

#[test]
fn established_connections_go_silent_and_come_back() {
    let net = Net::new();
    let mut netfilter = net.right.netfilter();
    let mut pairs = [true, false].map(|v4| established(&net, v4));
    for (client, server) in &mut pairs {
        client.write_all(b"1").unwrap();
        eventually("the first byte", || hears(server));
    }
    netfilter.arm(&net.right_cut_from_left(), LONG).unwrap();
    netfilter.cut(TABLE, &[always()], LONG).unwrap();
    for (client, _) in &mut pairs {
        client.write_all(b"2").unwrap();
    }
    for _ in 0..3 {
        for (client, server) in &mut pairs {
            assert!(!hears(server), "nothing arrives");
            assert!(!hears(client), "nor does an answer");
        }
    }
    netfilter.close_gate(TABLE).unwrap();
    for (client, server) in &mut pairs {
        // TCP sends again by itself, at twice the distance each time.
        eventually("what was written during the cut", || hears(server));
        server.write_all(b"3").unwrap();
        eventually("an answer", || hears(client));
    }
}

#[test]
fn datagrams_go_silent_and_their_sender_gets_no_error() {
    let net = Net::new();
    let mut netfilter = net.right.netfilter();
    netfilter.arm(&net.right_cut_from_left(), LONG).unwrap();
    netfilter.cut(TABLE, &[always()], LONG).unwrap();
    for v4 in [true, false] {
        let sender = net.left.udp(net.left.address(v4));
        // Nothing listens there: without the cut an ICMP error would come back.
        sender.connect((net.right.address(v4), 9)).unwrap();
        for _ in 0..10 {
            sender.send(b"anyone?").unwrap();
            let heard = sender.recv(&mut [0; 16]).map_err(|e| e.kind());
            assert!(matches!(heard, Err(ErrorKind::WouldBlock)), "{heard:?}");
        }
    }
    netfilter.close_gate(TABLE).unwrap();
    let sender = net.left.udp(net.left.v4);
    sender.connect((net.right.v4, 9)).unwrap();
    sender.send(b"anyone?").unwrap();
    assert_eq!(sender.recv(&mut [0; 16]).unwrap_err().kind(), ErrorKind::ConnectionRefused, "and now it does");
}
