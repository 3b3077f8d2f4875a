//! From the heal until everything desired is actual again, and when each part of it is.

use super::{
    api_server::first_restart,
    bounds::{after_heal, prediction},
    constants::*,
    etcd::loses_members,
    lease::{LeaseForecast, coordinated_later},
    node::{renewal_after_heal, taint_removal},
    scene::Scene,
    streams,
    timers::sourced,
    window::{Certainty, seconds, window},
    workload::WorkloadForecast,
};
use crate::api::{Check, Prediction, Prospect, Window};

/// How long a cluster may take after the heal.
#[derive(Clone, Debug, PartialEq)]
pub struct RecoveryForecast {
    /// Seconds after the heal.
    pub window: Window,
    /// Seconds after the heal by which all members of etcd follow one leader again.
    pub etcd: f64,
    /// When each part is normal that the cut may have hit, in their order.
    pub milestones: Vec<Milestone>,
    /// Until every kubelet knows what was decided while it was cut off, seconds after the heal.
    pub kubelets_told: f64,
    reason: String,
}

/// One part of the cluster and when it is normal again.
#[derive(Clone, Debug, PartialEq)]
pub struct Milestone {
    pub what: &'static str,
    /// Seconds after the heal.
    pub window: Window,
    reason: String,
}

/// The longest wait that a container crashing since `first` still has before it at `until`, when its reason ends (both seconds after the
/// cut): its back-off doubles, so the current one is at most as long as it has been crashing, and the first one.
pub fn back_off_left(first: f64, until: f64) -> f64 {
    let (shortest, longest) = CRASH_BACK_OFF;
    if until < first { 0.0 } else { (until - first + shortest).min(longest) }
}

/// Until every kubelet knows what was decided while it was cut off, seconds after the heal: the API server that it asks may be one that
/// lost etcd, and then it must notice that its connection is dead.
pub fn kubelets_told(scene: &Scene<'_>) -> f64 {
    api_servers_answer(scene) + KUBELET_RECONNECT
}

/// Until every kubelet has renewed its node's Lease, seconds after the heal. No object shows which API server one asks: a worker any of
/// them, through the control-plane endpoint, and one beside an API server its own or any. So it may be the last one that answers again.
/// No dead connection adds to that: heartbeats have a timeout, and a kubelet ends its connections itself once two have failed
/// (`onRepeatedHeartbeatFailure`, component-helpers `apimachinery/lease`), long before HTTP/2 pings would.
pub fn kubelets_renew(scene: &Scene<'_>) -> f64 {
    api_servers_answer(scene) + renewal_after_heal(scene.snapshot)
}

/// The same in words, after "within".
pub fn why_kubelets_renew(scene: &Scene<'_>) -> String {
    let before = match api_servers_answer(scene) {
        answer if answer > 0.0 => format!("API servers that lost etcd {}, then ", seconds(answer)),
        _ => String::new(),
    };
    format!(
        "{}: {before}timeout {} (cmd/kubelet/app/server.go), back-off {} (maxBackoff) and renewal {}",
        seconds(kubelets_renew(scene)),
        seconds(KUBELET_HEARTBEAT_TIMEOUT),
        seconds(KUBELET_LEASE_BACK_OFF),
        sourced(&scene.snapshot.timers.node_lease_renew)
    )
}

/// Until every API server answers that lost etcd, seconds after the heal; 0 where none did.
fn api_servers_answer(scene: &Scene<'_>) -> f64 {
    api_server_start(scene).map_or(0.0, |start| streams::etcd_back(scene) + start)
}

/// The same in words, after "within".
pub fn why_kubelets_told(told: f64) -> String {
    match told > KUBELET_RECONNECT {
        true => {
            format!("{}: the API server that it asks may be one that lost etcd, and its connection dead", seconds(told))
        }
        false => format!("{} (HTTP/2 pings)", seconds(told)),
    }
}

/// From etcd's return until crashed API servers answer, seconds. `None` where none has lost etcd.
fn api_server_start(scene: &Scene<'_>) -> Option<f64> {
    let mut losing = scene.sides.iter().filter(|s| s.writable != Prospect::Yes);
    // They crash for as long as there is no etcd.
    let until = scene.duration + streams::etcd_back(scene);
    losing.any(|s| !s.api_servers.is_empty()).then(|| with_start(back_off_left(first_restart(&scene.known), until)))
}

fn with_start(back_off: f64) -> f64 {
    if back_off > 0.0 { back_off + STATIC_POD_START } else { 0.0 }
}

/// Longest times of the parts, seconds; what follows something else is counted from there.
struct Terms {
    etcd: f64,
    /// Until crashed API servers are back; None: none has lost etcd.
    api_server: Option<f64>,
    /// Until crashed API servers and leaders are back.
    crashed: f64,
    /// Until a kubelet renews its Lease, beside the API server that it asks.
    renewal: f64,
    /// From Ready to the taints' end.
    removal: f64,
    /// Until evicted pods have ended and started again; None: none is evicted.
    pods: Option<f64>,
}

impl Terms {
    fn new(scene: &Scene<'_>, leases: &[LeaseForecast], workloads: &[WorkloadForecast]) -> Self {
        let etcd = streams::etcd_back(scene);
        let api_server = api_server_start(scene);
        let leader = leases
            .iter()
            .filter(|l| l.cut_off && l.moves != Certainty::MustNot)
            .map(|l| back_off_left(l.stop.earliest_seconds, scene.duration + etcd))
            .fold(0.0, f64::max);
        let evicted = workloads.iter().filter(|w| w.evicted != Certainty::MustNot);
        let grace = evicted.flat_map(|w| &w.pods).map(|p| p.grace_period).reduce(f64::max);
        Terms {
            etcd,
            api_server,
            crashed: api_server.unwrap_or(0.0).max(with_start(leader)),
            renewal: renewal_after_heal(scene.snapshot),
            removal: taint_removal(scene.snapshot),
            pods: grace.map(|g| kubelets_told(scene) + g + POD_STOP_SLACK + POD_START),
        }
    }

    fn taints(&self) -> f64 {
        self.etcd + self.crashed + self.renewal + KUBELET_STATUS_UPDATE + self.removal
    }
}

/// `leases`: also those of which nothing is predicted but that somebody holds them again.
pub fn recovery(scene: &Scene<'_>, leases: &[LeaseForecast], workloads: &[WorkloadForecast]) -> RecoveryForecast {
    let terms = Terms::new(scene, leases, workloads);
    let milestones = milestones(scene, &terms, leases);
    let mut words = vec![format!("etcd {}", seconds(terms.etcd))];
    if terms.crashed > 0.0 {
        words.push(format!("back-off and start of crashed API servers and leaders {}", seconds(terms.crashed)));
    }
    let node = terms.renewal + KUBELET_STATUS_UPDATE + terms.removal;
    words.push(format!("kubelet's renewal, Ready and taints {}", seconds(node)));
    let mut reason = words.join(", ");
    if let Some(pods) = terms.pods {
        reason += &format!("; evicted pods end and start again {}", seconds(pods));
    }
    let longest = milestones.iter().map(|m| m.window.latest_seconds).fold(terms.taints(), f64::max);
    let window = window(0.0, longest);
    RecoveryForecast { window, etcd: terms.etcd, milestones, kubelets_told: kubelets_told(scene), reason }
}

fn milestones(scene: &Scene<'_>, terms: &Terms, leases: &[LeaseForecast]) -> Vec<Milestone> {
    let of = |what, latest: f64, reason: String| Milestone { what, window: window(0.0, latest), reason };
    let mut all = Vec::new();
    if scene.sides.iter().any(loses_members) {
        all.push(of("etcd", terms.etcd, streams::why(scene)));
    }
    if let Some(start) = terms.api_server {
        let checked = ETCD_CHECKS_OF_READYZ * scene.known.etcd_check.seconds;
        let reason = match start > 0.0 {
            true => format!(
                "etcd {}, then the rest of a back-off of up to {} (MaxContainerBackOff) since the first restart and {} to start (ours)",
                seconds(terms.etcd),
                seconds(CRASH_BACK_OFF.1),
                seconds(STATIC_POD_START)
            ),
            false => format!(
                "etcd {}, then the health checks that wait for it {} ({ETCD_CHECKS_OF_READYZ} × {})",
                seconds(terms.etcd),
                seconds(checked),
                sourced(&scene.known.etcd_check)
            ),
        };
        all.push(of("API servers", terms.etcd + start.max(checked), reason));
    }
    all.extend(leases_again(scene, terms, leases));
    if scene.losing().next().is_some() {
        let ready = terms.etcd + terms.crashed + terms.renewal + KUBELET_STATUS_UPDATE;
        let reason = format!(
            "etcd {}{}, then a kubelet's timeout {} (cmd/kubelet/app/server.go), back-off {} (maxBackoff) and renewal {}, and its \
             status {} (nodeStatusUpdateFrequency)",
            seconds(terms.etcd),
            match terms.crashed > 0.0 {
                true => format!(" and what crashed {}", seconds(terms.crashed)),
                false => String::new(),
            },
            seconds(KUBELET_HEARTBEAT_TIMEOUT),
            seconds(KUBELET_LEASE_BACK_OFF),
            sourced(&scene.snapshot.timers.node_lease_renew),
            seconds(KUBELET_STATUS_UPDATE)
        );
        all.push(of("nodes", ready, reason));
        let reason = format!("{} after Ready: one pass of the node lifecycle controller", seconds(terms.removal));
        all.push(of("taints", terms.taints(), reason));
        // A kubelet puts its pods right as it does its node.
        let kept = ready - KUBELET_STATUS_UPDATE + KUBELET_POD_STATUS;
        let (latest, reason) = match terms.pods {
            Some(evicted) => (
                evicted.max(kept),
                format!(
                    "kubelets are heard again within {}, then the grace period, {} to be gone and {} for another one \
                     (both ours)",
                    why_kubelets_told(kubelets_told(scene)),
                    seconds(POD_STOP_SLACK),
                    seconds(POD_START)
                ),
            ),
            None => {
                let every = seconds(KUBELET_POD_STATUS);
                (kept, format!("none is evicted; a kubelet puts its pods right every {every} (syncPeriod)"))
            }
        };
        all.push(of("pods", latest, reason));
    }
    all
}

/// Leases are held again by somebody who renews them: those that may have moved, and all where nobody could write.
fn leases_again(scene: &Scene<'_>, terms: &Terms, leases: &[LeaseForecast]) -> Option<Milestone> {
    let is_written = scene.may_be_written();
    let before = if is_written { 0.0 } else { terms.etcd + terms.api_server.unwrap_or(0.0) };
    let again = |lease: &LeaseForecast| {
        let (duration, retry) = (lease.lease.lease_duration, lease.lease.retry_period.seconds);
        // Who was alone must be started again first.
        let crashed = if lease.lease.candidate_nodes.is_empty() { terms.crashed } else { 0.0 };
        let picked = if lease.is_coordinated() { coordinated_later() } else { 0.0 };
        before + crashed + duration + ELECTION_POLLS * retry * (1.0 + ELECTION_JITTER) + API_LATENCY + picked
    };
    let concerned = leases.iter().filter(|l| l.may_be_left(is_written));
    let (latest, lease) = concerned.map(|l| (again(l), l)).max_by(|a, b| a.0.total_cmp(&b.0))?;
    let reason = format!(
        "{}the longest, of {}: LeaseDuration {} (the Lease itself), then up to two polls of RetryPeriod {} × 2.2 and {} for the API \
         (ours)",
        if is_written { String::new() } else { format!("nobody could write: API servers {}, then ", seconds(before)) },
        lease.lease.subject(),
        seconds(lease.lease.lease_duration),
        sourced(&lease.lease.retry_period),
        seconds(API_LATENCY)
    );
    Some(Milestone { what: "Leases", window: window(0.0, latest), reason })
}

impl RecoveryForecast {
    /// What to know of a run that watches for less time than recovery may take. `watched`: seconds after the heal.
    pub fn beyond(&self, watched: f64) -> Option<String> {
        let latest = self.window.latest_seconds;
        let told = || {
            format!(
                "recovery may take {} and is watched for {} (spec.recovery): what is not well by then is Inconclusive, and does not fail",
                seconds(latest),
                seconds(watched)
            )
        };
        (latest > watched).then(told)
    }

    pub fn prediction(&self) -> Prediction {
        let expected = format!("recovered within {} of the heal, and stays so", seconds(self.window.latest_seconds));
        prediction(Check::Recovery, "cluster", expected, after_heal(self.window), &self.reason)
    }

    /// The whole, then each part.
    pub fn predictions(&self) -> Vec<Prediction> {
        let of = |part: &Milestone| {
            let expected = format!("normal within {} of the heal", seconds(part.window.latest_seconds));
            prediction(Check::Recovery, part.what, expected, after_heal(part.window), &part.reason)
        };
        std::iter::once(self.prediction()).chain(self.milestones.iter().map(of)).collect()
    }
}
