//! What may become of a call to the kernel: it fails, it works and nobody hears of it, or the process ends before or after it.

use std::panic::{self, AssertUnwindSafe};

/// How calls fail.
#[derive(Clone, Copy, Debug)]
pub enum Failure {
    /// Nothing is changed.
    Refuses,
    /// It is changed, and nobody hears of it.
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
    pub fails: Option<Failure>,
    /// The process ends at a call that changes something, after so many others.
    pub ends: Option<(usize, Ends)>,
}

impl Calls {
    /// What becomes of one more that changes something.
    pub fn one_more(&mut self) -> (Option<Ends>, Option<Failure>) {
        let due = self.ends.filter(|(left, _)| *left == 0).map(|(_, ends)| ends);
        self.ends = self.ends.filter(|(left, _)| *left > 0).map(|(left, ends)| (left - 1, ends));
        (due, self.fails)
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
    let due: Vec<bool> = (0..4).map(|_| calls.one_more().0.is_some()).collect();
    assert_eq!(due, [false, true, false, false]);
    assert_eq!((survives(|| 1), survives(|| -> i32 { end_process() })), (Some(1), None));
}
