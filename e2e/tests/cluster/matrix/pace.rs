//! Where the time of a cell goes.

use std::{fmt, time::Instant};

/// Stretches of time, one behind the other.
pub struct Pace {
    since: Instant,
    told: Vec<String>,
}

impl Pace {
    pub fn begin() -> Self {
        Pace { since: Instant::now(), told: Vec::new() }
    }

    /// Ends a stretch and begins the next one.
    pub fn until(&mut self, what: &str) {
        self.told.push(format!("{:.0} s until {what}", self.since.elapsed().as_secs_f64()));
        self.since = Instant::now();
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told.join(", "))
    }
}
