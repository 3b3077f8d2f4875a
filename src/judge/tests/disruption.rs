//! Zones in which evictions stop.

use super::{
    fixture::{END, Run, START},
    mutations::expect,
};
use crate::{
    api::{Check, FindingResult, SpanKind, Verdict},
    topology::Timer,
};

const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const AMISS: [(Check, &str, FindingResult); 1] = [(Check::NodeTainted, "isolated: 2 nodes", FindingResult::Degraded)];

/// Nobody is to be tainted but the first one.
fn without_evictions(run: &mut Run) {
    run.snapshot.timers.node_eviction_rate = Timer::read(0.0, "--node-eviction-rate");
}

#[test]
fn where_evictions_stop_no_more_than_the_first_few_are_tainted() {
    // Both nodes of r1 are.
    expect(without_evictions, Verdict::Degraded, &AMISS);
    let first = |run: &mut Run| {
        without_evictions(run);
        run.rewrite_operator(SpanKind::Taint, "cp1", &[("none", START, END)]);
    };
    expect(first, Verdict::Pass, &[]);
    // From the heal on nodes are counted anew.
    let after_the_heal = |run: &mut Run| {
        without_evictions(run);
        let tainted = [("none", START, 75.0), (UNREACHABLE, 75.5, 81.0), ("none", 81.5, END)];
        run.rewrite_operator(SpanKind::Taint, "cp1", &tainted);
    };
    let findings = {
        let mut run = super::fixture::passing();
        after_the_heal(&mut run);
        run.judge().findings
    };
    let found = findings.iter().find(|f| f.check == Check::NodeTainted).expect("a finding");
    assert!(!found.observed.contains("where evictions stop"), "{found:?}");
    assert!(found.predicted.ends_with("no more than 1 of a zone"), "{found:?}");
}

#[test]
fn where_every_zone_is_unready_taints_go() {
    // Of the other zones no node counts.
    let dark = |run: &mut Run| {
        let others = run.snapshot.nodes.iter_mut().filter(|n| n.zone.as_deref() != Some("r1"));
        others.for_each(|n| n.excluded_from_disruption = true);
    };
    // As in the run that passes: until the nodes are heard again.
    expect(dark, Verdict::Degraded, &AMISS);
    let gone = |run: &mut Run| {
        dark(run);
        for (node, at) in [("cp1", 24.0), ("w1", 34.0)] {
            let taints = [("none", START, at - 0.5), (UNREACHABLE, at, 41.0), ("none", 41.5, END)];
            run.rewrite_operator(SpanKind::Taint, node, &taints);
        }
    };
    expect(gone, Verdict::Pass, &[]);
}
