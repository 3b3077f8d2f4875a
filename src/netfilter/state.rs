//! What dumps of rules and elements say about a table of ours.

use super::decode::Attributes;
use super::numbers::{LIST_ELEM, elem, rule};
use super::writer::RULE;
use std::time::Duration;

/// What one dumped rule has counted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Count {
    packets: u64,
    /// Only the heal rule deletes elements.
    heals: bool,
    /// Rule of the spec that it is part of.
    of: Option<usize>,
}

pub fn count(rule: Attributes<'_>) -> Count {
    let mut count = Count { of: rule.get(rule::USERDATA).and_then(rule_of), ..Count::default() };
    for (_, expr) in rule.nested(rule::EXPRESSIONS).iter() {
        let expr = Attributes(expr);
        match expr.str(rule::EXPR_NAME) {
            Some("counter") => count.packets = expr.nested(rule::EXPR_DATA).be64(rule::COUNTER_PACKETS).unwrap_or(0),
            Some("dynset") => count.heals = true,
            _ => {}
        }
    }
    count
}

/// The number in a rule's comment: see [`RULE`].
fn rule_of(userdata: &[u8]) -> Option<usize> {
    let [0, _, comment @ .., 0] = userdata else { return None };
    let n = std::str::from_utf8(comment).ok()?.strip_prefix(RULE)?.parse().ok()?;
    // No more than one table could hold, whatever another wrote there.
    (n < usize::from(u16::MAX)).then_some(n)
}

/// Packets counted by the rules of a table, by what the rules are for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    pub dropped: u64,
    pub heal: u64,
    /// Of `dropped`, by rule of the spec.
    pub rules: Vec<u64>,
    /// Rules of the kernel's in the table, whatever they are for.
    pub in_table: usize,
}

impl FromIterator<Count> for Counters {
    fn from_iter<T: IntoIterator<Item = Count>>(counts: T) -> Self {
        let mut sum = Self::default();
        for Count { packets, heals, of } in counts {
            sum.in_table += 1;
            let all = if heals { &mut sum.heal } else { &mut sum.dropped };
            *all = all.saturating_add(packets);
            if let Some(of) = of {
                sum.rules.resize(sum.rules.len().max(of + 1), 0);
                sum.rules[of] = sum.rules[of].saturating_add(packets);
            }
        }
        sum
    }
}

/// Intervals in a part of a dumped set: elements that are no ends.
pub fn intervals(elements: Attributes<'_>) -> usize {
    items(elements).filter(|e| e.be32(elem::FLAGS).unwrap_or(0) & elem::INTERVAL_END == 0).count()
}

/// Time left of the gate's element in a part of the dumped set, if it is in it.
pub fn gate(elements: Attributes<'_>) -> Option<Duration> {
    items(elements).filter_map(|e| e.be64(elem::EXPIRATION)).map(Duration::from_millis).next()
}

pub fn items(message: Attributes<'_>) -> impl Iterator<Item = Attributes<'_>> {
    message.nested(elem::LIST_ELEMENTS).iter().filter(|e| e.0 == LIST_ELEM).map(|e| Attributes(e.1))
}

#[cfg(test)]
mod tests {
    use super::super::decode::messages;
    use super::super::numbers::*;
    use super::super::wire::{self, Attrs};
    use super::*;
    use proptest::prelude::*;

    fn with<T>(build: impl FnOnce(&mut Attrs), read: impl FnOnce(Attributes<'_>) -> T) -> T {
        let buf = wire::request(msg::NEWSETELEM, 0, 1, build);
        read(messages(&buf).next().unwrap().attributes())
    }

    #[test]
    fn ends_are_no_windows_and_the_gate_tells_its_time() {
        let build = |a: &mut Attrs| {
            a.nest(elem::LIST_ELEMENTS, |l| {
                for flags in [0, elem::INTERVAL_END, 0] {
                    l.nest(LIST_ELEM, |e| {
                        e.be32(elem::FLAGS, flags);
                    });
                }
                l.nest(LIST_ELEM, |e| {
                    e.be64(elem::EXPIRATION, 1500);
                });
            });
        };
        assert_eq!(with(build, intervals), 3);
        assert_eq!(with(build, gate), Some(Duration::from_millis(1500)));
        assert_eq!((with(|_| {}, intervals), with(|_| {}, gate)), (0, None));
    }

    #[test]
    fn counters_go_to_the_rule_they_stand_in() {
        let counted = |name: &'static str, packets: u64, userdata: Option<&[u8]>| {
            let build = |a: &mut Attrs| {
                a.nest(rule::EXPRESSIONS, |l| {
                    for expr in ["counter", name] {
                        l.nest(LIST_ELEM, |e| {
                            e.str(rule::EXPR_NAME, expr).nest(rule::EXPR_DATA, |d| {
                                d.be64(rule::COUNTER_PACKETS, packets);
                            });
                        });
                    }
                });
                if let Some(userdata) = userdata {
                    a.bytes(rule::USERDATA, userdata);
                }
            };
            with(build, count)
        };
        let counts = [
            counted("dynset", 2, None),
            counted("immediate", 30, Some(b"\0\x07rule 2\0")),
            counted("immediate", 400, Some(b"\0\x07rule 0\0")),
            counted("reject", 5000, Some(b"\0\x07rule 2\0")),
            // Comments that are not ours.
            counted("immediate", 1, Some(b"\0\x0drule 999999999\0")),
            counted("immediate", 1, Some(b"\0\x07rule x\0")),
            counted("immediate", 1, Some(b"\x01\x07rule 1\0")),
        ];
        let expected = Counters { dropped: 5433, heal: 2, rules: vec![400, 0, 5030], in_table: 7 };
        assert_eq!(counts.into_iter().collect::<Counters>(), expected);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(buf in prop::collection::vec(any::<u8>(), 0..100)) {
            for kind in [rule::EXPRESSIONS, elem::LIST_ELEMENTS, rule::USERDATA] {
                with(|a| { a.nest(kind, |l| { l.bytes(LIST_ELEM, &buf); }); }, |a| {
                    (Counters::from_iter([count(a)]), intervals(a), gate(a))
                });
            }
        }
    }
}
