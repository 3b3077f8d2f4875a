//! A record as full as it may be: what goes on for long is interrupted again and again, as on a busy node beside processes that end and
//! start anew, so that every check has all of it to go through. Nothing is in it that would accuse anybody.

use crate::journal::{at, moment};
use rackpartition::api::{Span, SpanKind};

/// How long an interruption lasts, seconds. A datagram that comes more than a second after the last begins a new span, and after 2 s
/// without one nobody would say any more that all were heard.
const INTERRUPTION: f64 = 1.2;
/// What is left between two is at least so long, seconds.
const SHORTEST: f64 = 3.0;

enum Interruption {
    /// Nothing is seen.
    Pause,
    /// One sample says something else.
    State(&'static str),
}

impl Interruption {
    /// `None` where it would say that something is wrong.
    fn of(span: &Span) -> Option<Self> {
        match (&span.kind, span.state.as_str()) {
            (SpanKind::Heard | SpanKind::Lost, _) => Some(Interruption::Pause),
            // The path is alive, and the process behind it away.
            (SpanKind::Probe, "open") => Some(Interruption::State("refused")),
            (SpanKind::Canary, "acknowledged") => Some(Interruption::State("unknown")),
            _ => None,
        }
    }
    /// So many spans more.
    fn adds(&self) -> f64 {
        match self {
            Interruption::Pause => 1.0,
            Interruption::State(_) => 2.0,
        }
    }
}

/// The same history in about so many spans, if it is not in more.
pub fn interrupted(spans: Vec<Span>, wanted: usize) -> Vec<Span> {
    let more = wanted.saturating_sub(spans.len()) as f64;
    let adds = |span: &Span| Interruption::of(span).map_or(0.0, |i| i.adds() * seconds(span));
    let most: f64 = spans.iter().map(adds).sum();
    // How often, in a second.
    let rate = if most > 0.0 { more / most } else { 0.0 };
    spans.into_iter().flat_map(|span| pieces(span, rate)).collect()
}

fn seconds(span: &Span) -> f64 {
    at(&span.to) - at(&span.from)
}

fn pieces(whole: Span, rate: f64) -> Vec<Span> {
    let times = (seconds(&whole) * rate).ceil();
    let every = seconds(&whole) / (times + 1.0);
    let Some(interruption) = Interruption::of(&whole).filter(|_| every >= SHORTEST + INTERRUPTION) else {
        return vec![whole];
    };
    let part = |state: &str, from: f64, to: f64| Span {
        state: state.into(),
        from: moment(from),
        to: moment(to),
        samples: (to - from) as u32 + 1,
        ..whole.clone()
    };
    let (mut all, mut begun) = (Vec::new(), at(&whole.from));
    for i in 1..=times as u32 {
        let middle = at(&whole.from) + every * f64::from(i);
        all.push(part(&whole.state, begun, middle - INTERRUPTION / 2.0));
        if let Interruption::State(state) = interruption {
            all.push(part(state, middle, middle));
        }
        begun = middle + INTERRUPTION / 2.0;
    }
    all.push(part(&whole.state, begun, at(&whole.to)));
    all
}
