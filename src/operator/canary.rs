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
    /// One was acknowledged at this moment. Of writes under way at once the one that was asked for first may be answered last.
    pub(super) fn at(&self, server: &str, moment: Instant) {
        let mut latest = self.0.lock().expect("no holder panics");
        let known = latest.entry(server.to_owned()).or_insert(moment);
        *known = moment.max(*known);
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
        let (look, asked) = (Look::begin(), Instant::now());
        let write = timeout(DEADLINE, leases.patch(&name, &params, &Patch::Apply(lease))).await.ok();
        let was_held = look.was_held(DEADLINE);
        let state = fate(write.as_ref());
        let detail = write.and_then(Result::err).map(|error| error.to_string());
        if let Some(at) = acknowledged_at(state, was_held, asked) {
            self.acknowledged.at(&self.server.name, at);
            self.ctx.route.has_answered(&self.server.name);
        }
        *self.connection.lock().expect("no holder panics") = (state == "acknowledged").then_some(client);
        if was_held {
            return;
        }
        // A write every period: where two follow each other later than that, nobody knows what would have become of the ones between.
        let max_gap = Some(2 * PERIOD);
        let seen = Observation { detail, max_gap, ..Observation::new(&self.server.name, state) };
        self.record.observe(SpanKind::Canary, seen);
    }
}

/// The latest moment at which a write of this state is known to have been acknowledged. Whoever was held can't tell when the answer came,
/// and has no span of it; yet the write was taken after it was asked for.
fn acknowledged_at(state: &str, was_held: bool, asked: Instant) -> Option<Instant> {
    (state == "acknowledged").then(|| if was_held { asked } else { Instant::now() })
}

/// Deletes the canary Leases of a run, and its registers; they are the run's and would go with it.
pub async fn remove(ctx: &Context, run: &RackPartition) -> kube::Result<()> {
    ctx.canary_leases().delete_collection(&Default::default(), &objects::of_run(run)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_was_answered_while_the_operator_was_held_was_acknowledged_all_the_same() {
        let (server, begun) = (["cp1".to_owned()], Instant::now());
        let asked = begun - Duration::from_secs(5);
        assert_eq!(acknowledged_at("acknowledged", true, asked), Some(asked));
        assert!(acknowledged_at("acknowledged", false, asked).is_some_and(|at| at >= begun));
        assert_eq!(acknowledged_at("unknown", true, asked), None);
        assert_eq!(acknowledged_at("failed", false, asked), None);
        // It takes nothing away from what was acknowledged since.
        let acknowledged = Acknowledged::default();
        for moment in [asked, begun, asked] {
            acknowledged.at("cp1", moment);
        }
        assert_eq!(acknowledged.latest(&server), Some(begun));
    }
}
