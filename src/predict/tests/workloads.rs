//! Pods for which nobody stands in.

use super::*;
use crate::topology::Pod;

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
fn what_becomes_of_a_pod_by_its_owner_and_its_toleration() {
    use Certainty::{May, Must, MustNot};
    use Replacement::{AtOnce, Nobody, Waits};
    // Tainted from 16 s to 49.4 s, in a cut of 75 s; another one starts within 15 s.
    #[rustfmt::skip]
    let table = [
        (Some("ReplicaSet"),            Some(5.0),   AtOnce, Must,    Must),
        (Some("Job"),                   Some(5.0),   AtOnce, Must,    Must),
        (Some("ReplicationController"), Some(5.0),   AtOnce, Must,    Must),
        (Some("Rollout"),               Some(0.0),   AtOnce, Must,    Must),
        (Some("StatefulSet"),           Some(0.0),   Waits,  Must,    MustNot),
        (None,                          Some(0.0),   Nobody, Must,    MustNot),
        // The copy may come too late; the deletion too; neither in time; never.
        (Some("Job"),                   Some(20.0),  AtOnce, Must,    May),
        (Some("Job"),                   Some(60.0),  AtOnce, May,     May),
        (Some("StatefulSet"),           Some(60.0),  Waits,  May,     MustNot),
        (Some("Job"),                   Some(300.0), AtOnce, MustNot, MustNot),
        (Some("StatefulSet"),           Some(300.0), Waits,  MustNot, MustNot),
        (Some("Job"),                   None,        AtOnce, MustNot, MustNot),
        (None,                          None,        Nobody, MustNot, MustNot),
    ];
    for (kind, tolerated, replacement, evicted, doubled) in table {
        let mut snapshot = snapshot();
        let pod = snapshot.pods.iter_mut().find(|p| p.name == "db-0").unwrap();
        (pod.owner_kind, pod.tolerates_unreachable) = (kind.map(str::to_owned), tolerated);
        pod.owner_name = kind.map(|_| "it".to_owned());
        let forecast = isolate(&snapshot, &["r1"], 75);
        let found = forecast.workloads.iter().find(|w| w.pods[0].name == "db-0").unwrap();
        let fate = (found.replacement, found.evicted, found.doubled);
        assert_eq!(fate, (replacement, evicted, doubled), "{kind:?} {tolerated:?}");
        assert_eq!(found.may_finish(), kind == Some("Job"), "{kind:?}");
    }
    // Neither is evicted, so nothing is predicted of them but that they go on.
    for kind in ["DaemonSet", "Node"] {
        let mut snapshot = snapshot();
        let pod = snapshot.pods.iter_mut().find(|p| p.name == "db-0").unwrap();
        pod.owner_kind = Some(kind.into());
        assert!(isolate(&snapshot, &["r1"], 75).workloads.iter().all(|w| w.pods[0].name != "db-0"), "{kind}");
    }
}

#[test]
fn pods_of_one_owner_may_have_several_tolerations() {
    let mut snapshot = snapshot();
    let web = snapshot.pods.iter().find(|p| p.name.starts_with("web") && p.node == "w1").unwrap().clone();
    let name = "web-7d4b9c6f58-zzzzz".to_owned();
    snapshot.pods.push(Pod { name, uid: "web-9".into(), tolerates_unreachable: Some(30.0), ..web });
    let forecast = isolate(&snapshot, &["r1"], 300);
    let web = forecast.workloads.iter().find(|w| w.owner.starts_with("web")).unwrap();
    // From the one's earliest to the other's latest.
    close(web.eviction.unwrap(), 16.0 + 5.0, 49.4 + 30.0);
    close(web.copy.unwrap(), 16.0 + 5.0, 49.4 + 30.0 + 15.0);
    let told = web.predictions().into_iter().find(|p| p.check == Check::WorkloadEvicted).unwrap();
    assert!(told.reason.contains("then 5 s of toleration"), "{told:?}");
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
