//! A run as named steps: plan → arm → schedule → cut → recover → judge, with abort from anywhere.
//!
//! Each step looks at the objects, does what is due, and returns the status that follows. Nothing is kept between two calls that
//! a restarted operator, or another replica, would miss.

pub mod abort;
pub mod arm;
mod baseline;
pub mod cut;
pub mod end;
mod fit;
pub mod judge;
pub mod plan;
pub mod recover;
mod store;
pub mod survey;
mod waits;

use super::{context::Context, gather, objects};
use crate::{
    api::{NodeRecord, RackPartition, Side},
    course::{Nodes, seconds_between},
    fault::{Fault, RunPlan, expand, sides},
    topology::Snapshot,
};
use k8s_openapi::{api::core::v1::ConfigMap, jiff::Timestamp};
use kube::ResourceExt;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum Error {
    #[error("failed to {verb}: {source}")]
    Api { verb: &'static str, source: Box<kube::Error> },
    #[error(transparent)]
    Gather(#[from] gather::Error),
    #[error(transparent)]
    Objects(#[from] objects::Error),
    #[error("failed to find the plan of run {run}: its ConfigMap is gone or another one")]
    PlanGone { run: String },
}

/// HTTP: another version is there.
const CONFLICT: u16 = 409;

impl Error {
    /// Whether the API understood and said no: permissions, quotas, a plan too large for an object. Not where it asks to try again.
    pub fn is_refusal(&self) -> bool {
        let (Error::Api { source, .. } | Error::Gather(gather::Error::Read { source, .. })) = self else {
            return false;
        };
        const TIMEOUT: u16 = 408;
        const TOO_MANY: u16 = 429;
        matches!(&**source, kube::Error::Api(answer)
            if (400..500).contains(&answer.code) && ![TIMEOUT, CONFLICT, TOO_MANY].contains(&answer.code))
    }

    /// Whether the API server has said for sure that it has not written, nor will. A write that was given up when its time ran out, or
    /// whose connection broke, may yet be made.
    pub fn is_unwritten(&self) -> bool {
        let is_conflict = matches!(self, Error::Api { source, .. }
            if matches!(&**source, kube::Error::Api(answer) if answer.code == CONFLICT));
        self.is_refusal() || is_conflict
    }

    /// Whether the plan can't be had again, however often one asks.
    pub fn is_lost_plan(&self) -> bool {
        matches!(self, Error::PlanGone { .. } | Error::Objects(_) | Error::Gather(gather::Error::Refused(_)))
    }
}

/// Says what was being done when the API answered with an error.
pub fn failed_to(verb: &'static str) -> impl FnOnce(kube::Error) -> Error {
    move |source| Error::Api { verb, source: Box::new(source) }
}

/// What is gone need not be deleted or changed any more.
pub fn or_gone(result: kube::Result<()>) -> kube::Result<()> {
    match result {
        Err(kube::Error::Api(answer)) if answer.is_not_found() => Ok(()),
        other => other,
    }
}

/// A run with its plan, as written before anything was touched.
pub struct Planned {
    pub plan: RunPlan,
    pub snapshot: Snapshot,
    pub fault: Fault,
    pub sides: Vec<Side>,
}

impl Planned {
    /// The nodes of the plan with what they say.
    pub fn nodes<'a>(&'a self, records: &'a [NodeRecord]) -> Nodes<'a> {
        Nodes { names: self.plan.agents(), records }
    }
}

/// Reads back what the agents were given: all that healing needs.
///
/// # Errors
/// Where the ConfigMap can't be read or is gone.
pub async fn plan_of(run: &RackPartition, ctx: &Context) -> Result<RunPlan, Error> {
    plan_map_of(run, ctx).await.map(|(_, plan)| plan)
}

async fn plan_map_of(run: &RackPartition, ctx: &Context) -> Result<(ConfigMap, RunPlan), Error> {
    let map = ctx.plan_map_of(run).await.map_err(failed_to("read the plan"))?;
    let map = map.ok_or_else(|| Error::PlanGone { run: run.name_any() })?;
    let plan = objects::read_plan(&map)?;
    // What agents were given, and no other plan that somebody put in its place.
    if run.status.as_ref().and_then(|s| s.plan.as_ref()).is_some_and(|p| p.hash != plan.hash()) {
        return Err(Error::PlanGone { run: run.name_any() });
    }
    Ok((map, plan))
}

/// Reads the plan back, and all that it was made of. Its fault is expanded again from the snapshot of that time, so that roles stand
/// for whom they stood for then.
///
/// # Errors
/// Where the ConfigMap can't be read or is gone.
pub async fn planned(run: &RackPartition, ctx: &Context) -> Result<Planned, Error> {
    let (map, plan) = plan_map_of(run, ctx).await?;
    let snapshot = objects::read_snapshot(&map)?;
    let fault = expand(&run.spec, &snapshot).map_err(gather::Error::Refused)?;
    let sides = sides(&snapshot, &fault);
    Ok(Planned { plan, snapshot, fault, sides })
}

/// Seconds from now until `at`; negative when it is over.
pub fn seconds_until(at: Timestamp) -> f64 {
    seconds_between(Timestamp::now(), at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;
    use std::io;

    #[test]
    fn only_what_an_api_server_refuses_is_not_written_for_sure() {
        let failed = |error| failed_to("write the status")(error);
        let answered = |code: u16| failed(kube::Error::Api(Status::failure("why", "").with_code(code).boxed()));
        for code in [403, 409, 413, 422] {
            assert!(answered(code).is_unwritten(), "{code}");
        }
        // It may still be on its way to etcd.
        for code in [408, 429, 500, 503, 504] {
            assert!(!answered(code).is_unwritten(), "{code}");
        }
        let broken = io::Error::from(io::ErrorKind::TimedOut);
        assert!(!failed(kube::Error::Service(broken.into())).is_unwritten());
    }
}
