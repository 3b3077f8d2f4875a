//! Shapes of `examples/shapes` that three racks can have: every pair of ports is as the shape says, seen by the agents.

use crate::harness::{Harness, told};
use anyhow::{Context, Result, ensure};
use rackpartition::api::{Check, FindingResult, Phase, Verdict};
use std::time::Duration;

/// Arming, a minute of cut, recovery of up to five minutes, judging.
const WHOLE_RUN: Duration = Duration::from_secs(540);
const SHAPES: [&str; 6] = ["bridge", "one-way", "etcd-peers", "reject", "bad-link", "staggered"];

pub async fn are_exact(h: &Harness) -> Result<()> {
    for shape in SHAPES {
        h.spread_workload().await?;
        let name = h.create_from(&format!("examples/shapes/{shape}.yaml")).await?;
        let status = h.phase(&name, &[Phase::Done], WHOLE_RUN).await?;
        let findings = &status.findings;
        println!("{shape}: {}", status.plan.as_ref().context("no plan")?.cut);
        println!("{}", rackpartition::report::findings_table(&status, Some(160)));
        let proof = findings.iter().filter(|f| f.check == Check::FaultProven);
        ensure!(proof.clone().count() > 1, "{shape}: the fault is not told: {}", told(findings));
        for finding in proof {
            let proven = matches!(finding.result, FindingResult::Held | FindingResult::Noted);
            ensure!(proven, "{shape}: {finding:?}");
        }
        let fine = [Some(Verdict::Pass), Some(Verdict::Degraded)];
        ensure!(fine.contains(&status.verdict), "{shape}: {:?}: {}", status.verdict, told(findings));
        h.no_tables(Duration::from_secs(10)).await?;
        h.all_hear_each_other().await?;
        h.clear().await?;
    }
    Ok(())
}
