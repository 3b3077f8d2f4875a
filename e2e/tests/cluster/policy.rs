//! What the cluster's owner allows, in the chart's `policy`: refused by the API server, or by the operator where it takes the cluster
//! to tell.

use crate::{
    harness::{Harness, repository},
    refusals::isolate,
};
use anyhow::{Result, ensure};
use rackpartition::api::Phase;
use serde_json::json;
use std::time::Duration;

/// Until every API server goes by a new policy.
const SOON: Duration = Duration::from_secs(30);

/// The group `sre` may cut r1 off for half a minute, and nobody else anything.
const ALLOWED: &str = r#"policy.allowed=[{"groups": ["sre"], "racks": ["r1"], "maxDuration": "30s"}]"#;

pub async fn who_may_run_what(h: &Harness) -> Result<()> {
    let binding = ["clusterrolebinding", "rackpartition-test-sre"];
    let create = ["--clusterrole", "rackpartition-runner", "--group", "sre", "--group", "others"];
    h.kubectl(&[&["create"], &binding[..], &create].concat()).await?;
    let told = told(h).await;
    h.kubectl(&[&["delete"], &binding[..]].concat()).await?;
    // As it was for the next one.
    h.install_with(&[]).await?;
    told
}

async fn told(h: &Harness) -> Result<()> {
    h.install_with(&[ALLOWED]).await?;
    let racks = |racks: &[&str], duration: &str| json!({"cut": {"isolate": {"racks": racks}}, "duration": duration});
    // What sre may, and more.
    let with = |more: serde_json::Value| {
        let mut spec = racks(&["r1"], "20s");
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        spec
    };
    let edges = json!({"cut": {"edges": [{"from": {"racks": ["r1"]}, "to": {"racks": ["r2"]}}]}, "duration": "20s"});
    let role = json!({"cut": {"isolate": {"role": "quorum-side"}}, "duration": "20s"});
    let refused = [
        ("others", racks(&["r1"], "20s")),
        ("sre", racks(&["r2"], "20s")),
        ("sre", racks(&["r1", "r2"], "20s")),
        ("sre", racks(&["r1"], "31s")),
        ("sre", edges),
        ("sre", role),
        ("sre", json!({"cut": {"ring": {}}, "duration": "20s"})),
        ("sre", json!({"cut": {"chain": {"members": []}}, "duration": "20s"})),
        ("sre", with(json!({"rackLabel": "kubernetes.io/hostname"}))),
        ("sre", with(json!({"endpoints": [{"name": "lb", "cidrs": ["198.18.0.9/32"], "rack": "r1"}]}))),
    ];
    h.until("the policy to refuse", SOON, async |h: &Harness| {
        Ok(try_as(h, refused[0].0, &refused[0].1).await?.is_some().then_some(()))
    })
    .await?;
    for (group, spec) in &refused {
        let why = try_as(h, group, spec).await?;
        let why = why.unwrap_or_else(|| "was taken".into());
        ensure!(why.contains("policy.allowed of the chart"), "{group} {spec}: {why}");
    }
    let taken = try_as(h, "sre", &racks(&["r1"], "30s")).await?;
    ensure!(taken.is_none(), "{taken:?}");

    for (value, says) in [
        (r#"policy.maxNodesPercent=34"#, None),
        (r#"policy.maxNodesPercent=33"#, Some("policy.maxNodesPercent")),
        (r#"policy.protectedNamespaces=["shop"]"#, Some("policy.protectedNamespaces")),
        (r#"policy.optInLabel="example.com/may-be-cut""#, Some("policy.optInLabel")),
    ] {
        h.install_with(&[value]).await?;
        h.create("policy", isolate(&["r1"])).await?;
        let wanted = if says.is_some() { Phase::Refused } else { Phase::Arming };
        let status = h.phase("policy", &[wanted], Duration::from_secs(90)).await?;
        let message = status.message.unwrap_or_default();
        ensure!(says.is_none_or(|says| message.contains(says)), "{value}: {message}");
        h.delete("policy").await?;
        h.gone("policy", Duration::from_secs(60)).await?;
    }
    Ok(())
}

/// Why somebody of this group may not create a run of this spec; `None` where they may. Nothing is created.
async fn try_as(h: &Harness, group: &str, spec: &serde_json::Value) -> Result<Option<String>> {
    let run = json!({
        "apiVersion": "rackpartition.io/v1alpha1", "kind": "RackPartition",
        "metadata": {"name": "tried"}, "spec": spec,
    });
    let file = repository(&format!("target/tried-{group}.json"));
    tokio::fs::write(&file, run.to_string()).await?;
    let words = ["create", "--dry-run=server", "--as", "somebody", "--as-group", group, "--filename", &file];
    Ok(h.kubectl(&words).await.err().map(|error| format!("{error:#}")))
}
