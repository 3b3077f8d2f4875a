//! Disruption budgets of the observed pods' namespaces, and the healthy pods that each selects.

use super::{Error, is_finished, is_ready, read};
use crate::topology::{Budget, Pod};
use k8s_openapi::api::{core::v1 as core, policy::v1::PodDisruptionBudget};
use kube::{
    Api, Client, ResourceExt,
    api::ListParams,
    core::{ParseExpressionError, Selector, SelectorExt},
};
use std::collections::BTreeSet;

/// `all_pods`: every pod of the cluster; a budget may select some that nobody observes.
///
/// # Errors
/// Where budgets can't be read, or a selector is malformed.
pub async fn budgets(client: &Client, observed: &[Pod], all_pods: &[core::Pod]) -> Result<Vec<Budget>, Error> {
    let namespaces: BTreeSet<&str> = observed.iter().map(|p| p.namespace.as_str()).collect();
    let budgets = Api::<PodDisruptionBudget>::all(client.clone());
    let found = budgets.list(&ListParams::default()).await.map_err(read("PodDisruptionBudgets"))?.items;
    let of_observed = |b: &&PodDisruptionBudget| b.namespace().is_some_and(|n| namespaces.contains(n.as_str()));
    found.iter().filter(of_observed).map(|b| budget(b, all_pods)).collect()
}

fn budget(found: &PodDisruptionBudget, all_pods: &[core::Pod]) -> Result<Budget, Error> {
    let (namespace, name) = (found.namespace().unwrap_or_default(), found.name_any());
    let selector = found.spec.as_ref().and_then(|s| s.selector.clone());
    let selector = selector.map(Selector::try_from).transpose().map_err(|e: ParseExpressionError| {
        Error::Understand { what: format!("PodDisruptionBudget {namespace}/{name}"), why: e.to_string() }
    })?;
    // Without a selector it selects nothing, with an empty one everything in its namespace.
    let selects = |pod: &&core::Pod| {
        pod.namespace().is_some_and(|n| n == namespace) && selector.as_ref().is_some_and(|s| s.matches(pod.labels()))
    };
    let is_healthy = |pod: &&core::Pod| is_ready(pod) && !is_finished(pod) && pod.metadata.deletion_timestamp.is_none();
    // A status of an earlier generation says what was wanted then.
    let status = found.status.as_ref().filter(|s| s.observed_generation == found.metadata.generation);
    Ok(Budget {
        desired_healthy: status.and_then(|s| u32::try_from(s.desired_healthy).ok()),
        healthy: all_pods.iter().filter(selects).filter(is_healthy).map(|p| p.name_any()).collect(),
        namespace,
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(name: &str, labels: Value, ready: &str) -> core::Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "shop", "labels": labels},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }

    fn read(spec: Value, observed_generation: i64) -> Budget {
        let found = json!({
            "metadata": {"name": "web", "namespace": "shop", "generation": 2},
            "spec": spec,
            "status": {"observedGeneration": observed_generation, "desiredHealthy": 2, "currentHealthy": 2,
                       "disruptionsAllowed": 0, "expectedPods": 3},
        });
        let pods = [
            pod("web-a", json!({"app": "web"}), "True"),
            pod("web-b", json!({"app": "web"}), "False"),
            pod("db-0", json!({"app": "db"}), "True"),
        ];
        budget(&serde_json::from_value(found).unwrap(), &pods).unwrap()
    }

    #[test]
    fn a_budget_has_the_healthy_pods_that_it_selects() {
        let of_web = read(json!({"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}}), 2);
        assert_eq!((of_web.subject().as_str(), of_web.desired_healthy), ("shop/web", Some(2)));
        assert_eq!(of_web.healthy, ["web-a"]);
        assert_eq!(read(json!({"minAvailable": 2, "selector": {}}), 2).healthy, ["web-a", "db-0"]);
        assert!(read(json!({"minAvailable": 2}), 2).healthy.is_empty());
    }

    #[test]
    fn a_status_that_trails_its_budget_says_nothing() {
        assert_eq!(read(json!({"minAvailable": 3, "selector": {}}), 1).desired_healthy, None);
    }
}
