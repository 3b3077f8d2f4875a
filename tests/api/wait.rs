//! Waiting for a condition, with a deadline that says what did not come.

use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Generous: the machine may be busy with other things.
pub const SOON: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer. Panics with `what` after `limit`.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, limit: Duration, ask: impl Fn() -> F) -> T {
    until_or(limit, ask).await.unwrap_or_else(|| panic!("gave up after {} s: {what}", limit.as_secs()))
}

/// Asks again and again until there is an answer, or until `limit`.
pub async fn until_or<T, F: Future<Output = Option<T>>>(limit: Duration, ask: impl Fn() -> F) -> Option<T> {
    let begun = Instant::now();
    loop {
        let answer = ask().await;
        if answer.is_some() || begun.elapsed() >= limit {
            return answer;
        }
        sleep(Duration::from_millis(100)).await;
    }
}
