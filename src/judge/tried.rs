//! Times for which nobody tried to write: a canary that is away says nothing of the API.

use super::timeline::{Seen, merged};

/// A canary write is given up after this, seconds, the operator's and a node's own: one that hangs is written down only then.
const CANARY_DEADLINE: f64 = 2.0;
/// The operator's canary period, seconds: the shortest gap that can be seen.
pub const CANARY_PERIOD: f64 = 0.5;
/// Between two words of the operator's canary lies no more than this, seconds, while it writes.
pub const OPERATOR_CANARY: f64 = CANARY_PERIOD + CANARY_DEADLINE;
/// The same of a node's own, seconds: it writes once a second, if what it wrote before is answered.
pub const LOCAL_CANARY: f64 = 1.0 + CANARY_DEADLINE;

/// The times between `from` and `to` of which none of these spans says anything and that are longer than `most`, seconds.
pub fn untried<'s, 'a: 's>(
    spans: impl IntoIterator<Item = &'s Seen<'a>>,
    from: f64,
    to: f64,
    most: f64,
) -> Vec<(f64, f64)> {
    let tried = merged(spans.into_iter().map(|s| (s.from, s.to)).collect());
    let starts = std::iter::once(from).chain(tried.iter().map(|(_, end)| end.max(from)));
    let ends = tried.iter().map(|(start, _)| start.min(to)).chain([to]);
    starts.zip(ends).filter(|(start, end)| end - start > most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::SpanKind, judge::tests::fixture::span};

    #[test]
    fn only_long_times_without_a_try_count() {
        let span = span(0.0, SpanKind::Canary, "cp1", "unknown", 0.0, 1.0);
        let seen = |from, to| Seen { span: &span, from, to, from_error: 0.0, to_error: 0.0 };
        let of = |times: &[(f64, f64)], from, to| {
            let spans: Vec<Seen<'_>> = times.iter().map(|(from, to)| seen(*from, *to)).collect();
            untried(&spans, from, to, 3.0)
        };
        let times = [(-9.0, -5.0), (2.0, 8.0), (10.0, 11.0), (20.0, 40.0)];
        assert_eq!(of(&times, 0.0, 30.0), [(11.0, 20.0)]);
        assert_eq!(of(&times, -4.0, 15.0), [(-4.0, 2.0), (11.0, 15.0)]);
        assert_eq!(of(&times, 30.0, 50.0), [(40.0, 50.0)]);
        assert_eq!(of(&[], 0.0, 4.0), [(0.0, 4.0)]);
        // Whatever order they come in, and where one is within another.
        assert!(of(&[(5.0, 6.0), (0.0, 9.0)], 0.0, 10.0).is_empty());
    }
}
