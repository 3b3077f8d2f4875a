//! Nodes for default and for other timers, with the numbers of theory §3.2 written out.

use super::*;
use crate::topology::Node;

fn with_grace(mut snapshot: Snapshot, grace: f64, period: f64, renew: f64) -> Snapshot {
    snapshot.timers.node_monitor_grace = Timer::read(grace, "--node-monitor-grace-period");
    snapshot.timers.node_monitor_period = Timer::read(period, "--node-monitor-period");
    snapshot.timers.node_lease_renew = Timer::read(renew, "node Leases");
    snapshot
}

#[test]
fn not_ready_and_taint_for_default_and_other_timers() {
    // Grace period, monitor period, renewal; NotReady, and the taint of the second of two nodes at one in ten seconds.
    #[rustfmt::skip]
    let table = [
        // Since Kubernetes 1.32, and before.
        ((50.0, 5.0, 10.0), (39.6, 55.0), (39.6, 70.0)),
        ((40.0, 5.0, 10.0), (29.6, 45.0), (29.6, 60.0)),
        ((12.0, 2.0, 2.5),  (9.4, 14.0),  (9.4, 26.0)),
        ((300.0, 10.0, 20.0), (279.2, 310.0), (279.2, 330.0)),
    ];
    for ((grace, period, renew), not_ready, taint) in table {
        let node = &isolate(&with_grace(calm(), grace, period, renew), &["r1"], 900).nodes[0];
        close(node.window, not_ready.0, not_ready.1);
        close(node.taint, taint.0, taint.1);
        assert_eq!((node.not_ready, node.tainted), (Certainty::Must, Certainty::Must));
    }
}

#[test]
fn the_last_of_many_nodes_is_tainted_by_the_rate_of_the_cluster() {
    // Nodes of a zone that are cut off, nodes per second; NotReady by 55 s, and a pass of 5 s.
    #[rustfmt::skip]
    let table = [
        (1, 0.1, 60.0), (2, 0.1, 70.0), (3, 0.1, 80.0), (5, 0.1, 100.0),
        (1, 1.0, 60.0), (5, 1.0, 64.0), (3, 0.5, 64.0), (5, 0.02, 260.0),
    ];
    for (count, rate, latest) in table {
        let mut snapshot = calm();
        snapshot.timers.node_eviction_rate = Timer::read(rate, "--node-eviction-rate");
        let worker = snapshot.node("w1").unwrap().clone();
        // Beside the control plane's node.
        snapshot.nodes.retain(|n| n.name != "w1");
        for i in 1..count {
            let addresses = vec![format!("198.18.1.{i}").parse().unwrap()];
            snapshot.nodes.push(Node { name: format!("more-{i}"), addresses, ..worker.clone() });
        }
        let forecast = isolate(&snapshot, &["r1"], 900);
        assert_eq!(forecast.nodes.len(), count);
        for node in &forecast.nodes {
            close(node.taint, 39.6, latest);
            assert_eq!((node.rate, node.tainted, node.first), (rate, Certainty::Must, None), "{count} at {rate}");
        }
    }
}

#[test]
fn a_new_controller_manager_counts_from_its_own_start() {
    for (grace, after_takeover) in [(50.0, (50.0, 65.0)), (40.0, (40.0, 55.0))] {
        let node = &isolate(&with_grace(upstream(), grace, 5.0, 10.0), &["r1"], 900).nodes[0];
        // Theory: from its start on [grace, grace + 10].
        contains(node.after_takeover.unwrap(), grace, grace + 10.0);
        close(node.after_takeover.unwrap(), after_takeover.0, after_takeover.1);
        // It starts 12 to 29.8 s after the cut.
        close(node.window, 12.0 + after_takeover.0, 29.8 + after_takeover.1);
    }
}

#[test]
fn pods_are_deleted_one_toleration_after_the_taint() {
    // What simulations saw for a node tainted at once, of 40 s and of 50 s of grace.
    for (grace, seen) in [(40.0, (335.0, 351.0)), (50.0, (345.0, 361.0))] {
        let mut snapshot = with_grace(calm(), grace, 5.0, 10.0);
        snapshot.pods.iter_mut().for_each(|p| p.tolerates_unreachable = Some(300.0));
        let forecast = isolate(&snapshot, &["r1"], 600);
        let taint = forecast.nodes.iter().find(|n| n.node == "w1").unwrap().taint;
        for workload in &forecast.workloads {
            close(workload.eviction.unwrap(), taint.earliest_seconds + 300.0, taint.latest_seconds + 300.0);
            contains(workload.eviction.unwrap(), seen.0, seen.1);
            assert_eq!(workload.evicted, Certainty::Must);
        }
    }
}

#[test]
fn of_a_controller_manager_that_nobody_can_place_both_are_allowed_for() {
    let mut snapshot = upstream();
    let kcm = snapshot.leases.iter_mut().find(|l| l.subject() == CONTROLLER_MANAGER).unwrap();
    kcm.holder_node = None;
    let forecast = isolate(&snapshot, &["r1"], 900);
    let node = &forecast.nodes[0];
    assert_eq!((node.not_ready, node.after_takeover), (Certainty::May, None));
    contains(node.window, 39.6, 55.0);
    contains(node.window, 12.0 + 50.0, 29.8 + 65.0);
    assert!(forecast.assumptions.iter().any(|a| a.contains("may be on either side")), "{:?}", forecast.assumptions);
    // Without any such Lease there is nothing to go by.
    snapshot.leases.retain(|l| l.subject() != CONTROLLER_MANAGER);
    let forecast = isolate(&snapshot, &["r1"], 900);
    assert!(forecast.assumptions.iter().any(|a| a.ends_with("is on the side that can write")));
    close(forecast.nodes[0].window, 39.6, 55.0);
}

#[test]
fn a_node_stays_ready_for_sure_where_any_api_server_hears_its_kubelet_in_time() {
    use Certainty::{May, Must, MustNot};
    let of = |snapshot: &Snapshot, seconds| {
        let forecast = isolate(snapshot, &["r1"], seconds);
        let w1 = forecast.nodes.iter().find(|n| n.node == "w1").unwrap();
        (w1.not_ready, w1.prediction())
    };
    let not_ready = |snapshot: &Snapshot, seconds| of(snapshot, seconds).0;
    // NotReady from 39.6 s on; timeout 10, back-off 7, renewal 10.
    let mut elsewhere = calm();
    elsewhere.api_servers.retain(|a| a.name != "cp1");
    assert_eq!([12, 13, 60].map(|seconds| not_ready(&elsewhere, seconds)), [MustNot, May, Must]);
    // The API server of r1 is back with etcd: 11.35 s after the heal of a cut of one second, 12.475 s after that of two.
    assert_eq!([1, 2, 12, 60].map(|seconds| not_ready(&calm(), seconds)), [MustNot, May, May, Must]);
    let (_, told) = of(&calm(), 12);
    assert_eq!(told.expected, "stays Ready or becomes NotReady within 39.6–55 s");
    let why = "after the heal a kubelet renews its Lease within 50.7 s: API servers that lost etcd 23.7 s (TCP_RTO_MAX, \
               kernel/time/timer.c, theory C22), then timeout 10 s";
    assert!(told.reason.contains(why), "{}", told.reason);
    assert!(!of(&calm(), 60).1.reason.contains("after the heal"), "it is NotReady before");
}

#[test]
fn taints_are_told_side_by_side() {
    let forecast = isolate(&calm(), &["r1"], 300);
    let told: Vec<_> = forecast.predictions.iter().filter(|p| p.check == Check::NodeTainted).collect();
    let [told] = told[..] else { panic!("{told:?}") };
    assert_eq!((told.subject.as_str(), told.expected.as_str()), ("isolated: 2 nodes", "tainted within 39.6–70 s"));
}
