//! Recovery: everything desired is actual again and stays so.

use super::{Case, Said, cite::cite};
use crate::{
    api::{Check, Finding, FindingResult, SpanKind},
    predict::seconds,
};

/// Between the last look of the operator and the end of watching may lie this much, seconds.
const LAST_LOOK: f64 = 15.0;

/// What it means that something was well at no look: that it stays so, only where it was watched for longer than it may take. `latest`:
/// seconds after the heal; `unsure`: seconds by which clocks and looks may be wrong.
pub fn never_well(case: &Case<'_>, latest: f64, unsure: f64) -> FindingResult {
    if case.watched() > latest + unsure { FindingResult::Violated } else { FindingResult::Inconclusive }
}

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let accepted = case.accepted(|e| e.recovered_within);
    let predicted = match accepted {
        Some(limit) => format!("recovered within {} (spec.expect.recoveredWithin)", seconds(limit)),
        None => case.forecast.recovery.prediction().expected,
    };
    vec![recovered(case, accepted).about(Check::Recovery, "cluster", predicted)]
}

fn recovered(case: &Case<'_>, accepted: Option<f64>) -> Said {
    let track = match case.operator() {
        Ok(track) => track,
        Err(why) => return Said::open(why),
    };
    let heal = case.timeline.heal;
    let mut spans: Vec<_> = track.of_kind(SpanKind::Convergence).filter(|s| s.to >= heal).collect();
    spans.sort_by(|a, b| a.from.total_cmp(&b.from));
    let Some(last) = spans.last() else { return Said::open("operator: nothing was seen after the heal") };
    let latest = case.forecast.recovery.window.latest_seconds;
    if !last.is("ok") {
        let mut observed = format!("not recovered by the end of watching, {} after the heal", seconds(case.watched()));
        if let Some(detail) = &last.span.detail {
            observed += &format!(": waiting for {detail}");
        }
        return Said::new(never_well(case, accepted.unwrap_or(latest), track.error), observed, cite(track, last));
    }
    if last.to < case.timeline.end - LAST_LOOK {
        return Said::open(format!("{}: not looked at until the end", cite(track, last)));
    }
    let waited = spans.iter().rposition(|s| !s.is("ok"));
    // It waited until then for certain, and not any more when it was next looked at.
    let took = waited.map_or(0.0, |at| (spans[at].to - heal).max(0.0));
    let (least, most) = match waited {
        Some(at) => (took - track.error, spans[at + 1].from - heal + track.error),
        None => (0.0, 0.0),
    };
    let relapsed = spans.windows(2).any(|pair| pair[0].is("ok") && !pair[1].is("ok"));
    let mut observed = format!("recovered {} after the heal", seconds(took));
    if relapsed {
        observed += ", not at the first go";
    }
    let result = match accepted {
        Some(limit) if least > limit => FindingResult::Violated,
        Some(limit) if most > limit => {
            observed += ", or later by up to a look";
            FindingResult::Inconclusive
        }
        Some(_) => FindingResult::Held,
        None if least > latest => {
            observed += &format!(", later than {}", seconds(latest));
            FindingResult::Degraded
        }
        None if most > latest => FindingResult::Noted,
        None => FindingResult::Held,
    };
    let said = Said::new(result, observed, cite(track, waited.map_or(last, |at| spans[at])));
    said.tolerating(format!("a look, and ± {} of clocks", seconds(track.error)))
}
