//! The pod network of nodes whose image could not bring one.

use std::fs::File;

use anyhow::{Context, Result, bail};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};

use crate::configuration::pod_subnets;
use crate::engine::Engine;
use crate::options::Options;
use crate::{cache, run};

/// Sets up, or again makes sure of, routes, masquerade and CNI configuration on every node.
///
/// # Errors
/// When a node is not there yet or has no pod range, or refuses its part.
pub async fn connect(engine: &Engine, client: &Client, options: &Options) -> Result<()> {
    let subnets = pod_subnets(options)?;
    let nodes = Api::<Node>::all(client.clone()).list(&Default::default()).await.context("failed to list nodes")?;
    let (families, count) = (subnets.split(',').count(), options.topology.plan().nodes());
    // kubeadm's join returns before the kubelet has registered its node. One that is left out here never becomes Ready.
    if nodes.items.len() < count {
        bail!("{} of {count} nodes are there", nodes.items.len());
    }
    let nodes = nodes.items.iter().map(|node| ranges(node, families)).collect::<Result<Vec<_>>>()?;
    try_join_all(nodes.iter().map(|(name, own)| {
        let others = nodes.iter().filter(move |(other, _)| other != name).flat_map(|(_, ranges)| ranges);
        let others = others.flat_map(|(range, address)| [range.clone(), address.clone()]);
        let own = own.iter().map(|(range, _)| range.as_str()).collect::<Vec<_>>().join(",");
        let mut docker = engine.docker();
        docker.args(["exec", "-i", name, "sh", "-s", &own, &subnets]).args(others);
        async move { run::text(docker.stdin(File::open(cache::data("pod-network.sh"))?)).await }
    }))
    .await
    .map(drop)
}

/// A node's name, and its pod range and address of each family.
fn ranges(node: &Node, families: usize) -> Result<(String, Vec<(String, String)>)> {
    let name = node.metadata.name.clone().unwrap_or_default();
    let ranges = node.spec.as_ref().and_then(|spec| spec.pod_cidrs.clone()).unwrap_or_default();
    let addresses = crate::lab::addresses(node);
    let pairs = ranges.into_iter().filter_map(|range| {
        let of_family = addresses.iter().find(|address| address.contains(':') == range.contains(':'))?;
        Some((range, of_family.clone()))
    });
    let pairs: Vec<_> = pairs.collect();
    if pairs.len() != families {
        bail!("node {name} has not yet a pod range and an address of each family");
    }
    Ok((name, pairs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(ranges: &[&str], addresses: &[&str]) -> Node {
        let addresses: Vec<_> =
            addresses.iter().map(|a| serde_json::json!({"type": "InternalIP", "address": a})).collect();
        let node = serde_json::json!({
            "metadata": {"name": "n"}, "spec": {"podCIDRs": ranges}, "status": {"addresses": addresses},
        });
        serde_json::from_value(node).unwrap()
    }

    #[test]
    fn a_range_is_reached_by_the_address_of_its_family() {
        let node = node(&["198.19.1.0/24", "fd00:198:19:1::/64"], &["fd00:198:18::3", "198.18.0.3"]);
        let (_, pairs) = ranges(&node, 2).unwrap();
        let expected = [("198.19.1.0/24", "198.18.0.3"), ("fd00:198:19:1::/64", "fd00:198:18::3")];
        assert_eq!(pairs, expected.map(|(range, address)| (range.to_owned(), address.to_owned())));
    }

    #[test]
    fn a_node_that_lacks_a_family_has_to_be_waited_for() {
        assert!(ranges(&node(&["198.19.1.0/24"], &[]), 1).is_err());
        assert!(ranges(&node(&["198.19.1.0/24"], &["198.18.0.3"]), 2).is_err());
        assert!(ranges(&node(&["198.19.1.0/24"], &["198.18.0.3"]), 1).is_ok());
    }
}
