//! Endpoints (theory C11).

use super::*;

#[test]
fn pods_leave_their_services_when_their_node_is_not_ready() {
    let forecast = isolate(&calm(), &["r1"], 120);
    let [w1] = &forecast.endpoints[..] else { panic!("{:?}", forecast.endpoints) };
    assert_eq!((w1.node.as_str(), w1.pods.len(), w1.leave), ("w1", 3, Certainty::Must));
    // Up to 5 s after NotReady.
    close(w1.window, 39.6, 60.0);
    // 10 s of timeout, 7 s of back-off, 10 s to the next renewal; 10 s for the pods, 5 s for the EndpointSlices.
    close(w1.back, 0.0, 42.0);
    let leave = |seconds| isolate(&calm(), &["r1"], seconds).endpoints[0].leave;
    assert_eq!([5, 50, 120].map(leave), [Certainty::MustNot, Certainty::May, Certainty::Must]);
}

#[test]
fn the_service_kubernetes_drops_a_cut_api_server_and_has_it_back() {
    let forecast = isolate(&calm(), &["r1"], 120);
    let [cp1] = &forecast.service[..] else { panic!("{:?}", forecast.service) };
    assert_eq!((cp1.server.as_str(), cp1.dropped), ("cp1", Certainty::Must));
    // Theory: [5, 27] s; a new leader of etcd, within 3 s, gives each key its 15 s again and one election timeout.
    close(cp1.window, 5.0, 31.0);
    contains(cp1.window, 5.0, 27.0);
    // etcd is back within 10 s, and the server 15 s after its first write.
    close(cp1.back, 0.0, 25.0);
    assert_eq!(isolate(&calm(), &["r1"], 20).service[0].dropped, Certainty::May);
}

#[test]
fn what_nobody_looks_at_is_told_as_not_judged() {
    let told = isolate(&calm(), &["r1"], 120).assumptions;
    for words in [
        "not judged: isolated: 3 ready pods of 1 node leave the EndpointSlices of their Services within 39.6–60 s",
        "not judged: isolated: the Service kubernetes drops cp1 within 5–31 s of the cut and has it back within 25 s",
    ] {
        assert!(told.iter().any(|a| a.starts_with(words)), "{words}: {told:#?}");
    }
    let short = isolate(&calm(), &["r1"], 5).assumptions;
    assert!(!short.iter().any(|a| a.contains("EndpointSlices")), "{short:#?}");
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
