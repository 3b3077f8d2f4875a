//! How fast nodes are tainted, by zone (theory §3.2).

use super::*;
use crate::{predict::zone::Zones, topology::Node};
use std::collections::HashSet;

/// State and rate of a zone with so many nodes, the first of which are cut off, beside a healthy one.
fn zone(cut: usize, total: usize, change: impl Fn(&mut Snapshot)) -> (ZoneState, f64) {
    let node = |i: usize| Node { name: i.to_string(), zone: Some("z".into()), ready: true, ..Node::default() };
    let elsewhere = Node { name: "other".into(), zone: Some("y".into()), ready: true, ..Node::default() };
    let mut snapshot = Snapshot { nodes: (0..total).map(node).chain([elsewhere]).collect(), ..Snapshot::default() };
    snapshot.timers.node_eviction_rate = Timer::read(0.1, "--node-eviction-rate");
    change(&mut snapshot);
    let names: Vec<String> = (0..cut).map(|i| i.to_string()).collect();
    let cut: HashSet<&str> = names.iter().map(String::as_str).collect();
    let fault = Fault::default();
    let zone = Zones::new(&Scene::new(&snapshot, &fault, &[], 60.0), &cut, &cut).of(snapshot.node("0"));
    (zone.state, zone.rate)
}

#[test]
fn full_partial_and_healthy_zones() {
    let as_it_is = |_: &mut Snapshot| {};
    use ZoneState::{Full, Normal, Partial};
    // All of it. Two of three are too few. Three of five; three of nine. 28 of 50, and of one node more.
    #[rustfmt::skip]
    let table = [
        (3, 3, Full, 0.1), (2, 3, Normal, 0.1), (3, 5, Partial, 0.0), (3, 9, Normal, 0.1),
        (27, 50, Normal, 0.1), (28, 50, Partial, 0.0), (28, 51, Normal, 0.1), (29, 51, Partial, 0.01),
    ];
    for (cut, total, state, rate) in table {
        assert_eq!(zone(cut, total, as_it_is), (state, rate), "{cut} of {total}");
    }
}

#[test]
fn nodes_that_were_unready_before_count_as_well() {
    use ZoneState::{Full, Normal, Partial};
    // So many are cut off, of so many, beside so many others that were unready already.
    #[rustfmt::skip]
    let table = [
        (2, 5, 0, Normal, 0.1), (2, 5, 1, Partial, 0.0), (2, 3, 1, Full, 0.1), (1, 3, 1, Normal, 0.1), (27, 50, 1, Partial, 0.0),
        (28, 51, 1, Partial, 0.01),
    ];
    for (cut, total, unready, state, rate) in table {
        let change = |snapshot: &mut Snapshot| {
            snapshot.nodes[cut..cut + unready].iter_mut().for_each(|n| n.ready = false);
        };
        assert_eq!(zone(cut, total, change), (state, rate), "{cut} of {total} and {unready}");
    }
}

/// The fixture's cluster as one zone, with so many more workers in r1.
fn one_zone(more: usize) -> Snapshot {
    let mut snapshot = calm();
    let worker = snapshot.node("w1").unwrap().clone();
    let another = |i: usize| {
        let addresses = vec![format!("198.18.1.{i}").parse().unwrap()];
        Node { name: format!("more-{i}"), addresses, ..worker.clone() }
    };
    snapshot.nodes.extend((0..more).map(another));
    snapshot.nodes.iter_mut().for_each(|n| n.zone = None);
    snapshot
}

#[test]
fn in_a_large_zone_that_is_partly_disrupted_nodes_are_tainted_at_the_secondary_rate() {
    // 52 of 56 nodes: NotReady by 55 s, a pass of 5 s, and the others at one in a hundred seconds.
    let forecast = isolate(&one_zone(50), &["r1"], 900);
    let node = &forecast.nodes[0];
    assert_eq!((node.zone, node.rate, node.tainted, node.first), (ZoneState::Partial, 0.01, Certainty::May, None));
    close(node.taint, 39.6, 55.0 + 5.0 + 51.0 / 0.01);
    // Long enough for all of them.
    assert_eq!(isolate(&one_zone(50), &["r1"], 5200).nodes[0].tainted, Certainty::Must);
}

#[test]
fn in_a_small_one_the_first_few_are() {
    // 12 of 16 nodes. One may be NotReady 15.4 s before another: one at once, and two more.
    let forecast = isolate(&one_zone(10), &["r1"], 900);
    let of = |n: &NodeForecast| (n.zone, n.rate, n.tainted, n.first);
    let first_few = (ZoneState::Partial, 0.0, Certainty::May, Some(3));
    assert!(forecast.nodes.iter().all(|n| of(n) == first_few), "{forecast:#?}");
    let told = forecast.predictions.iter().find(|p| p.check == Check::NodeTainted).unwrap();
    assert_eq!(told.expected, "not tainted, or within 39.6–60 s, no more than 3 of a zone");
    // Too short to be sure that all of them are unready at a time.
    assert_eq!(isolate(&one_zone(10), &["r1"], 45).nodes[0].first, None);
}

#[test]
fn the_thresholds_are_those_of_the_cluster() {
    let other = |snapshot: &mut Snapshot| {
        let timers = &mut snapshot.timers;
        timers.unhealthy_zone_share = Some(Timer::read(0.3, "--unhealthy-zone-threshold"));
        timers.large_zone_nodes = Some(Timer::read(8.0, "--large-cluster-size-threshold"));
        timers.secondary_eviction_rate = Some(Timer::read(0.05, "--secondary-node-eviction-rate"));
    };
    assert_eq!(zone(3, 9, other), (ZoneState::Partial, 0.05));
    assert_eq!(zone(3, 8, other), (ZoneState::Partial, 0.0));
}

#[test]
fn a_rate_of_none_is_no_interval() {
    let never = |snapshot: &mut Snapshot| snapshot.timers.node_eviction_rate = Timer::read(0.0, "--node-eviction-rate");
    assert_eq!(zone(3, 3, never), (ZoneState::Full, 0.0));
    let told = ZoneState::Full.told(0.0);
    assert!(told.ends_with("at a rate of 0 nodes per second one node may be tainted at once, and no other"), "{told}");
    let mut snapshot = calm();
    never(&mut snapshot);
    let forecast = isolate(&snapshot, &["r1"], 900);
    assert!(forecast.nodes.iter().all(|n| n.tainted == Certainty::May && n.taint.latest_seconds.is_finite()));
    // Two are cut off for sure and a third one perhaps, and only with that evictions stop: until then one follows the other.
    let node = |i: usize| Node { name: i.to_string(), zone: Some("z".into()), ready: true, ..Node::default() };
    let elsewhere = Node { name: "other".into(), zone: Some("y".into()), ready: true, ..Node::default() };
    let mut snapshot = Snapshot { nodes: (0..5).map(node).chain([elsewhere]).collect(), ..Snapshot::default() };
    snapshot.timers.node_eviction_rate = Timer::read(0.1, "--node-eviction-rate");
    let (sure, all) = (HashSet::from(["0", "1"]), HashSet::from(["0", "1", "2"]));
    let fault = Fault::default();
    let zone = Zones::new(&Scene::new(&snapshot, &fault, &[], 60.0), &sure, &all).of(snapshot.node("0"));
    assert_eq!((zone.state, zone.rate, zone.slowest, zone.is_sure), (ZoneState::Partial, 0.0, 0.1, false));
}

#[test]
fn a_node_that_is_excluded_does_not_count() {
    let one_less = |snapshot: &mut Snapshot| snapshot.nodes[0].excluded_from_disruption = true;
    assert_eq!(zone(3, 5, one_less), (ZoneState::Normal, 0.1), "two that count");
    let ready_one = |snapshot: &mut Snapshot| snapshot.nodes[3].excluded_from_disruption = true;
    assert_eq!(zone(3, 4, ready_one), (ZoneState::Full, 0.1), "the only ready one does not count");
}

#[test]
fn where_every_zone_is_dark_nobody_is_tainted() {
    let none_ready = |snapshot: &mut Snapshot| snapshot.nodes.iter_mut().for_each(|n| n.ready = false);
    assert_eq!(zone(3, 3, none_ready), (ZoneState::AllFull, 0.0));
}

#[test]
fn racks_that_are_zones_are_evicted_and_racks_within_one_are_not() {
    let forecast = |change: fn(&mut Snapshot)| {
        let mut snapshot = calm();
        let addresses = vec!["198.18.0.20".parse().unwrap()];
        let another = Node { name: "w4".into(), addresses, ..snapshot.node("w1").unwrap().clone() };
        snapshot.nodes.push(another);
        change(&mut snapshot);
        isolate(&snapshot, &["r1"], 900)
    };
    let of = |forecast: &Forecast| forecast.nodes.iter().map(|n| (n.zone, n.tainted)).collect::<Vec<_>>();
    assert_eq!(of(&forecast(|_| {})), [(ZoneState::Full, Certainty::Must); 3]);
    // Three of five nodes of one zone, and two of the other one.
    let shared = forecast(|s| {
        let zone = |name: &str| if name.ends_with('2') { "b" } else { "a" };
        s.nodes.iter_mut().for_each(|n| n.zone = Some(zone(&n.name).into()));
    });
    assert_eq!(of(&shared), [(ZoneState::Partial, Certainty::May); 3]);
    assert!(shared.assumptions.iter().any(|a| a.starts_with("share of unready nodes")), "{:?}", shared.assumptions);
    // Seven nodes of one zone: three are too small a share.
    let one = forecast(|s| s.nodes.iter_mut().for_each(|n| n.zone = None));
    assert_eq!(of(&one), [(ZoneState::Normal, Certainty::Must); 3]);
}
