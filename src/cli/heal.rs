//! Heals by hand: this node by its kernel, or any nodes by heal packets. Needs no API, no operator and no agent.

use crate::{
    fault::Heal,
    netfilter::{Netfilter, send_heal},
};
use anyhow::{Context, bail, ensure};
use clap::Args;
use std::{net::IpAddr, time::Duration};
use tokio::time::sleep;

/// Between two rounds of packets: they are datagrams, and some may be lost.
const PERIOD: Duration = Duration::from_secs(1);

/// `rackpartition heal`: which nodes, and the secret that heals them. None: the one that this is called on.
#[derive(Args, Clone, Debug)]
pub struct HealArgs {
    /// The run's secret token, 32 hexadecimal digits: nodes are healed by packets.
    #[arg(long, env = "RACKPARTITION_TOKEN", hide_env_values = true, requires = "addresses", value_parser = token)]
    token: Option<String>,
    /// Addresses of every node of the run, separated by commas: both ends of a link have to heal. None: this node.
    #[arg(long, value_delimiter = ',', requires = "token")]
    addresses: Vec<IpAddr>,
    /// UDP port of heal packets.
    #[arg(long, default_value_t = Heal::PORT)]
    port: u16,
    /// How often to send, a second apart.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    rounds: u32,
}

fn token(text: &str) -> Result<String, &'static str> {
    let is_token = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if is_token { Ok(text.into()) } else { Err("not 32 hexadecimal digits") }
}

/// Heals other nodes, or without any the one that this is called on. Says on standard output what was done.
///
/// # Errors
/// Where no packet left this machine, or a table could not be removed.
pub async fn heal(args: &HealArgs) -> anyhow::Result<()> {
    if args.addresses.is_empty() { heal_this_node() } else { heal_others(args).await }
}

/// Sends heal packets, and says how many left.
///
/// # Errors
/// Where none did, or nobody is named.
pub async fn heal_others(args: &HealArgs) -> anyhow::Result<()> {
    let token = args.token.clone().filter(|_| !args.addresses.is_empty()).context("name the nodes: --addresses")?;
    let heal = Heal { port: args.port, token };
    let token = heal.token_bytes().context("failed to read the token: it is 32 hexadecimal digits")?;
    let mut left = 0;
    for round in 1..=args.rounds {
        if round > 1 {
            sleep(PERIOD).await;
        }
        let sent = send_heal(&args.addresses, args.port, &token).context("failed to send heal packets")?;
        println!("round {round} of {}: {sent} of {} packets left this machine", args.rounds, args.addresses.len());
        left += sent;
    }
    ensure!(left > 0, "no packet left this machine: it has no route to any of the nodes");
    println!(
        "A packet that left may not have arrived. On a node, `nft list tables` shows whether a table is still there."
    );
    Ok(())
}

fn heal_this_node() -> anyhow::Result<()> {
    let mut netfilter = Netfilter::open().context("failed to ask the kernel for its tables")?;
    let tables = netfilter.tables().context("failed to list this node's tables")?;
    let mut failed = Vec::new();
    for table in &tables {
        // Removing it heals as well; this is for a kernel that refuses to remove it.
        let closed = netfilter.close_gate(table);
        match (netfilter.remove(table), closed) {
            (Ok(()), _) => println!("removed {table}: this node hears everybody again"),
            (Err(error), Ok(())) => failed.push(format!("{error}; its gate is closed, so it has no effect")),
            (Err(error), Err(gate)) => failed.push(format!("{error}; and {gate}")),
        }
    }
    match tables.is_empty() {
        true => println!("no table of ours is on this node"),
        false => println!("Links to this node stay cut at the other end until that heals too."),
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("; "));
    }
    Ok(())
}
