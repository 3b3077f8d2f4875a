//! Whether what was lost is what a lossy cut should lose.

use super::timeline::Seen;

/// Share of a live pair's probes that may go astray on a busy machine (theory C0: loss on a non-edge below 5 %).
pub const STRAY: f64 = 0.05;

/// So many standard deviations are chance.
pub const DEVIATIONS: f64 = 4.0;

/// What the share of lost connections says.
pub enum Share {
    AsExpected,
    /// It can't be chance.
    Other(String),
    /// So few probes that the expected share can't be told from none.
    TooFew(String),
}

/// Compares with `expected` the share of what was lost, which the second of each pair says, within the windows.
pub fn lost_share<'s, 'a: 's>(
    expected: f64,
    seen: impl Iterator<Item = (&'s Seen<'a>, bool)>,
    windows: &[(f64, f64)],
) -> Share {
    let (mut lost, mut all) = (0.0, 0.0);
    for (seen, is_lost) in seen {
        let samples = samples_within(seen, windows);
        all += samples;
        lost += if is_lost { samples } else { 0.0 };
    }
    if all == 0.0 {
        return Share::TooFew("nobody looked during the cut".into());
    }
    let share = lost / all;
    // The strays of a busy machine come on top.
    let chance = DEVIATIONS * (expected * (1.0 - expected) / all).sqrt() + STRAY;
    match () {
        _ if (share - expected).abs() > chance => {
            Share::Other(format!("{:.0} % of {all:.0} lost, {:.0} % expected", share * 100.0, expected * 100.0))
        }
        _ if expected <= chance => {
            Share::TooFew(format!("{all:.0} probes are too few to tell {:.0} % of loss from none", expected * 100.0))
        }
        _ => Share::AsExpected,
    }
}

/// How many samples of a span are within the windows, if they are evenly spread over it.
pub fn samples_within(seen: &Seen<'_>, windows: &[(f64, f64)]) -> f64 {
    let within: f64 = windows.iter().map(|(from, to)| (seen.to.min(*to) - seen.from.max(*from)).max(0.0)).sum();
    let at_once = windows.iter().any(|(from, to)| seen.meets(*from, *to));
    let share = match seen.to > seen.from {
        true => within / (seen.to - seen.from),
        false => f64::from(u8::from(at_once)),
    };
    f64::from(seen.span.samples) * share
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{Span, SpanKind},
        observe::now,
    };

    fn spans(list: &[(&str, u32)]) -> Vec<Span> {
        let span = |(state, samples): &(&str, u32)| Span {
            samples: *samples,
            ..Span::bare(SpanKind::Probe, "a/Kubelet", state, now(), now())
        };
        list.iter().map(span).collect()
    }

    /// Spans one after the other, each as many seconds long as it has samples.
    fn share(expected: f64, list: &[(&str, u32)], from: f64, to: f64) -> Share {
        let (spans, mut at) = (spans(list), -100.0);
        let seen: Vec<Seen<'_>> = spans
            .iter()
            .map(|span| {
                let start = at;
                at += f64::from(span.samples);
                Seen { span, from: start, to: at, from_error: 0.0, to_error: 0.0 }
            })
            .collect();
        let seen = seen.iter().filter(|s| s.meets(from, to)).map(|s| (s, s.is("silent")));
        lost_share(expected, seen, &[(from, to)])
    }

    #[test]
    fn only_what_is_in_the_cut_counts_for_its_loss() {
        let list = [("open", 100), ("silent", 30), ("open", 130)];
        assert!(matches!(share(0.5, &list, 0.0, 60.0), Share::AsExpected), "30 of 60, whatever was before and after");
        assert!(matches!(share(0.9, &list, 0.0, 60.0), Share::Other(_)));
    }

    #[test]
    fn a_loss_that_nobody_can_tell_from_none_is_not_proven() {
        assert!(matches!(share(0.04, &[("open", 300)], 0.0, 60.0), Share::TooFew(_)));
        assert!(matches!(share(0.64, &[("open", 300)], 0.0, 60.0), Share::Other(_)));
    }
}
