use super::*;
use crate::{
    api::{
        FindingResult, Span,
        register::{CACHED, READ, subject},
    },
    fault::Effect,
    judge::tests::fixture::{CUT, END, Run, START, container, moment, passing, pod, span},
    topology::{Budget, Timer},
};

const KCM: &str = "kube-system/kube-controller-manager";
const DNS: &str = "default/dns (Deployment)";
const DB: &str = "default/db (StatefulSet)";
const BUDGET: &str = "disruption budget default/b";

/// What is outside of its interval in the passing run with a change, with what was observed to a tenth of a second.
fn outside(change: impl FnOnce(&mut Run)) -> Vec<(Check, String, f64)> {
    let mut run = passing();
    change(&mut run);
    let all = measured(&run.evidence()).into_iter().filter(|m| !m.is_within());
    all.map(|m| (m.check, m.subject, (m.observed * 10.0).round() / 10.0)).collect()
}

#[track_caller]
fn expect(change: impl FnOnce(&mut Run), check: Check, subject: &str, observed: f64) {
    assert_eq!(outside(change), [(check, subject.to_owned(), observed)]);
}

/// Why nothing was measured of a line; `None` where something was.
fn why(run: &Run, check: Check, subject: &str) -> Option<Option<&'static str>> {
    let lines = unmeasured(&run.evidence());
    lines.iter().find(|line| line.check == check && line.subject == subject).map(|line| line.why)
}

#[test]
fn every_interval_of_the_run_that_passes_contains_what_was_seen() {
    let all = measured(&passing().evidence());
    let outside: Vec<&Measured> = all.iter().filter(|m| !m.is_within()).collect();
    assert!(outside.is_empty(), "{outside:#?}");
    let of = |check: Check| all.iter().filter(|m| m.check == check).count();
    // Three members; a server that can write and one that can't; two leaders, and one that stays; two nodes, each also from the new
    // controller manager's Lease on; three pods, of which one is back, and an API server that left and is back; the cluster and six parts.
    for (check, count) in [
        (Check::EtcdQuorum, 3),
        (Check::ApiWritable, 2),
        (Check::ApiServerReady, 1),
        (Check::StaleRead, 1),
        (Check::LeaseTakeover, 2),
        (Check::LeaderGap, 2),
        (Check::LeaderOverlap, 2),
        (Check::LeaseStable, 1),
        (Check::NodeNotReady, 4),
        (Check::NodeTainted, 2),
        (Check::EndpointsRemoved, 6),
        (Check::WorkloadEvicted, 2),
        (Check::WorkloadKept, 3),
        (Check::WorkloadDoubled, 3),
        (Check::WorkloadStuck, 1),
        (Check::Recovery, 7),
    ] {
        assert_eq!(of(check), count, "{check:?}: {all:#?}");
    }
    let of = |check: Check, what: &str| all.iter().find(|m| m.check == check && m.what == what).unwrap();
    let close = |seen: f64, told: f64| assert!((seen - told).abs() < 0.05, "{seen} and {told}: {all:#?}");
    let gap = of(Check::LeaderGap, "nobody leads");
    close(gap.observed, 4.4);
    // Between two looks at the Lease.
    close(gap.error, 0.5);
    close(of(Check::EndpointsRemoved, "back").observed, 8.5);
    close(of(Check::EndpointsRemoved, "default/dns-5bc6f7d8f4-ccccc back").observed, 12.5);
    close(of(Check::EtcdQuorum, "cp1 without a leader from then on").observed, 1.9);
    close(of(Check::StaleRead, "cp1: its watch cache behind").observed, 0.1);
    // It was seen until 9 s after the heal, and a look may be 6 s later.
    close(of(Check::WorkloadStuck, "db-0 gone").observed, 15.0);
}

#[test]
fn every_line_of_the_run_that_passes_is_measured_but_the_networks_and_of_what_need_not_be() {
    let lines = unmeasured(&passing().evidence());
    let told: Vec<_> = lines.iter().map(|line| (line.check, line.subject.as_str(), line.why.is_some())).collect();
    // The API server may be started anew from 70 s on, in a cut of 75 s.
    assert_eq!(told, [(Check::FaultProven, "network", true), (Check::ApiServerReady, "cp1: container", true)]);
}

#[test]
fn when_an_api_server_is_started_anew_and_until_when_not() {
    const CONTAINER: &str = "cp1: container";
    let own = |end: f64| container("kube-system/kube-apiserver-cp1/kube-apiserver", "api-1", "exited", -900.0, end);
    let ended = |run: &mut Run, end: f64| run.status("cp1").spans.push(own(end));
    let of = |run: &Run| measured(&run.evidence()).into_iter().find(|m| m.subject == CONTAINER);
    // From 70 s on it may.
    let mut run = passing();
    ended(&mut run, 72.0);
    let seen = of(&run).unwrap();
    assert!(seen.bounds == Bounds::AfterCut && seen.is_within() && (seen.observed - 72.0).abs() < 0.05, "{seen:#?}");
    assert_eq!(why(&run, Check::ApiServerReady, CONTAINER), None);
    expect(|run| ended(run, 20.0), Check::ApiServerReady, CONTAINER, 20.0);
    // In a cut of 15 s, after which etcd is back soon enough, it must not.
    let short = |change: &dyn Fn(&mut Run)| {
        let mut run = passing();
        run.schedule.heal_at = moment(0.0, 15.0).wall;
        change(&mut run);
        of(&run).map(|m| (m.bounds, m.is_within()))
    };
    assert_eq!(short(&|_| {}), Some((Bounds::Throughout, true)));
    assert_eq!(short(&|run| ended(run, 10.0)), Some((Bounds::Throughout, false)));
    assert_eq!(short(&|run| run.status("cp1").reads_containers = false), None);
}

#[test]
fn what_a_finding_lets_pass_is_outside_all_the_same() {
    let mut run = passing();
    // Predicted up to 49.4 s.
    let history = [("none", START, 49.5), ("node.kubernetes.io/unreachable", 50.0, 81.0), ("none", 81.5, END)];
    run.rewrite_operator(SpanKind::Taint, "w1", &history);
    let findings = run.judge().findings;
    assert!(findings.iter().filter(|f| f.check == Check::NodeTainted).all(|f| f.result == FindingResult::Held));
    expect(|run| run.rewrite_operator(SpanKind::Taint, "w1", &history), Check::NodeTainted, "isolated: 2 nodes", 50.0);
}

#[test]
fn without_the_operators_record_nothing_is_measured() {
    let mut run = passing();
    run.operator = None;
    assert!(measured(&run.evidence()).is_empty());
    assert_eq!(why(&run, Check::NodeNotReady, "w1"), Some(None), "and it should have been");
}

#[test]
fn a_line_of_which_a_record_is_missing_should_have_been_measured() {
    let mut run = passing();
    run.agents.retain(|r| r.spec.node != "cp1");
    for check in [Check::EtcdQuorum, Check::ApiWritable, Check::StaleRead] {
        assert_eq!(why(&run, check, "isolated"), Some(None), "{check:?}");
    }
    assert_eq!(why(&run, Check::EtcdQuorum, "rest"), None);
}

#[test]
fn members_that_are_as_predicted_too_late() {
    let cp1 =
        [("ok", START, 0.9), ("failing", 1.9, 30.0), ("ok", 31.0, 32.0), ("failing", 33.0, 78.0), ("ok", 79.0, END)];
    expect(|run| run.rewrite("cp1", SpanKind::Health, "etcd", &cp1), Check::EtcdQuorum, "isolated", 33.0);
    let cp2 = [("ok", START, 0.0), ("failing", 1.0, 40.0), ("ok", 41.0, END)];
    expect(|run| run.rewrite("cp2", SpanKind::Health, "etcd", &cp2), Check::EtcdQuorum, "rest", 41.0);
}

#[test]
fn a_write_that_is_acknowledged_too_late_and_an_answer_that_is_too_old() {
    let writes = [("acknowledged", START, 20.0), ("failed", 21.0, CUT - 0.5), ("acknowledged", CUT + 0.5, END)];
    expect(|run| run.rewrite("cp1", SpanKind::Canary, "cp1", &writes), Check::ApiWritable, "isolated", 20.0);
    // 32 was acknowledged after 2.4 s, and predicted are 36 s.
    let old = |run: &mut Run| {
        let answer = span(0.2, SpanKind::Reading, &subject("cp2", CACHED), READ, 60.0, 60.0);
        run.status("cp1").spans.push(Span { detail: Some("n=30".into()), ..answer });
    };
    expect(old, Check::StaleRead, "isolated", 57.6);
}

#[test]
fn two_leaders_for_longer_than_is_predicted() {
    let late = |run: &mut Run| {
        let spans = &mut run.status("cp1").spans;
        let mut old = spans.iter_mut().filter(|s| s.state == "exited" && s.subject.contains("controller-manager"));
        old.next().unwrap().to = moment(0.2, 9.9);
    };
    // The old one was last seen to hold the Lease after 8.5 s.
    expect(late, Check::LeaderOverlap, KCM, 1.4);
}

#[test]
fn a_lease_that_does_not_stay() {
    let name = "kube-system/snapshot-controller";
    let history = [("cp2_1", START, 30.0), ("cp3_1", 30.5, END)];
    expect(|run| run.rewrite_operator(SpanKind::Lease, name, &history), Check::LeaseStable, name, 30.5);
}

#[test]
fn what_is_predicted_to_stay_in_a_short_cut() {
    let mut run = passing();
    run.schedule.heal_at = moment(0.0, 1.0).wall;
    run.snapshot.timers.node_monitor_grace = Timer::read(100.0, "--node-monitor-grace-period");
    let stays = |run: &Run, check: Check, subject: &str| {
        let all = measured(&run.evidence());
        let mut of = all.iter().filter(|m| m.check == check && m.subject == subject).peekable();
        assert!(of.peek().is_some(), "{check:?} of {subject}: {all:#?}");
        of.all(|m| m.bounds == Bounds::Throughout && m.is_within())
    };
    assert!(stays(&run, Check::NodeNotReady, "w1"));
    assert!(stays(&run, Check::NodeTainted, "isolated: 2 nodes"));
    assert!(stays(&run, Check::EndpointsRemoved, "isolated: 3 ready pods"));
    assert!(stays(&run, Check::LeaseTakeover, KCM));
    run.rewrite_operator(SpanKind::Node, "w1", &[("True", START, 0.2), ("Unknown", 0.7, END)]);
    assert!(!stays(&run, Check::NodeNotReady, "w1"));
}

#[test]
fn a_pod_that_is_back_among_endpoints_too_late() {
    let back = |run: &mut Run| {
        run.fault.pattern.effect = Effect::Reject;
        let away = [("ready", START, 22.7), ("unready", 23.2, CUT + 109.5), ("ready", CUT + 110.0, END)];
        run.rewrite_operator(SpanKind::Endpoint, "default/dns-5bc6f7d8f4-ccccc", &away);
    };
    // Predicted within 34.5 s of the API server's return, 65 s after the heal of a cut that rejects.
    expect(back, Check::EndpointsRemoved, "isolated: 3 ready pods", 110.0);
    let mut run = passing();
    for pod in ["web-7d4b9c6f58-aaaaa", "db-0", "dns-5bc6f7d8f4-ccccc"] {
        run.rewrite_operator(SpanKind::Endpoint, &format!("default/{pod}"), &[("none", START, END)]);
    }
    let none = why(&run, Check::EndpointsRemoved, "isolated: 3 ready pods");
    assert_eq!(none, Some(Some("no Service selects any of them")));
}

#[test]
fn containers_that_end_and_pods_that_run_twice() {
    let ended = |run: &mut Run| run.rewrite_containers("w1", "web-1", &[("exited", -600.0, 50.0)]);
    expect(ended, Check::WorkloadKept, "default/web (Deployment)", 50.0);
    let twice =
        |run: &mut Run| run.status("w3").spans.push(container("default/db-0/app", "db-9", "running", 40.0, END));
    expect(twice, Check::WorkloadDoubled, DB, 40.0);
    let copied = |run: &mut Run| {
        let name = "default/dns-5bc6f7d8f4-eeeee";
        let seen = pod(name, "dns-9", "w3", "ReplicaSet/dns-5bc6f7d8f4", "Running/Ready", 49.0, END);
        run.operator_status().spans.push(seen);
        run.status("w3").spans.push(container(&format!("{name}/app"), "dns-9", "running", 50.0, END));
    };
    expect(copied, Check::WorkloadDoubled, DNS, 50.0);
}

#[test]
fn a_pod_that_is_gone_too_late_or_need_not_be_deleted() {
    let stuck = |run: &mut Run| {
        run.fault.pattern.effect = Effect::Reject;
        run.rewrite_pod("db-1", &[("Running/Ready", START, 38.5), ("Running/Terminating", 39.0, END - 1.0)]);
    };
    // Predicted within 125 s of the heal.
    expect(stuck, Check::WorkloadStuck, DB, 150.0);
    let patient = |run: &mut Run| {
        let mut db = run.snapshot.pods.iter_mut().filter(|p| p.uid == "db-1");
        db.next().unwrap().tolerates_unreachable = Some(300.0);
    };
    expect(patient, Check::WorkloadStuck, DB, 39.0);
}

/// The passing run with a budget that wants so many of these.
fn with_budget(desired: u32, healthy: &[&str]) -> Run {
    let mut run = passing();
    let healthy = healthy.iter().map(|p| (*p).to_owned()).collect();
    let budget = Budget { namespace: "default".into(), name: "b".into(), desired_healthy: Some(desired), healthy };
    run.snapshot.budgets.push(budget);
    run
}

#[test]
fn when_a_budget_is_crossed_and_until_when_not() {
    let of = |run: &Run| measured(&run.evidence()).into_iter().find(|m| m.check == Check::HealDamage);
    // Its pod ends 9 s after the heal, and nobody stands in for it.
    let crossed = of(&with_budget(1, &["db-0"])).unwrap();
    assert!((crossed.observed - 9.0).abs() < 0.1 && crossed.is_within(), "{crossed:#?}");
    // It may take longer until all kubelets are told than anybody watched.
    let mut run = with_budget(1, &["dns-5bc6f7d8f4-ccccc"]);
    assert_eq!(of(&run), None);
    assert_eq!(why(&run, Check::HealDamage, BUDGET), Some(Some("nobody watched for so long after the heal")));
    run.sides.iter_mut().filter(|s| s.name == "isolated").for_each(|s| s.api_servers.clear());
    let kept = of(&run).unwrap();
    assert!(kept.bounds == Bounds::Throughout && kept.is_within(), "{kept:#?}");
    // The second copy ends, which nobody predicted.
    let mut run = with_budget(2, &["web-7d4b9c6f58-aaaaa", "web-7d4b9c6f58-bbbbb"]);
    run.rewrite_containers("w3", "web-3", &[("exited", 42.0, CUT + 30.0)]);
    let crossed = of(&run).unwrap();
    assert!((crossed.observed - CUT - 30.0).abs() < 0.1 && !crossed.is_within(), "{crossed:#?}");
}

#[test]
fn what_ran_once_where_nobody_looked_is_not_measured() {
    let mut run = passing();
    let is_measured = |run: &Run| {
        let all = measured(&run.evidence());
        all.iter().any(|m| m.check == Check::WorkloadDoubled && m.subject == DB)
    };
    assert!(is_measured(&run));
    run.rewrite_containers("w3", "web-3", &[("running", 42.0, 50.0)]);
    assert!(!is_measured(&run));
}

#[test]
fn a_look_that_was_not_answered_says_nothing_of_the_recovery() {
    let recovered = |history: &[(&str, f64, f64)]| {
        let mut run = passing();
        run.rewrite_operator(SpanKind::Convergence, "cluster", &[&[("ok", START, 0.5)][..], history].concat());
        let all = measured(&run.evidence());
        let observed = all.iter().find(|m| m.check == Check::Recovery && m.subject == "cluster").map(|m| m.observed);
        (observed, why(&run, Check::Recovery, "cluster"))
    };
    let unread = [("waiting", 1.5, 95.0), ("ok", 96.0, 120.0), ("unread", 121.0, 125.0), ("ok", 126.0, END)];
    assert_eq!(recovered(&unread), (Some(20.0), None));
    // How it was at the end nobody knows.
    assert_eq!(recovered(&[("waiting", 1.5, 95.0), ("ok", 96.0, 200.0), ("unread", 201.0, END)]), (None, Some(None)));
}

#[test]
fn a_part_of_which_one_thing_is_not_back_is_not_measured() {
    let mut run = passing();
    run.rewrite("cp1", SpanKind::Health, "etcd", &[("ok", START, 0.9), ("failing", 1.9, END)]);
    assert_eq!(why(&run, Check::Recovery, "etcd"), Some(None));
}

#[test]
fn what_may_happen_and_does_not_need_not_be_measured() {
    let mut run = passing();
    // It may be taken from 4 s to 16.4 s.
    run.schedule.heal_at = moment(0.0, 15.0).wall;
    assert_eq!(why(&run, Check::LeaseTakeover, KCM), None);
    run.rewrite_operator(SpanKind::Lease, KCM, &[("cp1_1", START, END)]);
    for check in [Check::LeaseTakeover, Check::LeaderGap, Check::LeaderOverlap] {
        let told = Some(Some("it may happen in the cut or not, and was not seen to"));
        assert_eq!(why(&run, check, KCM), told, "{check:?}");
    }
}
