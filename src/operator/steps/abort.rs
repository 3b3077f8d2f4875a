//! Abort: heal packets to every node at once; agents that can read the object do the rest.

use super::plan_of;
use crate::{
    api::{RackPartition, RackPartitionStatus},
    course::{Next, aborted},
    fault::RunPlan,
    netfilter,
    operator::{context::Context, steady},
};
use std::{collections::BTreeSet, io, net::IpAddr, sync::Mutex};
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
    if let Err(error) = begin_to_send(plan, |_| true, tell).await {
        tracing::warn!(%error, run = plan.run, "failed to send heal packets");
    }
}

/// Sends the same to single nodes, after the cut: the others have said that they drop nothing any more. Nobody waits until it is sent, so
/// that the run goes on at its pace.
#[derive(Default)]
pub struct Reminder(Mutex<Option<JoinHandle<()>>>);

impl Reminder {
    /// Unless there are none, or those of the last time are still being sent.
    pub fn remind(&self, plan: &RunPlan, nodes: &BTreeSet<&str>) {
        if !nodes.is_empty() {
            self.begin(|| begin_to_send(plan, |node| nodes.contains(node), tell_quietly));
        }
    }

    /// Whether it was begun: should sending take long, those that pile up would be in the way of an abort's.
    fn begin(&self, send: impl FnOnce() -> JoinHandle<()>) -> bool {
        let mut sending = self.0.lock().expect("no holder panics");
        let is_free = sending.as_ref().is_none_or(JoinHandle::is_finished);
        if is_free {
            *sending = Some(send());
        }
        is_free
    }
}

fn begin_to_send(plan: &RunPlan, is_told: impl Fn(&str) -> bool, tell: fn(&str, io::Result<usize>)) -> JoinHandle<()> {
    let (token, port, run) = (plan.heal.token_bytes(), plan.heal.port, plan.run.clone());
    let members = plan.members.iter().filter(|m| is_told(&m.name));
    let addresses: Vec<IpAddr> = members.flat_map(|m| m.heal_addresses.clone()).collect();
    spawn_blocking(move || {
        if let Ok(token) = token {
            tell(&run, netfilter::send_heal(&addresses, port, &token));
        }
    })
}

fn tell(run: &str, sent: io::Result<usize>) {
    match sent {
        Ok(sent) => tracing::info!(sent, run, "sent heal packets"),
        Err(error) => tracing::warn!(%error, run, "failed to send heal packets"),
    }
}

/// Once a second for minutes, where a node is gone for good.
fn tell_quietly(run: &str, sent: io::Result<usize>) {
    tracing::debug!(?sent, run, "sent heal packets again");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc, time::Duration};
    use tokio::time::sleep;

    #[tokio::test]
    async fn a_reminder_is_not_sent_while_the_last_one_is() {
        let (reminder, (end, ended)) = (Reminder::default(), mpsc::channel::<()>());
        let sends = || {
            spawn_blocking(move || {
                // Until the other end is gone.
                let _ = ended.recv();
            })
        };
        assert!(reminder.begin(sends));
        assert!(!reminder.begin(|| spawn_blocking(|| ())));
        drop(end);
        while !reminder.begin(|| spawn_blocking(|| ())) {
            sleep(Duration::from_millis(1)).await;
        }
    }
}
