//! For how long the API has refused something: a run goes on without it at last, but not for one answer of an API server that has only just
//! come up and does not know yet who may do what.

use super::steps::Error;
use std::{collections::HashMap, sync::Mutex};
use tokio::time::Instant;

/// Since when requests of runs, each by the run's uid and what is asked, have had no other answer than a refusal.
#[derive(Default)]
pub struct Refusals {
    since: Mutex<HashMap<(String, &'static str), Instant>>,
}

impl Refusals {
    /// Seconds for which this request has been refused with no other answer in between, this one included: 0 where it is none.
    pub fn last(&self, uid: &str, what: &'static str, error: Option<&Error>) -> f64 {
        let mut since = self.since.lock().expect("no holder panics");
        let key = (uid.to_owned(), what);
        if !error.is_some_and(Error::is_refusal) {
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
    use crate::operator::steps::failed_to;
    use kube::core::Status;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_refusal_counts_from_the_first_one_without_another_answer_in_between() {
        let refusals = Refusals::default();
        let error = |code: u16| failed_to("read")(kube::Error::Api(Status::failure("no", "").with_code(code).boxed()));
        let after = async |seconds: f64, code: Option<u16>| {
            tokio::time::advance(Duration::from_secs_f64(seconds)).await;
            refusals.last("uid", "records", code.map(error).as_ref())
        };
        assert_eq!(after(3600.0, Some(403)).await, 0.0, "however late it is");
        assert_eq!(after(15.0, Some(403)).await, 15.0);
        // Whoever does not answer, or answers, has not refused.
        for other in [Some(503), None] {
            assert_eq!(after(10.0, other).await, 0.0);
            assert_eq!(after(10.0, Some(403)).await, 0.0);
            assert_eq!(after(5.0, Some(403)).await, 5.0);
        }
        assert_eq!(refusals.last("uid", "write", Some(&error(403))), 0.0, "each request by itself");
        refusals.forget("uid");
        assert!(refusals.since.lock().unwrap().is_empty());
    }
}
