//! Findings and verdict.

use super::{
    not_supported,
    table::{cell, short, table, text},
};
use crate::api::{Finding, FindingResult, Phase, RackPartition, RackPartitionStatus, Verdict};

/// The findings as a table of at most `width` columns (100 by default), with the evidence of those that did not hold below it, and what
/// nobody asked.
pub fn findings_table(status: &RackPartitionStatus, width: Option<u16>) -> String {
    if status.findings.is_empty() {
        return "no findings yet".into();
    }
    let mut rows = table(&["Check", "Subject", "Predicted", "Observed", "Result"], width);
    let mut above = None;
    for f in &status.findings {
        // A check is named once, so that its findings stand out as a group.
        let check = if above == Some(f.check) { String::new() } else { format!("{:?}", f.check) };
        above = Some(f.check);
        let words = [&check, short(&f.subject), &f.predicted, &f.observed, result(f.result)];
        rows.add_row(words.map(cell));
    }
    let mut out = text(&rows);
    let told: Vec<&Finding> = status.findings.iter().filter(|f| f.result != FindingResult::Held).collect();
    if !told.is_empty() {
        out += "\n\nEvidence of what did not simply hold:\n";
    }
    for f in told {
        out += &format!("- {:?} {} ({}): {}\n", f.check, f.subject, result(f.result), f.evidence);
        if let Some(tolerance) = &f.tolerance {
            out += &format!("  tolerated: {tolerance}\n");
        }
    }
    format!("{}\n\n{}", out.trim_end(), not_supported())
}

fn result(result: FindingResult) -> &'static str {
    match result {
        FindingResult::Held => "held",
        FindingResult::Noted => "noted",
        FindingResult::Degraded => "DEGRADED",
        FindingResult::Inconclusive => "INCONCLUSIVE",
        FindingResult::Violated => "VIOLATED",
    }
}

/// One line: the run, where it is, and what came of it.
pub fn verdict_line(rp: &RackPartition) -> String {
    let name = rp.metadata.name.as_deref().unwrap_or("run");
    let Some(status) = &rp.status else { return format!("{name}: not started") };
    let message = status.message.as_deref().map(|m| format!(": {m}")).unwrap_or_default();
    let Some(verdict) = status.verdict else {
        let phase = status.phase.map_or("not started".into(), |p: Phase| format!("{p:?}"));
        return format!("{name}: {phase}{message}");
    };
    let meaning = match verdict {
        Verdict::Pass => "the cluster behaved as predicted",
        Verdict::Degraded => "the cluster behaved, though not all as predicted",
        Verdict::Fail => "the cluster did not behave",
        Verdict::Inconclusive => "not enough evidence to say",
    };
    format!("{name}: {verdict:?}, {meaning} ({})", counts(&status.findings))
}

/// How many findings came out how: `24 held, 1 noted`.
pub(super) fn counts(findings: &[Finding]) -> String {
    let results = [
        FindingResult::Held,
        FindingResult::Noted,
        FindingResult::Degraded,
        FindingResult::Inconclusive,
        FindingResult::Violated,
    ];
    let count = |r| findings.iter().filter(|f| f.result == r).count();
    let counts = results.into_iter().filter(|r| count(*r) > 0);
    counts.map(|r| format!("{} {}", count(r), result(r).to_lowercase())).collect::<Vec<_>>().join(", ")
}
