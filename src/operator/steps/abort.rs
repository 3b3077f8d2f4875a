//! Abort: heal packets to every node at once; agents that can read the object do the rest.

use super::plan_of;
use crate::{
    api::{RackPartition, RackPartitionStatus},
    course::{Next, aborted},
    fault::RunPlan,
    netfilter,
    operator::context::Context,
};
use k8s_openapi::jiff::Timestamp;
use std::net::IpAddr;

/// Asked to end early. Where the plan can't be read now, the heal packets go with the winding up.
pub async fn step(run: &RackPartition, ctx: &Context, why: &str) -> Next {
    let next = aborted(run.status.clone().unwrap_or_default(), why, Timestamp::now());
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
    Some(aborted(status.clone(), format!("aborted by {why}"), Timestamp::now()))
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
    let Ok(token) = plan.heal.token_bytes() else { return };
    let port = plan.heal.port;
    let addresses: Vec<IpAddr> = plan.members.iter().flat_map(|m| m.heal_addresses.clone()).collect();
    let sent = tokio::task::spawn_blocking(move || netfilter::send_heal(&addresses, port, &token)).await;
    match sent {
        Ok(Ok(sent)) => tracing::info!(sent, run = plan.run, "sent heal packets"),
        Ok(Err(error)) => tracing::warn!(%error, run = plan.run, "failed to send heal packets"),
        Err(error) => tracing::warn!(%error, run = plan.run, "failed to send heal packets"),
    }
}
