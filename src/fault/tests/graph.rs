//! What a partial partition leaves etcd and the API servers able to do: theory §7, on the graph.

use super::*;
use crate::{api::Side, fault::cut_off};

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
        .map(|node| EtcdMember { node: node.into(), client_port: 2379, peer_port: 2380, ..Default::default() })
        .into();
    let sides = sides_of(&snapshot, json!({"isolate": {"racks": ["r1"]}}));
    assert!(sides.iter().all(|s| s.quorum), "what API servers reach counts");
    // Nobody drops between endpoints: all members keep their leader, and the isolated API server its own member.
    assert_eq!(sides[0].writable, Prospect::Yes);
    assert_eq!(sides[1].writable, Prospect::Yes);
}

/// Tolerated losses of one to nine members (etcd FAQ): the others keep their majority until one more is lost.
const TOLERATED: [usize; 9] = [0, 0, 1, 1, 2, 2, 3, 3, 4];

#[test]
fn quorum_of_one_to_nine_members_for_every_number_lost() {
    for (members, tolerated) in (1..).zip(TOLERATED) {
        // Beside the members a worker each side, so that there is somebody to cut a single member from.
        let racks: Vec<usize> = (0..=members).collect();
        let snapshot = cluster(&racks, members);
        for lost in 1..=members {
            let names: Vec<String> = (0..lost).map(|rack| format!("r{rack}")).collect();
            let sides = sides_of(&snapshot, json!({"isolate": {"racks": names}}));
            let [isolated, rest] = &sides[..] else { panic!("{sides:?}") };
            let of = |yes| if yes { (true, Prospect::Yes) } else { (false, Prospect::No) };
            let keeps = lost <= tolerated;
            // Of an even number two halves have none.
            let wins = 2 * lost > members;
            assert_eq!((isolated.quorum, isolated.writable), of(wins), "{lost} of {members}: the lost ones");
            // Of a rest without a member nobody can write.
            let keeps = keeps && lost < members;
            assert_eq!((rest.quorum, rest.writable), of(keeps), "{lost} of {members}: the rest");
            assert!(!(keeps && wins), "two majorities");
        }
    }
}

#[test]
fn in_a_triangle_the_leaders_place_decides() {
    use Prospect::{No, Yes};
    for (leader, expected) in [(0, [Yes, Yes, No]), (1, [Yes, Yes, Yes]), (2, [No, Yes, Yes])] {
        let mut snapshot = three();
        snapshot.etcd[leader].leads = Some(true);
        let writable: Vec<_> = sides_of(&snapshot, BRIDGE()).iter().map(|s| s.writable).collect();
        assert_eq!(writable, expected, "n{leader} leads");
    }
}

#[test]
fn in_a_chain_of_four_the_middle_two_may_lead() {
    use Prospect::{Maybe, No, Yes};
    let mut snapshot = cluster(&[0, 1, 2, 3], 4);
    let told = |snapshot: &Snapshot| {
        let sides = sides_of(snapshot, json!({"chain": {}}));
        (sides.iter().map(|s| s.quorum).collect::<Vec<_>>(), sides.iter().map(|s| s.writable).collect::<Vec<_>>())
    };
    assert_eq!(told(&snapshot), (vec![false, true, true, false], vec![Maybe, Yes, Yes, Maybe]));
    // The far end does not hear whom the others follow.
    snapshot.etcd[1].leads = Some(true);
    assert_eq!(told(&snapshot).1, [Yes, Yes, Yes, No]);
}

#[test]
fn in_a_star_of_four_only_the_hub_has_three() {
    let snapshot = cluster(&[0, 1, 2, 3], 4);
    let sides = sides_of(&snapshot, json!({"star": {"hub": {"racks": ["r1"]}}}));
    let quorum: Vec<_> = sides.iter().filter(|s| s.quorum).map(|s| (s.name.as_str(), s.etcd_members)).collect();
    assert_eq!(quorum, [("r1", 4)]);
    assert!(sides.iter().all(|s| s.writable == Prospect::Yes));
}

#[test]
fn of_four_members_three_keep_their_leader_and_one_has_none() {
    let snapshot = cluster(&[1, 1, 1, 2], 4);
    let sides = sides_of(&snapshot, json!({"split": {"groups": [{"racks": ["r1"]}]}}));
    use Prospect::{No, Yes};
    // The load balancer is with the rest, and reaches no API server that can write.
    assert_eq!(told(&sides), [("r1", 3, true, Yes, Yes), ("r2", 1, false, No, No)]);
}

/// Five members of which only n2 hears a majority, and not n0, who is alone.
const CONSTRAINED: fn() -> Value = || {
    let both = |from: &str, to: &[&str]| json!({"from": {"racks": [from]}, "to": {"racks": to}, "both": true});
    json!({"edges": [both("r0", &["r1", "r2", "r3", "r4"]), both("r1", &["r3", "r4"]), both("r3", &["r4"])]})
};

#[test]
fn a_hub_that_may_lack_what_the_old_leader_wrote_need_not_win() {
    let writable = |leader: Option<usize>| {
        let mut snapshot = cluster(&[0, 1, 2, 3, 4], 5);
        leader.into_iter().for_each(|i| snapshot.etcd[i].leads = Some(true));
        let sides = sides_of(&snapshot, CONSTRAINED());
        sides.iter().map(|s| (s.quorum, s.writable)).collect::<Vec<_>>()
    };
    let of = |hub| vec![(false, Prospect::No), (false, hub), (true, hub), (false, hub), (false, hub)];
    assert_eq!(writable(Some(2)), of(Prospect::Yes), "it leads and goes on");
    assert_eq!(writable(Some(0)), of(Prospect::Maybe), "the others may have longer logs, and can't win themselves");
    assert_eq!(writable(Some(1)), of(Prospect::Yes), "it hears the old leader to its end");
    assert_eq!(writable(None), of(Prospect::Maybe));
}

#[test]
fn without_pre_vote_a_leader_that_somebody_does_not_hear_may_be_deposed() {
    use Prospect::{Maybe, No, Yes};
    let mut snapshot = three();
    snapshot.etcd[0].leads = Some(true);
    snapshot.without_pre_vote = vec!["n0".into(), "n1".into(), "n2".into()];
    let writable = |snapshot: &Snapshot, cut| sides_of(snapshot, cut).iter().map(|s| s.writable).collect::<Vec<_>>();
    assert_eq!(writable(&snapshot, BRIDGE()), [Maybe, Maybe, Maybe], "n2 hears n1, who follows n0");
    // Cut off from all it asks nobody.
    assert_eq!(writable(&snapshot, json!({"isolate": {"racks": ["r3"]}})), [No, Yes]);
}

#[test]
fn where_etcd_may_have_no_leader_for_long_the_loss_must_be_allowed() {
    let allow = Guards { allow_quorum_loss: true, ..Guards::default() };
    let constrained = |leader: Option<usize>| {
        let mut snapshot = cluster(&[0, 1, 2, 3, 4], 5);
        leader.into_iter().for_each(|i| snapshot.etcd[i].leads = Some(true));
        snapshot
    };
    let refused = |snapshot: &Snapshot, guards: &Guards| guarded(snapshot, &spec(CONSTRAINED()), guards).err();
    let nobody = Some(Refusal::NoElection { members: "n2".into() });
    assert_eq!(refused(&constrained(Some(0)), &Guards::default()), nobody);
    assert_eq!(refused(&constrained(None), &Guards::default()), nobody, "who led is not known");
    assert_eq!(refused(&constrained(Some(0)), &allow), None);
    assert_eq!(refused(&constrained(Some(2)), &Guards::default()), None, "it leads and goes on");

    let mut old = three();
    old.without_pre_vote = vec!["n0".into(), "n1".into(), "n2".into()];
    let refused = |snapshot: &Snapshot, guards: &Guards| guarded(snapshot, &spec(BRIDGE()), guards).err();
    let deposed = |members: &str| Some(Refusal::LeaderDeposed { members: members.into() });
    assert_eq!(refused(&old, &Guards::default()), deposed("n0, n2"), "either end may lead");
    assert_eq!(refused(&old, &allow), None);
    old.etcd[0].leads = Some(true);
    assert_eq!(refused(&old, &Guards::default()), deposed("n0, n2"), "once n2 leads it does as n2 did");
    // All hear the middle.
    (old.etcd[0].leads, old.etcd[1].leads) = (Some(false), Some(true));
    assert_eq!(refused(&old, &Guards::default()), None);
    assert!(guarded(&old, &isolate(&["r1"]), &Guards::default()).is_ok(), "it reaches nobody whom it could disturb");
}

#[test]
fn an_api_server_that_may_follow_nobody_is_a_loss_that_must_be_allowed() {
    let mut snapshot = three();
    snapshot.api_servers.truncate(1);
    let refused = |snapshot: &Snapshot, guards: &Guards| guarded(snapshot, &spec(BRIDGE()), guards).err();
    let doubt = Some(Refusal::ApiServerInDoubt { leader: "n2".into() });
    assert_eq!(refused(&snapshot, &Guards::default()), doubt, "its member does not hear n2");
    assert_eq!(refused(&snapshot, &Guards { allow_api_server_loss: true, ..Guards::default() }), None);
    snapshot.etcd[1].leads = Some(true);
    assert_eq!(refused(&snapshot, &Guards::default()), None);
    // Whoever leads, somebody beside an API server follows.
    assert_eq!(refused(&three(), &Guards::default()), None);
}

#[test]
fn of_a_cut_whose_leader_is_not_known_the_worst_counts() {
    let count = |snapshot: &Snapshot, cut| cut_off(snapshot, &expand(&spec(cut), snapshot).unwrap());
    let mut snapshot = three();
    assert_eq!(count(&snapshot, BRIDGE()), 1, "the end that does not hear the leader");
    snapshot.etcd[1].leads = Some(true);
    assert_eq!(count(&snapshot, BRIDGE()), 0, "all hear it");
    // Of a ring each of five may lead, and two don't hear it.
    assert_eq!(count(&cluster(&[0, 1, 2, 3, 4], 5), json!({"ring": {}})), 2);

    let mut old = three();
    old.without_pre_vote = vec!["n2".into()];
    assert_eq!(count(&old, BRIDGE()), 6, "nobody can be sure to write");
    let fault = expand(&spec(BRIDGE()), &old).unwrap();
    let most = Policy { max_nodes_percent: 99, ..Policy::default() };
    let refused = most.check(Duration::from_secs(60), &old, &fault);
    assert!(matches!(refused, Err(Refusal::TooManyNodes { count: 6, total: 6, .. })), "{refused:?}");
}
