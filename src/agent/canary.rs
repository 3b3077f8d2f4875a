//! A write every second through this node's own API server: whether it acknowledges what it is asked to keep.

use super::{
    error::root_cause,
    journal::Journal,
    own_server::{Connection, OwnServer},
    record::MANAGER,
};
use crate::{
    api::SpanKind,
    connection::{Route, fate},
    observe::{Look, Observation, now},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Between two writes, if they are answered sooner.
const PERIOD: Duration = Duration::from_secs(1);
/// For one write and its acknowledgement.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// Characters of an error: evidence for people, in an object of bounded size.
const WHY_LIMIT: usize = 120;

/// Writes once a period. Never returns.
pub async fn sing(own: OwnServer, route: Route, journal: Journal) {
    let name = format!("rackpartition-canary-{}", own.node);
    let mut connection = Connection::new(&own, route);
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let Some(leases) = connection.leases() else { continue };
        let params = PatchParams::apply(MANAGER).force();
        let spec = json!({"holderIdentity": own.node, "renewTime": MicroTime(jiff::Timestamp::now())});
        let lease = Patch::Apply(own.lease(&name, spec));
        let answer = Look::within(DEADLINE, leases.patch(&name, &params, &lease)).await;
        let state = fate(answer.as_ref());
        if state != "acknowledged" {
            connection.hang_up();
        }
        // The time of the answer, or of giving up: what was acknowledged is kept from then on.
        let (max_gap, detail) = (Some(PERIOD + DEADLINE), why(answer.as_ref()));
        let seen = Observation { detail, max_gap, ..Observation::new(own.server.name.as_str(), state) };
        journal.observe(SpanKind::Canary, now(), seen);
    }
}

/// Why something was not done, where there was an answer.
pub fn why<T>(answer: Option<&kube::Result<T>>) -> Option<String> {
    match answer? {
        Ok(_) => None,
        Err(kube::Error::Api(status)) => Some(format!("{} {}", status.code, status.reason)),
        Err(error) => Some(root_cause(error).chars().take(WHY_LIMIT).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_why() {
        let status = serde_json::from_value(json!({"code": 403, "reason": "Forbidden"})).unwrap();
        let refused: kube::Result<()> = Err(kube::Error::Api(Box::new(status)));
        assert_eq!(why(Some(&refused)).as_deref(), Some("403 Forbidden"));
        assert_eq!((why(Some(&Ok(()))), why::<()>(None)), (None, None));
    }
}
