//! Waiting for a condition, with a deadline that says what did not come.

use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Generous: the machine may be busy with other things.
pub const SOON: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer. Panics with `what` after `limit`.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, limit: Duration, ask: impl Fn() -> F) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < limit, "gave up after {} s: {what}", limit.as_secs());
        sleep(Duration::from_millis(100)).await;
    }
}
