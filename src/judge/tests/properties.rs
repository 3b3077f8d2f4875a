//! Unknown is never Pass: whatever is taken away from a run, its verdict does not get better.

use super::fixture::{CUT, END, Run, START, container, passing};
use crate::api::{SpanKind, Verdict};
use proptest::prelude::*;

pub const KINDS: [SpanKind; 15] = [
    SpanKind::Heard,
    SpanKind::Lost,
    SpanKind::Probe,
    SpanKind::Health,
    SpanKind::Store,
    SpanKind::Canary,
    SpanKind::Register,
    SpanKind::Reading,
    SpanKind::Container,
    SpanKind::Lease,
    SpanKind::Node,
    SpanKind::Taint,
    SpanKind::Pod,
    SpanKind::Endpoint,
    SpanKind::Convergence,
];

/// Runs that do not pass, each for a reason of its own.
fn broken(which: usize) -> Run {
    let mut run = passing();
    match which {
        0 => run.status("w3").spans.push(container("default/db-0/app", "db-9", "running", 50.0, END)),
        1 => run.rewrite_operator(SpanKind::Convergence, "cluster", &[("waiting", START, END)]),
        2 => run.rewrite_operator(
            SpanKind::Lease,
            "kube-system/snapshot-controller",
            &[("cp2_1", START, 1.0), ("cp3_1", 2.0, END)],
        ),
        3 => run.rewrite("w1", SpanKind::Probe, "w2/Kubelet", &[("open", START, END)]),
        4 => run.rewrite_operator(SpanKind::Node, "w1", &[("True", START, END)]),
        5 => run.rewrite("cp1", SpanKind::Canary, "cp1", &[("acknowledged", START, END)]),
        6 => run.rewrite("cp1", SpanKind::Health, "etcd", &[("ok", START, END)]),
        7 => run.status("w2").kernel.as_mut().unwrap().table = true,
        _ => run.rewrite("w2", SpanKind::Probe, "w3/Kubelet", &[("silent", START, CUT), ("open", CUT + 1.0, END)]),
    }
    run
}
const BROKEN: usize = 9;

pub fn without_record(run: &mut Run, which: usize) {
    match which {
        0 => run.operator = None,
        n => drop(run.agents.remove(n - 1)),
    }
}

pub fn without_kind(run: &mut Run, kind: SpanKind) {
    let all = run.agents.iter_mut().chain(run.operator.as_mut());
    all.filter_map(|r| r.status.as_mut()).for_each(|s| s.spans.retain(|span| span.kind != kind));
}

#[test]
fn every_record_and_every_kind_is_needed_to_pass() {
    for which in 0..=6 {
        let mut run = passing();
        without_record(&mut run, which);
        assert_eq!(run.judge().verdict, Verdict::Inconclusive, "without record {which}");
    }
    for kind in KINDS {
        let mut run = passing();
        without_kind(&mut run, kind);
        assert_eq!(run.judge().verdict, Verdict::Inconclusive, "without {kind:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn taking_evidence_away_never_makes_a_run_pass(
        which in 0..BROKEN,
        record in proptest::option::of(0usize..=6),
        kinds in proptest::sample::subsequence(KINDS.to_vec(), 0..=9),
    ) {
        let mut run = broken(which);
        prop_assert_ne!(run.judge().verdict, Verdict::Pass);
        if let Some(record) = record {
            without_record(&mut run, record);
        }
        for kind in kinds {
            without_kind(&mut run, kind);
        }
        prop_assert_ne!(run.judge().verdict, Verdict::Pass);
    }

    /// Any single series may hold the evidence: without it a passing run may pass only where nothing contradicts it.
    #[test]
    fn a_series_taken_away_never_makes_a_broken_run_pass(which in 0..BROKEN, pick in any::<prop::sample::Index>()) {
        let mut run = broken(which);
        let name = |r: &crate::api::NodeRecord| format!("{:?} {}", r.spec.observer, r.spec.node);
        let mut series = std::collections::BTreeSet::new();
        for record in run.agents.iter().chain(run.operator.as_ref()) {
            let spans = &record.status.as_ref().unwrap().spans;
            series.extend(spans.iter().map(|s| (name(record), s.kind, s.subject.clone())));
        }
        let (observer, kind, subject) = series.iter().nth(pick.index(series.len())).cloned().unwrap();
        for record in run.agents.iter_mut().chain(run.operator.as_mut()) {
            if name(record) == observer {
                // The containers of a twin are what proves it; nobody can miss what nobody saw.
                let twin = |s: &crate::api::Span| s.uid.as_deref() == Some("db-9");
                record.status.as_mut().unwrap().spans.retain(|s| s.kind != kind || s.subject != subject || twin(s));
            }
        }
        prop_assert_ne!(run.judge().verdict, Verdict::Pass);
    }
}

/// What rests on nothing but itself: the operator's canaries to the losing side, which has its own, and a pod of the rest, which nothing
/// is predicted of.
const NOT_NEEDED: [(&str, SpanKind, &str); 2] =
    [("w2", SpanKind::Canary, "cp1"), ("w2", SpanKind::Pod, "default/web-7d4b9c6f58-bbbbb")];

#[test]
fn every_other_series_is_needed_to_pass() {
    let count = passing().agents.len() + 1;
    for i in 0..count {
        let whole = passing();
        let record = whole.agents.iter().chain(whole.operator.as_ref()).nth(i).unwrap();
        let spans = &record.status.as_ref().unwrap().spans;
        let series: std::collections::BTreeSet<_> = spans.iter().map(|s| (s.kind, s.subject.as_str())).collect();
        for (kind, subject) in series {
            let mut run = passing();
            let record = run.agents.iter_mut().chain(run.operator.as_mut()).nth(i).unwrap();
            let node = record.spec.node.clone();
            record.status.as_mut().unwrap().spans.retain(|s| s.kind != kind || s.subject != subject);
            let needed = !NOT_NEEDED.contains(&(node.as_str(), kind, subject));
            assert_eq!(run.judge().verdict != Verdict::Pass, needed, "{node} {kind:?} {subject}");
        }
    }
}
