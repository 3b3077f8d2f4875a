//! Addresses of nodes that their Node objects do not list, as their components tell them.

use super::{
    flags::Flags,
    gather::{COMPONENT, node_of},
};
use crate::topology::{Endpoint, Node};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use std::{collections::BTreeMap, net::IpAddr};

/// By which addresses others reach a component, and of which component each flag is (kubeadm's manifests).
const FLAGS: [(&str, &str); 3] = [
    ("etcd", "advertise-client-urls"),
    ("etcd", "initial-advertise-peer-urls"),
    ("kube-apiserver", "advertise-address"),
];

/// Adds to each node the addresses by which its etcd and its API server are known to others: where a node has several
/// interfaces, the Node object may list only one.
///
/// Not those that are an endpoint of the spec, another node's, or advertised by several: such a one is a virtual address, which is
/// on one node now and on another later.
pub fn add_of_components(components: &[Pod], endpoints: &[Endpoint], nodes: &mut [Node]) {
    let mut advertised: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
    for pod in components {
        let Some(node) = node_of(pod) else { continue };
        let (flags, component) = (Flags::of(pod), pod.labels().get(COMPONENT).cloned().unwrap_or_default());
        let own = FLAGS.iter().filter(|(of, _)| *of == component).filter_map(|(_, flag)| flags.get(flag));
        for address in own.flat_map(addresses_in) {
            let by = advertised.entry(address).or_default();
            if !by.contains(&node) {
                by.push(node.clone());
            }
        }
    }
    for (address, by) in advertised {
        let is_known = endpoints.iter().any(|e| e.cidrs.iter().any(|c| c.contains(&address)))
            || nodes.iter().any(|n| n.addresses.contains(&address));
        let [node] = &by[..] else { continue };
        let Some(node) = nodes.iter_mut().find(|n| n.name == *node && !is_known) else { continue };
        node.addresses.push(address);
    }
}

/// Addresses of somebody in a comma-separated list of URLs or addresses. Names are nobody's address.
pub fn addresses_in(list: &str) -> impl Iterator<Item = IpAddr> + '_ {
    let of_url = |item: &str| item.parse::<http::Uri>().ok()?.host()?.trim_matches(['[', ']']).parse().ok();
    let address = move |item: &str| item.trim().parse().ok().or_else(|| of_url(item.trim()));
    list.split(',').filter_map(address).filter(|a: &IpAddr| !a.is_loopback() && !a.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(node: &str, component: &str, flags: &[&str]) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": component, "labels": {COMPONENT: component}},
            "spec": {"nodeName": node, "containers": [{"name": component, "command": flags}]},
        }))
        .unwrap()
    }
    fn node(name: &str, address: &str) -> Node {
        Node { name: name.into(), addresses: vec![address.parse().unwrap()], ..Default::default() }
    }
    fn told(nodes: &[Node]) -> Vec<String> {
        nodes.iter().flat_map(|n| n.addresses.iter().map(move |a| format!("{} {a}", n.name))).collect()
    }

    #[test]
    fn components_tell_addresses_that_nodes_do_not() {
        let pods = [
            pod(
                "c1",
                "etcd",
                &[
                    "--initial-advertise-peer-urls=https://203.0.113.7:2380,https://[fd00:9::7]:2380",
                    "--advertise-client-urls=https://198.18.0.7:2379,http://127.0.0.1:2381,https://etcd.example.org:2379",
                    "--advertise-address=192.0.2.1",
                ],
            ),
            pod("c1", "kube-apiserver", &["--advertise-address=203.0.113.8"]),
        ];
        let mut nodes = [node("c1", "198.18.0.7")];
        add_of_components(&pods, &[], &mut nodes);
        assert_eq!(told(&nodes), ["c1 198.18.0.7", "c1 203.0.113.7", "c1 203.0.113.8", "c1 fd00:9::7"]);
    }

    #[test]
    fn a_virtual_address_is_no_nodes() {
        let server = |node, address: &str| pod(node, "kube-apiserver", &[&format!("--advertise-address={address}")]);
        let placed = Endpoint { cidrs: vec!["203.0.113.9/32".parse().unwrap()], ..Default::default() };
        let pods = [
            // The same of two, one of the spec's endpoints, everybody's, and another node's.
            server("c1", "203.0.113.1"),
            server("c2", "203.0.113.1"),
            server("c1", "203.0.113.9"),
            server("c1", "0.0.0.0"),
            server("c1", "198.18.0.2"),
        ];
        let mut nodes = [node("c1", "198.18.0.1"), node("c2", "198.18.0.2")];
        add_of_components(&pods, &[placed], &mut nodes);
        assert_eq!(told(&nodes), ["c1 198.18.0.1", "c2 198.18.0.2"]);
    }
}
