//! `spec.expect` tightens and loosens, and never stands in for evidence.

use super::{
    fixture::{Run, passing},
    properties::{KINDS, without_kind, without_record},
};
use crate::api::{Expect, Finding, FindingResult, Verdict};
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
