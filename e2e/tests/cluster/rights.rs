//! What the two service accounts may do, as the API server itself lists it, beside a file that was reviewed; and which pods their
//! namespaces take.

use crate::harness::{AGENTS, Harness, IMAGE, OPERATORS, repository};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt};

/// Reviewed; written anew with `RACKPARTITION_GENERATE=1`.
const REVIEWED: &str = "e2e/tests/cluster/rights.txt";

pub async fn are_those_reviewed(h: &Harness) -> Result<()> {
    let mut listed = String::new();
    for (namespace, account) in [(OPERATORS, "rackpartition-operator"), (AGENTS, "rackpartition-agent")] {
        for within in [OPERATORS, AGENTS, "kube-system", "kube-node-lease", "default", "shop"] {
            listed += &format!("# {account} in {within}\n");
            rights(h, &format!("system:serviceaccount:{namespace}:{account}"), within)
                .await?
                .iter()
                .for_each(|right| listed += &format!("{right}\n"));
        }
    }
    for never in ["secrets", "pods/exec", "pods/attach", "pods/ephemeralcontainers", "impersonate", "escalate", "bind"]
    {
        ensure!(!listed.contains(never), "{never} is among the rights:\n{listed}");
    }
    // As kubectl has it: `*` is every resource of the core group, `*.*` of every group, `[*]` any verb and `[/*]` any path.
    let wildcard = |line: &&str| !line.starts_with('#') && line.contains('*');
    ensure!(listed.lines().find(wildcard).is_none(), "a wildcard is among the rights:\n{listed}");
    if std::env::var_os("RACKPARTITION_GENERATE").is_some() {
        std::fs::write(repository(REVIEWED), &listed)?;
    }
    let reviewed = std::fs::read_to_string(repository(REVIEWED))?;
    ensure!(reviewed == listed, "not what {REVIEWED} says:\n{listed}");
    Ok(())
}

/// Beyond what every account may, which is to ask who it is and what there is: a line each, sorted.
async fn rights(h: &Harness, account: &str, namespace: &str) -> Result<Vec<String>> {
    let of = async |account: &str| -> Result<Vec<String>> {
        let words = ["auth", "can-i", "--list", "--no-headers", "--namespace", namespace, "--as", account];
        let text = h.look(&words).await?;
        Ok(text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect())
    };
    let anybody = of(&format!("system:serviceaccount:{namespace}:nobody-in-particular")).await?;
    let mut own = of(account).await?;
    own.retain(|right| !anybody.contains(right));
    own.sort();
    own.dedup();
    Ok(own)
}

/// The chart's labels are there, and the API server goes by them: a privileged pod is refused beside the operator, and taken where agents
/// are. Nothing is created.
pub async fn pod_security_is_enforced(h: &Harness) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(h.client.clone());
    for (name, level) in [(OPERATORS, "restricted"), (AGENTS, "privileged")] {
        let namespace = namespaces.get(name).await?;
        for mode in ["enforce", "audit", "warn"] {
            let label = namespace.labels().get(&format!("pod-security.kubernetes.io/{mode}"));
            ensure!(label.is_some_and(|l| l == level), "{name}: {mode} is {label:?}, and not {level}");
        }
    }
    let refused = privileged_pod(h, OPERATORS).await.err().context("a privileged pod was taken beside the operator")?;
    let why = format!("{refused:#}");
    ensure!(why.contains("violates PodSecurity \"restricted") && why.contains("privileged=true"), "{why}");
    // Else it could have been refused for something else.
    privileged_pod(h, AGENTS).await.map(drop).context("a privileged pod where agents are")
}

/// What the API server says to one.
async fn privileged_pod(h: &Harness, namespace: &str) -> Result<String> {
    let words = ["--namespace", namespace, "run", "privileged", "--image", IMAGE, "--privileged", "--dry-run=server"];
    h.kubectl(&words).await
}
