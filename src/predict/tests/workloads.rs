//! Pods for which nobody stands in.

use super::*;

/// The fixture's cluster, in which nobody has made db's pod.
fn with_a_bare_pod() -> Snapshot {
    let mut snapshot = snapshot();
    let pod = snapshot.pods.iter_mut().find(|p| p.name == "db-0").unwrap();
    (pod.owner_kind, pod.owner_name) = (None, None);
    snapshot
}

#[test]
fn a_bare_pod_is_gone_for_good() {
    let forecast = isolate(&with_a_bare_pod(), &["r1"], 75);
    let bare = forecast.workloads.iter().find(|w| w.kind == "Pod").unwrap();
    assert_eq!(bare.subject(), "default/db-0 (Pod)");
    let fate = (bare.replacement, bare.evicted, bare.doubled);
    assert_eq!(fate, (Replacement::Nobody, Certainty::Must, Certainty::MustNot));
    let lines: Vec<_> = bare.predictions().into_iter().map(|p| (p.check, p.expected)).collect();
    let told = "Terminating from 21–54.4 s until after the heal, gone within 294.2 s of it and for good: nobody makes \
                another one";
    assert_eq!(
        lines,
        [
            (Check::WorkloadKept, "keeps running on the cut side (1 pod)".to_owned()),
            (Check::WorkloadEvicted, "1 pod deleted within 21–54.4 s".to_owned()),
            (Check::WorkloadStuck, told.to_owned()),
        ]
    );
    // Of a pod of a StatefulSet another one is made.
    let db = isolate(&snapshot(), &["r1"], 75).workloads.into_iter().find(|w| w.owner == "db").unwrap();
    let stuck = db.predictions().into_iter().find(|p| p.check == Check::WorkloadStuck).unwrap();
    assert!(stuck.expected.ends_with("gone within 294.2 s of it"), "{}", stuck.expected);
}

#[test]
fn a_bare_pod_that_tolerates_the_taint_stays() {
    let mut snapshot = with_a_bare_pod();
    snapshot.pods.iter_mut().for_each(|p| p.tolerates_unreachable = None);
    let forecast = isolate(&snapshot, &["r1"], 3600);
    let bare = forecast.workloads.iter().find(|w| w.kind == "Pod").unwrap();
    let stuck = bare.predictions().into_iter().find(|p| p.check == Check::WorkloadStuck).unwrap();
    assert_eq!((bare.evicted, stuck.expected.as_str()), (Certainty::MustNot, "not deleted"));
}
