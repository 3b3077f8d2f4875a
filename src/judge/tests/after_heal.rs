//! What becomes of the side that could write when the network is whole again.

use super::{
    fixture::{CUT, END, Run, START, moment, passing},
    mutations::expect,
};
use crate::api::{Check, Finding, FindingResult, SpanKind, Verdict};

const CONTROL_PLANE: &str = "etcd and API";
const NODES: &str = "nodes that were heard";

fn amiss(result: FindingResult) -> [(Check, &'static str, FindingResult); 1] {
    [(Check::HealDamage, CONTROL_PLANE, result)]
}

fn of(run: &Run, subject: &str) -> Finding {
    let findings = run.judge().findings;
    findings.into_iter().find(|f| f.check == Check::HealDamage && f.subject == subject).expect("a finding")
}

/// Members on the side that could write fail so many seconds after the heal.
fn members_fail(run: &mut Run, from: f64, to: f64) {
    let (from, to) = (CUT + from, CUT + to);
    let history = [("ok", START, from - 1.0), ("failing", from, to), ("ok", to + 1.0, END)];
    ["cp2", "cp3"].iter().for_each(|node| run.rewrite(node, SpanKind::Health, "etcd", &history));
}

#[test]
fn a_majority_of_etcd_that_is_lost_after_the_heal() {
    // An election may take 5 s.
    expect(|run| members_fail(run, 31.0, 34.0), Verdict::Pass, &[]);
    expect(|run| members_fail(run, 31.0, 40.0), Verdict::Degraded, &amiss(FindingResult::Degraded));
    expect(|run| members_fail(run, 31.0, 70.0), Verdict::Fail, &amiss(FindingResult::Violated));
    let mut run = passing();
    members_fail(&mut run, 31.0, 70.0);
    let found = of(&run, CONTROL_PLANE);
    assert!(found.observed.starts_with("etcd: a majority of members unhealthy for 3"), "{found:?}");
    assert!(found.evidence.contains("cp2: health etcd failing"), "{found:?}");
    // One alone is no majority.
    let one = |run: &mut Run| {
        let history = [("ok", START, CUT + 30.0), ("failing", CUT + 31.0, CUT + 70.0), ("ok", CUT + 71.0, END)];
        run.rewrite("cp2", SpanKind::Health, "etcd", &history);
    };
    expect(one, Verdict::Pass, &[]);
}

#[test]
fn members_at_which_nobody_looks_after_the_heal() {
    let unseen = |run: &mut Run| {
        let back = [("ok", START, 0.9), ("failing", 1.9, CUT + 3.0), ("ok", CUT + 4.0, CUT + 20.0)];
        run.rewrite("cp1", SpanKind::Health, "etcd", &back);
        let looked = [("ok", START, CUT + 20.0)];
        ["cp2", "cp3"].iter().for_each(|node| run.rewrite(node, SpanKind::Health, "etcd", &looked));
    };
    expect(unseen, Verdict::Inconclusive, &amiss(FindingResult::Inconclusive));
}

/// What became of writes to the side that could write between 30 s and 71 s after the heal, by the operator and by its own nodes.
fn writes(run: &mut Run, by_operator: &[(&str, f64, f64)], by_itself: &[(&str, f64, f64)]) {
    for server in ["cp2", "cp3"] {
        let well = [("acknowledged", START, 0.2), ("unknown", 0.7, 2.0), ("acknowledged", 2.4, CUT + 30.0)];
        let again = [("acknowledged", CUT + 71.0, END)];
        run.rewrite_operator(SpanKind::Canary, server, &[&well[..], by_operator, &again].concat());
        let well = [("acknowledged", START, CUT + 30.0)];
        run.rewrite(server, SpanKind::Canary, server, &[&well[..], by_itself, &again].concat());
    }
}

#[test]
fn a_side_that_can_not_write_any_more_after_the_heal() {
    let failing = [("unknown", CUT + 31.0, CUT + 70.0)];
    expect(|run| writes(run, &failing, &failing), Verdict::Fail, &amiss(FindingResult::Violated));
    // Who accepts that accepts it here too.
    let accepted = |run: &mut Run| {
        writes(run, &failing, &failing);
        run.spec.expect.api_unavailable = Some("60s".parse().unwrap());
    };
    expect(accepted, Verdict::Pass, &[]);
    // The operator was away, and the nodes wrote on.
    let acknowledged = [("acknowledged", CUT + 31.0, CUT + 70.0)];
    expect(|run| writes(run, &[], &acknowledged), Verdict::Pass, &[]);
    // Nobody tried.
    expect(|run| writes(run, &[], &[]), Verdict::Inconclusive, &amiss(FindingResult::Inconclusive));
}

#[test]
fn where_nobody_could_write_in_the_cut_or_it_was_not_steady_it_is_not_asked() {
    let is_asked = |change: fn(&mut Run)| {
        let mut run = passing();
        change(&mut run);
        run.judge().findings.iter().any(|f| f.subject == CONTROL_PLANE)
    };
    assert!(is_asked(|_| {}));
    assert!(!is_asked(|run| run.plan.pattern.flap = Some((30.0, 10.0))));
}

#[test]
fn a_node_that_was_heard_and_is_lost_after_the_heal_is_told() {
    let history = |lost: &[(&str, f64, f64)]| {
        let mut run = passing();
        run.rewrite_operator(SpanKind::Node, "w3", lost);
        of(&run, NODES)
    };
    assert_eq!(history(&[("True", START, END)]).result, FindingResult::Held);
    let lost = history(&[("True", START, CUT + 20.0), ("Unknown", CUT + 21.0, CUT + 50.0), ("True", CUT + 51.0, END)]);
    // The grace period is shorter than a kubelet needs to connect anew.
    assert_eq!(lost.result, FindingResult::Noted, "{lost:?}");
    assert_eq!(lost.observed, "NotReady: w3 21 s after the heal");
    // It was so before.
    assert_eq!(history(&[("True", START, 20.0), ("Unknown", 21.0, END)]).result, FindingResult::Held);
    let unseen = history(&[("True", START, CUT + 20.0)]);
    assert_eq!(unseen.result, FindingResult::Inconclusive, "{unseen:?}");
}

#[test]
fn that_nobody_watched_for_long_does_not_make_anybody_well() {
    let short = |change: fn(&mut Run)| {
        let mut run = passing();
        run.schedule.observed_until = Some(moment(0.0, CUT + 3.0).wall);
        change(&mut run);
        let found = of(&run, CONTROL_PLANE);
        (found.result, found.evidence)
    };
    assert_eq!(short(|_| {}).0, FindingResult::Held);
    let members = short(|run| {
        let looked = [("ok", START, CUT - 1.0)];
        ["cp2", "cp3"].iter().for_each(|node| run.rewrite(node, SpanKind::Health, "etcd", &looked));
    });
    assert_eq!(members, (FindingResult::Inconclusive, "no member of etcd was seen healthy after the heal".into()));
    let writes = short(|run| {
        for server in ["cp2", "cp3"] {
            let tried = [("acknowledged", START, CUT - 1.0)];
            run.rewrite_operator(SpanKind::Canary, server, &tried);
            run.rewrite(server, SpanKind::Canary, server, &tried);
        }
    });
    let unseen = "rest: nobody saw a write acknowledged after the heal";
    assert_eq!(writes, (FindingResult::Inconclusive, unseen.into()));
}
