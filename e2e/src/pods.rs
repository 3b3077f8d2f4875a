//! The pod network of nodes whose image could not bring one.

use std::fs::File;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};

use crate::engine::Engine;
use crate::{cache, run};

/// Sets up, or again makes sure of, routes, masquerade and CNI configuration on every node.
///
/// # Errors
/// When a node has no pod range yet, or refuses its part.
pub async fn connect(engine: &Engine, client: &Client) -> Result<()> {
    let cluster: serde_json::Value = serde_saphyr::from_str(&cache::read("cluster.yaml")?)?;
    let subnet = cluster["networking"]["podSubnet"].as_str().context("lab/cluster.yaml has no podSubnet")?.to_owned();
    let nodes = Api::<Node>::all(client.clone()).list(&Default::default()).await.context("failed to list nodes")?;
    let nodes = nodes.items.iter().map(range).collect::<Result<Vec<_>>>()?;
    try_join_all(nodes.iter().map(|(name, own, _)| {
        let others = nodes.iter().filter(move |(other, ..)| other != name);
        let others = others.flat_map(|(_, range, address)| [range.clone(), address.clone()]);
        let mut docker = engine.docker();
        docker.args(["exec", "-i", name, "sh", "-s", own, &subnet]).args(others);
        async move { run::text(docker.stdin(File::open(cache::data("pod-network.sh"))?)).await }
    }))
    .await
    .map(drop)
}

/// Name, pod range and address.
fn range(node: &Node) -> Result<(String, String, String)> {
    let name = node.metadata.name.clone().unwrap_or_default();
    let range = node.spec.as_ref().and_then(|spec| spec.pod_cidr.clone());
    let range = range.with_context(|| format!("node {name} has no pod range yet"))?;
    let address = crate::lab::address(node).with_context(|| format!("node {name} has no address yet"))?;
    Ok((name, range, address))
}
