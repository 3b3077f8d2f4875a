//! Tables from the theory.

mod api_servers;
mod budgets;
mod endpoints;
mod leases;
mod nodes;
mod parts;
mod quorum;
mod reasons;
mod windows;
mod workloads;
mod zones;

use super::*;
use crate::{
    api::{Bounds, Prospect, Window},
    fault,
    judge::tests::fixture::snapshot,
    topology::Timers,
};

fn isolate(snapshot: &Snapshot, racks: &[&str], seconds: u64) -> Forecast {
    let spec = serde_json::json!({"cut": {"isolate": {"racks": racks}}, "duration": "60s"});
    let fault = fault::expand(&serde_json::from_value(spec).unwrap(), snapshot).unwrap();
    predict(snapshot, &fault, &fault::sides(snapshot, &fault), Duration::from_secs(seconds))
}

/// The fixture's cluster with upstream's timers.
fn upstream() -> Snapshot {
    let mut snapshot = snapshot();
    for lease in &mut snapshot.leases {
        lease.lease_duration = 15.0;
        lease.renew_deadline = Timer::read(10.0, "--leader-elect-renew-deadline");
        lease.retry_period = Timer::read(2.0, "--leader-elect-retry-period");
    }
    snapshot.timers = Timers {
        node_monitor_grace: Timer::read(50.0, "--node-monitor-grace-period"),
        node_monitor_period: Timer::read(5.0, "--node-monitor-period"),
        node_lease_renew: Timer::read(10.0, "nodeLeaseDurationSeconds / 4"),
        ..snapshot.timers
    };
    snapshot
}

/// The same with both leaders on cp2, which r1's cut leaves alone.
fn leaders_elsewhere(mut snapshot: Snapshot) -> Snapshot {
    for lease in snapshot.leases.iter_mut().filter(|l| l.holder_node.as_deref() == Some("cp1")) {
        (lease.holder, lease.holder_node) = ("cp2_1".into(), Some("cp2".into()));
    }
    snapshot
}

/// The fixture's cluster with upstream's timers and both leaders out of r1.
fn calm() -> Snapshot {
    leaders_elsewhere(upstream())
}

#[track_caller]
fn close(window: Window, earliest: f64, latest: f64) {
    let Window { earliest_seconds: e, latest_seconds: l } = window;
    assert!((e - earliest).abs() < 0.01 && (l - latest).abs() < 0.01, "{e}–{l} is not {earliest}–{latest}");
}

#[test]
fn majorities_of_one_to_nine_voters() {
    let majorities: Vec<u32> = (1..=9).map(majority).collect();
    assert_eq!(majorities, [1, 2, 2, 3, 3, 4, 4, 5, 5]);
}

#[test]
fn the_rack_with_one_of_three_members_loses_its_quorum() {
    let forecast = isolate(&snapshot(), &["r1"], 75);
    let quorum: Vec<_> = forecast.etcd.iter().map(|e| (e.side.as_str(), e.leader, e.settled)).collect();
    assert_eq!(quorum, [("isolated", Prospect::No, 11.0), ("rest", Prospect::Yes, 5.0)]);
    let forecast = isolate(&snapshot(), &["r1", "r2"], 75);
    assert_eq!((forecast.etcd[0].leader, forecast.etcd[1].leader), (Prospect::Yes, Prospect::No));
}

#[test]
fn windows_of_a_takeover() {
    // (LeaseDuration, RenewDeadline, RetryPeriod), upstream's, and shorter ones; 6 s of slack for etcd and the API.
    let long = isolate(&upstream(), &["r1"], 120);
    let lease = &long.leases[0];
    close(lease.takeover, 12.0, 15.0 + 8.8 + 6.0);
    close(lease.stop, 9.0, 17.0);
    close(lease.gap, 0.0, 5.0 + 8.8 + 6.0);
    assert!((lease.overlap - 2.0).abs() < 1e-9, "{}", lease.overlap);
    let short = isolate(&snapshot(), &["r1"], 75);
    close(short.leases[0].takeover, 4.0, 6.0 + 4.4 + 6.0);
    close(short.leases[0].stop, 3.0, 7.0);
    assert!((short.leases[0].overlap - 1.0).abs() < 1e-9);
}

#[test]
fn whether_a_lease_moves_depends_on_the_cut() {
    let moves = |seconds| isolate(&upstream(), &["r1"], seconds).leases[0].moves;
    assert_eq!([3, 10, 20, 60].map(moves), [Certainty::MustNot, Certainty::May, Certainty::May, Certainty::Must]);
}

#[test]
fn a_lease_on_the_side_that_can_write_stays() {
    // The leaders' rack is isolated together with another one and so keeps the majority.
    let forecast = isolate(&snapshot(), &["r1", "r2"], 75);
    let lease = forecast.leases.iter().find(|l| l.lease.name == "kube-scheduler").unwrap();
    assert!(!lease.cut_off && lease.moves == Certainty::MustNot);
    // Then the rest is the side whose nodes nobody hears; those of the isolated one lost the way by the load balancer.
    let of = |certainty| {
        let nodes = forecast.nodes.iter().filter(move |n| n.not_ready == certainty);
        nodes.map(|n| n.node.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(of(Certainty::Must), ["cp3", "w3"]);
    assert_eq!(of(Certainty::May), ["cp1", "cp2", "w1", "w2"]);
}

#[test]
fn without_another_candidate_nobody_must_take_it() {
    let mut snapshot = snapshot();
    snapshot.leases[0].candidate_nodes.clear();
    assert_eq!(isolate(&snapshot, &["r1"], 75).leases[0].moves, Certainty::May);
}

#[test]
fn windows_of_not_ready() {
    // The controller manager leads elsewhere: counted from the last renewal.
    let kept = isolate(&leaders_elsewhere(upstream()), &["r1"], 120);
    close(kept.nodes[0].window, 50.0 - 10.4, 55.0);
    assert!(kept.nodes[0].after_takeover.is_none() && kept.nodes[0].not_ready == Certainty::Must);
    // It was cut off: counted from the new one's start (observed on the lab: start + 51 s).
    let lost = isolate(&upstream(), &["r1"], 120);
    close(lost.nodes[0].after_takeover.unwrap(), 50.0, 65.0);
    close(lost.nodes[0].window, 12.0 + 50.0, 29.8 + 65.0);
    let not_ready = |seconds| isolate(&upstream(), &["r1"], seconds).nodes[0].not_ready;
    // After 30 s the API server that its kubelet asks need not be back before 62 s, when it may be NotReady.
    use Certainty::*;
    assert_eq!([1, 30, 60, 120].map(not_ready), [MustNot, May, May, Must]);
}

#[test]
fn eviction_against_the_heal() {
    let web = |snapshot: &Snapshot, seconds| {
        let forecast = isolate(snapshot, &["r1"], seconds);
        let web = forecast.workloads.into_iter().find(|w| w.owner.starts_with("web")).unwrap();
        (web.evicted, web.doubled)
    };
    use Certainty::*;
    // Short timers, a toleration of 5 s: NotReady by 37.4 s, tainted by 49.4 s, deleted by 54.4 s, copied by 69.4 s.
    assert_eq!(web(&snapshot(), 75), (Must, Must));
    assert_eq!(web(&snapshot(), 60), (Must, May));
    // A node may be tainted 39.6 s after a cut of 10 s: its kubelet is heard 21.5 s later where its API server lost etcd.
    assert_eq!(web(&upstream(), 10), (May, May));
    // The heal ends the taint before the toleration of 300 s is over.
    let mut patient = upstream();
    patient.pods.iter_mut().for_each(|p| p.tolerates_unreachable = Some(300.0));
    assert_eq!([10, 120].map(|seconds| web(&patient, seconds)), [(MustNot, MustNot); 2]);
    assert_eq!(web(&patient, 600), (Must, Must));
    patient.pods.iter_mut().for_each(|p| p.tolerates_unreachable = None);
    assert_eq!(web(&patient, 3600), (MustNot, MustNot));
}

#[test]
fn a_statefulset_is_never_doubled_and_waits() {
    let forecast = isolate(&snapshot(), &["r1"], 75);
    let db = forecast.workloads.iter().find(|w| w.owner == "db").unwrap();
    assert_eq!((db.replacement, db.evicted, db.doubled), (Replacement::Waits, Certainty::Must, Certainty::MustNot));
    assert_eq!(db.subject(), "default/db (StatefulSet)");
}

#[test]
fn a_long_cut_leaves_a_back_off_behind() {
    assert_eq!(recovery::back_off_left(75.0, 60.0), 0.0);
    assert_eq!(recovery::back_off_left(75.0, 80.0), 15.0);
    assert_eq!(recovery::back_off_left(75.0, 420.0), 300.0);
}

#[test]
fn without_a_majority_anywhere_nothing_is_predicted_of_nodes() {
    let mut snapshot = snapshot();
    snapshot.etcd.retain(|m| m.node != "cp3");
    let forecast = isolate(&snapshot, &["r1"], 75);
    assert!(forecast.nodes.is_empty() && forecast.etcd.iter().all(|e| e.leader == Prospect::No));
    assert!(forecast.leases.iter().all(|l| l.moves != Certainty::Must));
    assert!(forecast.assumptions.iter().any(|a| a.starts_with("no side can write")), "{:?}", forecast.assumptions);
}

#[test]
fn what_could_not_be_read_is_told() {
    let mut snapshot = snapshot();
    snapshot.timers.etcd_election = Timer::assumed(1.0, "etcd's default");
    snapshot.leases[2].holder_node = None;
    let forecast = isolate(&snapshot, &["r1"], 75);
    let assumed: Vec<&String> = forecast.assumptions.iter().filter(|a| !a.starts_with("not judged: ")).collect();
    assert_eq!(
        assumed,
        [
            "etcd election timeout: 1 (etcd's default)",
            "kubelets' node status period: 10 (nodeStatusUpdateFrequency can't be read; upstream's default, \
             pkg/kubelet/apis/config/v1beta1/defaults.go)",
            "API servers' wait for etcd in a health check: 2 (upstream's default, apiserver server/options/etcd.go)",
            "period of API servers' liveness probe: 10 (upstream's default, cmd/kubeadm/app/util/staticpod/utils.go)",
            "failures of API servers' liveness probe: 8 (upstream's default, cmd/kubeadm/app/util/staticpod/utils.go)",
            "grace period of API servers: 30 (upstream's default, pkg/apis/core/types.go)",
            "every member of etcd has a vote: a learner, which has none, is not told apart",
            "kube-system/snapshot-controller: where its holder cp2_1 runs is not known; nothing is predicted",
            "endpoint reconciler of API servers: lease (--endpoint-reconciler-type not read; upstream's default)"
        ]
    );
}

#[test]
fn with_etcd_outside_an_api_server_may_stall_and_its_neighbours_lease_may_move() {
    // The members are endpoints, one in each rack; no node has one.
    let mut external = snapshot();
    for (i, member) in external.etcd.iter_mut().enumerate() {
        member.node = format!("etcd{}", i + 1);
        external.endpoints.push(crate::topology::Endpoint {
            name: member.node.clone(),
            rack: Some(format!("r{}", i + 1)),
            cidrs: vec![format!("198.18.1.{i}/32").parse().unwrap()],
            ports: vec![2379, 2380],
            egress: false,
        });
    }
    let forecast = isolate(&external, &["r1"], 75);
    let untold = |forecast: &Forecast| !forecast.assumptions.iter().any(|a| a.contains("no agent is beside"));
    let told = "etcd on etcd1, etcd2, etcd3 is well before the cut: ";
    assert!(forecast.assumptions.iter().any(|a| a.starts_with(told)), "{:?}", forecast.assumptions);
    assert!(untold(&isolate(&snapshot(), &["r1"], 75)));
    let kcm = forecast.leases.iter().find(|l| l.lease.name == "kube-controller-manager").unwrap();
    assert_eq!(kcm.moves, Certainty::May);
    let slow: Vec<_> = forecast.api.iter().map(|a| (a.side.as_str(), a.seconds)).collect();
    assert_eq!(slow, [("isolated", 45.0), ("rest", 45.0)], "5 s for an election and 40 s to dial another");
    assert!(!isolate(&snapshot(), &["r1"], 75).api.iter().any(|a| a.seconds > 5.0), "stacked ones dial their own");
    // If the Lease stays, so does who counts: nodes may be NotReady before any takeover, and as late as after one.
    let external = Snapshot { timers: upstream().timers, ..leaders_elsewhere(external) };
    let forecast = isolate(&external, &["r1"], 120);
    let (w1, kept) = (&forecast.nodes[1], &isolate(&leaders_elsewhere(upstream()), &["r1"], 120).nodes[1]);
    assert_eq!((w1.node.as_str(), kept.node.as_str(), w1.after_takeover), ("w1", "w1", None));
    assert_eq!(w1.window.earliest_seconds, kept.window.earliest_seconds);
    assert!(w1.window.latest_seconds > kept.window.latest_seconds, "{:?} {:?}", w1.window, kept.window);
}

/// Whether all of this interval, seconds, is in the window.
#[track_caller]
fn contains(window: Window, earliest: f64, latest: f64) {
    let Window { earliest_seconds: e, latest_seconds: l } = window;
    // Sums of tenths are not exact.
    assert!(e <= earliest + 1e-6 && latest <= l + 1e-6, "{e}–{l} does not contain {earliest}–{latest}");
}
