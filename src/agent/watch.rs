//! Writes down what this node's kernel counts: the datagrams of other agents, in front of the cut and behind it, and strangers.

use super::{
    decide::{Order, Times},
    journal::Journal,
    rules::ports,
};
use crate::{
    api::{Moment, SpanKind, watch_table_name},
    fault::{Effect, RunPlan, Sample, is_operators},
    netfilter::{Error, Sight, Strangers, Watch, WatchSpec},
    observe::{Observation, Recorder, before, now},
};
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use std::{collections::HashMap, hash::Hash, net::IpAddr, time::Duration};
use tokio::{sync::watch, task::block_in_place, time::sleep};

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(250);
/// Around the beginning and the end of the cut: the first datagram that was lost came no longer than this before the look.
const BURST_PERIOD: Duration = Duration::from_millis(20);
const BURST: Duration = Duration::from_millis(400);
/// Datagrams come five times a second: after this long without one, nobody is heard any more.
const MAX_GAP: Duration = Duration::from_secs(1);
/// Subject of those whom the kernel has no room for.
const MORE_STRANGERS: &str = "others";
/// A datagram that came and is not yet heard may be between the two hooks for as long as its processor is taken away.
const SURE: Duration = Duration::from_millis(250);
/// How far the stamps of one datagram in front of the cut and behind it may be apart: ticks of 10 ms, and a processor taken away.
const STAMPS_APART: Duration = Duration::from_millis(50);
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
    // Pods' traffic is of any port.
    let strangers = Strangers { but: known(plan), ports: if plan.ports.pods { Vec::new() } else { ports(plan) } };
    WatchSpec {
        name: watch_table_name(&plan.run_uid),
        ports: std::iter::once(plan.heal.port).chain(plan.udp_port()).collect(),
        marks: vec![plan.heal.mark(), plan.heal.mark_for(node)],
        senders: senders(plan, node).unwrap_or_default(),
        strangers: is_deaf.then_some(strangers),
    }
}

/// Keys of the datagrams that the plan sends to this node: whom it samples, that one samples it.
fn senders(plan: &RunPlan, node: &str) -> Option<Vec<u32>> {
    let own = plan.member(node)?;
    let others = Sample::new(plan).of(node).into_iter().filter_map(|name| plan.member(name));
    let keys = |sender| plan.ways(sender, own).filter_map(|way| plan.key(&sender.name, way));
    Some(others.flat_map(keys).collect())
}

/// Everybody whose place is known, and addresses that are nobody's: those of a link, and those of who has none yet.
fn known(plan: &RunPlan) -> Vec<IpNet> {
    const NOBODYS: [&str; 4] = ["0.0.0.0/32", "169.254.0.0/16", "::/128", "fe80::/10"];
    let nobodys = NOBODYS.into_iter().map(|net| net.parse().expect("a network"));
    plan.members.iter().flat_map(|m| m.all_cidrs()).chain(nobodys).collect()
}

/// Looks for as long as the run lasts. Never returns: what keeps it from looking is in the record.
pub async fn watch_all(plan: RunPlan, node: String, journal: Journal, orders: watch::Receiver<Order>) {
    let (spec, senders) = (spec(&plan, &node), plan.subjects().collect());
    // One that comes and goes must not fill the record.
    let lossy = matches!(plan.pattern.effect, Effect::LossPerPacket { .. } | Effect::LossPerFlow { .. });
    let max_gap = if lossy { Recorder::MAX_GAP } else { MAX_GAP };
    let why = loop {
        match open(&spec).await {
            // Somebody removed it, or the kernel would not say for once: begin anew.
            Ok(watch) => {
                let error = look_on(watch, Tally::new(&senders, max_gap), &journal, &orders).await;
                tracing::warn!(%error, "failed to look at the datagrams; beginning anew");
                sleep(PERIOD).await;
            }
            Err(error) => break error,
        }
    };
    tracing::error!(error = %why, "datagrams are not counted");
    journal.set_unwatched(why.to_string());
    std::future::pending().await
}

async fn open(spec: &WatchSpec) -> Result<Watch, Error> {
    let begun = tokio::time::Instant::now();
    loop {
        match block_in_place(|| Watch::open(spec.clone())) {
            // Refused means that this kernel can't; all else may pass.
            Err(error)
                if !matches!(error, Error::Refused { .. }) && !error.is_for_good() && begun.elapsed() < PATIENCE =>
            {
                sleep(PERIOD).await;
            }
            opened => return opened,
        }
    }
}

async fn look_on(mut watch: Watch, mut tally: Tally<'_>, journal: &Journal, orders: &watch::Receiver<Order>) -> Error {
    let mut last = Timestamp::now();
    loop {
        let (begun, times) = (now(), orders.borrow().times);
        match block_in_place(|| watch.look()) {
            Ok(sight) => {
                // Spans end with the cut and begin with it, so that what is counted in one is all before, during or after it.
                let ends = times.map(|t| [t.cut_at, t.heal_at]).into_iter().flatten();
                let crossed = ends.into_iter().any(|end| last < end && end <= begun.wall.0);
                for (kind, at, seen) in tally.news(&sight, &begun, crossed) {
                    journal.observe(kind, at, seen);
                }
                last = begun.wall.0;
            }
            Err(error) => return error,
        }
        sleep(pace(Timestamp::now(), times, BURST, BURST_PERIOD, PERIOD)).await;
    }
}

/// One look at what came and was not heard.
struct Seemed {
    looked_us: i64,
    lost: u64,
    last: Moment,
}

/// What is sure by now: the number that was lost at every look since one that is at least [`SURE`] old, and what that one's last
/// datagram was.
fn sure(looks: &mut Vec<Seemed>, now_us: i64) -> Option<(u64, Moment)> {
    let old = looks.iter().rposition(|look| now_us - look.looked_us >= SURE.as_micros() as i64)?;
    looks.drain(..old);
    Some((looks.iter().map(|look| look.lost).min()?, looks[0].last.clone()))
}

/// What was counted up to the last look.
struct Tally<'a> {
    /// Subjects by key.
    senders: &'a HashMap<u32, String>,
    max_gap: Duration,
    heard: HashMap<u32, u64>,
    lost: HashMap<u32, u64>,
    /// How many seemed to be lost at each of the last looks: when that was, and the stamp of the last datagram. Told only once
    /// it has been so for [`SURE`].
    seemed_lost: HashMap<u32, Vec<Seemed>>,
    strangers: HashMap<IpAddr, u64>,
}

impl<'a> Tally<'a> {
    fn new(senders: &'a HashMap<u32, String>, max_gap: Duration) -> Self {
        Tally {
            senders,
            max_gap,
            heard: HashMap::new(),
            lost: HashMap::new(),
            seemed_lost: HashMap::new(),
            strangers: HashMap::new(),
        }
    }

    /// What is new in a sight of `now`. `apart`: in spans of its own.
    fn news(&mut self, sight: &Sight, now: &Moment, apart: bool) -> Vec<(SpanKind, Moment, Observation)> {
        let max_gap = Some(if apart { Duration::ZERO } else { self.max_gap });
        let seen = |subject: &str, state: &str, new: u64, max_gap| {
            let more = u32::try_from(new.saturating_sub(1)).unwrap_or(u32::MAX);
            Observation { more, max_gap, ..Observation::new(subject, state) }
        };
        let mut news = Vec::new();
        let heard: HashMap<u32, u64> = sight.heard.iter().map(|c| (c.from, c.packets)).collect();
        let mut got_through: HashMap<u32, Duration> = HashMap::new();
        for count in &sight.heard {
            let Some(subject) = self.senders.get(&count.from) else { continue };
            match risen(&mut self.heard, count.from, count.packets) {
                0 => {}
                new => {
                    got_through.insert(count.from, count.age);
                    // The operator sends once a second, and only that it is heard counts.
                    let max_gap = max_gap.filter(|_| !is_operators(subject));
                    news.push((SpanKind::Heard, before(now, count.age), seen(subject, "heard", new, max_gap)));
                }
            }
        }
        for count in &sight.arrived {
            // The operator's is not among the expected, whose counters are there from the start: its first datagram may go uncounted.
            let Some(subject) = self.senders.get(&count.from).filter(|s| !is_operators(s)) else { continue };
            let lost = count.packets.saturating_sub(heard.get(&count.from).copied().unwrap_or_default());
            let looks = self.seemed_lost.entry(count.from).or_default();
            // Of several since the last look the last one may have got through. Where they were lost before, that one is the first after
            // the heal, and what was lost came before it, who knows when. Where they were not, the cut has just begun behind it.
            let was_heard = got_through.get(&count.from).is_some_and(|age| *age <= count.age + STAMPS_APART);
            let was_losing = matches!(looks[..], [.., ref before, ref last] if last.lost > before.lost);
            let earlier = looks.last().filter(|_| was_heard && was_losing).map(|look| look.last.clone());
            let last = earlier.unwrap_or_else(|| before(now, count.age));
            looks.push(Seemed { looked_us: now.boot_us, lost, last });
            let Some((lost, at)) = sure(looks, now.boot_us) else { continue };
            match risen(&mut self.lost, count.from, lost) {
                0 => {}
                new => news.push((SpanKind::Lost, at, seen(subject, "lost", new, max_gap))),
            }
        }
        for count in &sight.strangers {
            match risen(&mut self.strangers, count.from, count.packets) {
                0 => {}
                new => {
                    let (subject, at) = (count.from.to_string(), before(now, count.age));
                    news.push((SpanKind::Stranger, at, seen(&subject, "heard", new, None)));
                }
            }
        }
        if sight.more_strangers {
            news.push((SpanKind::Stranger, now.clone(), seen(MORE_STRANGERS, "heard", 1, None)));
        }
        news
    }
}

/// By how much a count has risen above all that it was before.
fn risen<K: Eq + Hash>(highest: &mut HashMap<K, u64>, from: K, count: u64) -> u64 {
    let highest = highest.entry(from).or_default();
    let risen = count.saturating_sub(*highest);
    *highest = count.max(*highest);
    risen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netfilter::Count;

    fn count(from: u32, packets: u64, age_ms: u64) -> Count<u32> {
        Count { from, packets, age: Duration::from_millis(age_ms) }
    }

    #[test]
    fn what_came_and_is_not_heard_for_a_while_is_lost_and_each_is_told_once() {
        let senders = HashMap::from([(7, "w1/Ipv4".to_owned())]);
        let (mut tally, start) = (Tally::new(&senders, MAX_GAP), now());
        // Milliseconds from the start to each look; told are kind, the stamp's milliseconds, and how many.
        let mut news = |at_ms: i64, arrived, heard| {
            let now = Moment { boot_us: start.boot_us + at_ms * 1000, ..start.clone() };
            let arrived = vec![count(7, arrived, 10), count(99, 5, 0)];
            let sight = Sight { arrived, heard: vec![count(7, heard, 10)], ..Default::default() };
            let told = tally.news(&sight, &now, false).into_iter();
            told.map(|(kind, at, o)| (kind, (at.boot_us - start.boot_us) / 1000, o.more + 1)).collect::<Vec<_>>()
        };
        assert_eq!(news(0, 3, 3), [(SpanKind::Heard, -10, 3)]);
        assert_eq!(news(250, 3, 3), []);
        // One is between the two hooks for several looks: never lost.
        assert_eq!(news(500, 5, 4), [(SpanKind::Heard, 490, 1)]);
        assert_eq!(news(520, 5, 4), []);
        assert_eq!(news(540, 5, 5), [(SpanKind::Heard, 530, 1)]);
        assert_eq!(news(790, 5, 5), []);
        assert_eq!(news(1000, 8, 5), [], "not yet sure");
        assert_eq!(news(1020, 9, 5), [], "not yet sure");
        assert_eq!(news(1250, 9, 5), [(SpanKind::Lost, 990, 3)]);
        assert_eq!(news(1270, 9, 5), [(SpanKind::Lost, 1010, 1)]);
        assert_eq!(news(1520, 9, 5), [], "already told");
        // Some are lost, and two more before one that gets through, which is the last that came.
        assert_eq!(news(1770, 11, 5), []);
        assert_eq!(news(2020, 14, 6), [(SpanKind::Heard, 2010, 1), (SpanKind::Lost, 1760, 2)]);
        assert_eq!(news(2270, 14, 6), [(SpanKind::Lost, 1760, 2)]);
        // One gets through, and right behind it one is lost.
        assert_eq!(news(2290, 16, 7), [(SpanKind::Heard, 2280, 1)]);
        assert_eq!(news(2540, 17, 7), [(SpanKind::Lost, 2280, 1)]);
    }

    #[test]
    fn what_the_operator_sends_once_a_second_is_one_span_and_never_lost() {
        let senders = HashMap::from([(9, "operator on w1/Ipv4".to_owned())]);
        let (mut tally, start) = (Tally::new(&senders, MAX_GAP), now());
        let mut news = |at_ms: i64, heard| {
            let now = Moment { boot_us: start.boot_us + at_ms * 1000, ..start.clone() };
            let (arrived, heard) = (vec![count(9, 2, 10)], vec![count(9, heard, 10)]);
            let sight = Sight { arrived, heard, ..Default::default() };
            let told = tally.news(&sight, &now, false).into_iter();
            told.map(|(kind, _, o)| (kind, o.max_gap.unwrap_or(Recorder::MAX_GAP))).collect::<Vec<_>>()
        };
        assert_eq!(news(0, 0), []);
        assert_eq!(news(500, 0), []);
        assert_eq!(news(1000, 1), [(SpanKind::Heard, Recorder::MAX_GAP)]);
    }

    #[test]
    fn strangers_without_room_are_told_as_others() {
        let senders = HashMap::new();
        let sight = Sight { more_strangers: true, ..Default::default() };
        let told = Tally::new(&senders, MAX_GAP).news(&sight, &now(), false);
        assert_eq!(told.iter().map(|(_, _, o)| o.subject.as_str()).collect::<Vec<_>>(), ["others"]);
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
        let of = |node| spec(&plan, node).strangers;
        assert_eq!((of("a"), spec(&plan, "a").name.as_str()), (None, "rackpartition_watch_0a1b"));
        let known = of("b").unwrap().but;
        for net in ["198.18.0.1/32", "198.18.0.2/32", "198.19.1.0/24", "fe80::/10"] {
            assert!(known.contains(&net.parse().unwrap()), "{net}");
        }
    }
}
