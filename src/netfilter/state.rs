//! What dumps of rules and elements say about a table of ours.

use super::decode::Attributes;
use super::numbers::{LIST_ELEM, elem, rule};
use std::time::Duration;

/// Packets counted by a rule, by what the rule is for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    pub dropped: u64,
    pub heal: u64,
}

impl Counters {
    /// Adds what one dumped rule has counted. Only the heal rule deletes elements, only the drop rules count beside it.
    pub fn add(&mut self, rule: Attributes<'_>) {
        let (mut packets, mut heals) = (0, false);
        for (_, expr) in rule.nested(rule::EXPRESSIONS).iter() {
            let expr = Attributes(expr);
            match expr.str(rule::EXPR_NAME) {
                Some("counter") => packets = expr.nested(rule::EXPR_DATA).be64(rule::COUNTER_PACKETS).unwrap_or(0),
                Some("dynset") => heals = true,
                _ => {}
            }
        }
        let sum = if heals { &mut self.heal } else { &mut self.dropped };
        *sum = sum.saturating_add(packets);
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

fn items(message: Attributes<'_>) -> impl Iterator<Item = Attributes<'_>> {
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
        let count = |name: &'static str, packets: u64| {
            move |a: &mut Attrs| {
                a.nest(rule::EXPRESSIONS, |l| {
                    for expr in ["counter", name] {
                        l.nest(LIST_ELEM, |e| {
                            e.str(rule::EXPR_NAME, expr).nest(rule::EXPR_DATA, |d| {
                                d.be64(rule::COUNTER_PACKETS, packets);
                            });
                        });
                    }
                });
            }
        };
        let mut counters = Counters::default();
        for build in [count("dynset", 2), count("immediate", 30), count("immediate", 400)] {
            with(build, |a| counters.add(a));
        }
        assert_eq!(counters, Counters { dropped: 430, heal: 2 });
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(buf in prop::collection::vec(any::<u8>(), 0..100)) {
            for kind in [rule::EXPRESSIONS, elem::LIST_ELEMENTS] {
                with(|a| { a.nest(kind, |l| { l.bytes(LIST_ELEM, &buf); }); }, |a| {
                    Counters::default().add(a);
                    (intervals(a), gate(a))
                });
            }
        }
    }
}
