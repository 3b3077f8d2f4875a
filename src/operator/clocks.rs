//! The operator's half of the four timestamps: answers agents' clock pings as fast as it sees them.

use crate::api::{ClockAnchor, NodeRecord};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;

/// Answers until dropped.
pub async fn answer(client: Client, namespace: String) {
    let records: Api<NodeRecord> = Api::namespaced(client, &namespace);
    let config = watcher::Config::default().timeout(20);
    let mut changes = watcher(records.clone(), config).default_backoff().touched_objects().boxed();
    loop {
        match changes.try_next().await {
            Ok(Some(record)) => {
                let received = MicroTime(Timestamp::now());
                if let Some(sequence) = unanswered(&record) {
                    let answered = MicroTime(Timestamp::now());
                    let reply = json!({"spec": {"clockReply": {
                        "sequence": sequence, "received": received, "answered": answered
                    }}});
                    let (name, params) = (record.name_any(), PatchParams::default());
                    if let Err(error) = records.patch(&name, &params, &Patch::Merge(reply)).await {
                        tracing::debug!(%error, record = name, "failed to answer a clock ping");
                    }
                }
            }
            Ok(None) => return,
            Err(error) => tracing::debug!(%error, "failed to watch node records"),
        }
    }
}

fn unanswered(record: &NodeRecord) -> Option<u32> {
    let sequence = record.status.as_ref()?.clock.as_ref()?.ping.as_ref()?.sequence;
    let answered = record.spec.clock_reply.as_ref().map(|r| r.sequence);
    (answered != Some(sequence)).then_some(sequence)
}

/// Rate at which a clock may run away from another one. Synchronised: Spanner's worst case (OSDI 2012, section 3). Free-running:
/// the largest error that the kernel's own clock discipline corrects (`MAXFREQ` of adjtimex(2), 500 ppm).
const DRIFT_SYNCHRONISED: f64 = 200e-6;
const DRIFT_FREE: f64 = 500e-6;

/// The largest possible error between any two of these machines' clocks, the operator's among them, after `seconds` more.
/// Microseconds.
///
/// # Errors
/// The name of a node that has not been measured.
pub fn largest_error_us(records: &[NodeRecord], seconds: f64) -> Result<i64, String> {
    let now = Timestamp::now().as_microsecond();
    let (mut low, mut high) = (0, 0);
    for record in records {
        let clock = record.status.as_ref().and_then(|s| s.clock.as_ref());
        let (Some(clock), Some(newest)) = (clock, clock.and_then(|c| c.anchors.last())) else {
            return Err(record.spec.node.clone());
        };
        let rate = if clock.synchronised { DRIFT_SYNCHRONISED } else { DRIFT_FREE };
        let error_then = |a: &ClockAnchor| {
            let age_us = (now - a.at.wall.0.as_microsecond()).max(0) as f64;
            a.error_us + ((age_us + seconds * 1e6) * rate) as i64
        };
        // The narrowest of those that the newest does not contradict: one before a step of the clock knows nothing of it.
        let agrees = |a: &&ClockAnchor| (a.offset_us - newest.offset_us).abs() <= error_then(a) + newest.error_us;
        let best = clock.anchors.iter().filter(agrees).min_by_key(|a| error_then(a)).unwrap_or(newest);
        let (offset_us, error) = (best.offset_us, error_then(best));
        low = low.min(offset_us - error);
        high = high.max(offset_us + error);
    }
    Ok(high - low)
}
