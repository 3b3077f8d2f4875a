//! FaultProven: the network was cut where it should be and nowhere else, by probes and by the kernels' counters.

use super::{Case, kernel, probes};
use crate::api::Finding;

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = probes::check(case);
    findings.extend(kernel::check(case));
    findings
}
