//! What may become of a call to the kernel: it fails, it works and nobody hears of it, or the process ends before or after it.

use std::{
    collections::BTreeMap,
    panic::{self, AssertUnwindSafe},
};

/// How calls fail.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Failure {
    /// Nothing is changed.
    Refuses,
    /// Whether it is changed or not, nobody hears of it.
    Silent,
    /// Nobody can look.
    Unreadable,
}

/// On which side of a call a process ends. What it writes down lies between two of them, so of a write as well.
#[derive(Clone, Copy, Debug)]
pub enum Ends {
    Before,
    After,
}

/// What becomes of one node's calls.
#[derive(Default)]
pub struct Calls {
    /// They fail in these ways, each until a tick.
    fails: BTreeMap<Failure, usize>,
    /// The process ends at a call that changes something, after so many others.
    pub ends: Option<(usize, Ends)>,
}

impl Calls {
    pub fn fail(&mut self, how: Failure, until: usize) {
        self.fails.insert(how, until);
    }
    /// What was to fail until this tick works again.
    pub fn mend(&mut self, tick: usize) {
        self.fails.retain(|_, until| *until > tick);
    }
    pub fn fails(&self, how: Failure) -> bool {
        self.fails.contains_key(&how)
    }
    pub fn work(&self) -> bool {
        self.fails.is_empty()
    }
    /// One more that changes something: whether the process ends at it.
    pub fn one_more(&mut self) -> Option<Ends> {
        let due = self.ends.filter(|(left, _)| *left == 0).map(|(_, ends)| ends);
        self.ends = self.ends.filter(|(left, _)| *left > 0).map(|(left, ends)| (left - 1, ends));
        due
    }
}

/// By what a process that has ended is known from a test that fails.
struct Ended;

/// Ends the process in the middle of whatever it does. No panic hook has anything to say of it.
pub fn end_process() -> ! {
    panic::resume_unwind(Box::new(Ended))
}

/// What `work` gives; `None` where its process ended in it.
pub fn survives<T>(work: impl FnOnce() -> T) -> Option<T> {
    match panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => Some(done),
        Err(end) if end.is::<Ended>() => None,
        Err(failure) => panic::resume_unwind(failure),
    }
}

#[test]
fn a_process_ends_at_its_call_and_once() {
    let mut calls = Calls { ends: Some((1, Ends::After)), ..Default::default() };
    let due: Vec<bool> = (0..4).map(|_| calls.one_more().is_some()).collect();
    assert_eq!(due, [false, true, false, false]);
    assert_eq!((survives(|| 1), survives(|| -> i32 { end_process() })), (Some(1), None));
}

#[test]
fn calls_fail_in_two_ways_at_a_time_each_until_its_tick() {
    let mut calls = Calls::default();
    calls.fail(Failure::Refuses, 3);
    calls.fail(Failure::Unreadable, 5);
    let mut at = |tick| {
        calls.mend(tick);
        (calls.fails(Failure::Refuses), calls.fails(Failure::Unreadable), calls.work())
    };
    assert_eq!([at(2), at(3), at(5)], [(true, true, false), (false, true, false), (false, false, true)]);
}
