//! Ending a run early, in every phase: no rule with effect by the deadline, no table on any reachable node.

use crate::{
    harness::{Harness, seconds_until},
    ports::{agents_have_no_open_port, operators_have_no_open_port},
    refusals::isolate,
};
use anyhow::{Context, Result, anyhow, ensure};
use kube::{
    ResourceExt,
    api::{DeleteParams, Preconditions},
};
use rackpartition::api::{Phase, RackPartitionStatus};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// What clocks, heal packets and a busy machine may add to the kernel's deadline.
const SLACK: Duration = Duration::from_secs(30);
/// How many runs are made to meet one of them in a phase.
const TRIES: usize = 5;
/// HTTP: another version is there.
const CONFLICT: u16 = 409;

/// A cut that does not wait for etcd to have been well for a while: nobody judges what becomes of it.
fn at_once() -> Value {
    let mut spec = isolate(&["r1"]);
    spec["guards"]["allowUnhealthyBaseline"] = json!(true);
    spec
}

/// In each phase from the plan to the end of what is watched. Where one is over before it is seen, another run is made for it.
pub async fn deleted_in_every_phase(h: &Harness) -> Result<()> {
    for phase in [Phase::Planned, Phase::Arming, Phase::Scheduled, Phase::Cut, Phase::Recovering] {
        let mut missed = 0;
        while !deleted_in(h, phase).await? {
            missed += 1;
            ensure!(missed < TRIES, "{missed} runs were no longer {phase:?} when they were to be deleted in it");
        }
    }
    Ok(())
}

/// Makes a run and deletes it in this phase. False where that was over.
async fn deleted_in(h: &Harness, phase: Phase) -> Result<bool> {
    let name = format!("deleted-{}", format!("{phase:?}").to_lowercase());
    h.create(&name, to_be_deleted_in(h, phase).await?).await?;
    let deleted = delete_while(h, &name, phase).await?;
    let begun = Instant::now();
    let Some(status) = deleted else {
        println!("  {phase:?} was over before {name} was deleted");
        h.clear().await?;
        return Ok(false);
    };
    let kernel = status.schedule.map_or(0.0, |s| seconds_until(s.heal_at.0).max(0.0));
    h.gone(&name, Duration::from_secs_f64(kernel) + SLACK).await?;
    h.no_tables(SLACK).await.with_context(|| format!("after deleting in {phase:?}"))?;
    h.all_hear_each_other().await?;
    println!(
        "  deleted in {phase:?}: gone after {:.1} s (the kernel's deadline: {kernel:.1} s)",
        begun.elapsed().as_secs_f64()
    );
    Ok(true)
}

/// A run that is in this phase for long enough to be met there.
async fn to_be_deleted_in(h: &Harness, phase: Phase) -> Result<Value> {
    Ok(match phase {
        // A plan waits for an operator outside of the cut, and the next one looks every two seconds whether it may lead.
        Phase::Planned => {
            let leader = h.operator_leader_node().await?;
            let node = h.lab.nodes().iter().find(|n| n.name == leader).context("unknown node")?;
            let mut spec = at_once();
            spec["cut"] = json!({"isolate": {"racks": [node.rack]}});
            spec
        }
        // So long that the load balancer knows who is cut off.
        Phase::Cut => {
            let mut spec = at_once();
            spec["duration"] = json!("60s");
            spec
        }
        _ => at_once(),
    })
}

/// Deletes the run on condition of the version that said that it is in this phase, so that it is deleted in no other one. Returns that
/// version's status, and `None` where the phase was over, or nobody knows whether it was.
async fn delete_while(h: &Harness, name: &str, phase: Phase) -> Result<Option<RackPartitionStatus>> {
    h.until(&format!("run {name} to be {phase:?} and deleted"), Duration::from_secs(150), async |h: &Harness| {
        // Gone, or on its way: of an earlier try, whose answer was lost.
        let Some(run) = h.runs().get_opt(name).await?.filter(|r| r.metadata.deletion_timestamp.is_none()) else {
            return Ok(Some(Ok(None)));
        };
        let only = Preconditions { uid: run.uid(), resource_version: run.resource_version() };
        let status = run.status.unwrap_or_default();
        match status.phase {
            Some(seen) if seen == phase => {}
            Some(seen) if seen.is_final() => {
                let why = status.message.unwrap_or_default();
                return Ok(Some(Err(anyhow!("run {name} is {seen:?} before it was deleted: {why}"))));
            }
            Some(seen) if seen > phase => return Ok(Some(Ok(None))),
            _ => return Ok(None),
        }
        match h.runs().delete(name, &DeleteParams::default().preconditions(only)).await {
            // Another version is there by now, which may be of the same phase.
            Err(kube::Error::Api(answer)) if answer.code == CONFLICT => Ok(None),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(Some(Ok(Some(status)))),
        }
    })
    .await?
}

/// Deleted while agents only ask who leads etcd: they go, and have touched nothing.
pub async fn deleted_in_a_survey(h: &Harness) -> Result<()> {
    let name = "deleted-survey";
    let mut spec = isolate(&["r1"]);
    spec["cut"] = json!({"isolate": {"role": "etcd-leader"}});
    h.create(name, spec).await?;
    h.until("agents of the survey", Duration::from_secs(30), async |h: &Harness| {
        Ok((h.agents(name).await? > 0).then_some(()))
    })
    .await?;
    h.delete(name).await?;
    h.gone(name, SLACK).await?;
    h.no_tables(Duration::ZERO).await?;
    h.until("the survey's agents to be gone", SLACK, async |h: &Harness| Ok((h.agents(name).await? == 0).then_some(())))
        .await
}

pub async fn aborted_in_mid_cut(h: &Harness) -> Result<()> {
    let name = "aborted";
    let mut spec = at_once();
    spec["duration"] = json!("120s");
    h.create(name, spec).await?;
    h.phase(name, &[Phase::Cut], Duration::from_secs(150)).await?;
    agents_have_no_open_port(h).await?;
    operators_have_no_open_port(h).await?;
    h.abort(name).await?;
    let begun = Instant::now();
    let status = h.phase(name, &[Phase::Aborted], Duration::from_secs(30)).await?;
    h.all_hear_each_other().await?;
    let heard_after = begun.elapsed();
    ensure!(heard_after < Duration::from_secs(60), "healed only after {heard_after:?}, so by the windows' end");
    h.no_tables(Duration::from_secs(60)).await?;
    h.until("Healed to be True", Duration::from_secs(60), async |h: &Harness| {
        let run = h.runs().get(name).await?;
        let conditions = run.status.map(|s| s.conditions).unwrap_or_default();
        Ok(conditions.iter().any(|c| c.type_ == "Healed" && c.status == "True").then_some(()))
    })
    .await?;
    ensure!(status.message.unwrap_or_default().contains("abort"), "the message says why");
    println!("  aborted: everybody heard everybody {:.1} s later", heard_after.as_secs_f64());
    Ok(())
}
