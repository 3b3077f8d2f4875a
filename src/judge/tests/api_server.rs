//! API servers without etcd: what they say of themselves, and whether they are started anew.

use super::{
    fixture::{CUT, END, Run, START, container, moment, passing, span},
    mutations::expect,
};
use crate::{
    api::{Check, FindingResult, Span, SpanKind, Verdict},
    topology::Timer,
};

const API_SERVER: &str = "kube-apiserver";

/// What the agent of the passing run on this node saw of its API server.
pub fn spans(node: &str) -> Vec<Span> {
    let seen = |state, from, to| span(0.2, SpanKind::Health, API_SERVER, state, from, to);
    match node {
        "cp1" => vec![seen("ok", START, 0.8), seen("failing", 2.9, CUT + 2.0), seen("ok", CUT + 3.0, END)],
        _ => Vec::new(),
    }
}

fn amiss(result: FindingResult) -> [(Check, &'static str, FindingResult); 1] {
    [(Check::ApiServerReady, "cp1", result)]
}

fn history(run: &mut Run, history: &[(&str, f64, f64)]) {
    run.rewrite("cp1", SpanKind::Health, API_SERVER, history);
}

#[test]
fn one_that_stays_ready_without_etcd() {
    expect(|run| history(run, &[("ok", START, END)]), Verdict::Degraded, &amiss(FindingResult::Degraded));
    // Predicted within 6 s; 5 s more are no news.
    let until = |last: f64| [("ok", START, last), ("failing", last + 1.0, CUT + 2.0), ("ok", CUT + 3.0, END)];
    expect(|run| history(run, &until(10.0)), Verdict::Pass, &[]);
    expect(|run| history(run, &until(14.0)), Verdict::Degraded, &amiss(FindingResult::Degraded));
}

#[test]
fn one_that_is_ready_again_before_the_heal() {
    let again =
        [("ok", START, 0.8), ("failing", 2.9, 30.0), ("ok", 31.0, 40.0), ("failing", 41.0, 76.0), ("ok", 77.0, END)];
    expect(|run| history(run, &again), Verdict::Degraded, &amiss(FindingResult::Degraded));
}

#[test]
fn one_that_was_not_looked_at() {
    let unknown = amiss(FindingResult::Inconclusive);
    expect(|run| history(run, &[]), Verdict::Inconclusive, &unknown);
    expect(|run| history(run, &[("ok", START, 0.8), ("failing", 40.0, END)]), Verdict::Inconclusive, &unknown);
    expect(|run| history(run, &[("down", START, 0.8), ("failing", 2.9, END)]), Verdict::Inconclusive, &unknown);
}

#[test]
fn a_container_that_ends_before_its_probe_can_have_failed() {
    let ended = |at: f64| {
        move |run: &mut Run| {
            let subject = "kube-system/kube-apiserver-cp1/kube-apiserver";
            run.status("cp1").spans.push(container(subject, "api", "exited", -900.0, at));
        }
    };
    // Eight failures ten seconds apart take 70 s at least.
    expect(ended(74.0), Verdict::Pass, &[]);
    expect(ended(30.0), Verdict::Degraded, &amiss(FindingResult::Degraded));
}

#[test]
fn a_container_whose_end_was_not_seen_ended_later_than_it_was_seen() {
    let judged = |period: f64, history: &[(&str, f64, f64)]| {
        let mut run = passing();
        run.snapshot.timers.liveness_period = Some(Timer::read(period, "livenessProbe"));
        let subject = "kube-system/kube-apiserver-cp1/kube-apiserver";
        let spans = history.iter().map(|(state, from, to)| container(subject, "api", state, *from, *to));
        run.status("cp1").spans.extend(spans);
        let findings = run.judge().findings;
        let found = findings.into_iter().find(|f| f.check == Check::ApiServerReady).unwrap();
        (found.result, found.observed)
    };
    // Eight failures ten seconds apart take 70 s at least: it may have gone on until then.
    let gone = |next: f64| [("gone", -900.0, 30.0), ("running", next, END)];
    let (result, observed) = judged(10.0, &gone(74.0));
    assert_eq!(result, FindingResult::Noted, "{observed}");
    assert!(observed.contains("its container ended, last seen 30 s after the cut, perhaps outside of "), "{observed}");
    // The next one began too early.
    assert_eq!(judged(10.0, &gone(40.0)).0, FindingResult::Degraded);
    // Where it must not be started anew: nobody knows whether it ended before the heal.
    let (result, observed) = judged(30.0, &gone(CUT + 20.0));
    assert_eq!(result, FindingResult::Inconclusive, "{observed}");
    assert!(observed.ends_with("whether it was started anew is not known"), "{observed}");
    assert_eq!(judged(30.0, &gone(74.0)).0, FindingResult::Degraded);
    // Nor whether one that ended with the heal did by the operator's clock, or one before the cut.
    for ended in [CUT - 0.001, 0.001] {
        let (result, observed) = judged(30.0, &[("exited", -900.0, ended), ("running", CUT + 20.0, END)]);
        assert_eq!(result, FindingResult::Inconclusive, "{ended}: {observed}");
    }
    assert_eq!(judged(30.0, &[("exited", -900.0, -1.0)]).0, FindingResult::Held);
}

#[test]
fn a_restart_that_must_be_is_looked_for() {
    let probed = |run: &mut Run| {
        let timers = &mut run.snapshot.timers;
        timers.liveness_period = Some(Timer::read(2.0, "livenessProbe"));
        timers.liveness_failures = Some(Timer::read(3.0, "livenessProbe"));
    };
    expect(probed, Verdict::Degraded, &amiss(FindingResult::Degraded));
    let mut run = passing();
    probed(&mut run);
    run.status("cp1").reads_containers = false;
    let findings = run.judge().findings;
    let found = findings.iter().find(|f| f.check == Check::ApiServerReady).unwrap();
    assert_eq!(found.result, FindingResult::Inconclusive, "{found:?}");
}

#[test]
fn whether_one_that_must_not_be_started_anew_was_is_looked_for() {
    let mut run = passing();
    // Eight failures thirty seconds apart take longer than the cut.
    run.snapshot.timers.liveness_period = Some(Timer::read(30.0, "livenessProbe"));
    let of = |run: &Run| {
        let findings = run.judge().findings;
        findings.into_iter().find(|f| f.check == Check::ApiServerReady).unwrap()
    };
    let found = of(&run);
    assert!(found.predicted.ends_with("; not started anew"), "{found:?}");
    assert_eq!(found.result, FindingResult::Held, "{found:?}");
    // Its runtime answered no more when it may still have been.
    let running = |s: &&mut Span| s.kind == SpanKind::Container && s.state == "running";
    run.status("cp1").spans.iter_mut().filter(running).for_each(|s| s.to = moment(0.2, 30.0));
    let found = of(&run);
    assert_eq!(found.result, FindingResult::Inconclusive, "{found:?}");
    assert_eq!(found.evidence, "cp1: its containers were last looked at 30 s after the cut");
    run.status("cp1").reads_containers = false;
    let found = of(&run);
    assert_eq!(found.result, FindingResult::Inconclusive, "{found:?}");
    assert!(found.observed.ends_with("whether it was started anew is not known"), "{found:?}");
    assert_eq!(found.evidence, "cp1: the container runtime is not read");
}
