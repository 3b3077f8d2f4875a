//! Single upstream binaries for tests that need an API server but no cluster.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{cache, go};

/// The folder that holds `etcd` and `kube-apiserver`, built if need be.
///
/// # Errors
/// When one of them cannot be built.
pub async fn control_plane_folder() -> Result<PathBuf> {
    let etcd = go::ETCD.build(&["etcd"]).await?.join("etcd");
    let api_server = go::KUBERNETES.build(&["kube-apiserver"]).await?.join("kube-apiserver");
    let hash = cache::hash([go::ETCD.hash()?, go::KUBERNETES.hash()?]);
    let folder = cache::folder(&format!("bin/control-plane-{hash}"))?;
    for binary in [etcd, api_server] {
        link(&binary, &folder)?;
    }
    Ok(folder)
}

/// The paths of `etcd` and `kube-apiserver`, in this order, built if need be.
///
/// # Errors
/// When one of them cannot be built.
pub async fn control_plane() -> Result<(PathBuf, PathBuf)> {
    let folder = control_plane_folder().await?;
    Ok((folder.join("etcd"), folder.join("kube-apiserver")))
}

/// Puts `file` into `folder` as well, without a second copy. Another lab may do the same at this moment.
pub(crate) fn link(file: &Path, folder: &Path) -> Result<()> {
    let target = folder.join(file.file_name().context("no file name")?);
    match std::fs::hard_link(file, &target) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("failed to link {} into {}", file.display(), folder.display()))
        }
        _ => Ok(()),
    }
}
