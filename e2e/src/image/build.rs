//! Building the node image and kind's load balancer without pulling anything.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::components;
use crate::engine::Engine;
use crate::progress::step;
use crate::{assets, cache, go, host, run, versions, wait};

/// The container in which the node image gets its images; one that a killed lab left is removed by this name.
const IMPORTER: &str = "rackpartition-lab-importer";

/// Debian 12, because its systemd (252) still boots on hosts with cgroup v1.
const SUITE: &str = "bookworm";

/// A Dockerfile of `lab/image`.
pub fn recipe(name: &str) -> Result<String> {
    cache::read(format!("image/{name}.Dockerfile"))
}

/// One `docker build` with its context folder.
pub struct Build(PathBuf);

impl Build {
    /// An empty context with `recipe` as its Dockerfile.
    pub fn new(work: &Path, name: &str, recipe: &str) -> Result<Build> {
        let folder = work.join("context").join(name);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("Dockerfile"), recipe)?;
        Ok(Build(folder))
    }

    /// Adds files under `folder` of the context.
    pub fn add(&self, files: &[PathBuf], folder: &str) -> Result<()> {
        let folder = self.0.join(folder);
        fs::create_dir_all(&folder)?;
        files.iter().try_for_each(|file| assets::link(file, &folder))
    }

    /// Builds `image` on `base`.
    pub async fn run(&self, engine: &Engine, image: &str, base: &str) -> Result<()> {
        step(format!("building {image}"));
        let mut docker = engine.set_up(run::tied("docker"));
        docker.args(["build", "--build-arg", &format!("BASE={base}"), "-t", image]).arg(&self.0);
        let name = self.0.file_name().unwrap_or_default().to_string_lossy().into_owned();
        run::logged(&mut docker, &cache::folder("log")?.join(format!("image-{name}.log"))).await
    }
}

/// Builds the node image under the name `node`, and the load balancer.
pub async fn build(engine: &Engine, node: &str) -> Result<()> {
    host::ensure(&[("mmdebstrap", "mmdebstrap"), ("cc", "gcc")], "building a node image").await?;
    let work = empty_work()?;

    let base = debian(engine, &work).await?;
    let archive = components::archive(engine, &base, &work).await?;
    let kind = go::source("sigs.k8s.io/kind").await?;
    balancer(engine, &work, &base, &kind).await?;
    let raw = format!("{node}-raw");
    node_without_images(engine, &work, &base, &kind, &raw).await?;
    import(engine, &raw, &archive, node).await?;
    fs::remove_dir_all(&work).context("failed to clear the work folder")
}

/// The folder for what is only needed while an image is built. Only one lab builds at a time (the image lock), so what is there was
/// left by a killed one.
pub fn empty_work() -> Result<PathBuf> {
    fs::remove_dir_all(cache::folder("work")?).context("failed to clear the work folder")?;
    cache::folder("work")
}

async fn debian(engine: &Engine, work: &Path) -> Result<String> {
    let packages = cache::read("image/debian-packages")?;
    let image = format!("rackpartition-lab/debian:{SUITE}-{}", cache::hash([&packages]));
    if engine.image_id(&image).await.is_none() {
        step("making a Debian root file system");
        let archive = work.join("debian.tar");
        let packages = packages.split_whitespace().collect::<Vec<_>>().join(",");
        let mut mmdebstrap = run::tied("mmdebstrap");
        mmdebstrap.env("TMPDIR", work).args(["--variant=minbase", &format!("--include={packages}"), SUITE]);
        run::logged(mmdebstrap.arg(&archive), &cache::folder("log")?.join("mmdebstrap.log")).await?;
        run::text(engine.docker().arg("import").arg(&archive).arg(&image)).await?;
    }
    Ok(image)
}

/// The load balancer's image, named by its inputs.
pub fn balancer_name() -> Result<String> {
    let hash = cache::hash([recipe("balancer")?, cache::read("image/debian-packages")?, go::KIND.hash()?]);
    Ok(format!("rackpartition-lab/balancer:{hash}"))
}

async fn balancer(engine: &Engine, work: &Path, base: &str, kind: &Path) -> Result<()> {
    let build = Build::new(work, "balancer", &recipe("balancer")?)?;
    fs::copy(kind.join("images/haproxy/haproxy.cfg"), build.0.join("haproxy.cfg"))?;
    build.run(engine, &balancer_name()?, base).await
}

/// Gives the load balancer the name under which kind looks for it before it would pull.
pub async fn tag_balancer(engine: &Engine) -> Result<()> {
    run::text(engine.docker().args(["tag", &balancer_name()?, &versions::get("BALANCER")?])).await.map(drop)
}

async fn node_without_images(engine: &Engine, work: &Path, base: &str, kind: &Path, image: &str) -> Result<()> {
    let build = Build::new(work, "node", &recipe("node")?)?;
    let root = build.0.join("root");
    fs::create_dir_all(&root)?;
    run::text(run::program("cp").arg("-r").arg(kind.join("images/base/files/.")).arg(&root)).await?;
    // The module cache is read-only and knows no executables.
    modes(&root, &["usr/local/bin", "kind/bin"].map(|folder| root.join(folder)), false)?;

    let configuration = root.join("etc/containerd/config.toml");
    let text = fs::read_to_string(&configuration)?;
    // Without CAP_SYS_RESOURCE nobody may lower an OOM score; elsewhere it does no harm.
    let text = text.replace("restrict_oom_score_adj = false", "restrict_oom_score_adj = true");
    fs::write(&configuration, text)?;

    let containerd = go::CONTAINERD.build_all().await?;
    let files = ["containerd", "containerd-shim-runc-v2", "ctr"].map(|file| containerd.join(file));
    build.add(&files, "root/usr/local/bin")?;
    let kubernetes = go::KUBERNETES.build_all().await?;
    build.add(&["kubeadm", "kubelet", "kubectl"].map(|file| kubernetes.join(file)), "root/usr/bin")?;
    // kind asks crictl for nothing that matters here, and no Go module pinned here brings it.
    let crictl = root.join("usr/local/bin/crictl");
    fs::write(&crictl, "#!/bin/sh\nexit 0\n")?;
    fs::set_permissions(&crictl, fs::Permissions::from_mode(0o755))?;
    fs::write(root.join("kind/version"), versions::get("K8S")? + "\n")?;
    build.run(engine, image, base).await
}

fn modes(path: &Path, programs: &[PathBuf], executable: bool) -> Result<()> {
    let folder = path.is_dir();
    fs::set_permissions(path, fs::Permissions::from_mode(if folder || executable { 0o755 } else { 0o644 }))?;
    if folder {
        let executable = programs.iter().any(|folder| folder == path);
        for entry in fs::read_dir(path)? {
            modes(&entry?.path(), programs, executable)?;
        }
    }
    Ok(())
}

/// Puts the component images into the node's containerd, as kind's own image build does.
async fn import(engine: &Engine, raw: &str, archive: &Path, node: &str) -> Result<()> {
    step(format!("importing the component images into {node}"));
    let remove = async || run::text(engine.docker().args(["rm", "-fv", IMPORTER])).await;
    let _ = remove().await;
    run::text(engine.docker().args([
        "run",
        "-d",
        "--privileged",
        "--name",
        IMPORTER,
        "--entrypoint",
        "sleep",
        raw,
        "infinity",
    ]))
    .await?;
    let inside = |words: &[&str]| {
        let mut docker = engine.docker();
        docker.args(["exec", "-i", IMPORTER]).args(words);
        docker
    };
    run::text(engine.docker().args(["exec", "-d", IMPORTER, "containerd"])).await?;
    wait::until("containerd answers", Duration::from_secs(30), async || {
        run::text(&mut inside(&["ctr", "version"])).await.map(Ok)
    })
    .await?;
    let mut ctr = inside(&["ctr", "-n", "k8s.io", "images", "import", "--no-unpack", "--local", "-"]);
    run::text(ctr.stdin(File::open(archive)?)).await?;
    run::text(&mut inside(&["sh", "-c", "kill $(pidof containerd); while pidof containerd; do sleep 0.1; done"]))
        .await?;
    let entry = r#"ENTRYPOINT ["/usr/local/bin/entrypoint","/sbin/init"]"#;
    run::text(engine.docker().args(["commit", "-c", entry, IMPORTER, node])).await?;
    remove().await?;
    run::text(engine.docker().args(["rmi", raw])).await.map(drop)
}
