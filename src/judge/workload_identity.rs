//! WorkloadDoubled, of StatefulSets: whether two pods of one name ran at the same time, by the runtimes of all nodes.

use super::{
    Case, Said,
    cite::cite,
    pods::{ApiPod, Container, Owner, owner_of},
    ran::twice,
    timeline::Seen,
    workload_doubled::TOLERANCE,
};
use crate::{
    api::{Check, Finding, FindingResult, SpanKind},
    predict::{Replacement, WorkloadForecast, seconds},
};
use std::collections::BTreeSet;

/// Its taint tells the control plane that whoever set it has made sure that nothing runs on the node any more (KEP-2268).
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// Whose pods have names that are free for another one only when they are gone.
const STATEFUL_SET: &str = "StatefulSet";

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let owners = case.forecast.workloads.iter().filter(|owner| owner.replacement == Replacement::Waits);
    let of = |owner: &WorkloadForecast| {
        let predicted = owner.predictions().into_iter().find(|p| p.check == Check::WorkloadDoubled);
        let uids: Vec<&str> = owner.pods.iter().map(|pod| pod.uid.as_str()).collect();
        let said = identity(case, (&owner.namespace, &owner.kind, &owner.owner), &uids).tolerating(TOLERANCE);
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
    // Each owner once: it may have thousands of pods.
    let owners: BTreeSet<Owner<'a>> = owners.filter(|owner| owner.1 == STATEFUL_SET).collect();
    owners
        .into_iter()
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
                    Ok(Some(both)) if both.possible > 0.0 || may_go_on(all, x, y) => both,
                    Ok(_) => continue,
                    Err(why) => return Said::open(why),
                };
                let name = pod.rsplit('/').next().unwrap_or_default();
                if both.definite <= 0.0 {
                    let observed = match both.possible > 0.0 {
                        true => format!("two of one name for {} at the most, by the clocks", seconds(both.possible)),
                        false => format!("another {name} began when nobody looked any more whether the first one ran"),
                    };
                    doubt = Some((observed, both.evidence));
                    continue;
                }
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
    match (doubt, case.pods.unlooked(case.timeline.end), allowed) {
        (Some((observed, evidence)), ..) => Said::new(FindingResult::Inconclusive, observed, evidence),
        (None, Some(why), _) => Said::open(why),
        (None, None, Some((observed, evidence))) => Said::new(FindingResult::Noted, observed, evidence),
        (None, None, None) => evidence.map_or_else(
            || Said::open("its containers were never seen"),
            |evidence| Said::new(FindingResult::Held, "ran once", evidence),
        ),
    }
}

/// Whether one of these ran when it was last looked at, or was gone at the next look, and the other one began later: the first one may have
/// gone on. `all`: all that was seen of their name.
fn may_go_on(all: &[Container<'_>], a: &Container<'_>, b: &Container<'_>) -> bool {
    let is_later = |first: &Seen<'_>, c: &Container<'_>| c.seen.span.id == first.span.id && c.seen.to > first.to;
    let is_open = |first: &Seen<'_>, later: &Seen<'_>| {
        !first.is("exited") && first.to < later.from && !all.iter().any(|c| is_later(first, c))
    };
    is_open(&a.seen, &b.seen) || is_open(&b.seen, &a.seen)
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
