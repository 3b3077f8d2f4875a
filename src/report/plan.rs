//! The plan: who is cut from whom, and what theory says will happen.

use super::table::{table, text};
use crate::api::{Plan, Prediction, Side};

/// The predictions as a table of at most `width` columns (100 by default).
pub fn prediction_table(predictions: &[Prediction], width: Option<u16>) -> String {
    let mut rows = table(&["Check", "Subject", "Expected", "Because"], width);
    for p in predictions {
        rows.add_row([&format!("{:?}", p.check), &p.subject, &p.expected, &p.reason]);
    }
    text(&rows)
}

/// Sides, edges, roles, prediction and assumptions.
pub fn plan_text(plan: &Plan) -> String {
    let mut out = format!("isolates {}: {} directed edges cut\n", plan.isolated, plan.edges);
    for (role, node) in &plan.resolved_roles {
        out += &format!("  {role} is {node}\n");
    }
    for side in &plan.sides {
        out += &format!("  {}\n", side_line(side));
    }
    out += &format!("\n{}\n", prediction_table(&plan.prediction, None));
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
        (true, _) => "API writable",
        (false, true) => "no API server",
        (false, false) => "API not writable",
    };
    format!(
        "{}: {} (etcd {} of {}, {quorum}; {writes})",
        side.name,
        side.nodes.join(", "),
        side.etcd_members,
        side.etcd_total
    )
}
