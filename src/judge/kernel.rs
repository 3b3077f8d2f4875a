//! Whether the kernels dropped packets: on at least one node of every side that should no longer hear another.

use super::{Case, Said};
use crate::{
    api::{Check, Finding, FindingResult, Side},
    fault::fate,
    predict::count,
};
use std::collections::HashSet;

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let sides = case.evidence.sides.iter().filter(|s| drops(case, s));
    let of = |side: &Side| {
        let dropped: Vec<(&str, u64)> = side
            .nodes
            .iter()
            .filter_map(|n| {
                let kernel = case.timeline.agent(n)?.status.kernel.as_ref()?;
                Some((n.as_str(), kernel.dropped_packets))
            })
            .collect();
        let changed = side.nodes.iter().find_map(|n| {
            let kernel = case.timeline.agent(n)?.status.kernel.as_ref()?;
            Some(format!("{n}: {}", kernel.changed.as_ref()?))
        });
        let total: u64 = dropped.iter().map(|d| d.1).sum();
        let said = match changed {
            Some(changed) => Said::new(FindingResult::Inconclusive, changed.clone(), changed),
            None => counted(&dropped, total),
        };
        said.about(Check::FaultProven, format!("{}: kernel", side.name), "counters moved")
    };
    sides.map(of).collect()
}

/// Whether any of its nodes drops anything. Those to which the cut does the same are asked once: to ask is to go through all members.
fn drops(case: &Case<'_>, side: &Side) -> bool {
    let plan = case.evidence.plan;
    let mut asked = HashSet::new();
    let mut nodes = side.nodes.iter().filter(|node| asked.insert(fate(&plan.edges, node).collect::<Vec<_>>()));
    nodes.any(|node| plan.drops_at(node))
}

fn counted(dropped: &[(&str, u64)], total: u64) -> Said {
    match dropped.iter().max_by_key(|d| d.1) {
        None => Said::open("no record with kernel counters"),
        Some((node, _)) if total == 0 => Said::new(
            FindingResult::Violated,
            "0 packets dropped",
            format!(
                "{node}: counters of the table; what was heard all the same went round the netfilter hook, as an eBPF data path does"
            ),
        ),
        Some((node, most)) => Said::new(
            FindingResult::Held,
            format!("{total} packets dropped on {}", count(dropped.iter().filter(|d| d.1 > 0).count(), "node")),
            format!("{node}: counter of the table, {most} packets"),
        ),
    }
}
