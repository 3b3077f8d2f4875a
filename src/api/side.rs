//! Sides of a cut: groups of nodes to which the cut does the same.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How sure something is for as long as the cut lasts.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Prospect {
    #[default]
    No,
    /// Depends on what can't be known beforehand, such as which member of etcd will lead.
    Maybe,
    Yes,
}

/// Nodes that hear each other, and of everybody else the same.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Side {
    /// `isolated`, `rest`, or who is in it; `everybody` in a rehearsal.
    pub name: String,
    pub racks: Vec<String>,
    pub nodes: Vec<String>,
    /// Names of the other sides that this one hears and is heard by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hears: Vec<String>,
    /// etcd members that this side's own members hear both ways, themselves included; without an own member those that its
    /// nodes hear. And the number of all.
    pub etcd_members: u32,
    pub etcd_total: u32,
    /// This side's members of etcd hear a majority, themselves included.
    pub quorum: bool,
    /// Nodes of this side that run an API server.
    pub api_servers: Vec<String>,
    /// Whether writes through this side's API servers should be acknowledged.
    #[serde(default, deserialize_with = "prospect_or_bool")]
    pub writable: Prospect,
    /// Whether nodes of this side reach an API server that can write: their own, or another one.
    #[serde(default)]
    pub served: Prospect,
}

/// Runs of 0.1.0 said `true` or `false`. One that can't be read would hide all others.
fn prospect_or_bool<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Prospect, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Bool(bool),
        Prospect(Prospect),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::Bool(true) => Prospect::Yes,
        Either::Bool(false) => Prospect::No,
        Either::Prospect(prospect) => prospect,
    })
}

impl Side {
    /// The sides on which the API is most likely to stay writable; empty where there is no hope.
    pub fn most_writable(sides: &[Side]) -> Vec<&Side> {
        let best = sides.iter().map(|s| s.writable).max().unwrap_or_default();
        sides.iter().filter(|s| s.writable == best && best != Prospect::No).collect()
    }
}
