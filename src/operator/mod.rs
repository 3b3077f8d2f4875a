//! Reconciles `RackPartition`s as steps: gather → plan → arm → cut → watch → recover → judge → status.

mod addresses;
mod alarms;
#[cfg(any(test, fuzzing))]
mod any_object;
mod canary;
mod clocks;
mod cni;
mod context;
mod controller;
mod convergence;
mod election;
mod endpoints;
mod etcd;
mod events;
mod flags;
mod gather;
mod heal_path;
mod leases;
mod locks;
mod metrics;
mod objects;
mod observer;
mod refusals;
mod register;
mod settings;
mod steady;
mod steps;

#[cfg(fuzzing)]
pub use any_object::read_any_object;
pub use election::{Election, Ended};
pub use gather::gather;
pub use objects::{journal_name, read_plan, read_snapshot};
pub use settings::{AgentSettings, PolicySettings, Settings};

use crate::{
    api::{Phase, RackPartition, Side},
    connection::Route,
};
use context::Context;
use kube::{Api, ResourceExt, api::ListParams};
use std::{sync::Arc, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};

/// Runs one replica until SIGTERM or SIGINT.
///
/// # Errors
/// Where there is no service account, or signals can't be handled.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let route = Route::in_cluster(&[])?;
    serve(settings, route).await
}

/// The same over a given route, for whoever is not in a pod.
///
/// # Errors
/// Where signals can't be handled.
pub async fn serve(settings: Settings, route: Route) -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let stop = async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    };
    serve_until(settings, route, stop).await;
    Ok(())
}

/// The same until `stop` resolves.
pub async fn serve_until(settings: Settings, route: Route, stop: impl Future<Output = ()>) {
    let ctx = Arc::new(Context::new(settings, route));
    tokio::select! {
        () = campaign(ctx.clone()) => {}
        () = metrics::serve(ctx.metrics.clone(), ctx.settings.metrics_port) => {}
        () = end_kept(&ctx) => {}
        () = stop => {}
    }
    ctx.observers.end_all();
    // Whoever waits for the Lease need not wait for it to run out.
    let mut election = Election::new(ctx.client.clone(), &ctx.settings.namespace, &ctx.settings.pod);
    election.give_up().await;
}

/// Leads whenever it may, for ever.
async fn campaign(ctx: Arc<Context>) {
    dial_by_address(&ctx).await;
    let mut election = Election::new(ctx.client.clone(), &ctx.settings.namespace, &ctx.settings.pod);
    loop {
        election.win(|| stands_aside(&ctx)).await;
        // Control-plane nodes come and go; what was found at the start may be gone.
        dial_by_address(&ctx).await;
        tracing::info!(pod = ctx.settings.pod, node = ctx.settings.node, "leads");
        steady::begin_term();
        ctx.metrics.set_leads(true);
        ctx.hand_over.send_replace(false);
        let mut hand_over = ctx.hand_over.subscribe();
        let release = async {
            // The sender lives in the context.
            let _ = hand_over.wait_for(|wanted| *wanted).await;
        };
        let ended = tokio::select! {
            ended = election.hold(release) => ended,
            () = controller::run(ctx.clone()) => Ended::Lost,
            () = clocks::answer(ctx.client.clone(), ctx.settings.agent.agent_namespace.clone()) => Ended::Lost,
        };
        ctx.metrics.set_leads(false);
        ctx.observers.keep_alarms();
        tracing::info!(?ended, "leads no more");
    }
}

/// Ends the alarms that were kept when their cuts are over. Never returns.
async fn end_kept(ctx: &Context) {
    loop {
        sleep(Duration::from_secs(1)).await;
        ctx.observers.end_kept();
    }
}

/// Leaves the Service's address behind: it may end in any rack, and nobody could tell in which.
async fn dial_by_address(ctx: &Context) {
    loop {
        match gather::find_api_servers(&ctx.client).await {
            Ok(servers) if !servers.is_empty() => {
                tracing::info!(?servers, "dials API servers by address");
                return ctx.route.know_servers(servers);
            }
            Ok(_) => tracing::warn!("the kubernetes Service has no endpoints"),
            Err(error) => tracing::warn!(%error, "failed to find the API servers"),
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Whether a run is about to cut this replica, or has cut it, off from the writable side.
async fn stands_aside(ctx: &Context) -> bool {
    let runs: Api<RackPartition> = ctx.runs();
    let Ok(runs) = runs.list(&ListParams::default()).await else { return true };
    runs.iter().any(|run| {
        let Some(status) = &run.status else { return false };
        // Before the cut, an end can be seen to from anywhere.
        let ends = run.spec.abort || run.metadata.deletion_timestamp.is_some();
        let going = match status.phase {
            Some(Phase::Planned | Phase::Arming) => !ends,
            phase => matches!(phase, Some(Phase::Scheduled | Phase::Cut)),
        };
        let Some(plan) = status.plan.as_ref().filter(|_| going) else { return false };
        let best = Side::most_writable(&plan.sides);
        let is_here = |s: &Side| s.nodes.contains(&ctx.settings.node);
        let aside = !best.is_empty() && plan.sides.iter().any(is_here) && !best.into_iter().any(is_here);
        if aside {
            tracing::info!(run = run.name_any(), "stands aside: this node is about to be cut off");
        }
        aside
    })
}
