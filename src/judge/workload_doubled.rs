//! WorkloadDoubled: how long a pod that was cut off and its replacement both ran, by the runtimes of all nodes.

use super::{
    Case, Said,
    cite::{cite, when},
    eviction::{LATE, may_be_late},
    pods::{ApiPod, Container, owner_of},
    timeline::{Seen, Track, merged, overlap},
    workload_why::{Why, why_made},
};
use crate::{
    api::{Check, Finding, FindingResult, SpanKind},
    predict::{Certainty, Replacement, WorkloadForecast, seconds},
};
use std::collections::{BTreeMap, BTreeSet};

/// Its taint tells the control plane that whoever set it has made sure that nothing runs on the node any more (KEP-2268).
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

const TOLERANCE: &str = "what the clocks leave open of each start and end";

/// Whose pods have names that are free for another one only when they are gone.
const STATEFUL_SET: &str = "StatefulSet";

/// Namespace, kind and name of who made a pod.
type Owner<'a> = (&'a str, &'a str, &'a str);

/// Two containers that ran at the same time.
struct Twice {
    /// Seconds that both certainly ran, and that they may have run at the most.
    definite: f64,
    possible: f64,
    /// When the later one started, seconds after the cut.
    start: f64,
    evidence: String,
}

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let owners = case.forecast.workloads.iter().filter(|w| w.replacement != Replacement::Nobody);
    let of = |owner: &WorkloadForecast| {
        let predicted = owner.predictions().into_iter().find(|p| p.check == Check::WorkloadDoubled);
        let said = match owner.replacement {
            Replacement::Waits => {
                let uids: Vec<&str> = owner.pods.iter().map(|pod| pod.uid.as_str()).collect();
                identity(case, (&owner.namespace, &owner.kind, &owner.owner), &uids)
            }
            _ => copies(case, owner),
        };
        let said = said.tolerating(TOLERANCE);
        said.about(Check::WorkloadDoubled, owner.subject(), predicted.map_or(String::new(), |p| p.expected))
    };
    let elsewhere = elsewhere(case).into_iter().map(|owner| {
        let (namespace, kind, name) = owner;
        let planned = case.pods.planned_of(owner).iter().map(|pod| pod.uid.as_str());
        let uids: Vec<&str> = planned.chain(case.pods.in_api_of(owner).map(|pod| pod.uid)).collect();
        let said = identity(case, owner, &uids).tolerating(TOLERANCE);
        said.about(Check::WorkloadDoubled, format!("{namespace}/{name} ({kind})"), "never two of one name")
    });
    owners.map(of).chain(elsewhere).collect()
}

/// StatefulSets of which no pod is on a losing side, so that nothing is predicted of them. A kubelet that is cut off may start a pod of
/// theirs again that was deleted before (kubernetes#59848). Those of which none ever ran are left out.
fn elsewhere<'a>(case: &Case<'a>) -> BTreeSet<Owner<'a>> {
    let of_forecast =
        |w: &WorkloadForecast, owner: Owner<'_>| (w.namespace.as_str(), w.kind.as_str(), w.owner.as_str()) == owner;
    let owners = case.evidence.snapshot.pods.iter().map(owner_of).chain(case.pods.in_api().map(|pod| pod.owner));
    owners
        .filter(|owner| owner.1 == STATEFUL_SET)
        .filter(|owner| !case.forecast.workloads.iter().any(|w| of_forecast(w, *owner)))
        .filter(|owner| case.operator().is_err() || may_have_run(case, *owner))
        .collect()
}

/// Whether a pod of this owner ran, by the API or by a runtime.
fn may_have_run(case: &Case<'_>, owner: Owner<'_>) -> bool {
    let runs = |pod: &ApiPod<'_>| pod.seen.iter().any(|s| s.span.state.starts_with("Running"));
    case.pods.in_api_of(owner).any(runs) || names(case, owner).iter().any(|n| !case.pods.containers_named(n).is_empty())
}

/// `<namespace>/<pod>` of every pod that this owner had, on whichever side.
fn names(case: &Case<'_>, owner: Owner<'_>) -> BTreeSet<String> {
    let planned = case.pods.planned_of(owner).iter().map(|pod| pod.subject());
    planned.chain(case.pods.in_api_of(owner).map(|pod| pod.subject.to_owned())).collect()
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
    let evidence = || worst.as_ref().map_or_else(|| cite(operator, seen), |w| w.evidence.clone());
    match owner.doubled {
        _ if extra.definite > 0.0 => {
            let pair = worst.as_ref().map(|w| w.definite).filter(|definite| *definite > 0.0);
            let longest = pair.map_or(String::new(), |definite| format!(" for {}", seconds(definite)));
            let (result, observed) = too_many(case, operator, owner, &found, (longest.as_str(), &extra));
            Said::new(result, observed, evidence())
        }
        _ if extra.possible > 0.0 => {
            let most = container_seconds(extra.possible);
            Said::new(FindingResult::Noted, format!("ran twice for {most} at the most, by the clocks"), evidence())
        }
        Certainty::Must if found.is_empty() => {
            Said::new(FindingResult::Degraded, "no second copy was made", cite(operator, seen))
        }
        Certainty::Must => {
            Said::new(FindingResult::Noted, "a second copy was made and did not run", cite(operator, seen))
        }
        _ => Said::new(FindingResult::Held, "ran once", cite(operator, seen)),
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
                of_pod.entry(container.name()).or_default().add(&container.seen);
            }
            for (name, of_pod) in of_pod {
                let all = ran.entry(name).or_default();
                all.definite.extend(of_pod.definite);
                // A container that was started anew in its pod did not run beside itself, whatever the clocks leave open.
                all.possible.extend(merged(of_pod.possible));
            }
        }
        let beyond = |times: &[(f64, f64)]| beyond(times, planned.len(), case.timeline.end);
        Ok(Extra {
            definite: ran.values().map(|r| beyond(&r.definite)).sum(),
            possible: ran.values().map(|r| beyond(&r.possible)).sum(),
        })
    }
}

/// When containers certainly ran, and when they may have.
#[derive(Default)]
struct Ran {
    definite: Vec<(f64, f64)>,
    possible: Vec<(f64, f64)>,
}

impl Ran {
    fn add(&mut self, seen: &Seen<'_>) {
        self.definite.push((seen.from + seen.from_error, seen.to - seen.to_error));
        self.possible.push((seen.from - seen.from_error, seen.to + seen.to_error));
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

/// Whether two pods of one name ran at the same time. `uids`: pods of which one at least must have been seen to say that none did.
fn identity(case: &Case<'_>, owner: Owner<'_>, uids: &[&str]) -> Said {
    // A twin may be anywhere: every runtime must have been read to say that there was none.
    if let Some(why) = case.pods.unread() {
        return Said::open(why);
    }
    let (mut doubt, mut allowed) = (None, None);
    for pod in names(case, owner) {
        let all = case.pods.containers_named(&pod);
        for (i, x) in all.iter().enumerate() {
            for y in all[i + 1..].iter().filter(|y| y.uid() != x.uid()) {
                let both = match twice(case, std::slice::from_ref(x), std::slice::from_ref(y)) {
                    Ok(Some(both)) if both.possible > 0.0 => both,
                    Ok(_) => continue,
                    Err(why) => return Said::open(why),
                };
                if both.definite <= 0.0 {
                    doubt = Some(both);
                    continue;
                }
                let name = pod.rsplit('/').next().unwrap_or_default();
                let observed = format!("two of {name} ran for {}", seconds(both.definite));
                let older = if x.seen.from <= y.seen.from { x } else { y };
                match authorised(case, older.node, both.start) {
                    Some(how) => allowed = Some((format!("{observed}, authorised: {how}"), both.evidence)),
                    None => return Said::new(FindingResult::Violated, observed, both.evidence),
                }
            }
        }
    }
    let own = uids.iter().find_map(|uid| case.pods.containers(uid).first());
    let evidence = own.and_then(|c| Some(cite(case.timeline.agent(c.node)?, &c.seen)));
    match (doubt, allowed) {
        (Some(both), _) => {
            let observed = format!("two of one name for {} at the most, by the clocks", seconds(both.possible));
            Said::new(FindingResult::Inconclusive, observed, both.evidence)
        }
        (None, Some((observed, evidence))) => Said::new(FindingResult::Noted, observed, evidence),
        (None, None) => evidence.map_or_else(
            || Said::open("its containers were never seen"),
            |evidence| Said::new(FindingResult::Held, "ran once", evidence),
        ),
    }
}

/// Whether somebody had declared this node dead before `start`, and with that the identities on it free: by its taint, or by deleting the
/// node (pod-safety.md; `podgc/gc_controller.go`).
fn authorised(case: &Case<'_>, node: &str, start: f64) -> Option<String> {
    let operator = case.operator().ok()?;
    let mut taints = operator.series(SpanKind::Taint, node).iter();
    if let Some(taint) = taints.find(|s| s.from < start && s.span.state.contains(OUT_OF_SERVICE)) {
        return Some(cite(operator, taint));
    }
    let last = operator.series(SpanKind::Node, node).iter().max_by(|a, b| a.to.total_cmp(&b.to))?;
    let gone = case.pods.next_look(last.to).is_some_and(|gone| gone < start);
    gone.then(|| format!("{}, and not after it", cite(operator, last)))
}

fn clock_of(case: &Case<'_>, container: &Container<'_>) -> Result<(), String> {
    match case.timeline.agent(container.node) {
        Some(track) if track.clock_known() => Ok(()),
        _ => Err(format!("the clock of {} was not compared with the operator's", container.node)),
    }
}

/// How long one of these and one of those ran at the same time, at the longest; `None` where either of them never ran.
fn twice(case: &Case<'_>, old: &[Container<'_>], new: &[Container<'_>]) -> Result<Option<Twice>, String> {
    let mut worst: Option<Twice> = None;
    for x in old {
        for y in new {
            clock_of(case, x)?;
            clock_of(case, y)?;
            let (definite, possible) = overlap(&x.seen, &y.seen, x.node == y.node);
            if worst.as_ref().is_none_or(|w| w.definite < definite) {
                let said =
                    |c: &Container<'_>| case.timeline.agent(c.node).map_or(String::new(), |track| cite(track, &c.seen));
                let (start, evidence) = (x.seen.from.max(y.seen.from), format!("{}; {}", said(y), said(x)));
                worst = Some(Twice { definite, possible, start, evidence });
            }
        }
    }
    Ok(worst)
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
