//! Certificates for an external etcd, made by the kubeadm of the node image, so that nothing more has to be installed.

use std::fs;

use anyhow::{Context, Result};

use super::Etcd;
use crate::engine::Engine;
use crate::{cache, network, run, versions};

/// Where kubeadm finds its configuration.
const CONFIGURATION: &str = "/kubeadm.yaml";

/// Where kubeadm writes.
const PKI: &str = "/etc/kubernetes/pki";

/// Makes an authority for etcd, pairs for its members and one for API servers, and copies them to `etcd.certificates`.
pub async fn make(engine: &Engine, cluster: &str, image: &str, etcd: &Etcd) -> Result<()> {
    let name = format!("{cluster}-etcd-certificates");
    let target = &etcd.certificates;
    let _ = fs::remove_dir_all(target);
    let folder = target.parent().context("no folder for certificates")?;
    let file = folder.join("kubeadm.yaml");
    fs::write(&file, configuration(cluster, etcd)?).context("failed to write kubeadm's configuration")?;

    let mut docker = engine.docker();
    docker.args(["create", "--label", &network::label(cluster), "--name", &name, "--network", "none"]);
    docker.args(["--entrypoint", "kubeadm", image, "init", "phase", "certs", "all", "--config", CONFIGURATION]);
    run::text(&mut docker).await?;
    run::text(engine.docker().arg("cp").arg(&file).arg(format!("{name}:{CONFIGURATION}"))).await?;
    fs::remove_file(&file).context("failed to remove kubeadm's configuration")?;
    run::logged(
        engine.docker().args(["start", "--attach", &name]),
        &cache::folder("log")?.join("etcd-certificates.log"),
    )
    .await?;
    run::text(engine.docker().args(["cp", &format!("{name}:{PKI}")]).arg(target)).await?;
    run::text(engine.docker().args(["rm", "--volumes", &name])).await.map(drop)
}

/// One pair for all members, with the addresses of all.
fn configuration(cluster: &str, etcd: &Etcd) -> Result<String> {
    let addresses: Vec<_> = etcd.members.iter().map(|member| member.address.to_string()).collect();
    let first = addresses.first().context("no members")?;
    let (names, version) = (addresses.join(", "), versions::get("K8S")?);
    Ok(format!(
        r#"apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
# Both only so that kubeadm does not look for its own: there is no network and no container runtime where it runs.
localAPIEndpoint: {{advertiseAddress: {first}}}
nodeRegistration: {{name: {cluster}-etcd, criSocket: "unix:///run/containerd/containerd.sock"}}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
# Otherwise kubeadm would ask the internet.
kubernetesVersion: {version}
# Twenty times faster to make than RSA.
encryptionAlgorithm: ECDSA-P256
etcd:
  local:
    serverCertSANs: [{names}]
    peerCertSANs: [{names}]
"#
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::Member;

    #[test]
    fn every_member_is_named_in_both_pairs() {
        let member = |last| Member { name: String::new(), rack: "r1", address: [198, 18, 255, last].into() };
        let etcd = Etcd { members: vec![member(1), member(2)], certificates: "/pki".into() };
        let text = configuration("lab", &etcd).unwrap();
        assert_eq!(text.matches("[198.18.255.1, 198.18.255.2]").count(), 2, "{text}");
        for document in text.split("---\n") {
            serde_saphyr::from_str::<serde_json::Value>(document).unwrap();
        }
    }
}
