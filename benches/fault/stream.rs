//! Numbered datagrams to one or more namespaces, when each was sent, and which arrived.

use crate::fixture::Ns;
use jiff::Timestamp;
use std::net::{SocketAddr, UdpSocket};

/// Between a veth's ends the receiver's kernel judges a packet inside of the sender's call, so these two enclose the judgement.
#[derive(Clone, Copy)]
pub struct Sent {
    pub before: Timestamp,
    pub after: Timestamp,
    pub arrived: bool,
}

/// A connected sender and its receiver, on which a first datagram has come through.
pub fn pair(from: &Ns, to: &Ns, v4: bool) -> (UdpSocket, UdpSocket) {
    let (sender, receiver) = (from.udp(from.address(v4)), to.udp(to.address(v4)));
    sender.connect(SocketAddr::new(to.address(v4), receiver.local_addr().unwrap().port())).unwrap();
    // Nothing may be lost for want of room.
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&receiver, 32 << 20).unwrap();
    crate::fixture::eventually("a first datagram", || {
        sender.send(&u64::MAX.to_be_bytes()).unwrap();
        receiver.recv(&mut [0; 8]).is_ok()
    });
    receiver.set_nonblocking(true).unwrap();
    while receiver.recv(&mut [0; 8]).is_ok() {}
    receiver.set_nonblocking(false).unwrap();
    (sender, receiver)
}

/// Sends number `n`.
pub fn send(sender: &UdpSocket, n: usize) -> Sent {
    let before = Timestamp::now();
    sender.send(&(n as u64).to_be_bytes()).expect("a cut looks like silence to the sender");
    Sent { before, after: Timestamp::now(), arrived: false }
}

/// Where a window's edges show in what was sent.
pub struct Edges {
    /// Indices: the last that arrived before the silence, the first that did not, the first that arrived again.
    pub last: usize,
    pub lost: usize,
    pub back: usize,
}

impl Edges {
    /// `None` where too little was sent around an edge to tell: the sender did not get to run.
    pub fn of(sent: &[Sent], middle: Timestamp) -> Option<Self> {
        // From the middle outwards, so that one that came late in the window counts as the last.
        let middle = sent.partition_point(|s| s.before < middle);
        let last = sent[..middle].iter().rposition(|s| s.arrived)?;
        let lost = sent.iter().position(|s| !s.arrived)?;
        let back = middle + sent[middle..].iter().position(|s| s.arrived)?;
        Some(Self { last, lost, back })
    }
}

/// Milliseconds from `b` to `a`.
pub fn millis(a: Timestamp, b: Timestamp) -> f64 {
    a.duration_since(b).as_secs_f64() * 1e3
}
