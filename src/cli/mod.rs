//! The kubectl plugin: start a run and follow it to its verdict, or look at one.

mod follow;
mod heal;
mod lifeline;

pub use heal::{HealArgs, heal};
pub use lifeline::{read as read_lifeline, script as lifeline};

use crate::{
    api::{Phase, RackPartition, Verdict},
    report,
};
use anyhow::{Context, bail};
use clap::Subcommand;
use kube::{Api, Client, ResourceExt, api::PostParams};
use std::{path::PathBuf, process::ExitCode};

/// A verdict other than Pass.
pub const EXIT_NOT_PASSED: u8 = 1;
/// Something went wrong before there was an answer.
pub const EXIT_ERROR: u8 = 2;
/// Inconclusive: neither behaved nor misbehaved.
pub const EXIT_INCONCLUSIVE: u8 = 3;
/// Refused or aborted: nothing was judged.
pub const EXIT_NOT_RUN: u8 = 4;

/// Cuts racks off and says whether the cluster behaved.
///
/// Exit codes: 0 Pass, 1 Degraded or Fail, 2 an error, 3 Inconclusive, 4 refused or aborted.
#[derive(clap::Parser)]
#[command(name = "kubectl-rackpartition", bin_name = "kubectl rackpartition", version)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Creates the run in a file and follows it to its verdict.
    Run {
        #[arg(short, long)]
        filename: PathBuf,
        /// Delete a finished run of the same name first.
        #[arg(long)]
        replace: bool,
    },
    /// Follows a run to its verdict.
    Follow { name: String },
    /// Shows plan, findings and verdict of a run as they are.
    Show { name: String },
    /// Ends a run early: heals at once.
    Abort { name: String },
    /// Heals nodes by packets, where the API can't be reached.
    Heal(HealArgs),
}

/// # Errors
/// Where the cluster can't be reached or refuses.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Command::Heal(args) = &args.command {
        heal::heal_others(args).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let client = Client::try_default().await.context("failed to find a cluster: is KUBECONFIG set?")?;
    let runs: Api<RackPartition> = Api::all(client.clone());
    match args.command {
        Command::Run { filename, replace } => {
            let run = start(&runs, &filename, replace).await?;
            follow::follow(&client, &run.name_any()).await.map(|run| exit_code(&run))
        }
        Command::Follow { name } => follow::follow(&client, &name).await.map(|run| exit_code(&run)),
        Command::Show { name } => {
            let run = runs.get(&name).await.with_context(|| format!("failed to read run {name}"))?;
            print!("{}", report::text(&run, follow::width()));
            Ok(exit_code(&run))
        }
        Command::Abort { name } => {
            let patch = serde_json::json!({"spec": {"abort": true}});
            runs.patch(&name, &Default::default(), &kube::api::Patch::Merge(patch))
                .await
                .with_context(|| format!("failed to abort run {name}"))?;
            follow::follow(&client, &name).await.map(|run| exit_code(&run))
        }
        Command::Heal(_) => unreachable!("needs no cluster"),
    }
}

async fn start(runs: &Api<RackPartition>, file: &PathBuf, replace: bool) -> anyhow::Result<RackPartition> {
    let text = std::fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?;
    let run: RackPartition =
        serde_saphyr::from_str(&text).with_context(|| format!("failed to understand {}", file.display()))?;
    let name = run.name_any();
    if let Some(old) =
        runs.get_opt(&name).await.context("failed to look for an earlier run: is the chart installed?")?
    {
        let phase = old.status.as_ref().and_then(|s| s.phase);
        if !replace || !phase.is_some_and(Phase::is_final) {
            bail!(
                "run {name} exists and is {}: delete it, or use --replace once it has ended",
                phase.map_or("new".into(), |p| format!("{p:?}"))
            );
        }
        runs.delete(&name, &Default::default()).await.with_context(|| format!("failed to delete run {name}"))?;
        follow::until_gone(runs, &name).await?;
    }
    runs.create(&PostParams::default(), &run).await.with_context(|| format!("failed to create run {name}"))
}

/// What a shell or CI sees of a verdict.
fn exit_code(run: &RackPartition) -> ExitCode {
    let status = run.status.clone().unwrap_or_default();
    match (status.phase, status.verdict) {
        (Some(Phase::Done), Some(Verdict::Pass)) => ExitCode::SUCCESS,
        (Some(Phase::Done), Some(Verdict::Inconclusive)) => ExitCode::from(EXIT_INCONCLUSIVE),
        (Some(Phase::Done), _) => ExitCode::from(EXIT_NOT_PASSED),
        _ => ExitCode::from(EXIT_NOT_RUN),
    }
}
