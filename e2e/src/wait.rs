//! Waiting for a condition, with a deadline and a reason when it is missed.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep, timeout_at};

/// How long to leave a condition alone before looking again.
const PAUSE: Duration = Duration::from_millis(300);

/// Looks until `check` answers `Ok(Ok(value))`; `Ok(Err(reason))` and `Err` mean "not yet" and the last one is reported.
///
/// # Errors
/// When `what` has not come true after `within`.
pub async fn until<T, F>(what: &str, within: Duration, mut check: F) -> Result<T>
where
    F: AsyncFnMut() -> Result<Result<T, String>>,
{
    let deadline = Instant::now() + within;
    let mut last = String::from("never got an answer");
    loop {
        match timeout_at(deadline, check()).await {
            Ok(Ok(Ok(value))) => return Ok(value),
            Ok(Ok(Err(reason))) => last = reason,
            Ok(Err(error)) => last = format!("{error:#}"),
            Err(_) => bail!("{what}: not within {} s ({last})", within.as_secs()),
        }
        if Instant::now() + PAUSE >= deadline {
            bail!("{what}: not within {} s ({last})", within.as_secs());
        }
        sleep(PAUSE).await;
    }
}
