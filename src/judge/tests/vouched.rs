//! Times for which the operator saw nothing, and what objects say of them afterwards.

use super::{
    fixture::{END, Run, START, moment},
    mutations::expect,
};
use crate::api::{Check, FindingResult, SINCE, Span, SpanKind, Verdict};

const UNKNOWN: FindingResult = FindingResult::Inconclusive;
const STABLE: &str = "kube-system/snapshot-controller";

/// The history of one subject in the operator's record: state, detail, from and to.
fn tell(run: &mut Run, kind: SpanKind, subject: &str, history: &[(&str, &str, f64, f64)]) {
    let plain: Vec<_> = history.iter().map(|(state, _, from, to)| (*state, *from, *to)).collect();
    run.rewrite_operator(kind, subject, &plain);
    let told = run.operator_status().spans.iter_mut().filter(|s| s.kind == kind && s.subject == subject);
    told.zip(history).for_each(|(span, (_, detail, ..)): (&mut Span, _)| {
        span.detail = Some((*detail).to_owned()).filter(|d| !d.is_empty());
    });
}

#[test]
fn a_lease_that_counts_no_change_did_not_move_while_nobody_looked() {
    let open = [(Check::LeaseStable, STABLE, UNKNOWN), (Check::LeaseHistory, STABLE, UNKNOWN)];
    for (after, verdict, amiss) in [
        ("transitions=0", Verdict::Pass, &[][..]),
        // Taken and taken back, or of a kind that does not count.
        ("transitions=2", Verdict::Inconclusive, &open),
        ("", Verdict::Inconclusive, &open),
    ] {
        let history = [("cp2_1", "transitions=0", START, 10.0), ("cp2_1", after, 40.0, END)];
        expect(|run| tell(run, SpanKind::Lease, STABLE, &history), verdict, amiss);
    }
}

#[test]
fn a_lease_that_nobody_is_known_to_count_says_nothing_by_not_counting() {
    let open = [(Check::LeaseStable, STABLE, UNKNOWN)];
    let change = |run: &mut Run| {
        let lease = run.snapshot.leases.iter_mut().find(|l| l.subject() == STABLE).expect("a Lease of the fixture");
        lease.candidate_nodes.clear();
        let zero = "transitions=0";
        tell(run, SpanKind::Lease, STABLE, &[("cp2_1", zero, START, 10.0), ("cp2_1", zero, 40.0, END)]);
    };
    expect(change, Verdict::Inconclusive, &open);
}

/// As nodes write it: to the second.
fn since(at: f64) -> String {
    format!("{SINCE}={}", moment(0.0, at).wall.0.strftime("%Y-%m-%dT%H:%M:%SZ"))
}

#[test]
fn a_node_tells_when_it_changed_while_nobody_looked() {
    let long_ago = since(-900.0);
    // Predicted within 10 to 41 s of the cut.
    for (turned, verdict, amiss) in [
        (since(22.0), Verdict::Pass, None),
        (since(60.0), Verdict::Degraded, Some(FindingResult::Degraded)),
        // By its own word it had changed before it was seen unchanged.
        (since(0.0), Verdict::Inconclusive, Some(UNKNOWN)),
        (String::new(), Verdict::Inconclusive, Some(UNKNOWN)),
    ] {
        let history = [
            ("True", long_ago.as_str(), START, 5.0),
            ("Unknown", turned.as_str(), 62.0, 80.0),
            ("True", "", 80.5, END),
        ];
        let amiss: Vec<_> = amiss.map(|result| (Check::NodeNotReady, "w1", result)).into_iter().collect();
        expect(|run| tell(run, SpanKind::Node, "w1", &history), verdict, &amiss);
    }
}

#[test]
fn a_node_that_was_ready_all_the_time_says_so() {
    let subject = "rest: 4 nodes";
    for (after, verdict, amiss) in [
        (since(-900.0), Verdict::Pass, &[][..]),
        (since(30.0), Verdict::Inconclusive, &[(Check::NodeNotReady, subject, UNKNOWN)]),
    ] {
        let history = [("True", since(-900.0), START, 5.0), ("True", after, 62.0, END)];
        let history = history.each_ref().map(|(state, detail, from, to)| (*state, detail.as_str(), *from, *to));
        expect(|run| tell(run, SpanKind::Node, "w2", &history), verdict, amiss);
    }
}
