//! Ending a run early, in every phase: no rule with effect by the deadline, no table on any reachable node.

use crate::{
    harness::{Harness, seconds_until},
    ports::{agents_have_no_open_port, operators_have_no_open_port},
    refusals::isolate,
};
use anyhow::{Context, Result, ensure};
use rackpartition::api::Phase;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// What clocks, heal packets and a busy machine may add to the kernel's deadline.
const SLACK: Duration = Duration::from_secs(30);

/// A cut that does not wait for etcd to have been well for a while: nobody judges what becomes of it.
fn at_once() -> Value {
    let mut spec = isolate(&["r1"]);
    spec["guards"]["allowUnhealthyBaseline"] = json!(true);
    spec
}

pub async fn deleted_in_every_phase(h: &Harness) -> Result<()> {
    for phase in [Phase::Planned, Phase::Arming, Phase::Scheduled, Phase::Cut, Phase::Recovering] {
        let name = format!("deleted-{}", format!("{phase:?}").to_lowercase());
        h.create(&name, at_once()).await?;
        // A phase may be over before it is seen; any later one will do, it has its own turn.
        let later = [Phase::Planned, Phase::Arming, Phase::Scheduled, Phase::Cut, Phase::Recovering];
        let wanted: Vec<Phase> = later.into_iter().filter(|p| *p >= phase).collect();
        let status = h.phase(&name, &wanted, Duration::from_secs(150)).await?;
        let seen = status.phase.context("no phase")?;
        h.delete(&name).await?;
        let begun = Instant::now();
        let kernel = status.schedule.map_or(0.0, |s| seconds_until(s.heal_at.0).max(0.0));
        h.gone(&name, Duration::from_secs_f64(kernel) + SLACK).await?;
        h.no_tables(SLACK).await.with_context(|| format!("after deleting in {seen:?}"))?;
        h.all_hear_each_other().await?;
        println!(
            "  deleted in {seen:?}: gone after {:.1} s (the kernel's deadline: {kernel:.1} s)",
            begun.elapsed().as_secs_f64()
        );
    }
    Ok(())
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
