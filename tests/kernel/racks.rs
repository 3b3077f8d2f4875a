//! Five racks with a node each and a load balancer that is no node, on one switch, each a network namespace.

use crate::fixture::{LONG, Ns, PORT, TOKEN, ip};
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use rackpartition::{
    agent::rules_at,
    api::{RackPartitionSpec, table_name},
    fault::{PlanParts, RunPlan, expand},
    netfilter::{Netfilter, TableSpec, TimeWindow},
    topology::{ApiServer, Endpoint, EtcdMember, Node, Snapshot},
};
use std::{
    net::{IpAddr, SocketAddr},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

pub const NODES: usize = 5;
/// kubeadm's name for it, so that examples can name it.
pub const BALANCER: &str = "control-plane-endpoint";

pub struct Racks {
    /// `n1` to `n5`, and the load balancer.
    pub members: Vec<Ns>,
    /// Whether nodes drop what they send to the load balancer.
    pub egress: bool,
    /// Where the switch is.
    switch: String,
}

impl Racks {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("rp-{}-r{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let switch = format!("{prefix}-sw");
        ip(&["netns", "add", &switch]);
        let mut racks = Self { members: Vec::new(), egress: false, switch };
        ip(&["-n", &racks.switch, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", &racks.switch, "link", "set", "br0", "up"]);
        for i in 1..=NODES + 1 {
            let name = format!("{prefix}-{i}");
            ip(&["netns", "add", &name]);
            let (v4, v6) = (format!("198.18.1.{i}").parse().unwrap(), format!("fd00:1::{i}").parse().unwrap());
            racks.members.push(Ns { name, device: "eth0", v4, v6 });
            racks.plug_in(i);
        }
        racks
    }

    fn plug_in(&self, i: usize) {
        let (ns, port) = (&self.members[i - 1], format!("port{i}"));
        ip(&["-n", &self.switch, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &ns.name]);
        ip(&["-n", &self.switch, "link", "set", &port, "master", "br0", "up"]);
        ns.ip(&["link", "set", "lo", "up"]);
        ns.ip(&["addr", "add", &format!("{}/24", ns.v4), "dev", "eth0"]);
        ns.ip(&["addr", "add", &format!("{}/64", ns.v6), "dev", "eth0", "nodad"]);
        ns.ip(&["link", "set", "eth0", "up"]);
        // As a CNI does where there is no overlay.
        for other in (0..NODES).filter(|other| other + 1 != i) {
            for (range, via) in
                pod_ranges(other).into_iter().zip([format!("198.18.1.{}", other + 1), format!("fd00:1::{}", other + 1)])
            {
                ns.ip(&["route", "add", &range.to_string(), "via", &via]);
            }
        }
    }

    /// The cluster that these are.
    pub fn snapshot(&self) -> Snapshot {
        let node = |(i, ns): (usize, &Ns)| Node {
            name: name(i),
            rack: Some(format!("r{}", i + 1)),
            ready: true,
            addresses: vec![ns.v4, ns.v6],
            pod_cidrs: pod_ranges(i),
            ..Default::default()
        };
        let balancer = &self.members[NODES];
        let member = |i| EtcdMember { node: name(i), client_port: 2379, peer_port: 2380, ..Default::default() };
        let server = |i: usize| ApiServer { name: name(i), address: SocketAddr::new(self.members[i].v4, 6443) };
        Snapshot {
            rack_label: "rack".into(),
            nodes: self.members.iter().take(NODES).enumerate().map(node).collect(),
            etcd: (0..NODES).map(member).collect(),
            api_servers: (0..NODES).map(server).collect(),
            endpoints: vec![Endpoint {
                name: BALANCER.into(),
                cidrs: vec![balancer.v4.into(), balancer.v6.into()],
                ports: vec![6443],
                egress: self.egress,
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    pub fn plan(&self, spec: &RackPartitionSpec) -> RunPlan {
        let snapshot = self.snapshot();
        let fault = expand(spec, &snapshot).unwrap_or_else(|refusal| panic!("{refusal}"));
        let parts = PlanParts {
            run: "shape".into(),
            run_uid: "abcd".into(),
            token: TOKEN.iter().map(|b| format!("{b:02x}")).collect(),
            duration_seconds: Duration::from(spec.duration).as_secs_f64(),
            longest_seconds: LONG.as_secs_f64(),
            writable: Vec::new(),
        };
        RunPlan::new(&snapshot, &fault, parts)
    }

    /// Cuts every node by its part of the plan, from now on. The tables are gone with the namespaces.
    pub fn cut(&self, plan: &RunPlan) -> Vec<Netfilter> {
        let begin = Timestamp::now() - SignedDuration::from_millis(10);
        let table = table_name(&plan.run_uid);
        let one = |(i, ns): (usize, &Ns)| {
            let spec =
                TableSpec { name: table.clone(), rules: rules_at(plan, &name(i)), heal_port: PORT, heal_token: TOKEN };
            let at = |seconds: f64| begin + SignedDuration::from_secs_f64(seconds);
            let windows = plan.windows_at(&name(i), plan.duration_seconds);
            let windows: Vec<_> =
                windows.into_iter().map(|(from, to)| TimeWindow { from: at(from), to: at(to) }).collect();
            let mut netfilter = ns.netfilter();
            netfilter.arm(&spec, LONG).unwrap();
            netfilter.cut(&table, &windows, LONG).unwrap();
            netfilter
        };
        self.members.iter().take(NODES).enumerate().map(one).collect()
    }

    pub fn address(&self, member: usize, v4: bool) -> IpAddr {
        self.members[member].address(v4)
    }
}

/// Ranges of the pods of a node, by its number. There are no pods.
pub fn pod_ranges(node: usize) -> Vec<IpNet> {
    [format!("198.19.{node}.0/24"), format!("fd00:19:{node}::/64")].map(|range| range.parse().unwrap()).into()
}

/// Name of a member by its number: nodes first, then the load balancer.
pub fn name(member: usize) -> String {
    if member < NODES { format!("n{}", member + 1) } else { BALANCER.into() }
}

impl Drop for Racks {
    fn drop(&mut self) {
        // Members drop themselves.
        let _ = Command::new("ip").args(["netns", "del", &self.switch]).status();
    }
}
