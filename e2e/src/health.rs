//! Whether a cluster is in the state that a run may start from.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::ListParams;
use kube::{Api, Client};

use crate::topology::Plan;
use crate::wait;

/// The static pods of every control-plane node, by their `component` label.
const COMPONENTS: [&str; 3] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// The one more that there is unless etcd is external.
const ETCD: &str = "etcd";

/// Waits until the nodes of `plan` are there and all Ready.
///
/// # Errors
/// When that takes longer than `within`.
pub async fn nodes_ready(client: &Client, plan: &Plan, within: Duration) -> Result<()> {
    let count = plan.nodes();
    let nodes = Api::<Node>::all(client.clone());
    wait::until("all nodes are Ready", within, async || {
        let nodes = nodes.list(&ListParams::default()).await.context("failed to list nodes")?.items;
        let waiting: Vec<_> =
            nodes.iter().filter(|node| !ready(node)).filter_map(|n| n.metadata.name.clone()).collect();
        if nodes.len() == count && waiting.is_empty() {
            return Ok(Ok(()));
        }
        Ok(Err(format!("{} of {count} nodes are there, not Ready: {}", nodes.len(), waiting.join(", "))))
    })
    .await
}

/// Waits until every static pod of every control-plane node is Ready, and cluster DNS answers.
///
/// # Errors
/// When that takes longer than `within`.
pub async fn system_ready(client: &Client, plan: &Plan, within: Duration) -> Result<()> {
    let etcd = plan.etcd.is_empty().then_some(ETCD);
    let deployments = Api::<Deployment>::namespaced(client.clone(), "kube-system");
    wait::until("the control plane is healthy", within, async || {
        for component in etcd.into_iter().chain(COMPONENTS) {
            let pods = ready_pods(client, component).await?;
            if pods.len() != plan.masters.len() {
                return Ok(Err(format!("{component} is Ready on {} only", pods.join(", "))));
            }
        }
        let dns = deployments.get("coredns").await.context("failed to get coredns")?;
        let status = dns.status.unwrap_or_default();
        let wanted = dns.spec.and_then(|spec| spec.replicas).unwrap_or(1);
        if status.available_replicas.unwrap_or(0) < wanted {
            return Ok(Err("coredns is not available".to_owned()));
        }
        Ok(Ok(()))
    })
    .await
}

/// The nodes whose mirror pod of `component` is Ready.
pub async fn ready_pods(client: &Client, component: &str) -> Result<Vec<String>> {
    let ready = |pod: &Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
    };
    Ok(pods(client, component).await?.iter().filter(|pod| ready(pod)).filter_map(node_of).collect())
}

/// The nodes that have a mirror pod of `component` at all.
pub async fn present_pods(client: &Client, component: &str) -> Result<Vec<String>> {
    Ok(pods(client, component).await?.iter().filter_map(node_of).collect())
}

async fn pods(client: &Client, component: &str) -> Result<Vec<Pod>> {
    let labels = ListParams::default().labels(&format!("tier=control-plane,component={component}"));
    let pods = Api::<Pod>::namespaced(client.clone(), "kube-system").list(&labels).await;
    Ok(pods.with_context(|| format!("failed to list the pods of {component}"))?.items)
}

fn node_of(pod: &Pod) -> Option<String> {
    pod.spec.as_ref()?.node_name.clone()
}

fn ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}
