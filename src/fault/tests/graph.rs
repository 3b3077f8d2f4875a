//! What a partial partition leaves etcd and the API servers able to do: theory §7, on the graph.

use super::*;
use crate::api::Side;

fn sides_of(snapshot: &Snapshot, cut: Value) -> Vec<Side> {
    let fault = expand(&spec(cut), snapshot).unwrap();
    sides(snapshot, &fault)
}

fn told(sides: &[Side]) -> Vec<(&str, u32, bool, Prospect, Prospect)> {
    sides.iter().map(|s| (s.name.as_str(), s.etcd_members, s.quorum, s.writable, s.served)).collect()
}

/// Three racks with a master and a worker each.
fn three() -> Snapshot {
    cluster(&[1, 2, 3, 1, 2, 3], 3)
}

const BRIDGE: fn() -> Value = || json!({"bridge": {"groups": [{"racks": ["r1"]}, {"racks": ["r3"]}]}});

#[test]
fn in_a_bridge_all_keep_a_majority_and_whoever_does_not_hear_the_leader_has_none() {
    use Prospect::{Maybe, No, Yes};
    let mut snapshot = three();
    let sides = sides_of(&snapshot, BRIDGE());
    assert_eq!(
        told(&sides),
        [("r1", 2, true, Maybe, Maybe), ("r2", 3, true, Yes, Maybe), ("r3", 2, true, Maybe, Maybe)]
    );
    assert_eq!((sides[0].hears.as_slice(), sides[1].hears.len()), (["r2".to_owned()].as_slice(), 2));
    // Known to lead, it keeps its quorum and stays: the other end of the bridge follows nobody.
    snapshot.etcd[0].leads = Some(true);
    let sides = sides_of(&snapshot, BRIDGE());
    let writable: Vec<_> = sides.iter().map(|s| s.writable).collect();
    assert_eq!(writable, [Yes, Yes, No]);
}

#[test]
fn four_members_two_and_two_have_no_leader_anywhere() {
    let snapshot = cluster(&[1, 1, 2, 2], 4);
    let sides = sides_of(&snapshot, json!({"split": {"groups": [{"racks": ["r1"]}]}}));
    assert!(sides.iter().all(|s| !s.quorum && s.writable == Prospect::No && s.served == Prospect::No));
}

#[test]
fn in_a_star_only_the_hub_can_lead_and_everybody_hears_it() {
    let snapshot = cluster(&[0, 1, 2, 3, 4], 5);
    let sides = sides_of(&snapshot, json!({"star": {"hub": {"racks": ["r2"]}}}));
    let quorum: Vec<_> = sides.iter().filter(|s| s.quorum).map(|s| s.name.as_str()).collect();
    assert_eq!(quorum, ["r2"], "the others hear two of five");
    assert!(sides.iter().all(|s| s.writable == Prospect::Yes), "the hub must win, and all follow it");
}

#[test]
fn in_a_chain_of_five_the_ends_may_hear_no_leader() {
    let snapshot = cluster(&[0, 1, 2, 3, 4], 5);
    let sides = sides_of(&snapshot, json!({"chain": {}}));
    let writable: Vec<_> = sides.iter().map(|s| s.writable).collect();
    use Prospect::{Maybe, Yes};
    assert_eq!(writable, [Maybe, Maybe, Yes, Maybe, Maybe]);
}

#[test]
fn a_cut_of_other_traffic_leaves_etcd_and_the_api_alone() {
    let snapshot = three();
    let kubelet = with(json!({"isolate": {"racks": ["r1"]}}), json!({"traffic": [{"class": "Kubelet"}]}));
    let fault = expand(&kubelet, &snapshot).unwrap();
    assert!(sides(&snapshot, &fault).iter().all(|s| s.writable == Prospect::Yes && s.served == Prospect::Yes));
    let peers = with(json!({"isolate": {"racks": ["r1"]}}), json!({"traffic": [{"class": "EtcdPeer"}]}));
    let fault = expand(&peers, &snapshot).unwrap();
    let sides = sides(&snapshot, &fault);
    assert_eq!((sides[0].writable, sides[1].writable), (Prospect::No, Prospect::Yes));
    assert_eq!(sides[0].served, Prospect::Maybe, "it may ask an API server of another rack");
}

#[test]
fn a_one_way_cut_of_peers_counts_as_a_cut_for_raft() {
    let snapshot = three();
    let sides = sides_of(&snapshot, json!({"edges": [{"from": {"racks": ["r2", "r3"]}, "to": {"racks": ["r1"]}}]}));
    let r1 = sides.iter().find(|s| s.racks == ["r1"]).unwrap();
    assert!(!r1.quorum && r1.writable == Prospect::No);
}

#[test]
fn what_comes_and_goes_is_never_sure_to_fail() {
    let snapshot = three();
    for other in [
        json!({"effect": {"loss": {"percent": 50}}}),
        json!({"flap": {"down": "5s", "up": "5s"}}),
        json!({"stagger": "5s"}),
    ] {
        let fault = expand(&with(json!({"isolate": {"racks": ["r1"]}}), other.clone()), &snapshot).unwrap();
        let sides = sides(&snapshot, &fault);
        assert_eq!((sides[0].writable, sides[1].writable), (Prospect::Maybe, Prospect::Yes), "{other}");
    }
}

#[test]
fn external_members_are_reached_by_their_clients() {
    let mut snapshot = three();
    let external = |name: &str, rack: &str, host: u8| Endpoint {
        name: name.into(),
        rack: Some(rack.into()),
        cidrs: vec![format!("198.18.9.{host}/32").parse().unwrap()],
        ports: vec![2379, 2380],
        egress: false,
    };
    snapshot.endpoints.extend([external("etcd-a", "r1", 1), external("etcd-b", "r2", 2), external("etcd-c", "r3", 3)]);
    snapshot.etcd = ["etcd-a", "etcd-b", "etcd-c"]
        .map(|node| EtcdMember { node: node.into(), leads: None, client_port: 2379, peer_port: 2380 })
        .into();
    let sides = sides_of(&snapshot, json!({"isolate": {"racks": ["r1"]}}));
    assert!(sides.iter().all(|s| s.quorum), "what API servers reach counts");
    // Nobody drops between endpoints: all members keep their leader, and the isolated API server its own member.
    assert_eq!(sides[0].writable, Prospect::Yes);
    assert_eq!(sides[1].writable, Prospect::Yes);
}
