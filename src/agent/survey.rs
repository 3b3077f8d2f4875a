//! An agent that only looks, before there is a plan to arm: it touches nothing on its node, not even what an earlier run left.

use super::{AgentArgs, etcd, health, journal::Journal, record::Record, until_told_to_end};
use crate::{connection::Route, fault::RunPlan};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

/// Tells who leads etcd until told to end.
///
/// # Errors
/// Where one of its tasks broke.
pub async fn look(args: &AgentArgs, plan: &RunPlan, boot_id: String, route: Route) -> anyhow::Result<()> {
    let journal = Journal::new(plan.hash(), boot_id, None);
    let record = Record::new(route, &args.namespace, (&plan.run, &plan.run_uid), &args.node, journal.clone());
    let (_phases, phase) = watch::channel(None);
    let (_replies, answers) = mpsc::channel(1);
    let mut tasks = JoinSet::new();
    tasks.spawn(record.keep(phase, answers, watch::Sender::new(false)));
    tasks.spawn(etcd::watch(health::ETCD_METRICS, journal));
    until_told_to_end(&mut tasks).await
}
