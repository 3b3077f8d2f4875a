//! From the heal until everything desired is actual again, and when each part of it is.

use super::{
    api_server::first_restart,
    bounds::{after_heal, prediction},
    constants::*,
    etcd::loses_members,
    lease::{LeaseForecast, coordinated_later, why_coordinated_later},
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
    format!("{}: {}{}", seconds(kubelets_renew(scene)), why_api_servers_answer(scene), why_renewed(scene))
}

/// What a kubelet takes to renew its Lease by an API server that answers, in words.
fn why_renewed(scene: &Scene<'_>) -> String {
    format!(
        "timeout {} (cmd/kubelet/app/server.go), back-off {} (maxBackoff) and renewal {}",
        seconds(KUBELET_HEARTBEAT_TIMEOUT),
        seconds(KUBELET_LEASE_BACK_OFF),
        sourced(&scene.snapshot.timers.node_lease_renew)
    )
}

/// Until every API server answers that lost etcd, seconds after the heal; 0 where none did.
fn api_servers_answer(scene: &Scene<'_>) -> f64 {
    api_server_start(scene).map_or(0.0, |start| streams::etcd_back(scene) + start)
}

/// The same in words, before what waits for it; empty where none did.
fn why_api_servers_answer(scene: &Scene<'_>) -> String {
    let etcd = streams::sourced(scene);
    match api_server_start(scene) {
        None => String::new(),
        Some(start) if start > 0.0 => {
            let answer = seconds(api_servers_answer(scene));
            format!("API servers that lost etcd {answer}: etcd {etcd}, {}; then ", why_started())
        }
        Some(_) => format!("API servers that lost etcd {etcd}, then "),
    }
}

/// What a container that crashed waits for, in words.
fn why_started() -> String {
    let (back_off, start) = (seconds(CRASH_BACK_OFF.1), seconds(STATIC_POD_START));
    format!("the rest of a back-off of up to {back_off} (MaxContainerBackOff) and {start} to start (ours)")
}

/// Until every kubelet knows what was decided while it was cut off, in words, after "within".
pub fn why_kubelets_told(scene: &Scene<'_>) -> String {
    let (told, before) = (seconds(kubelets_told(scene)), why_api_servers_answer(scene));
    let ping = "HTTP/2 pings, apimachinery util/net/http.go";
    match before.is_empty() {
        true => format!("{told} ({ping})"),
        false => format!("{told}: {before}{} for a dead connection to end ({ping})", seconds(KUBELET_RECONNECT)),
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
    let last = milestones.iter().max_by(|a, b| a.window.latest_seconds.total_cmp(&b.window.latest_seconds));
    let (longest, reason) = match last.filter(|part| part.window.latest_seconds >= terms.taints()) {
        Some(part) => (part.window.latest_seconds, format!("its longest part, {}: {}", part.what, part.reason)),
        None => (terms.taints(), why_untainted(scene, &terms)),
    };
    let window = window(0.0, longest);
    RecoveryForecast { window, etcd: terms.etcd, milestones, kubelets_told: kubelets_told(scene), reason }
}

/// Until what a kubelet asks is there again, in words.
fn why_back(scene: &Scene<'_>, terms: &Terms) -> String {
    let etcd = streams::sourced(scene);
    match terms.crashed > 0.0 {
        true => format!("etcd {etcd}, crashed API servers and leaders {}: {}", seconds(terms.crashed), why_started()),
        false => format!("etcd {etcd}"),
    }
}

/// Until nodes are Ready, in words.
fn why_ready(scene: &Scene<'_>, terms: &Terms) -> String {
    format!(
        "{}; then a kubelet's {}, and its status {} (nodeStatusUpdateFrequency)",
        why_back(scene, terms),
        why_renewed(scene),
        seconds(KUBELET_STATUS_UPDATE)
    )
}

/// Until their taints are gone, in words.
fn why_untainted(scene: &Scene<'_>, terms: &Terms) -> String {
    format!(
        "{}; then a pass of the node lifecycle controller, every {} and {} at the least (upstream's default)",
        why_ready(scene, terms),
        sourced(&scene.snapshot.timers.node_monitor_period),
        seconds(TAINT_REMOVAL)
    )
}

fn milestones(scene: &Scene<'_>, terms: &Terms, leases: &[LeaseForecast]) -> Vec<Milestone> {
    let of = |what, latest: f64, reason: String| Milestone { what, window: window(0.0, latest), reason };
    let mut all = Vec::new();
    if scene.sides.iter().any(loses_members) {
        all.push(of("etcd", terms.etcd, streams::why(scene)));
    }
    if let Some(start) = terms.api_server {
        let checked = ETCD_CHECKS_OF_READYZ * scene.known.etcd_check.seconds;
        let etcd = streams::sourced(scene);
        let reason = match start > 0.0 {
            true => format!("etcd {etcd}, then {}, counted from the first restart", why_started()),
            false => format!(
                "etcd {etcd}, then the health checks that wait for it {} ({ETCD_CHECKS_OF_READYZ} × {})",
                seconds(checked),
                sourced(&scene.known.etcd_check)
            ),
        };
        all.push(of("API servers", terms.etcd + start.max(checked), reason));
    }
    all.extend(leases_again(scene, terms, leases));
    if scene.losing().next().is_some() {
        let ready = terms.etcd + terms.crashed + terms.renewal + KUBELET_STATUS_UPDATE;
        all.push(of("nodes", ready, why_ready(scene, terms)));
        all.push(of("taints", terms.taints(), why_untainted(scene, terms)));
        // A kubelet puts its pods right as it does its node.
        let kept = ready - KUBELET_STATUS_UPDATE + KUBELET_POD_STATUS;
        let why_kept = format!(
            "{}; then a kubelet's {}, and it puts its pods right every {} (syncPeriod)",
            why_back(scene, terms),
            why_renewed(scene),
            seconds(KUBELET_POD_STATUS)
        );
        let (latest, reason) = match terms.pods {
            Some(evicted) if evicted > kept => (
                evicted,
                format!(
                    "kubelets are told within {}; then the grace period (the pods' own), {} to be gone (ours) and {} for another one \
                     (ours)",
                    why_kubelets_told(scene),
                    seconds(POD_STOP_SLACK),
                    seconds(POD_START)
                ),
            ),
            Some(_) => (kept, why_kept),
            None => (kept, format!("none is evicted; {why_kept}")),
        };
        all.push(of("pods", latest, reason));
    }
    all
}

/// Leases are held again by somebody who renews them: those that may have moved, and all where nobody could write.
fn leases_again(scene: &Scene<'_>, terms: &Terms, leases: &[LeaseForecast]) -> Option<Milestone> {
    let is_written = scene.may_be_written();
    let before = if is_written { 0.0 } else { terms.etcd + terms.api_server.unwrap_or(0.0) };
    let is_alone = |lease: &LeaseForecast| lease.lease.candidate_nodes.is_empty() && terms.crashed > 0.0;
    let again = |lease: &LeaseForecast| {
        let (duration, retry) = (lease.lease.lease_duration, lease.lease.retry_period.seconds);
        // Who was alone must be started again first.
        let crashed = if is_alone(lease) { terms.crashed } else { 0.0 };
        let picked = if lease.is_coordinated() { coordinated_later() } else { 0.0 };
        before + crashed + duration + ELECTION_POLLS * retry * (1.0 + ELECTION_JITTER) + API_LATENCY + picked
    };
    let concerned = leases.iter().filter(|l| l.may_be_left(is_written));
    let (latest, lease) = concerned.map(|l| (again(l), l)).max_by(|a, b| a.0.total_cmp(&b.0))?;
    let mut reason = format!("the longest, of {}: ", lease.lease.subject());
    if !is_written {
        let back = match terms.api_server {
            Some(_) => why_api_servers_answer(scene),
            None => format!("etcd {}, then ", streams::sourced(scene)),
        };
        reason += &format!("nobody could write, {back}");
    }
    if is_alone(lease) {
        reason += &format!("its only candidate crashed {}: {}; then ", seconds(terms.crashed), why_started());
    }
    reason += &format!(
        "LeaseDuration {} (the Lease itself), up to two polls of RetryPeriod {} × 2.2 (JitterFactor) and {} for the API (ours)",
        seconds(lease.lease.lease_duration),
        sourced(&lease.lease.retry_period),
        seconds(API_LATENCY)
    );
    if lease.is_coordinated() {
        reason += &format!(", {}", why_coordinated_later());
    }
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
