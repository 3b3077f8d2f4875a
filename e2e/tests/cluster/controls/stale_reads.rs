//! Reads on the losing side that are older than they may be.

use super::{ended, into_the_cut, node, violated};
use crate::{
    example::one,
    harness::{Harness, seconds_until, told},
    refusals::isolate,
};
use anyhow::{Context, Result, ensure};
use rackpartition::api::{Check, FindingResult, Verdict};
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;

/// As `pgrep -f` knows it.
const ETCD: &str = "^etcd --";

/// Until when a member of etcd hangs, seconds after the cut: for longer than a watch cache may be behind (36 s: within 5 s of the cut it
/// learns that there is no leader, it asks on for 30 s, and 1 s for the answer), and not for so long that its API server gives the
/// connection up (40 s: keepalive of 30 s, and 10 s for the answer). The member ends its watches only then, some seconds later, and the
/// cache goes on for another half a minute. Let go too late, its cache has answered up to the 40 s.
const HANGS_UNTIL: f64 = 38.0;

/// An API server whose member of etcd hangs is not told that anything was lost, and goes on answering from what it knows. Meanwhile the
/// others go on writing.
pub async fn stale_reads_on_the_losing_side(h: &Harness) -> Result<()> {
    h.lab.gather_leaders("r2").await?;
    // Where etcd leads on, others write from the first second of the cut on, and it is then that what is read gets old.
    let rack = if rack_of_etcd_leader(h).await? == "r1" { "r3" } else { "r1" };
    let name = "stale-reads";
    let mut spec = isolate(&[rack]);
    spec["duration"] = json!("60s");
    h.create(name, spec).await?;
    // Before its member ends the watches, which it does three seconds after it lost its leader.
    let schedule = into_the_cut(h, name, 0.5).await?;
    while_held(h, &node(h, rack, true)?, ETCD, async {
        let left = seconds_until(schedule.cut_at.0) + HANGS_UNTIL;
        sleep(Duration::from_secs_f64(left.max(0.0))).await;
        Ok(())
    })
    .await?;
    let status = ended(h, name).await?;
    let findings = &status.findings;
    let stale = one(findings, Check::StaleRead, "isolated")?;
    let seconds = |text: &str, words: &str| seconds_after(text, words).with_context(|| format!("no {words:?}: {text}"));
    let behind = seconds(&stale.observed, "its watch cache up to ")?;
    let allowed = seconds(&stale.predicted, "the watch cache at most ")?;
    ensure!(behind > allowed, "no more than {behind} s behind, and {allowed} s may be: {}", told(findings));
    // A consistent read that was stale would be Violated. A cache may be old, and one that is older than predicted is told.
    ensure!(stale.result == FindingResult::Noted, "what was stale is not told: {}", told(findings));
    let wrong = violated(findings).find(|f| f.check == Check::StaleRead);
    ensure!(wrong.is_none(), "a consistent read was stale: {}", told(findings));
    // By itself it is no reason to fail a cluster.
    ensure!(status.verdict != Some(Verdict::Fail), "{:?}: {}", status.verdict, told(findings));
    println!("  a watch cache {behind} s behind, of {allowed} s");
    h.no_tables(Duration::from_secs(30)).await
}

/// By its members' own metrics.
async fn rack_of_etcd_leader(h: &Harness) -> Result<String> {
    let script = "curl -s -m 2 http://127.0.0.1:2381/metrics | grep '^etcd_server_is_leader ' || true";
    h.until("etcd to have a leader", Duration::from_secs(30), async |h: &Harness| {
        for node in h.lab.nodes().iter().filter(|n| n.control_plane) {
            if h.lab.exec(&node.name, &["bash", "-c", script]).await?.trim() == "etcd_server_is_leader 1" {
                return Ok(Some(node.rack.clone()));
            }
        }
        Ok(None)
    })
    .await
}

/// The number before ` s` and behind these words, as of `its watch cache up to 38.1 s behind`.
fn seconds_after(text: &str, words: &str) -> Option<f64> {
    text.split(words).nth(1)?.split(" s").next()?.parse().ok()
}

/// Holds a process, as `pgrep -f` knows it, for as long as `meanwhile` takes. Whatever comes of that, it goes on afterwards.
async fn while_held(h: &Harness, node: &str, process: &str, meanwhile: impl Future<Output = Result<()>>) -> Result<()> {
    let ended = match h.lab.exec(node, &["pkill", "-STOP", "-f", process]).await {
        Ok(_) => meanwhile.await,
        Err(error) => Err(error.context(format!("failed to hold {process} on {node}"))),
    };
    // What is gone, which `pkill` ends with 1 for, need not go on.
    let script = r#"pkill -CONT -f "$1" || [ $? = 1 ]"#;
    let what = format!("{process} on {node} to go on");
    let released = h.until(&what, Duration::from_secs(30), async |h: &Harness| {
        h.lab.exec(node, &["bash", "-c", script, "go-on", process]).await.map(Some)
    });
    ended.and(released.await.map(drop))
}
