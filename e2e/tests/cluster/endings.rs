//! Ending a run early, in every phase: no rule with effect by the deadline, no table on any reachable node.

use crate::{
    harness::{Harness, seconds_until},
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

/// As `ss` says on every node, where agents have the node's own network.
async fn agents_have_no_open_port(h: &Harness) -> Result<()> {
    for node in h.lab.nodes() {
        let listening = h.lab.exec(&node.name, &["ss", "-H", "-l", "-n", "-t", "-u", "-w", "-p"]).await?;
        let own: Vec<&str> = listening.lines().filter(|l| l.contains("rackpartition")).collect();
        ensure!(own.is_empty(), "{} listens: {own:?}", node.name);
        // Else the line before would say so of an agent that is not there.
        let all = h.lab.exec(&node.name, &["ss", "-H", "-a", "-n", "-t", "-u", "-p"]).await?;
        ensure!(all.contains("rackpartition"), "{} has no agent's socket at all: {all}", node.name);
    }
    Ok(())
}

/// In `/proc/PID/net`: a TCP socket that listens, and a UDP socket that takes datagrams from anybody (`include/net/tcp_states.h`).
const OPEN: [&str; 2] = ["0A", "07"];
const ESTABLISHED: &str = "01";

/// As the kernel says of the operators' own network, which is their pods': `operator.metricsPort` is 0.
async fn operators_have_no_open_port(h: &Harness) -> Result<()> {
    h.until("operators without an open port", Duration::from_secs(20), async |h: &Harness| {
        let mut connected = false;
        for node in h.operator_nodes().await? {
            let processes = h.lab.exec(&node, &["pgrep", "-f", "^/rackpartition operator"]).await?;
            for process in processes.lines() {
                // IPv6 has files of its own, where the kernel has IPv6.
                let files = format!("cat /proc/{process}/net/{{tcp,udp}}*");
                let sockets = h.lab.exec(&node, &["bash", "-c", &files]).await?;
                let is_open = |line: &&str| state(line).is_some_and(|state| OPEN.contains(&state));
                let open: Vec<&str> = sockets.lines().filter(is_open).collect();
                ensure!(open.is_empty(), "the operator on {node} listens: {open:?}");
                connected |= sockets.lines().any(|line| state(line) == Some(ESTABLISHED));
            }
        }
        // Else the lines before would say so of another network.
        ensure!(connected, "no operator has a connection to an API server");
        Ok(Some(()))
    })
    .await
}

/// The state of the socket in a line of `/proc/PID/net/tcp` or of one of its kind.
fn state(line: &str) -> Option<&str> {
    line.split_whitespace().nth(3)
}

/// With nothing but bash and a way to the nodes, as when the API is what was lost: what is kept before the cut heals every node.
pub async fn healed_by_hand(h: &Harness) -> Result<()> {
    let name = "by-hand";
    let mut spec = isolate(&["r1"]);
    spec["duration"] = json!("120s");
    h.create(name, spec).await?;
    h.phase(name, &[Phase::Scheduled, Phase::Cut], Duration::from_secs(150)).await?;
    let script = h
        .until("the script", Duration::from_secs(30), async |h: &Harness| {
            let run = h.runs().get(name).await?;
            Ok(Some(rackpartition::cli::read_lifeline(&h.client, &run).await?))
        })
        .await?;
    let status = h.phase(name, &[Phase::Cut], Duration::from_secs(60)).await?;
    ensure!(h.all_hear_each_other().await.is_err(), "nobody was cut, so nothing could be healed");
    let output = tokio::process::Command::new("bash").args(["-c", &script]).output().await?;
    ensure!(output.status.success(), "{output:?}");
    h.all_hear_each_other().await.context("after the script")?;
    let left = seconds_until(status.schedule.context("no schedule")?.heal_at.0);
    ensure!(left > 30.0, "healed only {left:.0} s before the windows' end, so maybe by that");
    h.abort(name).await?;
    h.phase(name, &[Phase::Aborted], Duration::from_secs(60)).await?;
    h.no_tables(Duration::from_secs(60)).await?;
    println!("  healed by hand {left:.0} s before the windows' end");
    Ok(())
}
