//! How far apart six nodes fall silent that were told one `cutAt`.

use crate::ROUNDS;
use crate::figure::Figure;
use crate::fixture::{LONG, Ns, TABLE, window};
use crate::stream::{Edges, Sent, millis, pair, send};
use crate::table::{peers, spec};
use jiff::{Timestamp, ToSpan};
use rackpartition::netfilter::{Netfilter, TimeWindow};
use std::net::UdpSocket;

const NODES: u8 = 6;
const LEAD_MILLIS: i64 = 30;
const CUT_MILLIS: i64 = 20;
const TAIL_MILLIS: i64 = 10;

/// Six nodes on one bridge; who sends is the bridge.
struct Switch {
    hub: Ns,
    nodes: Vec<Ns>,
}

impl Switch {
    fn new() -> Self {
        let switch = Self { hub: Ns::new("hub", 100), nodes: (1..=NODES).map(|n| Ns::new("node", n)).collect() };
        let hub = &switch.hub;
        hub.ip(&["link", "add", "hub", "type", "bridge"]);
        for (n, node) in switch.nodes.iter().enumerate() {
            let port = format!("port{n}");
            hub.ip(&["link", "add", &port, "type", "veth", "peer", "name", "node", "netns", &node.name]);
            hub.ip(&["link", "set", &port, "master", "hub", "up"]);
            node.connect();
        }
        hub.connect();
        switch
    }
}

struct Node {
    netfilter: Netfilter,
    sender: UdpSocket,
    receiver: UdpSocket,
    sent: Vec<Sent>,
}

pub fn measure() -> Vec<Figure> {
    let switch = Switch::new();
    let spec = spec([vec![switch.hub.v4.into()], peers(100)].concat());
    let node = |ns: &Ns| {
        let (sender, receiver) = pair(&switch.hub, ns, true);
        receiver.set_nonblocking(true).unwrap();
        Node { netfilter: ns.netfilter(), sender, receiver, sent: Vec::new() }
    };
    let mut nodes: Vec<Node> = switch.nodes.iter().map(node).collect();
    let (mut begin, mut end) = (Vec::new(), Vec::new());
    let mut tries = 0;
    while begin.len() < ROUNDS {
        tries += 1;
        assert!(tries <= 2 * ROUNDS, "failed to measure the skew of six nodes: this machine is too busy");
        for node in &mut nodes {
            node.netfilter.remove(TABLE).unwrap();
            node.netfilter.arm(&spec, LONG).unwrap();
        }
        let window = window(LEAD_MILLIS, LEAD_MILLIS + CUT_MILLIS);
        for node in &mut nodes {
            node.netfilter.cut(TABLE, &[window], LONG).unwrap();
        }
        stream(&mut nodes, &window);
        let middle = window.from + (CUT_MILLIS / 2).milliseconds();
        let edges: Option<Vec<_>> = nodes.iter().map(|n| Edges::of(&n.sent, middle).map(|e| (n, e))).collect();
        let Some(edges) = edges else { continue };
        // First dropped and first back, not last arrived: a pause of the sender then shows as skew and does not hide any.
        begin.push(spread(edges.iter().map(|(n, e)| n.sent[e.lost].after)));
        end.push(spread(edges.iter().map(|(n, e)| n.sent[e.back].after)));
    }
    vec![
        Figure::new("skew of the cut over six nodes", "ms", begin).target(5.0),
        Figure::new("skew of the window's end over six nodes", "ms", end).target(5.0),
    ]
}

/// To one node after another, until a while after the window.
fn stream(nodes: &mut [Node], window: &TimeWindow) {
    let end = window.to + TAIL_MILLIS.milliseconds();
    nodes.iter_mut().for_each(|n| n.sent.clear());
    while Timestamp::now() < end {
        for node in nodes.iter_mut() {
            let one = send(&node.sender, node.sent.len());
            node.sent.push(one);
        }
    }
    for node in nodes {
        let mut buf = [0; 8];
        while node.receiver.recv(&mut buf).is_ok() {
            node.sent[u64::from_be_bytes(buf) as usize].arrived = true;
        }
    }
}

fn spread(times: impl Iterator<Item = Timestamp> + Clone) -> f64 {
    let (first, last) = (times.clone().min(), times.max());
    millis(last.expect("six nodes"), first.expect("six nodes"))
}
