//! What the heal does: to workloads, and step by step to the cluster.

use super::{
    fixture::{CUT, END, Run, START, container, moment, passing, pod},
    mutations::expect,
};
use crate::{
    api::{Check, Finding, FindingResult, SpanKind, Verdict},
    fault::Effect,
    topology::{Budget, Pod},
};

const CUT_SIDE: &str = "workloads of the cut side";

fn of(run: &Run, check: Check, subject: &str) -> Finding {
    let findings = run.judge().findings;
    let found = findings.iter().find(|f| f.check == check && f.subject == subject);
    found.cloned().unwrap_or_else(|| panic!("no {check:?} of {subject} in {findings:#?}"))
}

/// The only pod of dns ends at `ended`, starts again, and is ready but for the time between these.
fn dns_ends(run: &mut Run, ended: f64, unready: Option<(f64, f64)>) {
    run.rewrite_containers("w1", "dns-1", &[("exited", -600.0, ended), ("running", ended + 2.0, END)]);
    if let Some((from, to)) = unready {
        let ready = "Running/Ready";
        let history = [(ready, START, from - 1.0), ("Running/NotReady", from, to), (ready, to + 1.0, END)];
        run.rewrite_pod("dns-1", &history);
    }
}

#[test]
fn a_workload_that_loses_its_last_ready_pod_after_the_heal() {
    let amiss = [(Check::HealDamage, CUT_SIDE, FindingResult::Violated)];
    expect(|run| dns_ends(run, CUT + 20.0, Some((CUT + 21.0, CUT + 50.0))), Verdict::Fail, &amiss);
    let mut run = passing();
    dns_ends(&mut run, CUT + 20.0, Some((CUT + 21.0, CUT + 50.0)));
    let found = of(&run, Check::HealDamage, CUT_SIDE);
    let said = "heal-induced outage: default/dns (Deployment) without a ready pod 20 s after the heal, when dns-";
    assert!(found.observed.starts_with(said), "{found:?}");
    assert!(found.evidence.contains("NotReady") && found.evidence.contains("container"), "{found:?}");
}

#[test]
fn a_pod_that_ends_after_the_heal_while_its_workload_goes_on_is_told() {
    let mut run = passing();
    dns_ends(&mut run, CUT + 20.0, None);
    let found = of(&run, Check::HealDamage, CUT_SIDE);
    assert_eq!((found.result, run.judge().verdict), (FindingResult::Noted, Verdict::Pass), "{found:?}");
    assert_eq!(found.observed, "3 pods ended, 1 of them not to be evicted");
}

#[test]
fn a_pod_that_is_not_restarted_may_finish_by_itself() {
    const DNS: &str = "default/dns (Deployment)";
    let ended_with = |at: f64, restart_always: bool, detail: Option<&str>| {
        let mut run = passing();
        let pod = run.snapshot.pods.iter_mut().find(|p| p.uid == "dns-1").unwrap();
        pod.restart_always = restart_always;
        run.rewrite_containers("w1", "dns-1", &[("exited", -600.0, at)]);
        run.rewrite_pod("dns-1", &[("Running/Ready", START, at), ("Succeeded/NotReady", at + 1.0, END)]);
        let mut spans = run.status("w1").spans.iter_mut();
        spans.find(|s| s.uid.as_deref() == Some("dns-1")).unwrap().detail = detail.map(str::to_owned);
        run
    };
    let ended = |at: f64, restart_always: bool| ended_with(at, restart_always, Some("exit=0 Completed"));
    let result = |run: &Run, check, subject| of(run, check, subject).result;
    assert_eq!(result(&ended(CUT + 30.0, true), Check::HealDamage, CUT_SIDE), FindingResult::Violated);
    assert_eq!(result(&ended(CUT + 30.0, false), Check::HealDamage, CUT_SIDE), FindingResult::Held);
    assert_eq!(result(&ended(40.0, true), Check::WorkloadKept, DNS), FindingResult::Violated);
    let found = of(&ended(40.0, false), Check::WorkloadKept, DNS);
    assert_eq!(found.result, FindingResult::Noted, "{found:?}");
    assert!(found.observed.ends_with("may have finished by itself: its pods are not restarted"), "{found:?}");
    // Whoever fails by itself nobody has ended.
    let failed = of(&ended_with(40.0, false, Some("exit=1 Error")), Check::WorkloadKept, DNS);
    assert_eq!(failed.result, FindingResult::Noted, "{failed:?}");
    assert!(failed.observed.ends_with("ended 40 s after the cut: failed by itself, exit code 1"), "{failed:?}");
    let restarted = ended_with(40.0, true, Some("exit=1 Error"));
    assert_eq!(result(&restarted, Check::WorkloadKept, DNS), FindingResult::Noted, "as whoever lost a Lease does");
    // One that was killed did not finish, and of one whose end nobody read nobody knows.
    for code in [137, 143] {
        let killed = of(&ended_with(40.0, false, Some(&format!("exit={code} Error"))), Check::WorkloadKept, DNS);
        assert_eq!(killed.result, FindingResult::Violated, "{killed:?}");
        let told = format!("ended 40 s after the cut with exit code {code}");
        assert!(killed.observed.ends_with(&told), "{killed:?}");
    }
    for restart_always in [true, false] {
        let unread = ended_with(40.0, restart_always, None);
        assert_eq!(result(&unread, Check::WorkloadKept, DNS), FindingResult::Inconclusive);
    }
    // A snapshot that does not say means what it always did.
    assert!(serde_json::from_str::<Pod>("{}").unwrap().restart_always);
}

#[test]
fn a_container_that_its_kubelet_starts_again_was_not_ended_for_good() {
    let started_again = |code: &str| {
        let mut run = passing();
        run.rewrite_containers("w1", "dns-1", &[("exited", -600.0, 40.0), ("running", 41.0, END)]);
        let mut spans = run.status("w1").spans.iter_mut();
        let ended = spans.find(|s| s.uid.as_deref() == Some("dns-1") && s.state == "exited").unwrap();
        ended.detail = Some(format!("exit={code} Error"));
        of(&run, Check::WorkloadKept, "default/dns (Deployment)")
    };
    let probed = started_again("137");
    assert_eq!(probed.result, FindingResult::Degraded, "{probed:?}");
    let told = "with exit code 137 and was started again: its liveness probe may need who is cut off";
    assert!(probed.observed.ends_with(told), "{probed:?}");
    assert_eq!(started_again("0").result, FindingResult::Noted);
}

#[test]
fn what_was_not_ready_before_the_heal_did_not_lose_it_by_the_heal() {
    for unready in [(CUT - 20.0, CUT + 50.0), (CUT - 1.0, END - 5.0)] {
        expect(|run| dns_ends(run, CUT + 20.0, Some(unready)), Verdict::Pass, &[]);
    }
    // It became unready long before anything ended.
    expect(|run| dns_ends(run, CUT + 85.0, Some((CUT + 15.0, END - 1.0))), Verdict::Pass, &[]);
}

#[test]
fn while_nobody_looks_nobody_knows_what_was_lost() {
    let damage = |until: f64| {
        let mut run = passing();
        dns_ends(&mut run, CUT + 20.0, None);
        // From then on the API does not answer: neither nodes nor pods are seen.
        for span in &mut run.operator_status().spans {
            let is_listed = matches!(span.kind, SpanKind::Node | SpanKind::Pod);
            if is_listed && span.to.wall.0 > moment(0.0, until).wall.0 {
                span.to = moment(0.0, until);
            }
        }
        of(&run, Check::HealDamage, CUT_SIDE)
    };
    let unknown = damage(CUT + 20.0);
    assert_eq!(unknown.result, FindingResult::Inconclusive, "{unknown:?}");
    assert!(unknown.evidence.starts_with("operator: pods were not looked at for "), "{unknown:?}");
    // What is lost more than a minute after the last end is not put down to it.
    assert_eq!(damage(CUT + 72.0).result, FindingResult::Noted);
}

#[test]
fn what_was_amiss_before_the_cut_has_nothing_to_come_back_to() {
    let mut run = passing();
    run.rewrite_operator(SpanKind::Node, "w1", &[("False", START, END)]);
    run.rewrite_operator(SpanKind::Taint, "w1", &[("node.kubernetes.io/not-ready", START, END)]);
    let found = of(&run, Check::Recovery, "milestones");
    assert_eq!(found.result, FindingResult::Held, "{found:?}");
    assert!(found.observed.contains("nodes 5.5 s, taints 6.5 s"), "{found:?}");
    // Nobody saw whether it was.
    run.rewrite_operator(SpanKind::Node, "w1", &[("False", 10.0, END)]);
    let found = of(&run, Check::Recovery, "milestones");
    assert_eq!(found.result, FindingResult::Inconclusive, "{found:?}");
    assert!(found.evidence.ends_with("Node of w1 was not seen before the cut"), "{found:?}");
}

#[test]
fn what_was_well_at_any_look_before_the_cut_has_to_come_back() {
    let etcd = |history: &[(&str, f64, f64)]| {
        let mut run = passing();
        // Then nobody's streams have to wait for TCP.
        run.fault.pattern.effect = Effect::Reject;
        run.rewrite("cp1", SpanKind::Health, "etcd", history);
        of(&run, Check::Recovery, "milestones").result
    };
    assert_eq!(etcd(&[("failing", START, END)]), FindingResult::Held);
    // It failed for a moment before the cut, or came well as close to it as clocks can tell.
    assert_eq!(etcd(&[("ok", START, -3.0), ("failing", -2.0, END)]), FindingResult::Violated);
    assert_eq!(etcd(&[("failing", START, -0.7), ("ok", 0.3, 0.3), ("failing", 1.3, END)]), FindingResult::Violated);
}

const WEB: [&str; 2] = ["web-7d4b9c6f58-aaaaa", "web-7d4b9c6f58-bbbbb"];

/// What is said of a budget that wants so many of these, in the passing run with a change.
fn of_budget(desired: u32, healthy: &[&str], change: fn(&mut Run)) -> (FindingResult, String) {
    let mut run = passing();
    let healthy = healthy.iter().map(|p| (*p).to_owned()).collect();
    let budget = Budget { namespace: "default".into(), name: "b".into(), desired_healthy: Some(desired), healthy };
    run.snapshot.budgets.push(budget);
    change(&mut run);
    let found = of(&run, Check::HealDamage, "disruption budget default/b");
    (found.result, found.observed)
}

/// The second copy of web ends after the heal.
fn copy_ends(run: &mut Run) {
    run.rewrite_containers("w3", "web-3", &[("exited", 42.0, CUT + 30.0)]);
}

#[test]
fn a_budget_is_held_against_what_is_left_after_the_heal() {
    let as_it_is = |_: &mut Run| {};
    // Nobody runs in the StatefulSet's place, which is predicted; in the other's a copy does.
    let crossed = "crossed: 0 pods left at one time, 1 wanted".to_owned();
    assert_eq!(of_budget(1, &["db-0"], as_it_is), (FindingResult::Noted, crossed));
    let held = "2 pods left at the least, 2 wanted".to_owned();
    assert_eq!(of_budget(2, &WEB, as_it_is), (FindingResult::Held, held));
    let (result, observed) = of_budget(2, &WEB, copy_ends);
    assert_eq!((result, observed.as_str()), (FindingResult::Degraded, "crossed: 1 pod left at one time, 2 wanted"));
    // Of a link that comes and goes nobody knows when it ends pods.
    let flaps = |run: &mut Run| {
        copy_ends(run);
        run.plan.pattern.flap = Some((30.0, 10.0));
    };
    assert_eq!(of_budget(2, &WEB, flaps).0, FindingResult::Noted);
    // It wants more than it had.
    assert_eq!(of_budget(3, &WEB, as_it_is).0, FindingResult::Noted);
}

#[test]
fn a_pod_that_runs_and_is_not_ready_does_not_count_for_a_budget() {
    let unready = |run: &mut Run| run.rewrite_pod("web-3", &[("Running/NotReady", 39.5, END)]);
    let crossed = "crossed: 1 pod left at one time, 2 wanted".to_owned();
    assert_eq!(of_budget(2, &WEB, unready), (FindingResult::Degraded, crossed));
    // Nobody looked whether it is.
    let unseen = |run: &mut Run| {
        run.rewrite_pod("web-2", &[("Running/Ready", START, CUT - 20.0), ("Running/Ready", CUT + 40.0, END)]);
    };
    let open = "1 to 2 pods left at one time, by what is known, 2 wanted".to_owned();
    assert_eq!(of_budget(2, &WEB, unseen), (FindingResult::Inconclusive, open));
    // For the API no pod of a lost node is ready.
    let lost = |run: &mut Run| {
        let ready = "Running/Ready";
        let history = [(ready, START, 22.0), ("Running/NotReady", 22.5, CUT + 12.0), (ready, CUT + 12.5, END)];
        run.rewrite_pod("dns-1", &history);
    };
    assert_eq!(of_budget(1, &["dns-5bc6f7d8f4-ccccc"], lost).0, FindingResult::Held);
}

#[test]
fn a_budget_is_open_where_nobody_watched_after_the_heal() {
    let unwatched = |run: &mut Run| run.schedule.observed_until = Some(moment(0.0, CUT - 1.0).wall);
    assert_eq!(of_budget(2, &WEB, unwatched).0, FindingResult::Inconclusive);
}

/// web's pod on the other side is deleted, and gone before the cut.
fn over_before_the_cut(run: &mut Run) {
    run.rewrite_pod("web-2", &[("Running/Ready", START, -21.0), ("Running/Terminating", -20.0, -12.0)]);
    run.rewrite_containers("w2", "web-2", &[("exited", -600.0, -12.0)]);
}

#[test]
fn a_budget_with_a_pod_that_was_over_before_the_cut_is_asked_about_all_the_same() {
    let (result, observed) = of_budget(2, &WEB, over_before_the_cut);
    assert_eq!(result, FindingResult::Inconclusive);
    let crossed = "crossed: 1 pod left at one time, 2 wanted";
    let why = "but default/web-7d4b9c6f58-bbbbb was over before the cut, so nothing is predicted";
    assert_eq!(observed, format!("{crossed}, {why}"));
    // Another one is in its place, and counts.
    let replaced = |run: &mut Run| {
        over_before_the_cut(run);
        let (name, owner) = ("default/web-7d4b9c6f58-zzzzz", "ReplicaSet/web-7d4b9c6f58");
        run.operator_status().spans.push(pod(name, "web-8", "w2", owner, "Running/Ready", -11.0, END));
        let container = container(&format!("{name}/app"), "web-8", "running", -11.0, END);
        run.status("w2").spans.push(container);
    };
    let held = "2 pods left at the least, 2 wanted".to_owned();
    assert_eq!(of_budget(2, &WEB, replaced), (FindingResult::Held, held));
}

#[test]
fn a_budget_whose_pods_nobody_saw_run_is_open() {
    let unread = |run: &mut Run| run.status("w3").reads_containers = false;
    assert_eq!(of_budget(2, &WEB, unread).0, FindingResult::Inconclusive);
    // By the API a copy runs.
    let unseen = |run: &mut Run| {
        let spans = &mut run.status("w3").spans;
        spans.retain(|s| s.uid.as_deref() != Some("web-3"));
        spans.push(container("kube-system/kube-proxy-x/kube-proxy", "kp", "running", -900.0, END));
    };
    assert_eq!(of_budget(2, &WEB, unseen).0, FindingResult::Inconclusive);
    let unnamed = |run: &mut Run| run.snapshot.pods.iter_mut().for_each(|p| p.containers.clear());
    assert_eq!(of_budget(2, &WEB, unnamed).0, FindingResult::Inconclusive);
    // After a rolling update another ReplicaSet has its pods.
    let rolled = |run: &mut Run| {
        copy_ends(run);
        let (name, owner) = ("default/web-5c8d7f9b6-zzzzz", "ReplicaSet/web-5c8d7f9b6");
        let new = pod(name, "web-9", "w3", owner, "Running/Ready", CUT + 20.0, END);
        run.operator_status().spans.push(new);
    };
    let (result, observed) = of_budget(2, &WEB, rolled);
    assert_eq!(result, FindingResult::Inconclusive);
    assert!(observed.ends_with(", unless default/web-5c8d7f9b6-zzzzz counts"), "{observed}");
}

#[test]
fn every_step_of_the_recovery_has_its_time() {
    let found = of(&passing(), Check::Recovery, "milestones");
    assert_eq!(found.result, FindingResult::Held);
    let steps = "network 0.5 s, etcd 4 s, API servers 0.5 s, Leases 0 s, nodes 5.5 s, taints 6.5 s, pods 10 s";
    assert_eq!(found.observed, format!("{steps} after the heal"), "{found:?}");
}

#[test]
fn a_step_that_takes_longer_than_usual_is_told() {
    let mut run = passing();
    let history = [("ok", START, 0.9), ("failing", 1.9, CUT + 39.0), ("ok", CUT + 40.0, END)];
    run.rewrite("cp1", SpanKind::Health, "etcd", &history);
    assert_eq!(of(&run, Check::Recovery, "milestones").result, FindingResult::Held, "its streams had to wait for TCP");
    run.fault.pattern.effect = Effect::Reject;
    let found = of(&run, Check::Recovery, "milestones");
    assert_eq!((found.result, run.judge().verdict), (FindingResult::Noted, Verdict::Pass), "{found:?}");
    assert!(found.observed.contains("etcd 40 s, 10 s is usual, API servers 0.5 s"), "{found:?}");
    assert!(found.evidence.contains("health etcd ok"), "{found:?}");
}

#[test]
fn a_step_that_is_never_seen_is_no_recovery() {
    let failing = [("ok", START, 0.9), ("failing", 1.9, END)];
    let never = |run: &mut Run| {
        run.fault.pattern.effect = Effect::Reject;
        run.rewrite("cp1", SpanKind::Health, "etcd", &failing);
    };
    expect(never, Verdict::Fail, &[(Check::Recovery, "milestones", FindingResult::Violated)]);
    // Kubelets and taints may come back after an API server's back-off, which is longer than anybody watched.
    assert!(passing().forecast().recovery.window.latest_seconds > END - CUT);
    let tainted = [("none", START, 33.5), ("node.kubernetes.io/unreachable", 34.0, END)];
    expect(
        |run| run.rewrite_operator(SpanKind::Taint, "w1", &tainted),
        Verdict::Inconclusive,
        &[(Check::Recovery, "milestones", FindingResult::Inconclusive)],
    );
    // Nobody looked.
    expect(
        |run| run.rewrite("cp1", SpanKind::Health, "etcd", &failing_until_the_heal()),
        Verdict::Inconclusive,
        &[(Check::Recovery, "milestones", FindingResult::Inconclusive)],
    );
}

fn failing_until_the_heal() -> [(&'static str, f64, f64); 2] {
    [("ok", START, 0.9), ("failing", 1.9, CUT - 0.5)]
}

#[test]
fn that_nothing_ended_is_open_where_nobody_watched_or_no_container_was_seen() {
    let mut run = passing();
    run.schedule.observed_until = Some(moment(0.0, CUT - 1.0).wall);
    let found = of(&run, Check::HealDamage, CUT_SIDE);
    assert_eq!(found.result, FindingResult::Inconclusive, "{found:?}");
    assert_eq!(found.evidence, "nobody watched after the heal");
    let mut run = passing();
    run.status("w1").spans.retain(|s| s.uid.as_deref() != Some("dns-1"));
    let found = of(&run, Check::HealDamage, CUT_SIDE);
    assert_eq!(found.result, FindingResult::Inconclusive, "{found:?}");
    assert_eq!(found.evidence, "w1: no container of default/dns-5bc6f7d8f4-ccccc was seen at the cut");
}
