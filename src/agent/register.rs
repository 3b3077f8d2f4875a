//! This node's register: numbers written one after the other through its own API server (`api::register` says why).

use super::{
    canary::{DEADLINE, why},
    journal::Journal,
    own_server::{Connection, OwnServer},
    record::MANAGER,
};
use crate::{
    api::{
        Numbers, Span, SpanKind,
        register::{self, Register},
    },
    connection::{Route, fate},
    observe::{Look, Observation, now},
};
use k8s_openapi::{api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::MicroTime};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use std::collections::VecDeque;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Stretches of writes that came out alike. Each is a span in a record that takes 2,000 of all kinds, and at most a hole in the object.
/// A network that comes and goes for longer has told enough.
const MOST_STRETCHES: usize = 200;
/// Numbers that an earlier process of this agent may have tried after it last wrote down its journal, which it does once a second.
const UNTOLD: u64 = 10;

/// What is known to be there: the version and what it holds.
#[derive(Clone, Debug)]
struct Held {
    version: String,
    numbers: Numbers,
}

impl Held {
    /// `None` where it is no register, or has no version: then it can't be written on a condition.
    fn of(lease: &Lease) -> Option<Self> {
        Some(Held { version: lease.resource_version()?, numbers: Register::of(lease.annotations())?.numbers })
    }
}

/// What the writer knows. No clock, no client.
struct Book {
    node: String,
    next: u64,
    /// `None`: nobody knows that there is one.
    held: Option<Held>,
    acknowledged: VecDeque<(u64, i64)>,
    /// What became of the last write, and the numbers of all that came out alike since another one.
    stretch: Option<(&'static str, Numbers)>,
    stretches: usize,
}

impl Book {
    /// Begins anew, or where an earlier process of this agent ended: a number that was tried is never tried again.
    fn resume(node: &str, journal: &[Span]) -> Self {
        let own = journal.iter().filter(|s| s.kind == SpanKind::Register && s.subject == node);
        let tried = own.clone().filter_map(|s| numbers(s)?.last()).max();
        let next = tried.map_or(1, |last| last.saturating_add(1 + UNTOLD));
        let (acknowledged, stretches) = (VecDeque::new(), own.count());
        Book { node: node.into(), next, held: None, acknowledged, stretch: None, stretches }
    }

    fn goes_on(&self) -> bool {
        self.stretches < MOST_STRETCHES
    }

    /// The number to write now, and what the register is to hold with it.
    fn write(&mut self) -> (u64, Register) {
        let number = self.next;
        self.next = number.saturating_add(1);
        let mut numbers = self.held.as_ref().map_or_else(Numbers::default, |held| held.numbers.clone());
        numbers.insert(number);
        (number, Register { numbers, acknowledged: self.acknowledged.iter().copied().collect() })
    }

    /// What was written is there since `at_us`.
    fn keep(&mut self, number: u64, lease: &Lease, at_us: i64) {
        self.held = Held::of(lease);
        self.acknowledged.push_back((number, at_us));
        if self.acknowledged.len() > Register::ACKNOWLEDGEMENTS {
            self.acknowledged.pop_front();
        }
    }

    /// What was read is there, or nothing. A number that is in it is not tried again.
    fn read(&mut self, lease: Option<&Lease>) {
        self.held = lease.and_then(Held::of);
        let last = self.held.as_ref().and_then(|held| held.numbers.last());
        self.next = self.next.max(last.map_or(0, |last| last.saturating_add(1)));
    }

    /// What became of a number, for the record.
    fn tell(&mut self, number: u64, state: &'static str, why: Option<String>) -> Observation {
        match &mut self.stretch {
            Some((last, numbers)) if *last == state => numbers.insert(number),
            other => {
                let mut numbers = Numbers::default();
                numbers.insert(number);
                *other = Some((state, numbers));
                self.stretches += 1;
            }
        }
        let numbers = self.stretch.as_ref().map_or_else(Numbers::default, |(_, numbers)| numbers.clone());
        Observation {
            // Stretches are never joined, not even across a restart: the detail is the latest one's only.
            id: numbers.first().map(|first| first.to_string()),
            detail: Some(why.map_or_else(|| numbers.to_string(), |why| format!("{numbers} {why}"))),
            ..Observation::new(self.node.as_str(), state)
        }
    }
}

/// The numbers that a span is about.
fn numbers(span: &Span) -> Option<Numbers> {
    Numbers::parse(span.detail.as_ref()?.split(' ').next()?)
}

/// Writes once a period. Never returns.
pub async fn keep(own: OwnServer, route: Route, journal: Journal) {
    let name = register::name(&own.run_uid, &own.node);
    let mut book = Book::resume(&own.node, &journal.status().spans);
    let mut connection = Connection::new(&own, route);
    let mut ticks = interval(register::PERIOD);
    // Two writes are never less than a period apart: from when the last of a stretch was acknowledged follows when each of the others
    // was at the latest.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // A journal that says nothing may be one that a reboot has emptied: what is there was tried before.
    let mut is_known = book.stretches > 0;
    while book.goes_on() {
        ticks.tick().await;
        let Some(leases) = connection.leases() else { continue };
        if !is_known {
            match timeout(DEADLINE, leases.get_opt(&name)).await {
                Ok(Ok(found)) => {
                    book.read(found.as_ref());
                    is_known = true;
                }
                Ok(Err(_)) | Err(_) => {
                    connection.hang_up();
                    continue;
                }
            }
        }
        let version = book.held.as_ref().map(|held| held.version.clone());
        let (number, register) = book.write();
        let answer = Look::within(DEADLINE, write(&leases, &own, &name, version, &register)).await;
        let (at, state) = (now(), fate(answer.as_ref()));
        journal.observe(SpanKind::Register, at.clone(), book.tell(number, state, why(answer.as_ref())));
        // It is there when it should not be, in another version, or not at all.
        let differs = matches!(&answer, Some(Err(kube::Error::Api(status))) if [404, 409].contains(&status.code));
        if let Some(Ok(lease)) = &answer {
            book.keep(number, lease, at.wall.0.as_microsecond());
        } else if differs && let Ok(Ok(found)) = timeout(DEADLINE, leases.get_opt(&name)).await {
            book.read(found.as_ref());
        } else {
            // Of a register that could not be read the next write is refused as well.
            connection.hang_up();
        }
    }
    tracing::warn!("writes came and went too often: the register is not written any more");
    std::future::pending().await
}

/// One write, on condition of the version in which the register is known, or that there is none.
async fn write(
    leases: &Api<Lease>,
    own: &OwnServer,
    name: &str,
    version: Option<String>,
    register: &Register,
) -> kube::Result<Lease> {
    let spec = json!({"holderIdentity": own.node, "renewTime": MicroTime(jiff::Timestamp::now())});
    match version {
        Some(version) => {
            let metadata = json!({"resourceVersion": version, "annotations": register.annotations()});
            let patch = Patch::Merge(json!({"metadata": metadata, "spec": spec}));
            leases.patch(name, &PatchParams::default(), &patch).await
        }
        None => {
            let mut lease: Lease = serde_json::from_value(own.lease(name, spec)).map_err(kube::Error::SerdeError)?;
            lease.annotations_mut().extend(register.annotations());
            let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
            leases.create(&params, &lease).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, sync::Mutex};

    /// What an API server holds under one name: a version and a Lease.
    #[derive(Default)]
    struct Store(Mutex<(u64, Option<Lease>)>);

    impl Store {
        /// Writes on the condition; the status code where it is refused.
        fn write(&self, version: Option<&str>, register: &Register) -> Result<Lease, u16> {
            let mut inner = self.0.lock().unwrap();
            let there = inner.1.as_ref().and_then(|lease| lease.resource_version());
            match (version, there) {
                (None, None) => {}
                (Some(_), None) => return Err(404),
                (Some(wanted), Some(there)) if wanted == there => {}
                _ => return Err(409),
            }
            inner.0 += 1;
            let mut lease = Lease::default();
            lease.metadata.resource_version = Some(inner.0.to_string());
            lease.metadata.annotations = Some(register.annotations());
            inner.1 = Some(lease.clone());
            Ok(lease)
        }
        fn lease(&self) -> Option<Lease> {
            self.0.lock().unwrap().1.clone()
        }
        fn numbers(&self) -> String {
            self.lease().and_then(|lease| Held::of(&lease)).map_or_else(String::new, |held| held.numbers.to_string())
        }
    }

    /// What becomes of a write on its way.
    #[derive(Clone, Copy)]
    enum Way {
        Open,
        /// Neither it nor its answer gets through.
        Cut,
        /// It gets there and its answer does not come back.
        Deaf,
    }

    fn once(book: &mut Book, store: &Store, way: Way) -> Observation {
        let version = book.held.as_ref().map(|held| held.version.clone());
        let (number, register) = book.write();
        let answer = match way {
            Way::Cut => None,
            Way::Open => Some(store.write(version.as_deref(), &register)),
            Way::Deaf => {
                let _ = store.write(version.as_deref(), &register);
                None
            }
        };
        match answer {
            Some(Ok(lease)) => {
                book.keep(number, &lease, number as i64 * 1_000_000);
                book.tell(number, "acknowledged", None)
            }
            Some(Err(code)) => {
                book.read(store.lease().as_ref());
                book.tell(number, "failed", Some(code.to_string()))
            }
            None => book.tell(number, "unknown", None),
        }
    }

    fn all(book: &mut Book, store: &Store, ways: &[Way]) -> Vec<String> {
        let told = |o: Observation| format!("{} {}", o.state, o.detail.unwrap());
        ways.iter().map(|way| told(once(book, store, *way))).collect()
    }

    #[test]
    fn a_number_is_tried_once_and_what_is_there_is_what_became_of_it() {
        let (mut book, store) = (Book::resume("cp1", &[]), Store::default());
        use Way::{Cut, Deaf, Open};
        let told = all(&mut book, &store, &[Open, Open, Cut, Open, Deaf, Open, Open]);
        let expected = [
            "acknowledged 1",
            "acknowledged 1-2",
            "unknown 3",
            "acknowledged 4",
            "unknown 5",
            "failed 6 409",
            "acknowledged 7",
        ];
        assert_eq!(told, expected);
        assert_eq!(store.numbers(), "1-2,4-5,7");
    }

    #[test]
    fn what_a_store_loses_stays_lost() {
        let (mut book, store) = (Book::resume("cp1", &[]), Store::default());
        all(&mut book, &store, &[Way::Open; 3]);
        let earlier = store.lease();
        all(&mut book, &store, &[Way::Open; 2]);
        // Another leader, which never had the last two.
        store.0.lock().unwrap().1 = earlier;
        assert_eq!(all(&mut book, &store, &[Way::Open; 2]), ["failed 6 409", "acknowledged 7"]);
        assert_eq!(store.numbers(), "1-3,7");
        // And all of it.
        store.0.lock().unwrap().1 = None;
        assert_eq!(all(&mut book, &store, &[Way::Open; 2]), ["failed 8 404", "acknowledged 9"]);
        assert_eq!(store.numbers(), "9");
    }

    #[test]
    fn the_object_has_the_last_acknowledgements_before_it() {
        let (mut book, store) = (Book::resume("cp1", &[]), Store::default());
        all(&mut book, &store, &[Way::Open; 40]);
        let register = Register::of(store.lease().unwrap().annotations()).unwrap();
        let expected: Vec<_> = (24_u64..=39).map(|n| (n, n as i64 * 1_000_000)).collect();
        assert_eq!(register.acknowledged, expected);
    }

    #[test]
    fn another_process_tries_no_number_again() {
        let (mut book, store) = (Book::resume("cp1", &[]), Store::default());
        let journal = crate::agent::Journal::new("hash".into(), "b1".into(), None);
        for way in [Way::Open, Way::Open, Way::Cut, Way::Cut] {
            journal.observe(SpanKind::Register, now(), once(&mut book, &store, way));
        }
        // Not written down any more.
        once(&mut book, &store, Way::Cut);
        let mut book = Book::resume("cp1", &journal.status().spans);
        for way in [Way::Open, Way::Open, Way::Open] {
            journal.observe(SpanKind::Register, now(), once(&mut book, &store, way));
        }
        assert_eq!(store.numbers(), "1-2,16-17");
        let told: BTreeSet<_> =
            journal.status().spans.into_iter().map(|s| format!("{} {}", s.state, s.detail.unwrap())).collect();
        let expected = ["acknowledged 1-2", "acknowledged 16-17", "failed 15 409", "unknown 3-4"];
        assert_eq!(told, BTreeSet::from(expected.map(str::to_owned)));
    }

    #[test]
    fn writes_that_come_and_go_end_before_the_record_is_full() {
        let (mut book, store) = (Book::resume("cp1", &[]), Store::default());
        let mut written = 0;
        while book.goes_on() {
            once(&mut book, &store, if written % 2 == 0 { Way::Open } else { Way::Cut });
            written += 1;
        }
        assert_eq!(written, MOST_STRETCHES);
        assert!(store.numbers().len() < 2000, "{}", store.numbers());
    }
}
