//! The way that the operator's heal packets take, from its own pod to every node: tried by marked datagrams while nodes are armed.
//!
//! It is the only way of theirs to which NetworkPolicies apply, for agents use the nodes' own network. Nodes' kernels count what arrives,
//! agents write it down, and the baseline wants it of every node.

use crate::{
    api::Schedule,
    fault::{RunPlan, Way},
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};
use tokio::{sync::watch, time::sleep};

/// After a round, before the next one.
const PERIOD: Duration = Duration::from_secs(1);
/// So many leave at once, with a pause after them: 5000 a second at most, so that a round to some thousand nodes takes a second or two and
/// no queue on the way is filled. Ours.
const BURST: usize = 50;
const PAUSE: Duration = Duration::from_millis(10);

/// Sends to every node's addresses, round by round, until the cut has a time: in the cut it would prove nothing. `node` is this pod's.
pub async fn try_nodes(plan: RunPlan, node: String, schedule: watch::Receiver<Option<Schedule>>) {
    let mut senders = Way::OF_HEAL.map(|way| Sender::new(&plan, &node, way));
    while schedule.borrow().is_none() {
        for sender in &mut senders {
            sender.send_round().await;
        }
        sleep(PERIOD).await;
    }
}

/// The ways on which this pod can send at all: one without an address of a family sends nothing in it, heal packets neither. Policies and
/// firewalls have no say in it, for nothing is sent.
pub fn families(plan: &RunPlan) -> Vec<Way> {
    let leads_to_a_node = |way: &Way| plan.members.iter().filter_map(|m| way.destination(m)).any(has_way);
    Way::OF_HEAL.into_iter().filter(leads_to_a_node).collect()
}

/// Whether the kernel knows a way to this address, and an address to send from that others can answer.
fn has_way(to: IpAddr) -> bool {
    let own = UdpSocket::bind((any(to.is_ipv4()), 0)).and_then(|socket| {
        // Sends nothing, so any port will do: the one of discard (RFC 863).
        socket.connect((to, 9))?;
        socket.local_addr()
    });
    own.is_ok_and(|own| !is_link_local(own.ip()))
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn any(is_ipv4: bool) -> IpAddr {
    if is_ipv4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// Of one family.
struct Sender {
    /// Where to, and what.
    to: Vec<(SocketAddr, Vec<u8>)>,
    from: SocketAddr,
}

impl Sender {
    fn new(plan: &RunPlan, node: &str, way: Way) -> Self {
        let mut to = Vec::new();
        for member in &plan.members {
            let datagram = plan.operator_datagram(node, &member.name, way);
            let addresses = member.heal_addresses.iter().filter(|a| a.is_ipv4() == way.is_ipv4());
            to.extend(addresses.map(|address| (SocketAddr::new(*address, plan.heal.port), datagram.clone())));
        }
        Sender { to, from: SocketAddr::new(any(way.is_ipv4()), 0) }
    }

    /// Sends one datagram to each address. Whatever does not leave is missed by the receiver, and that says it all.
    async fn send_round(&mut self) {
        if self.to.is_empty() {
            return;
        }
        let socket = match self.open() {
            Ok(socket) => socket,
            Err(error) => return tracing::debug!(%error, from = %self.from, "no way to send datagrams"),
        };
        for burst in self.to.chunks(BURST) {
            for (to, datagram) in burst {
                let _ = socket.send_to(datagram, to);
            }
            sleep(PAUSE).await;
        }
    }

    /// As heal packets are sent, and open no longer than for a round: the operator listens nowhere. From the same port again where that is
    /// free, so that connection tracking needs one entry for a node and not one for each round.
    fn open(&mut self) -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind(self.from).or_else(|_| UdpSocket::bind((self.from.ip(), 0)))?;
        socket.set_nonblocking(true)?;
        self.from = socket.local_addr()?;
        Ok(socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plan(port: u16, addresses: &[&str]) -> RunPlan {
        serde_json::from_value(json!({
            "run": "r", "runUid": "u", "edges": [],
            "members": [{"name": "a", "hasAgent": true, "cidrs": [], "healAddresses": addresses}],
            "heal": {"port": port, "token": "00"}, "durationSeconds": 1.0, "longestSeconds": 1.0, "probes": [],
            "apiServers": [], "writable": [],
        }))
        .unwrap()
    }

    #[test]
    fn a_family_in_which_nothing_can_be_sent_is_none() {
        assert_eq!(families(&plan(1, &["127.0.0.1"])), [Way::Ipv4]);
        // To everybody on the link, which takes SO_BROADCAST.
        assert!(families(&plan(1, &["255.255.255.255"])).is_empty() && families(&plan(1, &[])).is_empty());
        let link_local = ["169.254.1.2", "fe80::1", "febf::1"].map(|a| a.parse::<IpAddr>().unwrap());
        let others = ["198.18.0.1", "fd00::1", "fec0::1"].map(|a| a.parse::<IpAddr>().unwrap());
        assert!(link_local.into_iter().all(is_link_local) && !others.into_iter().any(is_link_local));
    }

    #[tokio::test]
    async fn rounds_come_from_one_port_and_end_with_the_schedule() {
        let here = UdpSocket::bind("127.0.0.1:0").unwrap();
        here.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let plan = plan(here.local_addr().unwrap().port(), &["127.0.0.1", "255.255.255.255"]);
        let mut sender = Sender::new(&plan, "a", Way::Ipv4);
        let mut seen = Vec::new();
        for _ in 0..2 {
            sender.send_round().await;
            let mut buffer = [0; 64];
            let (length, from) = here.recv_from(&mut buffer).unwrap();
            assert_eq!(buffer[..length], plan.operator_datagram("a", "a", Way::Ipv4)[..]);
            seen.push(from);
        }
        assert_eq!(seen[0], seen[1]);
        let at = k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(k8s_openapi::jiff::Timestamp::now());
        let schedule = Schedule { cut_at: at.clone(), heal_at: at.clone(), recover_by: at, observed_until: None };
        let (_known, scheduled) = watch::channel(Some(schedule));
        try_nodes(plan, "a".into(), scheduled).await;
        here.set_nonblocking(true).unwrap();
        assert!(here.recv(&mut [0; 64]).is_err(), "nothing is sent any more");
    }
}
