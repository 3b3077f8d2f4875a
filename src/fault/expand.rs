//! Constructors of cuts, expanded to directed edges.

use super::{Block, Refusal};
use crate::{
    api::{Cut, Isolate},
    topology::Snapshot,
};
use std::collections::{BTreeMap, BTreeSet};

/// A cut with every name resolved.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fault {
    pub blocks: Vec<Block>,
    /// The racks that the cut names, or that its role stood for.
    pub isolated_racks: BTreeSet<String>,
    /// Each role of the cut and the node it stood for.
    pub resolved_roles: BTreeMap<String, String>,
}

impl Fault {
    /// Whether `to` no longer hears `from`.
    pub fn cuts(&self, from: &str, to: &str) -> bool {
        self.blocks.iter().any(|b| b.cuts(from, to))
    }
    /// Number of directed edges. Blocks of one constructor are disjoint, so no pair is counted twice.
    pub fn edges(&self) -> usize {
        self.blocks.iter().map(|b| b.from.len() * b.to.len()).sum()
    }
}

/// Expands a cut over a snapshot to directed edges, roles resolved.
///
/// # Errors
/// A [`Refusal`] where a name stands for nothing.
pub fn expand(cut: &Cut, snapshot: &Snapshot) -> Result<Fault, Refusal> {
    if snapshot.nodes.iter().all(|n| n.rack.is_none()) {
        return Err(Refusal::NoSuchLabel { label: snapshot.rack_label.clone() });
    }
    match &cut.isolate {
        Some(isolate) => expand_isolate(isolate, snapshot),
        None => Err(Refusal::NoConstructor),
    }
}

fn expand_isolate(isolate: &Isolate, snapshot: &Snapshot) -> Result<Fault, Refusal> {
    let mut resolved_roles = BTreeMap::new();
    let mut racks: BTreeSet<String> = isolate.racks.iter().cloned().collect();
    if let Some(role) = isolate.role {
        let lease = role.lease();
        let unresolved = |why: String| Refusal::UnresolvedRole { lease: format!("kube-system/{lease}"), why };
        let found = snapshot
            .leases
            .iter()
            .find(|l| l.namespace == "kube-system" && l.name == lease)
            .ok_or_else(|| unresolved("there is no such Lease".into()))?;
        let node = found
            .holder_node
            .as_deref()
            .and_then(|n| snapshot.node(n))
            .ok_or_else(|| unresolved(format!("its holder {:?} is on no node", found.holder)))?;
        let rack = node.rack.clone().ok_or_else(|| unresolved(format!("node {} is in no rack", node.name)))?;
        resolved_roles.insert(format!("{lease}-leader"), node.name.clone());
        racks.insert(rack);
    }
    let known = snapshot.racks();
    if let Some(unknown) = racks.iter().find(|r| !known.contains(&r.as_str())) {
        return Err(Refusal::NoSuchRack {
            rack: unknown.clone(),
            label: snapshot.rack_label.clone(),
            known: known.join(", "),
        });
    }
    let inside = |rack: &Option<String>| rack.as_ref().is_some_and(|r| racks.contains(r));
    let members = snapshot
        .nodes
        .iter()
        .map(|n| (&n.name, inside(&n.rack)))
        .chain(snapshot.endpoints.iter().map(|e| (&e.name, inside(&e.rack))));
    let (mut isolated, mut rest) = (BTreeSet::new(), BTreeSet::new());
    for (name, is_inside) in members {
        if is_inside { &mut isolated } else { &mut rest }.insert(name.clone());
    }
    let blocks = vec![Block { from: isolated.clone(), to: rest.clone() }, Block { from: rest, to: isolated }];
    Ok(Fault { blocks, isolated_racks: racks, resolved_roles })
}
