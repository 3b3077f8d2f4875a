//! When each part is normal again (theory C22).

use super::*;

fn parts(snapshot: &Snapshot, seconds: u64) -> Vec<(&'static str, f64)> {
    let recovery = isolate(snapshot, &["r1"], seconds).recovery;
    let parts: Vec<_> = recovery.milestones.iter().map(|m| (m.what, m.window.latest_seconds)).collect();
    let total = recovery.window.latest_seconds;
    assert!(parts.iter().all(|(_, latest)| *latest <= total), "{parts:?} in {total}");
    parts
}

#[track_caller]
fn are(parts: &[(&str, f64)], expected: &[(&str, f64)]) {
    let same = |(a, b): (&(&str, f64), &(&str, f64))| a.0 == b.0 && (a.1 - b.1).abs() < 0.01;
    assert!(parts.len() == expected.len() && parts.iter().zip(expected).all(same), "{parts:?}");
}

/// After a cut of so many seconds that drops: streams, and 10 s.
fn etcd(seconds: f64) -> f64 {
    (seconds + 0.2) * 1.125 + 10.0
}

#[test]
fn after_a_cut_that_nothing_has_crashed_in() {
    // etcd's health checks 4; 15 + 8.8 + 1 for a Lease; timeout 10, back-off 7, renewal 10, status 10; taints 5 more.
    let (etcd, mut snapshot) = (etcd(8.0), calm());
    let expected = [("etcd", etcd), ("API servers", etcd + 4.0), ("nodes", etcd + 37.0), ("taints", etcd + 42.0)];
    are(&parts(&snapshot, 8)[..4], &expected);
    // A leader may give up 9 s after the cut, before etcd is back 27.2 s after it: 28.2 s of back-off and 30 s to start.
    snapshot = upstream();
    let nodes = etcd + 28.225 + 30.0 + 37.0;
    let expected = [
        ("etcd", etcd),
        ("API servers", etcd + 4.0),
        ("Leases", 24.8),
        ("nodes", nodes),
        ("taints", nodes + 5.0),
        ("pods", nodes),
    ];
    are(&parts(&snapshot, 8), &expected);
}

#[test]
fn etcd_is_back_at_once_where_its_streams_have_ended() {
    let of = |snapshot: &Snapshot, effect: &str, seconds: u64| {
        let isolate = serde_json::json!({"isolate": {"racks": ["r1"]}});
        let spec = serde_json::json!({"cut": isolate, "effect": {effect: {}}, "duration": "60s"});
        let fault = fault::expand(&serde_json::from_value(spec).unwrap(), snapshot).unwrap();
        predict(snapshot, &fault, &fault::sides(snapshot, &fault), Duration::from_secs(seconds)).recovery.etcd
    };
    assert!((of(&calm(), "drop", 60) - etcd(60.0)).abs() < 0.01);
    assert!((of(&calm(), "reject", 60) - 10.0).abs() < 0.01);
    assert!((of(&calm(), "drop", 440) - 10.0).abs() < 0.01);
    // A rack without a member of etcd.
    let mut elsewhere = calm();
    elsewhere.etcd.retain(|m| m.node != "cp1");
    assert!((of(&elsewhere, "drop", 60) - 10.0).abs() < 0.01);
}

#[test]
fn after_a_cut_in_which_api_server_and_leaders_have_crashed() {
    // Until etcd is back 169.6 s after the cut, the API server since 70 s: 109.6 s of back-off and 30 s to start; the leaders since 3 s.
    let crashed = 176.6 + 30.0;
    let nodes = etcd(75.0) + crashed + 19.5 + 10.0;
    let expected = [
        ("etcd", etcd(75.0)),
        ("API servers", etcd(75.0) + 139.6),
        ("Leases", 11.4),
        ("nodes", nodes),
        ("taints", nodes + 5.0),
        ("pods", nodes),
    ];
    are(&parts(&snapshot(), 75), &expected);
    close(isolate(&snapshot(), &["r1"], 75).recovery.window, 0.0, nodes + 5.0);
}

#[test]
fn an_api_server_crashes_by_the_probe_that_it_has() {
    let mut snapshot = upstream();
    snapshot.timers.liveness_period = Some(Timer::read(2.0, "livenessProbe.periodSeconds"));
    snapshot.timers.liveness_failures = Some(Timer::read(12.0, "livenessProbe.failureThreshold"));
    let of = |seconds| parts(&snapshot, seconds).into_iter().find(|(name, _)| *name == "API servers").unwrap().1;
    // Eleven failures after the first one: from 22 s on. After these cuts etcd is back 16.6 s and 27.2 s after their beginning.
    assert!((of(3) - (etcd(3.0) + 4.0)).abs() < 0.01, "{}", of(3));
    assert!((of(8) - (etcd(8.0) + 15.225 + 30.0)).abs() < 0.01, "{}", of(8));
    let first = isolate(&snapshot, &["r1"], 8).api_servers[0].restart.earliest_seconds;
    assert!((first - 22.0).abs() < 0.01, "{first}");
}

#[test]
fn after_a_long_cut_a_back_off_is_at_its_longest() {
    let of = |what: &str| parts(&upstream(), 900).into_iter().find(|(name, _)| *name == what).unwrap().1;
    assert!((of("API servers") - (10.0 + 300.0 + 30.0)).abs() < 0.01);
}

#[test]
fn evicted_pods_end_and_start_again() {
    let mut snapshot = upstream();
    snapshot.pods.iter_mut().for_each(|p| (p.tolerates_unreachable, p.grace_period) = (Some(0.0), 900.0));
    let pods = parts(&snapshot, 300).into_iter().find(|(name, _)| *name == "pods").unwrap().1;
    // The API server that the kubelet asks is back first.
    let etcd = 135.0 + 10.0;
    let api_servers = etcd + 300.0 + 30.0;
    assert!((pods - (api_servers + 45.0 + 900.0 + 10.0 + 15.0)).abs() < 0.01, "{pods}");
}

#[test]
fn without_a_majority_anywhere_leases_wait_for_etcd_and_the_api() {
    let mut snapshot = upstream();
    snapshot.etcd.retain(|m| m.node != "cp3");
    let parts = parts(&snapshot, 8);
    let of = |what: &str| parts.iter().find(|(name, _)| *name == what).unwrap().1;
    // An election takes 15 s more than to join one.
    assert!((of("etcd") - (etcd(8.0) + 15.0)).abs() < 0.01, "{parts:?}");
    assert!((of("Leases") - (etcd(8.0) + 15.0 + 24.8)).abs() < 0.01, "{parts:?}");
}

#[test]
fn taints_go_at_the_next_pass_however_long_that_takes() {
    // Five seconds at the least.
    for (period, later) in [(2.0, 5.0), (5.0, 5.0), (30.0, 30.0)] {
        let mut snapshot = calm();
        snapshot.timers.node_monitor_period = Timer::read(period, "--node-monitor-period");
        let parts = parts(&snapshot, 60);
        let of = |what: &str| parts.iter().find(|(name, _)| *name == what).unwrap().1;
        assert!((of("taints") - of("nodes") - later).abs() < 0.01, "{period}: {parts:?}");
    }
}

#[test]
fn each_part_is_a_line_of_the_plan() {
    let forecast = isolate(&snapshot(), &["r1"], 75);
    let lines: Vec<_> = forecast.predictions.iter().filter(|p| p.check == Check::Recovery).collect();
    let subjects: Vec<_> = lines.iter().map(|p| p.subject.as_str()).collect();
    assert_eq!(subjects, ["cluster", "etcd", "API servers", "Leases", "nodes", "taints", "pods"]);
    assert!(lines.iter().all(|p| p.bounds == Some(Bounds::AfterHeal) && p.window.is_some()), "{lines:?}");
}

#[test]
fn who_is_picked_by_an_api_server_may_be_picked_later() {
    let mut snapshot = upstream();
    snapshot.leases[0].strategy = Some("OldestEmulationVersion".into());
    let leases = parts(&snapshot, 8).into_iter().find(|(name, _)| *name == "Leases").unwrap().1;
    assert!((leases - (24.8 + 33.8)).abs() < 0.01, "{leases}");
}

#[test]
fn who_watches_for_less_time_than_recovery_may_take_is_told() {
    let forecast = isolate(&snapshot(), &["r1"], 75);
    let told = |seconds| forecast.assumptions_of(Duration::from_secs(seconds)).last().unwrap_or_default();
    assert!(told(60).contains("is watched for 60 s (spec.recovery)"), "{}", told(60));
    assert!(!told(3600).contains("spec.recovery"), "{}", told(3600));
}
