//! FaultProven: the network was cut where it should be and nowhere else, by probes and by the kernels' counters.

use super::{Case, datagrams, kernel, probes, unplaced};
use crate::api::Finding;

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = probes::check(case);
    findings.extend(datagrams::check(case));
    findings.extend(kernel::check(case));
    findings.extend(unplaced::check(case));
    findings
}
