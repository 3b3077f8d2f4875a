//! The rules of the objects, by the API server's own expression language.

use super::{Cut, Isolate, Phase, RackPartition, RackPartitionSpec, RackPartitionStatus, Selection};
use serde_json::{Value, json};

fn run(spec: Value) -> RackPartition {
    RackPartition::new("run", serde_json::from_value::<RackPartitionSpec>(spec).unwrap())
}

fn ok() -> Value {
    json!({"cut": {"isolate": {"racks": ["r1"]}}, "duration": "60s"})
}

fn with(path: &str, value: Value) -> Value {
    let mut spec = ok();
    spec[path] = value;
    spec
}

#[test]
fn defaults_are_those_of_the_docs() {
    let run = run(ok());
    assert_eq!(run.spec.rack_label, "topology.kubernetes.io/zone");
    assert_eq!(run.spec.recovery.to_string(), "300s");
    assert!(!run.spec.guards.allow_quorum_loss && !run.spec.guards.allow_all_racks);
    assert_eq!(run.spec.guards.etcd_quiet_for.to_string(), "15s");
    assert!(!run.spec.abort && !run.spec.rehearsal);
    run.validate_cel().unwrap();
}

#[test]
fn what_can_be_refused_without_a_cluster_is_refused() {
    for (spec, word) in [
        (with("duration", json!("0s")), "10s to 1h"),
        (with("duration", json!("48h")), "10s to 1h"),
        (with("recovery", json!("0s")), "10s to 1h"),
        (with("cut", json!({})), "exactly one cut"),
        (with("cut", json!({"isolate": {}})), "name racks, nodes, endpoints or a role"),
        (with("cut", json!({"isolate": {"racks": ["r1"]}, "ring": {}})), "exactly one cut"),
        (with("cut", json!({"split": {"groups": [{}]}})), "name racks, nodes, endpoints or a role"),
        (with("traffic", json!([{"class": "Pods", "protocol": "TCP", "port": 1}])), "either a class"),
        (with("traffic", json!([{"protocol": "TCP"}])), "either a class"),
        (with("effect", json!({"drop": {}, "reject": {}})), "one effect"),
        (with("flap", json!({"down": "5s", "up": "0s"})), "from 1s to 1h"),
        (with("stagger", json!("1h")), "stagger the heal by"),
        (with("guards", json!({"maxClockError": "1h"})), "clock error"),
        (with("guards", json!({"etcdQuietFor": "0s"})), "watch etcd for 1s to 10m"),
        (with("guards", json!({"etcdQuietFor": "11m"})), "watch etcd for 1s to 10m"),
        (with("abortWhen", json!({"http": [{"url": "ftp://shop"}]})), "http or https"),
        (with("abortWhen", json!({"apiUnavailable": "0s"})), "1s to 1h"),
        (with("abortWhen", json!({"apiUnavailable": "5s", "holdsFor": "1h"})), "0s to 10m"),
    ] {
        let error = run(spec.clone()).validate_cel().expect_err(&spec.to_string());
        assert!(format!("{error:?}").contains(word), "{spec}: {error:?}");
    }
}

#[test]
fn a_started_run_is_immutable_save_for_abort() {
    let new = run(ok());
    let mut started = new.clone();
    started.status = Some(RackPartitionStatus { phase: Some(Phase::Arming), ..Default::default() });

    let mut other_rack = new.clone();
    other_rack.spec.cut = Cut {
        isolate: Some(Isolate {
            selection: Selection { racks: vec!["r2".into()], ..Default::default() },
            outside: false,
        }),
        ..Default::default()
    };
    other_rack.validate_cel_update(&new).expect("not started yet");
    other_rack.validate_cel_update(&started).expect_err("started");

    let mut watched = new.clone();
    watched.spec.abort_when.api_unavailable = Some(std::time::Duration::from_secs(30).into());
    watched.validate_cel_update(&started).expect_err("what ends it is part of it");

    let mut rehearsed = new.clone();
    rehearsed.spec.rehearsal = true;
    rehearsed.validate_cel_update(&new).expect("not started yet");
    rehearsed.validate_cel_update(&started).expect_err("a cut is no rehearsal once it has begun");

    let mut aborted = started.clone();
    aborted.spec.abort = true;
    aborted.validate_cel_update(&started).expect("abort is allowed");
    started.validate_cel_update(&aborted).expect_err("an abort can't be taken back");
}

#[test]
fn names_fit_what_is_named_after_them() {
    let long = RackPartition::new(&"x".repeat(41), run(ok()).spec);
    long.validate_cel().expect_err("too long");
}
