//! `examples/isolate-active-rack.yaml`: the classic question, and every answer to it.

use crate::harness::{AGENTS, Harness, told};
use anyhow::{Context, Result, ensure};
use rackpartition::api::{Check, Finding, FindingResult, Phase, SpanKind, Verdict};
use std::time::Duration;

/// The run that people see first.
pub const EXAMPLE: &str = "examples/isolate-active-rack.yaml";

/// Arming, 85 s of cut, recovery of up to 3 minutes, judging.
const WHOLE_RUN: Duration = Duration::from_secs(480);

pub async fn passes(h: &Harness) -> Result<()> {
    h.spread_workload().await?;
    h.lab.gather_leaders("r1").await?;
    // One that has just started dials the API server of r1 first; after other runs it may be anywhere.
    h.restart_operator().await?;
    let name = h.create_from(EXAMPLE).await?;
    let status = h.phase(&name, &[Phase::Done], WHOLE_RUN).await?;
    println!("{}", rackpartition::report::findings_table(&status, Some(160)));
    let findings = &status.findings;
    ensure!(status.verdict == Some(Verdict::Pass), "{:?}: {}", status.verdict, told(findings));

    for lease in ["kube-controller-manager", "kube-scheduler"] {
        let found = one(findings, Check::LeaseTakeover, lease)?;
        ensure!(found.result == FindingResult::Held, "{lease} did not move as predicted: {}", told(findings));
    }
    for (check, owner) in [
        (Check::WorkloadKept, "web"),
        (Check::WorkloadKept, "db"),
        (Check::WorkloadDoubled, "web"),
        (Check::WorkloadDoubled, "db"),
    ] {
        let found = one(findings, check, owner)?;
        ensure!(found.result == FindingResult::Held, "{check:?} of {owner}: {}", told(findings));
    }
    let doubled = one(findings, Check::WorkloadDoubled, "web")?;
    ensure!(doubled.observed.contains("twice"), "the Deployment's pod ran twice: {}", doubled.observed);
    let not_doubled = one(findings, Check::WorkloadDoubled, "db")?;
    ensure!(!not_doubled.observed.contains("twice"), "the StatefulSet's pod did not: {}", not_doubled.observed);

    let onset = status.onset.as_ref().context("nobody saw when the cut took effect")?;
    println!("onset: {onset:?}");
    ensure!(onset.nodes as usize == h.lab.nodes().len(), "every node no longer hears another one: {onset:?}");
    ensure!(onset.skew_us <= 2 * onset.error_us, "one clock, and yet the nodes fell silent apart: {onset:?}");

    let logs = h.operator_logs().await?;
    let dialled = |line: &str| line.contains("dialled a server that stays writable") && line.contains(&name);
    ensure!(
        logs.lines().any(dialled),
        "the operator's first connection did not end in the rack that was cut, so nothing was shown about it"
    );
    reached_no_api_server_outside(h, &name, status.schedule.context("no schedule")?).await?;
    h.no_tables(Duration::from_secs(30)).await?;
    h.all_hear_each_other().await?;
    let left = h.look(&["--namespace", AGENTS, "get", "daemonsets,configmaps", "--output", "name"]).await?;
    ensure!(!left.contains(&name), "left behind: {left}");
    // Nothing is on any node any more, so nothing is waited for.
    h.delete(&name).await?;
    h.gone(&name, Duration::from_secs(10)).await.context("deleted when it was done")?;
    Ok(())
}

/// The cut worker's own words: no fresh connection to an API server outside its rack, nor to the load balancer, was answered
/// while the cut lasted, and the one inside its rack was.
async fn reached_no_api_server_outside(h: &Harness, run: &str, schedule: rackpartition::api::Schedule) -> Result<()> {
    let worker = h.lab.nodes().iter().find(|n| n.rack == "r1" && !n.control_plane).context("no worker in r1")?;
    let record = h.record(run, &worker.name).await?;
    let spans = record.status.context("no status")?.spans;
    let (from, to) = (schedule.cut_at.0.as_microsecond(), schedule.heal_at.0.as_microsecond());
    let mut outside = 0;
    for target in spans.iter().filter(|s| s.kind == SpanKind::Probe) {
        let (member, class) = target.subject.split_once('/').context("subject")?;
        // The load balancer's subject ends in its address.
        if class != "ApiServer" && class.parse::<std::net::SocketAddr>().is_err() {
            continue;
        }
        let inside = h.lab.nodes().iter().any(|n| n.name == member && n.rack == "r1");
        if inside {
            continue;
        }
        outside += 1;
        // One probe may have begun before the cut and one answered after it.
        let overlaps = target.from.wall.0.as_microsecond() < to - 1_500_000
            && target.to.wall.0.as_microsecond() > from + 1_500_000;
        let heard = target.state == "open" || target.state == "refused";
        ensure!(!(overlaps && heard), "{} heard {} during the cut: {target:?}", worker.name, target.subject);
    }
    // Two API servers and the load balancer, each open, silent, open.
    ensure!(outside >= 9, "only {outside} spans about API servers outside the rack");
    Ok(())
}

/// The finding of this check whose subject has these words.
pub fn one<'a>(findings: &'a [Finding], check: Check, subject: &str) -> Result<&'a Finding> {
    findings
        .iter()
        .find(|f| f.check == check && f.subject.contains(subject))
        .with_context(|| format!("no finding {check:?} of {subject}: {}", told(findings)))
}
