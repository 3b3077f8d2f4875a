//! A rehearsal, in which nobody is cut: the negative control. Where nothing happens nothing is found, and what happens all the same is.

use super::fixture::{END, Run, START, container, moment, passing, span};
use crate::{
    api::{Check, Finding, FindingResult, STORE_HASH_AFTER, Side, Span, SpanKind, Verdict},
    fault::{self, PlanParts, RunPlan},
};
use std::collections::BTreeSet;

/// Seconds by which the clock of each node is behind the operator's, as in the fixture.
const BEHIND: f64 = 0.2;
/// What each register held at the end, of all that was written to it once a second.
const WRITTEN: &str = "1-194";
const NEWEST: &str = "n=194";

/// The passing run as its own rehearsal: what was so before the cut goes on to the end of watching.
fn rehearsal() -> Run {
    let mut run = passing();
    run.spec.rehearsal = true;
    run.fault = fault::expand(&run.spec, &run.snapshot).expect("a rehearsal");
    run.sides = fault::sides(&run.snapshot, &run.fault);
    let parts = PlanParts {
        run: run.plan.run.clone(),
        run_uid: run.plan.run_uid.clone(),
        token: run.plan.heal.token.clone(),
        duration_seconds: run.plan.duration_seconds,
        longest_seconds: run.plan.longest_seconds,
        writable: Side::most_writable(&run.sides).into_iter().flat_map(|s| s.api_servers.clone()).collect(),
    };
    run.plan = RunPlan::new(&run.snapshot, &run.fault, parts);
    for status in run.agents.iter_mut().filter_map(|r| r.status.as_mut()) {
        status.kernel.as_mut().expect("counters").dropped_packets = 0;
        go_on(&mut status.spans, BEHIND);
    }
    go_on(&mut run.operator_status().spans, 0.0);
    // Nobody was evicted, so no second copy came here.
    run.status("w3").spans.push(container("kube-system/kube-proxy-x/kube-proxy", "kp", "running", -900.0, END));
    run
}

/// Of each history the beginning, to the end of watching. `behind`: the clock of whoever saw it, seconds.
fn go_on(spans: &mut Vec<Span>, behind: f64) {
    let cut = moment(behind, 0.0).boot_us;
    let mut seen = BTreeSet::new();
    // Members of etcd are hashed once, after the heal.
    let is_hash = |s: &Span| s.subject == STORE_HASH_AFTER;
    spans.retain(|s| {
        let is_first = s.from.boot_us < cut && seen.insert((s.kind, s.subject.clone(), s.uid.clone()));
        is_first || is_hash(s)
    });
    for span in spans.iter_mut().filter(|s| !is_hash(s)) {
        span.to = moment(behind, END);
        match span.kind {
            SpanKind::Container => span.state = "running".into(),
            SpanKind::Register => span.detail = Some(WRITTEN.into()),
            // Agents read the newest number of one register, the operator all numbers of each.
            SpanKind::Reading if span.subject.contains('/') => span.detail = Some(NEWEST.into()),
            SpanKind::Reading => span.detail = Some(WRITTEN.into()),
            _ => {}
        }
    }
}

/// Every finding that is not Held.
fn amiss(findings: &[Finding]) -> Vec<(Check, &str, FindingResult)> {
    let not_held = findings.iter().filter(|f| f.result != FindingResult::Held);
    not_held.map(|f| (f.check, f.subject.as_str(), f.result)).collect()
}

/// Judges a rehearsal in which something happened.
#[track_caller]
fn expect(happens: impl FnOnce(&mut Run), verdict: Verdict, expected: &[(Check, &str, FindingResult)]) {
    let mut run = rehearsal();
    happens(&mut run);
    let judgement = run.judge();
    assert_eq!(amiss(&judgement.findings), expected, "{:#?}", judgement.findings);
    assert_eq!(judgement.verdict, verdict);
}

#[test]
fn where_nobody_is_cut_and_nothing_happens_all_is_held() {
    let run = rehearsal();
    assert!(run.plan.edges.is_empty() && run.sides.len() == 1);
    let judgement = run.judge();
    assert!(amiss(&judgement.findings).is_empty(), "{:#?}", judgement.findings);
    assert_eq!(judgement.verdict, Verdict::Pass);
    assert!(judgement.onset.is_none(), "nobody fell silent: {:?}", judgement.onset);
    let of = |check: Check| judgement.findings.iter().filter(move |f| f.check == check).map(|f| f.subject.as_str());
    let proofs: Vec<&str> = of(Check::FaultProven).collect();
    assert_eq!(proofs, ["everybody→everybody", "everybody→everybody: datagrams"], "and no kernel is asked for drops");
    for check in [
        Check::EtcdQuorum,
        Check::EtcdLeaders,
        Check::StoreAgreement,
        Check::ApiWritable,
        Check::StaleRead,
        Check::LostWrites,
        Check::LeaseStable,
        Check::NodeNotReady,
        Check::WorkloadOrphaned,
        Check::Recovery,
        Check::HealProven,
    ] {
        assert!(of(check).next().is_some(), "{check:?} was not asked");
    }
}

#[test]
fn nothing_is_injected_in_a_rehearsal() {
    let injected = rehearsal().judge().injected;
    assert_eq!(injected.result, FindingResult::Violated, "the condition is False: {injected:?}");
    assert!(injected.observed.starts_with("a rehearsal cuts nobody; everybody→everybody: "), "{injected:?}");
}

#[test]
fn the_prediction_is_that_nothing_happens() {
    let forecast = rehearsal().forecast();
    assert!(forecast.nodes.is_empty() && forecast.workloads.is_empty());
    assert!(forecast.leases.iter().all(|l| !l.cut_off), "{:?}", forecast.leases);
    let proof = forecast.predictions.iter().find(|p| p.check == Check::FaultProven).unwrap();
    assert_eq!(proof.expected, "every pair alive all the time");
}

#[test]
fn a_pair_that_was_silent_is_a_finding() {
    let silent = [("open", START, 10.0), ("silent", 11.0, 40.0), ("open", 41.0, END)];
    expect(
        |run| run.rewrite("w1", SpanKind::Probe, "w2/Kubelet", &silent),
        Verdict::Inconclusive,
        &[(Check::FaultProven, "everybody→everybody", FindingResult::Violated)],
    );
    expect(
        |run| run.status("w2").spans.push(span(BEHIND, SpanKind::Lost, "w1/Ipv4", "lost", 30.0, 30.0)),
        Verdict::Inconclusive,
        &[(Check::FaultProven, "everybody→everybody: datagrams", FindingResult::Violated)],
    );
}

#[test]
fn what_happens_is_found_also_where_the_rehearsed_cut_is_not_steady() {
    let subject = "kube-system/snapshot-controller";
    let moves = |run: &mut Run| {
        run.rewrite_operator(SpanKind::Lease, subject, &[("cp2_1", START, 20.0), ("cp3_1", 21.0, END)]);
    };
    let expected = [(Check::LeaseStable, subject, FindingResult::Violated)];
    expect(moves, Verdict::Fail, &expected);
    let flapping = |run: &mut Run| {
        moves(run);
        let flap = Some((5.0, 5.0));
        (run.plan.pattern.flap, run.fault.pattern.flap) = (flap, flap);
    };
    expect(flapping, Verdict::Fail, &expected);
}

#[test]
fn what_nobody_looked_at_is_open_in_a_rehearsal_too() {
    let mut run = rehearsal();
    run.rewrite("w1", SpanKind::Probe, "w2/Kubelet", &[]);
    let judgement = run.judge();
    let unseen = (Check::FaultProven, "everybody→everybody", FindingResult::Inconclusive);
    assert_eq!((amiss(&judgement.findings), judgement.verdict), (vec![unseen], Verdict::Inconclusive));
    let mut run = rehearsal();
    run.agents.retain(|r| r.spec.node != "w3");
    assert_eq!(run.judge().verdict, Verdict::Inconclusive);
}
