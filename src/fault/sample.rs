//! Who probes whom: on a small cluster everybody everybody, on a large one a sample that grows with the nodes and not with
//! their square.

use super::{PortClass, ProbeTarget, RunPlan};
use std::collections::{BTreeMap, BTreeSet};

/// Members to which the cut does the same and that serve the same ports are probed by everybody up to this many, and beyond it
/// by a share of the others in turns. Ours: every node has more than one witness for each kind of pair.
const PER_GROUP: usize = 4;

/// The pairs that are probed.
#[derive(Debug)]
pub struct Sample<'a> {
    plan: &'a RunPlan,
    groups: Vec<Vec<&'a str>>,
    rank: BTreeMap<&'a str, usize>,
}

impl<'a> Sample<'a> {
    pub fn new(plan: &'a RunPlan) -> Self {
        let mut ports: BTreeMap<&str, BTreeSet<PortClass>> = BTreeMap::new();
        for target in &plan.probes {
            ports.entry(&target.member).or_default().insert(target.class);
        }
        let mut groups: BTreeMap<_, Vec<&str>> = BTreeMap::new();
        for member in &plan.members {
            let name = member.name.as_str();
            let edges = plan.edges.iter().map(|b| (b.from.contains(name), b.to.contains(name)));
            groups.entry((edges.collect::<Vec<_>>(), ports.get(name))).or_default().push(name);
        }
        let rank = plan.members.iter().enumerate().map(|(i, m)| (m.name.as_str(), i)).collect();
        Sample { plan, groups: groups.into_values().collect(), rank }
    }

    /// Whom this node probes: of each group all others, or four of them, others than its neighbours in the plan do.
    pub fn of(&self, node: &str) -> BTreeSet<&'a str> {
        let rank = self.rank.get(node).copied().unwrap_or_default();
        let of_group = |group: &Vec<&'a str>| {
            let others: Vec<&'a str> = group.iter().copied().filter(|name| *name != node).collect();
            let turn = if others.len() > PER_GROUP { rank * PER_GROUP } else { 0 };
            (0..others.len().min(PER_GROUP)).map(|i| others[(turn + i) % others.len()]).collect::<Vec<_>>()
        };
        self.groups.iter().flat_map(of_group).collect()
    }

    /// The ports that this node connects to.
    pub fn targets_of(&self, node: &str) -> Vec<&'a ProbeTarget> {
        let sampled = self.of(node);
        self.plan.probes.iter().filter(|t| sampled.contains(t.member.as_str())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// `racks` racks of `size` nodes, the first cut off both ways.
    fn plan(racks: usize, size: usize) -> RunPlan {
        let name = |rack: usize, i: usize| format!("n{rack}-{i}");
        let nodes = |racks: std::ops::Range<usize>| -> Vec<String> {
            racks.flat_map(|r| (0..size).map(move |i| name(r, i))).collect()
        };
        let member = |n: &String| json!({"name": n, "hasAgent": true, "cidrs": [], "healAddresses": []});
        let probe = |n: &String| json!({"member": n, "class": "Kubelet", "address": "198.18.0.1:10250"});
        serde_json::from_value(json!({
            "run": "r", "runUid": "u", "members": nodes(0..racks).iter().map(member).collect::<Vec<_>>(),
            "edges": [{"from": nodes(0..1), "to": nodes(1..racks)}, {"from": nodes(1..racks), "to": nodes(0..1)}],
            "heal": {"port": 1, "token": "00"}, "durationSeconds": 1.0, "longestSeconds": 1.0,
            "probes": nodes(0..racks).iter().map(probe).collect::<Vec<_>>(), "apiServers": [], "writable": [],
        }))
        .unwrap()
    }

    #[test]
    fn in_a_small_cluster_everybody_probes_everybody_else() {
        let plan = plan(3, 2);
        let sample = Sample::new(&plan);
        for node in plan.agents() {
            assert_eq!(sample.of(node).len(), 5, "{node}");
            assert!(sample.targets_of(node).iter().all(|t| t.member != node));
        }
    }

    #[test]
    fn in_a_large_one_pairs_grow_with_the_nodes_and_nobody_is_left_out() {
        let plan = plan(10, 50);
        let sample = Sample::new(&plan);
        let (mut probed, mut pairs) = (BTreeSet::new(), 0);
        for node in plan.agents() {
            let of = sample.of(node);
            assert!(!of.contains(node));
            let across = of.iter().filter(|other| plan.breaks(node, other)).count();
            assert_eq!(
                (across, of.len()),
                (PER_GROUP, 2 * PER_GROUP),
                "{node} looks across the cut and at its own side"
            );
            pairs += of.len();
            probed.extend(of);
        }
        assert_eq!((probed.len(), pairs), (500, 500 * 2 * PER_GROUP));
    }
}
