//! When as many pods of each workload of the cut side are Ready as were at the cut, for the milestones of the recovery: the same ones, or
//! others in their stead.
//!
//! How many are wanted meanwhile nobody reads. Where they stay fewer, and the operator sees all that is desired be actual, fewer are wanted,
//! and it was well when that was first seen.

use super::{
    Case, MAX_UNWATCHED,
    cite::cite,
    depth::at_least,
    milestones::Step,
    pods::{ApiPod, Gone, is_deleted, is_ready},
    timeline::{Seen, Track, before_cut},
};
use crate::{
    api::{CLUSTER_UNREAD, SpanKind},
    predict::{Replacement, WorkloadForecast},
    topology::Pod,
};

/// # Errors
/// With what is missing.
pub fn steps(case: &Case<'_>) -> Result<Vec<Step>, String> {
    let operator = case.operator()?;
    // Pods that end by themselves need not come back.
    let lasting = case.forecast.workloads.iter().filter(|owner| !owner.may_finish());
    lasting.filter_map(|owner| step(case, operator, owner).transpose()).collect()
}

/// `None` where none was Ready, so that there is nothing to come back to.
fn step(case: &Case<'_>, operator: &Track<'_>, owner: &WorkloadForecast) -> Result<Option<Step>, String> {
    let heal = case.timeline.heal;
    let before = ready_at_the_cut(case, owner)?;
    if before == 0 {
        return Ok(None);
    }
    let seen = case.pods.of_owner(owner).flat_map(|pod| &pod.seen);
    let ready: Vec<&Seen<'_>> = seen.filter(|s| is_ready(s) && s.to >= heal).collect();
    let times: Vec<(f64, f64)> = ready.iter().map(|s| (s.from, s.to)).collect();
    let Some((at, _)) = at_least(before, &times, heal, case.timeline.end).first().copied() else {
        return fewer(case, operator, owner).map(Some);
    };
    let latest = ready.iter().filter(|s| s.from <= at).max_by(|a, b| a.from.total_cmp(&b.from));
    let evidence = latest.map_or(String::new(), |s| cite(operator, s));
    Ok(Some(Step { at: Some(at - heal), error: operator.error, evidence }))
}

/// How many of its pods were Ready then and may be again, of both sides; none where none of the cut side was.
///
/// # Errors
/// Where one of the cut side was not seen before.
fn ready_at_the_cut(case: &Case<'_>, owner: &WorkloadForecast) -> Result<usize, String> {
    let last = |pod: &Pod| case.pods.api_pod(&pod.uid).and_then(|p| before_cut(&p.seen));
    if let Some(unseen) = owner.pods.iter().find(|pod| last(pod).is_none()) {
        return Err(format!("operator: pod {} was not seen before the cut", unseen.subject()));
    }
    let was_ready = |pod: &Pod| {
        last(pod).is_some_and(is_ready) && !case.pods.is_over_before_the_cut(&pod.uid) && !is_for_good(case, owner, pod)
    };
    match owner.pods.iter().any(was_ready) {
        true => Ok(case.pods.planned(owner).iter().filter(|pod| was_ready(pod)).count()),
        false => Ok(0),
    }
}

/// Whether a pod was deleted for which nobody makes another one.
fn is_for_good(case: &Case<'_>, owner: &WorkloadForecast, pod: &Pod) -> bool {
    if owner.replacement != Replacement::Nobody {
        return false;
    }
    let was_deleted = |pod: &ApiPod<'_>| pod.seen.iter().any(is_deleted);
    case.pods.api_pod(&pod.uid).is_some_and(|pod| was_deleted(pod) || case.pods.gone(pod) != Gone::No)
}

/// Where there were fewer to the end of watching.
///
/// # Errors
/// Where nobody knows how many were wanted.
fn fewer(case: &Case<'_>, operator: &Track<'_>, owner: &WorkloadForecast) -> Result<Step, String> {
    let (heal, error) = (case.timeline.heal, operator.error);
    let cluster = operator.series(SpanKind::Convergence, "cluster");
    let last = cluster.last().filter(|s| s.to >= heal.max(case.timeline.end - MAX_UNWATCHED));
    let Some(last) = last else { return Err("operator: the cluster was not looked at until the end".into()) };
    let evidence = cite(operator, last);
    // Of these the operator looks at how many are desired.
    let is_counted = matches!(owner.kind.as_str(), "ReplicaSet" | "StatefulSet");
    match owner.replacement {
        Replacement::Nobody => Ok(Step { at: None, error, evidence }),
        _ if is_counted && last.is("ok") => Ok(Step { at: Some((last.from - heal).max(0.0)), error, evidence }),
        _ if is_counted && last.is(CLUSTER_UNREAD) => Err(format!("{evidence}: nobody saw whether all was as desired")),
        _ if is_counted => Ok(Step { at: None, error, evidence }),
        _ => Err(format!(
            "operator: fewer pods of {} were Ready than at the cut, and how many were wanted is not known",
            owner.subject()
        )),
    }
}
