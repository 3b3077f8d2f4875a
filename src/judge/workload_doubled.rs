//! WorkloadDoubled, of what is replaced at once: how long a pod that was cut off and its replacement both ran, by the runtimes of all
//! nodes.

use super::{
    Case, Said,
    cite::{cite, when},
    eviction::{LATE, may_be_late},
    pods::ApiPod,
    ran::{Ran, Twice, clock_of, twice},
    second_copy,
    timeline::{Track, merged},
    workload_why::{Why, why_made},
};
use crate::{
    api::{Check, Finding, FindingResult},
    predict::{Certainty, Replacement, WorkloadForecast, seconds},
};
use std::collections::BTreeMap;

pub const TOLERANCE: &str = "what the clocks leave open of each start and end";

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let of = |owner: &WorkloadForecast| {
        let predicted = owner.predictions().into_iter().find(|p| p.check == Check::WorkloadDoubled);
        let said = copies(case, owner).tolerating(tolerance(case, owner));
        said.about(Check::WorkloadDoubled, owner.subject(), predicted.map_or(String::new(), |p| p.expected))
    };
    let owners = case.forecast.workloads.iter().filter(|owner| owner.replacement == Replacement::AtOnce);
    owners.map(of).collect()
}

/// Of a second copy that is certain it is asked as well when it starts.
fn tolerance(case: &Case<'_>, owner: &WorkloadForecast) -> String {
    match (owner.doubled, case.operator()) {
        (Certainty::Must, Ok(operator)) => {
            format!("{} of when it starts; {TOLERANCE}", second_copy::slack(case, operator))
        }
        _ => TOLERANCE.into(),
    }
}

fn copies(case: &Case<'_>, owner: &WorkloadForecast) -> Said {
    let operator = match case.operator() {
        Ok(operator) => operator,
        Err(why) => return Said::open(why),
    };
    let in_api: Vec<&ApiPod<'_>> = case.pods.of_owner(owner).collect();
    let Some(seen) = in_api.iter().flat_map(|p| &p.seen).max_by(|a, b| a.to.total_cmp(&b.to)) else {
        return Said::open("operator: none of its pods was seen");
    };
    if let Some(why) = case.pods.unread() {
        return Said::open(why);
    }
    let is_new = |p: &&&ApiPod<'_>| p.last() > 0.0 && case.pods.planned_pod(p.uid).is_none();
    let found: Vec<&ApiPod<'_>> = in_api.iter().filter(is_new).copied().collect();
    let mut worst: Option<Twice> = None;
    for new in found.iter().filter(|p| !p.node.is_empty()) {
        let containers = case.pods.containers(new.uid);
        let running = new.seen.iter().find(|s| s.span.state.starts_with("Running"));
        if let (Some(seen), true) = (running, containers.is_empty()) {
            return Said::open(format!("{}, and {} saw no container of it", cite(operator, seen), new.node));
        }
        for pod in owner.pods.iter().filter(|p| p.node != new.node) {
            match twice(case, case.pods.containers(&pod.uid), containers) {
                Ok(both) => worst = worst.into_iter().chain(both).max_by(|a, b| a.definite.total_cmp(&b.definite)),
                Err(why) => return Said::open(why),
            }
        }
    }
    let extra = match Extra::of(case, owner, &in_api) {
        Ok(extra) => extra,
        Err(why) => return Said::open(why),
    };
    // What may have run that nobody saw.
    let unlooked = case.pods.unlooked(case.timeline.end);
    let evidence = || worst.as_ref().map_or_else(|| cite(operator, seen), |w| w.evidence.clone());
    let said = match owner.doubled {
        _ if extra.definite > 0.0 => {
            let pair = worst.as_ref().map(|w| w.definite).filter(|definite| *definite > 0.0);
            let longest = pair.map_or(String::new(), |definite| format!(" for {}", seconds(definite)));
            let (result, observed) = too_many(case, operator, owner, &found, (longest.as_str(), &extra));
            Said::new(result, observed, evidence())
        }
        // By the API alone.
        Certainty::Must if found.is_empty() && extra.possible <= 0.0 => {
            Said::new(FindingResult::Degraded, "no second copy was made", cite(operator, seen))
        }
        _ if unlooked.is_some() => Said::open(unlooked.unwrap_or_default()),
        _ if extra.possible > 0.0 => {
            let most = container_seconds(extra.possible);
            Said::new(FindingResult::Noted, format!("ran twice for {most} at the most, by what is known"), evidence())
        }
        Certainty::Must => {
            Said::new(FindingResult::Noted, second_copy::never_beside(case, &found), cite(operator, seen))
        }
        _ => Said::new(FindingResult::Held, "ran once", cite(operator, seen)),
    };
    match owner.doubled {
        Certainty::Must => second_copy::timed(case, operator, owner, &found, said),
        Certainty::May | Certainty::MustNot => said,
    }
}

/// What is said where more ran for certain than were planned with. `longest`: for how long two did, in words.
fn too_many(
    case: &Case<'_>,
    operator: &Track<'_>,
    owner: &WorkloadForecast,
    found: &[&ApiPod<'_>],
    (longest, extra): (&str, &Extra),
) -> (FindingResult, String) {
    let too_many = format!("{} too many", container_seconds(extra.definite));
    let twice = format!("ran twice{longest}, {too_many}");
    if owner.doubled != Certainty::MustNot {
        return (FindingResult::Held, twice);
    }
    let all_late = found.iter().all(|p| may_be_late(case, operator, owner, p.first()));
    let first = found.iter().map(|p| p.first()).reduce(f64::min).filter(|_| all_late);
    match (why_made(case, owner, found), first) {
        (Why::InPlace, Some(first)) => {
            (FindingResult::Noted, format!("{twice}, made {}: {LATE}", when(first, case.timeline.heal)))
        }
        (Why::InPlace, None) => (FindingResult::Degraded, twice),
        (Why::Wanted, _) => (
            FindingResult::Noted,
            format!("{too_many}: made while none that was cut off was being deleted, so more may have been wanted"),
        ),
        (Why::Unseen, _) => (
            FindingResult::Inconclusive,
            format!("{too_many}, and whether in place of others or because more were wanted was not seen"),
        ),
    }
}

fn container_seconds(sum: f64) -> String {
    format!("{} container-seconds", seconds(sum).trim_end_matches(" s"))
}

/// Seconds for which more containers of an owner ran than it had pods when the run was planned, summed over the containers too many,
/// from the cut to the end of watching: those that certainly ran, and the most that may have.
struct Extra {
    definite: f64,
    possible: f64,
}

impl Extra {
    fn of(case: &Case<'_>, owner: &WorkloadForecast, in_api: &[&ApiPod<'_>]) -> Result<Self, String> {
        let planned = case.pods.planned(owner);
        let mut uids: Vec<&str> = planned.iter().map(|p| p.uid.as_str()).chain(in_api.iter().map(|p| p.uid)).collect();
        uids.sort_unstable();
        uids.dedup();
        let mut ran: BTreeMap<&str, Ran> = BTreeMap::new();
        for uid in uids {
            let mut of_pod: BTreeMap<&str, Ran> = BTreeMap::new();
            for container in case.pods.containers(uid) {
                clock_of(case, container)?;
                let seen = &container.seen;
                // One that ran when it was last looked at, or was gone at the next look, may have gone on.
                let most = if seen.is("exited") { seen.to + seen.to_error } else { f64::INFINITY };
                of_pod.entry(container.name()).or_default().add(seen, (seen.to - seen.to_error, most));
            }
            for (name, of_pod) in of_pod {
                let all = ran.entry(name).or_default();
                all.certainly.extend(of_pod.certainly);
                // A container that was started anew in its pod did not run beside itself, whatever the clocks leave open.
                all.possibly.extend(merged(of_pod.possibly));
            }
        }
        let beyond = |times: &[(f64, f64)]| beyond(times, planned.len(), case.timeline.end);
        Ok(Extra {
            definite: ran.values().map(|r| beyond(&r.certainly)).sum(),
            possible: ran.values().map(|r| beyond(&r.possibly)).sum(),
        })
    }
}

/// The integral, from the cut until `until`, of how many of these times there are at once beyond `allowed`.
fn beyond(times: &[(f64, f64)], allowed: usize, until: f64) -> f64 {
    let allowed = i32::try_from(allowed).unwrap_or(i32::MAX);
    let clipped = times.iter().map(|(from, to)| (from.max(0.0), to.min(until))).filter(|(from, to)| from < to);
    let mut changes: Vec<(f64, i32)> = clipped.flat_map(|(from, to)| [(from, 1), (to, -1)]).collect();
    changes.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let (mut running, mut since, mut sum) = (0_i32, 0.0, 0.0);
    for (at, change) in changes {
        sum += f64::from((running - allowed).max(0)) * (at - since);
        (running, since) = (running + change, at);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::beyond;

    #[test]
    fn what_is_beyond_what_was_planned_is_summed_over_all_of_it() {
        // Two planned, four at once from 10 s to 20 s, three until 30 s.
        let times = [(-5.0, 30.0), (-5.0, 90.0), (5.0, 20.0), (10.0, 40.0)];
        assert_eq!(beyond(&times, 2, 60.0), 5.0 + 2.0 * 10.0 + 10.0);
        assert_eq!(beyond(&times, 2, 15.0), 5.0 + 2.0 * 5.0, "only what was watched");
        assert_eq!(beyond(&times, 4, 60.0), 0.0);
        // Before the cut, and one that ends when the other starts.
        assert_eq!(beyond(&[(-9.0, -1.0), (-9.0, 5.0), (5.0, 9.0)], 1, 60.0), 0.0);
    }
}
