//! Containers whose end nobody saw, and containers at which nobody looked.

use super::{
    fixture::{CUT, END, moment, passing},
    mutations::{KCM, expect},
};
use crate::api::{Check, FindingResult, Verdict};

const UNKNOWN: FindingResult = FindingResult::Inconclusive;
const DNS: &str = "default/dns-5bc6f7d8f4-ccccc/app";

/// The old holder's container in another state, last seen at `to`; and its successor, if that was seen.
#[track_caller]
fn old_holder(state: &str, to: f64, verdict: Verdict, amiss: &[(Check, &str, FindingResult)]) {
    expect(
        |run| {
            let spans = &mut run.status("cp1").spans;
            spans.retain(|s| s.state != "running" || !s.subject.contains("controller-manager"));
            let old = spans.iter_mut().find(|s| s.subject.contains("controller-manager")).unwrap();
            (old.state, old.to) = (state.into(), moment(0.2, to));
        },
        verdict,
        amiss,
    );
}

#[test]
fn a_leader_whose_end_nobody_saw() {
    let open = [(Check::LeaderGap, KCM, UNKNOWN), (Check::LeaderOverlap, KCM, UNKNOWN)];
    for to in [-3.0, 4.6, 20.0] {
        old_holder("gone", to, Verdict::Inconclusive, &open);
    }
    // It held the Lease until 9 s.
    old_holder("running", 2.9, Verdict::Inconclusive, &open);
    old_holder("running", 3.1, Verdict::Inconclusive, &open[1..]);
}

#[test]
fn a_container_of_the_cut_side_whose_end_nobody_saw() {
    let open = [
        (Check::WorkloadKept, "default/dns (Deployment)", UNKNOWN),
        (Check::HealDamage, "workloads of the cut side", UNKNOWN),
    ];
    // How many of the two are not open: it was kept, and what became of it after the heal was seen.
    for (state, to, known) in [
        ("gone", 40.0, 0),
        ("gone", CUT - 1.0, 0),
        ("gone", CUT + 9.0, 2),
        ("running", CUT - 7.0, 0),
        ("running", CUT - 5.0, 1),
        ("running", END, 2),
    ] {
        let change = |run: &mut super::fixture::Run| {
            let dns = run.status("w1").spans.iter_mut().find(|s| s.subject == DNS).unwrap();
            (dns.state, dns.to) = (state.into(), moment(0.2, to));
        };
        let verdict = if known == open.len() { Verdict::Pass } else { Verdict::Inconclusive };
        expect(change, verdict, &open[known..]);
    }
}

#[test]
fn what_a_full_record_of_the_operator_leaves_out_is_not_known() {
    let mut run = passing();
    run.operator_status().spans_left_out = 1;
    // A pod of which no change could be written down any more would seem to have gone.
    run.operator_status()
        .spans
        .retain(|s| s.uid.as_deref() != Some("dns-1") || s.from.boot_us < moment(0.0, 5.0).boot_us);
    let judgement = run.judge();
    assert_eq!(judgement.verdict, Verdict::Inconclusive);
    let accused: Vec<_> = judgement.findings.iter().filter(|f| f.result == FindingResult::Violated).collect();
    assert!(accused.is_empty(), "{accused:#?}");
    let why = judgement.findings.iter().find(|f| f.check == Check::LeaseStable).expect("a finding");
    assert!(why.evidence.contains("its record is full, 1 span"), "{why:?}");
}

#[test]
fn a_record_whose_spans_nobody_could_read_is_no_record() {
    let (mut packed, mut missing) = (passing(), passing());
    let status = packed.status("w3");
    *status = status.clone().packed();
    missing.agents.retain(|r| r.spec.node != "w3");
    assert_eq!(packed.judge(), missing.judge());
    assert_eq!(packed.judge().verdict, Verdict::Inconclusive);
}
