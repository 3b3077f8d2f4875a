//! The node image: pulled where a registry answers, else built here from Go modules and Debian packages.

mod build;
mod components;
mod pull;

use anyhow::Result;

use crate::engine::Engine;
use crate::progress::step;
use crate::{cache, go, versions};

/// A node image that the engine has.
pub struct NodeImage {
    /// What to call it.
    pub reference: String,
    /// Built here: it brings no pod network and wants its own load balancer.
    pub built: bool,
}

/// Finds, pulls or builds the node image.
///
/// # Errors
/// When no registry answers and building fails.
pub async fn ensure(engine: &Engine) -> Result<NodeImage> {
    let upstream = versions::get("UPSTREAM_NODE")?;
    let own = format!("rackpartition-lab/node:{}-{}", versions::get("K8S")?, inputs()?);
    let pulled = NodeImage { reference: upstream.clone(), built: false };
    if engine.image_id(&upstream).await.is_some() {
        return Ok(pulled);
    }
    if !there(engine, &own).await? {
        let _lock = cache::lock("image").await?;
        if pull::pull(engine, &upstream).await? {
            return Ok(pulled);
        }
        if !there(engine, &own).await? {
            step("no registry answers: building the node image (once; about 12 minutes on two cores)");
            build::build(engine, &own).await?;
        }
    }
    build::tag_balancer(engine).await?;
    Ok(NodeImage { reference: own, built: true })
}

/// The image of an external etcd's members: upstream's where the node image is, else the binaries that the built node image has.
///
/// # Errors
/// When no registry answers and building fails.
pub async fn etcd(engine: &Engine, built: bool) -> Result<String> {
    let upstream = format!("registry.k8s.io/etcd:{}", versions::get("ETCD_TAG")?);
    if !built && (engine.image_id(&upstream).await.is_some() || pull::pull(engine, &upstream).await?) {
        return Ok(upstream);
    }
    let own = format!("rackpartition-lab/etcd:{}", cache::hash([go::ETCD.hash()?, build::recipe("component")?]));
    if engine.image_id(&own).await.is_none() {
        let _lock = cache::lock("image").await?;
        components::etcd(engine, &build::empty_work()?, &own).await?;
        build::empty_work()?;
    }
    Ok(own)
}

/// Whether both built images are there.
async fn there(engine: &Engine, node: &str) -> Result<bool> {
    Ok(engine.image_id(node).await.is_some() && engine.image_id(&build::balancer_name()?).await.is_some())
}

/// Stands for everything that decides what the built images are.
fn inputs() -> Result<String> {
    let mut inputs = Vec::new();
    for project in [go::KUBERNETES, go::ETCD, go::CONTAINERD, go::COREDNS, go::KIND] {
        inputs.push(project.hash()?);
    }
    for file in RECIPES {
        inputs.push(cache::read(file)?);
    }
    Ok(cache::hash(inputs))
}

/// The files of `e2e/lab` that shape the images.
const RECIPES: [&str; 6] = [
    "versions.env",
    "image/debian-packages",
    "image/balancer.Dockerfile",
    "image/component.Dockerfile",
    "image/node.Dockerfile",
    "image/proxy.Dockerfile",
];
