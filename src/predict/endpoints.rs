//! Who is behind a Service: when pods of nodes that are not heard leave it, and API servers that lost etcd the Service `kubernetes`.
//! Nobody writes down EndpointSlices during a run, so this is told and not judged.

use super::{
    constants::*,
    etcd::{elections, loses_members},
    node::{NodeForecast, renewal_after_heal},
    scene::Scene,
    window::{Certainty, after, certainty, few, interval, seconds, union, window},
    workload::count,
};
use crate::api::{Prospect, Side, Window};
use std::collections::BTreeMap;

/// Ready observed pods of one node that nobody hears.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointsForecast {
    pub node: String,
    pub side: String,
    pub pods: Vec<String>,
    /// Whether they leave the ready endpoints of their Services while the cut lasts, and when, seconds after it.
    pub leave: Certainty,
    pub window: Window,
    /// When they are back, seconds after the heal, unless they were evicted.
    pub back: Window,
}

/// One API server among the endpoints of the Service `kubernetes`.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceForecast {
    pub server: String,
    pub side: String,
    /// Whether the others drop it while the cut lasts, and when, seconds after it.
    pub dropped: Certainty,
    pub window: Window,
    /// When it is back, seconds after the heal, unless it is still waiting to be started anew.
    pub back: Window,
}

/// Pods on nodes that become NotReady: the node lifecycle controller takes their Ready condition in the same pass.
pub fn endpoints(scene: &Scene<'_>, nodes: &[NodeForecast]) -> Vec<EndpointsForecast> {
    let mut pods: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for pod in scene.snapshot.pods.iter().filter(|p| p.ready) {
        pods.entry(&pod.node).or_default().push(pod.subject());
    }
    let heard = renewal_after_heal(scene.snapshot);
    let of = |node: &NodeForecast| {
        let pods = pods.get(node.node.as_str())?.clone();
        let leaving = after(&node.window, (0.0, ENDPOINT_SLICE_UPDATE));
        Some(EndpointsForecast {
            node: node.node.clone(),
            side: node.side.clone(),
            pods,
            leave: certainty(&leaving, scene.duration, scene.duration + heard).min(node.not_ready),
            window: leaving,
            back: window(0.0, heard + KUBELET_POD_STATUS + ENDPOINT_SLICE_UPDATE),
        })
    };
    nodes.iter().filter_map(of).collect()
}

/// API servers that can't renew their key. Empty where nobody could drop them.
pub fn service(scene: &Scene<'_>) -> Vec<ServiceForecast> {
    if !scene.may_be_written() {
        return Vec::new();
    }
    let is_sure = scene.sides.iter().any(|s| s.writable == Prospect::Yes);
    let losing = scene.sides.iter().filter(|s| s.writable != Prospect::Yes);
    let of = |side: &Side| {
        let dropping = dropped_within(scene);
        let mut dropped = certainty(&dropping, scene.duration, scene.duration + ETCD_REJOIN);
        if side.writable == Prospect::Maybe || !is_sure {
            dropped = dropped.min(Certainty::May);
        }
        let forecast = |server: &String| ServiceForecast {
            server: server.clone(),
            side: side.name.clone(),
            dropped,
            window: dropping,
            back: window(0.0, ETCD_REJOIN + SERVICE_RETURN),
        };
        side.api_servers.iter().map(forecast).collect::<Vec<_>>()
    };
    losing.flat_map(of).collect()
}

/// The key was renewed up to one round before the cut, and of those that are left one writes it down within a round of its end. A new
/// leader of etcd gives every key its whole time again, and one election timeout (`Promote`).
fn dropped_within(scene: &Scene<'_>) -> Window {
    let may_lose_leader = scene.sides.iter().any(|s| s.writable != Prospect::No && loses_members(s));
    let election = if may_lose_leader { (elections(scene) + 1.0) * scene.election() } else { 0.0 };
    window(SERVICE_KEY_TTL - SERVICE_RECONCILE, SERVICE_KEY_TTL + SERVICE_RECONCILE + ETCD_SLACK + election)
}

/// In words, side by side.
pub fn told(scene: &Scene<'_>, endpoints: &[EndpointsForecast], service: &[ServiceForecast]) -> Vec<String> {
    let pods = by_side(endpoints, |e| &e.side).into_iter().filter_map(|(side, all)| pods_told(side, &all));
    let servers = by_side(service, |s| &s.side).into_iter().filter_map(|(side, all)| service_told(scene, side, &all));
    pods.chain(servers).collect()
}

fn by_side<T>(all: &[T], side: fn(&T) -> &String) -> BTreeMap<&str, Vec<&T>> {
    let mut sides: BTreeMap<&str, Vec<&T>> = BTreeMap::new();
    for one in all {
        sides.entry(side(one)).or_default().push(one);
    }
    sides
}

/// What certainty makes of a sentence.
fn perhaps(certainty: Certainty) -> Option<&'static str> {
    match certainty {
        Certainty::Must => Some(""),
        Certainty::May => Some("perhaps "),
        Certainty::MustNot => None,
    }
}

fn pods_told(side: &str, nodes: &[&EndpointsForecast]) -> Option<String> {
    let surest = nodes.iter().map(|n| n.leave).max()?;
    let leave = nodes.iter().map(|n| n.window).reduce(|a, b| union(&a, &b))?;
    let back = nodes.iter().map(|n| n.back).reduce(|a, b| union(&a, &b))?;
    let pods = count(nodes.iter().map(|n| n.pods.len()).sum(), "ready pod");
    Some(format!(
        "{side}: {pods} of {} {}leave the EndpointSlices of their Services within {} of the cut and are back within {} of the heal, \
         unless evicted: the node lifecycle controller makes them unready as it makes their node, then {} for the EndpointSlices; \
         back when the kubelet is heard and has put its pods right ({})",
        count(nodes.len(), "node"),
        perhaps(surest)?,
        interval(&leave),
        seconds(back.latest_seconds),
        seconds(ENDPOINT_SLICE_UPDATE),
        seconds(KUBELET_POD_STATUS)
    ))
}

fn service_told(scene: &Scene<'_>, side: &str, servers: &[&ServiceForecast]) -> Option<String> {
    let first = servers.first()?;
    let names: Vec<String> = servers.iter().map(|s| s.server.clone()).collect();
    Some(format!(
        "{side}: the Service kubernetes {}drops {} within {} of the cut and has it back within {} of the heal or of its next start: a \
         key of {} that is renewed every {}, looked at as often; after an election of etcd ({} × {}) it lasts its whole time again",
        perhaps(first.dropped)?,
        few(&names),
        interval(&first.window),
        seconds(first.back.latest_seconds),
        seconds(SERVICE_KEY_TTL),
        seconds(SERVICE_RECONCILE),
        elections(scene),
        seconds(scene.election())
    ))
}
