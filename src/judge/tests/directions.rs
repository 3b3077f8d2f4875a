//! What datagrams prove, direction by direction, and who is nobody's.

use super::{
    fixture::{CUT, END, Run, START, passing, span},
    mutations::expect,
};
use crate::{
    api::{Check, FindingResult, SpanKind, Verdict},
    fault::Effect,
};

const DATAGRAMS: &str = "isolated→rest: datagrams";

fn of(run: &Run, subject: &str) -> crate::api::Finding {
    let findings = run.judge().findings;
    let found = findings.iter().find(|f| f.check == Check::FaultProven && f.subject == subject);
    found.cloned().unwrap_or_else(|| panic!("no {subject} in {findings:#?}"))
}

#[test]
fn one_datagram_that_gets_through_contradicts_the_cut() {
    expect(
        |run| run.status("w2").spans.push(span(0.2, SpanKind::Heard, "w1/Ipv4", "heard", 30.0, 30.0)),
        Verdict::Inconclusive,
        &[(Check::FaultProven, DATAGRAMS, FindingResult::Violated)],
    );
}

#[test]
fn one_datagram_that_is_taken_inside_a_side_contradicts_it_too() {
    expect(
        |run| run.status("w2").spans.push(span(0.2, SpanKind::Lost, "w3/Ipv4", "lost", 30.0, 30.0)),
        Verdict::Inconclusive,
        &[(Check::FaultProven, "rest→rest: datagrams", FindingResult::Violated)],
    );
}

#[test]
fn silence_of_which_the_kernel_took_nothing_is_not_proven_to_be_ours() {
    expect(
        |run| run.rewrite("w2", SpanKind::Lost, "w1/Ipv4", &[]),
        Verdict::Inconclusive,
        &[(Check::FaultProven, DATAGRAMS, FindingResult::Inconclusive)],
    );
}

#[test]
fn a_kernel_that_does_not_count_leaves_it_open_and_says_why() {
    let mut run = passing();
    run.status("w2").unwatched = Some("the kernel is too old".into());
    let found = of(&run, DATAGRAMS);
    assert_eq!(found.result, FindingResult::Inconclusive);
    assert!(found.evidence.contains("too old"), "{found:?}");
}

#[test]
fn the_onset_is_between_the_last_heard_and_the_first_lost_on_every_node() {
    let run = passing();
    let onset = crate::judge::judge(&run.evidence()).onset.unwrap();
    // Heard until 4 ms before the cut, lost from 6 ms after it; anchors are good for 3 ms and age by 200 µs/s.
    assert_eq!((onset.nodes, onset.first_us, onset.skew_us), (6, 1000, 0));
    assert!((8000..=12_100).contains(&onset.error_us), "{onset:?}");
    assert_eq!(of(&run, "onset").result, FindingResult::Held);
}

#[test]
fn a_node_that_falls_silent_late_is_told() {
    let mut run = passing();
    for sender in ["cp1", "w1"] {
        let subject = format!("{sender}/Ipv4");
        run.rewrite("w2", SpanKind::Heard, &subject, &[("heard", START, 0.2), ("heard", CUT + 0.1, END)]);
        run.rewrite("w2", SpanKind::Lost, &subject, &[("lost", 0.21, CUT)]);
    }
    let found = of(&run, "onset");
    assert_eq!(found.result, FindingResult::Noted);
    assert!(
        found.observed.starts_with("6 nodes fell silent 1.0 ms to 205.0 ms after cutAt, 204.0 ms apart"),
        "{found:?}"
    );
}

#[test]
fn a_lossy_direction_is_told_from_a_silent_one() {
    let lossy = |samples: u32| {
        let mut run = passing();
        run.plan.pattern.effect = Effect::LossPerPacket { percent: 30 };
        for node in run.plan.agents().into_iter().map(str::to_owned).collect::<Vec<_>>() {
            for s in run.status(&node).spans.iter_mut().filter(|s| s.kind == SpanKind::Lost) {
                s.samples = samples;
            }
            let all = run.status(&node).spans.clone();
            let lost = all.iter().filter(|s| s.kind == SpanKind::Lost);
            let heard = lost.map(|s| crate::api::Span {
                kind: SpanKind::Heard,
                state: "heard".into(),
                samples: 263,
                ..s.clone()
            });
            run.status(&node).spans.extend(heard);
        }
        of(&run, DATAGRAMS).result
    };
    assert_eq!(lossy(112), FindingResult::Held, "112 of 375 are 30 %");
    assert_eq!(lossy(800), FindingResult::Violated);
}

#[test]
fn whoever_is_not_in_the_plan_is_named() {
    let stranger = |at: f64| {
        let mut run = passing();
        run.status("w2").spans.push(span(0.2, SpanKind::Stranger, "198.18.0.77", "heard", at, at + 1.0));
        run.status("w1").addresses = vec!["198.18.0.77".parse().unwrap()];
        run
    };
    let found = of(&stranger(20.0), "unplaced");
    assert_eq!(found.result, FindingResult::Inconclusive);
    assert!(found.observed.contains("198.18.0.77 (an interface of w1 has it)"), "{found:?}");
    let before = stranger(-20.0).judge().findings;
    assert!(!before.iter().any(|f| f.subject == "unplaced"), "only the cut matters: {before:#?}");
}

#[test]
fn a_node_that_joins_during_the_cut_is_named() {
    let mut run = passing();
    run.operator_status().spans.push(span(0.0, SpanKind::Node, "w9", "True", 20.0, END));
    let found = of(&run, "unplaced");
    assert_eq!(found.result, FindingResult::Inconclusive);
    assert!(found.observed.contains("node w9 joined"), "{found:?}");
}
