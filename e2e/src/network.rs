//! The network that nodes are on: its addresses, and who has which.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;
use serde_json::Value;

use crate::engine::Engine;
use crate::progress::step;
use crate::run;

/// The network on which kind puts its nodes.
pub const NAME: &str = "kind";

/// The bridge of that network. An engine that was killed and lost its state leaves its bridge in the kernel, with the route
/// to the nodes' addresses; under a name of our own the next network takes it over instead of being shadowed by it.
const BRIDGE: &str = "rp-kind";

/// The label of containers that belong to a cluster and that kind must not take for its own.
pub const LABEL: &str = "io.rackpartition.lab.cluster";

/// The label as docker takes it.
pub fn label(cluster: &str) -> String {
    format!("{LABEL}={cluster}")
}

/// Creates the nodes' network, so that its addresses are the lab's choice and not the engine's.
pub async fn ensure(engine: &Engine) -> Result<()> {
    if run::text(engine.docker().args(["network", "inspect", NAME])).await.is_ok() {
        return Ok(());
    }
    step(format!("creating the network {NAME}: 198.18.0.0/16, fd00:198:18::/64"));
    let mut docker = engine.docker();
    docker.args(["network", "create", "--driver", "bridge"]);
    docker.args(["--opt", &format!("com.docker.network.bridge.name={BRIDGE}")]);
    docker.args(["--subnet", "198.18.0.0/16", "--ipv6", "--subnet", "fd00:198:18::/64", NAME]);
    run::text(&mut docker).await.map(drop)
}

/// Removes the nodes' network, unless another cluster is on it.
pub async fn remove(engine: &Engine) {
    if let Err(error) = run::text(engine.docker().args(["network", "rm", NAME])).await {
        step(format!("left the network {NAME}: {error:#}"));
    }
}

/// This many addresses that nobody has, from the far end of the range: the engine gives addresses away from the near one.
///
/// # Errors
/// When the network has no IPv4 range, or no address left.
pub async fn free_addresses(engine: &Engine, count: usize) -> Result<Vec<Ipv4Addr>> {
    let text = run::text(engine.docker().args(["network", "inspect", NAME, "--format", "{{json .}}"])).await?;
    let network: Value = serde_json::from_str(&text).context("failed to read the network's description")?;
    let range =
        network["IPAM"]["Config"].as_array().into_iter().flatten().find_map(|c| c["Subnet"].as_str()?.parse().ok());
    let range: Ipv4Net = range.with_context(|| format!("the network {NAME} has no IPv4 range"))?;
    let containers = network["Containers"].as_object().into_iter().flatten();
    let taken: Vec<_> = containers.filter_map(|(_, c)| c["IPv4Address"].as_str()?.parse().ok()).collect();
    pick(range, &taken.iter().map(Ipv4Net::addr).collect::<Vec<_>>(), count)
}

fn pick(range: Ipv4Net, taken: &[Ipv4Addr], count: usize) -> Result<Vec<Ipv4Addr>> {
    // Neither network and broadcast address nor the first one, which is the gateway's.
    let (first, last) = (u32::from(range.network()) + 2, u32::from(range.broadcast()));
    let free = (first..last).rev().map(Ipv4Addr::from).filter(|address| !taken.contains(address));
    let mut free: Vec<_> = free.take(count).collect();
    if free.len() < count {
        bail!("the network {NAME} has no {count} addresses left");
    }
    free.reverse();
    Ok(free)
}

/// The addresses of a running container on the nodes' network, IPv4 first.
///
/// # Errors
/// When there is no such container, or it is not on that network.
pub async fn addresses(engine: &Engine, container: &str) -> Result<Vec<IpAddr>> {
    let mut docker = engine.docker();
    docker.args(["container", "inspect", container, "--format", "{{json .NetworkSettings.Networks}}"]);
    let networks: Value = serde_json::from_str(&run::text(&mut docker).await?).context("failed to read networks")?;
    let there = ["IPAddress", "GlobalIPv6Address"].map(|key| networks[NAME][key].as_str()?.parse().ok());
    let there: Vec<_> = there.into_iter().flatten().collect();
    if there.is_empty() {
        bail!("{container} has no address on the network {NAME}");
    }
    Ok(there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_from_the_far_end_and_spare_what_is_taken() {
        let range = "198.18.0.0/16".parse().unwrap();
        let taken = [Ipv4Addr::new(198, 18, 255, 253)];
        let expected = [251, 252, 254].map(|last| Ipv4Addr::new(198, 18, 255, last));
        assert_eq!(pick(range, &taken, 3).unwrap(), expected);
        let small = "198.18.0.0/30".parse().unwrap();
        assert_eq!(pick(small, &[], 1).unwrap(), [Ipv4Addr::new(198, 18, 0, 2)]);
        assert!(pick(small, &[], 2).is_err());
    }
}
