//! What the window of each line of the plan is: a moment, all the time between two of them, or a length.

use super::*;
use crate::topology::Budget;

type Line = (Check, &'static str, Bounds, f64, f64);

#[track_caller]
fn are(forecast: &Forecast, expected: &[Line]) {
    for (check, subject, bounds, earliest, latest) in expected {
        let is_it = |p: &&Prediction| p.check == *check && p.subject == *subject;
        let line = forecast.predictions.iter().find(is_it).unwrap_or_else(|| panic!("no {check:?} of {subject}"));
        assert_eq!(line.bounds, Some(*bounds), "{line:?}");
        close(line.window.unwrap_or_else(|| panic!("{line:?}")), *earliest, *latest);
    }
}

fn with_budgets() -> Snapshot {
    let of = |name: &str, desired: u32, healthy: &[&str]| Budget {
        namespace: "default".into(),
        name: name.into(),
        desired_healthy: Some(desired),
        healthy: healthy.iter().map(|p| (*p).to_owned()).collect(),
    };
    let web = ["web-7d4b9c6f58-aaaaa", "web-7d4b9c6f58-bbbbb"];
    Snapshot { budgets: vec![of("db", 1, &["db-0"]), of("web", 2, &web)], ..snapshot() }
}

#[test]
fn of_a_cut_that_is_long_enough_for_everything() {
    use Bounds::{AfterCut, AfterHeal, Length, Throughout};
    let forecast = isolate(&with_budgets(), &["r1"], 75);
    // Every line has both, and neither alone.
    let told: Vec<_> = forecast.predictions.iter().filter(|p| p.window.is_none() || p.bounds.is_none()).collect();
    assert!(told.is_empty(), "{told:#?}");
    let kcm = CONTROLLER_MANAGER;
    #[rustfmt::skip]
    let expected = [
        (Check::FaultProven, "network", Throughout, 0.0, 75.0),
        // Without a leader from 11 s on; with one again from 5 s on.
        (Check::EtcdQuorum, "isolated", Throughout, 11.0, 75.0),
        (Check::EtcdQuorum, "rest", Throughout, 5.0, 75.0),
        (Check::ApiWritable, "isolated", Throughout, 3.0, 75.0),
        (Check::ApiWritable, "rest", Length, 0.0, 5.0),
        (Check::ApiServerReady, "cp1", AfterCut, 0.0, 6.0),
        (Check::ApiServerReady, "cp1: container", AfterCut, 70.0, 114.0),
        (Check::StaleRead, "isolated", Length, 0.0, 36.0),
        (Check::LeaseTakeover, kcm, AfterCut, 4.0, 16.4),
        (Check::LeaderGap, kcm, Length, 0.0, 12.4),
        (Check::LeaderOverlap, kcm, Length, 0.0, 1.0),
        (Check::LeaseStable, "kube-system/snapshot-controller", Throughout, 0.0, 75.0),
        (Check::WorkloadKept, "default/db (StatefulSet)", Throughout, 0.0, 75.0),
        (Check::WorkloadDoubled, "default/db (StatefulSet)", Throughout, 0.0, 75.0),
        (Check::WorkloadEvicted, "default/db (StatefulSet)", AfterCut, 21.0, 54.4),
        // Etcd is back within 94.6 s and the API server 139.6 s later; then its kubelet is told within 45 s, and it has 5 s of grace and
        // 10 s to be gone.
        (Check::WorkloadStuck, "default/db (StatefulSet)", AfterHeal, 0.0, 294.2),
        (Check::HealDamage, "disruption budget default/db", AfterHeal, 0.0, 294.2),
        // Not crossed, as long as kubelets may still end pods.
        (Check::HealDamage, "disruption budget default/web", Throughout, 75.0, 369.2),
        (Check::Recovery, "Leases", AfterHeal, 0.0, 11.4),
    ];
    are(&forecast, &expected);
}

#[test]
fn of_a_cut_that_is_over_before_anything_comes_of_it() {
    use Bounds::{AfterCut, Throughout};
    // After 2 s a kubelet whose API server lost etcd may be heard 41.5 s after the cut, and its node be NotReady from 39.6 s on.
    let forecast = isolate(&upstream(), &["r1"], 1);
    #[rustfmt::skip]
    let expected = [
        (Check::LeaseTakeover, CONTROLLER_MANAGER, Throughout, 0.0, 1.0),
        (Check::NodeNotReady, "w1", Throughout, 0.0, 1.0),
        (Check::NodeTainted, "isolated: 2 nodes", Throughout, 0.0, 1.0),
        (Check::EndpointsRemoved, "isolated: 3 ready pods", Throughout, 0.0, 1.0),
        (Check::WorkloadDoubled, "default/web (Deployment)", Throughout, 0.0, 1.0),
        // It need not be noticed.
        (Check::ApiServerReady, "cp1", AfterCut, 0.0, 6.0),
        // Its liveness probe fails for 70 s before it does anything.
        (Check::ApiServerReady, "cp1: container", Throughout, 0.0, 1.0),
    ];
    are(&forecast, &expected);
    // That nobody leads would begin when the cut is over.
    let quorum = forecast.predictions.iter().find(|p| p.check == Check::EtcdQuorum && p.subject == "isolated").unwrap();
    assert_eq!((quorum.window, quorum.bounds), (None, None));
}

/// Of a cut that is told as a spec tells it, for a minute.
fn of(cut: serde_json::Value) -> Forecast {
    let snapshot = snapshot();
    let fault = fault::expand(&serde_json::from_value(cut).unwrap(), &snapshot).unwrap();
    predict(&snapshot, &fault, &fault::sides(&snapshot, &fault), Duration::from_secs(60))
}

#[test]
fn what_depends_on_who_leads_is_open_all_the_time() {
    let groups = serde_json::json!([{"racks": ["r1"]}, {"racks": ["r3"]}]);
    let forecast = of(serde_json::json!({"cut": {"bridge": {"groups": groups}}, "duration": "60s"}));
    let open: Vec<_> = forecast.predictions.iter().filter(|p| p.expected.contains("not predicted")).collect();
    assert!(!open.is_empty() && open.iter().all(|p| p.bounds == Some(Bounds::Throughout)), "{open:#?}");
    open.iter().for_each(|p| close(p.window.unwrap(), 0.0, 60.0));
}

#[test]
fn pairs_of_a_cut_that_comes_and_goes_are_not_silent_all_the_time() {
    let flap = serde_json::json!({"down": "5s", "up": "5s"});
    let forecast = of(serde_json::json!({"cut": {"isolate": {"racks": ["r1"]}}, "duration": "60s", "flap": flap}));
    let proof = forecast.predictions.iter().find(|p| p.check == Check::FaultProven).unwrap();
    assert_eq!((proof.window, proof.bounds), (None, None));
}
