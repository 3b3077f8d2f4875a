//! Selections resolved to members: the names of nodes and endpoints.

use super::Refusal;
use crate::{
    api::{Role, Selection},
    topology::Snapshot,
};
use std::collections::{BTreeMap, BTreeSet};

/// Names of nodes and endpoints.
pub type Members = BTreeSet<String>;

/// Looks names up in a snapshot and remembers what roles stood for.
pub struct Resolver<'a> {
    pub snapshot: &'a Snapshot,
    /// Each role that was asked for and the node, or the racks, it stood for.
    pub roles: BTreeMap<String, String>,
}

impl<'a> Resolver<'a> {
    pub fn new(snapshot: &'a Snapshot) -> Self {
        Resolver { snapshot, roles: BTreeMap::new() }
    }

    /// Every member there is.
    pub fn everybody(&self) -> Members {
        let endpoints = self.snapshot.endpoints.iter().map(|e| e.name.clone());
        self.snapshot.nodes.iter().map(|n| n.name.clone()).chain(endpoints).collect()
    }

    /// Who is in one of these racks.
    pub fn of_racks(&self, racks: &BTreeSet<String>) -> Members {
        let inside = |rack: &Option<String>| rack.as_ref().is_some_and(|r| racks.contains(r));
        let nodes = self.snapshot.nodes.iter().filter(|n| inside(&n.rack)).map(|n| n.name.clone());
        let endpoints = self.snapshot.endpoints.iter().filter(|e| inside(&e.rack)).map(|e| e.name.clone());
        nodes.chain(endpoints).collect()
    }

    /// The racks that a selection names, by name or by role.
    ///
    /// # Errors
    /// Where a rack is unknown or a role stands for nobody.
    pub fn racks(&mut self, selection: &Selection) -> Result<BTreeSet<String>, Refusal> {
        let mut racks: BTreeSet<String> = selection.racks.iter().cloned().collect();
        if let Some(role) = selection.role {
            racks.extend(self.racks_of_role(role)?);
        }
        let known = self.snapshot.racks();
        match racks.iter().find(|r| !known.contains(&r.as_str())) {
            Some(unknown) => Err(Refusal::NoSuchRack {
                rack: unknown.clone(),
                label: self.snapshot.rack_label.clone(),
                known: known.join(", "),
            }),
            None => Ok(racks),
        }
    }

    /// Everybody that a selection names.
    ///
    /// # Errors
    /// Where a name stands for nobody.
    pub fn members(&mut self, selection: &Selection) -> Result<Members, Refusal> {
        let racks = self.racks(selection)?;
        let mut members = self.of_racks(&racks);
        for node in &selection.nodes {
            self.snapshot.node(node).ok_or_else(|| Refusal::NoSuchMember { kind: "node", name: node.clone() })?;
            members.insert(node.clone());
        }
        for endpoint in &selection.endpoints {
            let is_known = self.snapshot.endpoints.iter().any(|e| e.name == *endpoint);
            if !is_known {
                return Err(Refusal::NoSuchMember { kind: "endpoint", name: endpoint.clone() });
            }
            members.insert(endpoint.clone());
        }
        Ok(members)
    }

    fn racks_of_role(&mut self, role: Role) -> Result<BTreeSet<String>, Refusal> {
        let snapshot = self.snapshot;
        let unresolved = |why: String| Refusal::UnresolvedRole { role: role.name(), why };
        let node = match role {
            Role::QuorumSide | Role::MinoritySide => {
                let racks = side_by_quorum(snapshot, role == Role::QuorumSide);
                if racks.is_empty() {
                    return Err(unresolved("no rack is left for it".into()));
                }
                self.roles.insert(role.name(), racks.iter().cloned().collect::<Vec<_>>().join("+"));
                return Ok(racks);
            }
            Role::EtcdLeader => {
                let member = snapshot.etcd.iter().find(|m| m.leads == Some(true));
                &member.ok_or_else(|| unresolved("no member of etcd is known to lead".into()))?.node
            }
            Role::KubeControllerManagerLeader | Role::SchedulerLeader => {
                let lease = role.lease().unwrap_or_default();
                let found = snapshot.leases.iter().find(|l| l.namespace == "kube-system" && l.name == lease);
                let found = found.ok_or_else(|| unresolved(format!("there is no Lease kube-system/{lease}")))?;
                let holder = found.holder_node.as_ref();
                holder.ok_or_else(|| unresolved(format!("the holder {:?} of its Lease is on no node", found.holder)))?
            }
        };
        let rack = snapshot.node(node).and_then(|n| n.rack.clone()).or_else(|| {
            let endpoint = snapshot.endpoints.iter().find(|e| e.name == *node)?;
            endpoint.rack.clone()
        });
        let rack = rack.ok_or_else(|| unresolved(format!("{node} is in no rack")))?;
        self.roles.insert(role.name(), node.clone());
        Ok(BTreeSet::from([rack]))
    }
}

/// The fewest racks with a majority of etcd's members, or all others.
fn side_by_quorum(snapshot: &Snapshot, quorum: bool) -> BTreeSet<String> {
    let members_in = |rack: &str| snapshot.etcd.iter().filter(|m| snapshot.rack_of(&m.node) == Some(rack)).count();
    let mut racks = snapshot.racks();
    racks.sort_by_key(|r| (std::cmp::Reverse(members_in(r)), *r));
    let (mut have, majority) = (0, snapshot.etcd.len() / 2 + 1);
    let (mut with, mut without) = (BTreeSet::new(), BTreeSet::new());
    for rack in racks {
        if have < majority { &mut with } else { &mut without }.insert(rack.to_owned());
        have += members_in(rack);
    }
    if quorum { with } else { without }
}
