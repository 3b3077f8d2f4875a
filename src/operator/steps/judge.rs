//! Judge: wait for the records to be complete, then say what they show.

use super::{Error, Planned, failed_to, fit, planned};
use crate::{
    api::{FindingResult, NodeRecord, Phase, RackPartition, RackPartitionStatus, Verdict, conditions},
    course::{Next, aborted, seconds_between},
    judge::{self, Evidence},
    operator::{
        context::{Context, unpack},
        steady,
    },
    predict::count,
    report,
};
use k8s_openapi::jiff::Timestamp;
use std::{sync::Arc, time::Duration};

/// Agents write every few seconds; one that has not written for this long after the end is cut off or dead, and the findings
/// that need it are Inconclusive.
const PATIENCE_SECONDS: f64 = 20.0;

/// # Errors
/// Where the API does not answer.
pub async fn step(run: &RackPartition, ctx: &Arc<Context>) -> Result<Next, Error> {
    let status = run.status.clone().unwrap_or_default();
    let Some(schedule) = status.schedule.clone() else {
        return Ok(aborted(status, "the schedule is missing", Timestamp::now()));
    };
    let planned = planned(run, ctx).await?;
    // A restarted operator has no observer here any more and needs none; one that has been watching writes a last time.
    ctx.observers.write(ctx, run).await.map_err(failed_to("write the operator's record"))?;
    let (mut agents, operator) = ctx.records_of(run).await.map_err(failed_to("read the node records"))?;
    let now = steady::now(Some(&schedule));
    ctx.reminder.remind(&planned.plan, &planned.nodes(&agents).overdue(&status, now));
    let end = schedule.observed_until.clone().unwrap_or_else(|| schedule.recover_by.clone());
    let complete =
        |r: &NodeRecord| r.status.as_ref().and_then(|s| s.observed_until.as_ref()).is_some_and(|until| *until >= end);
    let missing: Vec<&str> = planned
        .plan
        .agents()
        .into_iter()
        .filter(|n| !agents.iter().any(|r| r.spec.node == **n && complete(r)))
        .collect();
    if !missing.is_empty() && seconds_between(now, end.0) > -PATIENCE_SECONDS {
        let message = format!("waiting for the records of {}", missing.join(", "));
        return Ok(Next::wait(status, Duration::from_secs(1), message));
    }
    ctx.observers.end(&planned.plan.run_uid);
    unpack(&mut agents);
    Ok(verdict(run, planned.nodes(&agents).healed(status, now), &planned, &agents, operator.as_ref()))
}

fn verdict(
    run: &RackPartition,
    status: RackPartitionStatus,
    planned: &Planned,
    agents: &[NodeRecord],
    operator: Option<&NodeRecord>,
) -> Next {
    let schedule = status.schedule.clone().expect("checked by the caller");
    let now = steady::now(Some(&schedule));
    let evidence = Evidence {
        spec: &run.spec,
        snapshot: &planned.snapshot,
        fault: &planned.fault,
        plan: &planned.plan,
        sides: &planned.sides,
        schedule: &schedule,
        operator,
        agents,
    };
    let judgement = judge::judge(&evidence);
    let proof = &judgement.injected;
    let injected = match proof.result {
        FindingResult::Held => "True",
        FindingResult::Violated => "False",
        _ => "Unknown",
    };
    let status = RackPartitionStatus {
        verdict: Some(judgement.verdict),
        runbook: report::runbook(&planned.snapshot, &judgement.findings),
        not_looked_at: report::not_made(&judgement.findings),
        not_supported: report::unsupported(),
        findings: judgement.findings,
        onset: judgement.onset,
        ..status
    };
    let mut message = report::summary(&status);
    let (status, left_out) = fit::fitting(status);
    if left_out > 0 {
        let left_out = count(left_out, "finding");
        message += &format!("; {left_out} left out for want of room: export the run and judge it to see all");
    }
    let mut next = Next::phase(status, Phase::Done, "Judged", &message)
        .condition(conditions::INJECTED, (injected, "Probed"), &proof.observed, now)
        .condition(conditions::JUDGED, ("True", &format!("{:?}", judgement.verdict)), &message, now);
    if judgement.verdict != Verdict::Pass {
        next.event = Some(("Judged", message, true));
    }
    next
}
