//! Zones as the node lifecycle controller sees them: how fast it taints their nodes.

use super::{constants::PARTIAL_DISRUPTION_NODES, scene::Scene};
use crate::topology::{Node, Snapshot};
use std::collections::{HashMap, HashSet};

/// How disrupted a zone is (`ComputeZoneState`, `handleDisruption`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ZoneState {
    /// At most two nodes are unready, or few of many: the usual rate.
    Normal,
    /// More than two and a large share: slower in a large zone, and not at all in others.
    Partial,
    /// No node is ready: it may be the network, but their pods are wanted elsewhere. The usual rate.
    Full,
    /// No node of any zone is ready: it must be the control plane's own network. Nobody is tainted, and taints go.
    AllFull,
}

/// What a zone is while the cut lasts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Zone {
    pub state: ZoneState,
    /// Nodes per second that are tainted; 0 where evictions stop.
    pub rate: f64,
    /// The slowest rate at which any are, whoever is cut off of those that may be; 0 where evictions stop in any case.
    pub slowest: f64,
    /// Whether the rate is the same whoever is cut off of those that may be.
    pub is_sure: bool,
    /// Nodes of it that are cut off, or may be.
    pub cut: usize,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    nodes: usize,
    unready: usize,
    cut: usize,
}

type Counted<'a> = HashMap<Option<&'a str>, Counts>;

/// The zones of a cluster, each by its key; nodes without a zone are one.
pub struct Zones<'a>(HashMap<Option<&'a str>, Zone>);

impl<'a> Zones<'a> {
    /// `sure`: nodes that are cut off; `all`: those and the ones that may be.
    pub fn new(scene: &Scene<'a>, sure: &HashSet<&str>, all: &HashSet<&str>) -> Self {
        let (least, most) = (counted(scene.snapshot, sure), counted(scene.snapshot, all));
        let states = |counts: &Counted<'a>| {
            let dark = counts.values().all(|c| c.unready == c.nodes) && counts.values().any(|c| c.nodes > 0);
            move |c: &Counts| if dark { ZoneState::AllFull } else { state(scene, *c) }
        };
        let (at_least, at_most) = (states(&least), states(&most));
        let zone = |(key, counts): (&Option<&'a str>, &Counts)| {
            let (before, state) = (at_least(least.get(key).unwrap_or(&Counts::default())), at_most(counts));
            let (least, rate) = (rate_of(scene, before, counts.nodes), rate_of(scene, state, counts.nodes));
            let slowest = [least, rate].into_iter().filter(|rate| *rate > 0.0).reduce(f64::min).unwrap_or(0.0);
            (*key, Zone { state, rate, slowest, is_sure: rate.total_cmp(&least).is_eq(), cut: counts.cut })
        };
        Zones(most.iter().map(zone).collect())
    }

    /// The zone of a node of this cluster.
    pub fn of(&self, node: Option<&Node>) -> Zone {
        let key = node.and_then(|n| n.zone.as_deref());
        let unknown = Zone { state: ZoneState::Normal, rate: 0.0, slowest: 0.0, is_sure: false, cut: 0 };
        self.0.get(&key).copied().unwrap_or(unknown)
    }
}

fn counted<'a>(snapshot: &'a Snapshot, cut: &HashSet<&str>) -> Counted<'a> {
    let mut zones: Counted<'a> = HashMap::new();
    for node in &snapshot.nodes {
        let zone = zones.entry(node.zone.as_deref()).or_default();
        let is_cut = cut.contains(node.name.as_str());
        zone.cut += usize::from(is_cut);
        // A label takes a node out of the count. It is tainted all the same.
        if !node.excluded_from_disruption {
            zone.nodes += 1;
            zone.unready += usize::from(is_cut || !node.ready);
        }
    }
    zones
}

fn state(scene: &Scene<'_>, counts: Counts) -> ZoneState {
    let Counts { nodes, unready, .. } = counts;
    let share = scene.known.unhealthy_zone_share.seconds;
    match () {
        _ if unready > 0 && unready == nodes => ZoneState::Full,
        _ if unready > PARTIAL_DISRUPTION_NODES && unready as f64 >= share * nodes as f64 => ZoneState::Partial,
        _ => ZoneState::Normal,
    }
}

fn rate_of(scene: &Scene<'_>, state: ZoneState, nodes: usize) -> f64 {
    match state {
        ZoneState::Normal | ZoneState::Full => scene.snapshot.timers.node_eviction_rate.seconds,
        ZoneState::Partial if nodes as f64 > scene.known.large_zone_nodes.seconds => {
            scene.known.secondary_eviction_rate.seconds
        }
        ZoneState::Partial | ZoneState::AllFull => 0.0,
    }
}

impl ZoneState {
    /// In words, with the rate.
    pub fn told(self, rate: f64) -> String {
        let zone = match self {
            ZoneState::Normal => "its zone counts as healthy",
            ZoneState::Partial => "its zone is partly disrupted",
            ZoneState::Full => "its whole zone is unready",
            ZoneState::AllFull => "every zone is unready",
        };
        match self {
            _ if rate > 0.0 => format!("{zone}: taint one pass later, {rate} nodes per second"),
            ZoneState::Partial | ZoneState::AllFull => format!("{zone}: evictions stop"),
            // A token bucket that is never filled has the one token that it begins with (`NewTokenBucketRateLimiter`).
            ZoneState::Normal | ZoneState::Full => {
                format!("{zone}: at a rate of 0 nodes per second one node may be tainted at once, and no other")
            }
        }
    }
}
