//! Members of etcd: static pods, or whom the API servers dial.

use super::{
    flags::Flags,
    gather::{COMPONENT, Error, node_of},
};
use crate::{
    fault::Refusal,
    topology::{Endpoint, EtcdMember, Node},
};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use tokio::time::timeout;

/// kubeadm and etcd: where members are asked, unless their URLs say otherwise.
const CLIENT_PORT: u16 = 2379;
/// kubeadm and etcd: where members hear each other, unless their URLs do, or the spec's endpoint has another port beside the one for
/// clients.
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

/// Members that are static pods. `of_some_traffic`: a cut only of some ports, for which each member must have one of a kind.
///
/// # Errors
/// A [`Refusal`] where such a cut would go round by another port.
pub fn stacked(components: &[Pod], of_some_traffic: bool) -> Result<Vec<EtcdMember>, Refusal> {
    let pods = components.iter().filter(|p| p.labels().get(COMPONENT).is_some_and(|c| c == "etcd"));
    pods.filter_map(|pod| Some(member(&node_of(pod)?, &Flags::of(pod), of_some_traffic))).collect()
}

fn member(node: &str, flags: &Flags, of_some_traffic: bool) -> Result<EtcdMember, Refusal> {
    let port = |flag: &'static str, usual: u16| {
        let ports = ports_in(flags.get(flag).unwrap_or_default());
        let told = || ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        match ports[..] {
            [_, _, ..] if of_some_traffic => Err(Refusal::EtcdPorts { node: node.into(), flag, ports: told() }),
            [first, ..] => Ok(first),
            [] => Ok(usual),
        }
    };
    let told = |flag: &str| flags.get(flag).unwrap_or_default().to_owned();
    Ok(EtcdMember {
        node: node.into(),
        leads: None,
        name: told("name"),
        peer_urls: told("initial-advertise-peer-urls"),
        data_dir: told("data-dir"),
        client_port: port("advertise-client-urls", CLIENT_PORT)?,
        peer_port: port("initial-advertise-peer-urls", PEER_PORT)?,
    })
}

/// The ports of a comma-separated list of URLs, each once, as they come. Not of those over loopback, where there are others: no cut
/// is between a node and itself.
pub fn ports_in(urls: &str) -> Vec<u16> {
    let is_own = |host: &str| {
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|a| a.is_loopback())
    };
    let urls = urls.split(',').filter_map(|url| url.trim().parse::<http::Uri>().ok());
    let (own, others): (Vec<_>, Vec<_>) =
        urls.filter_map(|url| Some((is_own(url.host()?), url.port_u16()?))).partition(|(is_own, _)| *is_own);
    let mut ports = Vec::new();
    for (_, port) in if others.is_empty() { own } else { others } {
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    ports
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
            members.push((EtcdMember { node, client_port, peer_port, ..EtcdMember::default() }, which));
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

    fn static_pod(client: &str, peer: &str) -> Pod {
        let urls = [format!("--advertise-client-urls={client}"), format!("--initial-advertise-peer-urls={peer}")];
        serde_json::from_value(json!({"metadata": {"name": "etcd-cp1", "labels": {COMPONENT: "etcd"}},
            "spec": {"nodeName": "cp1", "containers": [{"name": "etcd", "command": urls}]}}))
        .unwrap()
    }

    #[test]
    fn a_member_has_one_port_of_a_kind_or_is_cut_as_a_whole() {
        let of = |client: &str, peer: &str, of_some_traffic| {
            let members = stacked(&[static_pod(client, peer)], of_some_traffic);
            members.map(|m| m.into_iter().map(|m| (m.node, m.client_port, m.peer_port)).collect::<Vec<_>>())
        };
        let peer = "https://198.18.0.2:12380/,https://[fd00::2]:12380";
        for (client, port) in [
            ("https://198.18.0.2:12379", 12379),
            ("http://127.0.0.1:2381,https://198.18.0.2:12379,http://localhost:2382", 12379),
            ("http://[::1]:2399", 2399),
            ("https://etcd.example.com", 2379),
        ] {
            assert_eq!(of(client, peer, true), Ok(vec![("cp1".to_owned(), port, 12380)]), "{client}");
        }
        let two = "https://198.18.0.2:2379,https://198.18.1.2:12379";
        assert_eq!(of(two, peer, false), Ok(vec![("cp1".to_owned(), 2379, 12380)]));
        let refused = of(two, peer, true).unwrap_err().to_string();
        let words = ["cp1", "2379, 12379", "--advertise-client-urls", "spec.traffic"];
        words.iter().for_each(|w| assert!(refused.contains(w), "{w}: {refused}"));
        assert!(of(peer, two, true).unwrap_err().to_string().contains("--initial-advertise-peer-urls"));
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
