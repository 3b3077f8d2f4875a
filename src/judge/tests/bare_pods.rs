//! A pod that nobody has made, and that nobody makes again.

use super::{
    fixture::{CUT, END, Run, START, passing},
    mutations::expect,
};
use crate::{
    api::{Check, FindingResult, Verdict},
    fault::Effect,
};

const BARE: &str = "default/db-0 (Pod)";

/// The passing run with a bare pod in place of the StatefulSet's.
fn with_a_bare_pod(run: &mut Run) {
    let pod = run.snapshot.pods.iter_mut().find(|p| p.uid == "db-1").expect("a pod of the fixture");
    (pod.owner_kind, pod.owner_name) = (None, None);
    run.status("w1").spans.retain(|s| s.uid.as_deref() != Some("db-2"));
    let seen = &mut run.operator_status().spans;
    seen.retain(|s| s.uid.as_deref() != Some("db-2"));
    seen.iter_mut().filter(|s| s.uid.as_deref() == Some("db-1")).for_each(|s| s.detail = None);
}

#[test]
fn a_bare_pod_that_is_evicted_is_gone_for_good() {
    expect(with_a_bare_pod, Verdict::Pass, &[]);
    let mut run = passing();
    with_a_bare_pod(&mut run);
    let findings = run.judge().findings;
    let of = |check: Check| findings.iter().find(|f| f.check == check && f.subject == BARE);
    let stuck = of(Check::WorkloadStuck).expect("a finding");
    assert!(stuck.predicted.ends_with("and for good: nobody makes another one"), "{stuck:?}");
    assert_eq!(stuck.observed, "Terminating from 39 s after the cut to 9 s after the heal");
    assert_eq!(of(Check::WorkloadEvicted).map(|f| f.result), Some(FindingResult::Held));
    assert!(of(Check::WorkloadDoubled).is_none(), "there is no second copy to speak of");
}

#[test]
fn a_bare_pod_that_never_ends() {
    let stuck = |run: &mut Run| {
        with_a_bare_pod(run);
        run.fault.pattern.effect = Effect::Reject;
        run.rewrite_pod("db-1", &[("Running/Ready", START, 38.5), ("Running/Terminating", 39.0, END)]);
    };
    expect(stuck, Verdict::Fail, &[(Check::WorkloadStuck, BARE, FindingResult::Violated)]);
}

#[test]
fn a_bare_pod_that_is_not_deleted_has_to_be_ready_again() {
    let milestones = |ready: Option<f64>| {
        let mut run = passing();
        with_a_bare_pod(&mut run);
        let mut history = vec![("Running/Ready", START, 22.0), ("Running/NotReady", 22.5, ready.unwrap_or(END))];
        history.extend(ready.map(|at| ("Running/Ready", at + 0.5, END)));
        run.rewrite_pod("db-1", &history);
        let findings = run.judge().findings;
        findings.into_iter().find(|f| f.check == Check::Recovery && f.subject == "milestones").expect("a finding")
    };
    let again = milestones(Some(CUT + 30.0));
    assert!(again.observed.contains("pods 30.5 s"), "{again:?}");
    // It has more time than anybody watched.
    let never = milestones(None);
    assert_eq!(never.result, FindingResult::Inconclusive);
    assert!(never.observed.contains("pods not by the end of watching"), "{never:?}");
}
