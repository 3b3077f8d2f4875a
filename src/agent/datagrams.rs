//! Sends marked datagrams to other agents' nodes, whose kernels count them: see [`super::watch`].

use super::{decide::Order, watch::pace};
use crate::fault::{Effect, FLOWS, RunPlan, Sample};
use jiff::Timestamp;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    io,
    net::{IpAddr, SocketAddr},
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
    /// The address to send from, where it is not for the kernel to choose.
    from: Option<IpAddr>,
    to: SocketAddr,
    payload: Vec<u8>,
    /// Connected, so that none of them takes what others send: an agent has no open port. Empty until the kernel has a way there.
    flows: Vec<Socket>,
}

/// Sends a round to everybody in this node's sample, again and again. Never returns.
pub async fn send_all(plan: RunPlan, node: String, orders: watch::Receiver<Order>) {
    allow_many_sockets();
    let mut targets = targets(&plan, &node);
    // Chance decides about each flow of its own only where the cut is made so.
    let flows = if let Effect::LossPerFlow { .. } = plan.pattern.effect { FLOWS } else { 1 };
    let mut turn = 0;
    loop {
        for target in &mut targets {
            target.send(turn, flows);
        }
        turn += 1;
        let times = orders.borrow().times;
        sleep(pace(Timestamp::now(), times, BURST, BURST_PERIOD, PERIOD)).await;
    }
}

/// Many flows to two dozen nodes on four ways are more than the usual soft limit of 1024.
fn allow_many_sockets() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "failed to raise the limit of open files");
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
            let from = way.source(own).filter(|_| way.is_of_pods());
            let to = SocketAddr::new(way.destination(other)?, plan.port_of(way));
            Some(Target { from, to, payload, flows: Vec::new() })
        })
    };
    others.flat_map(to_one).collect()
}

impl Target {
    /// Sends one datagram. Whatever is lost on its way out is missed by the receiver, and that says it all.
    fn send(&mut self, turn: usize, flows: usize) {
        if self.flows.is_empty() {
            let opened: io::Result<Vec<Socket>> = (0..flows).map(|_| self.open()).collect();
            match opened {
                Ok(opened) => self.flows = opened,
                Err(error) => {
                    return tracing::debug!(%error, from = ?self.from, to = %self.to, "no way to send datagrams");
                }
            }
        }
        let flow = &self.flows[turn % self.flows.len()];
        // An error is first told of the last one, which somebody rejected, and keeps this one from being sent.
        if flow.send(&self.payload).is_err() {
            let _ = flow.send(&self.payload);
        }
    }

    fn open(&self) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(self.to), Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        if let Some(from) = self.from {
            // An address that no interface has to have. IPv4 does not even route what comes from such a one without it.
            if self.to.is_ipv4() {
                socket.set_ip_transparent_v4(true)?
            } else {
                socket.set_freebind_v6(true)?
            }
            socket.bind(&SockAddr::from(SocketAddr::new(from, 0)))?;
        }
        socket.connect(&SockAddr::from(self.to))?;
        Ok(socket)
    }
}
