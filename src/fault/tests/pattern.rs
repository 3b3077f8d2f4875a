//! Effects, flapping and a staggered heal, as windows and expected losses.

use super::*;
use crate::fault::{Effect, Pattern};
use std::collections::BTreeMap;

fn planned(other: Value) -> (Snapshot, RunPlan) {
    let snapshot = cluster(&[1, 2, 3], 3);
    let fault = expand(&with(json!({"isolate": {"racks": ["r1"]}}), other), &snapshot).unwrap();
    let plan = plan(&snapshot, &fault);
    (snapshot, plan)
}

#[test]
fn a_steady_cut_is_one_window() {
    let (_, plan) = planned(json!({}));
    assert_eq!(plan.windows_at("n0", 60.0), [(0.0, 60.0)]);
    assert!(plan.pattern.is_steady());
}

proptest! {
    #[test]
    fn flapping_windows_are_in_order_and_end_with_the_cut(down in 1u32..20, up in 1u32..20, length in 10u32..120) {
        let pattern = Pattern { flap: Some((down.into(), up.into())), ..Default::default() };
        let windows = pattern.windows(None, length.into());
        prop_assert_eq!(windows[0].0, 0.0);
        for (from, to) in &windows {
            prop_assert!(from < to && to - from <= f64::from(down) && *to <= f64::from(length));
        }
        for pair in windows.windows(2) {
            prop_assert_eq!(pair[1].0 - pair[0].1, f64::from(up));
        }
        let last = windows.last().unwrap().1;
        prop_assert!(f64::from(length) - last <= f64::from(up), "it would have come again");
    }
}

/// No spec gives such plans. One that somebody else wrote neither keeps an agent counting for ever nor cuts for longer.
#[test]
fn windows_of_a_senseless_plan_are_few_and_end_with_the_cut() {
    let early = |seconds: f64| BTreeMap::from([("r1".to_owned(), seconds)]);
    for (flap, early_seconds) in [
        (Some((0.0, 0.0)), BTreeMap::new()),
        (Some((1e-9, 1e-9)), BTreeMap::new()),
        (Some((-5.0, 1.0)), BTreeMap::new()),
        (Some((5.0, -5.0)), BTreeMap::new()),
        (Some((1e308, 1e308)), BTreeMap::new()),
        (None, early(-3600.0)),
        (None, early(3600.0)),
        (Some((10.0, 10.0)), early(-3600.0)),
    ] {
        let windows = Pattern { flap, early_seconds, ..Default::default() }.windows(Some("r1"), 60.0);
        assert!(windows.len() <= 1800, "{} windows of {flap:?}", windows.len());
        assert!(windows.iter().all(|(from, to)| 0.0 <= *from && from <= to && *to <= 60.0), "{flap:?}: {windows:?}");
    }
    let most = Pattern { flap: Some((1.0, 1.0)), ..Default::default() }.windows(None, 3600.0);
    assert_eq!((most.len(), most.last()), (1800, Some(&(3598.0, 3599.0))), "the most that a spec can ask for");
}

#[test]
fn racks_heal_one_after_another_and_the_last_at_the_end() {
    let (_, plan) = planned(json!({"stagger": "10s"}));
    let ends: Vec<f64> = ["n0", "n1", "n2"].iter().map(|n| plan.windows_at(n, 60.0)[0].1).collect();
    assert_eq!(ends, [40.0, 50.0, 60.0]);
    // Both ends of a link drop: it is open when the later one is.
    assert_eq!(plan.windows_between("n0", "n2", 60.0), [(0.0, 60.0)]);
    assert_eq!(plan.windows_between("n0", "n1", 60.0), [(0.0, 50.0)]);
    let too_long = with(json!({"isolate": {"racks": ["r1"]}}), json!({"stagger": "30s"}));
    assert!(matches!(expand(&too_long, &cluster(&[1, 2, 3], 3)), Err(Refusal::StaggerTooLong { .. })));
}

#[test]
fn both_directions_take_their_part_of_a_loss() {
    let (_, plan) = planned(json!({"effect": {"loss": {"percent": 30, "per": "Flow"}}}));
    assert_eq!(plan.pattern.effect, Effect::LossPerFlow { percent: 30 });
    assert!((plan.expected_loss("n0", "n1") - 0.51).abs() < 1e-9);
    assert!((plan.expected_loss("n0", "lb") - 0.30).abs() < 1e-9, "nobody drops at the load balancer");
    assert_eq!(plan.expected_loss("n1", "n2"), 0.0);
}

#[test]
fn classes_are_the_ports_of_this_cluster() {
    let (_, plan) = planned(json!({"traffic": [{"class": "EtcdPeer"}, {"protocol": "UDP", "port": 53}]}));
    let target = |class: &str| plan.probes.iter().find(|p| p.subject() == format!("n0/{class}")).unwrap();
    assert!(plan.breaks_tcp("n1", target("EtcdPeer")));
    assert!(!plan.breaks_tcp("n1", target("EtcdClient")) && !plan.breaks_tcp("n1", target("Kubelet")));
    let (_, plan) = planned(json!({"traffic": [{"class": "Pods"}]}));
    assert!(plan.ports.pods && plan.probes.iter().all(|t| !plan.breaks_tcp("n1", t)));
    let (_, plan) = planned(json!({"traffic": [{"class": "ApiServer"}]}));
    let lb = plan.probes.iter().find(|p| p.member == "lb").unwrap();
    assert!(plan.breaks_tcp("n0", lb), "the control-plane endpoint serves the API's port");
}

#[test]
fn no_window_is_shorter_than_what_sums_of_fractions_leave() {
    let pattern = Pattern { flap: Some((1.0, 1.3)), ..Default::default() };
    let windows = pattern.windows(None, 115.0);
    assert!(windows.iter().all(|(from, to)| to - from > 0.5), "{:?}", windows.last());
}

#[test]
fn an_endpoint_without_an_agent_decides_nothing() {
    let (_, plan) = planned(json!({"stagger": "10s"}));
    assert_eq!(plan.windows_between("n0", "lb", 60.0), [(0.0, 40.0)], "n0 drops, and heals early");
}

#[test]
fn traffic_that_stands_for_nothing_is_refused_and_never_everything() {
    let mut snapshot = cluster(&[1, 2, 3], 3);
    snapshot.etcd.clear();
    let spec = with(json!({"isolate": {"racks": ["r1"]}}), json!({"traffic": [{"class": "EtcdPeer"}]}));
    assert_eq!(expand(&spec, &snapshot), Err(Refusal::NoSuchTraffic));
}
