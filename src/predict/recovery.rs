//! From the heal until everything desired is actual again, and when each part of it is.

use super::{
    constants::*,
    etcd::loses_members,
    lease::LeaseForecast,
    node::renewal_after_heal,
    scene::Scene,
    window::{Certainty, seconds, window},
    workload::WorkloadForecast,
};
use crate::api::{Check, Prediction, Prospect, Window};

/// How long a cluster may take after the heal.
#[derive(Clone, Debug, PartialEq)]
pub struct RecoveryForecast {
    /// Seconds after the heal.
    pub window: Window,
    /// The same for each part that the cut may have hit, in their order.
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
    /// Whether a check of its own tells when it was.
    is_judged: bool,
}

/// The longest wait that a container crashing since `first` (seconds after the cut) still has before it at the heal: its
/// back-off doubles, so the current one is at most as long as it has been crashing, and the first one.
pub fn back_off_left(first: f64, duration: f64) -> f64 {
    let (shortest, longest) = CRASH_BACK_OFF;
    if duration < first { 0.0 } else { (duration - first + shortest).min(longest) }
}

/// Longest times of the parts, seconds; what follows something else is counted from there.
struct Terms {
    etcd: f64,
    /// Until crashed API servers are back, and whether there are any that lost etcd.
    api_server: f64,
    loses_api_servers: bool,
    /// Until crashed API servers and leaders are back.
    crashed: f64,
    /// Until a kubelet renews its Lease, beside the API server that it asks.
    renewal: f64,
    /// Until every kubelet knows what was decided while it was cut off: the API server that it asks may be one that lost etcd, and
    /// then it must notice that its connection is dead.
    kubelets_told: f64,
    /// Until evicted pods have ended and started again; None: none is evicted.
    pods: Option<f64>,
}

impl Terms {
    fn new(scene: &Scene<'_>, leases: &[LeaseForecast], workloads: &[WorkloadForecast]) -> Self {
        let duration = scene.duration;
        let with_start = |back_off: f64| if back_off > 0.0 { back_off + STATIC_POD_START } else { 0.0 };
        let losing = || scene.sides.iter().filter(|s| s.writable != Prospect::Yes);
        let loses_api_servers = losing().any(|s| !s.api_servers.is_empty());
        let api_server = if loses_api_servers { back_off_left(API_SERVER_LIVENESS, duration) } else { 0.0 };
        let leader = leases
            .iter()
            .filter(|l| l.cut_off && l.moves != Certainty::MustNot)
            .map(|l| back_off_left(l.stop.earliest_seconds, duration))
            .fold(0.0, f64::max);
        let evicted = workloads.iter().filter(|w| w.evicted != Certainty::MustNot);
        let grace = evicted.flat_map(|w| &w.pods).map(|p| p.grace_period).reduce(f64::max);
        let etcd = if scene.sides.iter().any(|s| s.quorum) { ETCD_REJOIN } else { ETCD_REELECTION };
        let api_server = with_start(api_server);
        let kubelets_told = if loses_api_servers { etcd + api_server } else { 0.0 } + KUBELET_RECONNECT;
        Terms {
            etcd,
            api_server,
            loses_api_servers,
            crashed: api_server.max(with_start(leader)),
            renewal: renewal_after_heal(scene.snapshot),
            kubelets_told,
            pods: grace.map(|g| kubelets_told + g + POD_STOP_SLACK + POD_START),
        }
    }

    fn taints(&self) -> f64 {
        self.etcd + self.crashed + self.renewal + KUBELET_STATUS_UPDATE + TAINT_REMOVAL
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
    let node = terms.renewal + KUBELET_STATUS_UPDATE + TAINT_REMOVAL;
    words.push(format!("kubelet's renewal, Ready and taints {}", seconds(node)));
    let mut reason = words.join(", ");
    if let Some(pods) = terms.pods {
        reason += &format!("; evicted pods end and start again {}", seconds(pods));
    }
    let longest = milestones.iter().map(|m| m.window.latest_seconds).fold(terms.taints(), f64::max);
    RecoveryForecast { window: window(0.0, longest), milestones, kubelets_told: terms.kubelets_told, reason }
}

fn milestones(scene: &Scene<'_>, terms: &Terms, leases: &[LeaseForecast]) -> Vec<Milestone> {
    let of = |what, latest: f64, reason: String| {
        let window = window(0.0, latest);
        Milestone { what, window, reason, is_judged: true }
    };
    let mut all = Vec::new();
    let rejoin = match scene.sides.iter().any(|s| s.quorum) {
        true => format!("streams are dialled anew after {}, then the log or a snapshot", seconds(ETCD_READ_TIMEOUT)),
        false => "a new election among all members, from the lab".into(),
    };
    if scene.sides.iter().any(loses_members) {
        all.push(of("etcd", terms.etcd, rejoin));
    }
    if terms.loses_api_servers {
        let checked = ETCD_CHECKS_OF_READYZ * scene.known.etcd_check.seconds;
        let reason = match terms.api_server > 0.0 {
            true => format!(
                "etcd {}, then the rest of a back-off of up to {} since the first restart and {} to start",
                seconds(terms.etcd),
                seconds(CRASH_BACK_OFF.1),
                seconds(STATIC_POD_START)
            ),
            false => {
                format!("etcd {}, then the health checks that wait for it {}", seconds(terms.etcd), seconds(checked))
            }
        };
        all.push(of("API servers", terms.etcd + terms.api_server.max(checked), reason));
    }
    all.extend(leases_again(scene, terms, leases));
    if scene.losing().next().is_some() {
        let ready = terms.etcd + terms.crashed + terms.renewal + KUBELET_STATUS_UPDATE;
        let reason = format!(
            "etcd {}{}, then a kubelet's timeout {}, back-off {} and renewal {}, and its status {}",
            seconds(terms.etcd),
            match terms.crashed > 0.0 {
                true => format!(" and what crashed {}", seconds(terms.crashed)),
                false => String::new(),
            },
            seconds(KUBELET_HEARTBEAT_TIMEOUT),
            seconds(KUBELET_LEASE_BACK_OFF),
            seconds(scene.snapshot.timers.node_lease_renew.seconds),
            seconds(KUBELET_STATUS_UPDATE)
        );
        all.push(of("nodes", ready, reason));
        let reason = format!("{} after Ready: one pass of the node lifecycle controller", seconds(TAINT_REMOVAL));
        all.push(of("taints", terms.taints(), reason));
        // A kubelet puts its pods right as it does its node.
        let kept = ready - KUBELET_STATUS_UPDATE + KUBELET_POD_STATUS;
        let (latest, reason) = match terms.pods {
            Some(evicted) => (
                evicted.max(kept),
                format!(
                    "kubelets are heard again within {}, then the grace period, {} to be gone and {} for another one",
                    seconds(terms.kubelets_told),
                    seconds(POD_STOP_SLACK),
                    seconds(POD_START)
                ),
            ),
            None => {
                (kept, format!("none is evicted; a kubelet puts its pods right every {}", seconds(KUBELET_POD_STATUS)))
            }
        };
        all.push(Milestone { is_judged: false, ..of("pods", latest, reason) });
    }
    all
}

/// Leases are held again by somebody who renews them: those that may have moved, and all where nobody could write.
fn leases_again(scene: &Scene<'_>, terms: &Terms, leases: &[LeaseForecast]) -> Option<Milestone> {
    let is_written = scene.may_be_written();
    let before = if is_written { 0.0 } else { terms.etcd + terms.api_server };
    let again = |lease: &LeaseForecast| {
        let (duration, retry) = (lease.lease.lease_duration, lease.lease.retry_period.seconds);
        // Who was alone must be started again first.
        let crashed = if lease.lease.candidate_nodes.is_empty() { terms.crashed } else { 0.0 };
        before + crashed + duration + ELECTION_POLLS * retry * (1.0 + ELECTION_JITTER) + API_LATENCY
    };
    let concerned = leases.iter().filter(|l| l.cut_off && (l.moves != Certainty::MustNot || !is_written));
    let latest = concerned.map(again).reduce(f64::max)?;
    let reason = format!(
        "{}the longest LeaseDuration, then up to two polls of RetryPeriod × 2.2 and {} for the API",
        if is_written { String::new() } else { format!("nobody could write: API servers {}, then ", seconds(before)) },
        seconds(API_LATENCY)
    );
    Some(Milestone { what: "Leases", window: window(0.0, latest), reason, is_judged: false })
}

impl RecoveryForecast {
    pub fn prediction(&self) -> Prediction {
        Prediction {
            check: Check::Recovery,
            subject: "cluster".into(),
            expected: format!("recovered within {} of the heal, and stays so", seconds(self.window.latest_seconds)),
            window: Some(self.window),
            reason: self.reason.clone(),
        }
    }

    /// The whole, then each part.
    pub fn predictions(&self) -> Vec<Prediction> {
        let of = |part: &Milestone| {
            let unjudged = if part.is_judged { "" } else { "; judged as part of the cluster only" };
            Prediction {
                check: Check::Recovery,
                subject: part.what.into(),
                expected: format!("normal within {} of the heal{unjudged}", seconds(part.window.latest_seconds)),
                window: Some(part.window),
                reason: part.reason.clone(),
            }
        };
        std::iter::once(self.prediction()).chain(self.milestones.iter().map(of)).collect()
    }
}
