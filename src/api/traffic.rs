//! Which packets of a cut edge are hit, and what becomes of them.

use kube::{KubeSchema, core::Duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A class of traffic by name, or a protocol and port.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.class) ? !has(self.protocol) && !has(self.port) : has(self.protocol) && has(self.port)")
        .message("name either a class of traffic or a protocol and a port")
)]
pub struct Traffic {
    /// Its ports are read from the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<TrafficClass>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// As source or as destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
}

/// What the ports of a class serve. They match as source and as destination: etcd's receivers dial, so one direction of its
/// messages carries the port as source.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum TrafficClass {
    /// Between members of etcd.
    EtcdPeer,
    /// From API servers to etcd.
    EtcdClient,
    /// To API servers and to the control-plane endpoint.
    ApiServer,
    /// From API servers to kubelets.
    Kubelet,
    /// From or to addresses of pods.
    Pods,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// Exactly one.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.drop), has(self.reject), has(self.loss)].filter(named, named).size() <= 1")
        .message("name one effect: drop, reject or loss")
)]
pub struct Effect {
    /// Packets vanish, as in a dead switch. The default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drop: Option<Nothing>,
    /// Packets are answered with a reset or an ICMP error, as a firewall does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reject: Option<Nothing>,
    /// A share of them vanishes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
}

/// Takes no options yet.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Nothing {}

#[derive(KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Loss {
    /// Share of the packets, or of the flows, that is lost, in percent.
    #[schemars(range(min = 1, max = 100))]
    pub percent: u8,
    #[serde(default)]
    pub per: LossPer,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum LossPer {
    /// Each packet by itself, as a bad cable.
    #[default]
    Packet,
    /// All packets of some flows and none of others, as one bad link of a bundle.
    Flow,
}

/// The cut comes and goes: down first, then up, until `duration` is over.
#[derive(KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "duration(self.down) >= duration('1s') && duration(self.up) >= duration('1s') && duration(self.down) <= duration('1h') && duration(self.up) <= duration('1h')"
    )
    .message("down and up last from 1s to 1h each")
)]
pub struct Flap {
    #[schemars(length(max = 32))]
    #[serde(deserialize_with = "super::length")]
    pub down: Duration,
    #[schemars(length(max = 32))]
    #[serde(deserialize_with = "super::length")]
    pub up: Duration,
}
