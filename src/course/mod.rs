//! The course of a run: what follows from its status, from what its nodes say, and from the time. Pure; the operator's steps look and
//! act, and the simulation of the agents runs against the same words.

mod due;
mod nodes;
mod phases;
pub mod steady;

pub use due::{Due, due, is_held};
pub use nodes::Nodes;
pub use phases::{
    HOLD_SECONDS, LAST_CALL_SECONDS, SLACK_SECONDS, aborted, after, arming, before, deadline, during, is_late,
    may_have_touched, refused,
};

use crate::api::{Phase, RackPartitionStatus, conditions};
use jiff::Timestamp;
use std::time::Duration;

/// From writing the common instant to the instant: agents see it within a second or so, five times as long on a machine that is
/// busy, and a heal packet must still have time to arrive where one of them does not.
pub const LEAD_SECONDS: f64 = 10.0;

/// What follows a step.
#[derive(Debug)]
pub struct Next {
    pub status: RackPartitionStatus,
    pub again_in: Duration,
    /// For people: an event's reason, its note, and whether it is a warning.
    pub event: Option<(&'static str, String, bool)>,
    /// Heal packets go to every node, before anything of this is written.
    pub heal: bool,
}

impl Next {
    /// The same phase, looked at again.
    pub fn wait(status: RackPartitionStatus, again_in: Duration, message: impl Into<String>) -> Self {
        Next {
            status: RackPartitionStatus { message: Some(message.into()), ..status },
            again_in,
            event: None,
            heal: false,
        }
    }

    /// Another phase, told as an event, looked at again at once.
    pub fn phase(status: RackPartitionStatus, phase: Phase, reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        let warning = matches!(phase, Phase::Refused | Phase::Aborted);
        Next {
            status: RackPartitionStatus { phase: Some(phase), message: Some(message.clone()), ..status },
            again_in: Duration::ZERO,
            event: Some((reason, message, warning)),
            heal: false,
        }
    }

    /// `state` is the condition's status and its reason.
    pub fn condition(mut self, type_: &str, state: (&str, &str), message: &str, now: Timestamp) -> Self {
        let generation = self.status.observed_generation;
        conditions::set(&mut self.status.conditions, type_, state.0, state.1, message, generation, now);
        self
    }

    pub fn is(&self, phase: Phase) -> bool {
        self.status.phase == Some(phase)
    }
}

/// Seconds from one moment to another; negative when that is over.
pub fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    (to.as_microsecond() - from.as_microsecond()) as f64 / 1e6
}

/// `at` and some seconds more.
pub fn later(at: Timestamp, seconds: f64) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond() + (seconds * 1e6) as i64).expect("within a run's length of now")
}
