//! What the run asks of this node, read from the RackPartition.

use super::{
    decide::{Order, Times},
    follow::{Seen, follow},
};
use crate::api::{Phase, RackPartition};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;

/// Follows the run and passes on what it asks, once this node's record is `there`. Never returns.
pub async fn follow_run(
    client: Client,
    run: &str,
    uid: &str,
    there: watch::Receiver<bool>,
    orders: watch::Sender<Order>,
) {
    let (hear, heard) = watch::channel(Order::default());
    let follow = follow(Api::<RackPartition>::all(client), run, |seen| drop(hear.send_replace(order(&seen, uid))));
    tokio::join!(follow, pass_on(heard, there, orders));
}

/// Nobody arms before its record is there, so that a node without one holds nothing; an end is passed on at once.
async fn pass_on(mut heard: watch::Receiver<Order>, mut there: watch::Receiver<bool>, orders: watch::Sender<Order>) {
    loop {
        let mut order = heard.borrow_and_update().clone();
        order.known &= *there.borrow_and_update();
        orders.send_if_modified(|old| {
            // An end can't be taken back: an object created anew under the same name is another run.
            let changed = *old != order && old.abort.is_none();
            if changed {
                tracing::info!(?order, "the run asks");
                *old = order;
            }
            changed
        });
        tokio::select! {
            Ok(()) = heard.changed() => {}
            Ok(()) = there.changed() => {}
            else => std::future::pending().await,
        }
    }
}

/// The order in what was seen of the run.
pub fn order(seen: &Seen<RackPartition>, uid: &str) -> Order {
    let abort = |why: &str| Order { known: true, abort: Some(why.into()), ..Default::default() };
    let run = match seen {
        Seen::Gone => return abort("the run was deleted"),
        Seen::There(run) if run.uid().as_deref() != Some(uid) => return abort("the run was deleted and another begun"),
        Seen::There(run) => run,
    };
    let status = run.status.clone().unwrap_or_default();
    let ended = match status.phase {
        _ if run.metadata.deletion_timestamp.is_some() => Some("the run is being deleted"),
        _ if run.spec.abort => Some("spec.abort was set"),
        Some(Phase::Aborted) => Some("the run was aborted"),
        Some(Phase::Refused) => Some("the run was refused"),
        _ => None,
    };
    Order {
        known: status.phase.is_some(),
        times: status.schedule.map(|s| Times { cut_at: s.cut_at.0, heal_at: s.heal_at.0 }),
        may_arm: ended.is_none() && matches!(status.phase, Some(Phase::Planned | Phase::Arming)),
        may_load: matches!(status.phase, Some(Phase::Scheduled | Phase::Cut)),
        done: status.phase == Some(Phase::Done),
        abort: ended.map(str::to_owned),
        store: status.store_revisions.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(change: impl FnOnce(&mut serde_json::Value)) -> Seen<RackPartition> {
        let mut run = serde_json::json!({
            "apiVersion": "rackpartition.io/v1alpha1", "kind": "RackPartition",
            "metadata": {"name": "run", "uid": "u1"},
            "spec": {"cut": {"isolate": {"racks": ["r1"]}}, "duration": "60s"},
            "status": {"phase": "Scheduled", "schedule": {
                "cutAt": "2027-01-01T00:00:10.000000Z", "healAt": "2027-01-01T00:01:10.000000Z",
                "recoverBy": "2027-01-01T00:06:10.000000Z"}},
        });
        change(&mut run);
        Seen::There(serde_json::from_value(run).unwrap())
    }

    #[tokio::test]
    async fn nobody_arms_before_its_record_is_there() {
        let (hear, heard) = watch::channel(Order::default());
        let (there, is_there) = watch::channel(false);
        let (orders, mut asked) = watch::channel(Order::default());
        let passing = tokio::spawn(pass_on(heard, is_there, orders));
        hear.send_replace(Order { known: true, may_arm: true, ..Default::default() });
        asked.wait_for(|order| order.may_arm && !order.known).await.unwrap();
        there.send_replace(true);
        asked.wait_for(|order| order.may_arm && order.known).await.unwrap();
        passing.abort();
    }

    #[test]
    fn a_schedule_is_an_order_in_two_phases_only() {
        for (phase, may_load) in [("Scheduled", true), ("Cut", true), ("Arming", false), ("Recovering", false)] {
            let order = order(&run(|r| r["status"]["phase"] = phase.into()), "u1");
            assert_eq!((order.may_load, order.abort, order.times.is_some()), (may_load, None, true), "{phase}");
        }
    }

    #[test]
    fn nodes_are_armed_in_two_phases_only() {
        for (phase, may_arm) in [("Planned", true), ("Arming", true), ("Scheduled", false), ("Done", false)] {
            let order = order(&run(|r| r["status"]["phase"] = phase.into()), "u1");
            assert_eq!((order.known, order.may_arm), (true, may_arm), "{phase}");
        }
        let aborted = run(|r| {
            r["status"]["phase"] = "Arming".into();
            r["spec"]["abort"] = true.into();
        });
        assert!(!order(&aborted, "u1").may_arm);
    }

    #[test]
    fn only_a_run_that_is_done_takes_tables_away() {
        for (phase, done) in [("Recovering", false), ("Judging", false), ("Done", true)] {
            let order = order(&run(|r| r["status"]["phase"] = phase.into()), "u1");
            assert_eq!((order.done, order.abort), (done, None), "{phase}");
        }
    }

    #[test]
    fn every_early_end_is_an_abort() {
        let ends = [
            Seen::Gone,
            run(|r| r["metadata"]["uid"] = "u2".into()),
            run(|r| r["metadata"]["deletionTimestamp"] = "2027-01-01T00:00:00Z".into()),
            run(|r| r["spec"]["abort"] = true.into()),
            run(|r| r["status"]["phase"] = "Aborted".into()),
            run(|r| r["status"]["phase"] = "Refused".into()),
        ];
        for seen in ends {
            assert!(order(&seen, "u1").abort.is_some(), "{seen:?}");
        }
        assert_eq!(order(&run(|r| r["status"] = serde_json::json!({})), "u1"), Order::default());
    }
}
