//! Tries again what a node's kernel did not give at once.

use std::time::Duration;
use tokio::{sync::watch, time::sleep};

/// Between two attempts.
const AGAIN: Duration = Duration::from_secs(1);

/// What `open` gives, as soon as it gives it: each failure goes to `failed`, and another attempt follows. `None` where `stop` is changed
/// before.
pub async fn until_it_opens<T>(
    mut open: impl FnMut() -> anyhow::Result<T>,
    mut failed: impl FnMut(&anyhow::Error),
    stop: &mut watch::Receiver<bool>,
) -> Option<T> {
    loop {
        match open() {
            Ok(opened) => return Some(opened),
            Err(error) => failed(&error),
        }
        tokio::select! {
            biased;
            Ok(()) = stop.changed() => return None,
            () = sleep(AGAIN) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test(start_paused = true)]
    async fn a_kernel_that_cannot_be_used_at_first_is_used_when_it_can_be() {
        let (_stop, mut stopped) = watch::channel(false);
        let (left, failures) = (Cell::new(3), Cell::new(0));
        let open = || match left.replace(left.get() - 1) {
            1 => Ok("open"),
            _ => anyhow::bail!("not yet"),
        };
        let failed = |_: &anyhow::Error| failures.set(failures.get() + 1);
        assert_eq!((until_it_opens(open, failed, &mut stopped).await, failures.get()), (Some("open"), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_told_to_end_tries_no_more() {
        let (stop, mut stopped) = watch::channel(false);
        let failed = |_: &anyhow::Error| {
            stop.send_replace(true);
        };
        let never = || -> anyhow::Result<()> { anyhow::bail!("never") };
        assert_eq!(until_it_opens(never, failed, &mut stopped).await, None);
    }
}
