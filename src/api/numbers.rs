//! Sets of whole numbers as short text: `1-57,60-250`.

use std::fmt;

/// A set of numbers, kept as ranges. So it grows with its holes and not with its length.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Numbers(
    /// First and last of each range, in order, with a hole between any two.
    Vec<(u64, u64)>,
);

impl Numbers {
    /// Reads what was written. `None` where it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let range = |part: &str| -> Option<(u64, u64)> {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.parse().ok()?, last.parse().ok()?);
            (first <= last).then_some((first, last))
        };
        let ranges: Option<Vec<_>> = text.split(',').filter(|part| !part.is_empty()).map(range).collect();
        ranges.map(Self::joined)
    }

    fn joined(mut ranges: Vec<(u64, u64)>) -> Self {
        ranges.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match joined.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => joined.push((first, last)),
            }
        }
        Numbers(joined)
    }

    pub fn insert(&mut self, number: u64) {
        self.extend(&Numbers(vec![(number, number)]));
    }

    pub fn extend(&mut self, others: &Numbers) {
        *self = Self::joined(self.0.iter().chain(&others.0).copied().collect());
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub fn count(&self) -> u64 {
        self.count_after(None)
    }
    pub fn first(&self) -> Option<u64> {
        self.0.first().map(|(first, _)| *first)
    }
    pub fn last(&self) -> Option<u64> {
        self.0.last().map(|(_, last)| *last)
    }

    /// The first one above `number`.
    pub fn first_after(&self, number: u64) -> Option<u64> {
        let (first, _) = self.0.iter().find(|(_, last)| *last > number)?;
        Some((*first).max(number.saturating_add(1)))
    }

    /// How many are above `number`; of `None` all.
    pub fn count_after(&self, number: Option<u64>) -> u64 {
        let least = number.map_or(0, |n| n.saturating_add(1));
        let above = self.0.iter().filter(|(_, last)| number.is_none_or(|n| *last > n));
        above.fold(0_u64, |sum, (first, last)| sum.saturating_add((last - (*first).max(least)).saturating_add(1)))
    }

    /// All but the `count` largest.
    pub fn without_last(&self, count: u64) -> Numbers {
        let (mut ranges, mut count) = (self.0.clone(), count);
        while count > 0
            && let Some((first, last)) = ranges.pop()
        {
            let length = (last - first).saturating_add(1);
            if length > count {
                ranges.push((first, last - count));
                break;
            }
            count -= length;
        }
        Numbers(ranges)
    }

    /// Those that are not among the others.
    pub fn without(&self, others: &Numbers) -> Numbers {
        let mut left = Vec::new();
        for (first, last) in self.0.iter().copied() {
            // From where on nothing is said yet.
            let mut from = Some(first);
            for (other_first, other_last) in others.0.iter().copied().filter(|(a, b)| *b >= first && *a <= last) {
                let Some(start) = from else { break };
                if start < other_first {
                    left.push((start, other_first - 1));
                }
                from = other_last.checked_add(1).filter(|next| *next <= last);
            }
            left.extend(from.map(|start| (start, last)));
        }
        Numbers(left)
    }

    /// Those that are in both.
    pub fn both(&self, others: &Numbers) -> Numbers {
        self.without(&self.without(others))
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.0.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn set(text: &str) -> Numbers {
        Numbers::parse(text).unwrap()
    }

    #[test]
    fn text_is_ranges_that_neither_touch_nor_overlap() {
        assert_eq!(set("5,1-3,4,9-11,10").to_string(), "1-5,9-11");
        assert_eq!((set("").to_string(), set("").is_empty()), (String::new(), true));
        for other in ["a", "3-1", "1-", "-1", "1-2-3", "1 2"] {
            assert_eq!(Numbers::parse(other), None, "{other}");
        }
        let whole = format!("0-{}", u64::MAX);
        assert_eq!((set(&whole).count(), set(&whole).first_after(u64::MAX)), (u64::MAX, None));
        assert!(set(&whole).without(&set(&whole)).is_empty());
    }

    fn of(numbers: &BTreeSet<u64>) -> Numbers {
        let mut all = Numbers::default();
        numbers.iter().for_each(|n| all.insert(*n));
        all
    }

    proptest! {
        /// Against a set that has each number by itself.
        #[test]
        fn ranges_are_a_set(
            a in proptest::collection::btree_set(0u64..40, 0..30),
            b in proptest::collection::btree_set(0u64..40, 0..30),
            n in 0u64..40,
        ) {
            let (x, y) = (of(&a), of(&b));
            prop_assert_eq!(Numbers::parse(&x.to_string()), Some(x.clone()));
            prop_assert_eq!(x.without(&y), of(&(&a - &b)));
            prop_assert_eq!(x.both(&y), of(&(&a & &b)));
            prop_assert_eq!(x.count(), a.len() as u64);
            prop_assert_eq!((x.first(), x.last()), (a.first().copied(), a.last().copied()));
            prop_assert_eq!(x.first_after(n), a.range(n + 1..).next().copied());
            prop_assert_eq!(x.count_after(Some(n)), a.range(n + 1..).count() as u64);
            prop_assert_eq!(x.without_last(n), of(&a.iter().rev().skip(n as usize).copied().collect()));
            let mut both = x;
            both.extend(&y);
            prop_assert_eq!(both, of(&(&a | &b)));
        }
    }
}
