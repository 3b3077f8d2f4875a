//! External etcd: members that are no static pods, found by whom the API servers dial.

use super::{
    flags::Flags,
    gather::{Error, node_of},
};
use crate::{
    fault::Refusal,
    topology::{Endpoint, EtcdMember, Node},
};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Pod;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};
use tokio::time::timeout;

/// kubeadm and etcd: where members hear each other, unless the spec's endpoint has another port beside the one for clients.
const PEER_PORT: u16 = 2380;

/// For one name.
const LOOK_UP: Duration = Duration::from_secs(5);

/// One of `--etcd-servers`.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Server {
    addresses: Vec<SocketAddr>,
    /// The node of the API server that dials it.
    dialled_from: Option<String>,
}

/// Members from `--etcd-servers` of the API servers: a node, where etcd is a service of it; else an endpoint, one of the spec's,
/// which may place it in a rack, or a new one outside of every rack.
///
/// # Errors
/// A [`Refusal`] for a name that does not resolve: nobody could cut it, nor count it.
pub async fn external(
    components: &[Pod],
    nodes: &[Node],
    endpoints: &mut Vec<Endpoint>,
) -> Result<Vec<EtcdMember>, Error> {
    let urls = |pod: &Pod| -> Vec<String> {
        let flags = Flags::of(pod);
        let list = flags.get("etcd-servers").unwrap_or_default();
        list.split(',').map(|url| url.trim().to_owned()).filter(|url| !url.is_empty()).collect()
    };
    let (mut servers, mut known) = (BTreeSet::new(), BTreeMap::new());
    for pod in components {
        for url in urls(pod) {
            if !known.contains_key(&url) {
                known.insert(url.clone(), look_up(&url, nodes).await?);
            }
            servers.insert(Server { addresses: known[&url].clone(), dialled_from: node_of(pod) });
        }
    }
    Ok(members(servers, nodes, endpoints))
}

/// The addresses of one member. A name that stands for several would make them one, and every count of a majority wrong.
async fn look_up(url: &str, nodes: &[Node]) -> Result<Vec<SocketAddr>, Refusal> {
    let unresolved = |why: String| Refusal::UnresolvedEtcd { url: url.into(), why };
    let uri: http::Uri = url.parse().map_err(|e: http::uri::InvalidUri| unresolved(e.to_string()))?;
    let host = uri.authority().ok_or_else(|| unresolved("no host".into()))?;
    let found = timeout(LOOK_UP, tokio::net::lookup_host(host.as_str())).await;
    let found = found.map_err(|_| unresolved("the name service does not answer".into()))?;
    let addresses: BTreeSet<SocketAddr> = found.map_err(|e| unresolved(e.to_string()))?.collect();
    let several = |v4: bool| addresses.iter().filter(|a| a.is_ipv4() == v4).count() > 1;
    let is_one_node = nodes.iter().any(|n| addresses.iter().all(|a| n.addresses.contains(&a.ip())));
    match (several(true) || several(false)) && !is_one_node {
        true => Err(unresolved("it stands for several addresses: name each member by one of its own".into())),
        false => Ok(addresses.into_iter().collect()),
    }
}

fn members(
    servers: impl IntoIterator<Item = Server>,
    nodes: &[Node],
    endpoints: &mut Vec<Endpoint>,
) -> Vec<EtcdMember> {
    let mut members: Vec<(EtcdMember, Vec<SocketAddr>)> = Vec::new();
    for Server { addresses, dialled_from } in servers {
        let Some(client_port) = addresses.first().map(SocketAddr::port) else { continue };
        let is = |member: &dyn Fn(&SocketAddr) -> bool| addresses.iter().any(member);
        let own = is(&|a| a.ip().is_loopback()).then_some(dialled_from).flatten();
        let of_node = nodes.iter().find(|n| is(&|a| n.addresses.contains(&a.ip()))).map(|n| n.name.clone());
        // A node's own member by whatever address is one; of an endpoint each address is one.
        let (node, peer_port, which) = match own.or(of_node) {
            Some(node) => (node, PEER_PORT, Vec::new()),
            None => {
                let known = endpoints.iter().position(|e| is(&|a| e.cidrs.iter().any(|c| c.contains(&a.ip()))));
                let at = known.unwrap_or_else(|| {
                    endpoints.push(Endpoint {
                        name: format!("etcd-{}", addresses[0].ip()),
                        cidrs: addresses.iter().map(|a| IpNet::from(a.ip())).collect(),
                        ports: vec![client_port, PEER_PORT],
                        ..Default::default()
                    });
                    endpoints.len() - 1
                });
                (endpoints[at].name.clone(), peer_port(&endpoints[at].ports, client_port), addresses)
            }
        };
        let is_known = |(m, known): &(EtcdMember, Vec<SocketAddr>)| {
            m.node == node && (known.is_empty() || known.iter().any(|a| which.contains(a)))
        };
        if !members.iter().any(is_known) {
            members.push((EtcdMember { node, leads: None, client_port, peer_port }, which));
        }
    }
    members.sort_by(|a, b| a.0.node.cmp(&b.0.node));
    members.into_iter().map(|(member, _)| member).collect()
}

/// Of an endpoint with these ports: the usual one, or the only other one beside the clients'.
fn peer_port(ports: &[u16], client_port: u16) -> u16 {
    let others: Vec<u16> = ports.iter().copied().filter(|port| *port != client_port).collect();
    match others[..] {
        [other] if ports.contains(&client_port) => other,
        _ => PEER_PORT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn server(urls: &str) -> Pod {
        let command = ["kube-apiserver".to_owned(), format!("--etcd-servers={urls}")];
        serde_json::from_value(json!({"metadata": {"name": "kube-apiserver-a"},
            "spec": {"nodeName": "cp1", "containers": [{"name": "kube-apiserver", "command": command}]}}))
        .unwrap()
    }

    #[tokio::test]
    async fn members_are_endpoints_of_the_spec_or_new_ones() {
        let placed = Endpoint {
            name: "etcd-a".into(),
            rack: Some("r1".into()),
            cidrs: vec!["198.18.0.40/32".parse().unwrap()],
            ports: vec![2379, 12380],
            ..Default::default()
        };
        let mut endpoints = vec![placed];
        let components =
            [server("https://198.18.0.40:2379,https://[fd00::41]:2379/"), server("https://198.18.0.40:2379")];
        let members = external(&components, &[], &mut endpoints).await.unwrap();
        let seen: Vec<_> = members.iter().map(|m| (m.node.as_str(), m.client_port, m.peer_port)).collect();
        assert_eq!(seen, [("etcd-a", 2379, 12380), ("etcd-fd00::41", 2379, 2380)]);
        assert_eq!((endpoints.len(), endpoints[1].rack.as_deref()), (2, None));
        // Two members behind one name of the spec's are two.
        endpoints[0].cidrs.push("198.18.0.42/32".parse().unwrap());
        let both = [server("https://198.18.0.40:2379,https://198.18.0.42:2379")];
        assert_eq!(external(&both, &[], &mut endpoints).await.unwrap().len(), 2);
        // And one that is dialled by one of its addresses, or by both, is one.
        let (v4, v6) = ("198.18.0.40:2379".parse().unwrap(), "[fd00::40]:2379".parse().unwrap());
        let dialled = |addresses: &[SocketAddr]| Server { addresses: addresses.into(), dialled_from: None };
        assert_eq!(super::members([dialled(&[v4]), dialled(&[v4, v6])], &[], &mut endpoints).len(), 1);
    }

    #[test]
    fn the_peers_port_is_told_or_the_usual_one() {
        let cases = [(&[2379, 12380][..], 12380), (&[2379, 2381, 2380], 2380), (&[6443], 2380), (&[], 2380)];
        for (ports, expected) in cases {
            assert_eq!(peer_port(ports, 2379), expected, "{ports:?}");
        }
    }

    #[tokio::test]
    async fn a_service_of_a_node_is_that_node_by_whatever_address() {
        let node = Node { name: "cp1".into(), addresses: vec!["198.18.0.2".parse().unwrap()], ..Default::default() };
        for url in ["https://198.18.0.2:2379", "https://127.0.0.1:2379", "https://localhost:2379"] {
            let mut endpoints = Vec::new();
            let members = external(&[server(url)], std::slice::from_ref(&node), &mut endpoints).await.unwrap();
            assert_eq!((members.len(), members[0].node.as_str(), endpoints.len()), (1, "cp1", 0), "{url}");
        }
    }

    #[tokio::test]
    async fn a_name_that_nobody_knows_is_refused() {
        let error = external(&[server("https://etcd.invalid:2379")], &[], &mut Vec::new()).await.unwrap_err();
        assert!(error.to_string().contains("etcd.invalid"), "{error}");
    }
}
