//! etcd outside of Kubernetes: members in containers of their own, on the nodes' network.

mod certificates;
mod member;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use futures::future::{join_all, try_join_all};

use crate::cluster::Files;
use crate::engine::Engine;
use crate::image::{self, NodeImage};
use crate::progress::step;
use crate::topology::Plan;
use crate::{cache, network, run, wait};

pub use member::{CLIENT_PORT, Member, PEER_PORT, named};

/// How long new members may take to find each other and elect a leader, beside builds on the same machine.
const ELECTION: Duration = Duration::from_secs(60);

/// The members of one cluster, and what it takes to talk to them.
pub struct Etcd {
    pub members: Vec<Member>,
    /// The folder with certificates and keys, laid out as kubeadm does it below `pki`.
    pub certificates: PathBuf,
}

/// Starts the members that `plan` asks for and waits until they are healthy; none where it asks for none.
///
/// # Errors
/// When there is no image for them, no address, or no leader in time.
pub async fn start(
    engine: &Engine,
    cluster: &str,
    plan: &Plan,
    node: &NodeImage,
    files: &Files,
) -> Result<Option<Etcd>> {
    if plan.etcd.is_empty() {
        return Ok(None);
    }
    let image = image::etcd(engine, node.built).await?;
    // Held until they run: an address is taken only then.
    let lock = cache::lock("addresses").await?;
    let addresses = network::free_addresses(engine, plan.etcd.len()).await?;
    let members: Vec<_> = std::iter::zip(member::named(cluster, plan), addresses)
        .map(|((name, rack), address)| Member { name, rack, address })
        .collect();
    let racks = members.iter().map(|member| format!("{} in {}", member.name, member.rack)).collect::<Vec<_>>();
    step(format!("starting etcd outside of Kubernetes: {}", racks.join(", ")));
    let etcd = Etcd { members, certificates: files.certificates() };
    certificates::make(engine, cluster, &node.reference, &etcd).await?;
    try_join_all(etcd.members.iter().map(|member| create(engine, cluster, member, &etcd, &image))).await?;
    let names: Vec<_> = etcd.members.iter().map(|member| member.name.as_str()).collect();
    run::text(engine.docker().arg("start").args(&names)).await?;
    drop(lock);
    wait_healthy(engine, &names, ELECTION).await?;
    Ok(Some(etcd))
}

async fn create(engine: &Engine, cluster: &str, member: &Member, etcd: &Etcd, image: &str) -> Result<()> {
    let mut docker = engine.docker();
    docker.args(["create", "--label", &network::label(cluster), "--hostname", &member.name, "--name", &member.name]);
    docker.args(["--net", network::NAME, "--ip", &member.address.to_string()]);
    // As on the masters: a busy disk's fsync stalls would cost etcd its leader without any cut.
    docker.args(["--tmpfs", member::DATA]);
    docker.args(member::CLIENT_SETTINGS.iter().flat_map(|setting| ["--env", setting]));
    docker.args(["--entrypoint", "etcd", image]).args(member.arguments(cluster, &etcd.members));
    run::text(&mut docker).await?;
    let pki = etcd.certificates.join("etcd");
    let target = format!("{}:{}", member.name, member::PKI);
    run::text(engine.docker().arg("cp").arg(pki).arg(target)).await.map(drop)
}

/// Each member of `plan` with whether it is healthy by its own word: it answers, and there is a leader.
pub async fn health(engine: &Engine, cluster: &str, plan: &Plan) -> Vec<(String, bool)> {
    join_all(member::named(cluster, plan).map(async |(name, _)| {
        let healthy = ask(engine, &name).await.is_ok();
        (name, healthy)
    }))
    .await
}

/// Waits until every member of `plan` is healthy.
///
/// # Errors
/// When that takes longer than `within`.
pub async fn healthy(engine: &Engine, cluster: &str, plan: &Plan, within: Duration) -> Result<()> {
    let names: Vec<_> = member::named(cluster, plan).map(|(name, _)| name).collect();
    wait_healthy(engine, &names, within).await
}

async fn wait_healthy(engine: &Engine, names: &[impl AsRef<str>], within: Duration) -> Result<()> {
    wait::until("the external etcd is healthy", within, async || {
        for name in names {
            ask(engine, name.as_ref()).await?;
        }
        Ok(Ok(()))
    })
    .await
}

/// A linearizable read through this member, so a leader and a majority are needed.
async fn ask(engine: &Engine, name: &str) -> Result<()> {
    let mut docker = engine.docker();
    docker.args(["exec", name, "etcdctl", "endpoint", "health", "--dial-timeout=2s", "--command-timeout=3s"]);
    if let Err(error) = run::text(&mut docker).await {
        let log = engine.docker().args(["logs", "--tail", "3", name]).output().await;
        let said = log.map(|output| String::from_utf8_lossy(&output.stderr).trim().to_owned()).unwrap_or_default();
        bail!("{error:#}; its log ends: {said}");
    }
    Ok(())
}
