//! Containers whose end nobody saw, and containers at which nobody looked.

use super::{
    fixture::{CUT, END, Run, container, moment, passing, span},
    mutations::{KCM, expect},
};
use crate::api::{CONTAINER_READ, CONTAINER_UNREAD, Check, Finding, FindingResult, Span, SpanKind, Verdict};

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

/// What an agent says of a container that its runtime does not tell about, up to this time.
fn unread(id: &str, state: &str, to: f64) -> Span {
    let detail = Some("default/db-0/app: no answer in time".to_owned());
    Span { id: Some(id.into()), detail, ..span(0.2, SpanKind::Container, CONTAINER_UNREAD, state, 20.0, to) }
}

fn found(run: &Run, check: Check, subject: &str) -> Finding {
    let findings = run.judge().findings;
    let found = findings.iter().find(|f| f.check == check && f.subject == subject);
    found.cloned().unwrap_or_else(|| panic!("no {check:?} of {subject} in {findings:#?}"))
}

#[test]
fn a_container_that_a_runtime_tells_nothing_of_may_be_anybodys() {
    let open = [
        (Check::LeaderGap, KCM, UNKNOWN),
        (Check::LeaderGap, "kube-system/kube-scheduler", UNKNOWN),
        (Check::LeaderOverlap, KCM, UNKNOWN),
        (Check::LeaderOverlap, "kube-system/kube-scheduler", UNKNOWN),
        (Check::WorkloadDoubled, "default/dns (Deployment)", UNKNOWN),
        (Check::WorkloadDoubled, "default/web (Deployment)", UNKNOWN),
        (Check::WorkloadDoubled, "default/db (StatefulSet)", UNKNOWN),
        (Check::WorkloadOrphaned, "all pods", UNKNOWN),
    ];
    let last = |of: &'static [(&'static str, &'static str, f64)]| {
        move |run: &mut Run| run.status("cp1").spans.extend(of.iter().map(|(id, state, to)| unread(id, state, *to)))
    };
    expect(last(&[("a", CONTAINER_UNREAD, 21.0)]), Verdict::Inconclusive, &open);
    // That another one is read by now says nothing of it.
    expect(last(&[("a", CONTAINER_UNREAD, 21.0), ("b", CONTAINER_READ, 30.0)]), Verdict::Inconclusive, &open);
    expect(last(&[("a", CONTAINER_READ, 21.0)]), Verdict::Pass, &[]);
    expect(last(&[("a", CONTAINER_UNREAD, 21.0), ("a", CONTAINER_READ, 22.0)]), Verdict::Pass, &[]);
    let mut run = passing();
    last(&[("a", CONTAINER_UNREAD, 21.0)])(&mut run);
    let why = "cp1: a container was not read: default/db-0/app: no answer in time";
    for check in [Check::WorkloadDoubled, Check::LeaderOverlap] {
        let subject = if check == Check::LeaderOverlap { KCM } else { "default/db (StatefulSet)" };
        assert_eq!(found(&run, check, subject).evidence, why);
    }
}

#[test]
fn a_node_of_which_no_container_was_read_but_one_that_was_unread_is_not_read() {
    let mut run = passing();
    let spans = &mut run.status("w3").spans;
    spans.retain(|s| s.kind != SpanKind::Container);
    spans.push(unread("a", CONTAINER_READ, 21.0));
    let all = found(&run, Check::WorkloadOrphaned, "all pods");
    assert_eq!((all.result, all.evidence.as_str()), (UNKNOWN, "w3: no container was seen"));
}

/// Nothing of w3 is seen any more from this time on, seconds after the cut.
fn agent_ends(run: &mut Run, at: f64) {
    let (status, end) = (run.status("w3"), moment(0.2, at));
    status.spans.retain(|s| s.from.boot_us <= end.boot_us);
    for span in status.spans.iter_mut().filter(|s| s.to.boot_us > end.boot_us) {
        span.to = end.clone();
    }
    status.observed_until = Some(end.wall);
}

#[test]
fn what_ran_on_a_node_whose_agent_ended_in_the_cut_is_not_known() {
    const RAN_ONCE: [&str; 2] = ["default/dns (Deployment)", "default/db (StatefulSet)"];
    let mut run = passing();
    agent_ends(&mut run, 60.0);
    let why = "w3: its containers were last looked at 60 s after the cut";
    for subject in RAN_ONCE {
        let ran = found(&run, Check::WorkloadDoubled, subject);
        assert_eq!((ran.result, ran.evidence.as_str()), (UNKNOWN, why), "{subject}");
    }
    let orphaned = found(&run, Check::WorkloadOrphaned, "all pods");
    assert_eq!((orphaned.result, orphaned.evidence.as_str()), (UNKNOWN, why));
    // Where nothing runs any more its record tells, by its own clock.
    run.status("w3").spans.iter_mut().filter(|s| s.state == "running").for_each(|s| s.state = "exited".into());
    assert_eq!(found(&run, Check::WorkloadDoubled, RAN_ONCE[0]).evidence, why.replace("60 s", "59.8 s"));
    run.status("w3").observed_until = None;
    let never = "w3: nobody says until when its containers were looked at";
    assert_eq!(found(&run, Check::WorkloadDoubled, RAN_ONCE[0]).evidence, never);
}

#[test]
fn a_runtime_that_answers_no_more_is_read_up_to_there() {
    let silent = |run: &mut Run| run.rewrite_containers("w3", "web-3", &[("running", 42.0, 60.0)]);
    let mut open = [
        (Check::WorkloadDoubled, "default/dns (Deployment)", UNKNOWN),
        (Check::WorkloadDoubled, "default/db (StatefulSet)", UNKNOWN),
        (Check::WorkloadOrphaned, "all pods", UNKNOWN),
    ];
    expect(silent, Verdict::Inconclusive, &open);
    // What was seen before accuses all the same.
    open[1].2 = FindingResult::Violated;
    let twin = |run: &mut Run| {
        silent(run);
        run.status("w3").spans.push(container("default/db-0/app", "db-9", "exited", 50.0, 58.0));
    };
    expect(twin, Verdict::Fail, &open);
    // As long as an agent may be away.
    expect(|run| run.rewrite_containers("w3", "web-3", &[("running", 42.0, END - 10.0)]), Verdict::Pass, &[]);
}
