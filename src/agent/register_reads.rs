//! Reads one register of the run through this node's own API server, so that an answer older than it may be is seen.

use super::{
    canary::{DEADLINE, why},
    journal::Journal,
    own_server::{Connection, OwnServer},
};
use crate::{
    api::{
        Moment, Span, SpanKind,
        register::{self, Register},
    },
    connection::Route,
    observe::{Look, Observation},
};
use k8s_openapi::{api::coordination::v1::Lease, jiff::Timestamp};
use kube::{ResourceExt, api::GetParams};
use std::{collections::VecDeque, time::Duration};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Between two reads, if they are answered sooner.
const PERIOD: Duration = Duration::from_secs(1);
/// Times that answers and failures took turns, each a span. What comes and goes for longer has told enough.
const MOST_CHANGES: usize = 200;
/// Reads of which nobody knows yet what they should have returned. One or two, unless nothing is acknowledged.
const MOST_WAITING: usize = 16;

/// How to read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// Without a version: the API server asks a quorum of etcd.
    Consistent,
    /// Version 0: whatever the API server's watch cache has.
    Cached,
}

impl Way {
    pub const ALL: [Way; 2] = [Way::Consistent, Way::Cached];

    fn word(self) -> &'static str {
        match self {
            Way::Consistent => register::CONSISTENT,
            Way::Cached => register::CACHED,
        }
    }

    fn params(self) -> GetParams {
        match self {
            Way::Consistent => GetParams::default(),
            Way::Cached => GetParams::any(),
        }
    }
}

/// Reads the register of the node `whose` once a period. Never returns.
pub async fn read_on(own: OwnServer, whose: String, way: Way, route: Route, journal: Journal) {
    let (name, subject) = (register::name(&own.run_uid, &whose), register::subject(&whose, way.word()));
    let mut memory = Memory::resume(&subject, &journal.status().spans);
    let (mut connection, mut last, mut changes) = (Connection::new(&own, route), "", 0);
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while changes < MOST_CHANGES {
        ticks.tick().await;
        let Some(leases) = connection.leases() else { continue };
        // Whatever was acknowledged before this moment must be in the answer.
        let look = Look::begin();
        let answer = timeout(DEADLINE, leases.get_with(&name, &way.params())).await.ok();
        if look.was_held(DEADLINE) {
            continue;
        }
        let asked = look.begun();
        let seen = seen(answer.as_ref());
        if let Seen::Failed(_) = &seen {
            connection.hang_up();
        }
        let (state, detail) = seen.words();
        if state != last {
            (last, changes) = (state, changes + 1);
        }
        let observation = Observation { detail: Some(detail), ..Observation::new(subject.as_str(), state) };
        journal.observe(SpanKind::Reading, asked.clone(), observation);
        if let Seen::Read(register) = &seen {
            memory.take(register, asked, way).into_iter().for_each(|span| journal.put(span));
        }
    }
    tracing::warn!(subject, "answers came and went too often: the register is not read any more");
    std::future::pending().await
}

/// What one read returned.
enum Seen {
    Read(Register),
    /// There is none, or none yet.
    Gone,
    Failed(String),
}

fn seen(answer: Option<&kube::Result<Lease>>) -> Seen {
    match answer {
        Some(Ok(lease)) => match Register::of(lease.annotations()) {
            Some(register) => Seen::Read(register),
            None => Seen::Failed("no register".into()),
        },
        Some(Err(kube::Error::Api(status))) if status.is_not_found() => Seen::Gone,
        other => Seen::Failed(why(other).unwrap_or_else(|| "no answer in time".into())),
    }
}

impl Seen {
    fn words(&self) -> (&'static str, String) {
        match self {
            Seen::Read(register) => (register::READ, format!("n={}", newest(register))),
            Seen::Gone => (register::GONE, "not found".into()),
            Seen::Failed(why) => ("failed", why.clone()),
        }
    }
}

/// The largest number in it. Each write adds a larger one to what was there, so this says which of two states is the later one.
fn newest(register: &Register) -> u64 {
    register.numbers.last().unwrap_or_default()
}

/// What was read, as far as it may turn out to have been too old: that is known only when a later answer tells when the next number was
/// acknowledged.
struct Memory {
    subject: String,
    newest: u64,
    /// What was returned, and when that was asked for last.
    waiting: VecDeque<(u64, Moment)>,
    /// How long after the acknowledgement of the next number the stalest one was asked for, microseconds by two machines' clocks:
    /// enough to say which is the stalest, and how stale it is says the judge.
    stalest_us: Option<i64>,
}

impl Memory {
    fn resume(subject: &str, journal: &[Span]) -> Self {
        let mut own = journal.iter().filter(|s| s.kind == SpanKind::Reading && s.subject == subject);
        let stalest = own.find(|s| s.id.as_deref() == Some(register::STALEST));
        let stalest_us = stalest.and_then(|span| {
            let acknowledged: Timestamp = span.told("acknowledged")?.parse().ok()?;
            Some(span.from.wall.0.as_microsecond() - acknowledged.as_microsecond())
        });
        Memory { subject: subject.into(), newest: 0, waiting: VecDeque::new(), stalest_us }
    }

    /// Takes one answer. Returns what is to be put into the record: one that returned less than an earlier one, and the stalest so far.
    fn take(&mut self, register: &Register, asked: &Moment, way: Way) -> Vec<Span> {
        let number = newest(register);
        // The earlier one was answered before this one was asked for. A cache promises nothing of that kind.
        let is_backwards = way == Way::Consistent && number < self.newest;
        let backwards = is_backwards.then(|| {
            let detail = format!("n={number} after={}", self.newest);
            self.span(register::BACKWARDS, register::BACKWARDS, asked, detail)
        });
        self.newest = self.newest.max(number);
        let stalest = self.stalest(register);
        match self.waiting.back_mut() {
            Some((same, last)) if *same == number => *last = asked.clone(),
            _ => self.waiting.push_back((number, asked.clone())),
        }
        if self.waiting.len() > MOST_WAITING {
            self.waiting.pop_front();
        }
        backwards.into_iter().chain(stalest).collect()
    }

    /// Of those that wait the ones of which this answer tells, and which of them is staler than any before.
    fn stalest(&mut self, register: &Register) -> Option<Span> {
        let next_after = |number: u64| register.acknowledged.iter().filter(|(n, _)| *n > number).min();
        let mut found: Option<(i64, Moment, String)> = None;
        self.waiting.retain(|(number, asked)| {
            let Some((next, at_us)) = next_after(*number) else { return true };
            let behind_us = asked.wall.0.as_microsecond().saturating_sub(*at_us);
            let before = found.as_ref().map(|(us, ..)| *us).max(self.stalest_us);
            if before.is_none_or(|before| behind_us > before)
                && let Ok(acknowledged) = Timestamp::from_microsecond(*at_us)
            {
                let detail = format!("n={number} next={next} acknowledged={acknowledged:.6}");
                found = Some((behind_us, asked.clone(), detail));
            }
            false
        });
        let (behind_us, asked, detail) = found?;
        self.stalest_us = Some(behind_us);
        Some(self.span(register::STALEST, register::READ, &asked, detail))
    }

    fn span(&self, id: &str, state: &str, asked: &Moment, detail: String) -> Span {
        Span {
            kind: SpanKind::Reading,
            subject: self.subject.clone(),
            state: state.into(),
            from: asked.clone(),
            to: asked.clone(),
            samples: 1,
            uid: None,
            id: Some(id.into()),
            node: None,
            detail: Some(detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Numbers;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    /// So many milliseconds after some second.
    fn at(ms: i64) -> Moment {
        Moment { boot_us: ms * 1000, wall: MicroTime(Timestamp::from_millisecond(1_000_000 + ms).unwrap()) }
    }

    /// A register that was written every second, each write acknowledged after 50 ms, up to `last`, whose own acknowledgement is not in
    /// it yet.
    fn written(last: u64) -> Register {
        let numbers = Numbers::parse(&format!("1-{last}")).unwrap();
        let acknowledged = (1..last).map(|n| (n, 1_000_000_000 + n as i64 * 1_000_000 + 50_000));
        let window = (last as usize).saturating_sub(1 + Register::ACKNOWLEDGEMENTS);
        Register { numbers, acknowledged: acknowledged.skip(window).collect() }
    }

    fn take(memory: &mut Memory, last: u64, ms: i64) -> Vec<String> {
        let told = memory.take(&written(last), &at(ms), Way::Consistent);
        told.into_iter().map(|s| format!("{} {}", s.from.boot_us / 1000, s.detail.unwrap())).collect()
    }

    #[test]
    fn what_a_read_should_have_returned_is_known_from_a_later_one() {
        let mut memory = Memory::resume("cp2/consistent", &[]);
        assert!(take(&mut memory, 3, 3_500).is_empty());
        // 4 is there, and only 3 is known to have been acknowledged.
        assert!(take(&mut memory, 4, 4_500).is_empty());
        let told = take(&mut memory, 5, 5_500);
        assert_eq!(told, ["3500 n=3 next=4 acknowledged=1970-01-01T00:16:44.050000Z"], "0.55 s before the next one");
        // As fresh as before.
        assert!(take(&mut memory, 6, 6_500).is_empty());
        // Asked again, and the last time when 7 had been acknowledged for 0.45 s.
        assert!(take(&mut memory, 6, 7_500).is_empty());
        let told = take(&mut memory, 9, 9_500);
        assert_eq!(told, ["7500 n=6 next=7 acknowledged=1970-01-01T00:16:47.050000Z"]);
        assert_eq!(memory.stalest_us, Some(450_000));
    }

    #[test]
    fn a_cut_that_outlasts_the_window_leaves_the_least_that_is_certain() {
        let mut memory = Memory::resume("cp2/cached", &[]);
        take(&mut memory, 3, 3_500);
        take(&mut memory, 3, 90_000);
        assert_eq!(take(&mut memory, 100, 100_500), ["90000 n=3 next=84 acknowledged=1970-01-01T00:18:04.050000Z"]);
    }

    #[test]
    fn less_than_before_is_backwards_unless_it_is_a_cache() {
        let mut memory = Memory::resume("cp2/consistent", &[]);
        take(&mut memory, 5, 5_500);
        assert_eq!(take(&mut memory, 4, 6_500), ["6500 n=4 after=5"]);
        let mut memory = Memory::resume("cp2/cached", &[]);
        memory.take(&written(5), &at(5_500), Way::Cached);
        assert!(memory.take(&written(4), &at(6_500), Way::Cached).is_empty());
    }

    #[test]
    fn another_process_remembers_the_stalest() {
        let mut memory = Memory::resume("cp2/consistent", &[]);
        take(&mut memory, 3, 30_000);
        let told = memory.take(&written(6), &at(31_000), Way::Consistent);
        assert_eq!((told.len(), memory.stalest_us), (1, Some(25_950_000)));
        assert_eq!(Memory::resume("cp2/consistent", &told).stalest_us, Some(25_950_000));
        assert_eq!(Memory::resume("cp2/cached", &told).stalest_us, None);
    }

    #[test]
    fn no_object_is_no_failure() {
        let status = |code: u16, reason: &str| {
            let json = serde_json::json!({"code": code, "reason": reason});
            Err(kube::Error::Api(Box::new(serde_json::from_value(json).unwrap())))
        };
        let words = |answer: kube::Result<Lease>| seen(Some(&answer)).words();
        assert_eq!(words(status(404, "NotFound")), (register::GONE, "not found".into()));
        assert_eq!(words(status(500, "InternalError")), ("failed", "500 InternalError".into()));
        let mut lease = Lease::default();
        assert_eq!(words(Ok(lease.clone())).0, "failed");
        lease.annotations_mut().extend(written(7).annotations());
        assert_eq!(words(Ok(lease)), (register::READ, "n=7".into()));
        assert_eq!(seen(None).words(), ("failed", "no answer in time".into()));
    }
}
