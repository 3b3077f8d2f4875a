//! Aborts, and the heal packets that leave for every node.

use crate::{
    agents::{Agents, Manner},
    cluster::{Cluster, GOOD, NODES},
    replica::Replica,
    wait::{SOON, until},
};
use k8s_openapi::jiff::Timestamp;
use rackpartition::{
    api::{Phase, RackPartitionStatus},
    fault::{Heal, Way},
};
use serde_json::json;
use std::{
    net::UdpSocket,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// From an abort until its heal packets are everywhere: a small part of the cut, with room for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(15);

type Received = Arc<Mutex<Vec<(&'static str, Vec<u8>, Instant)>>>;

/// What arrives at the nodes' addresses.
pub struct Packets(Received);

impl Packets {
    pub fn receive(cluster: &Cluster) -> Self {
        let received = Received::default();
        for node in NODES {
            let socket = UdpSocket::bind((cluster.node_address(node), Heal::PORT)).expect("a node's heal port");
            socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
            let packets = Arc::downgrade(&received);
            thread::spawn(move || {
                let mut buffer = [0; 64];
                loop {
                    let length = socket.recv(&mut buffer);
                    let Some(packets) = packets.upgrade() else { return };
                    if let Ok(length) = length {
                        packets.lock().expect("no panic").push((node, buffer[..length].to_vec(), Instant::now()));
                    }
                }
            });
        }
        Packets(received)
    }

    pub fn forget(&self) {
        self.0.lock().expect("no panic").clear();
    }

    fn has(&self, node: &str, token: &[u8]) -> bool {
        self.0.lock().expect("no panic").iter().any(|(n, packet, _)| *n == node && packet == token)
    }

    pub fn are_everywhere(&self, token: &[u8]) -> bool {
        NODES.iter().all(|node| self.has(node, token))
    }

    pub fn assert_everywhere(&self, token: &[u8]) {
        for node in NODES {
            assert!(self.has(node, token), "no heal packet with the run's token arrived at {node}");
        }
    }
}

fn healed(status: &RackPartitionStatus) -> (String, String) {
    let found = status.conditions.iter().find(|c| c.type_ == "Healed").expect("a condition");
    (found.status.clone(), found.message.clone())
}

#[tokio::test]
async fn an_abort_heals_every_node_at_once() {
    let cluster = Cluster::start().await;
    let _replica = Replica::start(&cluster.plane, GOOD.0, GOOD.1);
    let packets = Packets::receive(&cluster);
    for (name, phase) in [("arming", Phase::Arming), ("cut", Phase::Cut)] {
        cluster.begin(name, json!({"duration": "60s"})).await;
        // In Arming nobody has come yet: packets go to all that may.
        let agents = (phase == Phase::Cut).then(|| Agents::play(&cluster, name, &[]));
        cluster.until_phase(name, &[phase]).await;
        let token = cluster.plan_of(name).await.expect("a plan").heal.token_bytes().expect("a token");
        packets.forget();
        let asked = Instant::now();
        cluster.patch(name, json!({"spec": {"abort": true}})).await.expect("an abort");
        until("heal packets at every node", SOON, || async {
            NODES.iter().all(|n| packets.has(n, &token)).then_some(())
        })
        .await;
        let after = asked.elapsed();
        eprintln!("{name}: heal packets at every node {after:?} after the abort");
        assert!(after < AT_ONCE, "{name}: heal packets at every node only {after:?} after the abort");
        let status = cluster.until_phase(name, &[Phase::Aborted]).await;
        assert!(status.message.unwrap_or_default().contains("spec.abort"));
        let run = cluster.until_wound_up(name).await.expect("an aborted run stays");
        assert_eq!(healed(&run.status.expect("a status")).0, "True", "{name}");
        drop(agents);
    }
}

#[tokio::test]
async fn an_abort_that_nobody_answers_ends_with_the_kernels_deadline_and_bars_other_runs_until_then() {
    let cluster = Cluster::start().await;
    let _replica = Replica::start(&cluster.plane, GOOD.0, GOOD.1);
    cluster.begin("mute", json!({"duration": "20s"})).await;
    let _agents = Agents::play_mute(&cluster, "mute");
    let status = cluster.until_phase("mute", &[Phase::Cut]).await;
    let heal_at = status.schedule.expect("a schedule").heal_at.0;
    cluster.patch("mute", json!({"spec": {"abort": true}})).await.expect("an abort");
    cluster.until_phase("mute", &[Phase::Aborted]).await;
    // Nodes may still be cut: whatever another run would see, it would not be its own doing.
    cluster.begin("other", json!({})).await;
    let status = cluster.until_phase("other", &[Phase::Refused]).await;
    assert!(status.message.as_ref().is_some_and(|m| m.contains("run mute")), "{:?}", status.message);

    let run = cluster.until_wound_up("mute").await.expect("an aborted run stays");
    assert!(Timestamp::now() >= heal_at, "kept until no rule can have effect");
    let (value, message) = healed(&run.status.expect("a status"));
    assert_eq!(value, "Unknown", "nobody has said that it has healed");
    assert!(NODES.iter().all(|n| message.contains(n)), "{message}");
}

/// From the operator's own pod, the way of its heal packets; and only until the cut has a time, for in the cut it would prove nothing.
#[tokio::test]
async fn while_nodes_are_armed_the_operator_tries_the_way_of_its_heal_packets() {
    let cluster = Cluster::start().await;
    let _replica = Replica::start(&cluster.plane, GOOD.0, GOOD.1);
    let packets = Packets::receive(&cluster);
    cluster.begin("run", json!({})).await;
    cluster.until_phase("run", &[Phase::Arming]).await;
    let plan = cluster.plan_of("run").await.expect("a plan");
    // Another for each node: the operator's own sees all of them go by.
    let has = |node: &&str| packets.has(node, &plan.operator_datagram(GOOD.1, node, Way::Ipv4));
    let everywhere = || async { NODES.iter().all(has).then_some(()) };
    until("a marked datagram at every node", SOON, everywhere).await;
    packets.forget();
    until("another round", SOON, everywhere).await;
    let _agents = Agents::play(&cluster, "run", &[]);
    cluster.until_phase("run", &[Phase::Cut]).await;
    packets.forget();
    sleep(Duration::from_secs(3)).await;
    assert!(!NODES.iter().any(has), "the operator goes on in the cut");
    cluster.delete("run").await;
}

/// A machine that was paused in mid-cut goes on with it when it is let go, so whoever has not spoken is told as long as the run lasts; and
/// nobody else, for the others have said that they drop nothing.
#[tokio::test]
async fn who_does_not_say_that_it_healed_is_sent_heal_packets_until_the_run_has_ended() {
    let cluster = Cluster::start().await;
    let _replica = Replica::start(&cluster.plane, GOOD.0, GOOD.1);
    let packets = Packets::receive(&cluster);
    cluster.begin("run", json!({"recovery": "20s"})).await;
    let mute = Manner { mute: true, ..Default::default() };
    let _agents = Agents::play(&cluster, "run", &[("w3", mute)]);
    let status = cluster.until_phase("run", &[Phase::Recovering]).await;
    let heal_at = status.schedule.expect("a schedule").heal_at.0;
    let token = cluster.plan_of("run").await.expect("a plan").heal.token_bytes().expect("a token");
    for round in ["a heal packet", "another one"] {
        packets.forget();
        until(&format!("{round} at the node that says nothing"), SOON, || async {
            packets.has("w3", &token).then_some(())
        })
        .await;
        let told: Vec<_> = NODES.into_iter().filter(|node| packets.has(node, &token)).collect();
        assert_eq!(told, ["w3"]);
    }
    let since_heal = Timestamp::now().as_second() - heal_at.as_second();
    assert!(since_heal >= 10, "after {since_heal} s: it may have been about to say so");
    cluster.until_phase("run", &[Phase::Done]).await;
    cluster.until_wound_up("run").await.expect("a run with a verdict stays");
    packets.forget();
    sleep(Duration::from_secs(3)).await;
    assert!(!packets.has("w3", &token), "the run is over");
}
