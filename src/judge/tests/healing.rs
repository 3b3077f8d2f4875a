//! Cuts that last too long, and nodes of which nobody knows whether they healed.

use super::{
    fixture::{CUT, END, START, passing},
    mutations::expect,
};
use crate::api::{Check, FindingResult, RecordPhase, SpanKind, Verdict};

#[test]
fn a_cut_that_lasts_too_long() {
    let too_long = [("open", START, -0.5), ("silent", 0.7, CUT + 20.0), ("open", CUT + 21.0, END)];
    let for_ever = [("open", START, -0.5), ("silent", 0.7, END)];
    let again = [("open", START, -0.5), ("silent", 0.7, 74.0), ("open", 76.0, 90.0), ("silent", 91.0, END)];
    for history in [&too_long[..], &for_ever, &again] {
        expect(
            |run| run.rewrite("w1", SpanKind::Probe, "w2/Kubelet", history),
            Verdict::Fail,
            &[(Check::HealProven, "all nodes", FindingResult::Violated)],
        );
    }
    let mut run = passing();
    run.rewrite("w1", SpanKind::Probe, "w2/Kubelet", &too_long);
    let findings = run.judge().findings;
    let heal = findings.iter().find(|f| f.check == Check::HealProven).unwrap();
    assert_eq!(heal.observed, "w1→w2/Kubelet still silent 20 s after the heal");
}

#[test]
fn a_port_that_refuses_or_is_restarted_after_the_heal() {
    let refuses = [("open", START, -0.5), ("silent", 0.7, 74.0), ("refused", 76.0, END)];
    let restarted = [
        ("open", START, -0.5),
        ("silent", 0.7, 76.0),
        ("open", 77.0, 90.0),
        ("silent", 91.0, 105.0),
        ("refused", 106.0, 110.0),
        ("open", 111.0, END),
    ];
    for history in [&refuses[..], &restarted] {
        expect(|run| run.rewrite("w2", SpanKind::Probe, "cp1/ApiServer", history), Verdict::Pass, &[]);
    }
}

#[test]
fn a_node_that_does_not_say_that_it_healed() {
    let amiss = [(Check::HealProven, "all nodes", FindingResult::Inconclusive)];
    for phase in [None, Some(RecordPhase::Loaded), Some(RecordPhase::Aborted), Some(RecordPhase::Unfit)] {
        expect(|run| run.status("w3").phase = phase, Verdict::Inconclusive, &amiss);
    }
    expect(|run| run.status("w3").kernel = None, Verdict::Inconclusive, &amiss);
}
