//! The cluster of the synthetic runs: three racks with a control-plane node and a worker each, short timers.

use crate::topology::*;

fn lease(name: &str, node: &str) -> Lease {
    Lease {
        namespace: "kube-system".into(),
        name: name.into(),
        holder: format!("{node}_1"),
        holder_node: Some(node.into()),
        lease_duration: 6.0,
        renew_deadline: Timer::read(4.0, "--leader-elect-renew-deadline"),
        retry_period: Timer::read(1.0, "--leader-elect-retry-period"),
        candidate_nodes: ["cp1", "cp2", "cp3"].iter().filter(|n| **n != node).map(|n| n.to_string()).collect(),
        ..Lease::default()
    }
}

fn workload(name: &str, uid: &str, node: &str, kind: &str, owner: &str, tolerated: f64) -> Pod {
    Pod {
        namespace: "default".into(),
        name: name.into(),
        uid: uid.into(),
        node: node.into(),
        owner_kind: Some(kind.into()),
        owner_name: Some(owner.into()),
        ready: true,
        restart_always: true,
        tolerates_unreachable: Some(tolerated),
        grace_period: 5.0,
        containers: vec!["app".into()],
    }
}

pub fn snapshot() -> Snapshot {
    let address = |i: usize| format!("198.18.0.{i}").parse().expect("an address");
    let names = ["cp1", "cp2", "cp3", "w1", "w2", "w3"];
    let nodes = names.iter().enumerate().map(|(i, name)| Node {
        name: (*name).into(),
        rack: Some(format!("r{}", i % 3 + 1)),
        zone: Some(format!("r{}", i % 3 + 1)),
        ready: true,
        addresses: vec![address(i + 1)],
        ..Node::default()
    });
    let member = |i| EtcdMember { node: format!("cp{i}"), client_port: 2379, peer_port: 2380, ..EtcdMember::default() };
    let etcd = (1..=3).map(member);
    let server = |i| ApiServer { name: format!("cp{i}"), address: std::net::SocketAddr::new(address(i), 6443) };
    Snapshot {
        rack_label: "topology.kubernetes.io/zone".into(),
        nodes: nodes.collect(),
        etcd: etcd.collect(),
        api_servers: (1..=3).map(server).collect(),
        endpoints: vec![Endpoint {
            name: "lb".into(),
            rack: None,
            egress: false,
            cidrs: vec!["198.18.0.9/32".parse().expect("a CIDR")],
            ports: vec![6443],
        }],
        leases: vec![
            lease("kube-controller-manager", "cp1"),
            lease("kube-scheduler", "cp1"),
            lease("snapshot-controller", "cp2"),
            Lease { name: "rackpartition-operator".into(), holder: "operator-b".into(), ..lease("", "w2") },
        ],
        pods: vec![
            workload("web-7d4b9c6f58-aaaaa", "web-1", "w1", "ReplicaSet", "web-7d4b9c6f58", 5.0),
            workload("db-0", "db-1", "w1", "StatefulSet", "db", 5.0),
            workload("dns-5bc6f7d8f4-ccccc", "dns-1", "w1", "ReplicaSet", "dns-5bc6f7d8f4", 300.0),
            workload("web-7d4b9c6f58-bbbbb", "web-2", "w2", "ReplicaSet", "web-7d4b9c6f58", 5.0),
        ],
        timers: Timers {
            node_monitor_grace: Timer::read(12.0, "--node-monitor-grace-period"),
            node_monitor_period: Timer::read(2.0, "--node-monitor-period"),
            node_eviction_rate: Timer::read(0.1, "--node-eviction-rate"),
            node_lease_renew: Timer::read(2.5, "nodeLeaseDurationSeconds / 4"),
            etcd_election: Timer::read(1.0, "--election-timeout"),
            ..Timers::default()
        },
        operators: vec![OperatorReplica { pod: "operator-b".into(), node: "w2".into(), ready: true }],
        protected_pods: Vec::new(),
        opted_in: false,
        ..Snapshot::default()
    }
}
