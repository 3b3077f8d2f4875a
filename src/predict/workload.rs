//! Pods on the losing side, by owner: kept, evicted, doubled or stuck.

use super::{
    bounds::{Bounded, after_cut, after_heal, prediction, throughout},
    constants::*,
    node::NodeForecast,
    recovery::{kubelets_told, why_kubelets_told},
    scene::Scene,
    window::{Certainty, after, certainty, interval, seconds, union, window},
};
use crate::{
    api::{Check, Prediction, Window},
    topology::Pod,
};
use std::collections::{BTreeMap, HashMap, HashSet};

/// What a controller does about a pod that is being deleted and can't end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Replacement {
    /// Starts another one at once (ReplicaSet, Job).
    AtOnce,
    /// Waits until it is gone, so that an identity runs once at the most (StatefulSet).
    Waits,
    /// Nobody does (a bare pod).
    Nobody,
}

/// Pods of one owner on the losing side.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadForecast {
    pub namespace: String,
    pub kind: String,
    pub owner: String,
    pub pods: Vec<Pod>,
    pub replacement: Replacement,
    /// Whether one of them is deleted while the cut lasts or right after it.
    pub evicted: Certainty,
    /// When, seconds after the cut; None where they tolerate the taint for ever.
    pub eviction: Option<Window>,
    /// Whether a second copy starts while the cut lasts.
    pub doubled: Certainty,
    pub copy: Option<Window>,
    /// Length of the cut, seconds.
    duration: f64,
    /// Until when its kubelets know what was decided, seconds after the heal, and why.
    kubelets_told: f64,
    why_told: String,
    reason: String,
}

impl WorkloadForecast {
    /// `namespace/name (kind)` as people know it: a ReplicaSet goes by its Deployment's name.
    pub fn subject(&self) -> String {
        match (self.kind.as_str(), self.owner.rsplit_once('-')) {
            ("ReplicaSet", Some((name, hash))) if is_template_hash(hash) => {
                format!("{}/{name} (Deployment)", self.namespace)
            }
            (kind, _) => format!("{}/{} ({kind})", self.namespace, self.owner),
        }
    }
    /// Whether its pods may end by themselves for good: those of a Job, and bare ones that are not restarted always.
    pub fn may_finish(&self) -> bool {
        self.kind == "Job" || self.pods.iter().any(|p| !p.restart_always)
    }
}

/// `pod-template-hash`: characters that can't form words (apimachinery `rand.SafeEncodeString`).
fn is_template_hash(text: &str) -> bool {
    (6..=10).contains(&text.len()) && text.bytes().all(|b| b"bcdfghjklmnpqrstvwxz2456789".contains(&b))
}

/// What becomes of one pod of the losing side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PodFate {
    /// Whether it is deleted while the cut lasts or right after it.
    pub evicted: Certainty,
    /// When, seconds after the cut; None where it tolerates the taint for ever.
    pub eviction: Option<Window>,
    /// Whether another one runs in its stead while the cut lasts, and from when on.
    pub doubled: Certainty,
    pub copy: Option<Window>,
}

/// DaemonSet and static pods stay with their node, whatever happens.
pub fn stays_with_its_node(pod: &Pod) -> bool {
    matches!(pod.owner_kind.as_deref(), Some("DaemonSet" | "Node"))
}

/// What the pod's controller does once it is being deleted.
pub fn replacement(pod: &Pod) -> Replacement {
    match pod.owner_kind.as_deref() {
        Some("StatefulSet") => Replacement::Waits,
        Some("Pod") | None => Replacement::Nobody,
        Some(_) => Replacement::AtOnce,
    }
}

/// `node`: what becomes of the pod's; None where a side that can write goes on hearing it.
pub fn fate(pod: &Pod, node: Option<&NodeForecast>, duration: f64) -> PodFate {
    let kept = PodFate { evicted: Certainty::MustNot, eviction: None, doubled: Certainty::MustNot, copy: None };
    let (Some(node), Some(tolerated)) = (node, pod.tolerates_unreachable) else { return kept };
    if stays_with_its_node(pod) {
        return kept;
    }
    let deletion = after(&node.taint, (tolerated, tolerated));
    let start = after(&deletion, (0.0, POD_START));
    // Taints go, and with them the timers, once the kubelet is heard again. Where an API server lost etcd that may be as late as
    // `kubelets_told`, which is all that may go wrong with TCP, etcd and back-offs at once: by it every pod with upstream's toleration might
    // be evicted after a cut of little more than a minute, and nobody who is doubled or short of pods in the cut would be a surprise. So
    // that is not predicted, and the judge accuses nobody of what comes so late (`judge/eviction.rs`).
    let heard = duration + KUBELET_RECONNECT;
    let evicted = certainty(&deletion, duration, heard).min(node.tainted);
    let fate = PodFate { evicted, eviction: Some(deletion), ..kept };
    match replacement(pod) {
        Replacement::AtOnce => {
            let doubled = certainty(&start, duration, heard).min(node.tainted);
            PodFate { doubled, copy: Some(start), ..fate }
        }
        Replacement::Waits | Replacement::Nobody => fate,
    }
}

/// Nodes of the losing side by name.
pub fn by_name(nodes: &[NodeForecast]) -> HashMap<&str, &NodeForecast> {
    nodes.iter().map(|n| (n.node.as_str(), n)).collect()
}

/// Observed pods of the losing side, without those that stay with their node, by owner.
pub fn workloads(scene: &Scene<'_>, nodes: &[NodeForecast]) -> Vec<WorkloadForecast> {
    let losing = losing(scene);
    let mut owners: BTreeMap<(String, String, String), Vec<Pod>> = BTreeMap::new();
    let pods = scene.snapshot.pods.iter().filter(|p| losing.contains(p.node.as_str()));
    for pod in pods.filter(|p| !stays_with_its_node(p)) {
        let kind = pod.owner_kind.clone().unwrap_or_else(|| "Pod".into());
        let name = pod.owner_name.clone().unwrap_or_else(|| pod.name.clone());
        owners.entry((pod.namespace.clone(), kind, name)).or_default().push(pod.clone());
    }
    let nodes = by_name(nodes);
    owners.into_iter().map(|(owner, pods)| forecast(owner, pods, &nodes, scene)).collect()
}

/// Observed pods of the losing side of which nothing is to be expected but that they go on.
pub fn unaffected(scene: &Scene<'_>) -> usize {
    let losing = losing(scene);
    scene.snapshot.pods.iter().filter(|p| stays_with_its_node(p) && losing.contains(p.node.as_str())).count()
}

fn losing<'a>(scene: &Scene<'a>) -> HashSet<&'a str> {
    scene.losing().flat_map(|s| s.nodes.iter().map(String::as_str)).collect()
}

fn forecast(
    owner: (String, String, String),
    pods: Vec<Pod>,
    nodes: &HashMap<&str, &NodeForecast>,
    scene: &Scene<'_>,
) -> WorkloadForecast {
    let (namespace, kind, owner) = owner;
    let replacement = pods.first().map_or(Replacement::Nobody, replacement);
    let (mut evicted, mut doubled) = (Certainty::MustNot, Certainty::MustNot);
    let (mut eviction, mut copy): (Option<Window>, Option<Window>) = (None, None);
    let (mut taint, mut sources): (Option<Window>, &str) = (None, "");
    for pod in &pods {
        let node = nodes.get(pod.node.as_str()).copied();
        let fate = fate(pod, node, scene.duration);
        if let Some(node) = node.filter(|_| fate.eviction.is_some()) {
            taint = joined(taint, Some(node.taint));
            sources = &node.sources;
        }
        evicted = evicted.max(fate.evicted);
        doubled = doubled.max(fate.doubled);
        eviction = joined(eviction, fate.eviction);
        copy = joined(copy, fate.copy);
    }
    let tolerated = pods.iter().filter_map(|p| p.tolerates_unreachable).fold(f64::INFINITY, f64::min);
    let reason = match taint {
        Some(taint) => format!(
            "NoExecute taint within {} (`NodeTainted`: {sources}), then {} of toleration (the pods' own); their kubelet can't be told \
             before the heal",
            interval(&taint),
            seconds(tolerated)
        ),
        None => "they are not evicted: no taint reaches them or they tolerate it for ever".into(),
    };
    WorkloadForecast {
        namespace,
        kind,
        owner,
        pods,
        replacement,
        evicted,
        eviction,
        doubled,
        copy,
        duration: scene.duration,
        kubelets_told: kubelets_told(scene),
        why_told: why_kubelets_told(scene),
        reason,
    }
}

fn joined(a: Option<Window>, b: Option<Window>) -> Option<Window> {
    match (a, b) {
        (Some(a), Some(b)) => Some(union(&a, &b)),
        (a, b) => a.or(b),
    }
}

impl WorkloadForecast {
    pub fn predictions(&self) -> Vec<Prediction> {
        let all_through = || throughout(0.0, self.duration);
        let kept = format!("keeps running on the cut side ({})", count(self.pods.len(), "pod"));
        let why = "a kubelet ends no container because it is cut off";
        let mut all = vec![prediction(Check::WorkloadKept, self.subject(), kept, all_through(), why)];
        all.extend(self.eviction_prediction());
        let because = match self.evicted {
            Certainty::MustNot => self.reason.as_str(),
            Certainty::May | Certainty::Must => "deleted as `WorkloadEvicted` tells",
        };
        let of = |check, expected: String, bounded, why: String| {
            prediction(check, self.subject(), expected, bounded, format!("{because}{why}"))
        };
        let copied = self.copy.and_then(after_cut);
        let started = || format!("; another one starts within {} of a deletion (ours)", seconds(POD_START));
        let when = |w: &Option<Window>| w.as_ref().map(interval).unwrap_or_default();
        match (self.replacement, self.doubled) {
            (Replacement::AtOnce, Certainty::Must) => {
                let words = format!("a second copy starts within {}", when(&self.copy));
                all.push(of(Check::WorkloadDoubled, words, copied, started()));
            }
            (Replacement::AtOnce, Certainty::May) => {
                let words = format!("a second copy may start from {} on", from(&self.copy));
                all.push(of(Check::WorkloadDoubled, words, copied, started()));
            }
            (Replacement::AtOnce, Certainty::MustNot) => {
                all.push(of(Check::WorkloadDoubled, "no second copy".into(), all_through(), String::new()));
            }
            (Replacement::Waits, _) => {
                let why = "; its controller waits until the first one is gone (pkg/controller/statefulset)".into();
                all.push(of(Check::WorkloadDoubled, "never two of one name".into(), all_through(), why));
            }
            (Replacement::Nobody, _) => {}
        }
        if self.replacement != Replacement::AtOnce {
            let (words, bounded) = self.stuck();
            let told = format!(
                "; its kubelet is told within {}; then come the grace period (the pods' own) and {} (ours)",
                self.why_told,
                seconds(POD_STOP_SLACK)
            );
            let why = if self.evicted == Certainty::MustNot { String::new() } else { told };
            all.push(of(Check::WorkloadStuck, words, bounded, why));
        }
        all
    }

    /// What becomes of deleted pods for which nobody stands in, and when they are gone.
    fn stuck(&self) -> (String, Bounded) {
        let gone = self.gone();
        let within = seconds(gone.latest_seconds);
        let then = match self.replacement {
            Replacement::Nobody => " and for good: nobody makes another one",
            _ => "",
        };
        let until = format!("until after the heal, gone within {within} of it{then}");
        match self.evicted {
            Certainty::Must => {
                let from = self.eviction.as_ref().map(interval).unwrap_or_default();
                (format!("Terminating from {from} {until}"), after_heal(gone))
            }
            Certainty::May => (format!("may be Terminating from {} {until}", from(&self.eviction)), after_heal(gone)),
            Certainty::MustNot => ("not deleted".into(), throughout(0.0, self.duration)),
        }
    }

    /// When deleted pods are gone, seconds after the heal: their kubelet is told, and they have their grace period.
    fn gone(&self) -> Window {
        let grace = self.pods.iter().map(|p| p.grace_period).fold(0.0, f64::max);
        window(0.0, self.kubelets_told + grace + POD_STOP_SLACK)
    }

    /// When its pods are deleted, if they may be.
    fn eviction_prediction(&self) -> Option<Prediction> {
        let (window, pods) = (self.eviction?, count(self.pods.len(), "pod"));
        let expected = match self.evicted {
            Certainty::Must => format!("{pods} deleted within {}", interval(&window)),
            Certainty::May => format!("{pods} deleted within {}, or not", interval(&window)),
            Certainty::MustNot => return None,
        };
        Some(prediction(Check::WorkloadEvicted, self.subject(), expected, after_cut(window), &self.reason))
    }
}

fn from(window: &Option<Window>) -> String {
    window.as_ref().map(|w| seconds(w.earliest_seconds)).unwrap_or_default()
}

/// `1 pod`, `3 pods`.
pub fn count(n: usize, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}
