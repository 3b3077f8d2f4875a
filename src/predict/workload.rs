//! Pods on the losing side, by owner: kept, evicted, doubled or stuck.

use super::{
    constants::*,
    node::NodeForecast,
    window::{Certainty, after, certainty, interval, seconds, window},
};
use crate::{
    api::{Check, Prediction, Window},
    topology::{Pod, Snapshot},
};
use std::collections::BTreeMap;

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
}

/// `pod-template-hash`: characters that can't form words (apimachinery `rand.SafeEncodeString`).
fn is_template_hash(text: &str) -> bool {
    (6..=10).contains(&text.len()) && text.bytes().all(|b| b"bcdfghjklmnpqrstvwxz2456789".contains(&b))
}

pub fn workloads(snapshot: &Snapshot, nodes: &[NodeForecast], losing: &[&str], duration: f64) -> Vec<WorkloadForecast> {
    let mut owners: BTreeMap<(String, String, String), Vec<Pod>> = BTreeMap::new();
    for pod in snapshot.pods.iter().filter(|p| losing.contains(&p.node.as_str())) {
        let kind = pod.owner_kind.clone().unwrap_or_else(|| "Pod".into());
        // DaemonSet and static pods stay with their node, whatever happens.
        if kind == "DaemonSet" || kind == "Node" {
            continue;
        }
        let name = pod.owner_name.clone().unwrap_or_else(|| pod.name.clone());
        owners.entry((pod.namespace.clone(), kind, name)).or_default().push(pod.clone());
    }
    owners.into_iter().map(|(owner, pods)| forecast(owner, pods, nodes, duration)).collect()
}

fn forecast(
    owner: (String, String, String),
    pods: Vec<Pod>,
    nodes: &[NodeForecast],
    duration: f64,
) -> WorkloadForecast {
    let (namespace, kind, owner) = owner;
    let replacement = match kind.as_str() {
        "StatefulSet" => Replacement::Waits,
        "Pod" => Replacement::Nobody,
        _ => Replacement::AtOnce,
    };
    let (mut evicted, mut doubled) = (Certainty::MustNot, Certainty::MustNot);
    let (mut eviction, mut copy): (Option<Window>, Option<Window>) = (None, None);
    for pod in &pods {
        let Some(node) = nodes.iter().find(|n| n.node == pod.node) else { continue };
        let Some(tolerated) = pod.tolerates_unreachable else { continue };
        let deletion = after(&node.taint, (tolerated, tolerated));
        let start = after(&deletion, (0.0, POD_START));
        // Taints go, and with them the timers, once the kubelet is heard again.
        let heard = duration + KUBELET_RECONNECT;
        evicted = evicted.max(certainty(&deletion, duration, heard).min(node.tainted));
        doubled = doubled.max(certainty(&start, duration, heard).min(node.tainted));
        eviction = Some(eviction.map_or(deletion, |w| union(&w, &deletion)));
        copy = Some(copy.map_or(start, |w| union(&w, &start)));
    }
    if replacement != Replacement::AtOnce {
        (doubled, copy) = (Certainty::MustNot, None);
    }
    let tolerated = pods.iter().filter_map(|p| p.tolerates_unreachable).fold(f64::INFINITY, f64::min);
    let reason = match tolerated.is_finite() {
        true => format!(
            "NoExecute taint, then {} of toleration; their kubelet can't be told before the heal",
            seconds(tolerated)
        ),
        false => "they are not evicted: no taint reaches them or they tolerate it for ever".into(),
    };
    WorkloadForecast { namespace, kind, owner, pods, replacement, evicted, eviction, doubled, copy, reason }
}

fn union(a: &Window, b: &Window) -> Window {
    window(a.earliest_seconds.min(b.earliest_seconds), a.latest_seconds.max(b.latest_seconds))
}

impl WorkloadForecast {
    pub fn predictions(&self) -> Vec<Prediction> {
        let of = |check, expected: String, window| Prediction {
            check,
            subject: self.subject(),
            expected,
            window,
            reason: self.reason.clone(),
        };
        let kept = format!("keeps running on the cut side ({})", count(self.pods.len(), "pod"));
        let kept = Prediction {
            reason: "a kubelet ends no container because it is cut off".into(),
            ..of(Check::WorkloadKept, kept, None)
        };
        let mut all = vec![kept];
        let when = |w: &Option<Window>| w.as_ref().map(interval).unwrap_or_default();
        match (self.replacement, self.doubled) {
            (Replacement::AtOnce, Certainty::Must) => {
                let words = format!("a second copy starts within {}", when(&self.copy));
                all.push(of(Check::WorkloadDoubled, words, self.copy));
            }
            (Replacement::AtOnce, Certainty::May) => {
                all.push(of(
                    Check::WorkloadDoubled,
                    format!("a second copy may start from {} on", from(&self.copy)),
                    self.copy,
                ));
            }
            (Replacement::AtOnce, Certainty::MustNot) => {
                all.push(of(Check::WorkloadDoubled, "no second copy".into(), None));
            }
            (Replacement::Waits, _) => all.push(of(Check::WorkloadDoubled, "never two of one name".into(), None)),
            (Replacement::Nobody, _) => {}
        }
        if self.replacement != Replacement::AtOnce {
            let words = match self.evicted {
                Certainty::Must => format!("Terminating from {} until after the heal", when(&self.eviction)),
                Certainty::May => format!("may be Terminating from {} until after the heal", from(&self.eviction)),
                Certainty::MustNot => "not deleted".into(),
            };
            all.push(of(Check::WorkloadStuck, words, None));
        }
        all
    }
}

fn from(window: &Option<Window>) -> String {
    window.as_ref().map(|w| seconds(w.earliest_seconds)).unwrap_or_default()
}

/// `1 pod`, `3 pods`.
pub fn count(n: usize, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}
