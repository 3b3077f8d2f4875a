//! Classes of traffic as ports, read from the cluster.

use crate::{
    api::{Protocol, Traffic, TrafficClass},
    topology::Snapshot,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The packets that a cut hits. Nothing named is everything.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ports {
    /// As source or as destination.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ports: BTreeSet<(Protocol, u16)>,
    /// From or to addresses of pods, whatever the port.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pods: bool,
}

impl Ports {
    pub fn is_everything(&self) -> bool {
        self.ports.is_empty() && !self.pods
    }
    /// Whether TCP to or from this port of a node is hit.
    pub fn hit_tcp(&self, port: u16) -> bool {
        self.is_everything() || self.ports.contains(&(Protocol::Tcp, port))
    }
}

/// Resolves what a spec names.
pub fn ports(traffic: &[Traffic], snapshot: &Snapshot) -> Ports {
    let mut all = Ports::default();
    for one in traffic {
        match (one.class, one.protocol, one.port) {
            (Some(TrafficClass::Pods), ..) => all.pods = true,
            (Some(class), ..) => all.ports.extend(of_class(class, snapshot).map(|port| (Protocol::Tcp, port))),
            (None, Some(protocol), Some(port)) => drop(all.ports.insert((protocol, port))),
            // Refused by the object's rules.
            _ => {}
        }
    }
    all
}

fn of_class(class: TrafficClass, snapshot: &Snapshot) -> impl Iterator<Item = u16> {
    let members = snapshot.etcd.iter();
    let ports: BTreeSet<u16> = match class {
        TrafficClass::EtcdPeer => members.map(|m| m.peer_port).collect(),
        TrafficClass::EtcdClient => members.map(|m| m.client_port).collect(),
        TrafficClass::ApiServer => {
            let relays = snapshot.endpoints.iter().flat_map(|e| snapshot.relayed_ports(e));
            snapshot.api_servers.iter().map(|a| a.address.port()).chain(relays).collect()
        }
        TrafficClass::Kubelet => snapshot.nodes.iter().map(|n| n.kubelet_port).collect(),
        TrafficClass::Pods => BTreeSet::new(),
    };
    ports.into_iter()
}
