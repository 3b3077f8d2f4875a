//! What the records tell of a register: which numbers were acknowledged, refused and neither, and when.

use super::{
    Case, Said,
    cite::cite,
    pairs::seen_by,
    timeline::{Seen, Track},
};
use crate::api::{Check, Finding, Numbers, Side, SpanKind, register};

/// A writer waits for at least a period between two writes: by its monotonic clock, which is slewed by at most 500 ppm (`adjtimex`).
const SLOWEST: f64 = 0.9995;
/// A timer that fires up to this much late, seconds, keeps its beat, so the next one may be so much early (tokio's `Interval`).
const LATE: f64 = 0.005;
/// A write that was begun before the cut may be acknowledged in it, seconds: the writer's period.
const BEGUN_BEFORE: f64 = register::PERIOD.as_secs() as f64;
/// Characters of a list of numbers in a sentence.
const SHOWN: usize = 40;

/// What a writer wrote down of its own register.
pub struct Written<'c, 'a> {
    pub track: &'c Track<'a>,
    stretches: Vec<(&'c Seen<'a>, Numbers)>,
}

impl<'c, 'a> Written<'c, 'a> {
    /// # Errors
    /// With what is missing.
    pub fn by(case: &'c Case<'a>, node: &str) -> Result<Self, String> {
        let track = seen_by(case, node)?;
        let of = |seen: &'c Seen<'a>| -> Result<(&'c Seen<'a>, Numbers), String> {
            let numbers = numbers(seen).filter(|numbers| !numbers.is_empty());
            numbers.map(|numbers| (seen, numbers)).ok_or_else(|| format!("{}: of no number", cite(track, seen)))
        };
        let spans = track.series(SpanKind::Register, node);
        let stretches = spans.iter().map(of).collect::<Result<Vec<_>, _>>()?;
        match stretches.is_empty() {
            true => Err(format!("{node}: no numbered write is in its record")),
            false => Ok(Written { track, stretches }),
        }
    }

    pub fn spans(&self) -> impl Iterator<Item = &'c Seen<'a>> {
        self.stretches.iter().map(|(seen, _)| *seen)
    }

    /// All numbers of which this became.
    pub fn of(&self, state: &str) -> Numbers {
        let mut all = Numbers::default();
        self.stretches.iter().filter(|(seen, _)| seen.is(state)).for_each(|(_, numbers)| all.extend(numbers));
        all
    }

    fn acknowledged(&self) -> impl Iterator<Item = &(&'c Seen<'a>, Numbers)> {
        self.stretches.iter().filter(|(seen, _)| seen.is("acknowledged"))
    }

    /// Whether any that was begun in the cut was acknowledged in it.
    pub fn is_acknowledged_in_the_cut(&self, case: &Case<'_>) -> bool {
        let from = case.edge(BEGUN_BEFORE, self.track);
        self.acknowledged().any(|(seen, _)| seen.meets(from, case.timeline.heal))
    }

    /// When the first number above this one that was acknowledged was so at the latest: seconds after the cut, and the error.
    pub fn next_after(&self, number: u64) -> Option<(f64, f64)> {
        let of = |(seen, numbers): &(&Seen<'a>, Numbers)| {
            let next = numbers.first_after(number)?;
            let before_last = at_least(numbers.count_after(Some(next)));
            let by_the_last = Some((seen.to - before_last, seen.to_error));
            let as_the_first = (numbers.first() == Some(next)).then_some((seen.from, seen.from_error));
            earliest([by_the_last, as_the_first])
        };
        earliest(self.acknowledged().map(of))
    }

    /// What had certainly been acknowledged at this time, seconds after the cut.
    pub fn acknowledged_by(&self, at: f64) -> Numbers {
        let mut all = Numbers::default();
        for (seen, numbers) in self.acknowledged() {
            let later = seen.to + seen.to_error - at;
            // Of the last so many nobody knows.
            let open = if later <= 0.0 { 0 } else { 1_u64.saturating_add(periods(later)) };
            all.extend(&numbers.without_last(open));
        }
        all
    }
}

fn period() -> f64 {
    register::PERIOD.as_secs_f64() * SLOWEST
}

/// Seconds that at least lie between the acknowledgement of a number and that of the last one, with so many after it: it was
/// acknowledged before the next one was begun.
fn at_least(after_it: u64) -> f64 {
    (after_it.saturating_sub(1) as f64 * period() - LATE).max(0.0)
}

/// How many periods take so many seconds at the least.
fn periods(seconds: f64) -> u64 {
    ((seconds + LATE) / period()).ceil() as u64
}

/// The one that is certainly over first, of times with their errors.
pub fn earliest(times: impl IntoIterator<Item = Option<(f64, f64)>>) -> Option<(f64, f64)> {
    times.into_iter().flatten().min_by(|a, b| (a.0 + a.1).total_cmp(&(b.0 + b.1)))
}

/// The numbers that a span's detail begins with.
pub fn numbers(seen: &Seen<'_>) -> Option<Numbers> {
    Numbers::parse(seen.span.detail.as_deref()?.split(' ').next()?)
}

/// Numbers as people read them.
pub fn shown(numbers: &Numbers) -> String {
    let text = numbers.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// What is said of each register, as one finding for each side that has any: what is worst.
pub fn by_side(
    case: &Case<'_>,
    check: Check,
    predicted: impl Fn(&Side) -> String,
    said: impl Fn(&Side, &str) -> Said,
) -> Vec<Finding> {
    let registers: Vec<&str> = case.evidence.plan.registers().collect();
    let of = |side: &Side| {
        let own = registers.iter().filter(|node| side.nodes.iter().any(|n| n == *node));
        Some(Said::worst(own.map(|node| said(side, node)).collect())?.about(check, &side.name, predicted(side)))
    };
    case.evidence.sides.iter().filter_map(of).collect()
}
