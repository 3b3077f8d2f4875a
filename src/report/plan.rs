//! The plan: who is cut from whom, and what theory says will happen.

use super::table::{cell, short, table, text};
use crate::api::{Plan, Prediction, Prospect, Side};

/// The predictions as a table of at most `width` columns (100 by default).
pub fn prediction_table(predictions: &[Prediction], width: Option<u16>) -> String {
    let mut rows = table(&["Check", "Subject", "Expected", "Because"], width);
    let mut above: Option<&Prediction> = None;
    for p in predictions {
        let same = above.filter(|a| a.check == p.check);
        let check = if same.is_some() { String::new() } else { format!("{:?}", p.check) };
        let reason = if same.is_some_and(|a| a.reason == p.reason) { "the same" } else { &p.reason };
        above = Some(p);
        rows.add_row([check.as_str(), short(&p.subject), &p.expected, reason].map(cell));
    }
    text(&rows)
}

/// Sides, edges, roles, prediction and assumptions.
pub fn plan_text(plan: &Plan, width: Option<u16>) -> String {
    let mut out = format!("{}: {} directed edges cut\n", plan.cut, plan.edges);
    for (role, node) in &plan.resolved_roles {
        out += &format!("  {role} is {node}\n");
    }
    for side in &plan.sides {
        out += &format!("  {}\n", side_line(side));
    }
    out += &format!("\n{}\n", prediction_table(&plan.prediction, width));
    if !plan.assumptions.is_empty() {
        out += "\nAssumed, because it could not be read:\n";
    }
    for assumption in &plan.assumptions {
        out += &format!("- {assumption}\n");
    }
    out
}

fn side_line(side: &Side) -> String {
    let quorum = if side.quorum { "quorum" } else { "no quorum" };
    let writes = match (side.writable, side.api_servers.is_empty()) {
        (Prospect::Yes, _) => "API writable",
        (_, true) => "no API server",
        (Prospect::No, false) => "API not writable",
        (Prospect::Maybe, false) => "API writable or not",
    };
    let hears = match (side.hears.is_empty(), side.name.as_str()) {
        (true, _) => String::new(),
        (false, _) => format!("; hears {}", side.hears.join(", ")),
    };
    format!(
        "{}: {} (etcd {} of {}, {quorum}; {writes}{hears})",
        side.name,
        side.nodes.join(", "),
        side.etcd_members,
        side.etcd_total
    )
}
