//! A whole run as text, and in one sentence.

use super::{findings::counts, findings_table, not_made_line, plan_text, verdict_line};
use crate::api::{RackPartition, RackPartitionStatus};

/// The verdict in one sentence, for a status message.
pub fn summary(status: &RackPartitionStatus) -> String {
    let verdict = status.verdict.map_or("no verdict".into(), |v| format!("{v:?}"));
    format!("{verdict}: {}", counts(&status.findings))
}

/// Plan, findings and verdict, as far as there are any.
pub fn text(run: &RackPartition, width: Option<u16>) -> String {
    let status = run.status.clone().unwrap_or_default();
    let mut text = String::new();
    if status.findings.is_empty() {
        // Nothing was judged: the plan says what would have been.
        if let Some(plan) = &status.plan {
            text += &format!("{}\n", plan_text(plan, width));
        }
    } else {
        text += &format!("{}\n", findings_table(&status, width));
    }
    for more in [not_made_line(&status.findings), status.runbook].into_iter().flatten() {
        text += &format!("\n{}\n", more.trim_end());
    }
    format!("{text}{}\n", verdict_line(run))
}
