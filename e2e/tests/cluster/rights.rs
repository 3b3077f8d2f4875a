//! What the two service accounts may do, as the API server itself lists it, beside a file that was reviewed.

use crate::harness::{AGENTS, Harness, OPERATORS, repository};
use anyhow::{Result, ensure};

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
    let wildcard = |line: &&str| !line.starts_with('#') && line.contains("*.") || line.contains("[*]");
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
