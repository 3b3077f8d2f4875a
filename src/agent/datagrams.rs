//! Sends marked datagrams to other agents' nodes, whose kernels count them: see [`super::watch`].

use super::{decide::Order, watch::pace};
use crate::fault::{FLOWS, RunPlan, Sample, Way};
use jiff::Timestamp;
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::{sync::watch, time::sleep};

/// Between two rounds: five datagrams a second to each.
const PERIOD: Duration = Duration::from_millis(200);
/// Around the beginning and the end of the cut, so that the last datagram that got through tells the moment.
const BURST_PERIOD: Duration = Duration::from_millis(2);
const BURST: Duration = Duration::from_millis(100);

/// One datagram of a round.
struct Target {
    way: Way,
    to: SocketAddr,
    payload: Vec<u8>,
}

/// Sends a round to everybody in this node's sample, again and again. Never returns.
pub async fn send_all(plan: RunPlan, node: String, orders: watch::Receiver<Order>) {
    let targets = targets(&plan, &node);
    let mut flows = BTreeMap::new();
    let mut turn = 0;
    loop {
        for target in &targets {
            let flows: &mut Vec<Socket> = flows.entry(target.way).or_insert_with(|| open_all(&plan, &node, target.way));
            if !flows.is_empty() {
                let flow = &flows[turn % flows.len()];
                // Whatever is lost on its way out is missed by the receiver, and that says it all.
                let _ = flow.send_to(&target.payload, &SockAddr::from(target.to));
            }
        }
        turn += 1;
        let times = orders.borrow().times;
        sleep(pace(Timestamp::now(), times, BURST, BURST_PERIOD, PERIOD)).await;
    }
}

fn targets(plan: &RunPlan, node: &str) -> Vec<Target> {
    let Some(own) = plan.member(node) else { return Vec::new() };
    let sample = Sample::new(plan);
    let others = sample.of(node).into_iter().filter_map(|name| plan.member(name));
    let to_one = |other| {
        plan.ways(own, other).filter_map(move |way| {
            let key = plan.key(node, way)?;
            let payload = [&plan.heal.mark()[..], &key.to_be_bytes()].concat();
            Some(Target { way, to: SocketAddr::new(way.address(other)?, plan.heal.port), payload })
        })
    };
    others.flat_map(to_one).collect()
}

/// The sockets of one way; none where the kernel refuses, which shows in nobody hearing anything.
fn open_all(plan: &RunPlan, node: &str, way: Way) -> Vec<Socket> {
    let source = plan.member(node).and_then(|m| way.address(m)).filter(|_| way.is_of_pods());
    let opened: io::Result<Vec<Socket>> = (0..FLOWS).map(|_| open(way, source)).collect();
    opened.unwrap_or_else(|error| {
        tracing::warn!(%error, ?way, "failed to open the sockets for datagrams");
        Vec::new()
    })
}

/// `source`: an address that no interface has to have. Else the kernel chooses, as it does for everybody on this node.
fn open(way: Way, source: Option<IpAddr>) -> io::Result<Socket> {
    let v4 = way.is_ipv4();
    let socket = Socket::new(if v4 { Domain::IPV4 } else { Domain::IPV6 }, Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    let any = if v4 { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    match source {
        // IPv4 does not even route what comes from an address that is not its own without it.
        Some(_) if v4 => socket.set_ip_transparent_v4(true)?,
        Some(_) => socket.set_freebind_v6(true)?,
        None => {}
    }
    socket.bind(&SockAddr::from(SocketAddr::new(source.unwrap_or(any), 0)))?;
    Ok(socket)
}
