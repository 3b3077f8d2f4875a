//! Leases for default and for other timers, with the numbers of theory §3.1 written out.

use super::*;
use crate::topology::{Candidate, Lease};

/// The fixture's cluster with these timers for every Lease.
fn with_timers(duration: f64, deadline: f64, retry: f64) -> Snapshot {
    let mut snapshot = upstream();
    for lease in &mut snapshot.leases {
        lease.lease_duration = duration;
        lease.renew_deadline = Timer::read(deadline, "RD");
        lease.retry_period = Timer::read(retry, "RP");
    }
    snapshot
}

fn forecast_of(snapshot: &Snapshot, seconds: u64) -> LeaseForecast {
    isolate(snapshot, &["r1"], seconds).leases.into_iter().next().unwrap()
}

#[test]
fn intervals_for_default_and_other_timers() {
    // LeaseDuration, RenewDeadline, RetryPeriod; takeover, the old holder's end, gap; overlap. 6 s of each takeover are etcd's election
    // and the API.
    #[rustfmt::skip]
    let table = [
        // Upstream's.
        ((15.0, 10.0, 2.0),    (12.0, 29.8),   (9.0, 17.0),    (0.0, 19.8),  2.0),
        // OpenShift's, which ride out a minute without an API server.
        ((137.0, 107.0, 26.0), (110.0, 257.4), (106.0, 186.5), (0.0, 150.4), 49.5),
        // The lab's.
        ((6.0, 4.0, 1.0),      (4.0, 16.4),    (3.0, 7.0),     (0.0, 12.4),  1.0),
        // With a margin that no late answer uses up.
        ((60.0, 15.0, 5.0),    (54.0, 88.0),   (14.0, 27.5),   (32.5, 73.0), 0.0),
    ];
    for ((duration, deadline, retry), takeover, stop, gap, overlap) in table {
        let lease = forecast_of(&with_timers(duration, deadline, retry), 300);
        close(lease.takeover, takeover.0, takeover.1);
        close(lease.stop, stop.0, stop.1);
        close(lease.gap, gap.0, gap.1);
        assert!((lease.overlap - overlap).abs() < 1e-9, "{}", lease.overlap);
        assert_eq!(lease.moves, Certainty::Must);
    }
}

#[test]
fn what_simulations_of_the_election_saw_is_inside() {
    let lease = forecast_of(&upstream(), 120);
    // One, two and four other candidates: takeover from p1 to the longest, and the gap.
    for (takeover, gap) in [((14.2, 23.1), (3.5, 11.4)), ((13.9, 22.2), (3.4, 10.2)), ((13.7, 20.3), (3.3, 9.1))] {
        contains(lease.takeover, takeover.0, takeover.1);
        contains(lease.gap, gap.0, gap.1);
    }
    contains(lease.stop, 10.0, 12.0);
    // Hard bounds: 15 to 23.8 s after the last renewal, which is up to 2 s old.
    contains(lease.takeover, 13.0, 23.8);
}

#[test]
fn an_election_of_etcd_that_takes_longer_than_the_deadline_may_cost_a_lease_on_the_majoritys_side() {
    let moves = |election: f64| {
        let mut snapshot = calm();
        snapshot.timers.etcd_election = Timer::read(election, "--election-timeout");
        let lease = forecast_of(&snapshot, 120);
        (lease.cut_off, lease.moves)
    };
    // Three election timeouts against 10 s.
    assert_eq!(moves(1.0), (false, Certainty::MustNot));
    assert_eq!(moves(5.0), (true, Certainty::May));
}

#[test]
fn a_leader_that_is_still_heard_costs_two_election_timeouts_more() {
    // cp1 no longer hears the others, and they go on hearing it until it has stepped down.
    let spec = |both: bool| {
        let edge = serde_json::json!({"from": {"racks": ["r2", "r3"]}, "to": {"racks": ["r1"]}, "both": both});
        serde_json::json!({"cut": {"edges": [edge]}, "duration": "60s"})
    };
    let longest = |both: bool| {
        let snapshot = snapshot();
        let fault = fault::expand(&serde_json::from_value(spec(both)).unwrap(), &snapshot).unwrap();
        let sides = fault::sides(&snapshot, &fault);
        let forecast = predict(&snapshot, &fault, &sides, Duration::from_secs(60));
        forecast.api.iter().filter(|a| a.writable == Prospect::Yes).map(|a| a.seconds).fold(0.0, f64::max)
    };
    assert_eq!((longest(true), longest(false)), (5.0, 7.0));
}

/// The controller manager's Lease, whose holder an API server picks.
fn with_coordinated(mut snapshot: Snapshot) -> Snapshot {
    let kcm = snapshot.leases.iter_mut().find(|l| l.subject() == CONTROLLER_MANAGER).unwrap();
    kcm.strategy = Some("OldestEmulationVersion".into());
    snapshot
}

#[test]
fn a_lease_whose_election_is_coordinated_may_move() {
    let forecast = isolate(&with_coordinated(upstream()), &["r1"], 120);
    let kcm = forecast.leases.iter().find(|l| l.lease.subject() == CONTROLLER_MANAGER).unwrap();
    assert_eq!((kcm.moves, kcm.stays(), kcm.counts_leaders()), (Certainty::May, false, false));
    // 29.8 s as by client-go's rules; 15 + 8.8 s until another API server elects, 5 s to look and 5 s to ask.
    close(kcm.takeover, 0.0, 29.8 + 33.8);
    let lines: Vec<_> = forecast.predictions.iter().filter(|p| p.subject == CONTROLLER_MANAGER).collect();
    let [line] = lines[..] else { panic!("{lines:?}") };
    assert_eq!((line.check, line.bounds), (Check::LeaseTakeover, Some(Bounds::AfterCut)));
    assert_eq!(line.expected, "stays with cp1 or leaves it from 0 s");
    close(line.window.unwrap(), 0.0, 63.6);
    assert!(line.reason.contains("strategy OldestEmulationVersion"), "{}", line.reason);
    let told = |words: &str| forecast.assumptions.iter().any(|a| a.contains(words));
    assert!(told("not judged: kube-system/kube-controller-manager: for how long nobody leads"));
    assert!(told("may be on either side, or move"));
    // Whoever counts heartbeats may go on or be another one: both are allowed for, and nothing must be.
    let (node, usual) = (&forecast.nodes[0], &isolate(&upstream(), &["r1"], 120).nodes[0]);
    assert_eq!((node.not_ready, node.after_takeover), (Certainty::May, None));
    contains(node.window, 39.6, 55.0);
    contains(node.window, usual.window.earliest_seconds, usual.window.latest_seconds);
}

#[test]
fn a_coordinated_election_may_also_move_a_lease_whose_holder_is_heard() {
    let forecast = isolate(&with_coordinated(calm()), &["r1"], 120);
    let kcm = forecast.leases.iter().find(|l| l.lease.subject() == CONTROLLER_MANAGER).unwrap();
    assert_eq!((kcm.cut_off, kcm.moves, kcm.stays()), (false, Certainty::May, false));
    let checks = forecast.predictions.iter().filter(|p| p.subject == CONTROLLER_MANAGER).map(|p| p.check);
    assert_eq!(checks.collect::<Vec<_>>(), [Check::LeaseTakeover]);
    assert!(forecast.leases.iter().filter(|l| l.lease.strategy.is_none()).all(|l| l.stays()));
}

#[test]
fn a_lock_that_may_not_be_read_is_told_and_nothing_is_predicted_of_it() {
    let told = |snapshot: &Snapshot| {
        let forecast = isolate(snapshot, &["r1"], 120);
        assert!(forecast.predictions.iter().all(|p| p.subject != CONTROLLER_MANAGER));
        forecast.assumptions.iter().any(|a| a.starts_with("kube-system/kube-controller-manager: it has no Lease"))
    };
    let mut snapshot = upstream();
    snapshot.leases.retain(|l| l.subject() != CONTROLLER_MANAGER);
    assert!(!told(&snapshot));
    snapshot.unread_locks = vec!["kube-controller-manager".into()];
    assert!(told(&snapshot));
}

/// The fixture's cluster with an operator of others whose holder and candidate are pods on these nodes.
fn with_operator(holder: &str, candidate: &str) -> Snapshot {
    let mut snapshot = upstream();
    let of = |pod: &str, node: &str| Candidate { pod: pod.into(), node: node.into() };
    let pods = vec![of("cert-1", holder), of("cert-2", candidate)];
    snapshot.leases.push(Lease {
        namespace: "cert-manager".into(),
        name: "cert".into(),
        holder: "cert-1_4c1b".into(),
        holder_node: Some(holder.into()),
        candidate_nodes: vec![candidate.into()],
        renew_deadline: Timer::assumed(10.0, "2/3 of it"),
        pods,
        ..snapshot.leases[0].clone()
    });
    snapshot
}

fn of_operator(snapshot: &Snapshot, racks: &[&str]) -> (Forecast, LeaseForecast) {
    let forecast = isolate(snapshot, racks, 120);
    let lease = forecast.leases.iter().find(|l| l.lease.name == "cert").unwrap().clone();
    (forecast, lease)
}

#[test]
fn a_pod_that_is_cut_off_may_lose_its_lease_and_what_is_assumed_of_it_is_told() {
    let (forecast, lease) = of_operator(&with_operator("w1", "w2"), &["r1"]);
    // The API server of cp1 is lost, and the candidate may be connected to it.
    assert_eq!((lease.cut_off, lease.moves), (true, Certainty::May));
    close(lease.takeover, 12.0, 29.8);
    let checks: Vec<_> = forecast.predictions.iter().filter(|p| p.subject == "cert-manager/cert").collect();
    assert_eq!(checks.iter().map(|p| p.check).collect::<Vec<_>>(), [Check::LeaseTakeover]);
    assert!(checks[0].reason.contains("Service `kubernetes`"), "{}", checks[0].reason);
    let told = |words: &str| forecast.assumptions.iter().any(|a| a.starts_with(words));
    assert!(told("renew deadline of cert-manager/cert: 10 (2/3 of it)"));
    assert!(told("not judged: cert-manager/cert: if it moves, 0–19.8 s without a leader, and two for 2 s at the most"));
}

#[test]
fn a_pod_on_the_side_that_can_write_may_be_connected_to_an_api_server_that_is_lost() {
    let (_, lease) = of_operator(&with_operator("w2", "w1"), &["r1"]);
    assert_eq!((lease.cut_off, lease.moves), (true, Certainty::May));
}

#[test]
fn where_every_api_server_is_on_the_side_that_can_write_pods_are_as_sure_as_components() {
    // r4 has a worker and nothing else.
    let with_r4 = |holder: &str, candidate: &str| {
        let mut snapshot = with_operator(holder, candidate);
        let w4 = crate::topology::Node {
            name: "w4".into(),
            rack: Some("r4".into()),
            zone: Some("r4".into()),
            ready: true,
            addresses: vec!["198.18.0.10".parse().unwrap()],
            ..Default::default()
        };
        snapshot.nodes.push(w4);
        snapshot
    };
    let (_, lost) = of_operator(&with_r4("w4", "w2"), &["r4"]);
    assert_eq!((lost.cut_off, lost.moves), (true, Certainty::Must));
    let (_, kept) = of_operator(&with_r4("w2", "w4"), &["r4"]);
    assert_eq!((kept.cut_off, kept.moves), (false, Certainty::MustNot));
}

#[test]
fn leases_that_were_left_out_and_flags_that_differ_are_told() {
    let mut snapshot = upstream();
    snapshot.unread_leases = vec!["vault: its Leases may not be read".into()];
    snapshot.unlike_flags = vec!["etcd --election-timeout: 1000 (etcd-c1), 5000 (etcd-c2)".into()];
    let assumptions = isolate(&snapshot, &["r1"], 120).assumptions;
    for words in [
        "vault: its Leases may not be read; nothing is predicted of them",
        "etcd --election-timeout: 1000 (etcd-c1), 5000 (etcd-c2): they differ, and what is predicted may not hold for each",
    ] {
        assert!(assumptions.iter().any(|a| a == words), "{assumptions:?}");
    }
}

#[test]
fn the_lease_by_which_api_servers_coordinate_is_none_of_theirs_to_lose() {
    let mut snapshot = upstream();
    snapshot.leases[1].name = "leader-election-controller".into();
    let forecast = isolate(&snapshot, &["r1"], 120);
    assert!(forecast.leases.iter().all(|l| l.lease.name != "leader-election-controller"));
    assert!(forecast.assumptions.iter().any(|a| a.contains("leader-election-controller: it chooses")));
}
