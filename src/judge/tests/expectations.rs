//! `spec.expect` tightens and loosens, and never stands in for evidence.

use super::{
    fixture::{Run, passing},
    mutations::KCM,
    properties::{KINDS, without_kind, without_record},
};
use crate::api::{Check, Expect, Finding, FindingResult, Verdict};
use proptest::prelude::*;
use std::time::Duration;

/// Any of its times, from a second to an hour.
fn anything() -> impl Strategy<Value = Expect> {
    let limit = |seconds: u64| kube::core::Duration::from(Duration::from_secs(seconds));
    let time = || proptest::option::of((1_u64..3600).prop_map(limit));
    (time(), time(), time()).prop_map(|(api_unavailable, leader_takeover, recovered_within)| Expect {
        api_unavailable,
        leader_takeover,
        recovered_within,
    })
}

/// What is open because nobody saw it.
fn unseen(run: &Run) -> Vec<Finding> {
    run.judge().findings.into_iter().filter(|f| f.observed == "not known").collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_nobody_saw_stays_unknown_whatever_the_user_expects(
        expected in anything(),
        record in proptest::option::of(0usize..=6),
        kinds in proptest::sample::subsequence(KINDS.to_vec(), 0..=KINDS.len()),
    ) {
        let mut run = passing();
        if let Some(record) = record {
            without_record(&mut run, record);
        }
        for kind in &kinds {
            without_kind(&mut run, *kind);
        }
        let (verdict, open) = (run.judge().verdict, unseen(&run));
        run.spec.expect = expected;
        let still = run.judge();
        for before in open {
            let is_same = |f: &&Finding| f.check == before.check && f.subject == before.subject;
            let results: Vec<FindingResult> = still.findings.iter().filter(is_same).map(|f| f.result).collect();
            prop_assert!(results.contains(&FindingResult::Inconclusive), "{before:?} became {results:?}");
        }
        if verdict == Verdict::Inconclusive {
            prop_assert_ne!(still.verdict, Verdict::Pass);
            prop_assert_ne!(still.verdict, Verdict::Degraded);
        }
    }
}

#[test]
fn a_finding_says_what_was_let_pass() {
    let tolerance = |run: &Run, check: Check, subject: &str| {
        let findings = run.judge().findings;
        findings.into_iter().find(|f| f.check == check && f.subject == subject).expect("a finding").tolerance
    };
    let mut run = passing();
    let of_node = |run: &Run| tolerance(run, Check::NodeNotReady, "w1");
    assert_eq!(of_node(&run).as_deref(), Some("± 5 s and 0.5 s of clocks"));
    run.spec.guards.max_clock_error = Duration::from_millis(200).into();
    assert_eq!(of_node(&run).as_deref(), Some("± 5 s and 0.2 s of clocks"), "the numbers that decide");
    let of_lease = |run: &Run| tolerance(run, Check::LeaseTakeover, KCM);
    let early = "1.2 s early, by a look and the clocks";
    assert_eq!(of_lease(&run), Some(format!("{early}; 0.2 s late, by the clocks")));
    // Of what the user accepts nothing is let pass but what the operator's own clock leaves open.
    run.spec.expect.leader_takeover = Some(Duration::from_secs(20).into());
    assert_eq!(of_lease(&run), Some(format!("{early}; 0 s late, by the clocks")));
    let of_side = tolerance(&run, Check::ApiWritable, "rest");
    assert_eq!(of_side.as_deref(), Some("± 0.5 s and 0 s of clocks; 10 s for one server alone"));
    // Where there is nothing to compare there is nothing to tolerate, and no such field.
    let none = Finding { tolerance: None, ..run.judge().findings.remove(0) };
    assert!(serde_json::to_value(none).unwrap().get("tolerance").is_none());
}

#[test]
fn what_was_seen_is_held_against_what_the_user_expects() {
    let verdict = |change: fn(&mut Expect)| {
        let mut run = passing();
        change(&mut run.spec.expect);
        run.judge().verdict
    };
    assert_eq!(verdict(|e| e.recovered_within = Some(Duration::from_secs(10).into())), Verdict::Fail);
    assert_eq!(verdict(|e| e.recovered_within = Some(Duration::from_secs(60).into())), Verdict::Pass);
    assert_eq!(verdict(|e| e.api_unavailable = Some(Duration::from_secs(1).into())), Verdict::Fail);
    assert_eq!(verdict(|e| e.api_unavailable = Some(Duration::from_secs(30).into())), Verdict::Pass);
}
