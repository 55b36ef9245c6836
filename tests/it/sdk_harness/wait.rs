//! Waiting longer than a moment, and the lengths of the tests that wait because waiting is their point.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::harness::BLINK;

/// Looks until there is something to see, for at most `limit`.
pub(crate) async fn until<T>(limit: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        sleep(BLINK).await;
    }
}

/// The seconds that this variable asks for. Whoever sets one wants the default timing of a server, too.
pub(crate) fn full_length(variable: &str) -> Option<Duration> {
    let text = std::env::var(variable).ok()?;
    let seconds = text.parse().unwrap_or_else(|_| panic!("{variable} is a number of seconds, not {text}"));
    Some(Duration::from_secs(seconds))
}
