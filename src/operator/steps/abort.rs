//! Abort: heal packets to every node at once; agents that can read the object do the rest.

use super::plan_of;
use crate::{
    api::{RackPartition, RackPartitionStatus},
    course::{Next, aborted},
    fault::RunPlan,
    netfilter,
    operator::{context::Context, steady},
};
use std::{collections::BTreeSet, net::IpAddr};
use tokio::task::{JoinHandle, spawn_blocking};

/// Asked to end early. Where the plan can't be read now, the heal packets go with the winding up.
pub async fn step(run: &RackPartition, ctx: &Context, why: &str) -> Next {
    let status = run.status.clone().unwrap_or_default();
    let now = steady::now(status.schedule.as_ref());
    let next = aborted(status, why, now);
    let plan = if next.heal { plan_of(run, ctx).await.ok() } else { None };
    match plan {
        Some(plan) => told(&plan, next).await,
        None => next,
    }
}

/// What follows where `spec.abortWhen` is met: `at_once`, or for long enough.
pub fn when(ctx: &Context, plan: &RunPlan, status: &RackPartitionStatus, at_once: bool) -> Option<Next> {
    let alarms = ctx.observers.alarms(&plan.run_uid)?;
    let why = if at_once { alarms.rings } else { alarms.ends }?;
    Some(aborted(status.clone(), format!("aborted by {why}"), steady::now(status.schedule.as_ref())))
}

/// What follows, after every node was told where it has to be.
pub async fn told(plan: &RunPlan, next: Next) -> Next {
    if next.heal {
        send_heal_packets(plan).await;
    }
    next
}

/// One datagram to every address of every node: both ends of a link drop, so both must be told.
pub async fn send_heal_packets(plan: &RunPlan) {
    if let Err(error) = begin_to_send(plan, |_| true).await {
        tracing::warn!(%error, run = plan.run, "failed to send heal packets");
    }
}

/// The same to these nodes alone, after the cut: the others have said that they drop nothing any more. Nobody waits until it is sent, so
/// that the run goes on at its pace.
pub fn remind(plan: &RunPlan, nodes: &BTreeSet<&str>) {
    if !nodes.is_empty() {
        drop(begin_to_send(plan, |node| nodes.contains(node)));
    }
}

fn begin_to_send(plan: &RunPlan, is_told: impl Fn(&str) -> bool) -> JoinHandle<()> {
    let (token, port, run) = (plan.heal.token_bytes(), plan.heal.port, plan.run.clone());
    let members = plan.members.iter().filter(|m| is_told(&m.name));
    let addresses: Vec<IpAddr> = members.flat_map(|m| m.heal_addresses.clone()).collect();
    spawn_blocking(move || {
        let Ok(token) = token else { return };
        match netfilter::send_heal(&addresses, port, &token) {
            Ok(sent) => tracing::info!(sent, run, "sent heal packets"),
            Err(error) => tracing::warn!(%error, run, "failed to send heal packets"),
        }
    })
}
