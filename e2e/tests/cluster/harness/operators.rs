//! The operators: where they are, who leads, and with which API server.

use super::{Harness, OPERATOR, OPERATORS};
use anyhow::{Context, Result};
use e2e::lab::Node;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{Api, api::ListParams};
use std::{collections::BTreeSet, time::Duration};

impl Harness {
    /// The node on which the operator leads.
    pub async fn operator_leader_node(&self) -> Result<String> {
        self.until("an operator to lead", Duration::from_secs(60), async |h: &Harness| {
            let holder = h.operators_lease().await?.spec.and_then(|s| s.holder_identity);
            let Some(holder) = holder.filter(|h| !h.is_empty()) else { return Ok(None) };
            let pods: Api<Pod> = Api::namespaced(h.client.clone(), OPERATORS);
            let pod = pods.get_opt(&holder).await?;
            Ok(pod.and_then(|p| p.spec?.node_name))
        })
        .await
    }

    /// By which one of the operators leads.
    pub async fn operators_lease(&self) -> Result<Lease> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), OPERATORS);
        Ok(leases.get("rackpartition-operator").await?)
    }

    /// The node whose API server the operator uses that leads, as the kernel says: each watch has a connection, so most are with that one.
    /// With each of the others it has one at most, for canary writes.
    pub async fn operators_api_server(&self) -> Result<String> {
        self.until("the operator to be connected", Duration::from_secs(60), async |h: &Harness| {
            let leader = h.operator_leader_node().await?;
            let processes = h.lab.exec(&leader, &["pgrep", "-f", OPERATOR]).await?;
            let process = processes.lines().next().context("no operator where it leads")?;
            // In the network of its own, which is its pod's.
            let network = ["nsenter", "--target", process, "--net"];
            let connected = ["ss", "-H", "-t", "-n", "state", "established", "dport", "=", ":6443"];
            let connections = h.lab.exec(&leader, &[&network[..], &connected].concat()).await?;
            Ok(most_dialled(h.lab.nodes(), &connections))
        })
        .await
    }

    /// The nodes on which operators are, leading or not.
    pub async fn operator_nodes(&self) -> Result<BTreeSet<String>> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), OPERATORS);
        let pods = pods.list(&ListParams::default()).await?;
        Ok(pods.iter().filter_map(|p| p.spec.as_ref()?.node_name.clone()).collect())
    }

    /// Every replica begins anew.
    pub async fn restart_operator(&self) -> Result<()> {
        let operator = ["--namespace", OPERATORS, "rollout"];
        self.kubectl(&[&operator[..], &["restart", "deployment"]].concat()).await?;
        let status = ["status", "deployment/rackpartition-operator", "--timeout=2m"];
        self.kubectl(&[&operator[..], &status].concat()).await.map(drop)
    }

    /// Logs of every operator pod.
    pub async fn operator_logs(&self) -> Result<String> {
        let words = ["--namespace", OPERATORS, "logs", "--selector", "app.kubernetes.io/component=operator"];
        self.look(&[&words[..], &["--tail", "-1", "--prefix"]].concat()).await
    }
}

/// The node to whose API server most of these connections go, as `ss` lists them.
fn most_dialled(nodes: &[Node], connections: &str) -> Option<String> {
    let ends = connections.lines().filter_map(|line| line.split_whitespace().find_map(|w| w.strip_suffix(":6443")));
    let ends: Vec<&str> = ends.map(|end| end.trim_matches(['[', ']'])).collect();
    let dialled = |node: &Node| ends.iter().filter(|end| node.addresses.iter().any(|a| a == **end)).count();
    let most = nodes.iter().max_by_key(|node| dialled(node)).filter(|node| dialled(node) > 0);
    most.map(|node| node.name.clone())
}
