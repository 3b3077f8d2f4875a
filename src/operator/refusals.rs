//! For how long the API has refused something: a run goes on without it at last, but not for one answer of an API server that has only just
//! come up and does not know yet who may do what.

use std::{collections::HashMap, sync::Mutex};
use tokio::time::Instant;

/// Since when requests of runs, each by the run's uid and what is asked, have had no other answer than a refusal.
#[derive(Default)]
pub struct Refusals {
    since: Mutex<HashMap<(String, &'static str), Instant>>,
}

impl Refusals {
    /// Seconds for which this request has been refused with no other answer in between: 0 where the latest answer, this one, is none.
    pub fn last(&self, uid: &str, what: &'static str, is_refused: bool) -> f64 {
        let mut since = self.since.lock().expect("no holder panics");
        let key = (uid.to_owned(), what);
        if !is_refused {
            since.remove(&key);
            return 0.0;
        }
        since.entry(key).or_insert_with(Instant::now).elapsed().as_secs_f64()
    }

    /// This run is over, and asks for nothing any more.
    pub fn forget(&self, uid: &str) {
        self.since.lock().expect("no holder panics").retain(|(of, _), _| of != uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_refusal_counts_from_the_first_one_without_another_answer_in_between() {
        let refusals = Refusals::default();
        let after = async |seconds: f64, is_refused: bool| {
            tokio::time::advance(Duration::from_secs_f64(seconds)).await;
            refusals.last("uid", "records", is_refused)
        };
        assert_eq!(after(3600.0, true).await, 0.0, "however late it is");
        assert_eq!(after(15.0, true).await, 15.0);
        assert_eq!(after(10.0, false).await, 0.0);
        assert_eq!(after(10.0, true).await, 0.0);
        assert_eq!(after(5.0, true).await, 5.0);
        assert_eq!(refusals.last("uid", "write", true), 0.0, "each request by itself");
        refusals.forget("uid");
        assert!(refusals.since.lock().unwrap().is_empty());
    }
}
