//! Makes room for a plan and for a verdict: a run's status is a part of one object. A cut of many workloads has several predictions and
//! several findings of each.

use crate::{
    api::{Check, Finding, Plan, Prediction, RackPartitionStatus},
    predict::count,
};
use serde::Serialize;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashSet},
    mem::take,
};

/// Bytes of a status as JSON. etcd takes no more than 1.5 MiB at once (`--max-request-bytes`), and the object has its spec and its metadata
/// beside the status.
const MOST: usize = 1_400_000;
/// Bytes of its plan as JSON: half of it, so that a verdict's findings have as much.
const MOST_OF_PLAN: usize = MOST / 2;
/// What it takes at the most to say that lines of it were left out, bytes.
const SAID: usize = 300;

/// A plan without the lines of its prediction for which there is no room, and how many these are, which it says among its assumptions. The
/// first lines of each check stay longest. Nothing rests on the others: whoever judges a run predicts it again.
pub fn fitting_plan(mut plan: Plan) -> (Plan, usize) {
    let lines = take(&mut plan.prediction);
    let room = MOST_OF_PLAN.saturating_sub(bytes(&plan).saturating_add(SAID));
    let kept = that_fit(&lines, in_turns(&lines), room);
    let left_out = lines.len() - kept.len();
    plan.prediction = only(lines, &kept);
    if left_out > 0 {
        plan.assumptions.push(format!(
            "not shown: {} of the prediction, for which a run's status has no room; they are judged, and `kubectl rackpartition plan` \
             shows them",
            count(left_out, "line")
        ));
    }
    (plan, left_out)
}

/// Why there is no room for a plan even without a line of its prediction, where there is none: nothing of its sides and assumptions can be
/// left out, for people agree to them.
pub fn too_large(plan: &Plan) -> Option<String> {
    let size = bytes(plan);
    (size > MOST).then(|| {
        format!(
            "the plan is too large for a run's status: its {} and {} alone take {} kB of {} kB; name fewer racks in spec.cut that are cut \
             from each other, or fewer nodes by name",
            count(plan.sides.len(), "side"),
            count(plan.assumptions.len(), "assumption"),
            size / 1000,
            MOST / 1000
        )
    })
}

/// The indices of these lines: the first of each check, then the second of each, and so on.
fn in_turns(lines: &[Prediction]) -> Vec<usize> {
    let mut of_check: BTreeMap<Check, usize> = BTreeMap::new();
    let mut order: Vec<(usize, usize)> = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let turn = of_check.entry(line.check).or_default();
        order.push((*turn, i));
        *turn += 1;
    }
    order.sort_unstable();
    order.into_iter().map(|(_, i)| i).collect()
}

/// The same without the findings for which there is no room, and how many these are. The worst one of each check stays longest, then
/// the worse before the better. The verdict was made of all.
pub fn fitting(status: RackPartitionStatus) -> (RackPartitionStatus, usize) {
    fitting_in(MOST, status)
}

fn fitting_in(most: usize, mut status: RackPartitionStatus) -> (RackPartitionStatus, usize) {
    let findings = take(&mut status.findings);
    let room = most.saturating_sub(bytes(&status).saturating_add(r#","findings":[]"#.len()));
    let kept = that_fit(&findings, by_weight(&findings), room);
    let left_out = findings.len() - kept.len();
    status.findings = only(findings, &kept);
    (status, left_out)
}

/// The indices of those for which there is room, bytes, in this order up to the first for which there is none.
fn that_fit<T: Serialize>(all: &[T], order: Vec<usize>, mut room: usize) -> BTreeSet<usize> {
    let mut kept = BTreeSet::new();
    for i in order {
        let size = bytes(&all[i]).saturating_add(1);
        if size > room {
            break;
        }
        room -= size;
        kept.insert(i);
    }
    kept
}

/// Those of these indices, in their order.
fn only<T>(all: Vec<T>, kept: &BTreeSet<usize>) -> Vec<T> {
    all.into_iter().enumerate().filter(|(i, _)| kept.contains(i)).map(|(_, one)| one).collect()
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

    /// The plan of a cut that evicts so many workloads: four lines of each, as long as those of a lab, and seven of the recovery.
    fn plan(workloads: usize) -> Plan {
        fn line(check: Check, subject: String) -> Prediction {
            let (expected, reason) = ("e".repeat(60), "r".repeat(150));
            Prediction { check, subject, expected, window: None, bounds: None, reason }
        }
        let of_all = |check: Check| (0..workloads).map(move |i| line(check, format!("shop/service-{i} (Deployment)")));
        let checks = [Check::WorkloadEvicted, Check::WorkloadKept, Check::WorkloadDoubled, Check::WorkloadStuck];
        let recovery = (0..7).map(|i| line(Check::Recovery, format!("part {i}")));
        Plan { prediction: checks.into_iter().flat_map(of_all).chain(recovery).collect(), ..Plan::default() }
    }

    #[test]
    fn a_plan_that_fits_stays_as_it_is() {
        assert_eq!(fitting_plan(plan(100)), (plan(100), 0));
    }

    #[test]
    fn of_a_plan_of_too_many_workloads_the_first_lines_of_each_check_stay() {
        let whole = plan(1600);
        let (fitted, left_out) = fitting_plan(whole.clone());
        assert_eq!(fitted.prediction.len() + left_out, whole.prediction.len());
        assert!(left_out > 0 && bytes(&fitted) <= MOST_OF_PLAN && bytes(&fitted) > MOST_OF_PLAN - 2000, "{left_out}");
        let of = |check: Check| fitted.prediction.iter().filter(|line| line.check == check).count();
        assert_eq!(of(Check::Recovery), 7, "there are few of them");
        assert!(of(Check::WorkloadEvicted).abs_diff(of(Check::WorkloadStuck)) <= 1);
        assert!(fitted.prediction.is_sorted_by_key(|line| line.check), "in their order");
        let said = fitted.assumptions.last().unwrap();
        assert!(said.starts_with(&format!("not shown: {left_out} lines of the prediction")), "{said}");
        assert!(said.len() < SAID - 20, "{said}");
    }

    #[test]
    fn a_plan_whose_sides_and_assumptions_have_no_room_is_told_so() {
        let (fitted, _) = fitting_plan(plan(1600));
        assert_eq!(too_large(&fitted), None);
        let whole = Plan { assumptions: vec!["a".repeat(1000); 1500], ..plan(10) };
        let (fitted, left_out) = fitting_plan(whole);
        assert_eq!(left_out, 47, "all lines");
        let why = too_large(&fitted).unwrap();
        let says = |words: &str| why.contains(words);
        assert!(says("its 0 sides and 1501 assumptions alone take 150"), "{why}");
        assert!(says(" kB of 1400 kB; ") && says("spec.cut"), "{why}");
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
