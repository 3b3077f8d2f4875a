//! WorkloadEvicted: when pods of the losing side are deleted, against the interval in which their toleration ends.

use super::{
    Case, MAX_UNWATCHED, Said,
    cite::{cite, some, when},
    node::TOLERANCE,
    pods::{Gone, is_deleted},
    timeline::{Seen, Track, before_cut, longest_hole},
};
use crate::{
    api::{Check, Finding, FindingResult, Window},
    predict::{Certainty, WorkloadForecast, constants::KUBELET_RECONNECT, count},
    topology::Pod,
};

/// Why a pod may have been evicted later than is predicted.
pub const LATE: &str = "the API server that its kubelet asks need not have been back from the loss of etcd";

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    case.forecast.workloads.iter().filter_map(|owner| of(case, owner)).collect()
}

fn of(case: &Case<'_>, owner: &WorkloadForecast) -> Option<Finding> {
    let said = match case.operator() {
        Err(why) => Said::open(why),
        Ok(track) => evicted(case, track, owner),
    };
    // That nothing is deleted of what need not be is no news.
    let worth = owner.evicted != Certainty::MustNot || said.result > FindingResult::Held;
    worth.then(|| said.about(Check::WorkloadEvicted, owner.subject(), predicted(owner)))
}

fn predicted(owner: &WorkloadForecast) -> String {
    let predicted = owner.predictions().into_iter().find(|p| p.check == Check::WorkloadEvicted);
    predicted.map_or_else(|| format!("{} not deleted", count(owner.pods.len(), "pod")), |p| p.expected)
}

/// What was seen of one pod.
enum Deletion<'c, 'a> {
    /// Not at the first of these moments, and at the second, seconds after the cut.
    Between(f64, f64, &'c Seen<'a>),
    /// It was there until then, and not being deleted.
    Kept(&'c Seen<'a>),
}

fn evicted(case: &Case<'_>, track: &Track<'_>, owner: &WorkloadForecast) -> Said {
    let heal = case.timeline.heal;
    // Later than this whoever deletes it does so for another reason.
    let last = last_due(case, owner);
    let slack = case.slack(TOLERANCE, track);
    let unsure = slack.sum();
    let (mut deleted, mut amiss, mut evidence, mut worst) = (Vec::new(), Vec::new(), None, None);
    for pod in &owner.pods {
        match deletion(case, pod, last) {
            Err(why) => return Said::open(why),
            Ok(Deletion::Between(before, from, seen)) if before <= last => {
                let is_outside = owner
                    .eviction
                    .is_none_or(|w| from < w.earliest_seconds - unsure || before > w.latest_seconds + unsure);
                // After the heal somebody else may have had a reason.
                let is_unpredicted = owner.evicted == Certainty::MustNot && from <= heal;
                let words = format!("{} deleted {}", pod.name, when(from, heal));
                if is_unpredicted || (owner.evicted != Certainty::MustNot && is_outside) {
                    worst.get_or_insert_with(|| cite(track, seen));
                    amiss.push(words);
                } else {
                    deleted.push(words);
                }
                evidence = Some(cite(track, seen));
            }
            Ok(Deletion::Between(_, _, seen) | Deletion::Kept(seen)) => {
                if owner.evicted == Certainty::Must {
                    worst.get_or_insert_with(|| cite(track, seen));
                    amiss.push(format!("{} not deleted", pod.name));
                }
                evidence.get_or_insert_with(|| cite(track, seen));
            }
        }
    }
    let said = match (worst, evidence) {
        (Some(worst), _) => Said::new(FindingResult::Degraded, some(&amiss), worst),
        (None, None) => Said::open("it has no pods"),
        (None, Some(evidence)) if deleted.is_empty() => Said::new(FindingResult::Held, "not deleted", evidence),
        (None, Some(evidence)) => Said::new(FindingResult::Held, some(&deleted), evidence),
    };
    said.tolerating(slack.to_string())
}

/// Until when a deletion of its pods is put down to the cut, seconds after it.
fn last_due(case: &Case<'_>, owner: &WorkloadForecast) -> f64 {
    let eviction = owner.eviction.filter(|_| owner.evicted != Certainty::MustNot);
    eviction.map_or(case.timeline.heal + KUBELET_RECONNECT, |eviction| case.last_of_the_cut(&eviction))
}

/// Whether a pod of this owner that was deleted then, seconds after the cut, may have been evicted although that is not predicted: after
/// the heal and in the interval in which its toleration ends, for its node may still be tainted while [`LATE`].
pub fn may_be_late(case: &Case<'_>, operator: &Track<'_>, owner: &WorkloadForecast, at: f64) -> bool {
    let is_lost = case.forecast.recovery.kubelets_told > KUBELET_RECONNECT;
    let is_due = |eviction: &Window| at >= eviction.earliest_seconds - case.edge(TOLERANCE, operator);
    is_lost && at > case.timeline.heal && at <= case.all_heard() && owner.eviction.as_ref().is_some_and(is_due)
}

/// `due`: until when a deletion is put down to the cut, seconds after it.
fn deletion<'c, 'a>(case: &'c Case<'a>, pod: &Pod, due: f64) -> Result<Deletion<'c, 'a>, String> {
    let subject = pod.subject();
    let api = case.pods.api_pod(&pod.uid);
    let seen = api.map_or(&[][..], |p| p.seen.as_slice());
    let Some(before) = before_cut(seen) else {
        return Err(format!("operator: pod {subject} was not seen before the cut"));
    };
    if is_deleted(before) {
        return Err(format!("operator: pod {subject} was being deleted before the cut"));
    }
    let at = seen.iter().position(is_deleted);
    let until = at.map_or(case.timeline.heal, |at| seen[at].from);
    let last = seen.iter().map(|s| s.to).fold(f64::NEG_INFINITY, f64::max);
    // Deleted by force it is gone at once, and nobody sees it being deleted.
    let by_force = match (at, api.map_or(Gone::No, |p| case.pods.gone(p))) {
        (None, Gone::By(gone)) if gone <= 0.0 => {
            return Err(format!("operator: pod {subject} was gone before the cut"));
        }
        (None, Gone::By(gone)) => Some(gone),
        // Its own labels or its namespace's may have changed.
        (None, Gone::Unlisted(_)) if last <= due => {
            return Err(format!("operator: pod {subject} was deleted or is no longer selected"));
        }
        _ => None,
    };
    let watched = by_force.map_or(until, |_| last.min(until));
    if longest_hole(seen, 0.0, watched) > MAX_UNWATCHED {
        return Err(format!("operator: pod {subject} was not seen all through the cut"));
    }
    match (at, by_force, seen.last()) {
        (Some(at), ..) => Ok(Deletion::Between(seen[..at].last().map_or(0.0, |s| s.to), seen[at].from, &seen[at])),
        (None, Some(next), Some(seen)) => Ok(Deletion::Between(last, next, seen)),
        (None, None, Some(seen)) => Ok(Deletion::Kept(seen)),
        (None, _, None) => Err(format!("operator: pod {subject} was not seen")),
    }
}
