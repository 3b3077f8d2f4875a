//! Properties of the algebra over random topologies, and each guard firing and letting through.

mod graph;
mod leaders;
mod pattern;
mod refusals;
mod rehearsal;
pub mod remedy;
mod shapes;

use super::{Fault, PlanParts, Policy, Refusal, RunPlan, check_guards, expand, sides};
use crate::{
    agent::rules_at,
    api::{Guards, Prospect, RackPartitionSpec},
    netfilter::Addresses,
    topology::{ApiServer, Endpoint, EtcdMember, Lease, Node, OperatorReplica, ProtectedPod, Snapshot},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

/// Nodes `n0..` with the given racks; the first `masters` carry etcd and an API server; an operator on each.
fn cluster(racks: &[usize], masters: usize) -> Snapshot {
    let address = |i: usize| format!("198.18.0.{}", i + 1).parse().unwrap();
    let nodes: Vec<Node> = racks
        .iter()
        .enumerate()
        .map(|(i, rack)| Node {
            name: format!("n{i}"),
            rack: Some(format!("r{rack}")),
            ready: true,
            addresses: vec![address(i)],
            pod_cidrs: vec![format!("198.19.{i}.0/24").parse().unwrap()],
            ..Default::default()
        })
        .collect();
    let masters = nodes.iter().take(masters);
    Snapshot {
        rack_label: "zone".into(),
        etcd: masters
            .clone()
            .map(|n| EtcdMember { node: n.name.clone(), client_port: 2379, peer_port: 2380, ..Default::default() })
            .collect(),
        api_servers: masters
            .map(|n| ApiServer { name: n.name.clone(), address: SocketAddr::new(n.addresses[0], 6443) })
            .collect(),
        operators: nodes
            .iter()
            .map(|n| OperatorReplica { pod: format!("op-{}", n.name), node: n.name.clone(), ready: true })
            .collect(),
        endpoints: vec![Endpoint {
            name: "lb".into(),
            rack: None,
            cidrs: vec!["198.18.0.200/32".parse().unwrap()],
            ports: vec![6443],
            egress: false,
        }],
        leases: vec![Lease {
            namespace: "kube-system".into(),
            name: "kube-controller-manager".into(),
            holder: "n0_1".into(),
            holder_node: Some("n0".into()),
            ..Default::default()
        }],
        nodes,
        ..Default::default()
    }
}

/// A spec as people write it.
fn spec(cut: Value) -> RackPartitionSpec {
    with(cut, json!({}))
}

/// The same with other fields.
fn with(cut: Value, other: Value) -> RackPartitionSpec {
    let mut spec = json!({"cut": cut, "duration": "60s"});
    for (key, value) in other.as_object().unwrap() {
        spec[key] = value.clone();
    }
    serde_json::from_value(spec).unwrap()
}

fn isolate(racks: &[&str]) -> RackPartitionSpec {
    spec(json!({"isolate": {"racks": racks}}))
}

fn guarded(snapshot: &Snapshot, spec: &RackPartitionSpec, guards: &Guards) -> Result<Fault, Refusal> {
    let fault = expand(spec, snapshot)?;
    check_guards(guards, snapshot, &fault, &sides(snapshot, &fault))?;
    Ok(fault)
}

proptest! {
    #[test]
    fn isolate_cuts_both_ways_exactly_across_the_boundary(
        racks in prop::collection::vec(0usize..5, 2..12), chosen in 0usize..5
    ) {
        prop_assume!(racks.contains(&chosen));
        let snapshot = cluster(&racks, 3.min(racks.len()));
        let fault = expand(&isolate(&[&format!("r{chosen}")]), &snapshot).unwrap();
        let inside = |i: usize| racks[i] == chosen;
        for a in 0..racks.len() {
            for b in 0..racks.len() {
                let (from, to) = (format!("n{a}"), format!("n{b}"));
                prop_assert_eq!(fault.cuts(&from, &to), inside(a) != inside(b), "{} to {}", from, to);
            }
            prop_assert_eq!(fault.cuts("lb", &format!("n{a}")), inside(a), "the load balancer is outside");
        }
        let within = racks.iter().filter(|r| **r == chosen).count();
        prop_assert_eq!(fault.edges(), 2 * within * (racks.len() - within + 1));
    }

    #[test]
    fn sides_partition_the_nodes_and_nobody_hears_across(
        racks in prop::collection::vec(0usize..5, 2..12), chosen in 0usize..5
    ) {
        prop_assume!(racks.contains(&chosen));
        let snapshot = cluster(&racks, 3.min(racks.len()));
        let fault = expand(&isolate(&[&format!("r{chosen}")]), &snapshot).unwrap();
        let sides = sides(&snapshot, &fault);
        let all: Vec<&String> = sides.iter().flat_map(|s| &s.nodes).collect();
        prop_assert_eq!(all.len(), racks.len());
        prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), racks.len());
        prop_assert!(sides.iter().filter(|s| s.quorum).count() <= 1, "two sides with a quorum");
        for (i, a) in sides.iter().enumerate() {
            for b in sides.iter().skip(i + 1) {
                for (x, y) in a.nodes.iter().flat_map(|x| b.nodes.iter().map(move |y| (x, y))) {
                    prop_assert!(fault.cuts(x, y) && fault.cuts(y, x));
                }
            }
        }
    }

    #[test]
    fn a_node_drops_just_the_sources_of_its_edges(racks in prop::collection::vec(0usize..3, 2..8)) {
        let snapshot = cluster(&racks, 1);
        let fault = expand(&isolate(&[&format!("r{}", racks[0])]), &snapshot).unwrap();
        let plan = plan(&snapshot, &fault);
        for node in &snapshot.nodes {
            let rules = rules_at(&plan, &node.name);
            let Addresses::Of(sources) = &rules[0].sources else { panic!("a list: {rules:?}") };
            for other in &snapshot.nodes {
                let dropped = sources.iter().any(|c| c.contains(&other.addresses[0]));
                prop_assert_eq!(dropped, fault.cuts(&other.name, &node.name));
                let pods_dropped = sources.iter().any(|c| c.contains(&other.pod_cidrs[0]));
                prop_assert_eq!(pods_dropped, dropped);
            }
        }
    }
}

fn plan(snapshot: &Snapshot, fault: &Fault) -> RunPlan {
    let parts = PlanParts {
        run: "run".into(),
        run_uid: "u".into(),
        token: "0".repeat(32),
        duration_seconds: 60.0,
        longest_seconds: 300.0,
        writable: vec![],
    };
    RunPlan::new(snapshot, fault, parts)
}

#[test]
fn three_racks_one_cut_the_rest_keeps_quorum() {
    let snapshot = cluster(&[1, 2, 3, 1, 2, 3], 3);
    let fault = guarded(&snapshot, &isolate(&["r1"]), &Guards::default()).unwrap();
    let sides = sides(&snapshot, &fault);
    let told: Vec<_> = sides.iter().map(|s| (s.name.as_str(), s.etcd_members, s.quorum, s.writable)).collect();
    assert_eq!(told, [("isolated", 1, false, Prospect::No), ("rest", 2, true, Prospect::Yes)]);
}

#[test]
fn a_rack_with_the_majority_keeps_quorum_though_it_is_the_isolated_one() {
    let snapshot = cluster(&[1, 1, 2, 3], 3);
    let fault = guarded(&snapshot, &isolate(&["r1"]), &Guards::default()).unwrap();
    assert_eq!(sides(&snapshot, &fault)[0].writable, Prospect::Yes);
}

#[test]
fn a_role_stands_for_the_rack_of_its_leader() {
    let snapshot = cluster(&[2, 1, 3], 3);
    let role = spec(json!({"isolate": {"role": "kube-controller-manager-leader"}}));
    let fault = expand(&role, &snapshot).unwrap();
    assert_eq!((fault.isolated, fault.title.as_str()), (BTreeSet::from(["n0".to_owned()]), "isolate r2"));
    assert_eq!(fault.resolved_roles["kube-controller-manager-leader"], "n0");
    let unknown = spec(json!({"isolate": {"role": "scheduler-leader"}}));
    assert!(matches!(expand(&unknown, &snapshot), Err(Refusal::UnresolvedRole { .. })));
}

#[test]
fn names_that_stand_for_nothing_are_refused() {
    let mut snapshot = cluster(&[1, 2, 3], 3);
    assert!(matches!(expand(&isolate(&["r9"]), &snapshot), Err(Refusal::NoSuchRack { .. })));
    assert!(matches!(expand(&spec(json!({})), &snapshot), Err(Refusal::NoConstructor)));
    snapshot.nodes.iter_mut().for_each(|n| n.rack = None);
    assert!(matches!(expand(&isolate(&["r1"]), &snapshot), Err(Refusal::NoSuchLabel { .. })));
}

#[test]
fn each_guard_fires_and_lets_through() {
    let healthy = cluster(&[1, 2, 3], 3);
    assert!(guarded(&healthy, &isolate(&["r1"]), &Guards::default()).is_ok());

    let two = isolate(&["r1", "r2"]);
    assert!(matches!(
        guarded(&cluster(&[1, 2, 3, 4], 4), &two, &Guards::default()),
        Err(Refusal::QuorumLoss { total: 4, .. })
    ));
    let allow = Guards { allow_quorum_loss: true, ..Guards::default() };
    assert!(guarded(&cluster(&[1, 2, 3, 4], 4), &two, &allow).is_ok());

    let all = isolate(&["r1", "r2", "r3"]);
    assert_eq!(guarded(&healthy, &all, &Guards::default()), Err(Refusal::AllRacks));
    assert!(guarded(&healthy, &all, &Guards { allow_all_racks: true, ..Guards::default() }).is_ok());

    let mut sick = healthy.clone();
    sick.nodes[2].ready = false;
    assert!(matches!(guarded(&sick, &isolate(&["r1"]), &Guards::default()), Err(Refusal::NodeNotReady { .. })));
    let allow = Guards { allow_unhealthy_baseline: true, ..Guards::default() };
    assert!(guarded(&sick, &isolate(&["r1"]), &allow).is_ok());

    let mut unknown = healthy.clone();
    unknown.nodes[1].addresses.clear();
    let nobody = Refusal::NodeWithoutAddress { node: "n1".into() };
    assert_eq!(guarded(&unknown, &isolate(&["r1"]), &Guards::default()), Err(nobody));

    let mut alone = healthy.clone();
    alone.operators.retain(|o| o.node == "n0");
    assert!(matches!(
        guarded(&alone, &isolate(&["r1"]), &Guards::default()),
        Err(Refusal::OperatorOnLosingSide { .. })
    ));
    assert!(guarded(&alone, &isolate(&["r2"]), &Guards::default()).is_ok());
    // Of many nodes the first are named.
    let racks: Vec<usize> = [1, 2, 3].into_iter().chain([2; 20]).collect();
    let mut many = cluster(&racks, 3);
    many.operators.retain(|o| o.node == "n0");
    let refused = guarded(&many, &isolate(&["r1"]), &Guards::default()).unwrap_err().to_string();
    assert!(refused.contains(" and 12 more)"), "{refused}");

    let mut rackless = healthy.clone();
    rackless.nodes[1].rack = None;
    assert!(matches!(guarded(&rackless, &isolate(&["r1"]), &Guards::default()), Err(Refusal::NodeWithoutRack { .. })));

    let mut over = healthy.clone();
    over.endpoints[0].cidrs = vec!["198.18.0.0/16".parse().unwrap()];
    assert!(matches!(guarded(&over, &isolate(&["r1"]), &Guards::default()), Err(Refusal::EndpointOverNode { .. })));

    let mut external = healthy.clone();
    external.etcd.clear();
    assert_eq!(guarded(&external, &isolate(&["r1"]), &Guards::default()), Err(Refusal::NoEtcd));
}

#[test]
fn each_limit_of_the_owner_fires_and_lets_through() {
    let snapshot = Snapshot {
        protected_pods: vec![ProtectedPod { namespace: "pay".into(), name: "db-0".into(), node: "n1".into() }],
        opted_in: true,
        ..cluster(&[1, 2, 3, 3], 3)
    };
    let checked = |policy: Policy, racks: &[&str], seconds: u64| {
        let fault = expand(&isolate(racks), &snapshot).unwrap();
        policy.check(Duration::from_secs(seconds), &snapshot, &fault)
    };
    let policy = Policy::default;
    assert_eq!(checked(policy(), &["r1"], 3600), Ok(()));

    let a_minute = || Policy { max_duration: Duration::from_secs(60), ..policy() };
    assert!(matches!(checked(a_minute(), &["r1"], 61), Err(Refusal::TooLong { .. })));
    assert_eq!(checked(a_minute(), &["r1"], 60), Ok(()));

    let a_quarter = |max_nodes_percent| Policy { max_nodes_percent, ..policy() };
    assert_eq!(checked(a_quarter(25), &["r1"], 60), Ok(()));
    assert!(matches!(checked(a_quarter(24), &["r1"], 60), Err(Refusal::TooManyNodes { count: 1, total: 4, .. })));
    // The two that are named keep the majority: it is the others that lose.
    assert!(matches!(checked(a_quarter(25), &["r1", "r2"], 60), Err(Refusal::TooManyNodes { count: 2, .. })));

    // By a label of the owner's, whatever the run calls its racks.
    let protects = |node: usize, racks: &[&str]| {
        let mut snapshot = snapshot.clone();
        snapshot.nodes[node].protected = Some("row-7".into());
        let fault = expand(&isolate(racks), &snapshot).unwrap();
        policy().check(Duration::from_secs(60), &snapshot, &fault)
    };
    assert!(matches!(protects(0, &["r1"]), Err(Refusal::ProtectedRack { .. })));
    assert_eq!(protects(1, &["r1"]), Ok(()));
    assert!(matches!(protects(2, &["r1", "r2"]), Err(Refusal::ProtectedRack { .. })));

    // Nobody gets by it with a cut that is not whole.
    for more in [json!({"effect": {"loss": {"percent": 100}}}), json!({"flap": {"down": "59m", "up": "1s"}})] {
        let fault = expand(&with(json!({"isolate": {"racks": ["r1"]}}), more.clone()), &snapshot).unwrap();
        let refused = a_quarter(24).check(Duration::from_secs(60), &snapshot, &fault);
        assert!(matches!(refused, Err(Refusal::TooManyNodes { count: 1, .. })), "{more}: {refused:?}");
    }

    assert!(matches!(checked(policy(), &["r2"], 60), Err(Refusal::ProtectedNamespace { .. })), "n1 is in r2");

    let consent = || Policy { opt_in_label: "example.com/chaos".into(), ..policy() };
    assert_eq!(checked(consent(), &["r1"], 60), Ok(()));
    let without = Snapshot { opted_in: false, ..snapshot.clone() };
    let fault = expand(&isolate(&["r1"]), &without).unwrap();
    let refused = consent().check(Duration::from_secs(60), &without, &fault);
    assert!(matches!(refused, Err(Refusal::NotOptedIn { .. })));
}

#[test]
fn a_majority_of_etcd_without_an_api_server_is_a_loss_that_must_be_allowed() {
    // etcd in every rack, the only API server in r1.
    let mut snapshot = cluster(&[1, 2, 3], 3);
    snapshot.api_servers.truncate(1);
    let spec = isolate(&["r1"]);
    assert_eq!(guarded(&snapshot, &spec, &Guards::default()), Err(Refusal::ApiServerLoss));
    let allow = Guards { allow_api_server_loss: true, ..Guards::default() };
    assert!(guarded(&snapshot, &spec, &allow).is_ok());
    assert!(guarded(&snapshot, &isolate(&["r2"]), &Guards::default()).is_ok());
}

#[test]
fn a_cut_endpoint_breaks_tcp_where_an_agent_enforces_it() {
    let snapshot = cluster(&[1, 2, 3], 3);
    let fault = expand(&isolate(&["r1"]), &snapshot).unwrap();
    let plan = plan(&snapshot, &fault);
    assert!(plan.breaks("n0", "lb"), "n0 drops what the load balancer answers");
    assert!(!plan.breaks("n1", "lb"));
    assert!(plan.breaks("n0", "n1") && !plan.breaks("n1", "n2"));
}

#[test]
fn the_plan_survives_json_with_its_hash() {
    let snapshot = cluster(&[1, 2, 3], 3);
    let fault = expand(&isolate(&["r1"]), &snapshot).unwrap();
    let plan = plan(&snapshot, &fault);
    let read: RunPlan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
    assert_eq!(read.hash(), plan.hash());
}

#[test]
fn a_plan_without_its_token_has_the_same_hash_and_opens_nothing() {
    let snapshot = cluster(&[1, 2, 3], 3);
    let fault = expand(&isolate(&["r1"]), &snapshot).unwrap();
    let mut plan = plan(&snapshot, &fault);
    plan.heal.token = "0123456789abcdef0123456789abcdef".into();
    let shown = plan.without_token();
    assert!(!serde_json::to_string(&shown).unwrap().contains(&plan.heal.token));
    assert!(plan.heal.token_bytes().is_ok() && shown.heal.token_bytes().is_err());
    assert_eq!((shown.hash(), shown.without_token()), (plan.hash(), shown.clone()));
    // Another token or another cut is another plan.
    let mut other = plan.clone();
    other.heal.token = "0123456789abcdef0123456789abcdee".into();
    assert_ne!(other.hash(), plan.hash());
    let mut other = shown.clone();
    other.edges.pop();
    assert_ne!(other.hash(), plan.hash());
}

/// On clusters such as the lab's, two nodes in each rack and a load balancer that is in none.
#[test]
fn every_example_is_allowed_by_the_charts_own_policy() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/shapes");
    let mut seen = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        let run: crate::api::RackPartition = serde_saphyr::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let on = |racks: std::ops::RangeInclusive<usize>| {
            let racks: Vec<usize> = racks.clone().chain(racks).collect();
            let mut snapshot = cluster(&racks, racks.len() / 2);
            snapshot.endpoints[0].name = crate::topology::CONTROL_PLANE_ENDPOINT.into();
            snapshot
        };
        let snapshots = [on(1..=3), on(1..=5)];
        let (snapshot, fault) = snapshots
            .iter()
            .find_map(|s| expand(&run.spec, s).ok().map(|fault| (s, fault)))
            .unwrap_or_else(|| panic!("{} has no form on three racks or on five", file.display()));
        let half = Policy { max_nodes_percent: 50, ..Policy::default() };
        assert_eq!(half.check(Duration::from_secs(60), snapshot, &fault), Ok(()), "{}", file.display());
        let sides = sides(snapshot, &fault);
        assert_eq!(check_guards(&run.spec.guards, snapshot, &fault, &sides), Ok(()), "{}", file.display());
        seen += 1;
    }
    assert!(seen >= 12, "{seen} examples");
}
