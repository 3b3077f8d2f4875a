//! FaultProven: the network was cut where it should be and nowhere else, by probes and by the kernels' counters.

use super::{Case, Said, datagrams, kernel, probes, unplaced};
use crate::{
    api::{Check, Finding},
    fault::Sample,
};

/// Counters alone prove no edge: somebody must have looked across the cut with packets of the kind that it takes.
fn unlooked(case: &Case<'_>) -> Option<Finding> {
    let plan = case.evidence.plan;
    let sample = Sample::new(plan);
    let by_probes =
        plan.agents().into_iter().any(|node| sample.targets_of(node).into_iter().any(|t| plan.breaks_tcp(node, t)));
    let by_datagrams = datagrams::directions(case).iter().any(|d| d.loss > 0.0);
    let open = || {
        Said::open("nobody looked: no component listens on a port that is cut, and no datagram of the agents has it")
    };
    (!by_probes && !by_datagrams).then(|| open().about(Check::FaultProven, "edges", "looked at from both sides"))
}

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = probes::check(case);
    findings.extend(datagrams::check(case));
    findings.extend(kernel::check(case));
    findings.extend(unplaced::check(case));
    findings.extend(unlooked(case));
    findings
}
