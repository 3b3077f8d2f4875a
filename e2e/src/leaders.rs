//! Moving the leadership of controller manager and scheduler into one rack, so that a run starts from a known state.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::future::try_join_all;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};

use crate::lab::{Lab, Node};
use crate::progress::step;
use crate::{health, wait};

/// The components that elect a leader; each has a Lease, a static pod and a manifest of this name.
pub const COMPONENTS: [&str; 2] = ["kube-controller-manager", "kube-scheduler"];

/// Longest takeover: upstream's lease of 15 s, its retry period, a slow kubelet and a slow start.
const TAKEOVER: Duration = Duration::from_secs(90);

const MANIFESTS: &str = "/etc/kubernetes/manifests";

/// Where manifests wait meanwhile; on the node, so that a later lab finds what a killed one took away.
const PARKED: &str = "/etc/kubernetes/parked";

/// The node whose process holds the Lease: its identity is `<node>_<uuid>`.
///
/// # Errors
/// When the Lease cannot be read.
pub async fn holder(client: &Client, component: &str) -> Result<Option<String>> {
    let leases = Api::<Lease>::namespaced(client.clone(), "kube-system");
    let lease = leases.get_opt(component).await.with_context(|| format!("failed to get the Lease of {component}"))?;
    let identity = lease.and_then(|lease| lease.spec).and_then(|spec| spec.holder_identity);
    Ok(identity.filter(|identity| !identity.is_empty()).map(|identity| match identity.rsplit_once('_') {
        Some((node, _)) => node.to_owned(),
        None => identity,
    }))
}

/// Makes the leaders of all components run in `rack`.
///
/// # Errors
/// When the rack has no control-plane node, or the components there do not take over in time.
pub async fn gather(lab: &Lab, rack: &str) -> Result<()> {
    let (inside, outside): (Vec<_>, Vec<_>) =
        lab.nodes().iter().filter(|node| node.control_plane).partition(|node| node.rack == rack);
    if inside.is_empty() {
        let racks: Vec<_> = outside.iter().map(|node| node.rack.as_str()).collect();
        bail!("rack {rack} has no control-plane node; these racks have one: {}", racks.join(", "));
    }
    let client = lab.client().await?;
    let is_inside = |holder: &Option<String>| inside.iter().any(|node| Some(&node.name) == holder.as_ref());

    restore(lab).await?;
    let mut astray = Vec::new();
    for component in COMPONENTS {
        let holder = holder(&client, component).await?;
        if !is_inside(&holder) {
            step(format!("{component} leads from {}: moving it to {rack}", holder.unwrap_or_default()));
            astray.push(component);
        }
    }
    // Without a rival outside the rack, the next to lead can only be inside.
    let result = async {
        try_join_all(outside.iter().map(|node| park(lab, node, &astray))).await?;
        for component in &astray {
            wait::until(&format!("{component} leads from {rack}"), TAKEOVER, async || {
                let holder = holder(&client, component).await?;
                let rivals = health::present_pods(&client, component).await?;
                if is_inside(&holder) && rivals.iter().all(|rival| inside.iter().any(|node| node.name == *rival)) {
                    return Ok(Ok(()));
                }
                Ok(Err(format!("leader {}, running on {}", holder.unwrap_or_default(), rivals.join(", "))))
            })
            .await?;
        }
        anyhow::Ok(())
    }
    .await;
    // Also after a failure: a lab must not be left with parts missing.
    restore(lab).await.and(result)?;
    if !astray.is_empty() {
        step("waiting for every component to be healthy again");
    }
    health::system_ready(&client, &lab.options().topology.plan(), TAKEOVER).await?;
    for component in COMPONENTS {
        let holder = holder(&client, component).await?;
        if !is_inside(&holder) {
            bail!("{component} has moved on to {}: try again", holder.unwrap_or_default());
        }
    }
    Ok(())
}

async fn park(lab: &Lab, node: &Node, components: &[&str]) -> Result<()> {
    let moves = components.iter().map(|component| format!("mv {MANIFESTS}/{component}.yaml {PARKED}/"));
    let script = std::iter::once(format!("mkdir -p {PARKED}")).chain(moves).collect::<Vec<_>>().join(" && ");
    lab.exec(&node.name, &["sh", "-c", &script]).await.map(drop)
}

/// Puts every parked manifest back.
///
/// # Errors
/// When a node cannot be reached through the engine.
pub async fn restore(lab: &Lab) -> Result<()> {
    let script = format!("for f in {PARKED}/*.yaml; do [ ! -e \"$f\" ] || mv \"$f\" {MANIFESTS}/; done");
    let control_planes = lab.nodes().iter().filter(|node| node.control_plane);
    let command = ["sh", "-c", script.as_str()];
    try_join_all(control_planes.map(|node| lab.exec(&node.name, &command))).await.map(drop)
}
