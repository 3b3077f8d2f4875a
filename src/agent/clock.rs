//! How far this node's clock is from the operator's: four timestamps through the objects, and what the kernel says itself.

use super::Error;
use crate::api::{Clock, ClockAnchor, ClockPing, ClockReply, Moment};
use std::time::Duration;
use tokio::time::Instant;

/// adjtimex(2), `STA_UNSYNC`: nobody disciplines this clock.
const STA_UNSYNC: i32 = 0x40;
/// The kernel's own bound on `maxerror`, `NTP_PHASE_LIMIT`: 16 s.
const MAX_ERROR_US: i64 = 16_000_000;
/// An unanswered question is asked anew after this long; its answer counts all the same, should it still come.
const PATIENCE: Duration = Duration::from_secs(4);
/// Open questions kept: an answer later than half a minute bounds nothing that matters.
const OPEN: usize = 8;
/// Answers of one round further apart are two anchors: one before a cut and one after it bound what happens in between.
const NEAR: Duration = Duration::from_secs(10);
/// Questions of one round, whose answers become one anchor: the error is half of the round trip, which varies much.
const ROUND: usize = 3;
/// Anchors kept: the first, for the drift, and the newest.
const ANCHORS: usize = 8;

/// Whether the kernel counts its clock as synchronised, and its bound on the error in microseconds.
///
/// # Errors
/// Where adjtimex(2) is refused. Reading needs no capability.
pub fn kernel_clock() -> Result<(bool, i64), Error> {
    let mut timex = rtime_clock::adjtime::Timex::new();
    rtime_clock::adjtime::adjtimex(&mut timex).map_err(Error::KernelClock)?;
    Ok((timex.0.status & STA_UNSYNC == 0, timex.0.maxerror))
}

/// Offset and error in microseconds of four timestamps: asked (t0) and answered (t3) by this clock, received (t1) and sent
/// (t2) by the other's. The other clock is this one plus the offset, give or take the error.
///
/// `None` where a clock was stepped in between.
pub fn offset(t0: i64, t1: i64, t2: i64, t3: i64) -> Option<(i64, i64)> {
    let round_trip = (t3 - t0) - (t2 - t1);
    let sane = t3 >= t0 && t2 >= t1 && round_trip >= 0;
    sane.then(|| (((t1 - t0) + (t2 - t3)) / 2, (round_trip + 1) / 2))
}

/// Asks in rounds and keeps what the answers of each say together.
#[derive(Debug)]
pub struct Exchange {
    anchors: Vec<ClockAnchor>,
    /// Still to be answered in this round.
    due: usize,
    /// Whether the last anchor is of this round.
    is_begun: bool,
    sequence: u32,
    /// Oldest first.
    asked: Vec<Asked>,
}

#[derive(Debug)]
struct Asked {
    ping: ClockPing,
    at: Moment,
    since: Instant,
}

impl Exchange {
    /// Goes on with the anchors of an earlier process.
    ///
    /// Sequences begin at a random number, so that an answer to that process is not taken for one to this.
    pub fn new(anchors: Vec<ClockAnchor>) -> Self {
        Exchange { anchors, due: 0, is_begun: false, sequence: rand::random::<u32>() >> 1, asked: Vec::new() }
    }

    /// Begins a round, unless one is going on.
    pub fn begin_round(&mut self) {
        if self.due == 0 {
            (self.due, self.is_begun) = (ROUND, false);
        }
    }

    /// The next question, if it is time for one. It should leave at once.
    pub fn ask(&mut self, now: &Moment) -> bool {
        let unanswered = self.asked.last().is_some_and(|asked| asked.since.elapsed() < PATIENCE);
        if self.due == 0 || unanswered {
            return false;
        }
        self.sequence = self.sequence.wrapping_add(1);
        if self.asked.len() == OPEN {
            self.asked.remove(0);
        }
        let ping = ClockPing { sequence: self.sequence, sent: now.wall.clone() };
        self.asked.push(Asked { ping, at: now.clone(), since: Instant::now() });
        true
    }

    /// Takes an answer that arrived at `now`. True if it was one to an open question.
    pub fn answer(&mut self, reply: &ClockReply, now: &Moment) -> bool {
        let Some(i) = self.asked.iter().position(|a| a.ping.sequence == reply.sequence) else { return false };
        // The operator answers the newest that it sees: those before it stay open for ever.
        let asked = self.asked.drain(..=i).next_back().expect("at least the one that was found");
        let [t1, t2, t3] = [&reply.received, &reply.answered, &now.wall].map(|t| t.0.as_microsecond());
        // By the monotonic clock, should the wall clock have been stepped meanwhile.
        let t0 = t3 - (now.boot_us - asked.at.boot_us);
        if let Some((offset_us, error_us)) = offset(t0, t1, t2, t3) {
            self.keep(ClockAnchor { at: now.clone(), offset_us, error_us, clock: reply.clock.clone() });
            self.due = self.due.saturating_sub(1);
        }
        true
    }

    /// Usable from the first answer on: on a machine that is busy the others may take their time.
    fn keep(&mut self, new: ClockAnchor) {
        let soon = |last: &ClockAnchor| new.at.boot_us - last.at.boot_us < NEAR.as_micros() as i64;
        match self.anchors.last_mut().filter(|last| self.is_begun && soon(last)) {
            // No clock drifts by more than this, synchronised or not.
            Some(last) => *last = new.narrowed_by(last, Clock::default().drift()).unwrap_or(new),
            None => {
                self.anchors.push(new);
                if self.anchors.len() > ANCHORS {
                    self.anchors.remove(1);
                }
            }
        }
        self.is_begun = true;
    }

    /// For the record: the open question, the anchors, and what the kernel says now.
    pub fn clock(&self) -> Clock {
        let (synchronised, max_error_us) = kernel_clock().unwrap_or_else(|error| {
            tracing::warn!(%error, "the clock counts as not synchronised");
            (false, MAX_ERROR_US)
        });
        let best = self.anchors.iter().min_by_key(|a| a.error_us);
        Clock {
            synchronised,
            max_error_us,
            ping: self.asked.last().map(|asked| asked.ping.clone()),
            anchors: self.anchors.clone(),
            summary: best.map(summary).unwrap_or_default(),
        }
    }
}

/// `+1.2ms ±0.8ms`.
fn summary(anchor: &ClockAnchor) -> String {
    format!("{:+.1}ms ±{:.1}ms", anchor.offset_us as f64 / 1e3, anchor.error_us as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::now;
    use jiff::{SignedDuration, Timestamp};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
    use proptest::prelude::*;

    #[test]
    fn four_timestamps_give_offset_and_error() {
        // The operator is 500 ahead; 100 there, 10 in between, 300 back.
        assert_eq!(offset(1000, 1600, 1610, 1410), Some((400, 200)));
        assert_eq!(offset(1000, 1100, 1100, 1200), Some((0, 100)));
        assert_eq!(offset(1000, 1100, 1100, 900), None, "stepped back while waiting");
        assert_eq!(offset(1000, 1100, 1300, 1150), None, "the other clock was stepped");
    }

    proptest! {
        #[test]
        fn the_true_offset_is_within_the_error(
            start in 0..10_000_000i64, truth in -5_000_000..5_000_000i64,
            there in 0..2_000_000i64, between in 0..2_000_000i64, back in 0..2_000_000i64,
        ) {
            let t1 = start + there + truth;
            let (offset, error) = offset(start, t1, t1 + between, start + there + between + back).unwrap();
            prop_assert!((offset - truth).abs() <= error + 1);
        }
    }

    /// An operator who is `ahead` milliseconds ahead and takes no time.
    fn reply(exchange: &Exchange, ahead: i64) -> ClockReply {
        let ping = &exchange.asked.last().unwrap().ping;
        let received = MicroTime(Timestamp::now() + SignedDuration::from_millis(ahead));
        ClockReply { sequence: ping.sequence, received: received.clone(), answered: received, clock: "b1".into() }
    }

    #[test]
    fn a_round_of_three_leaves_one_anchor_from_its_first_answer_on() {
        let mut exchange = Exchange::new(Vec::new());
        assert!(!exchange.ask(&now()), "nobody began a round");
        exchange.begin_round();
        for _ in 0..ROUND {
            assert!(exchange.ask(&now()));
            assert!(!exchange.ask(&now()), "one question at a time");
            let reply = reply(&exchange, 200);
            assert!(exchange.answer(&reply, &now()));
            assert!(!exchange.answer(&reply, &now()), "seen again on the next event");
            assert_eq!(exchange.anchors.len(), 1);
        }
        assert!(!exchange.ask(&now()));
        let clock = exchange.clock();
        assert_eq!((clock.anchors.len(), clock.ping), (1, None));
        assert!((clock.anchors[0].offset_us - 200_000).abs() < 50_000, "{:?}", clock.anchors);
        assert!(clock.summary.starts_with('+'), "{}", clock.summary);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_comes_after_the_next_question_counts() {
        let mut exchange = Exchange::new(Vec::new());
        exchange.begin_round();
        exchange.ask(&now());
        let late = reply(&exchange, 0);
        tokio::time::advance(PATIENCE).await;
        assert!(exchange.ask(&now()), "asked anew");
        assert!(exchange.answer(&late, &now()));
        assert_eq!((exchange.anchors.len(), exchange.asked.len()), (1, 1), "and the new question is still open");
        let newest = reply(&exchange, 0);
        assert!(exchange.answer(&newest, &now()));
        assert!(exchange.ask(&now()), "the third of the round");
        for _ in 0..2 * OPEN {
            tokio::time::advance(PATIENCE).await;
            exchange.ask(&now());
        }
        assert_eq!(exchange.asked.len(), OPEN);
    }

    #[test]
    fn an_answer_to_somebody_else_is_ignored() {
        let mut exchange = Exchange::new(Vec::new());
        exchange.begin_round();
        exchange.ask(&now());
        let stale = ClockReply { sequence: 0xffff_ffff, ..reply(&exchange, 0) };
        assert!(!exchange.answer(&stale, &now()));
    }

    #[test]
    fn the_first_and_the_newest_anchors_are_kept() {
        let anchor = |offset_us| ClockAnchor { at: now(), offset_us, error_us: 1, clock: "b1".into() };
        let mut exchange = Exchange::new((0..8).map(anchor).collect());
        exchange.begin_round();
        for _ in 0..ROUND {
            exchange.ask(&now());
            let reply = reply(&exchange, 0);
            exchange.answer(&reply, &now());
        }
        let offsets: Vec<_> = exchange.anchors.iter().map(|a| a.offset_us).take(3).collect();
        assert_eq!((exchange.anchors.len(), offsets), (8, vec![0, 2, 3]));
    }

    #[test]
    fn the_kernel_says_something_of_its_clock() {
        let (_, max_error_us) = kernel_clock().unwrap();
        assert!(max_error_us >= 0);
    }
}
