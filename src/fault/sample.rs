//! Who probes whom: on a small cluster everybody everybody, on a large one a sample that grows with the nodes and not with
//! their square.

use super::{PortClass, ProbeTarget, RunPlan, fate};
use std::collections::{BTreeMap, BTreeSet};

/// Members to which the cut does the same and that serve the same ports are a group. Each member chooses this many of each group,
/// and who is chosen looks back: so everybody has as many witnesses for each kind of pair, however small its own group is.
const PER_GROUP: usize = 4;

/// The pairs that are probed, both ways.
#[derive(Debug)]
pub struct Sample<'a> {
    chosen: BTreeMap<&'a str, BTreeSet<&'a str>>,
    /// What each member serves, in the order of the plan.
    served: BTreeMap<&'a str, Vec<(usize, &'a ProbeTarget)>>,
}

impl<'a> Sample<'a> {
    pub fn new(plan: &'a RunPlan) -> Self {
        let mut ports: BTreeMap<&str, BTreeSet<PortClass>> = BTreeMap::new();
        let mut served: BTreeMap<&str, Vec<(usize, &ProbeTarget)>> = BTreeMap::new();
        for (i, target) in plan.probes.iter().enumerate() {
            ports.entry(&target.member).or_default().insert(target.class);
            served.entry(&target.member).or_default().push((i, target));
        }
        let mut groups: BTreeMap<_, Vec<&str>> = BTreeMap::new();
        for member in &plan.members {
            let name = member.name.as_str();
            let fate = fate(&plan.edges, name).collect::<Vec<_>>();
            groups.entry((fate, ports.get(name))).or_default().push(name);
        }
        let groups: Vec<Vec<&str>> = groups.into_values().collect();
        let mut chosen: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (i, own) in groups.iter().enumerate() {
            for (rank, &node) in own.iter().enumerate() {
                for (j, group) in groups.iter().enumerate() {
                    // Of its own group those that follow it; of another one others than its neighbours choose.
                    let turn = if i == j { rank + 1 } else { rank * PER_GROUP };
                    let others = (0..group.len()).map(|k| group[(turn + k) % group.len()]).filter(|name| *name != node);
                    for other in others.take(PER_GROUP) {
                        chosen.entry(node).or_default().insert(other);
                        chosen.entry(other).or_default().insert(node);
                    }
                }
            }
        }
        Sample { chosen, served }
    }

    /// Whom this node probes: on a small cluster everybody else.
    pub fn of(&self, node: &str) -> BTreeSet<&'a str> {
        self.chosen.get(node).cloned().unwrap_or_default()
    }

    /// The ports that this node connects to. etcd's only where somebody beside it has a reason to: a firewall in front of etcd that
    /// keeps workers out is as it should be.
    pub fn targets_of(&self, node: &str) -> Vec<&'a ProbeTarget> {
        let served = |member: &str| self.served.get(member).map_or(&[][..], Vec::as_slice);
        let serves = |class| served(node).iter().any(|(_, t)| t.class == class);
        let (is_peer, is_client) = (serves(PortClass::EtcdPeer), serves(PortClass::ApiServer));
        let has_reason = |target: &&ProbeTarget| match target.class {
            PortClass::EtcdPeer => is_peer,
            PortClass::EtcdClient => is_client,
            PortClass::Kubelet | PortClass::ApiServer | PortClass::Endpoint | PortClass::Named => true,
        };
        let mut targets: Vec<_> = self.of(node).into_iter().flat_map(served).copied().collect();
        targets.sort_unstable_by_key(|(i, _)| *i);
        targets.into_iter().map(|(_, target)| target).filter(has_reason).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Racks of so many nodes, the first cut off both ways. Nodes of a rack do not follow each other by name.
    fn plan(sizes: &[usize]) -> RunPlan {
        let name = |(rack, i): (usize, usize)| format!("n{i:03}-{rack}");
        let of_rack = |rack: usize| (0..sizes[rack]).map(move |i| name((rack, i)));
        let (cut, rest): (Vec<String>, Vec<String>) =
            (of_rack(0).collect(), (1..sizes.len()).flat_map(of_rack).collect());
        let mut all = [&cut[..], &rest].concat();
        all.sort();
        let member = |n: &String| json!({"name": n, "hasAgent": true, "cidrs": [], "healAddresses": []});
        let probe = |n: &String| json!({"member": n, "class": "Kubelet", "address": "198.18.0.1:10250"});
        serde_json::from_value(json!({
            "run": "r", "runUid": "u", "members": all.iter().map(member).collect::<Vec<_>>(),
            "edges": [{"from": cut, "to": rest}, {"from": rest, "to": cut}],
            "heal": {"port": 1, "token": "00"}, "durationSeconds": 1.0, "longestSeconds": 1.0,
            "probes": all.iter().map(probe).collect::<Vec<_>>(), "apiServers": [], "writable": [],
        }))
        .unwrap()
    }

    #[test]
    fn in_a_small_cluster_everybody_probes_everybody_else() {
        let plan = plan(&[2, 2, 2]);
        let sample = Sample::new(&plan);
        for node in plan.agents() {
            assert_eq!(sample.of(node).len(), 5, "{node}");
            assert!(sample.targets_of(node).iter().all(|t| t.member != node));
        }
    }

    #[test]
    fn in_a_large_one_pairs_grow_with_the_nodes_and_nobody_is_without_witnesses() {
        for sizes in [vec![50; 10], vec![12; 3], vec![24; 3], vec![5, 55], vec![55, 5], vec![1, 30, 30]] {
            let plan = plan(&sizes);
            let (sample, nodes) = (Sample::new(&plan), sizes.iter().sum::<usize>());
            let mut pairs = 0;
            for node in plan.agents() {
                let of = sample.of(node);
                assert!(!of.contains(node));
                let (across, own): (Vec<&str>, Vec<&str>) = of.iter().partition(|other| plan.breaks(node, other));
                let (other_side, own_side) = match node.ends_with("-0") {
                    true => (nodes - sizes[0], sizes[0] - 1),
                    false => (sizes[0], nodes - sizes[0] - 1),
                };
                assert!(across.len() >= other_side.min(PER_GROUP), "{sizes:?}: {node} across: {across:?}");
                assert!(own.len() >= own_side.min(PER_GROUP), "{sizes:?}: {node} on its own side: {own:?}");
                assert!(across.iter().all(|other| sample.of(other).contains(node)), "and is looked at");
                pairs += of.len();
            }
            // Two groups, each chooses and is chosen.
            assert!(pairs <= nodes * 4 * PER_GROUP, "{sizes:?}: {pairs} pairs of {nodes} nodes");
        }
    }
}
