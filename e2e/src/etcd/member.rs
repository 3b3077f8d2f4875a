//! One member of an external etcd as data: its name, its address and what its process is told.

use std::net::Ipv4Addr;

use crate::topology::Plan;

/// Where members keep their data, in memory.
pub const DATA: &str = "/var/lib/etcd";

/// Where members have their certificates.
pub const PKI: &str = "/pki";

/// The port for clients, that is API servers.
pub const CLIENT_PORT: u16 = 2379;

/// The port for other members.
pub const PEER_PORT: u16 = 2380;

/// So that `docker exec NAME etcdctl member list` needs no flags.
pub const CLIENT_SETTINGS: [&str; 4] = [
    "ETCDCTL_ENDPOINTS=https://127.0.0.1:2379",
    "ETCDCTL_CACERT=/pki/ca.crt",
    "ETCDCTL_CERT=/pki/healthcheck-client.crt",
    "ETCDCTL_KEY=/pki/healthcheck-client.key",
];

/// A member, which is also a container of this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    pub rack: &'static str,
    pub address: Ipv4Addr,
}

/// Name and rack of each member, numbered as kind numbers nodes.
pub fn named(cluster: &str, plan: &Plan) -> impl Iterator<Item = (String, &'static str)> {
    let name = move |index| if index == 1 { format!("{cluster}-etcd") } else { format!("{cluster}-etcd{index}") };
    (1..).map(name).zip(plan.etcd.iter().copied())
}

impl Member {
    /// Where API servers find it. By address: a name would need the engine's DNS, which is in no rack.
    pub fn client_url(&self) -> String {
        format!("https://{}:{CLIENT_PORT}", self.address)
    }

    fn peer_url(&self) -> String {
        format!("https://{}:{PEER_PORT}", self.address)
    }

    /// The arguments of its etcd among `all`.
    pub fn arguments(&self, cluster: &str, all: &[Member]) -> Vec<String> {
        let peers: Vec<_> = all.iter().map(|member| format!("{}={}", member.name, member.peer_url())).collect();
        let pki = |file: &str| format!("{PKI}/{file}");
        let any = |port| format!("https://0.0.0.0:{port}");
        let flags = [
            ("name", self.name.clone()),
            ("data-dir", DATA.to_owned()),
            ("initial-cluster", peers.join(",")),
            ("initial-cluster-state", "new".to_owned()),
            // Members of another lab's etcd are turned away, should an address be used again.
            ("initial-cluster-token", cluster.to_owned()),
            ("listen-peer-urls", any(PEER_PORT)),
            ("initial-advertise-peer-urls", self.peer_url()),
            ("listen-client-urls", any(CLIENT_PORT)),
            ("advertise-client-urls", self.client_url()),
            ("client-cert-auth", "true".to_owned()),
            ("trusted-ca-file", pki("ca.crt")),
            ("cert-file", pki("server.crt")),
            ("key-file", pki("server.key")),
            ("peer-client-cert-auth", "true".to_owned()),
            ("peer-trusted-ca-file", pki("ca.crt")),
            ("peer-cert-file", pki("peer.crt")),
            ("peer-key-file", pki("peer.key")),
        ];
        flags.map(|(flag, value)| format!("--{flag}={value}")).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Topology;

    #[test]
    fn two_racks_have_a_member_each_and_a_witness_elsewhere() {
        let members: Vec<_> = named("lab", &Topology::TwoRacksExternalEtcd.plan()).collect();
        let expected = [("lab-etcd", "r1"), ("lab-etcd2", "r2"), ("lab-etcd3", "r3")];
        assert_eq!(members, expected.map(|(name, rack)| (name.to_owned(), rack)));
        assert_eq!(named("lab", &Topology::ThreeRacks.plan()).count(), 0);
    }

    #[test]
    fn a_member_names_all_and_speaks_tls_only() {
        let member =
            |name: &str, last| Member { name: name.to_owned(), rack: "r1", address: [198, 18, 255, last].into() };
        let all = [member("a", 1), member("b", 2)];
        let arguments = all[1].arguments("lab", &all);
        let has = |text: &str| arguments.iter().any(|argument| argument == text);
        assert!(has("--name=b"));
        assert!(has("--initial-cluster=a=https://198.18.255.1:2380,b=https://198.18.255.2:2380"));
        assert!(has("--advertise-client-urls=https://198.18.255.2:2379"));
        assert!(has("--client-cert-auth=true") && has("--peer-client-cert-auth=true"));
        assert!(!arguments.iter().any(|argument| argument.contains("http:")));
    }
}
