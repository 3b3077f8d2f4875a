//! The run in which nothing happens.

use super::{ARMING, ended};
use crate::{
    harness::{AGENTS, Harness, seconds_until, told},
    refusals::example_spec,
};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use rackpartition::api::{Check, Finding, FindingResult, Phase, Verdict};
use serde_json::json;
use std::{collections::BTreeMap, time::Duration};

/// The example without its cut.
pub async fn a_rehearsal(h: &Harness) -> Result<()> {
    h.spread_workload().await?;
    h.lab.gather_leaders("r1").await?;
    let before = started(h).await?;
    let name = "rehearsal";
    let mut spec = example_spec()?;
    spec["rehearsal"] = json!(true);
    h.create(name, spec).await?;
    let schedule = h.phase(name, &[Phase::Cut], ARMING).await?.schedule.context("no schedule")?;
    for node in h.lab.nodes() {
        let tables = h.tables_on(&node.name).await?;
        let is_armed = tables.iter().any(|table| table.contains("inet rackpartition-"));
        ensure!(is_armed, "{} is not armed: {tables:?}", node.name);
    }
    h.all_hear_each_other().await.context("in a rehearsal")?;
    ensure!(seconds_until(schedule.heal_at.0) > 0.0, "looked for too long: the windows are over");
    let status = ended(h, name).await?;
    let findings = &status.findings;
    ensure!(status.verdict == Some(Verdict::Pass), "{:?}: {}", status.verdict, told(findings));
    // One connection that timed out on a busy machine is told of any pair that is not cut, and nothing that happened.
    let is_stray = |f: &&Finding| {
        f.check == Check::FaultProven && f.result == FindingResult::Noted && f.observed.contains("stray timeout")
    };
    let odd: Vec<Finding> =
        findings.iter().filter(|f| f.result != FindingResult::Held && !is_stray(f)).cloned().collect();
    ensure!(odd.is_empty(), "found where nothing happened: {}", told(&odd));
    let plan = status.plan.as_ref().context("no plan")?;
    let is_said = plan.cut == "rehearsal of isolate r1" && plan.edges == 0;
    ensure!(is_said, "{}: {} edges", plan.cut, plan.edges);
    ensure!(status.onset.is_none(), "nobody fell silent: {:?}", status.onset);
    let is_injected = status.conditions.iter().find(|c| c.type_ == "Injected").map(|c| c.status.as_str());
    ensure!(is_injected == Some("False"), "nothing was injected: {is_injected:?}");
    let after = started(h).await?;
    ensure!(after == before, "pods were made or started anew: {before:?} and then {after:?}");
    h.no_tables(Duration::from_secs(30)).await
}

/// Every pod but agents', with its uid and how often its containers were started anew.
async fn started(h: &Harness) -> Result<BTreeMap<String, (String, i32)>> {
    let pods: Api<Pod> = Api::all(h.client.clone());
    let pods = h.until("the pods", Duration::from_secs(30), async |_: &Harness| {
        Ok(Some(pods.list(&ListParams::default()).await?.items))
    });
    let of = |pod: Pod| {
        let containers = pod.status.as_ref().and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
        let restarts: i32 = containers.iter().map(|c| c.restart_count).sum();
        let name = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
        (name, (pod.uid().unwrap_or_default(), restarts))
    };
    let is_agent = |pod: &Pod| pod.namespace().as_deref() == Some(AGENTS);
    Ok(pods.await?.into_iter().filter(|pod| !is_agent(pod)).map(of).collect())
}
