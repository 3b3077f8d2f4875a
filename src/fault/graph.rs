//! Sides of a cut: who still hears whom, and what that leaves them able to do.

use super::Fault;
use crate::{api::Side, topology::Snapshot};
use std::collections::{BTreeSet, VecDeque};

/// Groups of nodes that hear each other both ways, the isolated side first.
///
/// A side is a connected component of the graph whose links are the pairs that neither direction is cut of. It can write where
/// a majority of etcd's voters is in it together with an API server.
pub fn sides(snapshot: &Snapshot, fault: &Fault) -> Vec<Side> {
    let linked = |a: &str, b: &str| !fault.cuts(a, b) && !fault.cuts(b, a);
    let mut left: BTreeSet<&str> = snapshot.nodes.iter().map(|n| n.name.as_str()).collect();
    let mut sides = Vec::new();
    while let Some(first) = left.pop_first() {
        let (mut nodes, mut queue) = (BTreeSet::from([first]), VecDeque::from([first]));
        while let Some(next) = queue.pop_front() {
            let near: Vec<_> = left.iter().copied().filter(|other| linked(next, other)).collect();
            for other in near {
                left.remove(other);
                nodes.insert(other);
                queue.push_back(other);
            }
        }
        sides.push(side(snapshot, fault, &nodes));
    }
    sides.sort_by_key(|s| (s.name != "isolated", s.racks.clone()));
    sides
}

fn side(snapshot: &Snapshot, fault: &Fault, nodes: &BTreeSet<&str>) -> Side {
    let racks: BTreeSet<String> = nodes.iter().filter_map(|n| snapshot.node(n).and_then(|n| n.rack.clone())).collect();
    let isolated = racks.iter().any(|r| fault.isolated_racks.contains(r));
    let etcd_members = snapshot.etcd.iter().filter(|m| nodes.contains(m.node.as_str())).count();
    let etcd_total = snapshot.etcd.len();
    let api_servers: Vec<String> =
        snapshot.api_servers.iter().filter(|a| nodes.contains(a.name.as_str())).map(|a| a.name.clone()).collect();
    let quorum = etcd_members > etcd_total / 2;
    Side {
        name: if isolated { "isolated" } else { "rest" }.into(),
        racks: racks.into_iter().collect(),
        nodes: nodes.iter().map(|n| n.to_string()).collect(),
        etcd_members: etcd_members as u32,
        etcd_total: etcd_total as u32,
        quorum,
        writable: quorum && !api_servers.is_empty(),
        api_servers,
    }
}
