//! Disruption budgets that are crossed at the heal: kubelets that are heard again end the pods that were evicted meanwhile, all at
//! once, and no budget holds them back. Told and not judged.

use super::{
    constants::*,
    node::NodeForecast,
    scene::Scene,
    window::{Certainty, few, seconds, window},
    workload::{by_name, count, fate},
};
use crate::{
    api::Window,
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
    /// Those that are left, at least and at most.
    pub left: (u32, u32),
    /// Whether fewer are left than it wants.
    pub crossed: Certainty,
    /// When, seconds after the heal.
    pub window: Window,
}

/// Budgets that have said what they want and select a pod of the losing side. `kubelets_told`: until when kubelets know which pods
/// were evicted, seconds after the heal.
pub fn budgets(scene: &Scene<'_>, nodes: &[NodeForecast], kubelets_told: f64) -> Vec<BudgetForecast> {
    let pods: HashMap<String, &Pod> = scene.snapshot.pods.iter().map(|p| (p.subject(), p)).collect();
    let nodes = by_name(nodes);
    let of = |budget| forecast(scene, budget, &pods, &nodes, kubelets_told);
    scene.snapshot.budgets.iter().filter_map(of).collect()
}

fn forecast(
    scene: &Scene<'_>,
    budget: &Budget,
    pods: &HashMap<String, &Pod>,
    nodes: &HashMap<&str, &NodeForecast>,
    kubelets_told: f64,
) -> Option<BudgetForecast> {
    let desired = budget.desired_healthy?;
    let (mut least, mut most, mut grace, mut is_concerned) = (0, 0, 0.0_f64, false);
    for name in &budget.healthy {
        let Some(pod) = pods.get(&format!("{}/{name}", budget.namespace)) else {
            // Nobody looks at it, so it may be anywhere.
            most += 1;
            continue;
        };
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
    let crossed = match () {
        _ if most < desired => Certainty::Must,
        _ if least < desired => Certainty::May,
        _ => Certainty::MustNot,
    };
    is_concerned.then(|| BudgetForecast {
        subject: budget.subject(),
        desired,
        healthy: budget.healthy.len() as u32,
        left: (least, most),
        crossed,
        window: window(0.0, kubelets_told + grace + POD_STOP_SLACK),
    })
}

/// In words: each budget that is or may be crossed, and how many are not.
pub fn told(scene: &Scene<'_>, budgets: &[BudgetForecast]) -> Vec<String> {
    const SHOWN: usize = 10;
    let (kept, crossed): (Vec<_>, Vec<_>) = budgets.iter().partition(|b| b.crossed == Certainty::MustNot);
    let mut all: Vec<String> = crossed.iter().take(SHOWN).map(|b| b.told()).collect();
    if crossed.len() > SHOWN {
        all.push(format!("{} more may be crossed at the heal", count(crossed.len() - SHOWN, "disruption budget")));
    }
    if !kept.is_empty() {
        let kept = count(kept.len(), "disruption budget");
        all.push(format!("{kept} with pods on the losing side not crossed at the heal"));
    }
    let unsaid: Vec<String> =
        scene.snapshot.budgets.iter().filter(|b| b.desired_healthy.is_none()).map(Budget::subject).collect();
    if !unsaid.is_empty() {
        all.push(format!(
            "nothing is predicted of disruption budgets whose status does not say what they want: {}",
            few(&unsaid)
        ));
    }
    all
}

impl BudgetForecast {
    fn told(&self) -> String {
        let (least, most) = self.left;
        let left = if least == most { least.to_string() } else { format!("{least} to {most}") };
        let verb = if self.crossed == Certainty::Must { "is" } else { "may be" };
        format!(
            "disruption budget {} {verb} crossed within {} of the heal: {left} of {} left, {} wanted; kubelets end evicted pods, \
             whatever a budget says",
            self.subject,
            seconds(self.window.latest_seconds),
            count(self.healthy as usize, "healthy pod"),
            self.desired
        )
    }
}
