//! Whether a blow fell into the moment of a run that it was meant for, by the schedule that the run had in the end.

use anyhow::{Result, bail, ensure};
use k8s_openapi::jiff::Timestamp;
use rackpartition::{
    api::Schedule,
    course::{LEAD_SECONDS, seconds_between},
};

/// The last seconds of a cut that count as its heal.
pub const HEAL_SECONDS: f64 = 2.0;

/// A moment of a run. The first barrier is that every node is armed: then the schedule is written, and not before. The second one is that
/// every node has loaded it, at `cutAt`: else nobody is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Agents are there, or on their way, and nothing is scheduled.
    Arming,
    /// Every agent has said that it is armed, and nothing is scheduled.
    Armed,
    /// From the schedule to `cutAt`.
    BetweenBarriers,
    /// From `cutAt` to `healAt`.
    InTheCut,
    /// The last [`HEAL_SECONDS`] before `healAt`.
    AtTheHeal,
    /// From `healAt` until nobody watches any more.
    InRecovery,
}

/// When the first and when the last of those who were struck was struck. There is nothing to allow for: nodes are containers of one
/// machine, so operators, agents and whoever strikes have one clock.
#[derive(Clone, Copy, Debug)]
pub struct Blow {
    first: Timestamp,
    last: Timestamp,
}

/// Seconds after the cut or the heal; negative before it.
struct Span {
    of: &'static str,
    at: Timestamp,
    from: f64,
    until: f64,
}

impl Blow {
    /// `None` where nobody was struck.
    #[must_use]
    pub fn of(struck: &[Timestamp]) -> Option<Self> {
        Some(Blow { first: *struck.iter().min()?, last: *struck.iter().max()? })
    }

    /// How far it was from the cut or the heal.
    ///
    /// # Errors
    /// Where any of it fell outside of this moment, or there was no such moment.
    pub fn within(&self, moment: Moment, schedule: Option<&Schedule>) -> Result<String> {
        let Some(schedule) = schedule else {
            return match moment {
                Moment::Arming | Moment::Armed => Ok("before anything was scheduled".to_owned()),
                _ => bail!("missed its moment: there was no {moment:?}, for nothing was ever scheduled"),
            };
        };
        let span = Span::new(moment, schedule);
        let [first, last] = [self.first, self.last].map(|at| seconds_between(span.at, at));
        let told = match last - first < 0.1 {
            true => span.place(last),
            false => format!("from {} to {}", span.place(first), span.place(last)),
        };
        let is_within = span.from <= first && last < span.until;
        ensure!(is_within, "missed its moment: struck {told}, and {moment:?} is {}", span.told());
        Ok(told)
    }
}

impl Span {
    fn new(moment: Moment, schedule: &Schedule) -> Self {
        let (cut, heal) = (schedule.cut_at.0, schedule.heal_at.0);
        let of_cut = |from, until| Span { of: "the cut", at: cut, from, until };
        let of_heal = |from, until| Span { of: "the heal", at: heal, from, until };
        match moment {
            // The operator puts the cut so long after the moment in which it finds everybody armed.
            Moment::Arming | Moment::Armed => of_cut(f64::NEG_INFINITY, -LEAD_SECONDS),
            Moment::BetweenBarriers => of_cut(-LEAD_SECONDS, 0.0),
            Moment::InTheCut => of_cut(0.0, seconds_between(cut, heal)),
            Moment::AtTheHeal => of_heal(-HEAL_SECONDS, 0.0),
            Moment::InRecovery => {
                let over = schedule.observed_until.as_ref().unwrap_or(&schedule.recover_by).0;
                of_heal(0.0, seconds_between(heal, over))
            }
        }
    }

    fn place(&self, seconds: f64) -> String {
        let side = if seconds < 0.0 { "before" } else { "after" };
        format!("{:.1} s {side} {}", seconds.abs(), self.of)
    }

    fn told(&self) -> String {
        let [from, until] = [self.from, self.until].map(|s| if s == 0.0 { self.of.to_owned() } else { self.place(s) });
        if self.from.is_finite() { format!("from {from} to {until}") } else { format!("until {until}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    use Moment::{Armed, Arming, AtTheHeal, BetweenBarriers, InRecovery, InTheCut};

    const CUT_AT: i64 = 1_900_000_000;

    fn at(seconds: f64) -> Timestamp {
        Timestamp::from_microsecond(CUT_AT * 1_000_000 + (seconds * 1e6) as i64).unwrap()
    }

    /// Whoever is struck so many seconds after the cut, of a run that is cut for 20 s and watched for 15 of 20 s more.
    fn struck(moment: Moment, seconds: &[f64]) -> Result<String, String> {
        let [cut_at, heal_at, recover_by, until] = [0.0, 20.0, 40.0, 35.0].map(|seconds| MicroTime(at(seconds)));
        let schedule = Schedule { cut_at, heal_at, recover_by, observed_until: Some(until) };
        let struck: Vec<Timestamp> = seconds.iter().map(|s| at(*s)).collect();
        let blow = Blow::of(&struck).unwrap();
        blow.within(moment, Some(&schedule)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_blow_falls_into_its_moment_or_misses_it() {
        for (moment, inside, outside) in [
            (Arming, [-60.0, -10.1], [-9.9, 1.0]),
            (Armed, [-60.0, -10.1], [-9.9, 1.0]),
            (BetweenBarriers, [-9.9, -0.1], [-10.1, 0.1]),
            (InTheCut, [0.1, 19.9], [-0.1, 20.1]),
            (AtTheHeal, [18.1, 19.9], [17.9, 20.1]),
            (InRecovery, [20.1, 34.9], [19.9, 35.1]),
        ] {
            for seconds in inside {
                assert!(struck(moment, &[seconds]).is_ok(), "{moment:?} {seconds}");
            }
            for seconds in outside {
                assert!(struck(moment, &[seconds]).is_err(), "{moment:?} {seconds}");
                assert!(struck(moment, &[inside[0], seconds]).is_err(), "{moment:?}: each of them, {seconds}");
            }
        }
    }

    #[test]
    fn it_is_told_by_how_much() {
        let told = |words: &str| Ok(words.to_owned());
        assert_eq!(struck(BetweenBarriers, &[-1.8]), told("1.8 s before the cut"));
        assert_eq!(struck(InTheCut, &[5.5, 5.0]), told("from 5.0 s after the cut to 5.5 s after the cut"));
        assert_eq!(struck(AtTheHeal, &[19.2]), told("0.8 s before the heal"));
        let missed = |words: &str| Err(format!("missed its moment: {words}"));
        let in_the_cut = "struck 0.3 s after the cut, and BetweenBarriers is from 10.0 s before the cut to the cut";
        assert_eq!(struck(BetweenBarriers, &[0.3]), missed(in_the_cut));
        let scheduled = "struck 4.0 s before the cut, and Armed is until 10.0 s before the cut";
        assert_eq!(struck(Armed, &[-4.0]), missed(scheduled));
    }

    #[test]
    fn without_a_schedule_there_is_only_the_time_before_it() {
        let blow = Blow::of(&[at(0.0)]).unwrap();
        assert!(blow.within(Arming, None).is_ok() && blow.within(Armed, None).is_ok());
        for moment in [BetweenBarriers, InTheCut, AtTheHeal, InRecovery] {
            assert!(blow.within(moment, None).is_err(), "{moment:?}");
        }
        assert!(Blow::of(&[]).is_none());
    }
}
