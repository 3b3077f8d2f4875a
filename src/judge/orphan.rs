//! WorkloadOrphaned: no container goes on running when the API has no longer a pod for it: neither the API's users nor its controllers
//! know of such a one, and another one of its name may be made beside it.

use super::{
    Case, Said,
    cite::{cite, some, when},
    pods::{ApiPod, Container, Gone},
    timeline::Track,
};
use crate::{
    api::{Check, Finding, FindingResult, Prospect},
    predict::{
        constants::{POD_STOP_SLACK, TERMINATION_GRACE},
        count, seconds,
    },
};

const UNSEEN: &str = "one whose end was not seen, or not exactly enough";

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    // Where no pods are watched there is nothing to say.
    if case.evidence.snapshot.pods.is_empty() {
        return Vec::new();
    }
    let slack = seconds(POD_STOP_SLACK);
    let predicted = format!("no container outlives its pod by more than its grace period + {slack}");
    let said = match case.operator() {
        Err(why) => Said::open(why),
        Ok(operator) => judged(case, operator),
    };
    let said = said.tolerating(format!("{slack}, and the clocks' error"));
    vec![said.about(Check::WorkloadOrphaned, "all pods", predicted)]
}

fn judged(case: &Case<'_>, operator: &Track<'_>) -> Said {
    if let Some(why) = case.pods.unread() {
        return Said::open(why);
    }
    let (mut orphans, mut first, mut doubt, mut example, mut went) = (Vec::new(), None, None, None, 0);
    for pod in case.pods.in_api() {
        let last = pod.seen.last().map_or(String::new(), |s| cite(operator, s));
        // The latest look at which it can have gone.
        let (gone, is_gone) = match case.pods.gone(pod) {
            Gone::No => {
                example.get_or_insert(last);
                continue;
            }
            Gone::By(at) => (at, true),
            Gone::Unlisted(at) => (at, false),
        };
        went += 1;
        for container in case.pods.containers(pod.uid) {
            let evidence = || format!("{last}; {}", said(case, container));
            match fate(case, pod, container, gone + operator.error) {
                Fate::Ended => {}
                // Its own labels or its namespace's may have changed, and then it is still there.
                Fate::Outlived(_) | Fate::Unknown if !is_gone => {
                    doubt.get_or_insert_with(|| ("one that is no longer selected, or gone", evidence()));
                }
                Fate::Outlived(by) => {
                    let at = when(gone, case.timeline.heal);
                    orphans.push(format!("{} ran on for {} after its pod was gone, {at}", pod.subject, seconds(by)));
                    first.get_or_insert_with(evidence);
                }
                Fate::Unknown => {
                    doubt.get_or_insert_with(|| (UNSEEN, evidence()));
                }
            }
        }
        example = Some(last);
    }
    let unlooked = case.pods.unlooked(case.timeline.end);
    match (first, doubt, unlooked, example) {
        (Some(evidence), ..) => Said::new(FindingResult::Violated, some(&orphans), evidence),
        (None, Some((why, evidence)), ..) => Said::new(FindingResult::Inconclusive, why, evidence),
        (None, None, Some(why), _) => Said::open(why),
        (None, None, None, None) => Said::open("operator: no pod was seen"),
        (None, None, None, Some(evidence)) => {
            let observed = format!("{} went, and their containers with them", count(went, "pod"));
            Said::new(FindingResult::Held, observed, evidence)
        }
    }
}

/// What became of a container when its pod was gone.
enum Fate {
    Ended,
    /// Seconds for which it certainly ran when the pod was gone.
    Outlived(f64),
    /// It was not looked at for long enough, or the clocks leave it open.
    Unknown,
}

/// `gone`: when its pod was surely gone, seconds after the cut.
fn fate(case: &Case<'_>, pod: &ApiPod<'_>, container: &Container<'_>, gone: f64) -> Fate {
    let seen = &container.seen;
    // A kubelet that is cut off from the API can't be told before the heal.
    let told = if is_cut_off(case, container.node) { case.all_heard() } else { 0.0 };
    let limit = gone.max(told) + grace(case, pod) + POD_STOP_SLACK;
    match seen.is("running") {
        _ if seen.to - seen.to_error > limit => Fate::Outlived(seen.to - seen.to_error - gone),
        true => Fate::Unknown,
        false if seen.to + seen.to_error > limit => Fate::Unknown,
        false => Fate::Ended,
    }
}

fn is_cut_off(case: &Case<'_>, node: &str) -> bool {
    let side = case.places.side_of(node);
    case.evidence.sides.iter().any(|s| s.name == side && s.served != Prospect::Yes)
}

/// Its own, else that of others of its owner; at least the default of a pod that nobody planned with, seconds.
fn grace(case: &Case<'_>, pod: &ApiPod<'_>) -> f64 {
    let others = || case.pods.planned_of(pod.owner).iter().map(|p| p.grace_period).reduce(f64::max);
    let own = case.pods.planned_pod(pod.uid).map(|p| p.grace_period);
    own.or_else(others)
        .unwrap_or_else(|| case.evidence.snapshot.pods.iter().map(|p| p.grace_period).fold(TERMINATION_GRACE, f64::max))
}

fn said(case: &Case<'_>, container: &Container<'_>) -> String {
    case.timeline.agent(container.node).map_or(String::new(), |track| cite(track, &container.seen))
}
