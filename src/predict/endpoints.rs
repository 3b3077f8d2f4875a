//! Who is behind a Service: when pods of nodes that are not heard leave it, and API servers that lost etcd the Service `kubernetes`.

use super::{
    bounds::{after_cut, prediction, throughout},
    constants::*,
    etcd::{elections, loses_members},
    node::NodeForecast,
    recovery::{kubelets_renew, why_kubelets_renew},
    scene::Scene,
    streams,
    timers::sourced,
    window::{Certainty, after, certainty, interval, seconds, union, window},
    workload::count,
};
use crate::{
    api::{Check, KUBERNETES_SERVICE, Prediction, Prospect, Side, Window},
    topology::EndpointReconciler,
};
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
    /// Length of the cut, seconds.
    duration: f64,
}

/// One API server among the endpoints of the Service `kubernetes`.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceForecast {
    pub server: String,
    pub side: String,
    /// Whether the others drop it while the cut lasts, and when, seconds after it.
    pub dropped: Certainty,
    pub window: Window,
    /// When it is back, seconds after the heal, where it can write at once. Else it has its time from its first write on, which waits for
    /// etcd (`streams::etcd_back`) and where it crashed until it is started anew.
    pub back: Window,
    /// Length of the cut, seconds.
    duration: f64,
    reason: String,
}

/// Pods on nodes that become NotReady: the node lifecycle controller takes their Ready condition in the same pass.
pub fn endpoints(scene: &Scene<'_>, nodes: &[NodeForecast]) -> Vec<EndpointsForecast> {
    let mut pods: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for pod in scene.snapshot.pods.iter().filter(|p| p.ready) {
        pods.entry(&pod.node).or_default().push(pod.subject());
    }
    let heard = kubelets_renew(scene);
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
            duration: scene.duration,
        })
    };
    nodes.iter().filter_map(of).collect()
}

/// API servers that can't renew their key. Empty where nobody could drop them, or they have no such keys.
pub fn service(scene: &Scene<'_>) -> Vec<ServiceForecast> {
    if !scene.may_be_written() || scene.snapshot.endpoint_reconciler.is_some_and(|r| r != EndpointReconciler::Lease) {
        return Vec::new();
    }
    let is_sure = scene.sides.iter().any(|s| s.writable == Prospect::Yes);
    let losing = scene.sides.iter().filter(|s| s.writable != Prospect::Yes);
    let of = |side: &Side| {
        let dropping = dropped_within(scene);
        let mut dropped = certainty(&dropping, scene.duration, scene.duration + streams::etcd_back(scene));
        if side.writable == Prospect::Maybe || !is_sure {
            dropped = dropped.min(Certainty::May);
        }
        let forecast = |server: &String| ServiceForecast {
            server: server.clone(),
            side: side.name.clone(),
            dropped,
            window: dropping,
            back: window(0.0, ETCD_REJOIN + SERVICE_RETURN),
            duration: scene.duration,
            reason: format!(
                "a key of {} (DefaultEndpointReconcilerTTL) that is renewed every {} (DefaultEndpointReconcilerInterval), looked at as \
                 often; after an election of etcd ({} × election timeout {}) it lasts its whole time again; {} for disks and dialling \
                 (ours); after the heal its first write waits for etcd, up to {}: {}; one round and the write {} (theory C11)",
                seconds(SERVICE_KEY_TTL),
                seconds(SERVICE_RECONCILE),
                elections(scene),
                sourced(&scene.snapshot.timers.etcd_election),
                seconds(ETCD_SLACK),
                seconds(streams::etcd_back(scene)),
                streams::why(scene),
                seconds(SERVICE_RETURN)
            ),
        };
        side.api_servers.iter().map(forecast).collect::<Vec<_>>()
    };
    losing.flat_map(of).collect()
}

/// By what rules the Service `kubernetes` is kept, where that was not read or nothing can be said of it; of a cut that may cost API servers
/// etcd.
pub fn assumed(scene: &Scene<'_>) -> Option<String> {
    let is_losing = |s: &Side| s.writable != Prospect::Yes && !s.api_servers.is_empty();
    if !scene.may_be_written() || !scene.sides.iter().any(is_losing) {
        return None;
    }
    let unpredicted = |told: &str| {
        let none = "nothing is predicted of which API servers are among its endpoints";
        Some(format!("{KUBERNETES_SERVICE}: --endpoint-reconciler-type is {told}; {none}"))
    };
    match scene.snapshot.endpoint_reconciler {
        None => Some(
            "endpoint reconciler of API servers: lease (--endpoint-reconciler-type not read; upstream's default)"
                .into(),
        ),
        Some(EndpointReconciler::Lease) => None,
        Some(EndpointReconciler::MasterCount) => unpredicted("master-count, by which nobody is dropped for being lost"),
        Some(EndpointReconciler::None) => unpredicted("none, so that somebody else keeps them"),
    }
}

/// The key was renewed up to one round before the cut, and of those that are left one writes it down within a round of its end. A new
/// leader of etcd gives every key its whole time again, and one election timeout (`Promote`).
fn dropped_within(scene: &Scene<'_>) -> Window {
    let may_lose_leader = scene.sides.iter().any(|s| s.writable != Prospect::No && loses_members(s));
    let election = if may_lose_leader { (elections(scene) + 1.0) * scene.election() } else { 0.0 };
    window(SERVICE_KEY_TTL - SERVICE_RECONCILE, SERVICE_KEY_TTL + SERVICE_RECONCILE + ETCD_SLACK + election)
}

/// Pods side by side, as the judge tells them, and each API server.
pub fn predictions(scene: &Scene<'_>, endpoints: &[EndpointsForecast], service: &[ServiceForecast]) -> Vec<Prediction> {
    let mut sides: BTreeMap<&str, Vec<&EndpointsForecast>> = BTreeMap::new();
    for node in endpoints {
        sides.entry(&node.side).or_default().push(node);
    }
    let pods = sides.into_iter().filter_map(|(side, nodes)| of_pods(scene, side, &nodes));
    pods.chain(service.iter().map(ServiceForecast::prediction)).collect()
}

fn of_pods(scene: &Scene<'_>, side: &str, nodes: &[&EndpointsForecast]) -> Option<Prediction> {
    let surest = nodes.iter().map(|n| n.leave).max()?;
    let leave = nodes.iter().map(|n| n.window).reduce(|a, b| union(&a, &b))?;
    let back = nodes.iter().map(|n| n.back).reduce(|a, b| union(&a, &b))?;
    let duration = nodes.first()?.duration;
    let (expected, bounded) = match surest {
        Certainty::MustNot => {
            ("stay in the EndpointSlices of their Services: the cut heals before".into(), throughout(0.0, duration))
        }
        _ => (
            format!(
                "{}out of the EndpointSlices of their Services within {} of the cut, back within {} of the heal unless evicted",
                perhaps(surest),
                interval(&leave),
                seconds(back.latest_seconds)
            ),
            after_cut(leave),
        ),
    };
    let subject = format!("{side}: {}", count(nodes.iter().map(|n| n.pods.len()).sum(), "ready pod"));
    let reason = format!(
        "the node lifecycle controller makes them unready as it makes their node (`NodeNotReady`), then {} for the EndpointSlices \
         (theory C11); back when the kubelet has put its pods right ({}, syncPeriod) and the slices follow, once it is heard: within {}",
        seconds(ENDPOINT_SLICE_UPDATE),
        seconds(KUBELET_POD_STATUS),
        why_kubelets_renew(scene)
    );
    Some(prediction(Check::EndpointsRemoved, subject, expected, bounded, reason))
}

/// What certainty makes of a sentence about what may happen.
fn perhaps(certainty: Certainty) -> &'static str {
    if certainty == Certainty::Must { "" } else { "perhaps " }
}

impl ServiceForecast {
    pub fn prediction(&self) -> Prediction {
        let (expected, bounded) = match self.dropped {
            Certainty::MustNot => {
                ("stays among its endpoints: the cut heals before".into(), throughout(0.0, self.duration))
            }
            _ => (
                format!(
                    "{}dropped within {} of the cut, back within {} of the heal or {} of its first write after it",
                    perhaps(self.dropped),
                    interval(&self.window),
                    seconds(self.back.latest_seconds),
                    seconds(SERVICE_RETURN)
                ),
                after_cut(self.window),
            ),
        };
        let subject = format!("{KUBERNETES_SERVICE}/{}", self.server);
        prediction(Check::EndpointsRemoved, subject, expected, bounded, &self.reason)
    }
}
