//! Endpoints (theory C11).

use super::*;
use crate::topology::EndpointReconciler;

#[test]
fn pods_leave_their_services_when_their_node_is_not_ready() {
    let forecast = isolate(&calm(), &["r1"], 120);
    let [w1] = &forecast.endpoints[..] else { panic!("{:?}", forecast.endpoints) };
    assert_eq!((w1.node.as_str(), w1.pods.len(), w1.leave), ("w1", 3, Certainty::Must));
    // Up to 5 s after NotReady.
    close(w1.window, 39.6, 60.0);
    // Etcd 145 s and the API server 235 s; 10 s of timeout, 7 s of back-off, 10 s to the next renewal; 10 s for the pods, 5 s for the
    // EndpointSlices.
    close(w1.back, 0.0, 145.0 + 235.0 + 42.0);
    let leave = |seconds| isolate(&calm(), &["r1"], seconds).endpoints[0].leave;
    // After 5 s the API server that their kubelet asks is back within 15.85 s, and it is heard 27 s later.
    use Certainty::*;
    assert_eq!([1, 5, 50, 120].map(leave), [MustNot, May, May, Must]);
}

#[test]
fn the_service_kubernetes_drops_a_cut_api_server_and_has_it_back() {
    let forecast = isolate(&calm(), &["r1"], 120);
    let [cp1] = &forecast.service[..] else { panic!("{:?}", forecast.service) };
    assert_eq!((cp1.server.as_str(), cp1.dropped), ("cp1", Certainty::Must));
    // Theory: [5, 27] s; a new leader of etcd, within 3 s, gives each key its 15 s again and one election timeout.
    close(cp1.window, 5.0, 31.0);
    contains(cp1.window, 5.0, 27.0);
    // etcd is back within 10 s where its streams carry something at once, and the server 15 s after its first write.
    close(cp1.back, 0.0, 25.0);
    // Until then that write may wait: 120 s and an eighth for TCP, and those 10 s, as `Recovery` has it.
    let reason = cp1.prediction().reason;
    assert!(forecast.recovery.etcd == 145.0 && reason.contains("waits for etcd, up to 145 s: "), "{reason}");
    assert_eq!(isolate(&calm(), &["r1"], 20).service[0].dropped, Certainty::May);
}

#[test]
fn api_servers_that_keep_their_service_otherwise_are_dropped_by_no_rule_of_ours() {
    let told = |reconciler: Option<EndpointReconciler>| {
        let forecast = isolate(&Snapshot { endpoint_reconciler: reconciler, ..calm() }, &["r1"], 120);
        let told: Vec<_> = forecast.assumptions.iter().filter(|a| a.contains("--endpoint-reconciler-type")).collect();
        (forecast.service.len(), told.len(), told.iter().any(|a| a.contains("nothing is predicted")))
    };
    assert_eq!(told(Some(EndpointReconciler::Lease)), (1, 0, false));
    assert_eq!(told(None), (1, 1, false), "assumed");
    for other in [EndpointReconciler::MasterCount, EndpointReconciler::None] {
        assert_eq!(told(Some(other)), (0, 1, true), "{other:?}");
    }
}

#[test]
fn both_are_told_with_their_intervals() {
    let told = |seconds| {
        let forecast = isolate(&calm(), &["r1"], seconds);
        let of_check = forecast.predictions.into_iter().filter(|p| p.check == Check::EndpointsRemoved);
        of_check.map(|p| (p.subject, p.expected, p.bounds)).collect::<Vec<_>>()
    };
    let (pods, server) = ("isolated: 3 ready pods".to_owned(), "default/kubernetes/cp1".to_owned());
    let out = "out of the EndpointSlices of their Services within 39.6–60 s of the cut, back within 422 s of the heal unless evicted";
    let dropped = "dropped within 5–31 s of the cut, back within 25 s of the heal or 15 s of its first write after it";
    let when = Some(Bounds::AfterCut);
    assert_eq!(told(120), [(pods.clone(), out.to_owned(), when), (server.clone(), dropped.to_owned(), when)]);
    let stay = "stay in the EndpointSlices of their Services: the cut heals before";
    let all_through = Some(Bounds::Throughout);
    assert_eq!(told(1), [(pods, stay.to_owned(), all_through), (server, format!("perhaps {dropped}"), when)]);
    let (_, may, bounds) = told(5).swap_remove(0);
    let out = "perhaps out of the EndpointSlices of their Services within 39.6–60 s of the cut";
    assert!(may.starts_with(out) && bounds == when, "{may}");
}

#[test]
fn daemon_sets_and_static_pods_go_on() {
    let mut snapshot = calm();
    for kind in ["DaemonSet", "Node"] {
        let pod = crate::topology::Pod { owner_kind: Some(kind.into()), ..snapshot.pods[0].clone() };
        snapshot.pods.push(pod);
    }
    let forecast = isolate(&snapshot, &["r1"], 600);
    assert!(forecast.workloads.iter().all(|w| w.kind != "DaemonSet" && w.kind != "Node"));
    let told = |words: &str| forecast.assumptions.iter().any(|a| a.starts_with(words));
    assert!(told("not judged: 2 observed pods of DaemonSets and static pods on the losing side go on"));
}
