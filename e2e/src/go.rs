//! Upstream binaries, built from pinned Go modules and cached by what pins them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::progress::step;
use crate::{cache, run, versions};

/// An upstream project, and what the lab builds of it. All are pinned by one module, `lab/upstream`: what several of them depend on
/// has one version there, so it is compiled once (3,454 packages beside the standard library's, instead of 5,261).
pub struct Project {
    pub name: &'static str,
    /// `(file, package)` of each binary.
    pub binaries: &'static [(&'static str, &'static str)],
    tags: &'static str,
    /// Whether Kubernetes' version variables must be set at link time.
    stamp: bool,
}

pub const KUBERNETES: Project = Project {
    name: "kubernetes",
    binaries: &[
        ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
        ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
        ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
        ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
        ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
        ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
        ("kubeadm", "k8s.io/kubernetes/cmd/kubeadm"),
    ],
    tags: "",
    stamp: true,
};

pub const ETCD: Project = Project {
    name: "etcd",
    binaries: &[
        ("etcd", "go.etcd.io/etcd/server/v3"),
        ("etcdctl", "go.etcd.io/etcd/etcdctl/v3"),
        ("etcdutl", "go.etcd.io/etcd/etcdutl/v3"),
    ],
    tags: "",
    stamp: false,
};

pub const CONTAINERD: Project = Project {
    name: "containerd",
    binaries: &[
        ("containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
        ("containerd-shim-runc-v2", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"),
        ("ctr", "github.com/containerd/containerd/v2/cmd/ctr"),
    ],
    tags: "no_btrfs no_devmapper no_zfs no_aufs",
    stamp: false,
};

/// Of a `main.go` of the lab's own, which leaves out the plugins that nobody here uses.
pub const COREDNS: Project =
    Project { name: "coredns", binaries: &[("coredns", "rackpartition.lab/upstream/coredns")], tags: "", stamp: false };

pub const KIND: Project = Project { name: "kind", binaries: &[("kind", "sigs.k8s.io/kind")], tags: "", stamp: false };

pub const HELM: Project =
    Project { name: "helm", binaries: &[("helm", "helm.sh/helm/v4/cmd/helm")], tags: "", stamp: false };

/// What `go build` calls the binary of a package: the last part of its path that is no major version.
fn built_name(package: &str) -> &str {
    let is_version = |part: &str| part.strip_prefix('v').is_some_and(|n| n.parse::<u32>().is_ok());
    package.rsplit('/').find(|part| !is_version(part)).unwrap_or(package)
}

impl Project {
    fn linker_flags(&self) -> Result<String> {
        let mut flags = String::from("-s -w");
        if self.stamp {
            let version = versions::get("K8S")?;
            let minor = version.split('.').nth(1).context("K8S is no version")?;
            for (variable, value) in [
                ("k8s.io/component-base/version.gitVersion", version.as_str()),
                ("k8s.io/component-base/version.gitMajor", "1"),
                ("k8s.io/component-base/version.gitMinor", minor),
                ("k8s.io/client-go/pkg/version.gitVersion", version.as_str()),
            ] {
                flags += &format!(" -X {variable}={value}");
            }
        }
        Ok(flags)
    }

    /// Stands for everything that decides what the binaries are, save the Go toolchain.
    ///
    /// # Errors
    /// When a file of `lab/upstream` cannot be read.
    pub fn hash(&self) -> Result<String> {
        let mut inputs = vec![std::env::consts::ARCH.to_owned(), self.linker_flags()?, self.tags.to_owned()];
        for file in ["go.mod", "go.sum", "coredns/main.go"] {
            inputs.push(cache::read(format!("upstream/{file}"))?);
        }
        Ok(cache::hash(inputs))
    }

    /// The folder that holds these binaries; those that are missing are built.
    ///
    /// # Errors
    /// When Go is missing or a build fails.
    pub async fn build(&self, files: &[&str]) -> Result<PathBuf> {
        let folder = cache::folder(&format!("bin/{}-{}", self.name, self.hash()?))?;
        let missing = |file: &&&str| !folder.join(file).is_file();
        if files.iter().any(|file| missing(&file)) {
            let _lock = cache::lock(&format!("go-{}", self.name)).await?;
            if run::find("go").is_none() {
                // Debian's own Go is older than what the pinned modules ask for, so it is no help to install it.
                bail!("building {} needs Go 1.26 or later in PATH: install it from go.dev/dl", files.join(", "));
            }
            let missing: Vec<_> =
                self.binaries.iter().filter(|(file, _)| files.contains(file) && missing(&file)).collect();
            // Another lab may have built them while this one waited.
            if !missing.is_empty() {
                self.build_into(&folder, &missing).await?;
            }
        }
        Ok(folder)
    }

    /// Like [`Project::build`], for every binary.
    ///
    /// # Errors
    /// When Go is missing or a build fails.
    pub async fn build_all(&self) -> Result<PathBuf> {
        self.build(&self.binaries.iter().map(|(file, _)| *file).collect::<Vec<_>>()).await
    }

    /// All in one build, so that one binary is linked, on one core, while others are compiled.
    async fn build_into(&self, folder: &Path, binaries: &[&(&str, &str)]) -> Result<()> {
        let files: Vec<_> = binaries.iter().map(|(file, _)| *file).collect();
        step(format!("building {}", files.join(", ")));
        // A killed build must leave nothing that looks finished.
        let unfinished = folder.join(".unfinished");
        let _ = std::fs::remove_dir_all(&unfinished);
        std::fs::create_dir_all(&unfinished).with_context(|| format!("failed to create {}", unfinished.display()))?;
        let mut go = run::tied("go");
        go.current_dir(cache::data("upstream"))
            // The compiler's garbage is a fifth of its time, and machines that run six nodes have memory.
            .envs([("CGO_ENABLED", "0"), ("GOWORK", "off"), ("GOGC", "400")])
            .args(["build", "-trimpath", "-mod=readonly", "-tags", self.tags, "-ldflags", &self.linker_flags()?, "-o"])
            .arg(&unfinished)
            .args(binaries.iter().map(|(_, package)| package));
        run::logged(&mut go, &cache::folder("log")?.join(format!("go-{}.log", self.name))).await?;
        for (file, package) in binaries {
            let built = unfinished.join(built_name(package));
            std::fs::rename(built, folder.join(file)).with_context(|| format!("failed to keep {file}"))?;
        }
        std::fs::remove_dir(&unfinished).context("failed to tidy up after a build")
    }
}

/// Where the module cache keeps the source of the module `path`.
///
/// # Errors
/// When it cannot be downloaded.
pub async fn source(path: &str) -> Result<PathBuf> {
    let go = || {
        let mut go = run::program("go");
        go.current_dir(cache::data("upstream")).env("GOWORK", "off");
        go
    };
    run::text(go().args(["mod", "download", path])).await?;
    Ok(run::text(go().args(["list", "-m", "-f", "{{.Dir}}", path])).await?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_major_version_is_no_name() {
        let names =
            ["go.etcd.io/etcd/server/v3", "k8s.io/kubernetes/cmd/kubelet", "sigs.k8s.io/kind", "example.org/v8engine"];
        assert_eq!(names.map(built_name), ["server", "kubelet", "kind", "v8engine"]);
    }
}
