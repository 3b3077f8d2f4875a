//! A whole run as text, and in one sentence.

use super::{findings_table, plan_text, verdict_line};
use crate::api::{FindingResult, RackPartition, RackPartitionStatus};

/// The verdict in one sentence, for a status message: how many findings came out how.
pub fn summary(status: &RackPartitionStatus) -> String {
    use FindingResult::{Degraded, Held, Inconclusive, Noted, Violated};
    let counted = [(Violated, "violated"), (Degraded, "degraded"), (Inconclusive, "inconclusive"), (Noted, "noted")];
    let number = |result| status.findings.iter().filter(|f| f.result == result).count();
    let mut parts = vec![format!("{} of {} findings held", number(Held), status.findings.len())];
    parts.extend(counted.into_iter().filter(|(r, _)| number(*r) > 0).map(|(r, word)| format!("{} {word}", number(r))));
    let verdict = status.verdict.map_or("no verdict".into(), |v| format!("{v:?}"));
    format!("{verdict}: {}", parts.join(", "))
}

/// Plan, findings and verdict, as far as there are any.
pub fn text(run: &RackPartition, width: Option<u16>) -> String {
    let status = run.status.clone().unwrap_or_default();
    let mut text = String::new();
    if status.findings.is_empty() {
        // Nothing was judged: the plan says what would have been.
        if let Some(plan) = &status.plan {
            text += &format!("{}\n", plan_text(plan));
        }
    } else {
        text += &format!("{}\n", findings_table(&status, width));
    }
    format!("{text}{}\n", verdict_line(run))
}
