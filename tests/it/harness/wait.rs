//! Waiting for a condition, with a deadline.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// How long a condition may take to hold before its test fails.
const DEADLINE: Duration = Duration::from_secs(20);
/// How often a condition is looked at.
pub(crate) const BLINK: Duration = Duration::from_millis(5);

/// Looks until there is something to see, and gives it.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        sleep(BLINK).await;
    }
}

/// Gives what the future gives, which has to come within the deadline.
pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(DEADLINE, future).await {
        Ok(given) => given,
        Err(_) => panic!("not within {DEADLINE:?}: {what}"),
    }
}
