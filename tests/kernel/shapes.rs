//! Every shape of `examples/shapes` in real kernels: whoever hears whom is exactly what the shape expands to.

use crate::{
    fixture::eventually,
    racks::{NODES, Racks, name},
};
use rackpartition::{
    api::{RackPartition, RackPartitionSpec},
    fault::{Effect, RunPlan},
};
use std::{
    collections::BTreeSet,
    fs,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

/// Ports that are cut by different classes of traffic: kubelet, API server, etcd's clients and peers.
const PORTS: [u16; 4] = [10250, 6443, 2379, 2380];
const UDP_PORT: u16 = 7000;
/// One hop away and back takes microseconds. Less than the first retransmission, so that one packet decides.
const PATIENCE: Duration = Duration::from_millis(400);
/// For a connection, with a second SYN after 1 s where the machine was busy at the first one.
const HANDSHAKE: Duration = Duration::from_secs(3);
const ALL: usize = NODES + 1;

/// Pairs of members, by number: the first one's packets reach the second.
type Matrix = BTreeSet<(usize, usize)>;

pub fn example(shape: &str) -> RackPartitionSpec {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/shapes/{shape}.yaml"));
    let run: RackPartition = serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    run.spec
}

fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..ALL).flat_map(|a| (0..ALL).map(move |b| (a, b))).filter(|(a, b)| a != b)
}

/// Sockets that everybody has, before anything is cut.
struct Ears {
    udp: Vec<UdpSocket>,
    _tcp: Vec<TcpListener>,
}

fn listen(racks: &Racks, v4: bool) -> Ears {
    let at = |i: usize, port| SocketAddr::new(racks.address(i, v4), port);
    let udp = (0..ALL).map(|i| racks.members[i].run(|| UdpSocket::bind(at(i, UDP_PORT)).unwrap()));
    let udp = udp.collect();
    let tcp = (0..ALL).flat_map(|i| PORTS.map(|port| (i, port)));
    let _tcp = tcp.map(|(i, port)| racks.members[i].run(|| TcpListener::bind(at(i, port)).unwrap())).collect();
    Ears { udp, _tcp }
}

/// Whose datagrams reach whom. Those of an earlier round that come late don't count.
fn heard(racks: &Racks, ears: &Ears, v4: bool) -> Matrix {
    static ROUNDS: AtomicU8 = AtomicU8::new(0);
    let round = ROUNDS.fetch_add(1, Ordering::Relaxed);
    for (a, b) in pairs() {
        // Rejected ones come back as errors of the next call.
        for _ in 0..2 {
            let sent = ears.udp[a].send_to(&[round, a as u8], SocketAddr::new(racks.address(b, v4), UDP_PORT));
            if sent.is_ok() {
                break;
            }
        }
    }
    // Silence takes as long as it takes: what has not come by now was lost.
    let mut matrix = Matrix::new();
    std::thread::sleep(PATIENCE);
    for (b, socket) in ears.udp.iter().enumerate() {
        socket.set_nonblocking(true).unwrap();
        let mut said = [0; 2];
        loop {
            match socket.recv(&mut said) {
                Ok(_) if said[0] != round => {}
                Ok(_) => drop(matrix.insert((said[1].into(), b))),
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock) => break,
                // An ICMP error for what was sent.
                Err(_) => {}
            }
        }
    }
    matrix
}

/// Who gets a connection to a port of whom.
fn connected(racks: &Racks, port: u16, v4: bool) -> Matrix {
    let open = |a: usize, b: usize| {
        let address = SocketAddr::new(racks.address(b, v4), port);
        racks.members[a].run(|| TcpStream::connect_timeout(&address, HANDSHAKE).is_ok())
    };
    std::thread::scope(|scope| {
        let tries: Vec<_> = pairs().map(|(a, b)| scope.spawn(move || open(a, b).then_some((a, b)))).collect();
        tries.into_iter().filter_map(|t| t.join().unwrap()).collect()
    })
}

/// What the plan says of the same: only nodes drop, what they receive, and what they send to the load balancer where that is asked.
fn datagrams_planned(plan: &RunPlan, egress: bool) -> Matrix {
    let dropped = |a: usize, b: usize| b < NODES || (egress && a < NODES);
    let lost = |a: usize, b: usize| plan.ports.is_everything() && dropped(a, b) && plan.cuts(&name(a), &name(b));
    pairs().filter(|(a, b)| !lost(*a, *b)).collect()
}

fn connections_planned(plan: &RunPlan, port: u16) -> Matrix {
    let broken = |a: usize, b: usize| plan.ports.hit_tcp(port) && plan.breaks(&name(a), &name(b));
    pairs().filter(|(a, b)| !broken(*a, *b)).collect()
}

fn said(matrix: &Matrix) -> Vec<String> {
    matrix.iter().map(|(a, b)| format!("{}→{}", name(*a), name(*b))).collect()
}

fn assert_same(what: &str, seen: &Matrix, planned: &Matrix) {
    let (more, less) = (said(&(seen - planned)), said(&(planned - seen)));
    assert!(more.is_empty() && less.is_empty(), "{what}: not cut {more:?}; cut, and not planned {less:?}");
}

/// The matrix of one shape, before, during and after, in both families.
fn check(shape: &str, change: impl FnOnce(&mut RackPartitionSpec)) {
    check_in(&Racks::new(), shape, change);
}

fn check_in(racks: &Racks, shape: &str, change: impl FnOnce(&mut RackPartitionSpec)) {
    let mut spec = example(shape);
    change(&mut spec);
    let plan = racks.plan(&spec);
    let everybody: Matrix = pairs().collect();
    for v4 in [true, false] {
        let ears = listen(racks, v4);
        let family = if v4 { "IPv4" } else { "IPv6" };
        // A switch's ports take their time to come up, and neighbours to be found.
        eventually(&format!("{shape}, {family}: all hear each other"), || heard(racks, &ears, v4) == everybody);
        let mut tables = racks.cut(&plan);
        let planned = datagrams_planned(&plan, racks.egress);
        assert_same(&format!("{shape}, {family}, datagrams"), &heard(racks, &ears, v4), &planned);
        for port in PORTS {
            let what = format!("{shape}, {family}, TCP {port}");
            assert_same(&what, &connected(racks, port, v4), &connections_planned(&plan, port));
        }
        let table = rackpartition::api::table_name(&plan.run_uid);
        tables.iter_mut().for_each(|t| t.remove(&table).unwrap());
        assert_same(&format!("{shape}, {family}, after"), &heard(racks, &ears, v4), &everybody);
    }
}

#[test]
fn isolate_is_exactly_what_it_says() {
    check("isolate", |_| {});
}

#[test]
fn a_sealed_rack_hears_nobody_else() {
    check("isolate", |spec| spec.cut.isolate.as_mut().unwrap().outside = true);
}

#[test]
fn what_leaves_for_a_load_balancer_is_dropped_where_that_is_asked() {
    let mut racks = Racks::new();
    racks.egress = true;
    check_in(&racks, "isolate", |_| {});
    check_in(&racks, "reject", |_| {});
}

#[test]
fn split_is_exactly_what_it_says() {
    check("split", |_| {});
}

#[test]
fn bridge_is_exactly_what_it_says() {
    check("bridge", |_| {});
}

#[test]
fn ring_is_exactly_what_it_says() {
    check("ring", |_| {});
}

#[test]
fn star_is_exactly_what_it_says() {
    check("star", |_| {});
}

#[test]
fn chain_is_exactly_what_it_says() {
    check("chain", |_| {});
}

#[test]
fn one_way_is_exactly_what_it_says() {
    check("one-way", |_| {});
}

#[test]
fn a_cut_of_etcd_peers_leaves_all_other_ports_alone() {
    check("etcd-peers", |_| {});
}

#[test]
fn reject_is_exactly_what_it_says() {
    check("reject", |_| {});
}

#[test]
fn flapping_and_staggered_cuts_begin_whole() {
    check("flapping", |spec| spec.flap.as_mut().unwrap().down = Duration::from_secs(60).into());
    check("staggered", |_| {});
}

#[test]
fn a_bad_link_loses_its_share_of_flows_and_no_other() {
    let (racks, spec) = (Racks::new(), example("bad-link"));
    let ears = listen(&racks, true);
    let everybody: Matrix = pairs().collect();
    eventually("all hear each other", || heard(&racks, &ears, true) == everybody);
    let plan = racks.plan(&spec);
    assert!(matches!(plan.pattern.effect, Effect::LossPerFlow { percent: 40 }));
    let _tables = racks.cut(&plan);
    // Each socket is a flow of its own.
    let through = |a: usize, b: usize| {
        let to = racks.members[b].run(|| UdpSocket::bind((racks.address(b, true), 0)).unwrap());
        to.set_read_timeout(Some(PATIENCE)).unwrap();
        for _ in 0..FLOWS {
            let from = racks.members[a].run(|| UdpSocket::bind((racks.address(a, true), 0)).unwrap());
            from.send_to(b"x", to.local_addr().unwrap()).unwrap();
        }
        let mut byte = [0];
        std::iter::from_fn(|| to.recv(&mut byte).ok()).count()
    };
    // Fewer than fit into a socket's buffer.
    const FLOWS: usize = 200;
    // Six standard deviations of as many trials at 0.6.
    let (share, six) = (0.6, 6.0 * (0.6_f64 * 0.4 / FLOWS as f64).sqrt());
    let seen = through(0, 1) as f64 / FLOWS as f64;
    assert!((seen - share).abs() < six, "{seen} of the flows got through, {share} expected");
    assert_eq!(through(1, 2), FLOWS, "r2 and r3 are not cut from each other");
}
