//! WorkloadDoubled: seconds for which a pod cut off and its replacement both ran, by the runtimes of both nodes.

use super::{
    Case, Said,
    cite::cite,
    timeline::{Seen, Track},
    workload::{containers, reader},
};
use crate::{
    api::{Check, Finding, FindingResult, SpanKind},
    predict::{Certainty, Replacement, WorkloadForecast, seconds},
    topology::Pod,
};

/// Two containers that ran at the same time.
struct Twice {
    /// Seconds that both certainly ran, and that they may have run at the most.
    definite: f64,
    possible: f64,
    evidence: String,
}

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let owners = case.forecast.workloads.iter().filter(|w| w.replacement != Replacement::Nobody);
    let of = |owner: &WorkloadForecast| {
        let predicted = owner.predictions().into_iter().find(|p| p.check == Check::WorkloadDoubled);
        let said = match owner.replacement {
            Replacement::Waits => identity(case, owner),
            _ => copies(case, owner),
        };
        said.about(Check::WorkloadDoubled, owner.subject(), predicted.map_or(String::new(), |p| p.expected))
    };
    owners.map(of).collect()
}

/// A replacement of one of the owner's pods: bound to another node under another uid.
fn replacements<'c>(
    track: &'c Track<'_>,
    owner: &WorkloadForecast,
    case: &Case<'_>,
) -> Vec<(&'c str, &'c str, &'c str)> {
    let detail = format!("{}/{}", owner.kind, owner.owner);
    let prefix = format!("{}/", owner.namespace);
    let known = |uid: &str| case.evidence.snapshot.pods.iter().any(|p| p.uid == uid);
    let mut all: Vec<_> = track
        .of_kind(SpanKind::Pod)
        .filter(|s| s.from > 0.0 && s.span.subject.starts_with(&prefix) && s.span.detail.as_deref() == Some(&detail))
        .filter_map(|s| {
            Some((s.span.subject.as_str(), s.span.uid.as_deref()?, s.span.node.as_deref().unwrap_or_default()))
        })
        .filter(|(_, uid, _)| !known(uid))
        .collect();
    all.sort_unstable();
    // The node is known only from the binding on: of one pod the entry with a node is the one to keep.
    all.reverse();
    all.dedup_by_key(|(_, uid, _)| *uid);
    all
}

fn copies(case: &Case<'_>, owner: &WorkloadForecast) -> Said {
    let operator = match case.operator() {
        Ok(operator) => operator,
        Err(why) => return Said::open(why),
    };
    let detail = format!("{}/{}", owner.kind, owner.owner);
    let own = |s: &&Seen<'_>| s.span.detail.as_deref() == Some(&detail);
    let Some(seen) = operator.of_kind(SpanKind::Pod).filter(own).max_by(|a, b| a.to.total_cmp(&b.to)) else {
        return Said::open("operator: none of its pods was seen");
    };
    let mut worst: Option<Twice> = None;
    let found = replacements(operator, owner, case);
    for (subject, uid, node) in found.iter().filter(|(_, _, node)| !node.is_empty()) {
        let ran = |s: &&Seen<'_>| s.span.uid.as_deref() == Some(uid) && s.span.state.starts_with("Running");
        let seen_running = operator.series(SpanKind::Pod, subject).iter().find(ran);
        if let (Some(seen), Ok(track)) = (seen_running, reader(case, node))
            && containers(track, uid).next().is_none()
        {
            return Said::open(format!("{}, and {node} saw no container of it", cite(operator, seen)));
        }
        for pod in owner.pods.iter().filter(|p| p.node != *node) {
            match twice(case, (&pod.node, &pod.uid), (node, uid)) {
                Ok(both) => worst = worst.into_iter().chain(both).max_by(|a, b| a.definite.total_cmp(&b.definite)),
                Err(why) => return Said::open(why),
            }
        }
    }
    match (worst.filter(|w| w.possible > 0.0), owner.doubled) {
        (Some(both), _) if both.definite <= 0.0 => Said::new(
            FindingResult::Noted,
            format!("ran twice for {} at the most", seconds(both.possible)),
            both.evidence,
        ),
        (Some(both), doubled) => {
            let result = if doubled == Certainty::MustNot { FindingResult::Degraded } else { FindingResult::Held };
            Said::new(result, format!("ran twice for {}", seconds(both.definite)), both.evidence)
        }
        (None, Certainty::Must) if found.is_empty() => {
            Said::new(FindingResult::Degraded, "no second copy was made", cite(operator, seen))
        }
        (None, Certainty::Must) => {
            Said::new(FindingResult::Noted, "a second copy was made and did not run", cite(operator, seen))
        }
        (None, _) => Said::new(FindingResult::Held, "ran once", cite(operator, seen)),
    }
}

fn identity(case: &Case<'_>, owner: &WorkloadForecast) -> Said {
    let mut evidence = String::new();
    for node in case.evidence.plan.agents() {
        // A twin may be anywhere: every runtime must have been read to say that there was none.
        match reader(case, node) {
            Err(why) => return Said::open(why),
            Ok(track) if track.of_kind(SpanKind::Container).next().is_none() => {
                return Said::open(format!("{node}: no container was seen"));
            }
            Ok(_) => {}
        }
    }
    let mut doubt: Option<Twice> = None;
    for pod in &owner.pods {
        for other in twins(case, pod) {
            match twice(case, (&pod.node, &pod.uid), other) {
                Ok(Some(both)) if both.definite > 0.0 => {
                    let observed = format!("two of {} ran for {}", pod.name, seconds(both.definite));
                    return Said::new(FindingResult::Violated, observed, both.evidence);
                }
                Ok(Some(both)) if both.possible > 0.0 => doubt = Some(both),
                Ok(_) => {}
                Err(why) => return Said::open(why),
            }
        }
        if let Some((track, seen)) =
            case.timeline.agent(&pod.node).and_then(|t| containers(t, &pod.uid).next().map(|s| (t, s)))
        {
            evidence = cite(track, seen);
        }
    }
    match doubt {
        Some(both) => {
            let observed = format!("two of one name for {} at the most, by the clocks", seconds(both.possible));
            Said::new(FindingResult::Inconclusive, observed, both.evidence)
        }
        None if evidence.is_empty() => Said::open("its containers were never seen"),
        None => Said::new(FindingResult::Held, "ran once", evidence),
    }
}

/// Every `(node, uid)` of a pod of the same name and another uid.
fn twins<'c>(case: &'c Case<'_>, pod: &Pod) -> Vec<(&'c str, &'c str)> {
    let prefix = format!("{}/", pod.subject());
    let mut all = Vec::new();
    for track in case.timeline.agents() {
        for seen in track.of_kind(SpanKind::Container).filter(|s| s.span.subject.starts_with(&prefix)) {
            if let Some(uid) = seen.span.uid.as_deref().filter(|uid| *uid != pod.uid) {
                all.push((track.node, uid));
            }
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// How long a container of each of two pods, given as `(node, uid)`, ran at the same time; None where one never ran.
fn twice(case: &Case<'_>, old: (&str, &str), new: (&str, &str)) -> Result<Option<Twice>, String> {
    let (a, b) = (reader(case, old.0)?, reader(case, new.0)?);
    for track in [a, b] {
        if !track.clock_known() {
            return Err(format!("the clock of {} was not compared with the operator's", track.who));
        }
    }
    // On one machine there is one clock.
    let error = |e: f64| if old.0 == new.0 { 0.0 } else { e };
    let mut worst: Option<Twice> = None;
    for x in containers(a, old.1) {
        for y in containers(b, new.1) {
            let (from_error, to_error) = (error(x.from_error.max(y.from_error)), error(x.to_error.max(y.to_error)));
            let overlap = x.to.min(y.to) - x.from.max(y.from);
            // Only the later start and the earlier end count; the error of a start long ago does not.
            let start_error = error(if x.from > y.from { x.from_error } else { y.from_error }).min(from_error);
            let both = Twice {
                definite: overlap - 2.0 * (start_error + to_error),
                possible: overlap + 2.0 * (start_error + to_error),
                evidence: format!("{}; {}", cite(b, y), cite(a, x)),
            };
            if worst.as_ref().is_none_or(|w| w.definite < both.definite) {
                worst = Some(both);
            }
        }
    }
    Ok(worst)
}
