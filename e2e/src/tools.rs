//! kind, kubectl and helm: from PATH when there, else built.

use std::path::PathBuf;

use anyhow::Result;

use crate::{go, run, versions};

/// The paths of the command-line tools.
pub struct Tools {
    pub kind: PathBuf,
    pub kubectl: PathBuf,
    pub helm: PathBuf,
}

/// Finds or builds all three.
///
/// # Errors
/// When one is not in PATH and cannot be built.
pub async fn ensure() -> Result<Tools> {
    Ok(Tools { kind: kind(false).await?, kubectl: kubectl().await?, helm: helm().await? })
}

/// kind; with `pinned`, only the version that fits the images built here (later ones want another load balancer).
///
/// # Errors
/// When it has to be built and cannot be.
pub async fn kind(pinned: bool) -> Result<PathBuf> {
    if let Some(path) = run::find("kind") {
        let wanted = versions::required("sigs.k8s.io/kind")?;
        if !pinned || run::text(run::program(&path).arg("version")).await?.contains(&wanted) {
            return Ok(path);
        }
    }
    Ok(go::KIND.build(&["kind"]).await?.join("kind"))
}

/// kubectl.
///
/// # Errors
/// When it has to be built and cannot be.
pub async fn kubectl() -> Result<PathBuf> {
    match run::find("kubectl") {
        Some(path) => Ok(path),
        None => Ok(go::KUBERNETES.build(&["kubectl"]).await?.join("kubectl")),
    }
}

/// helm.
///
/// # Errors
/// When it has to be built and cannot be.
pub async fn helm() -> Result<PathBuf> {
    match run::find("helm") {
        Some(path) => Ok(path),
        None => Ok(go::HELM.build(&["helm"]).await?.join("helm")),
    }
}
