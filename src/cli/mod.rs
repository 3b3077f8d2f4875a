//! The kubectl plugin: start a run and follow it to its verdict, or look at one. And by hand: plan and judge from files.

mod export;
mod files;
mod follow;
mod guards;
mod heal;
mod journals;
mod judge;
mod lifeline;
mod plan;
mod rules;
mod schema;
mod snapshot;
mod unknown_fields;

pub use export::{ExportArgs, export};
pub use heal::{HealArgs, heal};
pub use judge::JudgeArgs;
pub use lifeline::script as lifeline;
pub use plan::PlanArgs;
pub use schema::all as schemas;
pub use snapshot::SnapshotArgs;

use crate::{
    api::{Phase, RackPartition, Verdict},
    report,
};
use anyhow::{Context, bail};
use clap::{Subcommand, ValueEnum};
use kube::{Api, Client, ResourceExt, api::PostParams};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

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
    #[command(flatten)]
    ByHand(ByHand),
}

// What both binaries have. No doc comment: clap would take it for theirs.
#[derive(Subcommand)]
pub enum ByHand {
    /// Prints what a plan reads of the cluster: nodes, racks, etcd, Leases, pods, timers. No secrets.
    Snapshot(SnapshotArgs),
    /// Plans a run from files, without a cluster: sides, edges, guards, prediction. Exit code 4 where a guard refuses.
    Plan(PlanArgs),
    /// Judges the journals of a run again, from files, without a cluster.
    Judge(JudgeArgs),
    /// Writes the journals of a run to a folder, as `judge` reads them. Waits for the end of a run that goes on.
    Export(ExportArgs),
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs; `schemas/` says what it has.
    Json,
}

/// # Errors
/// Where a file or the cluster can't be read.
pub async fn by_hand(command: &ByHand) -> anyhow::Result<ExitCode> {
    match command {
        ByHand::Snapshot(args) => snapshot::snapshot(&cluster().await?, args).await?,
        ByHand::Plan(args) => return plan::plan(args),
        ByHand::Judge(args) => return judge::judge(args),
        ByHand::Export(args) => export::export(&cluster().await?, args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn cluster() -> anyhow::Result<Client> {
    Client::try_default().await.context("failed to find a cluster: is KUBECONFIG set?")
}

/// # Errors
/// Where the cluster can't be reached or refuses.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::Heal(args) => {
            heal::heal_others(args).await?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::ByHand(command) => return by_hand(command).await,
        _ => {}
    }
    let client = cluster().await?;
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
        Command::Heal(_) | Command::ByHand(_) => unreachable!("done above"),
    }
}

async fn start(runs: &Api<RackPartition>, file: &Path, replace: bool) -> anyhow::Result<RackPartition> {
    // A field that nobody knows would not even reach the API server: a guard or an abort condition that is misspelt would be none.
    let run = files::run(file)?;
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
        (Some(Phase::Done), Some(verdict)) => exit_of(verdict),
        (Some(Phase::Done), None) => ExitCode::from(EXIT_NOT_PASSED),
        _ => ExitCode::from(EXIT_NOT_RUN),
    }
}

fn exit_of(verdict: Verdict) -> ExitCode {
    match verdict {
        Verdict::Pass => ExitCode::SUCCESS,
        Verdict::Inconclusive => ExitCode::from(EXIT_INCONCLUSIVE),
        Verdict::Degraded | Verdict::Fail => ExitCode::from(EXIT_NOT_PASSED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::Config;
    use std::fs;

    #[tokio::test]
    async fn a_run_with_a_field_that_nobody_knows_is_not_begun() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("run.yaml");
        let misspelt = "apiVersion: rackpartition.io/v1alpha1
kind: RackPartition
metadata: {name: run}
spec: {cut: {isolate: {racks: [r1]}}, duration: 60s, abortwhen: {apiUnavailable: 5s}}
";
        fs::write(&file, misspelt).unwrap();
        // Nobody is asked, so nobody need listen there.
        let client = Client::try_from(Config::new("http://127.0.0.1:9".parse().unwrap())).unwrap();
        let said = format!("{:#}", start(&Api::all(client), &file, false).await.unwrap_err());
        assert!(said.contains("spec.abortwhen: there is no such field") && said.contains("abortWhen"), "{said}");
    }
}
