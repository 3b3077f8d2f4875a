//! HealDamage: what ran well on the cut side and is ended when the network is whole again, and whether a workload loses its last ready pod
//! by that. Damage often comes at the heal: kubelets hear of evictions, controllers of a second copy.

use super::{
    Case, MAX_UNWATCHED, Said,
    cite::{cite, some, when},
    heal_budgets, heal_control_plane, heal_nodes,
    pods::{ApiPod, Gone, is_ready, reader},
    timeline::{Track, merged},
};
use crate::{
    api::{Check, Finding, FindingResult, SpanKind},
    predict::{Certainty, WorkloadForecast, count, seconds},
    topology::Pod,
};

/// For so long after the heal whatever ends is put down to it, seconds (theory C15).
const AFTER_HEAL: f64 = 120.0;
/// A workload without a ready pod lost it by the heal where one of its pods was ended within this, seconds (theory C15).
const TOGETHER: f64 = 60.0;
/// The operator looks every second, and an answer may take two: what it saw ready may have been so for that much longer, and what it
/// sees ready may have been for that much before.
pub const LOOK: f64 = 3.0;

/// A pod that ran well on the cut side and was ended after the heal.
struct Ended<'a> {
    pod: &'a Pod,
    /// Seconds after the cut.
    at: f64,
    evidence: String,
}

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let control_plane = heal_control_plane::check(case).into_iter().chain(heal_nodes::check(case));
    workloads(case).into_iter().chain(heal_budgets::check(case)).chain(control_plane).collect()
}

/// From the heal to this, seconds after the cut, whatever ends is put down to the heal, as far as anybody watched.
pub fn until(case: &Case<'_>) -> f64 {
    (case.timeline.heal + AFTER_HEAL).min(case.timeline.end)
}

fn workloads(case: &Case<'_>) -> Option<Finding> {
    lasting(case).next()?;
    let within = (until(case) - case.timeline.heal).max(0.0);
    let predicted = format!("no workload loses its last ready pod within {} of the heal", seconds(within));
    let said = match case.operator() {
        Err(why) => Said::open(why),
        Ok(_) if case.timeline.end <= case.timeline.heal => Said::open("nobody watched after the heal"),
        Ok(operator) => judged(case, operator),
    };
    let (look, together) = (seconds(LOOK), seconds(TOGETHER));
    let said = said.tolerating(format!("{look} for a look, and only within {together} of a pod that ended"));
    Some(said.about(Check::HealDamage, "workloads of the cut side", predicted))
}

/// Workloads whose pods don't end by themselves: that of another one ends is no damage.
fn lasting<'c>(case: &'c Case<'_>) -> impl Iterator<Item = &'c WorkloadForecast> {
    case.forecast.workloads.iter().filter(|owner| !owner.may_finish())
}

fn judged(case: &Case<'_>, operator: &Track<'_>) -> Said {
    let (mut outages, mut first, mut doubt, mut unpredicted) = (Vec::new(), None, None, 0);
    let (mut all, mut example) = (0, None);
    for owner in lasting(case) {
        let ended = match ended(case, owner) {
            Ok(ended) => ended,
            Err(why) => return Said::open(why),
        };
        let Some(one) = ended.first() else { continue };
        all += ended.len();
        unpredicted += if owner.evicted == Certainty::MustNot { ended.len() } else { 0 };
        example.get_or_insert_with(|| one.evidence.clone());
        if let Some(why) = unwatched(case, &ended) {
            doubt.get_or_insert(why);
        }
        match outage(case, operator, owner) {
            Outage::None => {}
            Outage::Unseen(why) => {
                doubt.get_or_insert(why);
            }
            Outage::From(at, seen) => {
                if let Some(cause) = ended.iter().find(|e| (e.at - at).abs() <= TOGETHER) {
                    let (owner, pod, at) = (owner.subject(), &cause.pod.name, when(at, case.timeline.heal));
                    outages.push(format!("{owner} without a ready pod {at}, when {pod} ended"));
                    first.get_or_insert_with(|| format!("{seen}; {}", cause.evidence));
                }
            }
        }
    }
    let (ended, evidence) = (count(all, "pod"), example.unwrap_or_else(|| whole(case, operator)));
    match (first, doubt) {
        (Some(evidence), _) => {
            Said::new(FindingResult::Violated, format!("heal-induced outage: {}", some(&outages)), evidence)
        }
        (None, Some(why)) => Said::open(why),
        (None, None) if all == 0 => Said::new(FindingResult::Held, "none ended", evidence),
        (None, None) if unpredicted > 0 => {
            Said::new(FindingResult::Noted, format!("{ended} ended, {unpredicted} of them not to be evicted"), evidence)
        }
        (None, None) => Said::new(FindingResult::Held, format!("{ended} ended that had been evicted"), evidence),
    }
}

/// Pods that ran all through the cut, were well before it, and of which a container was ended after the heal.
fn ended<'c>(case: &'c Case<'_>, owner: &'c WorkloadForecast) -> Result<Vec<Ended<'c>>, String> {
    let heal = case.timeline.heal;
    let mut all = Vec::new();
    for pod in owner.pods.iter().filter(|p| p.ready) {
        let track = reader(&case.timeline, &pod.node)?;
        if !track.clock_known() {
            return Err(format!("the clock of {} was not compared with the operator's", track.who));
        }
        let ran = || case.pods.containers(&pod.uid).iter().filter(|c| c.seen.from <= 0.0);
        if ran().next().is_none() && !case.pods.is_over_before_the_cut(&pod.uid) {
            return Err(format!("{}: no container of {} was seen at the cut", track.who, pod.subject()));
        }
        let unseen = ran().find(|c| match c.seen.span.state.as_str() {
            "running" => c.seen.to < until(case) - MAX_UNWATCHED,
            // It ended then or later.
            "gone" => c.seen.to > 0.0 && c.seen.to + c.seen.to_error < heal,
            _ => false,
        });
        if let Some(container) = unseen {
            return Err(format!("{}, and what became of it after the heal was not seen", cite(track, &container.seen)));
        }
        let after = |at: f64, error: f64| at + error >= heal && at - error <= heal + AFTER_HEAL;
        let mut ended = ran().filter(|c| !c.seen.is("running") && after(c.seen.to, c.seen.to_error));
        if let Some(container) = ended.next() {
            all.push(Ended { pod, at: container.seen.to, evidence: cite(track, &container.seen) });
        }
    }
    Ok(all)
}

/// Why it is not known whether a workload was without a ready pod close to where these ended: nobody looked for too long.
fn unwatched(case: &Case<'_>, ended: &[Ended<'_>]) -> Option<String> {
    let (heal, until) = (case.timeline.heal, until(case));
    let close = |one: &Ended<'_>| ((one.at - TOGETHER).max(heal), (one.at + TOGETHER).min(until));
    let holes = ended.iter().map(close).map(|(from, to)| case.pods.longest_unwatched(from, to));
    let hole = holes.fold(0.0, f64::max);
    (hole > MAX_UNWATCHED).then(|| format!("operator: pods were not looked at for {} after the heal", seconds(hole)))
}

enum Outage {
    None,
    /// From when on it certainly had no ready pod any more, seconds after the cut, and who saw it.
    From(f64, String),
    Unseen(String),
}

/// Whether a workload that had a ready pod at the heal or after it had none any more.
fn outage(case: &Case<'_>, operator: &Track<'_>, owner: &WorkloadForecast) -> Outage {
    let (heal, until) = (case.timeline.heal, until(case));
    let (mut ready, mut other) = (Vec::new(), Vec::new());
    for seen in case.pods.of_owner(owner).flat_map(|p| &p.seen) {
        match is_ready(seen) {
            true => ready.push((seen.from - LOOK, seen.to + LOOK)),
            false => other.push(seen),
        }
    }
    if ready.is_empty() && other.is_empty() {
        return Outage::Unseen(format!("operator: no pod of {} was seen", owner.subject()));
    }
    // One with other labels may be ready and not be looked at.
    let was_ready = |p: &&ApiPod<'_>| p.seen.last().is_some_and(is_ready);
    let unlisted = case.pods.of_owner(owner).filter(|p| matches!(case.pods.gone(p), Gone::Unlisted(_)));
    let unlisted = unlisted.filter(was_ready).min_by(|a, b| a.last().total_cmp(&b.last()));
    // Between two times at which one was ready, and after the last of them.
    let ready = merged(ready);
    let starts = ready.iter().map(|r| r.0).skip(1).chain([until]);
    for (from, to) in ready.iter().map(|r| r.1).zip(starts) {
        let to = to.min(until);
        if from - LOOK < heal || from >= to {
            continue;
        }
        if let Some(pod) = unlisted.filter(|p| p.last() < to) {
            return Outage::Unseen(format!("operator: pod {} was deleted or is no longer selected", pod.subject));
        }
        // Somebody must have looked and seen none: a pod that is not ready, or the nodes, which are listed in the same look.
        let seen = other.iter().find(|s| s.meets(from, to)).copied();
        let others = || operator.of_kind(SpanKind::Node).find(|s| s.meets(from, to));
        if let Some(seen) = seen.or_else(others) {
            return Outage::From(from - LOOK, cite(operator, seen));
        }
    }
    Outage::None
}

/// The last that the operator saw of the pods.
fn whole(case: &Case<'_>, operator: &Track<'_>) -> String {
    let pods = lasting(case).flat_map(|owner| case.pods.of_owner(owner));
    let last = pods.flat_map(|p| &p.seen).max_by(|a, b| a.to.total_cmp(&b.to));
    last.map_or_else(|| "operator: none of their pods was seen".into(), |s| cite(operator, s))
}
