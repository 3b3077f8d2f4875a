//! When the second copy of what is replaced at once starts. That of web is certain, and predicted from 21 s to 69.4 s.

use super::{
    fixture::{CUT, END, Run, START, container, moment, passing},
    mutations::expect,
};
use crate::api::{Check, Finding, FindingResult, Span, SpanKind, Verdict};

const WEB: &str = "default/web (Deployment)";
const NOTED: FindingResult = FindingResult::Noted;
const DEGRADED: FindingResult = FindingResult::Degraded;
const UNKNOWN: FindingResult = FindingResult::Inconclusive;

/// web's second copy is made at the first of these moments, and its container starts at the second, seconds after the cut.
fn copied(run: &mut Run, made: f64, at: f64) {
    run.rewrite_pod("web-3", &[("Pending/NotReady", made, at), ("Running/Ready", at + 0.5, END)]);
    run.rewrite_containers("w3", "web-3", &[("running", at, END)]);
}

/// Its first pod is deleted then, seconds after the cut.
fn deleted(run: &mut Run, at: f64) {
    let end = at.max(CUT) + 9.0;
    run.rewrite_pod("web-1", &[("Running/Ready", START, at - 0.5), ("Running/Terminating", at, end)]);
    run.rewrite_containers("w1", "web-1", &[("exited", -600.0, end)]);
}

/// While its second copy is Pending it has no node.
fn unplaced(run: &mut Run) {
    let is_pending = |s: &Span| s.uid.as_deref() == Some("web-3") && s.state.starts_with("Pending/");
    run.operator_status().spans.iter_mut().filter(|s| is_pending(s)).for_each(|s| s.node = None);
}

fn of(run: &Run, subject: &str) -> Finding {
    let findings = run.judge().findings;
    let found = findings.iter().find(|f| f.check == Check::WorkloadDoubled && f.subject == subject);
    found.cloned().unwrap_or_else(|| panic!("nothing of {subject} in {findings:#?}"))
}

#[test]
fn a_second_copy_that_starts_too_late() {
    let amiss = [(Check::WorkloadDoubled, WEB, DEGRADED)];
    // 5 s and the clocks' 0.5 s are let pass.
    for at in [45.0, 74.0] {
        expect(|run| copied(run, 39.5, at), Verdict::Pass, &[]);
    }
    for at in [76.0, 129.4] {
        expect(|run| copied(run, 39.5, at), Verdict::Degraded, &amiss);
    }
    let mut run = passing();
    copied(&mut run, 39.5, 129.4);
    let found = of(&run, WEB);
    let told = "a second copy ran, and at no time more than were planned with";
    assert_eq!(found.observed, format!("starts 129.4 s after the cut, later than 21–69.4 s; {told}"));
    assert!(found.evidence.starts_with("w3: container default/web-7d4b9c6f58-ddddd/app running "), "{found:?}");
    let tolerance = found.tolerance.unwrap_or_default();
    assert!(tolerance.starts_with("± 5 s and 0.5 s of clocks of when it starts; "), "{tolerance}");
}

#[test]
fn a_second_copy_that_may_have_started_sooner_accuses_nobody() {
    let mut run = passing();
    copied(&mut run, 39.5, 129.4);
    // By clocks that are compared as badly as this it may have started after 29.4 s.
    let clock = run.status("w3").clock.as_mut().expect("a clock");
    clock.anchors.iter_mut().for_each(|anchor| anchor.error_us = 100_000_000);
    let found = of(&run, WEB);
    assert_eq!(found.result, NOTED, "{found:?}");
    assert!(found.observed.ends_with(", by what is known"), "{found:?}");
    run.status("w3").clock = None;
    assert_eq!(of(&run, WEB).result, UNKNOWN, "its clock was never compared");
    // The API had it running, and nobody saw the container with which it began.
    let mut run = passing();
    run.rewrite_containers("w3", "web-3", &[("running", 129.4, END)]);
    let found = of(&run, WEB);
    assert!(found.result <= NOTED && !found.observed.contains("later than"), "{found:?}");
}

#[test]
fn a_second_copy_that_may_have_started_while_nobody_looked_at_pods_is_open() {
    let mut run = passing();
    copied(&mut run, 39.5, 129.4);
    let (gone, back) = (moment(0.0, 45.0), moment(0.0, 65.0));
    let is_over = |s: &Span| s.from.boot_us < gone.boot_us && s.to.boot_us > back.boot_us;
    let is_listed = |s: &Span| matches!(s.kind, SpanKind::Node | SpanKind::Pod) && is_over(s);
    let spans = &mut run.operator_status().spans;
    let after: Vec<Span> = spans.iter().filter(|s| is_listed(s)).cloned().collect();
    spans.iter_mut().filter(|s| is_listed(s)).for_each(|s| s.to = gone.clone());
    spans.extend(after.into_iter().map(|s| Span { from: back.clone(), ..s }));
    let found = of(&run, WEB);
    assert_eq!(found.result, UNKNOWN, "{found:?}");
    assert_eq!(found.evidence, "operator: pods were not looked at all the time until a second copy started");
}

#[test]
fn a_second_copy_that_is_late_for_a_reason_that_is_told() {
    let late = |change: fn(&mut Run)| {
        let mut run = passing();
        change(&mut run);
        let found = of(&run, WEB);
        assert!(found.observed.contains(" after the cut, later than 21–69.4 s"), "{found:?}");
        (found.result, found.observed)
    };
    // WorkloadEvicted accuses of that.
    let (result, observed) = late(|run| {
        deleted(run, 120.0);
        copied(run, 120.5, 122.0);
    });
    let why = ", but the first of its pods was deleted 45 s after the heal: the API server that its kubelet asks ";
    assert!(result == NOTED && observed.contains(why), "{observed}");
    let (result, observed) = late(|run| {
        copied(run, 39.5, 129.4);
        unplaced(run);
    });
    let why = ", but no node was found for it until 54.9 s after the heal";
    assert!(result == NOTED && observed.contains(why), "{observed}");
    // It was made too late, and waited for a node for no longer than it may take to start.
    let (result, observed) = late(|run| {
        copied(run, 120.0, 129.4);
        unplaced(run);
    });
    assert!(result == DEGRADED && !observed.contains(", but "), "{observed}");
    let (result, observed) = late(|run| {
        copied(run, 39.5, 129.4);
        run.plan.pattern.flap = Some((30.0, 10.0));
    });
    assert!(result == NOTED && observed.contains("for a cut that is not steady"), "{observed}");
}

#[test]
fn what_makes_a_second_copy_may_wait_for_the_first_one_to_end() {
    let job = |made: f64, at: f64| {
        let mut run = passing();
        run.snapshot.pods.iter_mut().filter(|p| p.uid.starts_with("web-")).for_each(|p| {
            (p.owner_kind, p.owner_name) = (Some("Job".into()), Some("web".into()));
        });
        let is_of_web = |s: &&mut Span| s.uid.as_deref().is_some_and(|uid| uid.starts_with("web-"));
        let pods = run.operator_status().spans.iter_mut().filter(|s| s.kind == SpanKind::Pod);
        pods.filter(is_of_web).for_each(|s| s.detail = Some("Job/web".into()));
        copied(&mut run, made, at);
        let found = of(&run, "default/web (Job)");
        (found.result, found.observed)
    };
    let (result, observed) = job(90.0, 92.0);
    let why = ", but its Job may wait until the first one has ended";
    assert!(result == NOTED && observed.contains(why), "{observed}");
    // Made in the cut, it did not wait.
    assert_eq!(job(60.0, 92.0).0, DEGRADED);
}

#[test]
fn a_second_copy_that_starts_too_early_is_told() {
    let mut run = passing();
    deleted(&mut run, 5.0);
    copied(&mut run, 5.5, 7.0);
    let found = of(&run, WEB);
    // WorkloadEvicted accuses of that.
    assert_eq!(found.result, NOTED, "{found:?}");
    let told = "starts 7 s after the cut, earlier than 21–69.4 s; ran twice for ";
    assert!(found.observed.starts_with(told), "{found:?}");
}

#[test]
fn a_second_copy_that_never_starts_says_why() {
    let mut run = passing();
    run.rewrite_pod("web-3", &[("Pending/NotReady", 39.5, END)]);
    let spans = &mut run.status("w3").spans;
    spans.retain(|s| s.uid.as_deref() != Some("web-3"));
    // Its runtime is read all the same.
    spans.push(container("kube-system/kube-proxy-x/kube-proxy", "kp", "running", -900.0, END));
    let told = "a second copy was made and did not run: it was Pending until the end";
    let found = of(&run, WEB);
    assert_eq!((found.result, found.observed.as_str()), (NOTED, told));
    unplaced(&mut run);
    assert_eq!(of(&run, WEB).observed, format!("{told}, and had no node"));
    run.rewrite_pod("web-3", &[("Pending/NotReady", 39.5, 60.0)]);
    assert_eq!(of(&run, WEB).observed, "a second copy was made and did not run", "it was deleted again");
}
