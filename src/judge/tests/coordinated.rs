//! A Lease whose holder an API server picks (coordinated leader election).

use super::{
    fixture::{END, Run, START, passing},
    mutations::{KCM, expect},
};
use crate::api::{Check, Finding, FindingResult, SpanKind, Verdict};

fn coordinated(run: &mut Run) {
    let lease = run.snapshot.leases.iter_mut().find(|l| l.subject() == KCM).expect("a Lease of the fixture");
    lease.strategy = Some("OldestEmulationVersion".into());
}

/// The passing run with such a Lease and this history of it.
fn with(history: &[(&str, f64, f64)]) -> impl FnOnce(&mut Run) {
    move |run: &mut Run| {
        coordinated(run);
        run.rewrite_operator(SpanKind::Lease, KCM, history);
    }
}

fn takeover(change: impl FnOnce(&mut Run)) -> Finding {
    let mut run = passing();
    change(&mut run);
    let findings = run.judge().findings;
    findings.into_iter().find(|f| f.check == Check::LeaseTakeover && f.subject == KCM).expect("a finding")
}

#[test]
fn it_may_move_and_may_stay() {
    expect(coordinated, Verdict::Pass, &[]);
    let moved = takeover(coordinated);
    assert_eq!((moved.result, moved.predicted.as_str()), (FindingResult::Held, "stays with cp1 or leaves it from 0 s"));
    let stayed = takeover(with(&[("cp1_1", START, END)]));
    assert_eq!((stayed.result, stayed.observed.as_str()), (FindingResult::Held, "did not move during the cut"));
    // At once: by its own rules that would be too early.
    let early = [("cp1_1", START, 1.0), ("cp2_2", 1.5, END)];
    assert_eq!(takeover(with(&early)).result, FindingResult::Held);
    let by_its_own_rules = takeover(|run| run.rewrite_operator(SpanKind::Lease, KCM, &early));
    assert_eq!(by_its_own_rules.result, FindingResult::Violated);
}

#[test]
fn whoever_is_picked_first_may_have_it_back() {
    let back = [("cp1_1", START, 8.5), ("cp2_2", 9.0, 100.0), ("cp1_3", 100.5, END)];
    let found = takeover(with(&back));
    assert_eq!(found.result, FindingResult::Noted, "{found:?}");
    assert!(found.observed.ends_with("moved 2 times"), "{found:?}");
    expect(with(&back), Verdict::Pass, &[]);
    let degraded = [(Check::LeaseTakeover, KCM, FindingResult::Degraded)];
    expect(|run| run.rewrite_operator(SpanKind::Lease, KCM, &back), Verdict::Degraded, &degraded);
}

#[test]
fn one_that_was_picked_and_then_cut_off_accuses_nobody() {
    let picked = [("cp1_1", START, 8.5), ("cp1_9", 9.0, END)];
    let open = [(Check::LeaseTakeover, KCM, FindingResult::Inconclusive)];
    expect(with(&picked), Verdict::Inconclusive, &open);
}

#[test]
fn neither_its_count_nor_its_leaders_are_asked_about() {
    let mut run = passing();
    coordinated(&mut run);
    // API servers count nothing.
    let seen = run.operator_status().spans.iter_mut().filter(|s| s.kind == SpanKind::Lease && s.subject == KCM);
    seen.for_each(|s| s.detail = Some("transitions=0".into()));
    let findings = run.judge().findings;
    let asked = |check: Check| findings.iter().any(|f| f.check == check && f.subject == KCM);
    assert!(asked(Check::LeaseTakeover));
    for check in [Check::LeaseHistory, Check::LeaderGap, Check::LeaderOverlap, Check::LeaseStable] {
        assert!(!asked(check), "{check:?}");
    }
}
