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

#[test]
fn after_a_cut_that_nothing_has_crashed_in() {
    // etcd 10; its health checks 4; 15 + 8.8 + 1 for a Lease; timeout 10, back-off 7, renewal 10, status 10; taints 5 more.
    let expected =
        [("etcd", 10.0), ("API servers", 14.0), ("Leases", 24.8), ("nodes", 47.0), ("taints", 52.0), ("pods", 47.0)];
    are(&parts(&upstream(), 8), &expected);
}

#[test]
fn after_a_cut_in_which_api_server_and_leaders_have_crashed() {
    // The API server since the cut's last moment: 10 s of back-off and 30 s to start; the leaders since 3 s after the cut: 82 s.
    let crashed = 82.0 + 30.0;
    let nodes = 10.0 + crashed + 19.5 + 10.0;
    let expected = [
        ("etcd", 10.0),
        ("API servers", 10.0 + 40.0),
        ("Leases", 11.4),
        ("nodes", nodes),
        ("taints", nodes + 5.0),
        ("pods", nodes),
    ];
    are(&parts(&snapshot(), 75), &expected);
    close(isolate(&snapshot(), &["r1"], 75).recovery.window, 0.0, nodes + 5.0);
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
    let api_servers = 10.0 + 235.0 + 30.0;
    assert!((pods - (api_servers + 45.0 + 900.0 + 10.0 + 15.0)).abs() < 0.01, "{pods}");
}

#[test]
fn without_a_majority_anywhere_leases_wait_for_etcd_and_the_api() {
    let mut snapshot = upstream();
    snapshot.etcd.retain(|m| m.node != "cp3");
    let parts = parts(&snapshot, 8);
    let of = |what: &str| parts.iter().find(|(name, _)| *name == what).unwrap().1;
    assert!((of("etcd") - 25.0).abs() < 0.01, "{parts:?}");
    assert!((of("Leases") - (25.0 + 24.8)).abs() < 0.01, "{parts:?}");
}

#[test]
fn each_part_is_a_line_of_the_plan_and_says_if_nobody_looks() {
    let forecast = isolate(&snapshot(), &["r1"], 75);
    let lines: Vec<_> = forecast.predictions.iter().filter(|p| p.check == Check::Recovery).collect();
    let subjects: Vec<_> = lines.iter().map(|p| p.subject.as_str()).collect();
    assert_eq!(subjects, ["cluster", "etcd", "API servers", "Leases", "nodes", "taints", "pods"]);
    let unjudged =
        |subject: &str| lines.iter().any(|p| p.subject == subject && p.expected.contains("judged as part of"));
    assert!(unjudged("Leases") && unjudged("pods") && !unjudged("etcd"));
}
