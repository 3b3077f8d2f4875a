//! Observations to spans: what agents and the operator share when they write down what they saw.

mod clock;
mod look;
mod recorder;

pub use clock::{before, boot_id, moment_at_wall, now};
pub use look::Look;
pub use recorder::{Observation, Recorder};
