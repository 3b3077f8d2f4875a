//! Heals by hand: this node by its kernel, or any nodes by heal packets. Needs no API, no operator and no agent.

use crate::{
    api::TABLE_PREFIX,
    fault::Heal,
    netfilter::{Netfilter, send_heal},
};
use anyhow::Context;
use clap::Args;
use std::{net::IpAddr, time::Duration};
use tokio::time::sleep;

/// Between two rounds of packets: they are datagrams, and some may be lost.
const PERIOD: Duration = Duration::from_secs(1);

/// `rackpartition heal`
#[derive(Args, Clone, Debug)]
pub struct HealArgs {
    /// Heal other nodes, by packets: the run's secret token, 32 hexadecimal digits. Without it this node is healed, by its kernel.
    #[arg(long, requires = "addresses")]
    token: Option<String>,
    /// Addresses of every node of the run, separated by commas: both ends of a link have to heal.
    #[arg(long, value_delimiter = ',', requires = "token")]
    addresses: Vec<IpAddr>,
    /// UDP port of heal packets.
    #[arg(long, default_value_t = Heal::PORT)]
    port: u16,
    /// How often to send, a second apart.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    rounds: u32,
}

/// Says on standard output what was done.
///
/// # Errors
/// Where nothing could be sent, or the kernel can't be asked.
pub async fn heal(args: &HealArgs) -> anyhow::Result<()> {
    match &args.token {
        Some(token) => heal_others(args, token).await,
        None => heal_this_node(),
    }
}

async fn heal_others(args: &HealArgs, token: &str) -> anyhow::Result<()> {
    let heal = Heal { port: args.port, token: token.to_owned() };
    let token = heal.token_bytes().context("failed to read the token: it is 32 hexadecimal digits")?;
    for round in 1..=args.rounds {
        if round > 1 {
            sleep(PERIOD).await;
        }
        let sent = send_heal(&args.addresses, args.port, &token).context("failed to send heal packets")?;
        println!("round {round} of {}: {sent} of {} packets left this machine", args.rounds, args.addresses.len());
    }
    println!("A packet that left may not have arrived. On a node, `nft list tables` shows whether a table is still there.");
    Ok(())
}

fn heal_this_node() -> anyhow::Result<()> {
    let mut netfilter = Netfilter::open().context("failed to ask the kernel for its tables")?;
    let tables = netfilter.tables().context("failed to list this node's tables")?;
    for table in tables.iter().filter(|name| name.starts_with(TABLE_PREFIX)) {
        // Removing it heals as well; this is for a kernel that refuses to remove it.
        let closed = netfilter.close_gate(table);
        netfilter.remove(table).with_context(|| match closed {
            Ok(()) => format!("failed to remove {table}; its gate is closed, so it has no effect"),
            Err(error) => format!("failed to remove {table}, and to close its gate: {error}"),
        })?;
        println!("removed {table}: this node hears everybody again; links to it stay cut at the other end until that heals too");
    }
    if tables.is_empty() {
        println!("no table of ours is on this node");
    }
    Ok(())
}
