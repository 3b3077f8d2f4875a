//! The operator's half of the four timestamps: answers agents' clock pings as fast as it sees them.

use crate::{
    api::{ClockReply, NodeRecord},
    observe::boot_id,
};
use futures::StreamExt;
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;
use std::collections::HashMap;

/// Answers under way at once. One behind the other, the last of many agents would wait for all, and take it for its clock's error.
const AT_ONCE: usize = 32;

/// Answers until dropped.
pub async fn answer(client: Client, namespace: String) {
    let records: Api<NodeRecord> = Api::namespaced(client, &namespace);
    let config = watcher::Config::default().timeout(20);
    let own = boot_id().unwrap_or_default();
    let mut answered = HashMap::new();
    watcher(records.clone(), config)
        .default_backoff()
        .touched_objects()
        .filter_map(|change| {
            let asked = change.inspect_err(|error| tracing::warn!(%error, "failed to watch node records"));
            std::future::ready(asked.ok().and_then(|record| question(&record, &mut answered)))
        })
        .for_each_concurrent(AT_ONCE, |(name, sequence)| {
            let (records, own) = (records.clone(), own.clone());
            async move {
                // Answered as soon as it was received.
                let now = MicroTime(Timestamp::now());
                let reply = ClockReply { sequence, received: now.clone(), answered: now, clock: own };
                let reply = json!({"spec": {"clockReply": reply}});
                if let Err(error) = records.patch(&name, &PatchParams::default(), &Patch::Merge(reply)).await {
                    tracing::debug!(%error, record = name, "failed to answer a clock ping");
                }
            }
        })
        .await;
}

/// The record's name and its open question, once: the record changes again before the answer is in it.
fn question(record: &NodeRecord, answered: &mut HashMap<String, u32>) -> Option<(String, u32)> {
    let sequence = record.status.as_ref()?.clock.as_ref()?.ping.as_ref()?.sequence;
    if record.spec.clock_reply.as_ref().is_some_and(|r| r.sequence == sequence) {
        return None;
    }
    let name = record.name_any();
    (answered.insert(name.clone(), sequence) != Some(sequence)).then_some((name, sequence))
}

/// The largest possible error between any two of these machines' clocks, the operator's among them, after `seconds` more.
/// Microseconds.
///
/// # Errors
/// The name of a node that has not been measured, or only against the clock of another machine than this one, whose boot id is `own`.
pub fn largest_error_us(records: &[NodeRecord], own: &str, seconds: f64) -> Result<i64, String> {
    let now = Timestamp::now().as_microsecond();
    let (mut low, mut high) = (0, 0);
    for record in records {
        let clock = record.status.as_ref().and_then(|s| s.clock.as_ref());
        let Some((clock, known)) = clock.and_then(|c| Some((c, c.known().filter(|k| k.clock == own)?))) else {
            return Err(record.spec.node.clone());
        };
        let age_us = (now - known.at.wall.0.as_microsecond()).max(0) as f64;
        let error = known.error_us + ((age_us + seconds * 1e6) * clock.drift()) as i64;
        low = low.min(known.offset_us - error);
        high = high.max(known.offset_us + error);
    }
    Ok(high - low)
}
