//! What takes part in a lab's traffic and is no node, as a run's `spec.endpoints` take it.

use std::net::IpAddr;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use ipnet::IpNet;
use rackpartition::api::Endpoint;
use serde_json::json;

use crate::engine::Engine;
use crate::options::{OUTSIDE, Options};
use crate::{etcd, network};

/// What the operator itself calls the load balancer, so that a cut may name it whether it is in `spec.endpoints` or not.
const BALANCER: &str = "control-plane-endpoint";

/// kind's port of every API server and of their balancer.
const API_PORT: u16 = 6443;

/// The load balancer, where there is one, and the members of an external etcd.
///
/// # Errors
/// When one of their containers does not run.
pub async fn of(engine: &Engine, cluster: &str, options: &Options) -> Result<Vec<Endpoint>> {
    let containers = wanted(cluster, options).into_iter();
    try_join_all(containers.map(async |(container, endpoint)| {
        let addresses = network::addresses(engine, &container).await?;
        Ok(Endpoint {
            cidrs: addresses.into_iter().map(|address: IpAddr| IpNet::from(address).to_string()).collect(),
            ..endpoint
        })
    }))
    .await
}

/// Containers and their endpoints, still without addresses.
fn wanted(cluster: &str, options: &Options) -> Vec<(String, Endpoint)> {
    let plan = options.topology.plan();
    let endpoint = |name: &str, ports: &[u16], rack: &str| Endpoint {
        name: name.to_owned(),
        cidrs: Vec::new(),
        ports: ports.to_owned(),
        rack: rack.to_owned(),
        egress: false,
    };
    let rack = options.balancer_rack.as_deref().unwrap_or(OUTSIDE);
    let balancer = || (format!("{cluster}-external-load-balancer"), endpoint(BALANCER, &[API_PORT], rack));
    let members = etcd::named(cluster, &plan).map(|(name, rack)| {
        let member = endpoint(&name, &[etcd::CLIENT_PORT, etcd::PEER_PORT], rack);
        (name, member)
    });
    plan.has_balancer().then(balancer).into_iter().chain(members).collect()
}

/// Lines to put below a run's `spec:`; empty where there is nothing to say.
///
/// # Errors
/// When they cannot be written as YAML, which would be a bug.
pub fn snippet(endpoints: &[Endpoint]) -> Result<String> {
    if endpoints.is_empty() {
        return Ok(String::new());
    }
    // Without what is a default, and one line each.
    let lines = endpoints.iter().map(|e| {
        format!("- {{name: {}, cidrs: {}, ports: {}, rack: {}}}\n", e.name, json!(e.cidrs), json!(e.ports), e.rack)
    });
    let text = format!("endpoints:\n{}", lines.collect::<String>());
    serde_saphyr::from_str::<serde_json::Value>(&text).context("endpoints that are no YAML")?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Topology;

    fn racks(topology: Topology, balancer_rack: Option<&str>) -> Vec<(String, String)> {
        let options = Options { topology, balancer_rack: balancer_rack.map(str::to_owned), ..Options::default() };
        wanted("lab", &options).into_iter().map(|(container, endpoint)| (container, endpoint.rack)).collect()
    }

    #[test]
    fn the_balancer_is_where_it_is_said_to_be() {
        let of = |container: &str, rack: &str| (container.to_owned(), rack.to_owned());
        assert_eq!(racks(Topology::ThreeRacks, None), [of("lab-external-load-balancer", "outside")]);
        assert_eq!(racks(Topology::ThreeRacks, Some("r2")), [of("lab-external-load-balancer", "r2")]);
        assert_eq!(racks(Topology::OneMaster, None), []);
        let external = racks(Topology::TwoRacksExternalEtcd, Some("r1"));
        let etcd = [of("lab-etcd", "r1"), of("lab-etcd2", "r2"), of("lab-etcd3", "r3")];
        assert_eq!(external, [&[of("lab-external-load-balancer", "r1")], &etcd[..]].concat());
    }

    #[test]
    fn the_snippet_is_what_a_run_takes() {
        let options = Options { topology: Topology::TwoRacksExternalEtcd, ..Options::default() };
        let endpoints = wanted("lab", &options).into_iter().map(|(_, endpoint)| Endpoint {
            cidrs: vec!["198.18.0.9/32".to_owned(), "fd00:198:18::9/128".to_owned()],
            ..endpoint
        });
        let endpoints: Vec<_> = endpoints.collect();
        let text = snippet(&endpoints).unwrap();
        let read: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(serde_json::from_value::<Vec<Endpoint>>(read["endpoints"].clone()).unwrap(), endpoints, "{text}");
        assert_eq!(snippet(&[]).unwrap(), "");
    }
}
