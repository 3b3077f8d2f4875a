//! A rehearsal: what it keeps of its cut, and that the same lets it through.

use super::*;

fn rehearsal_of(spec: &RackPartitionSpec) -> RackPartitionSpec {
    RackPartitionSpec { rehearsal: true, ..spec.clone() }
}

#[test]
fn a_rehearsal_keeps_everything_of_its_cut_but_the_edges() {
    let snapshot = cluster(&[1, 2, 3, 1, 2, 3], 3);
    let role = json!({"isolate": {"role": "kube-controller-manager-leader", "outside": true}});
    let more = json!({
        "flap": {"down": "5s", "up": "10s"}, "effect": {"loss": {"percent": 30}},
        "traffic": [{"protocol": "TCP", "port": 10250}, {"class": "Pods"}],
    });
    let spec = with(role, more);
    let (cut, fault) = (expand(&spec, &snapshot).unwrap(), expand(&rehearsal_of(&spec), &snapshot).unwrap());
    assert_eq!((fault.title.as_str(), fault.edges()), ("rehearsal of isolate r1", 0));
    assert_eq!((&fault.ports, &fault.pattern, &fault.resolved_roles), (&cut.ports, &cut.pattern, &cut.resolved_roles));
    assert_eq!(fault.meant(), &cut);
    assert!(cut.edges() > 0 && cut.meant() == &cut);

    let (cut, rehearsed) = (plan(&snapshot, &cut), plan(&snapshot, &fault));
    assert!(rehearsed.edges.is_empty() && rehearsed.sealed.is_empty() && !cut.sealed.is_empty());
    assert_eq!(rehearsed.probes, cut.probes, "all is watched that would be");
    for node in &snapshot.nodes {
        let windows = rehearsed.windows_at(&node.name, 60.0);
        assert!(windows.len() > 1 && windows == cut.windows_at(&node.name, 60.0), "{windows:?}");
        let rules = rules_at(&rehearsed, &node.name);
        assert!(rules.iter().all(|r| r.sources == Addresses::Of(Vec::new())), "somebody is hit: {rules:?}");
        assert!(!rehearsed.drops_at(&node.name) && cut.drops_at(&node.name));
    }
}

#[test]
fn in_a_rehearsal_everybody_is_on_one_side() {
    let snapshot = cluster(&[1, 2, 3, 1, 2, 3], 3);
    let fault = expand(&rehearsal_of(&isolate(&["r1", "r2"])), &snapshot).unwrap();
    let sides = sides(&snapshot, &fault);
    let [side] = &sides[..] else { panic!("one side: {sides:?}") };
    assert_eq!((side.name.as_str(), side.nodes.len(), side.etcd_members), ("everybody", 6, 3));
    assert_eq!((side.quorum, side.writable, side.served), (true, Prospect::Yes, Prospect::Yes));
}

#[test]
fn a_rehearsal_is_refused_where_its_cut_would_be() {
    let healthy = cluster(&[1, 2, 3], 3);
    let four = cluster(&[1, 2, 3, 4], 4);
    let mut one_server = healthy.clone();
    one_server.api_servers.truncate(1);
    let mut alone = healthy.clone();
    alone.operators.retain(|o| o.node == "n0");
    let r1 = || isolate(&["r1"]);
    for (snapshot, spec) in [
        (&healthy, isolate(&["r1", "r2", "r3"])),
        (&healthy, isolate(&["r9"])),
        (&four, isolate(&["r1", "r2"])),
        (&one_server, r1()),
        (&alone, r1()),
    ] {
        let refused = |spec: &RackPartitionSpec| guarded(snapshot, spec, &Guards::default()).err();
        let cut = refused(&spec);
        assert!(cut.is_some(), "{spec:?} is let through");
        assert_eq!(refused(&rehearsal_of(&spec)), cut);
    }
    assert!(guarded(&healthy, &rehearsal_of(&r1()), &Guards::default()).is_ok());
    let allow = Guards { allow_quorum_loss: true, ..Guards::default() };
    assert!(guarded(&four, &rehearsal_of(&isolate(&["r1", "r2"])), &allow).is_ok());

    let a_third = |max_nodes_percent| {
        let fault = expand(&rehearsal_of(&r1()), &healthy).unwrap();
        Policy { max_nodes_percent, ..Policy::default() }.check(Duration::from_secs(60), &healthy, &fault)
    };
    assert_eq!(a_third(34), Ok(()));
    assert!(matches!(a_third(33), Err(Refusal::TooManyNodes { count: 1, total: 3, .. })));
}
