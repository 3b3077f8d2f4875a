//! etcd of one to nine members, for every number of them that is cut off.

use super::*;
use crate::topology::{ApiServer, EtcdMember, Node};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};

/// A member of etcd and an API server in each of the racks `r1`, `r2`, ..., and a worker in `r0`, so that a single member can be cut off from
/// somebody.
fn members(count: usize) -> Snapshot {
    let address = |i: usize| -> IpAddr { format!("198.18.0.{}", i + 1).parse().unwrap() };
    let node = |i: usize| Node {
        name: format!("n{i}"),
        rack: Some(format!("r{i}")),
        ready: true,
        addresses: vec![address(i)],
        ..Node::default()
    };
    let member =
        |i: usize| EtcdMember { node: format!("n{i}"), client_port: 2379, peer_port: 2380, ..EtcdMember::default() };
    let server = |i: usize| ApiServer { name: format!("n{i}"), address: SocketAddr::new(address(i), 6443) };
    let mut snapshot = Snapshot {
        rack_label: "zone".into(),
        nodes: (0..=count).map(node).collect(),
        etcd: (1..=count).map(member).collect(),
        api_servers: (1..=count).map(server).collect(),
        ..Snapshot::default()
    };
    snapshot.timers.etcd_election = Timer::read(1.0, "--election-timeout");
    snapshot
}

#[test]
fn leader_and_when_it_is_settled_for_every_number_lost() {
    // Members, lost ones; whether the lost ones and the others have a leader. With one, and without a loss of members: 2 s of slack; else 3
    // election timeouts and that. Without: 3 of them, a read of 5 s and 2 of them, 1 s.
    for total in 1..=9_usize {
        for lost in 1..=total {
            let racks: Vec<String> = (1..=lost).map(|i| format!("r{i}")).collect();
            let racks: Vec<&str> = racks.iter().map(String::as_str).collect();
            let forecast = isolate(&members(total), &racks, 60);
            let expected = |have: usize| match () {
                () if have == total => (Prospect::Yes, 2.0),
                () if 2 * have > total => (Prospect::Yes, 5.0),
                () => (Prospect::No, 11.0),
            };
            let sides = [("isolated", lost), ("rest", total - lost)];
            let expected: Vec<_> = sides
                .into_iter()
                .filter(|(_, have)| *have > 0)
                .map(|(side, have)| (side, have, expected(have)))
                .map(|(side, have, (leader, settled))| (side, have, leader, settled))
                .collect();
            let found: Vec<_> =
                forecast.etcd.iter().map(|e| (e.side.as_str(), e.members.len(), e.leader, e.settled)).collect();
            assert_eq!(found, expected, "{lost} of {total}");
            for (etcd, (_, have, ..)) in forecast.etcd.iter().zip(&expected) {
                let told = etcd.prediction();
                let reason = format!("{have} of {total} members within reach, a majority is {};", total / 2 + 1);
                assert!(told.reason.starts_with(&reason), "{told:?}");
                let words = if etcd.leader == Prospect::Yes { "keeps its quorum" } else { "no leader from 11 s on" };
                assert!(told.expected.starts_with(words), "{told:?}");
            }
        }
    }
}

#[test]
fn that_every_member_votes_is_told_where_some_are_cut_off() {
    let told = |racks: &[&str]| {
        let assumptions = isolate(&members(3), racks, 60).assumptions;
        assumptions.iter().any(|a| a.starts_with("every member of etcd has a vote"))
    };
    assert!(told(&["r1"]) && !told(&["r0"]));
}

/// What is predicted of etcd on each side of a cut of this traffic.
fn etcd_of(snapshot: &Snapshot, cut: &Value, traffic: &Value) -> Vec<EtcdForecast> {
    let spec = json!({"cut": cut, "traffic": traffic, "duration": "60s"});
    let fault = fault::expand(&serde_json::from_value(spec).unwrap(), snapshot).unwrap();
    predict(snapshot, &fault, &fault::sides(snapshot, &fault), Duration::from_secs(60)).etcd
}

#[test]
fn members_whose_api_server_writes_to_others_have_no_leader_all_the_same() {
    // In r1 the API server is not beside the member, and reaches others by their client ports.
    let mut snapshot = members(3);
    snapshot.nodes[0].rack = Some("r1".into());
    snapshot.api_servers[0].name = "n0".into();
    let found = etcd_of(&snapshot, &json!({"isolate": {"racks": ["r1"]}}), &json!([{"class": "EtcdPeer"}]));
    let leaders: Vec<_> = found.iter().map(|e| (e.side.as_str(), e.leader)).collect();
    assert_eq!(leaders, [("isolated", Prospect::No), ("rest", Prospect::Yes)]);
    // And without an API server a majority has one.
    snapshot.api_servers.truncate(1);
    let found = etcd_of(&snapshot, &json!({"isolate": {"racks": ["r1"]}}), &json!([]));
    let leaders: Vec<_> = found.iter().map(|e| (e.side.as_str(), e.leader)).collect();
    assert_eq!(leaders, [("isolated", Prospect::No), ("rest", Prospect::Yes)]);
}

#[test]
fn why_nobody_knows_whether_there_is_a_leader_is_told() {
    let told = |snapshot: &Snapshot, cut: &Value, side: &str| {
        let found = etcd_of(snapshot, cut, &json!([]));
        let told = found.iter().find(|e| e.side == side).unwrap().prediction();
        assert_eq!(found.iter().find(|e| e.side == side).unwrap().leader, Prospect::Maybe);
        (told.expected, told.reason)
    };
    // Only n3 hears a majority, and it does not hear n1, which may have led.
    let both = |from: &str, to: &[&str]| json!({"from": {"racks": [from]}, "to": {"racks": to}, "both": true});
    let edges =
        json!({"edges": [both("r1", &["r2", "r3", "r4", "r5"]), both("r2", &["r4", "r5"]), both("r4", &["r5"])]});
    let (expected, reason) = told(&members(5), &edges, "r3");
    assert_eq!(expected, "has a leader, or none until the heal");
    assert!(reason.contains("n3 alone can win, and others") && reason.ends_with("(raft §5.4.1)"), "{reason}");

    let bridge = json!({"bridge": {"groups": [{"racks": ["r1"]}, {"racks": ["r3"]}]}});
    let mut snapshot = members(3);
    let (expected, _) = told(&snapshot, &bridge, "r1");
    assert_eq!(expected, "has a leader, has none, or both by turns");
    snapshot.without_pre_vote = vec!["n1".into(), "n2".into(), "n3".into()];
    let (expected, reason) = told(&snapshot, &bridge, "r1");
    assert_eq!(expected, "has leaders by turns");
    assert!(
        reason.contains("n1, n3 ask for votes without PreVote") && reason.ends_with("(etcd --pre-vote)"),
        "{reason}"
    );
}
