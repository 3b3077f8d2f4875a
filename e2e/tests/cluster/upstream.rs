//! The example on Kubernetes' own timers, where an eviction takes five minutes: what is predicted is not made for a lab's short ones.

use crate::{
    example::one,
    harness::{AGENTS, Harness, OPERATORS, told},
    refusals::example_spec,
};
use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use rackpartition::{
    api::{Bounds, Check, FindingResult, NodeRecord, Observer, Phase, Prediction, RUN_LABEL, Verdict},
    fault::{expand, sides},
    judge::{Evidence, Measured, Unmeasured, measured, predicted, unmeasured},
    operator::{journal_name, read_plan, read_snapshot},
    predict::{interval, seconds},
};
use serde_json::json;
use std::time::Duration;

const NAME: &str = "upstream";
/// Longer than the latest second copy. The Lease of the controller manager is taken over within 15 + 8.8 + 1 s and 5 s for etcd, its node
/// is NotReady 50 + 2 × 5 + 5 s later, tainted 5 s and as the second of its zone 10 s later, its pods are deleted after 300 s, and others
/// start within 15 s: 424.8 s.
const CUT: &str = "440s";
/// Longer than the longest back-off, 300 s, and what is waited for after it.
const RECOVERY: &str = "8m";
/// Where nobody disciplines the machine's clock, two may drift apart by 500 ppm each: 450 ms until the end of such a cut, and what an
/// exchange of times takes.
const CLOCKS: &str = "700ms";
/// Arming, cut, recovery, judging.
const WHOLE_RUN: Duration = Duration::from_secs(1320);
/// What the API server gives pods that do not say (`DefaultTolerationSeconds`).
const TOLERATED: i64 = 300;
/// From the verdict until what the run was made of is kept.
const KEPT: Duration = Duration::from_secs(60);

/// Whatever has a predicted interval was seen, and in it, but for what nothing can be seen of.
pub async fn every_interval_contains_what_was_seen(h: &Harness) -> Result<()> {
    tolerate_by_default(h).await?;
    h.spread_workload().await?;
    h.lab.gather_leaders("r1").await?;
    h.restart_operator().await?;
    let mut spec = example_spec()?;
    spec["duration"] = json!(CUT);
    spec["recovery"] = json!(RECOVERY);
    spec["guards"]["maxClockError"] = json!(CLOCKS);
    // In so many minutes somebody asks the machine's name server, which is in nobody's plan: its answers are Noted.
    spec["guards"]["allowUnplacedSources"] = json!(true);
    h.create(NAME, spec).await?;
    let status = h.phase(NAME, &[Phase::Done], WHOLE_RUN).await?;
    println!("{}", rackpartition::report::findings_table(&status, Some(160)));
    // All of the table, whatever the verdict is.
    let (all, without, compared) = measured_of(h).await?;
    let outside: Vec<&Measured> = all.iter().filter(|m| is_told_outside(m)).collect();
    let unseen: Vec<&Unmeasured> = without.iter().filter(|line| is_told_unseen(line)).collect();
    let findings = &status.findings;
    let plan = status.plan.as_ref().context("no plan")?;
    let differing = differing(&plan.prediction, &compared);
    ensure!(differing.is_empty(), "what the plan told is not what was compared: {differing:#?}");
    ensure!(status.verdict == Some(Verdict::Pass), "{:?}: {}", status.verdict, told(findings));
    for lease in ["kube-controller-manager", "kube-scheduler"] {
        let found = one(findings, Check::LeaseTakeover, lease)?;
        let moved = found.result == FindingResult::Held && found.observed.contains("leads from");
        ensure!(moved, "{lease} did not move as predicted: {found:?}");
    }
    let doubled = one(findings, Check::WorkloadDoubled, "web")?;
    let is_twice = doubled.result == FindingResult::Held && doubled.observed.contains("twice");
    ensure!(is_twice, "the Deployment's pod did not run twice: {doubled:?}");
    let kept = one(findings, Check::WorkloadDoubled, "db")?;
    let is_once = kept.result == FindingResult::Held && !kept.observed.contains("twice");
    ensure!(is_once, "the StatefulSet's pod ran twice: {kept:?}");

    for check in [
        Check::EtcdQuorum,
        Check::ApiWritable,
        Check::ApiServerReady,
        Check::StaleRead,
        Check::LeaseTakeover,
        Check::LeaderGap,
        Check::LeaderOverlap,
        Check::NodeNotReady,
        Check::NodeTainted,
        Check::EndpointsRemoved,
        Check::WorkloadEvicted,
        Check::WorkloadKept,
        Check::WorkloadDoubled,
        Check::WorkloadStuck,
        Check::Recovery,
    ] {
        ensure!(all.iter().any(|m| m.check == check), "nothing was measured of {check:?}: {all:#?}");
    }
    ensure!(outside.is_empty(), "outside of what was predicted: {outside:#?}");
    ensure!(unseen.is_empty(), "predicted with an interval, and nothing was measured: {unseen:#?}");
    h.no_tables(Duration::from_secs(30)).await?;
    h.all_hear_each_other().await?;
    h.clear().await
}

/// A line of the table, and whether its interval does not contain what was seen.
fn is_told_outside(measured: &Measured) -> bool {
    let from = match measured.bounds {
        Bounds::AfterCut => "after the cut",
        Bounds::Throughout => "after the cut, until then",
        Bounds::AfterHeal => "after the heal",
        Bounds::Length => "long",
    };
    let within = if measured.is_within() { "within" } else { "OUTSIDE OF" };
    let (check, observed) = (format!("{:?}", measured.check), seconds(measured.observed));
    let (subject, what, predicted) = (&measured.subject, &measured.what, interval(&measured.predicted));
    let error = seconds(measured.error);
    println!("{check:<17} {subject:<42} {what:<62} {observed:>8} ± {error:<7} {within} {predicted} {from}");
    !measured.is_within()
}

/// A line of the table for what has an interval and was not measured, and whether it should have been.
fn is_told_unseen(line: &Unmeasured) -> bool {
    let (check, why) = (format!("{:?}", line.check), line.why.unwrap_or("NOT MEASURED"));
    println!("{check:<17} {:<42} {why}", line.subject);
    line.why.is_none()
}

/// The example's pods as most people's are: they say nothing of nodes that are not ready or not reached.
async fn tolerate_by_default(h: &Harness) -> Result<()> {
    let silent = Patch::Merge(json!({"spec": {"template": {"spec": {"tolerations": null}}}}));
    let deployments: Api<Deployment> = Api::namespaced(h.client.clone(), "shop");
    deployments.patch("web", &PatchParams::default(), &silent).await?;
    let sets: Api<StatefulSet> = Api::namespaced(h.client.clone(), "shop");
    sets.patch("db", &PatchParams::default(), &silent).await?;
    h.workload_is_ready().await?;
    let pods: Api<Pod> = Api::namespaced(h.client.clone(), "shop");
    h.until("every pod to tolerate by default", Duration::from_secs(60), async |_: &Harness| {
        let pods = pods.list(&ListParams::default()).await?.items;
        Ok((pods.len() == 6 && pods.iter().all(tolerates_by_default)).then_some(()))
    })
    .await
}

fn tolerates_by_default(pod: &Pod) -> bool {
    let tolerations = pod.spec.iter().flat_map(|s| s.tolerations.iter().flatten());
    let mut unreachable = tolerations.filter(|t| t.key.as_deref() == Some("node.kubernetes.io/unreachable"));
    unreachable.next().is_some_and(|t| t.toleration_seconds == Some(TOLERATED))
}

/// Lines that the plan told otherwise than they were compared, and the other way round. The cut was as long as it was planned, and no pod
/// was over before it.
fn differing(told: &[Prediction], compared: &[Prediction]) -> Vec<String> {
    let words = |line: &Prediction| {
        let window = line.window.map(|w| format!("{:.3} to {:.3} s", w.earliest_seconds, w.latest_seconds));
        let (check, subject, expected, bounds) = (line.check, &line.subject, &line.expected, line.bounds);
        format!("{check:?} {subject}: {expected}; {bounds:?} {window:?}")
    };
    let (told, compared): (Vec<String>, Vec<String>) =
        (told.iter().map(words).collect(), compared.iter().map(words).collect());
    let only = |whose: &str, lines: &[String], others: &[String]| {
        let lines = lines.iter().filter(|line| !others.contains(line));
        lines.map(|line| format!("{whose}: {line}")).collect::<Vec<_>>()
    };
    [only("told", &told, &compared), only("compared", &compared, &told)].concat()
}

/// In numbers, by what the operator kept of the run and by its records; and the lines that these are compared with.
async fn measured_of(h: &Harness) -> Result<(Vec<Measured>, Vec<Unmeasured>, Vec<Prediction>)> {
    let run = h.runs().get(NAME).await?;
    let (plan, snapshot) = h
        .until("what the run was made of", KEPT, async |h: &Harness| {
            let maps: Api<ConfigMap> = Api::namespaced(h.client.clone(), OPERATORS);
            let Some(map) = maps.get_opt(&journal_name(&run)).await? else { return Ok(None) };
            Ok(Some((read_plan(&map)?, read_snapshot(&map)?)))
        })
        .await?;
    let fault = expand(&run.spec, &snapshot).context("the cut stands for nothing")?;
    let sides = sides(&snapshot, &fault);
    let (agents, operators) = records(h).await?;
    let Some(operator) = operators.first() else { bail!("no record of the operator") };
    let schedule = run.status.as_ref().and_then(|s| s.schedule.clone()).context("no schedule")?;
    let evidence = Evidence {
        spec: &run.spec,
        snapshot: &snapshot,
        fault: &fault,
        plan: &plan,
        sides: &sides,
        schedule: &schedule,
        operator: Some(operator),
        agents: &agents,
    };
    Ok((measured(&evidence), unmeasured(&evidence), predicted(&evidence)))
}

/// Of the agents, and of the operator.
async fn records(h: &Harness) -> Result<(Vec<NodeRecord>, Vec<NodeRecord>)> {
    let of_run = ListParams::default().labels(&format!("{RUN_LABEL}={NAME}"));
    let records: Api<NodeRecord> = Api::namespaced(h.client.clone(), AGENTS);
    let mut records = records.list(&of_run).await?.items;
    records.iter_mut().try_for_each(NodeRecord::unpack)?;
    Ok(records.into_iter().partition(|r| r.spec.observer == Observer::Agent))
}
