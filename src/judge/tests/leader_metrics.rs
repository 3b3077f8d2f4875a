//! Components that say themselves whether they lead, where nobody reads the container runtime.

use super::{
    fixture::{CUT, END, Run, START, passing, span},
    mutations::KCM,
};
use crate::api::{
    Check, Finding, FindingResult, LEADER_DOWN, LEADER_UNREAD, LEADING, NOT_LEADING, Span, SpanKind, Verdict,
};

const UNKNOWN: FindingResult = FindingResult::Inconclusive;

/// What the controller manager of the cut side said: the socket it listens on (0: none), its state, from and to.
type Said<'a> = (u32, &'a str, f64, f64);

fn tell(run: &mut Run, history: &[Said<'_>]) {
    let told = history.iter().map(|(socket, state, from, to)| {
        let id = (*socket > 0).then(|| socket.to_string());
        Span { id, ..span(0.2, SpanKind::LeaderMetric, "kube-controller-manager", state, *from, *to) }
    });
    run.status("cp1").spans.extend(told);
}

/// LeaderGap and LeaderOverlap of its Lease, which moved after 8.5 s and not after 9 s.
fn found(run: &Run) -> [Finding; 2] {
    let findings = run.judge().findings;
    [Check::LeaderGap, Check::LeaderOverlap]
        .map(|check| findings.iter().find(|f| f.check == check && f.subject == KCM).expect("a finding").clone())
}

/// The same where the runtime of its node is not read.
fn told(history: &[Said<'_>]) -> [Finding; 2] {
    let mut run = passing();
    let status = run.status("cp1");
    status.reads_containers = false;
    status.spans.retain(|s| s.kind != SpanKind::Container);
    tell(&mut run, history);
    assert_ne!(run.judge().verdict, Verdict::Pass, "nobody knows what became of its pods");
    found(&run)
}

fn results(history: &[Said<'_>]) -> [FindingResult; 2] {
    told(history).map(|f| f.result)
}

#[test]
fn a_process_that_said_nothing_leaves_it_open() {
    let [gap, overlap] = told(&[]);
    assert_eq!([gap.result, overlap.result], [UNKNOWN; 2]);
    assert_eq!(overlap.evidence, "cp1: the container runtime is not read");
    // From the cut on nobody could authenticate any more, and it still listens.
    assert_eq!(results(&[(7, LEADING, START, -0.5), (7, LEADER_UNREAD, 1.5, END)]), [UNKNOWN; 2]);
    assert_eq!(results(&[(7, LEADING, START, 7.5), (7, LEADER_UNREAD, 9.5, END)]), [UNKNOWN; 2]);
    assert_eq!(results(&[(7, LEADER_UNREAD, START, 4.0), (0, LEADER_DOWN, 6.0, END)]), [UNKNOWN; 2], "it may have led");
    assert_eq!(results(&[(7, LEADING, START, -5.0), (8, NOT_LEADING, -3.0, END)]), [UNKNOWN; 2], "another one held it");
}

#[test]
fn a_process_that_led_and_was_gone_before_another_took_the_lease() {
    for after in [(0, LEADER_DOWN, 6.0, END), (8, NOT_LEADING, 6.0, END), (8, LEADER_UNREAD, 6.0, END)] {
        let [gap, overlap] = told(&[(7, LEADING, START, 4.0), after]);
        assert_eq!([gap.result, overlap.result], [FindingResult::Held; 2], "{gap:?} {overlap:?}");
        assert!(overlap.observed.starts_with("none, by 2."), "{overlap:?}");
        let ended = "old process ended between 4 s after the cut and 6 s after the cut";
        assert!(gap.observed.ends_with(ended), "{gap:?}");
        assert!(overlap.evidence.starts_with("cp1: leadermetric kube-controller-manager leading"), "{overlap:?}");
    }
}

#[test]
fn a_process_that_still_led_when_another_one_did() {
    for after in [(0, LEADER_DOWN, 17.0, END), (7, NOT_LEADING, 17.0, END), (7, LEADER_UNREAD, 17.0, END)] {
        let [_, overlap] = told(&[(7, LEADING, START, 15.0), after]);
        assert_eq!(overlap.result, FindingResult::Violated, "{overlap:?}");
        assert!(overlap.observed.starts_with("two leaders for"), "{overlap:?}");
    }
    // Two looks in between were not answered.
    let [_, overlap] = told(&[(7, LEADING, START, 5.0), (7, LEADER_UNREAD, 7.0, 9.0), (7, LEADING, 10.5, END)]);
    assert_eq!(overlap.result, FindingResult::Violated, "{overlap:?}");
}

#[test]
fn a_process_that_gave_up_and_did_not_end_is_neither() {
    let gave_up = [(7, LEADING, START, 4.0), (7, NOT_LEADING, 6.0, END)];
    assert_eq!(results(&gave_up), [UNKNOWN; 2], "what it led may go on");
    // Only the end of the process settles it.
    let ended = [(7, LEADING, START, 4.0), (7, NOT_LEADING, 5.0, 6.0), (0, LEADER_DOWN, 8.0, END)];
    assert_eq!(results(&ended)[1], FindingResult::Held);
    let late = [(7, LEADING, START, 4.0), (7, NOT_LEADING, 5.0, 20.0), (0, LEADER_DOWN, 22.0, END)];
    assert_eq!(results(&late)[1], UNKNOWN, "it did not say that it led, and it was there");
}

#[test]
fn a_process_that_led_anew_after_the_heal_accuses_nobody() {
    for between in [(7, NOT_LEADING, 6.0, CUT + 10.0), (7, LEADER_UNREAD, 6.0, CUT + 10.0)] {
        let history = [(7, LEADING, START, 4.0), between, (7, LEADING, CUT + 12.0, END)];
        assert_eq!(results(&history), [UNKNOWN; 2]);
    }
    assert_eq!(results(&[(7, LEADING, START, 4.0), (7, LEADING, CUT + 12.0, END)]), [UNKNOWN; 2], "nobody looked");
}

#[test]
fn the_runtime_is_believed_before_the_process_itself() {
    let mut run = passing();
    let by_runtime = found(&run);
    tell(&mut run, &[(7, LEADING, START, END)]);
    assert_eq!(found(&run), by_runtime);
    // A component without a container, such as a service of systemd: the runtime is read, and says nothing of it.
    let mut run = passing();
    run.status("cp1").spans.retain(|s| !s.subject.contains("controller-manager"));
    assert_eq!(found(&run).map(|f| f.result), [UNKNOWN; 2]);
    tell(&mut run, &[(7, LEADING, START, 4.0), (0, LEADER_DOWN, 6.0, END)]);
    assert_eq!(run.judge().verdict, Verdict::Pass);
}

#[test]
fn metrics_of_a_clock_that_nobody_compared_settle_nothing() {
    let mut run = passing();
    let status = run.status("cp1");
    (status.reads_containers, status.clock) = (false, None);
    tell(&mut run, &[(7, LEADING, START, 4.0), (0, LEADER_DOWN, 6.0, END)]);
    assert_eq!(found(&run).map(|f| f.result), [UNKNOWN; 2]);
}
