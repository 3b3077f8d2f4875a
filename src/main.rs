//! The one binary of the image: operator, agent and the CRDs they share.

use clap::{Parser, Subcommand};
use rackpartition::{agent, api, cli, operator};
use std::{path::PathBuf, process::ExitCode};
use tracing_subscriber::EnvFilter;

/// Cuts racks of a Kubernetes cluster off the network and says whether the cluster behaved.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Reconciles RackPartitions. Started by the chart.
    Operator(Box<operator::Settings>),
    /// Cuts and watches one node during one run. Started by the operator.
    Agent(agent::AgentArgs),
    /// Succeeds when this pod's agent is armed. The agents' readiness probe.
    AgentReady(agent::ReadyArgs),
    /// Heals by hand, without API, operator and agents: this node, or others by heal packets.
    Heal(cli::HealArgs),
    /// Prints the CustomResourceDefinitions, or writes them to a folder.
    Crds {
        #[arg(long)]
        out: Option<PathBuf>,
    },
    #[command(flatten)]
    ByHand(cli::ByHand),
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| "info,kube_runtime=warn,kube_client::client=off".into());
    let command = Args::parse().command;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    match &command {
        // Their answers go to standard output, and into files.
        Command::ByHand(_) => log.with_writer(std::io::stderr).init(),
        _ => log.init(),
    }
    match command {
        Command::Operator(settings) => operator::run(*settings).await?,
        Command::Agent(args) => agent::run(args).await?,
        Command::AgentReady(args) => return Ok(agent::is_ready(&args)),
        Command::Heal(args) => cli::heal(&args).await?,
        Command::Crds { out: None } => print!("{}", api::crds::all_as_yaml()),
        Command::Crds { out: Some(folder) } => api::crds::write(&folder)?,
        Command::ByHand(command) => return Ok(by_hand(&command).await),
    }
    Ok(ExitCode::SUCCESS)
}

/// As the plugin ends: an error is no verdict.
async fn by_hand(command: &cli::ByHand) -> ExitCode {
    cli::by_hand(command).await.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(cli::EXIT_ERROR)
    })
}
