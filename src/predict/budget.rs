//! Disruption budgets that are crossed at the heal: kubelets that are heard again end the pods that were evicted meanwhile, all at
//! once, and no budget holds them back. Where nobody looks at all of its pods, that is told and not judged.

use super::{
    bounds::{Bounded, after_heal, prediction, throughout},
    constants::*,
    node::NodeForecast,
    recovery::{kubelets_told, why_kubelets_told},
    scene::Scene,
    window::{Certainty, seconds, some, window},
    workload::{by_name, count, fate},
};
use crate::{
    api::{Check, Prediction, Window},
    topology::{Budget, Pod},
};
use std::collections::HashMap;

/// One budget and how many of its pods are left when the evicted ones have ended and none of them has started again.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetForecast {
    /// `namespace/name`.
    pub subject: String,
    pub desired: u32,
    /// Healthy pods before the cut.
    pub healthy: u32,
    /// Those of them that are observed.
    pub pods: Vec<Pod>,
    /// Those that are left, at least and at most.
    pub left: (u32, u32),
    /// Whether fewer are left than it wants.
    pub crossed: Certainty,
    /// When, seconds after the heal.
    pub window: Window,
    /// Length of the cut, seconds.
    duration: f64,
    reason: String,
}

/// Budgets that have said what they want and select a pod of the losing side.
pub fn budgets(scene: &Scene<'_>, nodes: &[NodeForecast]) -> Vec<BudgetForecast> {
    let pods: HashMap<String, &Pod> = scene.snapshot.pods.iter().map(|p| (p.subject(), p)).collect();
    let nodes = by_name(nodes);
    scene.snapshot.budgets.iter().filter_map(|budget| forecast(scene, budget, &pods, &nodes)).collect()
}

fn forecast(
    scene: &Scene<'_>,
    budget: &Budget,
    pods: &HashMap<String, &Pod>,
    nodes: &HashMap<&str, &NodeForecast>,
) -> Option<BudgetForecast> {
    let desired = budget.desired_healthy?;
    let (mut least, mut most, mut grace, mut is_concerned) = (0, 0, 0.0_f64, false);
    let mut observed: Vec<Pod> = Vec::new();
    for name in &budget.healthy {
        let Some(pod) = pods.get(&format!("{}/{name}", budget.namespace)) else {
            // Nobody looks at it, so it may be anywhere.
            most += 1;
            continue;
        };
        observed.push((*pod).clone());
        let node = nodes.get(pod.node.as_str()).copied();
        is_concerned |= node.is_some();
        let fate = fate(pod, node, scene.duration);
        if fate.evicted != Certainty::MustNot {
            grace = grace.max(pod.grace_period);
        }
        // A second copy stands in for it, if there is room for one.
        let (sure, possible) = match fate.evicted {
            Certainty::MustNot => (true, true),
            Certainty::May => (false, true),
            Certainty::Must => (fate.doubled == Certainty::Must, fate.doubled != Certainty::MustNot),
        };
        least += u32::from(sure);
        most += u32::from(possible);
    }
    let healthy = budget.healthy.len() as u32;
    let crossed = match () {
        // It was crossed before, and not by the heal.
        _ if healthy < desired => Certainty::MustNot,
        _ if most < desired => Certainty::Must,
        _ if least < desired => Certainty::May,
        _ => Certainty::MustNot,
    };
    is_concerned.then(|| BudgetForecast {
        subject: budget.subject(),
        desired,
        healthy,
        pods: observed,
        left: (least, most),
        crossed,
        window: window(0.0, kubelets_told(scene) + grace + POD_STOP_SLACK),
        duration: scene.duration,
        reason: format!(
            "kubelets that are heard again end evicted pods, whatever a budget says: they are told within {}; then come the grace period \
             (the pods' own) and {} (ours)",
            why_kubelets_told(scene),
            seconds(POD_STOP_SLACK)
        ),
    })
}

/// In words what nobody judges: each budget that is or may be crossed, and how many are not.
pub fn told(scene: &Scene<'_>, budgets: &[BudgetForecast]) -> Vec<String> {
    const SHOWN: usize = 10;
    let unobserved = budgets.iter().filter(|b| !b.is_observed());
    let (kept, crossed): (Vec<_>, Vec<_>) = unobserved.partition(|b| b.crossed == Certainty::MustNot);
    let mut all: Vec<String> = crossed.iter().take(SHOWN).map(|b| b.told()).collect();
    if crossed.len() > SHOWN {
        all.push(format!("{} more may be crossed at the heal", count(crossed.len() - SHOWN, "disruption budget")));
    }
    if !kept.is_empty() {
        let kept = count(kept.len(), "disruption budget");
        all.push(format!("{kept} with pods on the losing side, not all of them observed, not crossed at the heal"));
    }
    let unsaid: Vec<String> =
        scene.snapshot.budgets.iter().filter(|b| b.desired_healthy.is_none()).map(Budget::subject).collect();
    if !unsaid.is_empty() {
        all.push(format!(
            "nothing is predicted of disruption budgets whose status does not say what they want: {}",
            some(&unsaid)
        ));
    }
    all
}

impl BudgetForecast {
    /// Whether all its healthy pods are looked at, so that they can be counted.
    pub fn is_observed(&self) -> bool {
        self.pods.len() == self.healthy as usize
    }

    /// As findings call it.
    pub fn title(&self) -> String {
        format!("disruption budget {}", self.subject)
    }

    /// In words what becomes of it.
    pub fn expected(&self) -> String {
        let (least, most) = self.left;
        let left = if least == most { least.to_string() } else { format!("{least} to {most}") };
        let healthy = count(self.healthy as usize, "healthy pod");
        let numbers = format!("{left} of {healthy} left, {} wanted", self.desired);
        let within = seconds(self.window.latest_seconds);
        match self.crossed {
            _ if self.healthy < self.desired => {
                format!("crossed before the cut already: {healthy}, {} wanted", self.desired)
            }
            Certainty::Must => format!("crossed within {within} of the heal: {numbers}"),
            Certainty::May => format!("perhaps crossed within {within} of the heal: {numbers}"),
            Certainty::MustNot => format!("not crossed by the heal: {numbers}"),
        }
    }

    /// `None` where nobody looks at all of its pods.
    pub fn prediction(&self) -> Option<Prediction> {
        let line = || prediction(Check::HealDamage, self.title(), self.expected(), self.bounded(), &self.reason);
        self.is_observed().then(line)
    }

    /// When it is crossed, or from the heal on not. Nothing of one that was crossed before the cut.
    fn bounded(&self) -> Bounded {
        match self.crossed {
            _ if self.healthy < self.desired => None,
            Certainty::Must | Certainty::May => after_heal(self.window),
            Certainty::MustNot => throughout(self.duration, self.duration + self.window.latest_seconds),
        }
    }

    fn told(&self) -> String {
        format!("{}: {}; {}", self.title(), self.expected(), self.reason)
    }
}
