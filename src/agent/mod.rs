//! The process on every node during a run: arms the kernel, watches from where it stands, writes down what it saw.

mod addresses;
#[cfg(any(test, fuzzing))]
mod any_answer;
#[cfg(any(test, fuzzing))]
mod any_plan;
mod canary;
mod clock;
mod containers;
mod datagrams;
mod decide;
mod error;
mod etcd;
mod etcd_answers;
mod etcd_client;
mod etcd_hash;
mod etcd_member;
mod etcd_panic;
mod firewall;
mod follow;
mod health;
mod journal;
mod kernel;
mod leader_metrics;
mod listener;
mod orders;
mod own_server;
mod owned_client;
mod probes;
mod record;
mod register;
mod register_reads;
mod rules;
mod state;
mod survey;
#[cfg(test)]
mod test_server;
mod watch;

#[cfg(fuzzing)]
pub use any_answer::read_any_answer;
#[cfg(fuzzing)]
pub use any_plan::read_any_plan;
#[cfg(fuzzing)]
pub use decide::read_any_state;
pub use decide::{Order, Times};
pub use error::Error;
pub use journal::Journal;
pub use record::record_name;
pub use rules::rules_at;

use crate::{
    api::table_name,
    connection::Route,
    fault::{RunPlan, Sample},
    netfilter::TableSpec,
    observe,
};
use anyhow::{Context, anyhow};
use clap::Args;
use firewall::OwnKernel;
use kernel::{Keeper, Setup};
use own_server::OwnServer;
use record::Record;
use state::Store;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, TryFromFloatSecsError},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch as channel},
    task::{JoinError, JoinSet},
    time::timeout,
};

/// For each of the two last things of an agent that is told to end: to look after its table, and to upload.
const FAREWELL: Duration = Duration::from_secs(2);

/// `rackpartition agent`
#[derive(Args, Clone, Debug)]
pub struct AgentArgs {
    /// The run's plan.
    #[arg(long, default_value = "/etc/rackpartition/plan.json")]
    pub plan: PathBuf,
    /// This node's name.
    #[arg(long, env = "NODE_NAME")]
    pub node: String,
    /// Where NodeRecords and canary Leases live.
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: String,
    /// A directory of the node, for what must outlive this pod.
    #[arg(long, default_value = "/var/lib/rackpartition")]
    pub state_dir: PathBuf,
    #[command(flatten)]
    pub ready: ReadyArgs,
    /// The container runtime's socket; empty: containers are not read.
    #[arg(long, env = "RUNTIME_SOCKET", default_value = "")]
    pub runtime_socket: String,
    /// A folder with the certificate and key for etcd's client port, by kubeadm's names; empty: etcd is read by its metrics only.
    #[arg(long, env = "ETCD_CERTIFICATES", default_value = "")]
    pub etcd_certificates: String,
    /// The folder with the logs of this node's pods; empty: none is read.
    #[arg(long, env = "POD_LOGS", default_value = "")]
    pub pod_logs: String,
    /// Ask the controller manager and the scheduler on this node by their metrics whether they lead.
    #[arg(long, env = "LEADER_METRICS", default_value_t = false, action = clap::ArgAction::Set)]
    pub leader_metrics: bool,
}

/// `rackpartition agent-ready`
#[derive(Args, Clone, Debug)]
pub struct ReadyArgs {
    /// Exists while this node is armed.
    #[arg(long, default_value = "/run/rackpartition/ready")]
    pub ready_file: PathBuf,
}

/// For the readiness probe: succeeds while this node's table is there.
pub fn is_ready(args: &ReadyArgs) -> ExitCode {
    if args.ready_file.exists() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Takes part in the run of the plan until told to end. A table with windows stays then: the kernel carries the plan, and a
/// pod that is restarted must not heal its node. One that is only armed goes.
///
/// # Errors
/// Where the plan can't be read or is another node's, or one of the tasks broke. A node that can't be armed is no error: it
/// says so in its NodeRecord and observes.
pub async fn run(args: AgentArgs) -> anyhow::Result<()> {
    let (plan, boot_id) = begin(&args)?;
    let route = Route::in_cluster(&plan.api_servers).map_err(Error::Route)?;
    route.prefer(&plan.writable);

    if plan.survey {
        return survey::look(&args, &plan, boot_id, route).await;
    }

    let (store, journal) = resume(&args, &plan, &boot_id);
    let setup = setup(&plan, &args.node, boot_id, args.ready.ready_file.clone())?;
    let (phases, phase) = channel::channel(None);
    let (order, orders) = channel::channel(Default::default());
    let (stop, stopped) = channel::channel(false);

    let mut tasks = JoinSet::new();
    tasks.spawn(exchange_datagrams(plan.clone(), args.node.clone(), journal.clone(), orders.clone()));
    if let Some(member) = etcd_member::Member::of(&args, &plan) {
        tasks.spawn(etcd_member::watch(member, orders.clone(), journal.clone()));
    }
    let keeper = Keeper::new(OwnKernel::default(), setup, store.clone(), journal.clone(), phases);
    tasks.spawn(keeper.run(orders, stopped));
    tasks.spawn(addresses::watch(plan.clone(), args.node.clone(), journal.clone()));
    let record = Record::new(route.clone(), &args.namespace, (&plan.run, &plan.run_uid), &args.node, journal.clone());
    // As many as three answers may arrive while an upload is under way.
    let (replies, answers) = mpsc::channel(8);
    let (is_there, there) = channel::channel(false);
    tasks.spawn(record.clone().keep(phase, answers, is_there));
    tasks.spawn(record.clone().follow_replies(replies));
    tasks.spawn({
        let (client, run, uid) = (route.client(), plan.run.clone(), plan.run_uid.clone());
        async move { orders::follow_run(client, &run, &uid, there, order).await }
    });
    observe_all(&mut tasks, &args, &plan, &route, &journal);
    tasks.spawn({
        let (store, journal) = (store.clone(), journal.clone());
        async move { journal.keep(store).await }
    });

    until_told_to_end(&mut tasks).await?;
    // Resolves when nobody keeps the table any more.
    stop.send_replace(true);
    if timeout(FAREWELL, stop.closed()).await.is_err() {
        tracing::warn!("the table was not looked after in time");
    }
    tasks.shutdown().await;
    // What the disk refuses is still uploaded.
    if let Err(error) = store.write_journal(&journal.status()) {
        tracing::warn!(%error, "the journal is behind");
    }
    if !matches!(timeout(FAREWELL, record.upload(&mut true)).await, Ok(Ok(()))) {
        tracing::warn!("the record is behind the journal");
    }
    Ok(())
}

/// Of [`run`] what concerns this node's kernel and its disk, by the orders of whoever calls this: without the API, nothing is
/// observed and nothing recorded. The tests in network namespaces hold and kill it. Returns once `stop` is changed.
///
/// # Errors
/// Where the plan can't be read or is another node's.
pub async fn carry_out(
    args: &AgentArgs,
    orders: channel::Receiver<Order>,
    stop: channel::Receiver<bool>,
) -> anyhow::Result<()> {
    let (plan, boot_id) = begin(args)?;
    let (store, journal) = resume(args, &plan, &boot_id);
    let setup = setup(&plan, &args.node, boot_id, args.ready.ready_file.clone())?;
    let (phases, _phase) = channel::channel(None);
    Keeper::new(OwnKernel::default(), setup, store, journal, phases).run(orders, stop).await;
    Ok(())
}

/// The plan, and the boot that this is.
fn begin(args: &AgentArgs) -> Result<(RunPlan, String), Error> {
    // Another process of this pod may have left it.
    let _ = std::fs::remove_file(&args.ready.ready_file);
    let plan = read_plan(&args.plan, &args.node)?;
    Ok((plan, observe::boot_id().map_err(Error::BootId)?))
}

/// What this node's disk has of the run, and the journal that goes on from there.
fn resume(args: &AgentArgs, plan: &RunPlan, boot_id: &str) -> (Store, Journal) {
    let store = Store::open(&args.state_dir, &plan.run_uid);
    let journal = Journal::new(plan.hash(), boot_id.into(), store.journal());
    (store, journal)
}

/// # Errors
/// Where one of the tasks ends.
async fn until_told_to_end(tasks: &mut JoinSet<()>) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        Some(ended) = tasks.join_next() => return Err(broken(ended)),
    }
    Ok(())
}

/// None of them ends unless it panics, and half an agent is worse than one that is started anew.
fn broken(ended: Result<(), JoinError>) -> anyhow::Error {
    const WHAT: &str = "failed to keep a task of the agent going";
    match ended {
        Ok(()) => anyhow!("{WHAT}: it returned"),
        Err(error) => anyhow::Error::new(error).context(WHAT),
    }
}

fn read_plan(path: &Path, node: &str) -> Result<RunPlan, Error> {
    let json = std::fs::read(path).map_err(|source| Error::ReadPlan { path: path.into(), source })?;
    let plan: RunPlan =
        serde_json::from_slice(&json).map_err(|source| Error::ParsePlan { path: path.into(), source })?;
    if !plan.agents().contains(node) {
        return Err(Error::NotInPlan { node: node.into() });
    }
    Ok(plan)
}

/// What this node's part in a plan is.
fn setup(plan: &RunPlan, node: &str, boot_id: String, ready_file: PathBuf) -> anyhow::Result<Setup> {
    let windows = plan.windows_at(node, plan.duration_seconds).into_iter();
    let windows = windows
        .map(|(from, to)| Ok((Duration::try_from_secs_f64(from)?, Duration::try_from_secs_f64(to)?)))
        .collect::<Result<Vec<_>, TryFromFloatSecsError>>();
    // What nobody answers for may wait for room (`netfilter::send_heal`), and this node's own packet is not to wait behind it.
    let (own, others): (Vec<_>, Vec<_>) = plan.members.iter().partition(|member| member.name == node);
    Ok(Setup {
        spec: TableSpec {
            name: table_name(&plan.run_uid),
            rules: rules_at(plan, node),
            heal_port: plan.heal.port,
            heal_token: plan.heal.token_bytes().map_err(Error::Token)?,
        },
        longest: Duration::try_from_secs_f64(plan.longest_seconds)
            .context("failed to read longestSeconds of the plan")?,
        duration: Duration::try_from_secs_f64(plan.duration_seconds)
            .context("failed to read durationSeconds of the plan")?,
        windows: windows.context("failed to read the windows of the plan")?,
        heal_addresses: own.into_iter().chain(others).flat_map(|m| m.heal_addresses.iter().copied()).collect(),
        boot_id,
        ready_file,
    })
}

/// Sends this node's datagrams to other agents' nodes, and writes down what its own kernel counts of theirs. Never returns.
pub async fn exchange_datagrams(plan: RunPlan, node: String, journal: Journal, orders: channel::Receiver<Order>) {
    // Tasks of their own: a kernel that is slow to answer the one must not silence the other.
    let mut tasks = JoinSet::new();
    tasks.spawn(datagrams::send_all(plan.clone(), node.clone(), orders.clone()));
    tasks.spawn(watch::watch_all(plan, node, journal, orders));
    tasks.join_all().await;
}

fn observe_all(tasks: &mut JoinSet<()>, args: &AgentArgs, plan: &RunPlan, route: &Route, journal: &Journal) {
    let own_server = plan.api_servers.iter().find(|server| server.name == args.node).cloned();
    let targets: Vec<_> = Sample::new(plan).targets_of(&args.node).into_iter().cloned().collect();
    if !targets.is_empty() {
        tasks.spawn(probes::probe_all(targets, journal.clone()));
    }
    tasks.spawn(health::watch_all(own_server.as_ref().map(|s| s.address), journal.clone()));
    tasks.spawn(etcd::watch(health::ETCD_METRICS, journal.clone()));
    if !args.pod_logs.is_empty() {
        tasks.spawn(etcd_panic::watch(args.pod_logs.clone().into(), journal.clone()));
    }
    if !args.runtime_socket.is_empty() {
        let (socket, journal) = (args.runtime_socket.clone(), journal.clone());
        tasks.spawn(async move { containers::watch(&socket, journal).await });
    }
    if let Some(server) = own_server {
        if args.leader_metrics {
            tasks.spawn(leader_metrics::watch_all(journal.clone()));
        }
        let own = OwnServer {
            server,
            namespace: args.namespace.clone(),
            node: args.node.clone(),
            run: plan.run.clone(),
            run_uid: plan.run_uid.clone(),
        };
        if let Some(whose) = plan.register_to_read() {
            for way in register_reads::Way::ALL {
                let (own, whose) = (own.clone(), whose.to_owned());
                tasks.spawn(register_reads::read_on(own, whose, way, route.clone(), journal.clone()));
            }
        }
        tasks.spawn(register::keep(own.clone(), route.clone(), journal.clone()));
        tasks.spawn(canary::sing(own, route.clone(), journal.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let args = ReadyArgs { ready_file: dir.path().join("ready") };
        assert_eq!(is_ready(&args), ExitCode::FAILURE);
        std::fs::write(&args.ready_file, "").unwrap();
        assert_eq!(is_ready(&args), ExitCode::SUCCESS);
    }

    /// As one that panicked.
    #[tokio::test]
    async fn a_task_that_returns_is_no_word_to_end() {
        let error = broken(tokio::spawn(async {}).await);
        assert!(error.to_string().contains("it returned"), "{error}");
    }

    #[test]
    fn this_nodes_own_heal_packets_leave_first() {
        let member = |name: &str, host: u8| {
            let addresses = [format!("198.18.0.{host}")];
            serde_json::json!({"name": name, "hasAgent": true, "cidrs": [], "healAddresses": addresses})
        };
        let plan = serde_json::json!({
            "run": "r", "runUid": "u", "members": [member("w1", 1), member("w2", 2), member("w3", 3)], "edges": [],
            "heal": {"port": 1, "token": "00"}, "durationSeconds": 1.0, "longestSeconds": 1.0, "probes": [],
            "apiServers": [], "writable": [],
        });
        let plan: RunPlan = serde_json::from_value(plan).unwrap();
        let setup = setup(&plan, "w2", "b1".into(), PathBuf::new()).unwrap();
        let hosts: Vec<_> = setup.heal_addresses.iter().map(ToString::to_string).collect();
        assert_eq!(hosts, ["198.18.0.2", "198.18.0.1", "198.18.0.3"]);
    }

    #[test]
    fn a_plan_without_this_node_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plan.json");
        assert!(matches!(read_plan(&path, "w1"), Err(Error::ReadPlan { .. })));
        std::fs::write(&path, "{}").unwrap();
        assert!(matches!(read_plan(&path, "w1"), Err(Error::ParsePlan { .. })));
        let plan = serde_json::json!({
            "run": "r", "runUid": "u", "members": [], "edges": [], "heal": {"port": 1, "token": "00"},
            "durationSeconds": 1.0, "longestSeconds": 1.0, "probes": [], "apiServers": [], "writable": [],
        });
        std::fs::write(&path, plan.to_string()).unwrap();
        assert!(matches!(read_plan(&path, "w1"), Err(Error::NotInPlan { .. })));
    }
}
