//! A small write through one API server, again and again: the plainest evidence of where the cluster is writable.

use super::{
    context::Context,
    objects,
    observer::{Record, every},
};
use crate::{
    api::{RackPartition, SpanKind},
    observe::Observation,
    topology::ApiServer,
};
use k8s_openapi::{api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::{Instant, timeout};

const PERIOD: Duration = Duration::from_millis(500);
/// A healthy write takes milliseconds; etcd without a leader answers after 7 s or never.
const DEADLINE: Duration = Duration::from_secs(2);

/// When each API server acknowledged a write last, as this process saw it: spans may be another machine's, and a full record
/// takes no more of them.
#[derive(Clone, Debug, Default)]
pub struct Acknowledged(Arc<Mutex<HashMap<String, Instant>>>);

impl Acknowledged {
    fn now(&self, server: &str) {
        self.0.lock().expect("no holder panics").insert(server.to_owned(), Instant::now());
    }
    /// The latest by any of these servers.
    pub fn latest(&self, servers: &[String]) -> Option<Instant> {
        let latest = self.0.lock().expect("no holder panics");
        servers.iter().filter_map(|server| latest.get(server)).max().copied()
    }
}

/// Writes until dropped. Each failure dials anew, so that an old connection's retransmission back-off is never mistaken for an
/// API server that can't write.
pub async fn write_through(
    ctx: Arc<Context>,
    run: RackPartition,
    server: ApiServer,
    record: Record,
    acknowledged: Acknowledged,
) {
    let name = format!("rackpartition-canary-operator-{}", server.name.replace(':', "-"));
    let mut ticks = every(PERIOD);
    let mut connection = None;
    loop {
        ticks.tick().await;
        let client = match connection.take() {
            Some(client) => client,
            None => match ctx.route.direct(&server) {
                Ok(client) => client,
                Err(error) => {
                    tracing::warn!(%error, server = server.name, "failed to dial for the canary");
                    continue;
                }
            },
        };
        let leases: Api<Lease> = Api::namespaced(client.clone(), &ctx.settings.agent.agent_namespace);
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "labels": objects::labels(&run), "ownerReferences": objects::owner(&run)},
            "spec": {"holderIdentity": ctx.settings.pod, "renewTime": MicroTime(Timestamp::now())},
        });
        let params = PatchParams::apply("rackpartition-canary").force();
        let write = timeout(DEADLINE, leases.patch(&name, &params, &Patch::Apply(lease))).await;
        let (state, detail) = match write {
            Ok(Ok(_)) => {
                connection = Some(client);
                acknowledged.now(&server.name);
                ("acknowledged", None)
            }
            // Connection refused and 403 included: an API server without etcd refuses everybody.
            Ok(Err(error)) => ("failed", Some(error.to_string())),
            Err(_) => ("unknown", None),
        };
        record.observe(SpanKind::Canary, Observation { detail, ..Observation::new(&server.name, state) });
    }
}

/// Deletes the canary Leases of a run; they are the run's and would go with it.
pub async fn remove(ctx: &Context, run: &RackPartition) -> kube::Result<()> {
    ctx.canary_leases().delete_collection(&Default::default(), &objects::of_run(run)).await.map(drop)
}
