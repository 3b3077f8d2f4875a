//! WorkloadDoubled, of what is replaced at once: when a second copy that is certain starts, by the runtime of its node, against its
//! interval.

use super::{
    Case, MAX_UNWATCHED, Said,
    cite::{cite, when},
    eviction::{LATE, may_be_late},
    node::TOLERANCE,
    pods::{ApiPod, Container, Gone, is_deleted},
    said::Slack,
    timeline::{Seen, Track},
    workload_why::{Why, why_made},
};
use crate::{
    api::FindingResult,
    predict::{WorkloadForecast, constants::POD_START, interval, seconds},
    topology::Pod,
};
use std::slice;

/// How far from its interval a second copy may start, beside what the clock of its own node leaves open. That interval has the time from a
/// deletion to a container in it already.
pub fn slack(case: &Case<'_>, operator: &Track<'_>) -> Slack {
    case.slack(TOLERANCE, operator)
}

/// What is said of second copies, with when the first one started where that was certainly not as predicted. What is open stays so.
/// `found`: pods that were not planned with.
pub fn timed<'a>(
    case: &Case<'a>,
    operator: &Track<'_>,
    owner: &WorkloadForecast,
    found: &[&ApiPod<'a>],
    said: Said,
) -> Said {
    let Some((start, predicted)) = first(case, owner, found).zip(owner.copy) else { return said };
    if said.result > FindingResult::Noted {
        return said;
    }
    let (seen, slack) = (&start.container.seen, slack(case, operator).sum());
    let started =
        |how: &str| format!("starts {} after the cut, {how} than {}", seconds(seen.from), interval(&predicted));
    let (result, words) = if start.earliest > predicted.latest_seconds + slack {
        if case.pods.longest_unwatched(0.0, seen.from) > MAX_UNWATCHED {
            return Said::open("operator: pods were not looked at all the time until a second copy started");
        }
        match why_late(case, operator, owner, &start, predicted.latest_seconds, slack) {
            Some(why) => (FindingResult::Noted, format!("{}, but {why}", started("later"))),
            None => (FindingResult::Degraded, started("later")),
        }
    } else if seen.from + seen.from_error < predicted.earliest_seconds - slack {
        // None is made before a pod is deleted, and WorkloadEvicted tells who was too early.
        (FindingResult::Noted, started("earlier"))
    } else {
        return said;
    };
    let evidence = case.timeline.agent(start.container.node).map_or(said.evidence, |track| cite(track, seen));
    Said::new(said.result.max(result), format!("{words}; {}", said.observed), evidence)
}

/// What is said where second copies were made, and no more ran at any time than were planned with.
pub fn never_beside(case: &Case<'_>, found: &[&ApiPod<'_>]) -> &'static str {
    let is_pending = |pod: &ApiPod<'_>| pod.seen.last().is_some_and(|s| s.span.state.starts_with("Pending/"));
    let last_looks = case.timeline.end - MAX_UNWATCHED;
    let is_there = |pod: &ApiPod<'_>| case.pods.gone(pod) == Gone::No && pod.last() >= last_looks;
    match found.iter().find(|pod| is_pending(pod) && is_there(pod)) {
        _ if found.iter().any(|pod| !case.pods.containers(pod.uid).is_empty()) => {
            "a second copy ran, and at no time more than were planned with"
        }
        Some(pod) if pod.seen.last().is_some_and(has_node) => {
            "a second copy was made and did not run: it was Pending until the end"
        }
        Some(_) => "a second copy was made and did not run: it was Pending until the end, and had no node",
        None => "a second copy was made and did not run",
    }
}

/// The first second copy that ran.
struct Start<'c, 'a> {
    pod: &'c ApiPod<'a>,
    container: &'c Container<'a>,
    /// When any of them may have started at the earliest, seconds after the cut.
    earliest: f64,
}

/// `None` where none ran that was made after the cut in place of a pod of the cut side: one that was wanted beside them is no copy.
fn first<'c, 'a>(case: &'c Case<'a>, owner: &WorkloadForecast, found: &[&'c ApiPod<'a>]) -> Option<Start<'c, 'a>> {
    let is_copy =
        |new: &&'c ApiPod<'a>| new.first() > 0.0 && why_made(case, owner, slice::from_ref(new)) == Why::InPlace;
    let copies: Vec<&'c ApiPod<'a>> = found.iter().copied().filter(is_copy).collect();
    let mut started: Vec<(&'c ApiPod<'a>, &'c Container<'a>)> = Vec::new();
    for pod in &copies {
        started.extend(case.pods.containers(pod.uid).iter().map(|container| (*pod, container)));
    }
    let (pod, container) = started.iter().copied().min_by(|a, b| a.1.seen.from.total_cmp(&b.1.seen.from))?;
    // A container may have been gone before anybody looked at its runtime, and then the API knows more.
    let runs = |pod: &&'c ApiPod<'a>| pod.seen.iter().find(|s| s.span.state.starts_with("Running/")).map(|s| s.from);
    let by_the_runtime = started.iter().map(|(_, c)| c.seen.from - c.seen.from_error);
    let earliest = by_the_runtime.chain(copies.iter().filter_map(runs)).fold(f64::INFINITY, f64::min);
    Some(Start { pod, container, earliest })
}

/// Why nobody is accused here of a second copy that is late: another check tells why, or it is not predicted. `latest`: when it had to
/// start at the latest, seconds after the cut. `slack`: seconds.
fn why_late(
    case: &Case<'_>,
    operator: &Track<'_>,
    owner: &WorkloadForecast,
    start: &Start<'_, '_>,
    latest: f64,
    slack: f64,
) -> Option<String> {
    let heal = case.timeline.heal;
    let is_soon_after = |at: &f64| start.earliest <= *at + POD_START + slack;
    if !case.evidence.plan.pattern.is_steady() {
        return Some("nothing is predicted for a cut that is not steady".into());
    }
    let deleted = first_deleted(case, owner);
    // It is late by what WorkloadEvicted tells.
    if let Some(at) = deleted.filter(is_soon_after) {
        let why = if may_be_late(case, operator, owner, at) { format!(": {LATE}") } else { String::new() };
        return Some(format!("the first of its pods was deleted {}{why}", when(at, heal)));
    }
    let due = deleted.map_or(latest, |at| at.max(latest));
    let is_in_time = start.pod.first() <= due + slack;
    if let Some(at) = placed(start.pod).filter(|at| is_in_time && is_soon_after(at)) {
        return Some(format!("no node was found for it until {}", when(at, heal)));
    }
    // A Job's `podReplacementPolicy` says so, and what others do nobody reads: before the heal no pod of the cut side can end.
    let may_wait = owner.kind != "ReplicaSet" && start.pod.first() > heal;
    may_wait.then(|| format!("its {} may wait until the first one has ended", owner.kind))
}

/// When the first of the pods that were cut off was seen being deleted or gone, seconds after the cut.
fn first_deleted(case: &Case<'_>, owner: &WorkloadForecast) -> Option<f64> {
    let of = |pod: &Pod| {
        let api = case.pods.api_pod(&pod.uid)?;
        let seen = api.seen.iter().find(|s| is_deleted(s)).map(|s| s.from);
        // Deleted by force it is gone at once.
        seen.or_else(|| match case.pods.gone(api) {
            Gone::By(at) => Some(at),
            Gone::No | Gone::Unlisted(_) => None,
        })
    };
    owner.pods.iter().filter_map(of).reduce(f64::min)
}

/// When a pod was first seen with a node that was seen without one before, seconds after the cut.
fn placed(pod: &ApiPod<'_>) -> Option<f64> {
    let at = pod.seen.iter().position(has_node).filter(|at| *at > 0)?;
    Some(pod.seen[at].from)
}

fn has_node(seen: &Seen<'_>) -> bool {
    seen.span.node.as_deref().is_some_and(|node| !node.is_empty())
}
