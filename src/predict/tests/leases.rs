//! Leases for default and for other timers, with the numbers of theory §3.1 written out.

use super::*;

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

#[test]
fn of_a_coordinated_election_nothing_is_predicted_and_that_is_told() {
    let mut snapshot = upstream();
    snapshot.leases[0].strategy = Some("OldestEmulationVersion".into());
    let kcm = snapshot.leases[0].subject();
    assert_eq!(kcm, CONTROLLER_MANAGER);
    let forecast = isolate(&snapshot, &["r1"], 120);
    assert!(forecast.leases.iter().all(|l| l.lease.subject() != kcm));
    assert!(forecast.predictions.iter().all(|p| p.subject != kcm));
    let told = |words: &str| forecast.assumptions.iter().any(|a| a.contains(words));
    assert!(told("strategy OldestEmulationVersion") && told("may be on either side, or move"));
    // Whoever counts heartbeats may go on or be another one: both are allowed for, and nothing must be.
    let (node, usual) = (&forecast.nodes[0], &isolate(&upstream(), &["r1"], 120).nodes[0]);
    assert_eq!((node.not_ready, node.after_takeover), (Certainty::May, None));
    contains(node.window, 39.6, 55.0);
    contains(node.window, usual.window.earliest_seconds, usual.window.latest_seconds);
}

#[test]
fn the_lease_by_which_api_servers_coordinate_is_none_of_theirs_to_lose() {
    let mut snapshot = upstream();
    snapshot.leases[1].name = "leader-election-controller".into();
    let forecast = isolate(&snapshot, &["r1"], 120);
    assert!(forecast.leases.iter().all(|l| l.lease.name != "leader-election-controller"));
    assert!(forecast.assumptions.iter().any(|a| a.contains("leader-election-controller: it chooses")));
}
