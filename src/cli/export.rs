//! `export`: writes the journals of a run to a folder, for `judge` and for others to look at.
//!
//! When a run has ended the operator deletes the plan, which has the run's secret, and keeps what is no secret for as long as the run. So
//! nothing is read before the end, and whoever exports needs no right to read secrets.

use super::journals::{Journals, check_new};
use crate::{
    api::{FINALIZER, NodeRecord, Phase, RUN_LABEL, RackPartition},
    fault::RunPlan,
    operator::{journal_name, read_plan, read_snapshot},
    topology::Snapshot,
};
use anyhow::{Context, bail, ensure};
use clap::Args;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, ResourceExt, api::ListParams};
use std::{path::PathBuf, time::Duration};
use tokio::time::{sleep, timeout};

const PERIOD: Duration = Duration::from_secs(1);
/// For one look. The API server that is asked may be in the rack that is cut.
const LOOK_DEADLINE: Duration = Duration::from_secs(5);
/// For all records, of which each may have a megabyte.
const READ_DEADLINE: Duration = Duration::from_secs(60);
const TRIES: usize = 5;

#[derive(Args, Clone, Debug)]
pub struct ExportArgs {
    /// The run. It is waited for where it has not ended yet.
    name: String,
    /// The folder to write, which is not there yet or empty.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// The operator's namespace: what ended runs were made of is kept there.
    #[arg(long, default_value = "rackpartition")]
    namespace: String,
    /// The agents' namespace, where the records are.
    #[arg(long, default_value = "rackpartition-agents")]
    agent_namespace: String,
}

/// Waits for the end of the run and writes what it left.
///
/// # Errors
/// Where there is no such run, what it was made of or its records can't be read, or the folder can't be written.
pub async fn export(client: &Client, args: &ExportArgs) -> anyhow::Result<()> {
    check_new(&args.to)?;
    let run = until_over(client, &args.name).await?;
    let (plan, snapshot) = made_of(client, args, &run).await?;
    let mut records = records(client, args).await?;
    records.retain(|record| is_of(record, &run));
    for record in &mut records {
        // Others are worth having without it.
        if let Err(error) = record.unpack() {
            eprintln!("{} is written as it is: {error}", record.name_any());
        }
    }
    let count = records.len();
    Journals { run, plan: Some(plan), snapshot, records }.write(&args.to)?;
    println!("{count} records of run {} are in {}", args.name, args.to.display());
    Ok(())
}

/// The run as it ended.
async fn until_over(client: &Client, name: &str) -> anyhow::Result<RackPartition> {
    let runs = Api::<RackPartition>::all(client.clone());
    // Whoever may not read runs, or has no such one, need not wait. Later errors may be the cut's.
    runs.get(name).await.with_context(|| format!("failed to read run {name}"))?;
    let mut said: Option<Phase> = None;
    loop {
        match timeout(LOOK_DEADLINE, runs.get_opt(name)).await {
            Ok(Ok(None)) => bail!("run {name} was deleted before it was over"),
            Ok(Ok(Some(run))) if is_over(&run) => return Ok(run),
            Ok(Ok(Some(run))) => {
                let status = run.status.unwrap_or_default();
                if said != status.phase {
                    said = status.phase;
                    eprintln!("waiting until run {name} is over: {}", status.message.unwrap_or_default());
                }
            }
            Ok(Err(_)) | Err(_) => {}
        }
        sleep(PERIOD).await;
    }
}

/// Whether the operator has let it go: it has written down what the run was made of by then, and nobody is waited for any more.
fn is_over(run: &RackPartition) -> bool {
    let has_ended = run.status.as_ref().and_then(|s| s.phase).is_some_and(Phase::is_final);
    has_ended && run.finalizers().iter().all(|finalizer| finalizer != FINALIZER)
}

/// What the operator kept: the plan that was armed, and the snapshot that it was made of.
async fn made_of(client: &Client, args: &ExportArgs, run: &RackPartition) -> anyhow::Result<(RunPlan, Snapshot)> {
    let status = run.status.clone().unwrap_or_default();
    let Some(armed) = status.plan else {
        bail!("run {} ended before there was a plan: {}", args.name, status.message.unwrap_or_default());
    };
    let maps = Api::<ConfigMap>::namespaced(client.clone(), &args.namespace);
    let name = journal_name(run);
    let map = tried(|| maps.get_opt(&name)).await;
    let map = map.with_context(|| format!("failed to read ConfigMap {name} in {}", args.namespace))?;
    let map = map.with_context(|| format!("there is no ConfigMap {name} in {}: {WHY_NOT_KEPT}", args.namespace))?;
    let plan = read_plan(&map)?;
    ensure!(plan.hash() == armed.hash, "ConfigMap {name} has not the plan that the run's status names by its hash");
    Ok((plan, read_snapshot(&map)?))
}

const WHY_NOT_KEPT: &str = "the plan was lost or could not be kept (an event NotKept of the run says so), \
    an operator of an earlier version ended the run, or the operator is in another namespace (--namespace)";

async fn records(client: &Client, args: &ExportArgs) -> anyhow::Result<Vec<NodeRecord>> {
    let records = Api::<NodeRecord>::namespaced(client.clone(), &args.agent_namespace);
    let of_run = of_run(args);
    let found = tried(|| records.list(&of_run)).await;
    Ok(found.context("failed to read the node records")?.items)
}

/// Asked several times: without an answer all the waiting was for nothing.
async fn tried<T, F: Future<Output = kube::Result<T>>>(ask: impl Fn() -> F) -> anyhow::Result<T> {
    for _ in 1..TRIES {
        if let Ok(Ok(found)) = timeout(READ_DEADLINE, ask()).await {
            return Ok(found);
        }
        sleep(PERIOD).await;
    }
    let found = timeout(READ_DEADLINE, ask()).await.context("the API does not answer")?;
    Ok(found?)
}

/// Selects everything that the run owns.
fn of_run(args: &ExportArgs) -> ListParams {
    ListParams::default().labels(&format!("{RUN_LABEL}={}", args.name))
}

/// As the operator takes records for a run's: not those of an earlier one of its name, nor of agents that only looked.
fn is_of(record: &NodeRecord, run: &RackPartition) -> bool {
    let armed = run.status.as_ref().and_then(|s| s.plan.as_ref()).map(|p| &p.hash);
    let said = record.status.as_ref().and_then(|s| s.plan_hash.as_ref());
    Some(&record.spec.run_uid) == run.uid().as_ref() && (said.is_none() || armed.is_none() || said == armed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{NodeRecordSpec, NodeRecordStatus, Observer, Plan, RackPartitionStatus};
    use crate::cli::journals::tests::journals;

    #[test]
    fn a_run_is_over_when_it_has_ended_and_the_operator_has_let_it_go() {
        let run = |phase: Phase, finalizers: &[&str]| {
            let mut run = journals().run;
            run.metadata.finalizers = Some(finalizers.iter().map(|f| (*f).to_owned()).collect());
            run.status = Some(RackPartitionStatus { phase: Some(phase), ..RackPartitionStatus::default() });
            run
        };
        for ended in [Phase::Done, Phase::Refused, Phase::Aborted] {
            assert!(is_over(&run(ended, &[])) && is_over(&run(ended, &["somebody.else/s"])), "{ended:?}");
            assert!(!is_over(&run(ended, &[FINALIZER])), "{ended:?}: the plan with its secret is still there");
        }
        assert!(!is_over(&run(Phase::Judging, &[])));
    }

    #[test]
    fn records_of_another_run_or_plan_stay_behind() {
        let mut run = journals().run;
        run.metadata.uid = Some("u1".into());
        let plan = Some(Plan { hash: "abc".into(), ..Plan::default() });
        run.status = Some(RackPartitionStatus { plan, ..RackPartitionStatus::default() });
        let of = |uid: &str, hash: Option<&str>| {
            let status = NodeRecordStatus { plan_hash: hash.map(str::to_owned), ..NodeRecordStatus::default() };
            let spec = NodeRecordSpec::new("run", uid, "n1", Observer::Agent);
            is_of(&NodeRecord { status: Some(status), ..NodeRecord::new("n1", spec) }, &run)
        };
        assert!(of("u1", Some("abc")) && of("u1", None), "the operator armed nothing");
        assert!(!of("u2", Some("abc")) && !of("u1", Some("def")));
    }
}
