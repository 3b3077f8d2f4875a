//! What is cut from what: shapes over racks, nodes, endpoints and roles.

use kube::{KubeSchema, core::Rule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Exactly one shape. Each expands to directed edges: who no longer hears whom.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "[has(self.isolate), has(self.split), has(self.bridge), has(self.ring), has(self.star), has(self.chain), has(self.edges)].filter(named, named).size() == 1"
    )
    .message("name exactly one cut: isolate, split, bridge, ring, star, chain or edges")
)]
pub struct Cut {
    /// Cuts a selection off from everything outside of it, the control-plane endpoint included where that is no node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolate: Option<Isolate>,
    /// Groups between which nobody crosses. Whoever is in none forms one more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// Groups that hear the bridge and not each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<Bridge>,
    /// Every member hears just a majority of all, no two the same one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring: Option<Ring>,
    /// Every member hears the hub and nobody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub star: Option<Star>,
    /// Every member hears its neighbours in the list and nobody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<Chain>,
    /// The normal form: directed edges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub edges: Option<Vec<Edge>>,
}

/// Nothing is named in two groups of a list. What roles stand for is known only to the operator.
fn disjoint(field: &str) -> Rule {
    Rule::new(format!(
        "self.all(g, !has(g.{field}) || g.{field}.all(name, self.exists_one(other, has(other.{field}) && name in other.{field})))"
    ))
    .message(format!("name each of the {field} in one group only").as_str())
}

/// Who is meant: all that any of these names.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.role) || has(self.racks) || has(self.nodes) || has(self.endpoints)")
        .message("name racks, nodes, endpoints or a role")
)]
pub struct Selection {
    /// Values of the rack label: every node, and every endpoint placed there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub racks: Vec<String>,
    /// Single nodes by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub nodes: Vec<String>,
    /// Endpoints of the spec by name, or `control-plane-endpoint`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub endpoints: Vec<String>,
    /// Racks by who is there, resolved once, when the run is planned, and written to the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
}

/// A selection, and whether nothing else at all is heard.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Isolate {
    #[serde(flatten)]
    pub selection: Selection,
    /// Drop whatever does not come from the selection itself, known or not, as a dead switch would.
    #[serde(default)]
    pub outside: bool,
}

/// Groups between which nobody crosses.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Split {
    /// Disjoint groups. Whoever is in none forms one more.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = disjoint("racks"), validation = disjoint("nodes"), validation = disjoint("endpoints"))]
    pub groups: Vec<Selection>,
}

/// Groups that hear the bridge and not each other.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bridge {
    /// Disjoint groups.
    #[schemars(length(min = 2, max = 16))]
    #[x_kube(validation = disjoint("racks"), validation = disjoint("nodes"), validation = disjoint("endpoints"))]
    pub groups: Vec<Selection>,
    /// Hears everybody. Default: whoever is in no group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<Selection>,
}

/// Every member hears just a majority of all, no two the same one.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ring {
    /// Members in the order of the ring. Default: every rack by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub members: Vec<Selection>,
}

/// Every member hears the hub and nobody else.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Star {
    pub hub: Selection,
    /// The others. Default: every rack that the hub is not in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub members: Vec<Selection>,
}

/// Every member hears its neighbours in the list and nobody else.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Chain {
    /// Members in the order of the chain. Default: every rack by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub members: Vec<Selection>,
}

/// Packets from one selection to another vanish.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Edge {
    pub from: Selection,
    pub to: Selection,
    /// The other way as well.
    #[serde(default)]
    pub both: bool,
}

/// Racks by who is there.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The rack of the controller manager that holds the Lease.
    KubeControllerManagerLeader,
    /// The rack of the scheduler that holds the Lease.
    SchedulerLeader,
    /// The rack of etcd's leader.
    EtcdLeader,
    /// The fewest racks, by the number of etcd members and then by name, that hold a majority of them.
    QuorumSide,
    /// Every rack that is not of the quorum side.
    MinoritySide,
}

impl Role {
    /// The Lease in `kube-system` that names this leader, where one does.
    pub fn lease(self) -> Option<&'static str> {
        match self {
            Role::KubeControllerManagerLeader => Some("kube-controller-manager"),
            Role::SchedulerLeader => Some("kube-scheduler"),
            Role::EtcdLeader | Role::QuorumSide | Role::MinoritySide => None,
        }
    }

    /// As it is written in a spec.
    pub fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
    }
}
