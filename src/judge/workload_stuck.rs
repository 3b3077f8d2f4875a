//! WorkloadStuck: pods that are being deleted and can't end, while the cut lasts and after it.

use super::{
    Case, MAX_UNWATCHED, Said,
    cite::{cite, when},
    pods::{ApiPod, Gone, is_active, is_deleted},
    timeline::{Seen, Track},
};
use crate::{
    api::{Check, Finding, FindingResult},
    predict::{Certainty, Replacement, WorkloadForecast, constants::POD_STOP_SLACK, seconds},
    topology::Pod,
};

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    case.forecast.workloads.iter().filter_map(|owner| owner_finding(case, owner)).collect()
}

fn owner_finding(case: &Case<'_>, owner: &WorkloadForecast) -> Option<Finding> {
    let predicted = owner.predictions().into_iter().find(|p| p.check == Check::WorkloadStuck);
    let said = match case.operator() {
        Err(why) => Said::open(why),
        Ok(track) => {
            let (told, slack, clocks) =
                (seconds(case.forecast.recovery.kubelets_told), seconds(POD_STOP_SLACK), seconds(track.error));
            let tolerance = format!("{told} to hear of it, the grace period and {slack}, ± {clocks} of clocks");
            stuck(case, track, owner).tolerating(tolerance)
        }
    };
    // Where a second copy stands in for it, a pod that is being deleted is told only if it never ends or is not known to.
    let waits = owner.replacement != Replacement::AtOnce;
    let worth = waits || said.result >= FindingResult::Inconclusive;
    let expected = predicted.map_or_else(|| "gone by the end of recovery".to_owned(), |p| p.expected);
    worth.then(|| said.about(Check::WorkloadStuck, owner.subject(), expected))
}

/// What was seen of one pod's deletion.
struct Terminating<'c, 'a> {
    first: &'c Seen<'a>,
    last: &'c Seen<'a>,
    /// When it was gone at the latest, seconds after the cut; `None` where it was there at the last look.
    gone: Option<f64>,
    /// By when it must be gone, seconds after the cut.
    limit: f64,
}

fn stuck(case: &Case<'_>, track: &Track<'_>, owner: &WorkloadForecast) -> Said {
    let heal = case.timeline.heal;
    let (mut all, mut example, mut open) = (Vec::new(), None, None);
    for pod in &owner.pods {
        let Some((api, latest)) = case.pods.api_pod(&pod.uid).and_then(|api| Some((api, api.seen.last()?))) else {
            return Said::open(format!("operator: pod {} was not seen", pod.subject()));
        };
        example = Some(latest);
        match terminating(case, pod, &api.seen) {
            Some(pod) => all.push(pod),
            None => open = open.or_else(|| unseen(case, api, latest)),
        }
    }
    let judged = all.iter().map(|pod| (result(owner, pod, track.error), pod));
    let worst = judged.max_by_key(|(result, _)| *result);
    if let Some(why) = open.filter(|_| worst.is_none_or(|(result, _)| result < FindingResult::Inconclusive)) {
        return Said::open(why);
    }
    let Some((result, slowest)) = worst else {
        let evidence = example.map_or(String::new(), |s| cite(track, s));
        return Said::new(FindingResult::Held, "was not deleted", evidence);
    };
    let first = all.iter().map(|t| t.first.from).fold(f64::INFINITY, f64::min);
    let until = match slowest.gone {
        Some(_) => format!(" to {}", when(slowest.last.to, heal)),
        None => " to the end of watching".into(),
    };
    let mut observed = format!("Terminating from {}{until}", when(first, heal));
    if result > FindingResult::Noted {
        observed += &format!(", and had to be gone {}", when(slowest.limit, heal));
    }
    Said::new(result, observed, cite(track, slowest.last))
}

/// Why nobody knows whether a pod was deleted that was not seen to be: nobody looked any more. One that is gone can't be stuck, and one
/// that had ended has nothing left to end. `latest`: the last look at it.
fn unseen(case: &Case<'_>, pod: &ApiPod<'_>, latest: &Seen<'_>) -> Option<String> {
    match case.pods.gone(pod) {
        _ if !is_active(latest) => None,
        Gone::No if pod.last() < case.timeline.end - MAX_UNWATCHED => {
            Some(format!("operator: pod {} was not looked at until the end", pod.subject))
        }
        Gone::Unlisted(_) => Some(format!("operator: pod {} was deleted or is no longer selected", pod.subject)),
        Gone::No | Gone::By(_) => None,
    }
}

/// `error`: of the operator's clock, seconds.
fn result(owner: &WorkloadForecast, pod: &Terminating<'_, '_>, error: f64) -> FindingResult {
    match pod.gone {
        _ if pod.last.to - error > pod.limit => FindingResult::Violated,
        // It had more time than anybody watched.
        None => FindingResult::Inconclusive,
        // Nobody looked between.
        Some(gone) if gone + error > pod.limit => FindingResult::Inconclusive,
        Some(_) if owner.evicted == Certainty::MustNot => FindingResult::Noted,
        Some(_) => FindingResult::Held,
    }
}

/// `None` where it was not being deleted in the cut or after it.
fn terminating<'c, 'a>(case: &Case<'_>, pod: &Pod, seen: &'c [Seen<'a>]) -> Option<Terminating<'c, 'a>> {
    let mut of = seen.iter().filter(|s| is_deleted(s) && s.to > 0.0);
    let first = of.next()?;
    let last = of.next_back().unwrap_or(first);
    // Its kubelet may hear of it as late as this, and then it has its grace period (theory C14).
    let told = first.from.max(case.all_heard());
    let usual = told + pod.grace_period + POD_STOP_SLACK;
    let accepted = case.accepted(|e| e.recovered_within).map_or(usual, |limit| case.timeline.heal + limit);
    Some(Terminating { first, last, gone: case.pods.next_look(last.to), limit: usual.max(accepted) })
}
