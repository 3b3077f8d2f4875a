//! HealDamage, by disruption budgets: whether so many pods ended after the heal that fewer were left than a budget wants. Kubelets that are
//! heard again end what was evicted meanwhile, and ask no budget.
//!
//! Pods count for as long as all their containers run, by the runtimes of all nodes, and they are ready as far as the API can know it: for
//! it those that are cut off are not, so that by it alone a budget may be crossed all through the cut. Asked only of budgets whose pods are
//! all observed.

use super::{
    Case, MAX_UNWATCHED, Said,
    cite::{cite, when},
    depth::{at_least, fewest},
    eviction::{LATE, may_be_late},
    heal_damage::until,
    pods::{ApiPod, Container, is_deleted, owner_of},
    ran::Ran,
    ready::Ready,
};
use crate::{
    api::{Check, Finding, FindingResult},
    predict::{BudgetForecast, Certainty, count},
    topology::Pod,
};
use std::collections::BTreeMap;

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let of = |budget: &BudgetForecast| {
        let said = judged(case, budget).unwrap_or_else(Said::open);
        let said = said.tolerating("what the clocks leave open of each start and end");
        said.about(Check::HealDamage, budget.title(), budget.expected())
    };
    case.forecast.budgets.iter().filter(|budget| budget.is_observed()).map(of).collect()
}

/// # Errors
/// With what is missing.
fn judged(case: &Case<'_>, budget: &BudgetForecast) -> Result<Said, String> {
    let (from, to) = (just_before_the_heal(case), until(case));
    let ran = counted(case, budget, (from, to))?;
    let containers = pods(case, budget).into_keys().flat_map(|uid| case.pods.containers(uid));
    let ended = containers.filter(|c| !c.seen.is("running") && c.seen.to >= from);
    let first = ended.min_by(|a, b| a.seen.to.total_cmp(&b.seen.to));
    let left = Left {
        at_heal: fewest(&ran.possibly, from, from),
        least: fewest(&ran.certainly, from, to),
        most: fewest(&ran.possibly, from, to),
    };
    let (result, observed) = verdict(case, budget, &left, || doubt(case, budget, from));
    let example = first.or_else(|| budget.pods.iter().find_map(|p| case.pods.containers(&p.uid).last()));
    let evidence = example.and_then(|c| Some(cite(case.timeline.agent(c.node)?, &c.seen)));
    Ok(Said::new(result, observed, evidence.unwrap_or_default()))
}

/// A node that heals early by its own clock may end its pods before the others do. Seconds after the cut.
fn just_before_the_heal(case: &Case<'_>) -> f64 {
    case.timeline.heal - case.allowed_clock_error()
}

/// When its pods ran and were ready between the two, seconds after the cut.
///
/// # Errors
/// With what is missing.
fn counted(case: &Case<'_>, budget: &BudgetForecast, (from, to): (f64, f64)) -> Result<Ran, String> {
    case.operator()?;
    // What runs in place of another may run on any node.
    if let Some(why) = case.pods.unread() {
        return Err(why.into());
    }
    if to <= case.timeline.heal {
        return Err("nobody watched after the heal".into());
    }
    if let Some(why) = case.pods.unlooked(to) {
        return Err(why);
    }
    let mut ran = Ran::default();
    for (uid, names) in pods(case, budget) {
        if let Some(why) = unseen(case, budget, uid, from) {
            return Err(why);
        }
        let ready = case.pods.api_pod(uid).map_or_else(Ready::unknown, |pod| Ready::of(case, pod, to));
        let times = of_pod(case, names, case.pods.containers(uid), &ready, (from, to))?;
        ran.certainly.extend(times.certainly);
        ran.possibly.extend(times.possibly);
    }
    Ok(ran)
}

/// When fewer of its pods than it wants were left for the first time after the heal, and the error of that: seconds after the cut, looked
/// at until `to`. `None` where so many were left all the time.
///
/// # Errors
/// With what is missing, or that it was crossed before.
pub fn first_crossed(case: &Case<'_>, budget: &BudgetForecast, to: f64) -> Result<Option<(f64, f64)>, String> {
    let from = just_before_the_heal(case);
    let (ran, wanted) = (counted(case, budget, (from, to))?, budget.desired as usize);
    if fewest(&ran.possibly, from, from) < wanted {
        return Err("it was crossed before the heal already".into());
    }
    let first = |times: &[(f64, f64)]| first_outside(&at_least(wanted, times, from, to), from, to);
    match (first(&ran.certainly), first(&ran.possibly)) {
        (None, _) => Ok(None),
        (Some(perhaps), Some(at)) => Ok(Some((at, at - perhaps))),
        (Some(_), None) => Err("whether it was crossed is not known".into()),
    }
}

/// The first moment between the two that is in none of these times, which are in order.
fn first_outside(times: &[(f64, f64)], from: f64, to: f64) -> Option<f64> {
    let end = times.iter().fold(from, |end, (start, stop)| if *start <= end { end.max(*stop) } else { end });
    (end < to).then_some(end)
}

/// How many pods ran and were ready.
struct Left {
    /// At the most at the heal.
    at_heal: usize,
    /// At any moment after it, for certain and at the most.
    least: usize,
    most: usize,
}

/// `doubt`: why a budget that is crossed need not have been crossed by what was predicted; to find out goes through all pods.
fn verdict(
    case: &Case<'_>,
    budget: &BudgetForecast,
    left: &Left,
    doubt: impl FnOnce() -> Option<String>,
) -> (FindingResult, String) {
    let (wanted, most) = (budget.desired as usize, count(left.most, "pod"));
    let kept = format!("{} left at the least, {wanted} wanted", count(left.least, "pod"));
    let crossed = format!("crossed: {most} left at one time, {wanted} wanted");
    // Of a cut that comes and goes nobody knows when its pods are ended.
    let is_no_surprise = budget.crossed != Certainty::MustNot || !case.evidence.plan.pattern.is_steady();
    match () {
        () if budget.healthy < budget.desired || left.at_heal < wanted => {
            (FindingResult::Noted, format!("crossed before the heal already, {wanted} wanted"))
        }
        () if left.most < wanted && is_no_surprise => (FindingResult::Noted, crossed),
        () if left.most < wanted => match doubt() {
            Some(doubt) => (FindingResult::Inconclusive, format!("{crossed}, {doubt}")),
            None => (FindingResult::Degraded, crossed),
        },
        () if left.least < wanted => {
            let result = if is_no_surprise { FindingResult::Noted } else { FindingResult::Inconclusive };
            (result, format!("{} to {most} left at one time, by what is known, {wanted} wanted", left.least))
        }
        () if budget.crossed == Certainty::Must => (FindingResult::Noted, format!("not crossed: {kept}")),
        () => (FindingResult::Held, kept),
    }
}

/// Why nobody knows when a pod ran that was healthy, and not over before the cut, or that the API had running from then on: no runtime had
/// a container of it.
fn unseen(case: &Case<'_>, budget: &BudgetForecast, uid: &str, from: f64) -> Option<String> {
    if !case.pods.containers(uid).is_empty() || case.pods.is_over_before_the_cut(uid) {
        return None;
    }
    let healthy = budget.pods.iter().find(|p| p.uid == uid).map(|p| (p.node.as_str(), p.subject()));
    let runs = |p: &&ApiPod<'_>| p.last() >= from && p.seen.iter().any(|s| s.span.state.starts_with("Running/"));
    let made = || case.pods.api_pod(uid).filter(runs).map(|p| (p.node, p.subject.to_owned()));
    let (node, subject) = healthy.or_else(made)?;
    Some(format!("{node}: no container of {subject} was seen"))
}

/// Why nobody knows what a budget had to expect: of the pods that it was planned with one was over before the cut, and where another one
/// is in its place was not planned with; a pod may count of which nobody knows; or one may have been evicted later than is predicted.
fn doubt(case: &Case<'_>, budget: &BudgetForecast, from: f64) -> Option<String> {
    let over = budget.pods.iter().find(|p| case.pods.is_over_before_the_cut(&p.uid));
    let over = over.map(|p| format!("but {} was over before the cut, so nothing is predicted", p.subject()));
    let over = over.or_else(|| newcomer(case, budget, from).map(|pod| format!("unless {pod} counts")));
    over.or_else(|| budget.pods.iter().find_map(|pod| late(case, pod)))
}

/// That a pod may have been evicted later than is predicted, and when, where it was deleted at such a time.
fn late(case: &Case<'_>, pod: &Pod) -> Option<String> {
    let operator = case.operator().ok()?;
    let owner = case.forecast.workloads.iter().find(|owner| owner.pods.iter().any(|p| p.uid == pod.uid))?;
    let mut seen = case.pods.api_pod(&pod.uid)?.seen.iter();
    let deleted = seen.find(|s| is_deleted(s))?.from;
    let said = || format!("but {} was deleted {}: {LATE}", pod.subject(), when(deleted, case.timeline.heal));
    may_be_late(case, operator, owner, deleted).then(said)
}

/// A pod that was there then, in the budget's namespace and of an owner that had none when the run was planned, as after a rolling update.
/// Nobody reads its labels.
fn newcomer<'c>(case: &'c Case<'_>, budget: &BudgetForecast, from: f64) -> Option<&'c str> {
    let namespace = budget.pods.first()?.namespace.as_str();
    let is_new =
        |p: &&ApiPod<'_>| p.owner.0 == namespace && p.last() >= from && case.pods.planned_of(p.owner).is_empty();
    case.pods.in_api().find(is_new).map(|p| p.subject)
}

/// The pods that it selects by their uids, with their containers' names: those that were healthy, and all that the same owners had at any
/// time, which are of the same template.
fn pods<'c>(case: &'c Case<'_>, budget: &'c BudgetForecast) -> BTreeMap<&'c str, &'c [String]> {
    let mut all = BTreeMap::new();
    for pod in &budget.pods {
        let made = case.pods.in_api_of(owner_of(pod)).map(|made| made.uid);
        all.extend(made.map(|uid| (uid, pod.containers.as_slice())));
    }
    let own = |pod: &'c Pod| (pod.uid.as_str(), pod.containers.as_slice());
    all.extend(budget.pods.iter().map(own));
    all
}

/// The times between the two at which one pod ran and was ready: all containers of these names ran.
///
/// # Errors
/// Where that is not known.
fn of_pod(
    case: &Case<'_>,
    names: &[String],
    containers: &[Container<'_>],
    ready: &Ready,
    (from, to): (f64, f64),
) -> Result<Ran, String> {
    if names.is_empty() {
        return Err("the snapshot names no container of its pods".into());
    }
    let mut by_name: BTreeMap<&str, Ran> = BTreeMap::new();
    // Those that only prepare a pod have ended when it runs.
    for container in containers.iter().filter(|c| names.iter().any(|name| name == c.name())) {
        let seen = &container.seen;
        let track = case.timeline.agent(container.node).filter(|track| track.clock_known());
        let track =
            track.ok_or_else(|| format!("the clock of {} was not compared with the operator's", container.node))?;
        let goes_on = seen.is("running");
        if (goes_on && seen.to < to - MAX_UNWATCHED) || (seen.is("gone") && seen.to > 0.0) {
            return Err(format!("{}, and what became of it was not seen", cite(track, seen)));
        }
        let end = |error: f64| if goes_on { f64::INFINITY } else { seen.to + error };
        by_name.entry(container.name()).or_default().add(seen, (end(-seen.to_error), end(seen.to_error)));
    }
    let all = |of: fn(&Ran) -> &[(f64, f64)], ready: &[(f64, f64)]| {
        // Of each name one at a time.
        let each = by_name.values().flat_map(|ran| at_least(1, of(ran), from, to));
        let each: Vec<_> = each.chain(ready.iter().copied()).collect();
        at_least(names.len() + 1, &each, from, to)
    };
    Ok(Ran {
        certainly: all(|ran| ran.certainly.as_slice(), &ready.certainly),
        possibly: all(|ran| ran.possibly.as_slice(), &ready.possibly),
    })
}
