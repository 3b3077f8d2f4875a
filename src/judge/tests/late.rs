//! Kubelets that are heard late after the heal, because the API server that they ask lost etcd, and evictions until then.

use super::{
    fixture::{CUT, END, Run, START, container, moment, passing, pod},
    mutations::expect,
};
use crate::{
    api::{Check, Finding, FindingResult, SpanKind, Verdict},
    judge::measured,
    topology::{Budget, Timer},
};

const DNS: &str = "default/dns (Deployment)";
const NAME: &str = "dns-5bc6f7d8f4-ccccc";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const LATE: &str = "the API server that its kubelet asks need not have been back from the loss of etcd";

/// The passing run with a pod of dns that tolerates the taint for so long, seconds. Its deletion is due so long after 16 s to 49.4 s.
/// `is_lost`: with an API server on the side that loses etcd, whose kubelets may be heard 279 s after the heal; else they are after 45 s.
fn tolerating(seconds: f64, is_lost: bool) -> Run {
    let mut run = passing();
    let pod = run.snapshot.pods.iter_mut().find(|p| p.uid == "dns-1").expect("a pod of the fixture");
    pod.tolerates_unreachable = Some(seconds);
    if !is_lost {
        without_api_server(&mut run);
    }
    run
}

fn without_api_server(run: &mut Run) {
    run.sides.iter_mut().filter(|s| s.name == "isolated").for_each(|s| s.api_servers.clear());
}

/// Its pod is deleted then, seconds after the heal, and ends 10 s later.
fn deleted(mut run: Run, after_heal: f64) -> Run {
    let (at, end) = (CUT + after_heal, CUT + after_heal + 10.0);
    run.rewrite_pod("dns-1", &[("Running/Ready", START, at - 0.5), ("Running/Terminating", at, end)]);
    run.rewrite_containers("w1", "dns-1", &[("exited", -600.0, end)]);
    run
}

/// Another one runs in its stead one second later.
fn copied(mut run: Run, after_heal: f64) -> Run {
    run = deleted(run, after_heal);
    let (name, at) = ("default/dns-5bc6f7d8f4-eeeee", CUT + after_heal + 1.0);
    let seen = pod(name, "dns-9", "w3", "ReplicaSet/dns-5bc6f7d8f4", "Running/Ready", at, END);
    run.operator_status().spans.push(seen);
    run.status("w3").spans.push(container(&format!("{name}/app"), "dns-9", "running", at + 1.0, END));
    run
}

fn of(run: &Run, check: Check, subject: &str) -> Finding {
    let findings = run.judge().findings;
    let found = findings.iter().find(|f| f.check == check && f.subject == subject);
    found.cloned().unwrap_or_else(|| panic!("no {check:?} of {subject} in {findings:#?}"))
}

#[test]
fn a_pod_that_is_evicted_while_its_api_server_may_be_away() {
    // Due from 116 s to 149.4 s, so it may be evicted: 45 s after the heal is 120 s.
    let evicted = |is_lost, after_heal| {
        let run = deleted(tolerating(100.0, is_lost), after_heal);
        let measured = measured(&run.evidence());
        let is_measured = measured.iter().any(|m| m.what == format!("{NAME} deleted"));
        let found = of(&run, Check::WorkloadEvicted, DNS);
        (found.result, found.observed, is_measured)
    };
    let told = format!("{NAME} deleted 50 s after the heal");
    assert_eq!(evicted(true, 50.0), (FindingResult::Held, told, true));
    // With its API server there the taint is gone by then, and whoever deletes it does so for another reason.
    let kept = (FindingResult::Held, "not deleted".to_owned(), false);
    assert_eq!(evicted(false, 50.0), kept);
    // Beyond its interval somebody else may have a reason, too, whether or not its kubelet is heard.
    assert_eq!(evicted(true, 90.0), kept);
    // In the cut it is too early.
    for is_lost in [true, false] {
        assert_eq!(evicted(is_lost, -20.0).0, FindingResult::Degraded);
    }
}

#[test]
fn one_that_is_no_longer_selected_then_may_have_been_evicted() {
    let unlisted = |is_lost| {
        let mut run = tolerating(100.0, is_lost);
        run.spec.workloads.label_selector.match_labels = Some([("app".to_owned(), "dns".to_owned())].into());
        run.rewrite_pod("dns-1", &[("Running/Ready", START, CUT + 50.0)]);
        of(&run, Check::WorkloadEvicted, DNS).result
    };
    assert_eq!(unlisted(true), FindingResult::Inconclusive);
    assert_eq!(unlisted(false), FindingResult::Held, "then it has another reason");
}

#[test]
fn a_second_copy_that_comes_of_a_late_eviction_is_told() {
    // Due from 122 s to 155.4 s, and so not predicted: 45 s after the heal is 120 s.
    let doubled = |is_lost, after_heal| {
        let found = of(&copied(tolerating(106.0, is_lost), after_heal), Check::WorkloadDoubled, DNS);
        assert_eq!(found.predicted, "no second copy");
        (found.result, found.observed)
    };
    let (result, observed) = doubled(true, 50.0);
    assert_eq!(result, FindingResult::Noted, "{observed}");
    assert!(observed.ends_with(&format!(", made 51 s after the heal: {LATE}")), "{observed}");
    assert_eq!(doubled(false, 50.0).0, FindingResult::Degraded);
    // In the cut and right after it nobody's toleration is over.
    for after_heal in [-30.0, 20.0] {
        assert_eq!(doubled(true, after_heal).0, FindingResult::Degraded, "{after_heal}");
    }
}

#[test]
fn a_budget_that_a_late_eviction_may_cross_is_open() {
    let crossed = |is_lost, after_heal| {
        let mut run = deleted(tolerating(106.0, is_lost), after_heal);
        let healthy = vec![NAME.to_owned()];
        let budget = Budget { namespace: "default".into(), name: "b".into(), desired_healthy: Some(1), healthy };
        run.snapshot.budgets.push(budget);
        let found = of(&run, Check::HealDamage, "disruption budget default/b");
        (found.result, found.observed)
    };
    let crossed_by = "crossed: 0 pods left at one time, 1 wanted";
    let why = format!("{crossed_by}, but default/{NAME} was deleted 50 s after the heal: {LATE}");
    assert_eq!(crossed(true, 50.0), (FindingResult::Inconclusive, why));
    let surprise = (FindingResult::Degraded, crossed_by.to_owned());
    assert_eq!(crossed(false, 50.0), surprise);
    assert_eq!(crossed(true, 20.0), surprise);
}

#[test]
fn a_pod_that_leaves_its_services_while_its_api_server_may_be_away() {
    // A cut of 15 s. The controller manager looks every 20 s, so that a node may be NotReady within 9.4 s to 73.4 s, and its pods leave 5 s
    // later. 45 s after the heal is 60 s.
    let left = |is_lost: bool| {
        let mut run = passing();
        run.schedule.heal_at = moment(0.0, 15.0).wall;
        run.snapshot.timers.node_monitor_period = Timer::read(20.0, "--node-monitor-period");
        if !is_lost {
            without_api_server(&mut run);
        }
        let history = [("ready", START, 65.5), ("unready", 66.0, 70.0), ("ready", 70.5, END)];
        run.rewrite_operator(SpanKind::Endpoint, &format!("default/{NAME}"), &history);
        let found = of(&run, Check::EndpointsRemoved, "isolated: 3 ready pods");
        assert_eq!(found.result, FindingResult::Held, "{found:?}");
        found.observed
    };
    let (lost, heard) = (left(true), left(false));
    assert!(lost.contains(&format!("{NAME} left 51 s after the heal and was back 55.5 s after the heal")), "{lost}");
    assert!(heard.contains(&format!("{NAME} stayed")), "{heard}");
}

#[test]
fn a_node_that_is_not_ready_after_the_heal_while_its_api_server_may_be_away() {
    // A cut of 10 s, and a grace period by which a node may be NotReady from 33.4 s on. Kubelets are heard 19.5 s after the heal, and where
    // their API server lost etcd up to 21.5 s later.
    let not_ready = |is_lost: bool| {
        let mut run = passing();
        run.schedule.heal_at = moment(0.0, 10.0).wall;
        run.snapshot.timers.node_monitor_grace = Timer::read(36.0, "--node-monitor-grace-period");
        if !is_lost {
            without_api_server(&mut run);
        }
        let history = [("True", START, 34.0), ("Unknown", 34.5, 40.0), ("True", 40.5, END)];
        run.rewrite_operator(SpanKind::Node, "w1", &history);
        let found = of(&run, Check::NodeNotReady, "w1");
        assert_eq!(found.observed, "NotReady 24.5 s after the heal");
        found.result
    };
    assert_eq!(not_ready(true), FindingResult::Held);
    assert_eq!(not_ready(false), FindingResult::Degraded, "its Lease was renewed by then");
}

#[test]
fn a_node_that_is_lost_long_after_the_heal_is_lost_for_another_reason() {
    // A cut of 10 s, as above: nothing of it is due 90 s after the heal, wherever API servers are.
    let lost = |is_lost: bool, at: f64| {
        let mut run = passing();
        run.schedule.heal_at = moment(0.0, 10.0).wall;
        run.snapshot.timers.node_monitor_grace = Timer::read(36.0, "--node-monitor-grace-period");
        if !is_lost {
            without_api_server(&mut run);
        }
        for node in ["cp1", "w1"] {
            let ready = [("True", START, at - 0.5), ("Unknown", at, at + 5.0), ("True", at + 5.5, END)];
            run.rewrite_operator(SpanKind::Node, node, &ready);
            let taint = [("none", START, at - 0.5), (UNREACHABLE, at, at + 5.0), ("none", at + 5.5, END)];
            run.rewrite_operator(SpanKind::Taint, node, &taint);
        }
        let (node, taint) = (of(&run, Check::NodeNotReady, "w1"), of(&run, Check::NodeTainted, "isolated: 2 nodes"));
        [(node.result, node.observed), (taint.result, taint.observed)]
    };
    for is_lost in [true, false] {
        let [node, (tainted, _)] = lost(is_lost, 100.0);
        assert_eq!(node, (FindingResult::Held, "stayed Ready".to_owned()), "{is_lost}");
        assert_eq!(tainted, FindingResult::Held, "{is_lost}");
    }
    // Where it can't come of the cut and comes with it, that is told.
    let [(node, _), (tainted, _)] = lost(false, 30.0);
    assert_eq!([node, tainted], [FindingResult::Degraded; 2]);
}

#[test]
fn what_is_due_while_kubelets_are_heard_as_usual_is_judged_as_ever() {
    // A pod that had to be deleted in the cut is late, however long its API server is away.
    let late = |run: &mut Run| {
        let (at, end) = (CUT + 50.0, CUT + 60.0);
        run.rewrite_pod("web-1", &[("Running/Ready", START, at - 0.5), ("Running/Terminating", at, end)]);
        let back = [("ready", START, 22.7), ("unready", 23.2, CUT + 9.0), ("ready", CUT + 9.5, END)];
        run.rewrite_operator(SpanKind::Endpoint, super::endpoints::WEB, &back);
    };
    expect(late, Verdict::Degraded, &[(Check::WorkloadEvicted, "default/web (Deployment)", FindingResult::Degraded)]);
}
