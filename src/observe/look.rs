//! Looks that took longer than they can.

use super::now;
use crate::api::Moment;
use std::time::Duration;
use tokio::time::timeout;

/// A look that has begun.
///
/// A process that is held (stopped, or on a machine without a processor to spare) finds the answer when it goes on, and beside it a
/// deadline that has long passed: when what it saw was so nobody knows. Such a look is none.
#[derive(Clone, Debug)]
pub struct Look {
    begun: Moment,
}

impl Look {
    /// What a look may last beyond its deadlines on a busy node.
    const SPARE: Duration = Duration::from_secs(1);

    pub fn begin() -> Self {
        Look { begun: now() }
    }

    /// What comes within the deadline; nothing as well where this process was held meanwhile.
    pub async fn within<T>(deadline: Duration, answer: impl Future<Output = T>) -> Option<T> {
        let look = Look::begin();
        let answer = timeout(deadline, answer).await.ok();
        answer.filter(|_| !look.was_held(deadline))
    }

    pub fn begun(&self) -> &Moment {
        &self.begun
    }

    /// Whether this process did not run meanwhile. `most`: the sum of the look's deadlines.
    pub fn was_held(&self, most: Duration) -> bool {
        self.has_lasted(most + Self::SPARE)
    }

    /// Whether more time than this has passed since it began, by a clock that goes on while the machine is suspended.
    pub fn has_lasted(&self, time: Duration) -> bool {
        now().boot_us - self.begun.boot_us > time.as_micros() as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_outlasts_its_deadlines_was_held() {
        let look = Look::begin();
        assert!(!look.was_held(Duration::ZERO) && !look.has_lasted(Duration::from_secs(60)));
        let begun = Moment { boot_us: look.begun.boot_us - 3_500_000, ..look.begun };
        let look = Look { begun };
        assert!(look.was_held(Duration::from_secs(2)) && !look.was_held(Duration::from_secs(3)));
    }
}
