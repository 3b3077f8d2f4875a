//! External etcd: members that are no static pods, found by whom the API servers dial.

use super::flags::Flags;
use crate::topology::{Endpoint, EtcdMember, Node};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Pod;
use std::{collections::BTreeSet, net::SocketAddr};

/// kubeadm and etcd: where members hear each other.
const PEER_PORT: u16 = 2380;

/// Members from `--etcd-servers` of the API servers: a node, where etcd is a service of it; else an endpoint, one of the spec's,
/// which may place it in a rack, or a new one outside of every rack. URLs by name are left out: nobody could cut them by address.
pub fn external(components: &[Pod], nodes: &[Node], endpoints: &mut Vec<Endpoint>) -> Vec<EtcdMember> {
    let flags = components.iter().map(Flags::of);
    let urls: BTreeSet<String> =
        flags.filter_map(|f| f.get("etcd-servers").map(str::to_owned)).flat_map(|l| split(&l)).collect();
    let addresses = urls.iter().filter_map(|url| url.split("://").last()?.trim_end_matches('/').parse().ok());
    let addresses: BTreeSet<SocketAddr> = addresses.filter(|a: &SocketAddr| !a.ip().is_loopback()).collect();
    let member = |address: SocketAddr| {
        let of = |node: String| EtcdMember { node, leads: None, client_port: address.port(), peer_port: PEER_PORT };
        if let Some(node) = nodes.iter().find(|n| n.addresses.contains(&address.ip())) {
            return of(node.name.clone());
        }
        let known = endpoints.iter().position(|e| e.cidrs.iter().any(|c| c.contains(&address.ip())));
        let at = known.unwrap_or_else(|| {
            endpoints.push(Endpoint {
                name: format!("etcd-{}", address.ip()),
                cidrs: vec![IpNet::from(address.ip())],
                ports: vec![address.port(), PEER_PORT],
                ..Default::default()
            });
            endpoints.len() - 1
        });
        of(endpoints[at].name.clone())
    };
    addresses.into_iter().map(member).collect()
}

fn split(list: &str) -> Vec<String> {
    list.split(',').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn server(urls: &str) -> Pod {
        let command = ["kube-apiserver".to_owned(), format!("--etcd-servers={urls}")];
        serde_json::from_value(json!({"metadata": {"name": "kube-apiserver-a"},
            "spec": {"containers": [{"name": "kube-apiserver", "command": command}]}}))
        .unwrap()
    }

    #[test]
    fn members_are_endpoints_of_the_spec_or_new_ones() {
        let placed = Endpoint {
            name: "etcd-a".into(),
            rack: Some("r1".into()),
            cidrs: vec!["198.18.0.40/32".parse().unwrap()],
            ..Default::default()
        };
        let mut endpoints = vec![placed];
        let components =
            [server("https://198.18.0.40:2379,https://[fd00::41]:2379/"), server("https://198.18.0.40:2379")];
        let node = Node { name: "cp1".into(), addresses: vec!["198.18.0.2".parse().unwrap()], ..Default::default() };
        let own = external(&[server("https://198.18.0.2:2379")], &[node], &mut endpoints);
        assert_eq!((own[0].node.as_str(), endpoints.len()), ("cp1", 1), "a service of a node");
        let members = external(&components, &[], &mut endpoints);
        let names: Vec<&str> = members.iter().map(|m| m.node.as_str()).collect();
        assert_eq!(names, ["etcd-a", "etcd-fd00::41"]);
        assert_eq!((endpoints.len(), endpoints[1].rack.as_deref(), members[1].client_port), (2, None, 2379));
    }

    #[test]
    fn names_and_loopback_are_nobody_s_address() {
        let mut endpoints = Vec::new();
        assert!(
            external(&[server("https://etcd.example.org:2379,https://127.0.0.1:2379")], &[], &mut endpoints).is_empty()
        );
        assert!(endpoints.is_empty());
    }
}
