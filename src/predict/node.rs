//! Nodes that no writable side hears: when they become NotReady and when their pods may be evicted.

use super::{
    bounds::{after_cut, prediction, throughout},
    constants::*,
    lease::LeaseForecast,
    recovery::{kubelets_renew, why_kubelets_renew},
    scene::Scene,
    timers::sourced,
    window::{Certainty, after, certainty, interval, seconds, window},
    workload::count,
    zone::{Zone, ZoneState, Zones},
};
use crate::{
    api::{Check, Prediction, Prospect, Side, Window},
    topology::Snapshot,
};
use std::collections::{BTreeMap, HashSet};

/// One node that is cut off from every writable API server.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeForecast {
    pub node: String,
    pub side: String,
    pub not_ready: Certainty,
    /// When it becomes NotReady, seconds after the cut.
    pub window: Window,
    /// The same, seconds after the new controller manager took over, where the old one was cut off.
    pub after_takeover: Option<Window>,
    pub tainted: Certainty,
    /// When it is tainted `NoExecute`, seconds after the cut.
    pub taint: Window,
    /// How disrupted its zone is, and the nodes per second that are tainted there.
    pub zone: ZoneState,
    pub rate: f64,
    /// How many nodes of its zone may be tainted before evictions stop there; None where they don't, or it is not sure that they do.
    pub first: Option<usize>,
    /// Where the timers of its taint come from.
    pub sources: String,
    /// Length of the cut, seconds.
    duration: f64,
    reason: String,
}

/// From the heal until a kubelet renews its Lease again by an API server that answers, seconds: a request that is under way has its
/// timeout, the next one its back-off, and where the Lease was read and then could not be written the next renewal is waited for (`sync`
/// and `backoffEnsureLease`, component-helpers `apimachinery/lease`).
pub fn renewal_after_heal(snapshot: &Snapshot) -> f64 {
    KUBELET_HEARTBEAT_TIMEOUT + KUBELET_LEASE_BACK_OFF + snapshot.timers.node_lease_renew.seconds
}

/// From Ready to the taints' end, seconds.
pub fn taint_removal(snapshot: &Snapshot) -> f64 {
    snapshot.timers.node_monitor_period.seconds.max(TAINT_REMOVAL)
}

/// Nodes that no writable side hears. Empty where no side can write: nobody could mark them. `manager`: the controller manager's
/// Lease, where it leaves its holder or may.
pub fn nodes(scene: &Scene<'_>, manager: Option<&LeaseForecast>) -> Vec<NodeForecast> {
    if !scene.may_be_written() {
        return Vec::new();
    }
    let all: HashSet<&str> = scene.losing().flat_map(|s| s.nodes.iter().map(String::as_str)).collect();
    let sure = scene.losing().filter(|s| s.served == Prospect::No);
    let sure: HashSet<&str> = sure.flat_map(|s| s.nodes.iter().map(String::as_str)).collect();
    let zones = Zones::new(scene, &sure, &all);
    let counted = Counted::new(scene, manager);
    let of = |side: &Side, node: &String| {
        let mut forecast = forecast(scene, &side.name, node, zones.of(scene.snapshot.node(node)), &counted);
        if side.served == Prospect::Maybe {
            forecast.not_ready = forecast.not_ready.min(Certainty::May);
            forecast.tainted = forecast.tainted.min(Certainty::May);
        }
        forecast
    };
    scene.losing().flat_map(|side| side.nodes.iter().map(move |node| (side, node))).map(|(s, n)| of(s, n)).collect()
}

/// The Lease of the component that watches over nodes.
pub const CONTROLLER_MANAGER: &str = "kube-system/kube-controller-manager";

/// From when on heartbeats are missed, which is the same for all nodes.
struct Counted {
    not_ready: Certainty,
    window: Window,
    after_takeover: Option<Window>,
    /// Until when a node may still be marked, seconds after the cut: its kubelet is heard again.
    heard: f64,
    term: String,
}

impl Counted {
    fn new(scene: &Scene<'_>, manager: Option<&LeaseForecast>) -> Self {
        let timers = &scene.snapshot.timers;
        let (grace, period) = (timers.node_monitor_grace.seconds, timers.node_monitor_period.seconds);
        let renew = timers.node_lease_renew.seconds * LEASE_RENEW_JITTER;
        let kept = window(grace - renew, grace + period);
        let every = sourced(&timers.node_lease_renew);
        let kept_term = format!("counted from the last renewal, every {every} × {LEASE_RENEW_JITTER} (renewInterval)");
        let (window, after_takeover, mut term) = match manager {
            // A new controller manager has seen no Lease yet and counts from its start.
            Some(lease) => {
                let relative = window(grace, grace + 2.0 * period + CONTROLLER_START);
                let absolute = after(&lease.takeover, (relative.earliest_seconds, relative.latest_seconds));
                let term = format!(
                    "counted from the new controller manager's start, {} (`LeaseTakeover`), and {} for its caches (ours)",
                    interval(&lease.takeover),
                    seconds(CONTROLLER_START)
                );
                match lease.moves {
                    Certainty::Must => (absolute, Some(relative), term),
                    // If the old one stays it goes on counting.
                    _ => (
                        window(kept.earliest_seconds, absolute.latest_seconds),
                        None,
                        format!("{kept_term}, or {term}, if there is one"),
                    ),
                }
            }
            None => (kept, None, kept_term),
        };
        let heard = scene.duration + kubelets_renew(scene);
        if window.latest_seconds > scene.duration {
            term += &format!("; after the heal a kubelet renews its Lease within {}", why_kubelets_renew(scene));
        }
        let mut not_ready = certainty(&window, scene.duration, heard);
        if manager.is_some_and(|l| l.moves != Certainty::Must) {
            not_ready = not_ready.min(Certainty::May);
        }
        Counted { not_ready, window, after_takeover, heard, term }
    }
}

fn forecast(scene: &Scene<'_>, side: &str, node: &str, zone: Zone, counted: &Counted) -> NodeForecast {
    let timers = &scene.snapshot.timers;
    let period = timers.node_monitor_period.seconds;
    // One after the other, the first one at once. Where the rate is 0 no other one is.
    let before = zone.cut.saturating_sub(1);
    let queue = if zone.slowest > 0.0 { before as f64 / zone.slowest } else { 0.0 };
    let taint = after(&counted.window, (0.0, period + queue));
    let mut tainted = certainty(&taint, scene.duration, counted.heard).min(counted.not_ready);
    let mut rate_term = zone.state.told(zone.rate);
    let mut sources = vec![timers.node_monitor_grace.source.as_str(), timers.node_monitor_period.source.as_str()];
    let rate = match zone.state {
        ZoneState::Normal | ZoneState::Full => Some(&timers.node_eviction_rate.source),
        ZoneState::Partial => Some(&scene.known.secondary_eviction_rate.source),
        ZoneState::AllFull => None,
    };
    if let Some(source) = rate {
        rate_term += &format!(" ({source})");
        sources.push(source);
    }
    // Fewer nodes would be unready at a time if some could be heard before others are marked.
    let stops = zone.rate <= 0.0 && zone.is_sure && counted.not_ready == Certainty::Must;
    if zone.rate <= 0.0 || !zone.is_sure {
        // The first nodes are tainted before the controller sees how many are down.
        tainted = tainted.min(Certainty::May);
    }
    if !zone.is_sure {
        rate_term += ", or otherwise if fewer nodes are cut off";
    }
    NodeForecast {
        node: node.into(),
        side: side.into(),
        not_ready: counted.not_ready,
        window: counted.window,
        after_takeover: counted.after_takeover,
        tainted,
        taint,
        zone: zone.state,
        rate: zone.rate,
        first: stops.then(|| first_few(scene, counted)),
        sources: sources.join(", "),
        duration: scene.duration,
        reason: format!(
            "grace period {}, looked at every {}; {}; {rate_term}",
            sourced(&timers.node_monitor_grace),
            sourced(&timers.node_monitor_period),
            counted.term
        ),
    }
}

/// How many nodes of a zone may be tainted before evictions stop there: one at once, and more at the usual rate for as long as the first
/// node may be marked before the last one (theory C9).
fn first_few(scene: &Scene<'_>, counted: &Counted) -> usize {
    let marked = counted.after_takeover.unwrap_or(counted.window);
    let stagger = marked.latest_seconds - marked.earliest_seconds;
    1 + (stagger * scene.snapshot.timers.node_eviction_rate.seconds).ceil() as usize
}

/// Whether the cut may make nodes of a writable side NotReady for a while: a kubelet whose connection ended on the other side
/// needs its client's timeout and a back-off, and a short grace period is over by then.
pub fn grace_is_short(snapshot: &Snapshot) -> bool {
    let timers = &snapshot.timers;
    timers.node_monitor_grace.seconds < renewal_after_heal(snapshot) + timers.node_monitor_period.seconds
}

impl NodeForecast {
    pub fn prediction(&self) -> Prediction {
        let when = interval(&self.window);
        let (expected, bounded) = match self.not_ready {
            Certainty::Must => (format!("NotReady within {when}"), after_cut(self.window)),
            Certainty::May => (format!("stays Ready or becomes NotReady within {when}"), after_cut(self.window)),
            Certainty::MustNot => ("stays Ready: the cut heals before".into(), throughout(0.0, self.duration)),
        };
        prediction(Check::NodeNotReady, &self.node, expected, bounded, &self.reason)
    }
}

/// When nodes are tainted, side by side, as the judge tells it: one after the other, so that the last one's interval is the longest.
pub fn taint_predictions(nodes: &[NodeForecast]) -> Vec<Prediction> {
    let mut sides: BTreeMap<&str, Vec<&NodeForecast>> = BTreeMap::new();
    for node in nodes {
        sides.entry(&node.side).or_default().push(node);
    }
    let of = |(side, nodes): (&str, Vec<&NodeForecast>)| {
        let last = nodes.iter().max_by(|a, b| a.taint.latest_seconds.total_cmp(&b.taint.latest_seconds))?;
        let (expected, bounded) = match nodes.iter().map(|n| n.tainted).max()? {
            Certainty::Must => (format!("tainted within {}", interval(&last.taint)), after_cut(last.taint)),
            Certainty::May => {
                let first = nodes.iter().map(|n| n.first).collect::<Option<Vec<usize>>>();
                let most = first.and_then(|first| first.into_iter().max());
                let few = most.map_or(String::new(), |most| format!(", no more than {most} of a zone"));
                (format!("not tainted, or within {}{few}", interval(&last.taint)), after_cut(last.taint))
            }
            Certainty::MustNot => ("not tainted: the cut heals before".into(), throughout(0.0, last.duration)),
        };
        let subject = format!("{side}: {}", count(nodes.len(), "node"));
        Some(prediction(Check::NodeTainted, subject, expected, bounded, &last.reason))
    };
    sides.into_iter().filter_map(of).collect()
}
