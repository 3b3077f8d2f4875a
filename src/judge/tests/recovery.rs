//! Whether the cluster is whole again, stays so, and was looked at.

use super::{
    fixture::{CUT, END, Run, START, passing},
    mutations::expect,
};
use crate::{
    api::{Check, Finding, FindingResult, SpanKind, Verdict},
    fault::Effect,
};

const OPEN: [(Check, &str, FindingResult); 1] = [(Check::Recovery, "cluster", FindingResult::Inconclusive)];

/// What the operator saw from the cut on.
fn cluster(run: &mut Run, history: &[(&str, f64, f64)]) {
    run.rewrite_operator(SpanKind::Convergence, "cluster", &[&[("ok", START, 0.5)][..], history].concat());
}

fn found(history: &[(&str, f64, f64)]) -> Finding {
    let mut run = passing();
    cluster(&mut run, history);
    let findings = run.judge().findings;
    findings.into_iter().find(|f| f.check == Check::Recovery && f.subject == "cluster").expect("a finding")
}

fn within(run: &mut Run, limit: &str) {
    run.spec.expect.recovered_within = Some(limit.parse().unwrap());
}

#[test]
fn a_cluster_that_is_whole_only_for_a_moment_is_not_known_to_stay_so() {
    let whole_for = |seconds: f64| [("waiting", 1.5, END - seconds - 1.0), ("ok", END - seconds, END)];
    expect(|run| cluster(run, &whole_for(1.0)), Verdict::Inconclusive, &OPEN);
    expect(|run| cluster(run, &whole_for(20.0)), Verdict::Inconclusive, &OPEN);
    expect(|run| cluster(run, &whole_for(31.0)), Verdict::Pass, &[]);
    let short = found(&whole_for(20.0));
    assert!(short.observed.ends_with("; whole for 20 s until the end of watching, 30 s would tell"), "{short:?}");
    // What came too late did so, however long it lasts.
    let late = |run: &mut Run| {
        cluster(run, &whole_for(20.0));
        within(run, "60s");
    };
    expect(late, Verdict::Fail, &[(Check::Recovery, "cluster", FindingResult::Violated)]);
    // Nobody looked for long.
    let hole = [("waiting", 1.5, 95.0), ("ok", 96.0, END - 40.0), ("ok", END - 10.0, END)];
    expect(|run| cluster(run, &hole), Verdict::Inconclusive, &OPEN);
    expect(|run| cluster(run, &[("ok", 1.0, END)]), Verdict::Pass, &[]);
}

#[test]
fn a_cluster_that_was_not_looked_at_until_the_end_is_not_accused() {
    let once = |run: &mut Run| {
        cluster(run, &[("waiting", 1.5, CUT + 5.0)]);
        within(run, "60s");
    };
    expect(once, Verdict::Inconclusive, &OPEN);
    // It was not well when it had to be.
    let late = |run: &mut Run| {
        cluster(run, &[("waiting", 1.5, CUT + 80.0)]);
        within(run, "60s");
    };
    expect(late, Verdict::Fail, &[(Check::Recovery, "cluster", FindingResult::Violated)]);
}

#[test]
fn a_look_that_was_not_answered_says_nothing_of_the_cluster() {
    let at_the_end = [("waiting", 1.5, 95.0), ("ok", 96.0, END - 5.0), ("unread", END - 4.0, END)];
    let strict = |run: &mut Run| {
        cluster(run, &at_the_end);
        within(run, "60s");
    };
    expect(strict, Verdict::Inconclusive, &OPEN);
    expect(|run| cluster(run, &[("unread", 1.5, END)]), Verdict::Inconclusive, &OPEN);
    // In between it is no relapse.
    let between = found(&[("waiting", 1.5, 95.0), ("ok", 96.0, 120.0), ("unread", 121.0, 125.0), ("ok", 126.0, END)]);
    assert_eq!((between.result, between.observed.as_str()), (FindingResult::Held, "recovered 20 s after the heal"));
}

#[test]
fn a_relapse_is_noted() {
    let again = found(&[("waiting", 1.5, 95.0), ("ok", 96.0, 110.0), ("waiting", 111.0, 120.0), ("ok", 121.0, END)]);
    assert_eq!(again.result, FindingResult::Noted, "{again:?}");
    assert_eq!(again.observed, "recovered 45 s after the heal, not at the first go");
}

#[test]
fn a_step_at_which_nobody_looked_any_more_is_not_accused() {
    let never = |run: &mut Run| {
        // Then nobody's streams have to wait for TCP.
        run.fault.pattern.effect = Effect::Reject;
        run.rewrite("cp1", SpanKind::Health, "etcd", &[("ok", START, 0.9), ("failing", 1.9, CUT + 20.0)]);
    };
    expect(never, Verdict::Inconclusive, &[(Check::Recovery, "milestones", FindingResult::Inconclusive)]);
}
