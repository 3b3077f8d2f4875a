//! Makes room for a verdict: a run's status is a part of one object. A cut of many workloads has several findings of each.

use crate::api::{Check, Finding, RackPartitionStatus};
use serde::Serialize;
use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashSet},
    mem::take,
};

/// Bytes of a status as JSON. etcd takes no more than 1.5 MiB at once (`--max-request-bytes`), and the object has its spec and its metadata
/// beside the status.
const MOST: usize = 1_400_000;

/// The same without the findings for which there is no room, and how many these are. The worst one of each check stays longest, then
/// the worse before the better. The verdict was made of all.
pub fn fitting(status: RackPartitionStatus) -> (RackPartitionStatus, usize) {
    fitting_in(MOST, status)
}

fn fitting_in(most: usize, mut status: RackPartitionStatus) -> (RackPartitionStatus, usize) {
    let findings = take(&mut status.findings);
    let mut room = most.saturating_sub(bytes(&status).saturating_add(r#","findings":[]"#.len()));
    let mut kept = BTreeSet::new();
    for i in by_weight(&findings) {
        let size = bytes(&findings[i]).saturating_add(1);
        if size > room {
            break;
        }
        room -= size;
        kept.insert(i);
    }
    let left_out = findings.len() - kept.len();
    status.findings = findings.into_iter().enumerate().filter(|(i, _)| kept.contains(i)).map(|(_, f)| f).collect();
    (status, left_out)
}

/// Their indices, those that must not be missing first.
fn by_weight(findings: &[Finding]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..findings.len()).collect();
    order.sort_by_key(|i| Reverse(findings[*i].result));
    let mut known: HashSet<Check> = HashSet::new();
    let (mut first, more): (Vec<usize>, Vec<usize>) = order.into_iter().partition(|i| known.insert(findings[*i].check));
    first.extend(more);
    first
}

fn bytes<T: Serialize>(value: &T) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |json| json.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::FindingResult;

    fn finding(check: Check, subject: String, result: FindingResult) -> Finding {
        let (predicted, observed, evidence) = ("p".repeat(300), "o".repeat(300), "e".repeat(300));
        Finding { check, subject, predicted, observed, result, tolerance: None, evidence }
    }

    #[test]
    fn what_fits_stays_as_it_is() {
        let findings = vec![finding(Check::Recovery, "cluster".into(), FindingResult::Held)];
        let status = RackPartitionStatus { findings, ..Default::default() };
        assert_eq!(fitting(status.clone()), (status, 0));
    }

    #[test]
    fn of_too_many_findings_the_worst_and_one_of_each_check_stay() {
        let kept = |i: usize| finding(Check::WorkloadKept, format!("shop/{i}"), FindingResult::Held);
        let mut findings: Vec<Finding> = (0..5000).map(kept).collect();
        findings[4711].result = FindingResult::Violated;
        findings.push(finding(Check::HealProven, "network".into(), FindingResult::Held));
        let all = findings.len();
        let (fitted, left_out) = fitting(RackPartitionStatus { findings, ..Default::default() });
        assert_eq!(fitted.findings.len() + left_out, all);
        assert!(left_out > 0 && bytes(&fitted) <= MOST && bytes(&fitted) > MOST - 2000, "{left_out}");
        assert!(fitted.findings.iter().any(|f| f.result == FindingResult::Violated));
        let last = fitted.findings.last().map(|f| f.check);
        assert_eq!(last, Some(Check::HealProven), "in their order");
    }

    #[test]
    fn where_there_is_no_room_at_all_the_verdict_stays_alone() {
        let findings = vec![finding(Check::Recovery, "cluster".into(), FindingResult::Held)];
        let message = Some("what was planned".repeat(100));
        let (fitted, left_out) = fitting_in(1000, RackPartitionStatus { findings, message, ..Default::default() });
        assert!(fitted.findings.is_empty() && fitted.message.is_some());
        assert_eq!(left_out, 1);
    }
}
