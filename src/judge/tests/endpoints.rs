//! Pods that leave the EndpointSlices of their Services, API servers that leave the Service `kubernetes`, and both coming back.

use super::{
    fixture::{CUT, END, Run, START, moment, passing, span},
    mutations::expect,
};
use crate::{
    api::{Check, FindingResult, Span, SpanKind, Verdict},
    fault::Effect,
    topology::Pod,
};

pub const WEB: &str = "default/web-7d4b9c6f58-aaaaa";
const DB: &str = "default/db-0";
const DNS: &str = "default/dns-5bc6f7d8f4-ccccc";
const SERVER: &str = "default/kubernetes/cp1";
const PODS: &str = "isolated: 3 ready pods";
const DEGRADED: FindingResult = FindingResult::Degraded;
const UNKNOWN: FindingResult = FindingResult::Inconclusive;

/// What the operator of the passing run saw: two evicted pods, one that stays, and the API server without etcd.
pub fn spans() -> Vec<Span> {
    let of = |subject: &str, history: &[(&str, f64, f64)]| -> Vec<Span> {
        let seen = |(state, from, to): &(&str, f64, f64)| span(0.0, SpanKind::Endpoint, subject, state, *from, *to);
        history.iter().map(seen).collect()
    };
    let evicted = [("ready", START, 22.7), ("unready", 23.2, CUT + 9.0), ("none", CUT + 9.5, END)];
    let pods = [of(WEB, &evicted), of(DB, &evicted), of(DNS, &away(23.2, CUT + 12.5))];
    let server = of(SERVER, &[("ready", START, 17.5), ("none", 18.0, CUT + 8.0), ("ready", CUT + 8.5, END)]);
    pods.into_iter().flatten().chain(server).collect()
}

/// A pod that is unready from and to.
fn away(from: f64, to: f64) -> [(&'static str, f64, f64); 3] {
    [("ready", START, from - 0.5), ("unready", from, to - 0.5), ("ready", to, END)]
}

fn amiss(result: FindingResult) -> [(Check, &'static str, FindingResult); 1] {
    [(Check::EndpointsRemoved, PODS, result)]
}

fn history(run: &mut Run, subject: &str, history: &[(&str, f64, f64)]) {
    run.rewrite_operator(SpanKind::Endpoint, subject, history);
}

fn found(run: &Run, subject: &str) -> Option<(FindingResult, String)> {
    let findings = run.judge().findings;
    let found = findings.into_iter().find(|f| f.check == Check::EndpointsRemoved && f.subject == subject);
    found.map(|f| (f.result, f.observed))
}

#[test]
fn what_is_told_of_a_run_that_passes() {
    let run = passing();
    let (result, observed) = found(&run, PODS).unwrap();
    assert_eq!(result, FindingResult::Held);
    assert!(observed.starts_with("web-7d4b9c6f58-aaaaa left 23.2 s after the cut, "), "{observed}");
    assert!(observed.ends_with("left 23.2 s after the cut and was back 12.5 s after the heal"), "{observed}");
    let server = "cp1 left 18 s after the cut and was back 8.5 s after the heal".to_owned();
    assert_eq!(found(&run, SERVER), Some((FindingResult::Held, server)));
}

#[test]
fn a_pod_that_leaves_too_early_too_late_or_not_at_all() {
    // Predicted from 16 s to 42.4 s; 5 s and the clocks' 0.5 s more are let pass.
    for (at, is_amiss) in [(9.0, true), (11.0, false), (47.0, false), (50.0, true)] {
        let verdict = if is_amiss { Verdict::Degraded } else { Verdict::Pass };
        let amiss = &amiss(DEGRADED)[..usize::from(is_amiss)];
        expect(|run| history(run, DNS, &away(at, CUT + 12.5)), verdict, amiss);
    }
    expect(|run| history(run, DNS, &[("ready", START, END)]), Verdict::Degraded, &amiss(DEGRADED));
    // One of its Services still has it.
    let partly = [("ready", START, 22.7), ("partly", 23.2, CUT + 12.0), ("ready", CUT + 12.5, END)];
    expect(|run| history(run, DNS, &partly), Verdict::Degraded, &amiss(DEGRADED));
}

#[test]
fn a_pod_that_leaves_early_because_somebody_deleted_it_is_told() {
    let mut run = passing();
    run.rewrite_pod("dns-1", &[("Running/Ready", START, 4.5), ("Running/Terminating", 5.0, CUT + 9.0)]);
    history(&mut run, DNS, &[("ready", START, 5.0), ("unready", 5.5, CUT + 9.0), ("none", CUT + 9.5, END)]);
    let told = "dns-5bc6f7d8f4-ccccc left 5.5 s after the cut, being deleted".to_owned();
    assert_eq!(found(&run, PODS), Some((FindingResult::Noted, told)));
    // It had to leave long before.
    run.rewrite_pod("dns-1", &[("Running/Ready", START, 54.5), ("Running/Terminating", 55.0, CUT + 9.0)]);
    history(&mut run, DNS, &[("ready", START, 55.0), ("unready", 55.5, CUT + 9.0), ("none", CUT + 9.5, END)]);
    assert_eq!(found(&run, PODS).unwrap().0, DEGRADED);
    // Of a shorter cut it might have stayed. That it is deleted is seen at the next look.
    run.schedule.heal_at = moment(0.0, 30.0).wall;
    run.rewrite_pod("dns-1", &[("Running/Ready", START, 64.0), ("Running/Terminating", 65.0, 80.0)]);
    history(&mut run, DNS, &[("ready", START, 64.0), ("unready", 64.5, 80.0), ("none", 81.0, END)]);
    let told = "dns-5bc6f7d8f4-ccccc left 34.5 s after the heal, being deleted".to_owned();
    assert_eq!(found(&run, PODS), Some((FindingResult::Noted, told)));
}

#[test]
fn a_pod_that_comes_back_late_or_never() {
    let history = |run: &mut Run, pod: &str, seen: &[(&str, f64, f64)]| {
        run.fault.pattern.effect = Effect::Reject;
        history(run, pod, seen);
    };
    // Predicted within 34.5 s of the API server's return, 65 s after the heal of a cut that rejects.
    expect(|run| history(run, DNS, &away(23.2, CUT + 104.0)), Verdict::Pass, &[]);
    expect(|run| history(run, DNS, &away(23.2, CUT + 107.0)), Verdict::Degraded, &amiss(DEGRADED));
    let never = [("ready", START, 22.7), ("unready", 23.2, END)];
    expect(|run| history(run, DNS, &never), Verdict::Degraded, &amiss(DEGRADED));
    // Nobody looked for long enough.
    let unseen = [("ready", START, 22.7), ("unready", 23.2, CUT + 20.0)];
    expect(|run| history(run, DNS, &unseen), Verdict::Inconclusive, &amiss(UNKNOWN));
    let hole = [("ready", START, 22.7), ("unready", 23.2, CUT + 20.0), ("ready", CUT + 125.0, END)];
    expect(|run| history(run, DNS, &hole), Verdict::Inconclusive, &amiss(UNKNOWN));
}

#[test]
fn a_pod_that_is_not_ready_itself_need_not_be_back_before() {
    let ready_at = |at: f64| {
        move |run: &mut Run| {
            let ready = "Running/Ready";
            let unready = [(ready, START, 22.0), ("Running/NotReady", 22.5, at - 1.0), (ready, at, END)];
            run.rewrite_pod("dns-1", &unready);
            run.fault.pattern.effect = Effect::Reject;
            history(run, DNS, &away(23.2, CUT + 127.0));
        }
    };
    expect(ready_at(CUT + 125.0), Verdict::Pass, &[]);
    expect(ready_at(CUT + 20.0), Verdict::Degraded, &amiss(DEGRADED));
}

#[test]
fn pods_that_nobody_saw_leave_it_open() {
    for seen in [&[][..], &[("ready", 1.0, END)][..]] {
        expect(|run| history(run, DNS, seen), Verdict::Inconclusive, &amiss(UNKNOWN));
    }
    let hole = [("ready", START, 10.0), ("unready", 40.0, CUT + 12.0), ("ready", CUT + 12.5, END)];
    expect(|run| history(run, DNS, &hole), Verdict::Inconclusive, &amiss(UNKNOWN));
}

#[test]
fn a_pod_that_was_not_ready_before_the_cut_is_left_out() {
    let unready = [("unready", START, END)];
    let mut run = passing();
    history(&mut run, DNS, &unready);
    let (result, observed) = found(&run, PODS).unwrap();
    assert_eq!(result, FindingResult::Held);
    assert!(observed.ends_with("; 1 pod not ready before the cut left out"), "{observed}");
    // None is left.
    [WEB, DB].iter().for_each(|pod| history(&mut run, pod, &unready));
    assert_eq!(found(&run, PODS), Some((UNKNOWN, "not known; 3 pods not ready before the cut left out".into())));
}

#[test]
fn of_more_pods_than_are_followed_it_is_told_how_many_were() {
    let mut run = passing();
    let pod = run.snapshot.pods[0].clone();
    let more = (0..120).map(|i| Pod { name: format!("more-{i}"), uid: format!("more-{i}"), ..pod.clone() });
    run.snapshot.pods.extend(more);
    // The operator of the passing run followed none of these.
    let told = "not known; 20 of 123 were followed".to_owned();
    assert_eq!(found(&run, "isolated: 123 ready pods"), Some((UNKNOWN, told)));
}

#[test]
fn where_no_service_selects_a_pod_there_is_nothing_to_ask() {
    let none = [("none", START, END)];
    let mut run = passing();
    history(&mut run, DNS, &none);
    let (result, observed) = found(&run, PODS).unwrap();
    assert!(result == FindingResult::Held && !observed.contains("dns"), "{observed}");
    [WEB, DB].iter().for_each(|pod| history(&mut run, pod, &none));
    assert_eq!((found(&run, PODS), run.judge().verdict), (None, Verdict::Pass));
}

#[test]
fn an_api_server_that_is_not_dropped_or_not_taken_back() {
    let amiss = |result| [(Check::EndpointsRemoved, SERVER, result)];
    expect(|run| history(run, SERVER, &[("ready", START, END)]), Verdict::Degraded, &amiss(DEGRADED));
    // Predicted from 5 s to 31 s.
    let dropped = |at: f64| [("ready", START, at - 0.5), ("none", at, CUT + 8.0), ("ready", CUT + 8.5, END)];
    expect(|run| history(run, SERVER, &dropped(38.0)), Verdict::Degraded, &amiss(DEGRADED));
    let back = |at: f64| [("ready", START, 17.5), ("none", 18.0, CUT + at - 0.5), ("ready", CUT + at, END)];
    expect(|run| history(run, SERVER, &back(40.0)), Verdict::Degraded, &amiss(DEGRADED));
    // Through it the first write was acknowledged after 30 s: it had to be started anew.
    let started_anew = |run: &mut Run| {
        let writes = [("acknowledged", START, 0.0), ("unknown", 1.0, CUT + 29.0), ("acknowledged", CUT + 30.0, END)];
        run.rewrite_operator(SpanKind::Canary, "cp1", &writes);
        history(run, SERVER, &back(40.0));
    };
    expect(started_anew, Verdict::Pass, &[]);
    let writes_at_first = |again: (f64, f64), returned: f64| {
        move |run: &mut Run| {
            let (silent, writes) = again;
            let cut = [("acknowledged", START, 0.0), ("unknown", 1.0, CUT + 2.0)];
            let healed = [("acknowledged", CUT + 3.0, silent - 0.5), ("unknown", silent, writes - 1.0)];
            let at_last = [("acknowledged", writes, END)];
            run.rewrite_operator(SpanKind::Canary, "cp1", &[&cut[..], &healed, &at_last].concat());
            history(run, SERVER, &back(returned));
        }
    };
    // It was being ended at the heal, and wrote for a moment before. When it had to be back that is no excuse any more.
    expect(writes_at_first((CUT + 5.0, CUT + 30.0), 45.0), Verdict::Pass, &[]);
    expect(writes_at_first((CUT + 40.0, CUT + 60.0), 70.0), Verdict::Degraded, &amiss(DEGRADED));
    // Nobody tried to write.
    let untried = |run: &mut Run| {
        run.rewrite_operator(SpanKind::Canary, "cp1", &[("acknowledged", START, 0.0), ("unknown", 1.0, CUT - 1.0)]);
        history(run, SERVER, &back(40.0));
    };
    expect(untried, Verdict::Inconclusive, &amiss(UNKNOWN));
    expect(|run| history(run, SERVER, &[]), Verdict::Inconclusive, &amiss(UNKNOWN));
}
