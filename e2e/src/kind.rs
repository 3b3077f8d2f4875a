//! Calling kind, and seeing what it left behind.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use crate::engine::Engine;
use crate::image::NodeImage;
use crate::progress::step;
use crate::{cache, run, tools};

/// The network on which kind puts its nodes.
const NETWORK: &str = "kind";

/// Creates the nodes' network, so that its addresses are the lab's choice and not the engine's.
pub async fn network(engine: &Engine) -> Result<()> {
    if run::text(engine.docker().args(["network", "inspect", NETWORK])).await.is_ok() {
        return Ok(());
    }
    step(format!("creating the network {NETWORK}: 198.18.0.0/16, fd00:198:18::/64"));
    let mut docker = engine.docker();
    docker.args(["network", "create", "-d", "bridge", "--subnet", "198.18.0.0/16", "--ipv6", "--subnet"]);
    run::text(docker.args(["fd00:198:18::/64", NETWORK])).await.map(drop)
}

/// Removes the nodes' network, unless another cluster is on it.
pub async fn remove_network(engine: &Engine) {
    if let Err(error) = run::text(engine.docker().args(["network", "rm", NETWORK])).await {
        step(format!("left the network {NETWORK}: {error:#}"));
    }
}

/// The cluster's containers, load balancer included: name → (id, running).
pub async fn containers(engine: &Engine, cluster: &str) -> Result<BTreeMap<String, (String, bool)>> {
    let filter = format!("label=io.x-k8s.kind.cluster={cluster}");
    let format = "{{.Names}} {{.ID}} {{.State}}";
    let mut docker = engine.docker();
    let list = run::text(docker.args(["ps", "-a", "--no-trunc", "--filter", &filter, "--format", format])).await?;
    let containers = list.lines().filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.next()?.to_owned(), (words.next()?.to_owned(), words.next()? == "running")))
    });
    Ok(containers.collect())
}

/// Removes every container of the cluster. kind itself is not asked: it would want the user's kubeconfig.
pub async fn delete(engine: &Engine, cluster: &str) -> Result<()> {
    // A killed `kind create` may have asked for one more container just before its end.
    loop {
        let left = containers(engine, cluster).await?;
        if left.is_empty() {
            return Ok(());
        }
        run::text(engine.docker().args(["rm", "-fv"]).args(left.keys())).await?;
    }
}

/// Creates the cluster.
pub async fn create(engine: &Engine, name: &str, image: &NodeImage, config: &Path, kubeconfig: &Path) -> Result<()> {
    let kind = tools::kind(image.built).await?;
    step(format!("kind creates {name} from {}", image.reference));
    let mut kind = engine.set_up(run::tied(kind));
    kind.args(["create", "cluster", "--name", name, "--image", &image.reference, "--config"]);
    kind.arg(config).arg("--kubeconfig").arg(kubeconfig);
    run::logged(&mut kind, &cache::folder("log")?.join(format!("kind-{name}.log"))).await
}

/// Copies a local image to every node.
pub async fn load(engine: &Engine, name: &str, image: &str) -> Result<()> {
    let kind = tools::kind(false).await?;
    let mut kind = engine.set_up(run::program(kind));
    run::text(kind.args(["load", "docker-image", image, "--name", name])).await.map(drop)
}
