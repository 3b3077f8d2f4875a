//! A write every second through this node's own API server: whether it acknowledges what it is asked to keep.

use super::{
    error::root_cause,
    journal::Journal,
    record::{MANAGER, owner},
};
use crate::{
    api::{RUN_LABEL, SpanKind},
    connection::Route,
    observe::{Observation, now},
    topology::ApiServer,
};
use k8s_openapi::{api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::MicroTime};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Between two writes, if they are answered sooner.
const PERIOD: Duration = Duration::from_secs(1);
/// For one write and its acknowledgement.
const DEADLINE: Duration = Duration::from_secs(2);

/// What is written and where.
#[derive(Clone, Debug)]
pub struct Canary {
    pub server: ApiServer,
    pub namespace: String,
    pub node: String,
    pub run: String,
    pub run_uid: String,
}

impl Canary {
    /// Writes once a period. Never returns.
    pub async fn sing(self, route: Route, journal: Journal) {
        let name = format!("rackpartition-canary-{}", self.node);
        let mut client: Option<Client> = None;
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let ready = match client.take() {
                Some(client) => client,
                None => match route.direct(&self.server) {
                    Ok(client) => client,
                    Err(error) => {
                        tracing::warn!(%error, "no canary");
                        continue;
                    }
                },
            };
            let api = Api::<Lease>::namespaced(ready.clone(), &self.namespace);
            let params = PatchParams::apply(MANAGER).force();
            let lease = Patch::Apply(self.lease(&name));
            let write = api.patch(&name, &params, &lease);
            let (state, detail) = judge(timeout(DEADLINE, write).await.ok().map(|r| r.map(drop)));
            // A connection that failed is not used again: it may be waiting for a retransmission.
            client = (state == "acknowledged").then_some(ready);
            // The time of the answer, or of giving up: what was acknowledged is kept from then on.
            let max_gap = Some(PERIOD + DEADLINE);
            let seen = Observation { detail, max_gap, ..Observation::new(self.server.name.as_str(), state) };
            journal.observe(SpanKind::Canary, now(), seen);
        }
    }

    fn lease(&self, name: &str) -> serde_json::Value {
        json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": name,
                "labels": {RUN_LABEL: self.run},
                "ownerReferences": [owner(&self.run, &self.run_uid)],
            },
            "spec": {"holderIdentity": self.node, "renewTime": MicroTime(jiff::Timestamp::now())},
        })
    }
}

/// State and detail of one write; `None`: there was no answer in time.
fn judge(answer: Option<kube::Result<()>>) -> (&'static str, Option<String>) {
    match answer {
        Some(Ok(())) => ("acknowledged", None),
        Some(Err(kube::Error::Api(status))) => ("failed", Some(format!("{} {}", status.code, status.reason))),
        Some(Err(error)) => {
            // A connection that broke may have carried the write; one that was refused has not.
            let state = if was_refused(&error) { "failed" } else { "unknown" };
            (state, Some(root_cause(&error).chars().take(120).collect()))
        }
        None => ("unknown", None),
    }
}

fn was_refused(error: &kube::Error) -> bool {
    let first: &dyn std::error::Error = error;
    std::iter::successors(Some(first), |e| e.source())
        .filter_map(|e| e.downcast_ref::<std::io::Error>())
        .any(|e| e.kind() == std::io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_success_is_an_acknowledgement() {
        let status = |code, reason: &str| {
            let status = serde_json::from_value(json!({"code": code, "reason": reason})).unwrap();
            Some(Err(kube::Error::Api(Box::new(status))))
        };
        assert_eq!(judge(Some(Ok(()))).0, "acknowledged");
        assert_eq!(judge(None).0, "unknown");
        assert_eq!(judge(status(403, "Forbidden")), ("failed", Some("403 Forbidden".into())));
        assert_eq!(judge(status(500, "InternalError")).0, "failed");
    }

    #[tokio::test]
    async fn a_refused_connection_carried_nothing() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let mut config = kube::Config::new(format!("http://{address}").parse().unwrap());
        config.default_retry = false;
        let api = Api::<Lease>::namespaced(Client::try_from(config).unwrap(), "ns");
        assert_eq!(judge(Some(api.get("x").await.map(drop))).0, "failed");
    }

    #[test]
    fn the_lease_is_a_lease_that_the_run_owns() {
        let server = ApiServer { name: "cp1".into(), address: "198.18.0.1:6443".parse().unwrap() };
        let canary =
            Canary { server, namespace: "ns".into(), node: "cp1".into(), run: "isolate".into(), run_uid: "u1".into() };
        let lease: Lease = serde_json::from_value(canary.lease("rackpartition-canary-cp1")).unwrap();
        assert_eq!(lease.spec.unwrap().holder_identity.as_deref(), Some("cp1"));
        assert_eq!(lease.metadata.owner_references.unwrap()[0].uid, "u1");
    }
}
