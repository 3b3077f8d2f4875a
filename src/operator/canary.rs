//! A small write through one API server, again and again: the plainest evidence of where the cluster is writable.

use super::{
    context::Context,
    objects,
    observer::{Record, every},
};
use crate::{
    api::{RackPartition, SpanKind},
    connection::fate,
    observe::{Look, Observation},
    topology::ApiServer,
};
use k8s_openapi::{api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

const PERIOD: Duration = Duration::from_millis(500);
/// A healthy write takes milliseconds; etcd without a leader answers after 7 s or never.
const DEADLINE: Duration = Duration::from_secs(2);

/// When each API server acknowledged a write last, as this process saw it: spans may be another machine's, and a full record
/// takes no more of them.
#[derive(Clone, Debug, Default)]
pub struct Acknowledged(Arc<Mutex<HashMap<String, Instant>>>);

impl Acknowledged {
    pub(super) fn now(&self, server: &str) {
        self.0.lock().expect("no holder panics").insert(server.to_owned(), Instant::now());
    }
    /// The latest by any of these servers.
    pub fn latest(&self, servers: &[String]) -> Option<Instant> {
        let latest = self.0.lock().expect("no holder panics");
        servers.iter().filter_map(|server| latest.get(server)).max().copied()
    }
}

/// One API server and what is written through it.
struct Canary {
    ctx: Arc<Context>,
    run: RackPartition,
    server: ApiServer,
    record: Record,
    acknowledged: Acknowledged,
    /// Where the last write was acknowledged. A connection that failed is not used again, so that its retransmission back-off is
    /// never mistaken for an API server that can't write.
    connection: Mutex<Option<Client>>,
}

/// Writes until dropped, whether or not the writes before are answered: one that etcd lost with its leader hangs until its deadline,
/// and must not hide when the next one got through.
pub async fn write_through(
    ctx: Arc<Context>,
    run: RackPartition,
    server: ApiServer,
    record: Record,
    acknowledged: Acknowledged,
) {
    let canary = Arc::new(Canary { ctx, run, server, record, acknowledged, connection: Mutex::default() });
    let (mut ticks, mut writes) = (every(PERIOD), JoinSet::new());
    loop {
        ticks.tick().await;
        writes.spawn(canary.clone().write());
        while writes.try_join_next().is_some() {}
    }
}

impl Canary {
    async fn write(self: Arc<Self>) {
        let name = format!("rackpartition-canary-operator-{}", self.server.name.replace(':', "-"));
        let kept = self.connection.lock().expect("no holder panics").clone();
        let client = match kept.map_or_else(|| self.ctx.route.direct(&self.server), Ok) {
            Ok(client) => client,
            Err(error) => {
                return tracing::warn!(%error, server = self.server.name, "failed to dial for the canary");
            }
        };
        let leases: Api<Lease> = Api::namespaced(client.clone(), &self.ctx.settings.agent.agent_namespace);
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": name,
                "labels": objects::labels(&self.run),
                "ownerReferences": objects::owner(&self.run),
            },
            "spec": {"holderIdentity": self.ctx.settings.pod, "renewTime": MicroTime(Timestamp::now())},
        });
        let params = PatchParams::apply("rackpartition-canary").force();
        let look = Look::begin();
        let write = timeout(DEADLINE, leases.patch(&name, &params, &Patch::Apply(lease))).await.ok();
        let write = write.filter(|_| !look.was_held(DEADLINE));
        let state = fate(write.as_ref());
        let detail = write.and_then(Result::err).map(|error| error.to_string());
        if state == "acknowledged" {
            self.acknowledged.now(&self.server.name);
            self.ctx.route.has_answered(&self.server.name);
        }
        *self.connection.lock().expect("no holder panics") = (state == "acknowledged").then_some(client);
        // A write every period: where two follow each other later than that, nobody knows what would have become of the ones between.
        let max_gap = Some(2 * PERIOD);
        let seen = Observation { detail, max_gap, ..Observation::new(&self.server.name, state) };
        self.record.observe(SpanKind::Canary, seen);
    }
}

/// Deletes the canary Leases of a run, and its registers; they are the run's and would go with it.
pub async fn remove(ctx: &Context, run: &RackPartition) -> kube::Result<()> {
    ctx.canary_leases().delete_collection(&Default::default(), &objects::of_run(run)).await.map(drop)
}
