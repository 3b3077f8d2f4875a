//! WorkloadStuck: pods that are being deleted and can't end, while the cut lasts and after it.

use super::{
    Case, Said,
    cite::{cite, when},
    timeline::{Seen, Track},
};
use crate::{
    api::{Check, Finding, FindingResult, SpanKind},
    predict::{Certainty, Replacement, WorkloadForecast},
};

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    case.forecast.workloads.iter().filter_map(|owner| owner_finding(case, owner)).collect()
}

fn owner_finding(case: &Case<'_>, owner: &WorkloadForecast) -> Option<Finding> {
    let predicted = owner.predictions().into_iter().find(|p| p.check == Check::WorkloadStuck);
    let said = match case.operator() {
        Err(why) => Said::open(why),
        Ok(track) => stuck(case, track, owner),
    };
    // Where a second copy stands in for it, a pod that is being deleted is told only if it never ends or is not known to.
    let waits = owner.replacement != Replacement::AtOnce;
    let worth = waits || said.result >= FindingResult::Inconclusive;
    let expected = predicted.map_or_else(|| "gone by the end of recovery".to_owned(), |p| p.expected);
    worth.then(|| said.about(Check::WorkloadStuck, owner.subject(), expected))
}

fn stuck(case: &Case<'_>, track: &Track<'_>, owner: &WorkloadForecast) -> Said {
    let heal = case.timeline.heal;
    let (mut first, mut last): (Option<&Seen<'_>>, Option<&Seen<'_>>) = (None, None);
    let mut example = None;
    for pod in &owner.pods {
        let of = || {
            let subject = pod.subject();
            track
                .of_kind(SpanKind::Pod)
                .filter(move |s| s.span.subject == subject && s.span.uid.as_deref() == Some(&pod.uid))
        };
        let Some(latest) = of().max_by(|a, b| a.to.total_cmp(&b.to)) else {
            return Said::open(format!("operator: pod {} was not seen", pod.subject()));
        };
        example = Some(latest);
        for seen in of().filter(|s| s.span.state.ends_with("/Terminating") && s.to > 0.0) {
            first = first.into_iter().chain([seen]).min_by(|a, b| a.from.total_cmp(&b.from));
            last = last.into_iter().chain([seen]).max_by(|a, b| a.to.total_cmp(&b.to));
        }
    }
    let cited = |seen: Option<&Seen<'_>>| seen.map_or(String::new(), |s| cite(track, s));
    match (first, last) {
        (Some(first), Some(last)) => {
            let mut observed = format!("Terminating from {}", when(first.from, heal));
            // The operator looks at least every second: what it saw in its last moments was never seen to end.
            let ends = track_end(track);
            let at_the_end = last.to >= ends - LAST_LOOK;
            observed +=
                &if at_the_end { " to the end of watching".into() } else { format!(" to {}", when(last.to, heal)) };
            let result = match owner.evicted {
                _ if at_the_end => FindingResult::Violated,
                Certainty::MustNot if first.from <= heal => FindingResult::Degraded,
                Certainty::MustNot => FindingResult::Noted,
                _ => FindingResult::Held,
            };
            Said::new(result, observed, cited(Some(last)))
        }
        _ if owner.evicted == Certainty::Must => Said::new(FindingResult::Degraded, "was not deleted", cited(example)),
        _ => Said::new(FindingResult::Held, "was not deleted", cited(example)),
    }
}

/// Twice the operator's slowest poll, seconds.
const LAST_LOOK: f64 = 2.0;

fn track_end(track: &Track<'_>) -> f64 {
    track.of_kind(SpanKind::Pod).map(|s| s.to).fold(f64::NEG_INFINITY, f64::max)
}
