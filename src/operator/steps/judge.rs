//! Judge: wait for the records to be complete, then say what they show.

use super::{Error, Planned, failed_to, fit, planned};
use crate::{
    api::{FindingResult, NAMED, NodeRecord, Phase, RackPartition, RackPartitionStatus, Verdict, conditions, first},
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
use kube::ResourceExt;
use std::{sync::Arc, time::Duration};

/// Agents write every few seconds; one that has not written for this long after the end is cut off or dead, and the findings
/// that need it are Inconclusive.
pub const PATIENCE_SECONDS: f64 = 20.0;

/// # Errors
/// Where the API does not answer.
pub async fn step(run: &RackPartition, ctx: &Arc<Context>) -> Result<Next, Error> {
    let status = run.status.clone().unwrap_or_default();
    let Some(schedule) = status.schedule.clone() else {
        return Ok(aborted(status, "the schedule is missing", Timestamp::now()));
    };
    let planned = planned(run, ctx).await?;
    // A restarted operator has no observer here any more and needs none; one that has been watching writes a last time.
    let written = ctx.observers.write(ctx, run).await.map_err(failed_to("write the operator's record"));
    let read = ctx.records_of(run).await.map_err(failed_to("read the node records"));
    let now = steady::now(Some(&schedule));
    let end = schedule.observed_until.clone().unwrap_or_else(|| schedule.recover_by.clone());
    let over = seconds_between(end.0, now);
    let refused = |what, is_refused| ctx.refusals.last(&planned.plan.run_uid, what, is_refused).min(over);
    let read_for = refused("records", read.as_ref().is_err_and(Error::is_refusal));
    let write_for = refused("record", written.as_ref().is_err_and(Error::is_refusal));
    let (mut agents, operator) = match read {
        Err(error) if goes_without(&error, read_for) => {
            tracing::warn!(%error, run = run.name_any(), "judges without any record");
            ctx.observers.end(&planned.plan.run_uid);
            return Ok(unread(run, status, &planned, &error));
        }
        read => read?,
    };
    ctx.reminder.remind(&planned.plan, &planned.nodes(&agents).overdue(&status, now));
    match written {
        Err(error) if goes_without(&error, write_for) => {
            tracing::warn!(%error, run = run.name_any(), "judges without the end of the operator's record");
        }
        written => written?,
    }
    let complete =
        |r: &NodeRecord| r.status.as_ref().and_then(|s| s.observed_until.as_ref()).is_some_and(|until| *until >= end);
    let missing: Vec<&str> = planned
        .plan
        .agents()
        .into_iter()
        .filter(|n| !agents.iter().any(|r| r.spec.node == **n && complete(r)))
        .collect();
    if !missing.is_empty() && over < PATIENCE_SECONDS {
        let message = format!("waiting for the records of {}", first(&missing, NAMED));
        return Ok(Next::wait(status, Duration::from_secs(1), message));
    }
    ctx.observers.end(&planned.plan.run_uid);
    unpack(&mut agents);
    Ok(verdict(run, planned.nodes(&agents).healed(status, now), &planned, &agents, operator.as_ref(), None))
}

/// Whether a run goes on without what its record may not be given, such as for a quota, or without the records that nobody may read: it
/// would be waited for for ever. What needs it is Inconclusive. `since`: seconds for which the API has refused it and what is watched is over.
pub fn goes_without(error: &Error, since: f64) -> bool {
    error.is_refusal() && since >= PATIENCE_SECONDS
}

/// The end of a run whose records nobody may read. The condition `Healed` goes on saying what was known of the nodes.
fn unread(run: &RackPartition, status: RackPartitionStatus, planned: &Planned, error: &Error) -> Next {
    let why = format!("{error}; what nodes and the operator have seen is not known");
    verdict(run, status, planned, &[], None, Some(&why))
}

/// `unread`: why there are no records, where there are none.
fn verdict(
    run: &RackPartition,
    status: RackPartitionStatus,
    planned: &Planned,
    agents: &[NodeRecord],
    operator: Option<&NodeRecord>,
    unread: Option<&str>,
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
    if let Some(why) = unread {
        message += &format!("; {why}");
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::fixture::passing;
    use kube::core::Status;

    #[test]
    fn a_run_whose_records_nobody_may_read_is_inconclusive_and_says_why() {
        let passed = passing();
        let (plan, snapshot, sides) = (passed.plan.clone(), passed.snapshot.clone(), passed.sides.clone());
        let planned = Planned { plan, snapshot, fault: passed.fault.clone(), sides };
        let run = RackPartition::new("run", passed.spec.clone());
        let status = RackPartitionStatus {
            phase: Some(Phase::Judging),
            schedule: Some(passed.schedule.clone()),
            ..RackPartitionStatus::default()
        };
        let answer = kube::Error::Api(Status::failure("no such right", "Forbidden").with_code(403).boxed());
        let next = unread(&run, status, &planned, &failed_to("read the node records")(answer));
        assert!(next.is(Phase::Done));
        assert_eq!(next.status.verdict, Some(Verdict::Inconclusive));
        let message = next.status.message.unwrap_or_default();
        let says = |words: &str| message.contains(words);
        assert!(says("Inconclusive: ") && says("failed to read the node records: "), "{message}");
        assert!(!next.status.conditions.iter().any(|c| c.type_ == conditions::HEALED), "nobody said anything new");
    }

    #[test]
    fn a_record_that_the_api_server_refuses_is_not_waited_for_for_ever() {
        let goes = |code: u16, since: f64| {
            let answer = kube::Error::Api(Status::failure("exceeded quota", "").with_code(code).boxed());
            goes_without(&failed_to("write the operator's record")(answer), since)
        };
        assert!(goes(403, PATIENCE_SECONDS));
        assert!(!goes(403, PATIENCE_SECONDS - 1.0), "its rights may be about to be there");
        assert!(!goes(503, 3600.0) && !goes(409, 3600.0), "it may be written yet");
    }
}
