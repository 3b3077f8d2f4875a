//! Writes down what this node's kernel counts: the datagrams of other agents, in front of the cut and behind it, and strangers.

use super::{
    decide::{Order, Times},
    journal::Journal,
};
use crate::{
    api::{Moment, SpanKind, watch_table_name},
    fault::{RunPlan, Way},
    netfilter::{Count, Error, Sight, Watch, WatchSpec},
    observe::{Observation, before, now},
};
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    time::Duration,
};
use tokio::{sync::watch, time::sleep};

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(250);
/// Around the beginning and the end of the cut: the first datagram that was lost came no longer than this before the look.
const BURST_PERIOD: Duration = Duration::from_millis(20);
const BURST: Duration = Duration::from_millis(400);
/// Datagrams come five times a second: after this long without one, nobody is heard any more.
const MAX_GAP: Duration = Duration::from_secs(1);
/// An earlier process of the run may be on its way out; its table goes with it.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait at `now` until the next round of something that is done more often around the ends of the cut.
pub fn pace(now: Timestamp, times: Option<Times>, burst: Duration, often: Duration, seldom: Duration) -> Duration {
    let ends = times.map(|t| [t.cut_at, t.heal_at]).into_iter().flatten();
    let waits = ends.map(|end| {
        let until = end.duration_since(now);
        match Duration::try_from(until.saturating_sub(SignedDuration::try_from(burst).unwrap_or_default())) {
            Ok(begins_in) if !begins_in.is_zero() => begins_in.min(seldom),
            _ if until.unsigned_abs() <= burst => often,
            _ => seldom,
        }
    });
    waits.min().unwrap_or(seldom)
}

/// What this node of the plan listens to.
pub fn spec(plan: &RunPlan, node: &str) -> WatchSpec {
    // Elsewhere nobody is cut off, so nobody can slip by.
    let is_deaf = plan.members.iter().any(|m| plan.cuts(&m.name, node));
    WatchSpec {
        name: watch_table_name(&plan.run_uid),
        port: plan.heal.port,
        mark: plan.heal.mark(),
        known: is_deaf.then(|| known(plan)),
    }
}

/// Everybody whose place is known, and addresses that are nobody's: those of a link, and those of who has none yet.
fn known(plan: &RunPlan) -> Vec<IpNet> {
    const NOBODYS: [&str; 5] = ["0.0.0.0/32", "169.254.0.0/16", "::/128", "fe80::/10", "127.0.0.0/8"];
    let nobodys = NOBODYS.into_iter().map(|net| net.parse().expect("a network"));
    plan.members.iter().flat_map(|m| m.all_cidrs()).chain(nobodys).collect()
}

/// Looks for as long as the run lasts. Never returns: what keeps it from looking is in the record.
pub async fn watch_all(plan: RunPlan, node: String, journal: Journal, orders: watch::Receiver<Order>) {
    let senders: HashMap<u32, String> = senders(&plan);
    let why = match open(&spec(&plan, &node)).await {
        Ok(watch) => look_on(watch, &senders, &journal, &orders).await,
        Err(error) => error,
    };
    tracing::error!(error = %why, "datagrams are not counted");
    journal.set_unwatched(why.to_string());
    std::future::pending().await
}

async fn open(spec: &WatchSpec) -> Result<Watch, Error> {
    let begun = tokio::time::Instant::now();
    loop {
        match Watch::open(spec.clone()) {
            Err(Error::TableExists { .. }) if begun.elapsed() < PATIENCE => sleep(PERIOD).await,
            opened => return opened,
        }
    }
}

/// Subjects by key.
fn senders(plan: &RunPlan) -> HashMap<u32, String> {
    let of = |name: &str, way: Way| Some((plan.key(name, way)?, way.subject(name)));
    plan.agents().into_iter().flat_map(|name| Way::ALL.into_iter().filter_map(move |way| of(name, way))).collect()
}

async fn look_on(
    mut watch: Watch,
    senders: &HashMap<u32, String>,
    journal: &Journal,
    orders: &watch::Receiver<Order>,
) -> Error {
    let mut tally = Tally::default();
    loop {
        match watch.look() {
            Ok(sight) => {
                for (kind, at, seen) in tally.news(&sight, senders, &now()) {
                    journal.observe(kind, at, seen);
                }
            }
            Err(error @ Error::Read { .. }) => return error,
            Err(error) => tracing::warn!(%error, "failed to look at the datagrams"),
        }
        let times = orders.borrow().times;
        sleep(pace(Timestamp::now(), times, BURST, BURST_PERIOD, PERIOD)).await;
    }
}

/// What was counted up to the last look.
#[derive(Default)]
struct Tally {
    heard: HashMap<u32, u64>,
    lost: HashMap<u32, u64>,
    strangers: HashMap<std::net::IpAddr, u64>,
}

impl Tally {
    fn news(
        &mut self,
        sight: &Sight,
        senders: &HashMap<u32, String>,
        now: &Moment,
    ) -> Vec<(SpanKind, Moment, Observation)> {
        let mut news = Vec::new();
        let mut tell = |kind, subject: String, state: &str, new: u64, age| {
            if let Some(more) = new.checked_sub(1) {
                let more = u32::try_from(more).unwrap_or(u32::MAX);
                let seen = Observation { more, max_gap: Some(MAX_GAP), ..Observation::new(subject, state) };
                news.push((kind, before(now, age), seen));
            }
        };
        let heard: BTreeMap<u32, u64> = sight.heard.iter().map(|c| (c.from, c.packets)).collect();
        for count in &sight.heard {
            let Some(subject) = senders.get(&count.from) else { continue };
            tell(SpanKind::Heard, subject.clone(), "heard", risen(&mut self.heard, count), count.age);
        }
        for count in &sight.arrived {
            let Some(subject) = senders.get(&count.from) else { continue };
            let lost = count.packets.saturating_sub(heard.get(&count.from).copied().unwrap_or_default());
            let risen = risen(&mut self.lost, &Count { packets: lost, ..*count });
            tell(SpanKind::Lost, subject.clone(), "lost", risen, count.age);
        }
        for count in &sight.strangers {
            tell(SpanKind::Stranger, count.from.to_string(), "heard", risen(&mut self.strangers, count), count.age);
        }
        news
    }
}

/// By how much a count has risen above all that it was before.
fn risen<K: Copy + Eq + Hash>(before: &mut HashMap<K, u64>, count: &Count<K>) -> u64 {
    let highest = before.entry(count.from).or_default();
    let risen = count.packets.saturating_sub(*highest);
    *highest = count.packets.max(*highest);
    risen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(from: u32, packets: u64, age_ms: u64) -> Count<u32> {
        Count { from, packets, age: Duration::from_millis(age_ms) }
    }

    #[test]
    fn what_came_and_was_not_heard_is_lost_and_each_is_told_once() {
        let senders = HashMap::from([(7, "w1/Ipv4".to_owned())]);
        let (mut tally, now) = (Tally::default(), now());
        let mut news = |arrived, heard, age| {
            let sight = Sight {
                arrived: vec![count(7, arrived, age), count(99, 5, 0)],
                heard: vec![count(7, heard, age)],
                strangers: Vec::new(),
            };
            let told = tally.news(&sight, &senders, &now).into_iter();
            told.map(|(kind, at, o)| (kind, now.boot_us - at.boot_us, o.more + 1)).collect::<Vec<_>>()
        };
        assert_eq!(news(3, 3, 10), [(SpanKind::Heard, 10_000, 3)]);
        assert_eq!(news(3, 3, 260), []);
        assert_eq!(news(5, 4, 0), [(SpanKind::Heard, 0, 1), (SpanKind::Lost, 0, 1)]);
        // One that was between the two hooks at the last look.
        assert_eq!(news(5, 5, 0), [(SpanKind::Heard, 0, 1)]);
        assert_eq!(news(6, 5, 0), [], "already told");
        assert_eq!(news(8, 5, 20), [(SpanKind::Lost, 20_000, 2)]);
    }

    #[test]
    fn what_is_done_seldom_is_done_often_around_the_ends_of_the_cut() {
        let at = |ms: i64| Timestamp::from_millisecond(1_000_000 + ms).unwrap();
        let times = Some(Times { cut_at: at(0), heal_at: at(60_000) });
        let ms = Duration::from_millis;
        let wait = |now| pace(at(now), times, ms(100), ms(2), ms(200));
        assert_eq!([wait(-5000), wait(-250), wait(-150), wait(-100)], [ms(200), ms(150), ms(50), ms(2)]);
        assert_eq!([wait(0), wait(100), wait(101), wait(59_850)], [ms(2), ms(2), ms(200), ms(50)]);
        assert_eq!([wait(60_050), wait(70_000)], [ms(2), ms(200)]);
        assert_eq!(pace(at(0), None, ms(100), ms(2), ms(200)), ms(200));
    }

    #[test]
    fn strangers_are_looked_for_where_somebody_is_cut_off() {
        let plan: RunPlan = serde_json::from_value(serde_json::json!({
            "run": "r", "runUid": "0a1b-2c", "edges": [{"from": ["a"], "to": ["b"]}],
            "members": [
                {"name": "a", "hasAgent": true, "cidrs": ["198.18.0.1/32"], "podCidrs": ["198.19.1.0/24"], "healAddresses": []},
                {"name": "b", "hasAgent": true, "cidrs": ["198.18.0.2/32"], "healAddresses": []},
            ],
            "heal": {"port": 40441, "token": "00"}, "durationSeconds": 1.0, "longestSeconds": 1.0, "probes": [],
            "apiServers": [], "writable": [],
        }))
        .unwrap();
        assert_eq!((spec(&plan, "a").known, spec(&plan, "a").name.as_str()), (None, "rackpartition_watch_0a1b"));
        let known = spec(&plan, "b").known.unwrap();
        for net in ["198.18.0.1/32", "198.18.0.2/32", "198.19.1.0/24", "fe80::/10"] {
            assert!(known.contains(&net.parse().unwrap()), "{net}");
        }
    }
}
