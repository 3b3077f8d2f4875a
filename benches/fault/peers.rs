//! The mechanism that peers use, on the same machine: `ipset add` once for each peer, an iptables chain for each node, and one
//! node after another.

use crate::ROUNDS;
use crate::figure::{Figure, median};
use crate::fixture::{LONG, Ns, TABLE, always};
use crate::table::spec;
use ipnet::IpNet;
use rackpartition::netfilter::Netfilter;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::Instant;

const NODES: usize = 100;
const PEERS: u32 = 100;
const SET: &str = "rackpartition";
const CHAIN: &str = "RACKPARTITION";

pub fn measure() -> Vec<Figure> {
    let peers: Vec<IpNet> = (0..PEERS).map(|n| Ipv4Addr::from(0x0a00_0000 + 2 * n).into()).map(net).collect();
    eprintln!("  {NODES} network namespaces");
    let nodes: Vec<Ns> = (0..NODES).map(|_| Ns::new("lo", 1)).collect();
    eprintln!("  {} processes", NODES * (peers.len() + 4));
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for node in &nodes {
        theirs.push(node.run(|| by_processes(&peers)));
        ours.push(node.run(|| by_netlink(&peers)));
    }
    let passes = (0..ROUNDS).map(|_| nodes.iter().map(|node| node.run(|| by_netlink(&peers))).sum());
    let ours_in_all = Figure::new("cut 100 nodes × 100 peers one after another, ours", "ms", passes.collect());
    let theirs_in_all: f64 = theirs.iter().sum();
    let times = theirs.iter().zip(&ours).map(|(theirs, ours)| theirs / ours).collect();
    let (their_median, our_median) = (median(&theirs), ours_in_all.median());
    let tools = format!("{} and {}", version("ipset"), version("iptables"));
    vec![
        Figure::new("cut one node from 100 peers, peers' mechanism", "ms", theirs).beside(tools.clone()),
        Figure::new("cut one node from 100 peers, ours", "ms", ours)
            .beside(format!("peers' mechanism, median {their_median:.1} ms")),
        Figure::new("cut 100 nodes × 100 peers one after another, peers' mechanism", "ms", vec![theirs_in_all])
            .beside(tools),
        ours_in_all.beside(format!("peers' mechanism, {theirs_in_all:.0} ms; ours really runs on all nodes at once")),
        Figure::new("faster than the peers' mechanism, node by node", "×", times).higher_is_better().target(10.0),
        Figure::new("faster than the peers' mechanism, 100 nodes × 100 peers", "×", vec![theirs_in_all / our_median])
            .higher_is_better()
            .target(10.0),
    ]
}

fn net(address: std::net::IpAddr) -> IpNet {
    address.into()
}

/// Milliseconds. Without what peers have to do besides: no request to the node, no entering of its namespace.
fn by_processes(peers: &[IpNet]) -> f64 {
    let addresses: Vec<String> = peers.iter().map(|p| p.addr().to_string()).collect();
    let start = Instant::now();
    run("ipset", &["create", SET, "hash:net"]);
    for address in &addresses {
        run("ipset", &["add", SET, address]);
    }
    run("iptables", &["-N", CHAIN]);
    run("iptables", &["-A", CHAIN, "-m", "set", "--match-set", SET, "src", "-j", "DROP"]);
    run("iptables", &["-I", "INPUT", "-j", CHAIN]);
    let took = start.elapsed().as_secs_f64() * 1e3;
    let listed = Command::new("ipset").args(["list", SET]).output().unwrap().stdout;
    let members = String::from_utf8_lossy(&listed).lines().filter(|l| l.starts_with("10.")).count();
    assert_eq!(members, peers.len(), "failed to load the peers' set");
    took
}

/// Milliseconds, from opening netlink to a table that drops.
fn by_netlink(peers: &[IpNet]) -> f64 {
    let spec = spec(peers.to_vec());
    let start = Instant::now();
    let mut netfilter = Netfilter::open().unwrap();
    netfilter.arm(&spec, LONG).unwrap();
    netfilter.cut(TABLE, &[always()], LONG).unwrap();
    let took = start.elapsed().as_secs_f64() * 1e3;
    let state = netfilter.state(TABLE).unwrap().expect("the table is there");
    assert!(state.gate.is_some() && state.windows == 1, "failed to cut: {state:?}");
    netfilter.remove(TABLE).unwrap();
    took
}

fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).stdin(Stdio::null()).status();
    let status = status.unwrap_or_else(|e| panic!("failed to run {program} (scripts/packages installs it): {e}"));
    assert!(status.success(), "failed to run {program} {args:?}: {status}");
}

fn version(program: &str) -> String {
    let said = Command::new(program).arg("--version").output().unwrap().stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    said.lines().next().unwrap_or_default().split(',').next().unwrap_or_default().to_owned()
}
