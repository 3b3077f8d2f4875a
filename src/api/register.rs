//! A register: an object to which one writer adds one number after the other, and which so tells of each write what became of it.
//!
//! A Lease that is overwritten every second shows only the last write: one that was acknowledged and lost in between is hidden by
//! the next. So a register holds the *set* of all numbers that were written, as ranges, and
//!
//! - each number is tried once, whatever the answer, and the next one is larger;
//! - each write is what the store was known to hold and the new number, on condition of the version in which that was known
//!   (`resourceVersion`). A writer that does not know any more what is there is refused, reads, and goes on from what it read.
//!
//! So nothing is ever written a second time: what a store loses stays a hole, and what it refused and took all the same stays in. Of
//! the numbers acknowledged A, refused F and unknown I, what is read in the end, R, must hold all of A and none of F.
//!
//! The object grows with the number of holes only, and its writer ends before there are too many. It also has the times of the
//! last acknowledgements. From them whoever reads it knows what an earlier read should have returned.

use super::Numbers;
use std::{collections::BTreeMap, time::Duration};

/// Between two writes at least.
pub const PERIOD: Duration = Duration::from_secs(1);

/// Annotations of the Lease that a register is.
const NUMBERS: &str = "rackpartition.io/numbers";
const ACKNOWLEDGED: &str = "rackpartition.io/acknowledged";

/// States of [`SpanKind::Reading`](super::SpanKind::Reading).
pub const READ: &str = "read";
/// There is no such object.
pub const GONE: &str = "gone";

/// Name of the register that the agent of a node writes.
pub fn name(run_uid: &str, node: &str) -> String {
    format!("rackpartition-register-{}-{node}", super::first_group(run_uid))
}

/// Ways to read: so that the answer takes a quorum, and from the watch cache.
pub const CONSISTENT: &str = "consistent";
pub const CACHED: &str = "cached";

/// Subject of an agent's readings of a node's register.
pub fn subject(node: &str, way: &str) -> String {
    format!("{node}/{way}")
}

/// Of the readings of one subject, by their id: the stalest, and one that returned less than one before it.
pub const STALEST: &str = "stalest";
pub const BACKWARDS: &str = "backwards";

/// What a register holds.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Register {
    pub numbers: Numbers,
    /// The last numbers that were acknowledged, and when, in microseconds of the writer's wall clock.
    pub acknowledged: Vec<(u64, i64)>,
}

impl Register {
    /// How many acknowledgements are in the object. A reader that looks every second learns of each, also after a few failures.
    pub const ACKNOWLEDGEMENTS: usize = 16;

    /// Reads it from an object's annotations. `None` where they are something else.
    pub fn of(annotations: &BTreeMap<String, String>) -> Option<Self> {
        let numbers = Numbers::parse(annotations.get(NUMBERS)?)?;
        let one = |part: &str| -> Option<(u64, i64)> {
            let (number, at_us) = part.split_once('=')?;
            Some((number.parse().ok()?, at_us.parse().ok()?))
        };
        let acknowledged = annotations.get(ACKNOWLEDGED).map_or("", String::as_str);
        let acknowledged = acknowledged.split(',').filter(|part| !part.is_empty()).map(one).collect::<Option<_>>()?;
        Some(Register { numbers, acknowledged })
    }

    pub fn annotations(&self) -> BTreeMap<String, String> {
        let acknowledged: Vec<_> = self.acknowledged.iter().map(|(n, at_us)| format!("{n}={at_us}")).collect();
        BTreeMap::from([(NUMBERS.into(), self.numbers.to_string()), (ACKNOWLEDGED.into(), acknowledged.join(","))])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let numbers = Numbers::parse("1-57,60").unwrap();
        for acknowledged in [vec![], vec![(57, 1_900_000_000_000_001), (60, 1_900_000_003_000_000)]] {
            let register = Register { numbers: numbers.clone(), acknowledged };
            assert_eq!(Register::of(&register.annotations()), Some(register));
        }
        assert_eq!(Register::of(&BTreeMap::new()), None);
        let other = [(NUMBERS, "1-57"), (ACKNOWLEDGED, "57")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(Register::of(&BTreeMap::from(other)), None);
    }

    #[test]
    fn registers_of_two_runs_have_two_names() {
        assert_eq!(name("0a1b2c3d-4e5f", "cp1"), "rackpartition-register-0a1b2c3d-cp1");
    }
}
