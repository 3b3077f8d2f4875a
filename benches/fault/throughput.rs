//! What the table costs packets that it does not drop: small datagrams through a veth pair, with and without it in turns.

use crate::figure::{Figure, median};
use crate::fixture::{LONG, Net, Ns, PORT, TABLE, always};
use crate::stream::pair;
use crate::table::{peers, spec};
use ipnet::IpNet;
use rackpartition::netfilter::{Netfilter, Strangers, TableSpec, Watch, WatchSpec};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

/// Each round sends one slice in each state.
const ROUNDS: usize = 400;
/// Datagrams in a slice: some 4 ms, so that on a busy machine many slices are not interrupted at all.
const SLICE: usize = 1_000;
const PEERS: usize = 1_000;
/// The kernel takes removed tables to pieces later and in the background.
const SETTLE: Duration = Duration::from_millis(5);

#[derive(Clone, Copy)]
enum State {
    Without,
    /// The same once more: how far two measurements of the same thing lie apart is what can be known here.
    Again,
    Armed,
    Cutting,
    /// As a node is during a cut: with the table that watches beside it.
    Watching,
}
const STATES: [State; 5] = [State::Without, State::Armed, State::Again, State::Cutting, State::Watching];

pub fn measure() -> Vec<Figure> {
    let net = Net::new();
    let mut netfilter = net.right.netfilter();
    let spec = spec(peers(PEERS));
    // Nobody reads: every packet ends at the socket's full buffer, past the table, and the other core is not needed.
    let (sender, receiver) = pair(&net.left, &net.right, true);
    rustix::net::sockopt::set_socket_recv_buffer_size(&receiver, 1).unwrap(); // the kernel's least
    fill(&sender);
    // Nanoseconds for a packet, by round and state.
    let mut nanos = Vec::new();
    for round in 0..ROUNDS {
        let mut row = [0.0; STATES.len()];
        for turn in 0..STATES.len() {
            let state = STATES[(round + turn) % STATES.len()];
            enter(&mut netfilter, &spec, state);
            let _watch = matches!(state, State::Watching).then(|| net.right.run(|| Watch::open(watch(&net)).unwrap()));
            std::thread::sleep(SETTLE);
            row[state as usize] = slice(&net.right, &sender);
            let dropped = netfilter.state(TABLE).unwrap().map_or(0, |s| s.dropped_packets);
            assert_eq!(dropped, 0, "failed to measure throughput: the table dropped what it should let through");
        }
        nanos.push(row);
    }
    let of = |state: State| nanos.iter().map(|row| row[state as usize]).collect::<Vec<_>>();
    let rate = |what, state| {
        let rates = of(state).iter().map(|n| 1e9 / n).collect();
        Figure::new(format!("packets per second, {what}"), "packets/s", rates).higher_is_better()
    };
    // Share of the packets per second that is missing beside the slice without a table of the same round.
    let cost = |what, state: State| {
        let costs =
            nanos.iter().map(|row| (1.0 - row[State::Without as usize] / row[state as usize]) * 100.0).collect();
        Figure::new(format!("throughput cost, {what}"), "%", costs)
    };
    let added = |what, state: State| {
        let added = nanos.iter().map(|row| row[state as usize] - row[State::Without as usize]).collect();
        Figure::new(format!("time added to a packet, {what}"), "ns", added)
    };
    let noise = cost("no table against no table (noise)", State::Again);
    let floor = format!("noise: no table against no table, median {:.2} %", noise.median());
    let bare = format!("{:.0} ns for a packet without a table", median(&of(State::Without)));
    vec![
        rate("no table", State::Without),
        rate("armed", State::Armed),
        rate("cutting others", State::Cutting),
        rate("cutting others and watching", State::Watching),
        noise,
        cost("armed", State::Armed).target(1.0).beside(floor.clone()),
        cost("cutting others", State::Cutting).target(1.0).beside(floor.clone()),
        cost("cutting others and watching", State::Watching).target(1.0).beside(floor),
        added("armed", State::Armed).beside(bare.clone()),
        added("cutting others", State::Cutting).beside(bare.clone()),
        added("cutting others and watching", State::Watching).beside(bare),
    ]
}

fn enter(netfilter: &mut Netfilter, spec: &TableSpec, state: State) {
    netfilter.remove(TABLE).unwrap();
    if matches!(state, State::Armed | State::Cutting | State::Watching) {
        netfilter.arm(spec, LONG).unwrap();
    }
    if matches!(state, State::Cutting | State::Watching) {
        netfilter.cut(TABLE, &[always()], LONG).unwrap();
    }
}

/// Everybody is known: whoever sends is looked up.
fn watch(net: &Net) -> WatchSpec {
    let own = [net.left.v4, net.left.v6, net.right.v4, net.right.v6].map(IpNet::from);
    let strangers = Some(Strangers { but: peers(PEERS).into_iter().chain(own).collect(), ports: Vec::new() });
    WatchSpec {
        name: "rackpartition_watch_bench".into(),
        ports: vec![PORT],
        senders: Vec::new(),
        marks: vec![[7; 16]],
        strangers,
    }
}

/// Nanoseconds for each packet.
fn slice(to: &Ns, sender: &UdpSocket) -> f64 {
    let before = reached_the_socket(to);
    let start = Instant::now();
    fill(sender);
    let nanos = start.elapsed().as_secs_f64() * 1e9 / SLICE as f64;
    let reached = reached_the_socket(to) - before;
    assert!(reached == SLICE, "failed to measure throughput: {reached} of {SLICE} packets came through");
    nanos
}

fn fill(sender: &UdpSocket) {
    for _ in 0..SLICE {
        sender.send(&[0; 64]).unwrap();
    }
}

/// Datagrams that came as far as a socket without room, in all.
fn reached_the_socket(ns: &Ns) -> usize {
    let counters = ns.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
    let mut udp = counters.lines().filter(|l| l.starts_with("Udp:"));
    let (names, values) = (udp.next().expect("names"), udp.next().expect("values"));
    let mut both = names.split(' ').zip(values.split(' '));
    let (_, value) = both.find(|(name, _)| *name == "RcvbufErrors").expect("a counter for full buffers");
    value.parse().expect("a number")
}
