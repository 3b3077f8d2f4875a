//! What the cluster's owner allows any run, whatever its own guards say: the chart's `policy`.

use super::{Fault, Refusal, cut_off, sides};
use crate::{api::Prospect, topology::Snapshot};
use std::time::Duration;

/// Limits for every run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    pub max_duration: Duration,
    /// Share of the nodes that a cut may take every API server from that can write, also perhaps, as [`cut_off`] counts them.
    pub max_nodes_percent: u8,
    /// The label whose values `protected_racks` are, whatever label a run's own racks go by.
    pub rack_label: String,
    /// No node of these racks may lose them, not even perhaps.
    pub protected_racks: Vec<String>,
    /// Nor a node that runs pods of these namespaces.
    pub protected_namespaces: Vec<String>,
    /// A label that the namespace `kube-system` must have, with the value `true`: the cluster's own consent. Empty: none.
    pub opt_in_label: String,
}

impl Default for Policy {
    /// Everything that a spec can say.
    fn default() -> Self {
        Policy {
            max_duration: Duration::from_secs(3600),
            max_nodes_percent: 100,
            rack_label: String::new(),
            protected_racks: Vec::new(),
            protected_namespaces: Vec::new(),
            opt_in_label: String::new(),
        }
    }
}

impl Policy {
    /// Checks a cut of this length, as if it were whole all the time: whoever loses most of the packets, or all of them now and then,
    /// may lose the API as well.
    ///
    /// # Errors
    /// The first [`Refusal`] that applies.
    pub fn check(&self, duration: Duration, snapshot: &Snapshot, fault: &Fault) -> Result<(), Refusal> {
        if !self.opt_in_label.is_empty() && !snapshot.opted_in {
            return Err(Refusal::NotOptedIn { label: self.opt_in_label.clone() });
        }
        if duration > self.max_duration {
            return Err(Refusal::TooLong {
                seconds: duration.as_secs_f64(),
                most_seconds: self.max_duration.as_secs_f64(),
            });
        }
        let whole = fault.whole();
        let (count, total) = (cut_off(snapshot, &whole), snapshot.nodes.len());
        if count * 100 > total * usize::from(self.max_nodes_percent) {
            return Err(Refusal::TooManyNodes { count, total, most_percent: self.max_nodes_percent });
        }
        let sides = sides(snapshot, &whole);
        let losing: Vec<&String> = sides.iter().filter(|s| s.served != Prospect::Yes).flat_map(|s| &s.nodes).collect();
        let rack = |node: &&String| snapshot.node(node)?.protected.clone();
        if let Some((node, rack)) = losing.iter().find_map(|node| Some((node, rack(node)?))) {
            return Err(Refusal::ProtectedRack { rack, node: (*node).clone() });
        }
        match snapshot.protected_pods.iter().find(|p| losing.contains(&&p.node)) {
            Some(pod) => Err(Refusal::ProtectedNamespace {
                namespace: pod.namespace.clone(),
                pod: pod.name.clone(),
                node: pod.node.clone(),
            }),
            None => Ok(()),
        }
    }
}
