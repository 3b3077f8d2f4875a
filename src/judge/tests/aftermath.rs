//! What the heal does: to workloads, and step by step to the cluster.

use super::{
    fixture::{CUT, END, Run, START, passing},
    mutations::expect,
};
use crate::{
    api::{Check, Finding, FindingResult, SpanKind, Verdict},
    topology::Pod,
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
    let ended = |at: f64, restart_always: bool| {
        let mut run = passing();
        let pod = run.snapshot.pods.iter_mut().find(|p| p.uid == "dns-1").unwrap();
        pod.restart_always = restart_always;
        run.rewrite_containers("w1", "dns-1", &[("exited", -600.0, at)]);
        run.rewrite_pod("dns-1", &[("Running/Ready", START, at), ("Succeeded/NotReady", at + 1.0, END)]);
        run
    };
    let result = |run: &Run, check, subject| of(run, check, subject).result;
    assert_eq!(result(&ended(CUT + 30.0, true), Check::HealDamage, CUT_SIDE), FindingResult::Violated);
    assert_eq!(result(&ended(CUT + 30.0, false), Check::HealDamage, CUT_SIDE), FindingResult::Held);
    assert_eq!(result(&ended(40.0, true), Check::WorkloadKept, DNS), FindingResult::Violated);
    let found = of(&ended(40.0, false), Check::WorkloadKept, DNS);
    assert_eq!(found.result, FindingResult::Noted, "{found:?}");
    assert!(found.observed.ends_with("may have finished by itself: its pods are not restarted"), "{found:?}");
    // A snapshot that does not say means what it always did.
    assert!(serde_json::from_str::<Pod>("{}").unwrap().restart_always);
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
fn while_nobody_looks_nothing_is_lost() {
    let hole = |run: &mut Run| {
        dns_ends(run, CUT + 20.0, None);
        // The API does not answer for ten seconds: neither nodes nor pods are seen.
        for span in &mut run.operator_status().spans {
            let is_listed = matches!(span.kind, SpanKind::Node | SpanKind::Pod);
            if is_listed && span.to.wall.0 > super::fixture::moment(0.0, CUT + 20.0).wall.0 {
                span.to = super::fixture::moment(0.0, CUT + 20.0);
            }
        }
    };
    let mut run = passing();
    hole(&mut run);
    assert_eq!(of(&run, Check::HealDamage, CUT_SIDE).result, FindingResult::Noted);
}

#[test]
fn every_step_of_the_recovery_has_its_time() {
    let found = of(&passing(), Check::Recovery, "milestones");
    assert_eq!(found.result, FindingResult::Held);
    assert_eq!(
        found.observed, "network 0.5 s, etcd 4 s, API servers 0.5 s, nodes 5.5 s, taints 6.5 s after the heal",
        "{found:?}"
    );
}

#[test]
fn a_step_that_takes_longer_than_usual_is_told() {
    let mut run = passing();
    let history = [("ok", START, 0.9), ("failing", 1.9, CUT + 39.0), ("ok", CUT + 40.0, END)];
    run.rewrite("cp1", SpanKind::Health, "etcd", &history);
    let found = of(&run, Check::Recovery, "milestones");
    assert_eq!((found.result, run.judge().verdict), (FindingResult::Noted, Verdict::Pass), "{found:?}");
    assert!(found.observed.contains("etcd 40 s, 10 s is usual, API servers 0.5 s"), "{found:?}");
    assert!(found.evidence.contains("health etcd ok"), "{found:?}");
}

#[test]
fn a_step_that_is_never_seen_is_no_recovery() {
    let failing = [("ok", START, 0.9), ("failing", 1.9, END)];
    expect(
        |run| run.rewrite("cp1", SpanKind::Health, "etcd", &failing),
        Verdict::Fail,
        &[(Check::Recovery, "milestones", FindingResult::Violated)],
    );
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
