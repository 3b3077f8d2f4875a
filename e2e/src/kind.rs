//! Calling kind, and seeing what it left behind.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use crate::engine::Engine;
use crate::image::NodeImage;
use crate::progress::step;
use crate::{cache, network, run, tools};

/// kind's label of the containers that it made for a cluster.
const LABEL: &str = "io.x-k8s.kind.cluster";

/// The cluster's containers, load balancer and external etcd included: name → (id, running).
pub async fn containers(engine: &Engine, cluster: &str) -> Result<BTreeMap<String, (String, bool)>> {
    let mut containers = BTreeMap::new();
    // Asked one by one: docker takes two filters for "and".
    for label in [LABEL, network::LABEL] {
        let filter = format!("label={label}={cluster}");
        let format = "{{.Names}} {{.ID}} {{.State}}";
        let mut docker = engine.docker();
        let list = run::text(docker.args(["ps", "-a", "--no-trunc", "--filter", &filter, "--format", format])).await?;
        containers.extend(list.lines().filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?.to_owned(), (words.next()?.to_owned(), words.next()? == "running")))
        }));
    }
    Ok(containers)
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
