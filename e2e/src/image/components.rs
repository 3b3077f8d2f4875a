//! The images of the control plane's pods, made of single static binaries and handed to the node image as one archive.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::build::{Build, recipe};
use crate::engine::Engine;
use crate::progress::step;
use crate::{assets, go, run, versions};

/// Builds all of them and saves them, under the names kubeadm asks for, to one archive in `work`.
pub async fn archive(engine: &Engine, base: &str, work: &Path) -> Result<PathBuf> {
    let k8s = versions::get("K8S")?;
    let tag = |image: &str, tag: &str| format!("registry.k8s.io/{image}:{tag}");
    let mut images = Vec::new();

    let kubernetes = go::KUBERNETES.build_all().await?;
    for component in ["kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
        let image = tag(component, &k8s);
        single(engine, work, &image, &[kubernetes.join(component)], None).await?;
        images.push(image);
    }
    let image = tag("kube-proxy", &k8s);
    let proxy = Build::new(work, "kube-proxy", &recipe("proxy")?)?;
    proxy.add(&[kubernetes.join("kube-proxy")], "bin")?;
    proxy.run(engine, &image, base).await?;
    images.push(image);

    let image = tag("etcd", &versions::get("ETCD_TAG")?);
    etcd(engine, work, &image).await?;
    images.push(image);

    let coredns = go::COREDNS.build_all().await?.join("coredns");
    let image = tag("coredns/coredns", &versions::get("COREDNS_TAG")?);
    single(engine, work, &image, &[coredns], Some("coredns")).await?;
    images.push(image);

    let pause_tag = versions::get("PAUSE_TAG")?;
    let image = tag("pause", &pause_tag);
    single(engine, work, &image, &[pause(work, &pause_tag).await?], Some("pause")).await?;
    let second = tag("pause", &versions::get("PAUSE_TAG_KUBELET")?);
    run::text(engine.docker().args(["tag", &image, &second])).await?;
    images.extend([image, second]);

    step("saving the component images");
    let archive = work.join("components.tar");
    run::text(engine.docker().args(["save", "-o"]).arg(&archive).args(&images)).await?;
    // Upstream's names for images that are not upstream's are of no more use to this engine.
    run::text(engine.docker().arg("rmi").args(&images)).await?;
    Ok(archive)
}

/// Builds the image of etcd and its tools under the name `image`.
pub async fn etcd(engine: &Engine, work: &Path, image: &str) -> Result<()> {
    let etcd = go::ETCD.build_all().await?;
    single(engine, work, image, &["etcd", "etcdctl", "etcdutl"].map(|file| etcd.join(file)), None).await
}

async fn single(engine: &Engine, work: &Path, image: &str, files: &[PathBuf], entry: Option<&str>) -> Result<()> {
    let mut text = recipe("component")?;
    if let Some(entry) = entry {
        text += &format!("ENTRYPOINT [\"/usr/local/bin/{entry}\"]\n");
    }
    let name = files[0].file_name().context("no file name")?.to_string_lossy().into_owned();
    let build = Build::new(work, &name, &text)?;
    build.add(files, "bin")?;
    build.run(engine, image, "").await
}

/// The pod sandbox's process, compiled from the C source that Kubernetes ships.
async fn pause(work: &Path, version: &str) -> Result<PathBuf> {
    let source = go::source("k8s.io/kubernetes").await?.join("build/pause/linux/pause.c");
    let folder = work.join("pause-binary");
    fs::create_dir_all(&folder)?;
    let binary = folder.join("pause");
    run::text(
        run::program("cc").args(["-Os", "-static", &format!("-DVERSION={version}"), "-o"]).arg(&binary).arg(source),
    )
    .await?;
    // Linked into the build context by its name, so it must be on the same file system.
    assets::link(&binary, work)?;
    Ok(work.join("pause"))
}
