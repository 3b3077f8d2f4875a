//! What this node's member of etcd holds, in one number that others are compared with.

use super::{
    decide::Order,
    etcd_answers::{hash, refusal},
    etcd_client::post,
    etcd_member::{status, words},
    health::{Answer, shorten},
    journal::Journal,
};
use crate::{
    api::{STORE_HASH_AFTER, STORE_HASH_BEFORE, STORE_UNREAD, SpanKind, StoreHash},
    observe::{Observation, now},
};
use kube::Client;
use serde_json::json;
use std::time::Duration;
use tokio::{sync::watch, time::sleep};

/// Bytes in use above which a member is not asked: while it hashes it applies no write (`server/storage/mvcc/hash.go` holds the read
/// lock that every batch of writes waits for). Ours: what disks and memory of these days give in a second or two, a fraction of the
/// shortest timer that waits for a write (a leader's renew deadline, 10 s).
const LARGEST: i64 = 1 << 30;
/// For one hash of the largest.
const DEADLINE: Duration = Duration::from_secs(15);
/// A member that was cut off has to catch up first.
const RETRY: Duration = Duration::from_secs(1);
/// Until it is hashed a second time after the heal. Hashes are comparable where the same was thrown away, which API servers ask for
/// every five minutes: should that fall between the members' turns the first time, it does not the second time.
const SECOND: Duration = Duration::from_secs(20);

/// Writes down both hashes as soon as the run says at which revision.
pub async fn both(client: &Client, turn: Duration, orders: &watch::Receiver<Order>, journal: &Journal) {
    tokio::join!(before(client, turn, orders.clone(), journal), after(client, turn, orders.clone(), journal));
}

async fn before(client: &Client, turn: Duration, mut orders: watch::Receiver<Order>, journal: &Journal) {
    let Some(revision) = asked(&mut orders, |order| order.store.before).await else { return };
    sleep(turn).await;
    // Too close to the cut it would be a part of it.
    while orders.borrow().times.is_none() {
        if let Some(told) = one(client, revision).await.told() {
            return write(journal, STORE_HASH_BEFORE, &told);
        }
        sleep(RETRY).await;
    }
}

async fn after(client: &Client, turn: Duration, mut orders: watch::Receiver<Order>, journal: &Journal) {
    let Some(revision) = asked(&mut orders, |order| order.store.after).await else { return };
    sleep(turn).await;
    for _ in 0..2 {
        loop {
            let found = one(client, revision).await;
            write(journal, STORE_HASH_AFTER, &found.outcome);
            if found.is_final {
                break;
            }
            sleep(RETRY).await;
        }
        sleep(SECOND).await;
    }
}

/// The revision, as soon as the run has it; `None` where nobody will ever say.
async fn asked(orders: &mut watch::Receiver<Order>, of: fn(&Order) -> Option<i64>) -> Option<i64> {
    match orders.wait_for(|order| of(order).is_some()).await {
        Ok(order) => of(&order),
        Err(_) => None,
    }
}

fn write(journal: &Journal, subject: &str, outcome: &Result<StoreHash, String>) {
    let seen = match outcome {
        Ok(hash) => Observation::new(subject, hash.to_string()),
        Err(why) => Observation::new(subject, STORE_UNREAD).detail(shorten(why)),
    };
    journal.observe(SpanKind::Store, now(), seen);
}

/// What came of asking once.
#[derive(Debug, PartialEq)]
struct Found {
    outcome: Result<StoreHash, String>,
    /// Asking again would not help.
    is_final: bool,
}

impl Found {
    fn told(self) -> Option<Result<StoreHash, String>> {
        self.is_final.then_some(self.outcome)
    }
}

async fn one(client: &Client, revision: i64) -> Found {
    match status(client).await {
        Err(why) => return Found { outcome: Err(why), is_final: false },
        Ok(status) if status.used > LARGEST => {
            let why = format!("{} bytes are in use: too many to hash without holding up the cluster", status.used);
            return Found { outcome: Err(why), is_final: true };
        }
        Ok(_) => {}
    }
    // As a string, like every number of 64 bits there.
    let question = json!({"revision": revision.to_string()});
    found(post(client, "/v3/maintenance/hashkv", &question, DEADLINE).await, revision)
}

fn found(answer: Answer, revision: i64) -> Found {
    let never = |why: String| Found { outcome: Err(why), is_final: true };
    match answer {
        Answer::Said { code: 200, body } => match hash(&body, revision) {
            Some(hash) => Found { outcome: Ok(hash), is_final: true },
            None => never("no hash in its answer".into()),
        },
        Answer::Said { code: 404, .. } => never("it has no /v3/maintenance/hashkv: etcd 3.5.10 or later does".into()),
        Answer::Said { body, .. } if refusal(&body).is_some_and(|why| why.contains("has been compacted")) => {
            never(format!("revision {revision} is thrown away already"))
        }
        // Also where it lags behind: "required revision is a future revision".
        other => Found { outcome: Err(words(other)), is_final: false },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{agent::health::DETAIL_LIMIT, api::StoreRevisions};

    fn said(code: u16, body: &str) -> Found {
        found(Answer::Said { code, body: body.into() }, 4711)
    }

    #[test]
    fn what_may_still_come_is_asked_for_again() {
        let refused = |why: &str| format!(r#"{{"code":11,"message":"etcdserver: mvcc: required revision {why}"}}"#);
        let hash = r#"{"header":{},"hash":255,"compact_revision":"40","hash_revision":"4711"}"#;
        let expected = StoreHash { hash: 255, revision: 4711, compact: 40 };
        assert_eq!(said(200, hash), Found { outcome: Ok(expected), is_final: true });
        assert!(!said(400, &refused("is a future revision")).is_final, "it has to catch up");
        assert!(said(400, &refused("has been compacted")).is_final);
        assert!(said(404, r#"{"code":5,"message":"Not Found"}"#).outcome.unwrap_err().contains("3.5.10"));
        assert!(!found(Answer::Late, 4711).is_final);
        assert!(!found(Answer::Broken("refused".into()), 4711).is_final);
        assert!(said(200, "{}").outcome.is_err());
    }

    #[test]
    fn why_there_is_no_hash_takes_no_more_of_the_record_than_what_others_say() {
        let journal = Journal::new("hash".into(), "boot".into(), None);
        write(&journal, STORE_HASH_AFTER, &Err("x".repeat(10_000)));
        let detail = journal.status().spans[0].detail.clone().unwrap();
        assert_eq!(detail.chars().count(), DETAIL_LIMIT + 1);
    }

    #[tokio::test]
    async fn a_hash_waits_for_its_revision() {
        let (order, mut orders) = watch::channel(Order::default());
        let of = |order: &Order| order.store.after;
        let wait = tokio::spawn(async move { asked(&mut orders, of).await });
        let before = StoreRevisions { before: Some(1), after: None };
        order.send_replace(Order { store: before, ..Order::default() });
        tokio::task::yield_now().await;
        assert!(!wait.is_finished());
        order.send_replace(Order { store: StoreRevisions { after: Some(2), ..before }, ..Order::default() });
        assert_eq!(wait.await.unwrap(), Some(2));
        let (gone, mut orders) = watch::channel(Order::default());
        drop(gone);
        assert_eq!(asked(&mut orders, of).await, None);
    }
}
