//! A fault that is not proven, and evidence that is missing.

use super::{
    fixture::{END, START, passing},
    mutations::{KCM, expect},
};
use crate::api::{Check, FindingResult, SpanKind, Verdict};

#[test]
fn a_probe_open_during_the_cut() {
    expect(
        |run| {
            let history = [
                ("open", START, -0.5),
                ("silent", 0.5, 30.0),
                ("open", 31.0, 33.0),
                ("silent", 34.0, 74.0),
                ("open", 76.0, END),
            ];
            run.rewrite("w1", SpanKind::Probe, "w2/Kubelet", &history);
        },
        Verdict::Inconclusive,
        &[(Check::FaultProven, "isolated→rest", FindingResult::Violated)],
    );
}

#[test]
fn a_probe_silent_inside_a_side() {
    expect(
        |run| {
            run.rewrite(
                "w2",
                SpanKind::Probe,
                "w3/Kubelet",
                &[("open", START, 20.0), ("silent", 21.0, 30.0), ("open", 31.0, END)],
            )
        },
        Verdict::Inconclusive,
        &[(Check::FaultProven, "rest→rest", FindingResult::Violated)],
    );
}

#[test]
fn a_stray_timeout_inside_a_side_is_noted() {
    let mut run = super::fixture::passing();
    let history = [("open", START, 20.0), ("silent", 21.0, 21.0), ("open", 22.0, END - 2.0), ("silent", END, END)];
    run.rewrite("w2", SpanKind::Probe, "w3/Kubelet", &history);
    let judgement = run.judge();
    let of = |f: &&crate::api::Finding| f.check == Check::FaultProven && f.subject == "rest→rest";
    let found = judgement.findings.iter().find(of).unwrap();
    assert_eq!((found.result, judgement.verdict), (FindingResult::Noted, Verdict::Pass), "{found:?}");
    assert!(found.observed.ends_with(", 1 stray timeout") && found.evidence.contains("silent"), "{found:?}");
    assert_eq!(crate::judge::judge(&run.evidence()).injected.result, FindingResult::Held);
}

#[test]
fn a_restarting_api_server_refuses_and_is_alive() {
    let history = [("open", START, 40.0), ("refused", 41.0, 60.0), ("open", 61.0, END)];
    expect(|run| run.rewrite("w1", SpanKind::Probe, "cp1/ApiServer", &history), Verdict::Pass, &[]);
}

/// The passing run with every broken probe's silence as something else, under another effect.
fn rejecting(during: &str, after: &str) -> super::fixture::Run {
    let mut run = super::fixture::passing();
    run.plan.pattern.effect = crate::fault::Effect::Reject;
    let plan = run.plan.clone();
    for node in plan.agents() {
        for target in plan.probes.iter().filter(|t| t.member != node && plan.breaks_tcp(node, t)) {
            let history = [("open", START, -1.0), (during, 0.5, 74.0), (after, 76.0, END)];
            run.rewrite(node, SpanKind::Probe, &target.subject(), &history);
        }
    }
    run
}

#[test]
fn a_rejecting_cut_is_proven_by_refusals_and_by_nothing_less() {
    let proof = |run: &super::fixture::Run, subject: &str| {
        let findings = run.judge().findings;
        let found = findings.iter().find(|f| f.check == Check::FaultProven && f.subject == subject);
        found.map(|f| f.result).unwrap()
    };
    assert_eq!(proof(&rejecting("refused", "open"), "isolated→rest"), FindingResult::Held);
    assert_eq!(proof(&rejecting("open", "open"), "isolated→rest"), FindingResult::Violated);
    assert_eq!(proof(&rejecting("silent", "open"), "isolated→rest"), FindingResult::Inconclusive);
}

#[test]
fn what_goes_on_being_refused_has_not_healed() {
    let healed = |run: &super::fixture::Run| {
        let findings = run.judge().findings;
        findings.iter().find(|f| f.check == Check::HealProven).map(|f| f.result).unwrap()
    };
    assert_eq!(healed(&rejecting("refused", "open")), FindingResult::Held);
    assert_eq!(healed(&rejecting("refused", "refused")), FindingResult::Violated);
}

#[test]
fn kernels_that_dropped_nothing() {
    expect(
        |run| ["cp1", "w1"].iter().for_each(|n| run.status(n).kernel.as_mut().unwrap().dropped_packets = 0),
        Verdict::Inconclusive,
        &[(Check::FaultProven, "isolated: kernel", FindingResult::Violated)],
    );
}

#[test]
fn somebody_changed_the_rules_of_one_node() {
    expect(
        |run| run.status("w1").kernel.as_mut().unwrap().changed = Some("somebody changed the table".into()),
        Verdict::Inconclusive,
        &[(Check::FaultProven, "isolated: kernel", FindingResult::Inconclusive)],
    );
}

#[test]
fn a_record_is_missing() {
    let unknown = FindingResult::Inconclusive;
    expect(
        |run| run.agents.retain(|r| r.spec.node != "w3"),
        Verdict::Inconclusive,
        &[
            (Check::FaultProven, "rest→isolated", unknown),
            (Check::FaultProven, "rest→rest", unknown),
            (Check::FaultProven, "isolated→rest: datagrams", unknown),
            (Check::FaultProven, "rest→rest: datagrams", unknown),
            (Check::WorkloadDoubled, "default/dns (Deployment)", unknown),
            (Check::WorkloadDoubled, "default/web (Deployment)", unknown),
            (Check::WorkloadDoubled, "default/db (StatefulSet)", unknown),
            (Check::WorkloadOrphaned, "all pods", unknown),
            (Check::Recovery, "milestones", unknown),
            (Check::HealProven, "all nodes", unknown),
        ],
    );
}

#[test]
fn a_clock_was_never_compared() {
    let unknown = FindingResult::Inconclusive;
    expect(
        |run| run.status("cp1").clock.as_mut().unwrap().anchors.clear(),
        Verdict::Inconclusive,
        &[
            (Check::FaultProven, "isolated→isolated", unknown),
            (Check::FaultProven, "isolated→rest", unknown),
            (Check::FaultProven, "isolated→isolated: datagrams", unknown),
            (Check::FaultProven, "rest→isolated: datagrams", unknown),
            (Check::EtcdQuorum, "isolated", unknown),
            (Check::EtcdLeaders, "etcd after the heal", unknown),
            (Check::ApiWritable, "isolated", unknown),
            (Check::ApiServerReady, "cp1", unknown),
            (Check::StaleRead, "isolated", unknown),
            (Check::LostWrites, "isolated", unknown),
            (Check::LeaderGap, KCM, unknown),
            (Check::LeaderGap, "kube-system/kube-scheduler", unknown),
            (Check::LeaderOverlap, KCM, unknown),
            (Check::LeaderOverlap, "kube-system/kube-scheduler", unknown),
            (Check::Recovery, "milestones", unknown),
            (Check::HealProven, "all nodes", unknown),
        ],
    );
}

#[test]
fn a_runtime_that_is_not_read() {
    let unknown = FindingResult::Inconclusive;
    expect(
        |run| run.status("cp1").reads_containers = false,
        Verdict::Inconclusive,
        &[
            (Check::LeaderGap, KCM, unknown),
            (Check::LeaderGap, "kube-system/kube-scheduler", unknown),
            (Check::LeaderOverlap, KCM, unknown),
            (Check::LeaderOverlap, "kube-system/kube-scheduler", unknown),
            (Check::WorkloadDoubled, "default/dns (Deployment)", unknown),
            (Check::WorkloadDoubled, "default/web (Deployment)", unknown),
            (Check::WorkloadDoubled, "default/db (StatefulSet)", unknown),
            (Check::WorkloadOrphaned, "all pods", unknown),
        ],
    );
}

#[test]
fn a_table_that_is_still_there() {
    expect(
        |run| run.status("w1").kernel.as_mut().unwrap().table = true,
        Verdict::Inconclusive,
        &[(Check::HealProven, "all nodes", FindingResult::Inconclusive)],
    );
}

#[test]
fn a_record_that_is_full() {
    expect(
        |run| run.status("w2").spans_left_out = 3,
        Verdict::Inconclusive,
        &[
            (Check::WorkloadDoubled, "default/dns (Deployment)", FindingResult::Inconclusive),
            (Check::WorkloadDoubled, "default/web (Deployment)", FindingResult::Inconclusive),
            (Check::WorkloadDoubled, "default/db (StatefulSet)", FindingResult::Inconclusive),
            (Check::WorkloadOrphaned, "all pods", FindingResult::Inconclusive),
            (Check::HealProven, "all nodes", FindingResult::Inconclusive),
        ],
    );
}

#[test]
fn what_a_full_record_left_out_is_told_by_kind() {
    let healed = |run: &super::fixture::Run| {
        let found = run.judge().findings.into_iter().find(|f| f.check == Check::HealProven).unwrap();
        (found.result, found.observed)
    };
    let fill = |status: &mut crate::api::NodeRecordStatus| {
        status.spans_left_out = 3;
        status.spans_left_out_by_kind = [("Container".to_owned(), 1), ("Probe".to_owned(), 2)].into();
    };
    let mut run = passing();
    fill(run.status("w2"));
    let told = "w2: 3 spans left out (2 Probe, 1 Container)";
    assert_eq!(healed(&run), (FindingResult::Inconclusive, told.to_owned()));
    fill(run.operator_status());
    let told = format!("{told}, operator: 3 spans left out (2 Probe, 1 Container)");
    assert_eq!(healed(&run), (FindingResult::Inconclusive, told));
    // And in every finding that needed it.
    let stable = run.judge().findings.into_iter().find(|f| f.check == Check::LeaseStable).unwrap();
    assert_eq!(stable.evidence, "operator: its record is full, 3 spans left out (2 Probe, 1 Container)");
}

#[test]
fn the_condition_injected_is_one_finding() {
    let mut run = passing();
    assert_eq!(run.judge().injected.result, FindingResult::Held);
    run.agents.clear();
    let unknown = run.judge().injected;
    assert_eq!(crate::judge::judge(&run.evidence()).injected, unknown);
    assert_eq!((unknown.check, unknown.result), (Check::FaultProven, FindingResult::Inconclusive), "{unknown:?}");
}

#[test]
fn a_second_copy_that_only_the_api_saw() {
    let unseen = |run: &mut super::fixture::Run| {
        let spans = &mut run.status("w3").spans;
        spans.retain(|s| s.uid.as_deref() != Some("web-3"));
        spans.push(super::fixture::container("kube-system/kube-proxy-x/kube-proxy", "kp", "running", -900.0, END));
    };
    let amiss = [(Check::WorkloadDoubled, "default/web (Deployment)", FindingResult::Inconclusive)];
    expect(unseen, Verdict::Inconclusive, &amiss);
}
