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

/// How far the clocks of a run's machines may be apart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Spread {
    /// The largest possible error between any two of them, the operator's among them, microseconds.
    pub largest_us: i64,
    /// The one that may be farthest from most.
    pub worst: String,
    /// How far that one is ahead of most (negative: behind), and the error of this, microseconds.
    pub ahead_us: i64,
    pub error_us: i64,
}

/// How far the clocks may be apart `seconds` after `now`.
///
/// # Errors
/// The name of a node that has not been measured, or only against the clock of another machine than this one, whose boot id is `own`.
pub fn spread(records: &[NodeRecord], own: &str, seconds: f64, now: Timestamp) -> Result<Spread, String> {
    // Name, offset and error. Of two that are as bad the last one is named: a node rather than the operator on it.
    let mut clocks = vec![("the operator", 0, 0)];
    for record in records {
        let clock = record.status.as_ref().and_then(|s| s.clock.as_ref());
        let Some((clock, known)) = clock.and_then(|c| Some((c, c.known().filter(|k| k.clock == own)?))) else {
            return Err(record.spec.node.clone());
        };
        let age_us = (now.as_microsecond() - known.at.wall.0.as_microsecond()).max(0) as f64;
        let error_us = known.error_us + ((age_us + seconds * 1e6) * clock.drift()) as i64;
        clocks.push((record.spec.node.as_str(), known.offset_us, error_us));
    }
    clocks.sort_by_key(|(_, offset_us, _)| *offset_us);
    // All are compared with the operator's: where that one is wrong, all others seem to be.
    let middle_us = clocks[clocks.len() / 2].1;
    let lowest = clocks.iter().map(|(_, offset_us, error_us)| offset_us - error_us).min().unwrap_or_default();
    let highest = clocks.iter().map(|(_, offset_us, error_us)| offset_us + error_us).max().unwrap_or_default();
    let distance = |(_, offset_us, error_us): &&(&str, i64, i64)| (offset_us - middle_us).abs() + error_us;
    let (worst, offset_us, error_us) = clocks.iter().max_by_key(distance).copied().unwrap_or_default();
    Ok(Spread { largest_us: highest - lowest, worst: worst.to_owned(), ahead_us: middle_us - offset_us, error_us })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Clock, ClockAnchor, Moment, NodeRecordSpec, NodeRecordStatus, Observer};

    const NOW: i64 = 1_900_000_000;

    /// The operator's clock is so far from this node's, give or take the error.
    fn record(node: &str, offset_us: i64, error_us: i64) -> NodeRecord {
        let at = Moment { boot_us: 0, wall: MicroTime(Timestamp::from_second(NOW).unwrap()) };
        let anchor = ClockAnchor { at, offset_us, error_us, clock: "b1".into() };
        let clock = Clock { synchronised: true, anchors: vec![anchor], ..Default::default() };
        let status = NodeRecordStatus { clock: Some(clock), ..Default::default() };
        NodeRecord {
            status: Some(status),
            ..NodeRecord::new(node, NodeRecordSpec::new("r", "u", node, Observer::Agent))
        }
    }

    fn told(records: &[NodeRecord], own: &str, seconds: f64) -> Result<(i64, String, i64, i64), String> {
        let spread = spread(records, own, seconds, Timestamp::from_second(NOW).unwrap())?;
        Ok((spread.largest_us, spread.worst, spread.ahead_us, spread.error_us))
    }

    #[test]
    fn the_clock_that_is_farthest_from_most_is_named() {
        let ahead = [record("w1", 0, 1000), record("w2", 500, 1000), record("w3", -1_500_000, 2000)];
        assert_eq!(told(&ahead, "b1", 0.0), Ok((1_503_500, "w3".into(), 1_500_000, 2000)));
        // 200 ppm of a thousand seconds.
        assert_eq!(told(&ahead, "b1", 1000.0), Ok((1_903_500, "w3".into(), 1_500_000, 202_000)));
        let blurred = [record("w1", 0, 300_000), record("w2", 0, 1000)];
        assert_eq!(told(&blurred, "b1", 0.0), Ok((600_000, "w1".into(), 0, 300_000)), "its answers come late");
    }

    #[test]
    fn where_the_operators_own_clock_is_wrong_its_node_is_named() {
        let own = [record("w1", 700_000, 1000), record("w2", 0, 1000), record("w3", 700_000, 1000)];
        assert_eq!(told(&own, "b1", 0.0), Ok((702_000, "w2".into(), 700_000, 1000)));
    }

    #[test]
    fn what_was_compared_with_another_clock_is_not_measured() {
        assert_eq!(told(&[record("w1", 0, 1000)], "b2", 0.0), Err("w1".into()));
        assert_eq!(told(&[], "b1", 0.0), Ok((0, "the operator".into(), 0, 0)));
    }
}
