//! The database's time, told without asking it each time.
//!
//! Replicas agree by it, whatever their own clocks say (G16): each knows how far the database is ahead of its own
//! monotonic time, and measures that again whenever it looks for news.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use eap_types::Timestamp;

use crate::clock::Clock;

/// How fast two clocks may drift apart, in parts of a million.
const DRIFT_PPM: u64 = 200;

/// A clock that is set by answers of the database.
#[derive(Debug)]
pub(super) struct DatabaseClock {
    origin: Instant,
    known: Mutex<Option<Known>>,
    /// Nothing before this is told any more.
    floor: AtomicI64,
}

/// What one answer says.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// How far the database is ahead of the time since the origin, in microseconds.
    ahead: i64,
    /// By how much that may be wrong.
    error: Duration,
    /// When it was measured, since the origin.
    at: Duration,
}

impl Known {
    /// Between `asked` and `answered`, both since the origin, the database's clock said `said`.
    fn measured(said: Timestamp, asked: Duration, answered: Duration) -> Self {
        let middle = (asked + answered) / 2;
        Self { ahead: said.as_micros() - micros(middle), error: answered.saturating_sub(asked) / 2, at: answered }
    }

    /// By how much it may be wrong at a later time.
    fn error_at(&self, at: Duration) -> Duration {
        self.error + at.saturating_sub(self.at) * DRIFT_PPM as u32 / 1_000_000
    }

    /// Of what was known and a new answer, the one to go by: the more exact one, unless they contradict each other. Then one
    /// of the clocks was set, or stood, and the new answer is right.
    fn or(self, newer: Self) -> Self {
        let error = self.error_at(newer.at);
        let apart = Duration::from_micros(self.ahead.abs_diff(newer.ahead));
        if newer.error <= error || apart > error + newer.error { newer } else { self }
    }
}

impl DatabaseClock {
    pub(super) fn new() -> Self {
        Self { origin: Instant::now(), known: Mutex::new(None), floor: AtomicI64::new(i64::MIN) }
    }

    /// The database's clock said `said` at some moment since `asked`.
    pub(super) fn set(&self, said: Timestamp, asked: Instant) {
        let newer = Known::measured(said, asked.saturating_duration_since(self.origin), self.origin.elapsed());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some(known.map_or(newer, |known| known.or(newer)));
    }
}

impl Clock for DatabaseClock {
    fn now(&self) -> Timestamp {
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let ahead = known.map_or(0, |known| known.ahead);
        let now = ahead.saturating_add(micros(self.origin.elapsed()));
        // What is measured anew may be a little less; time stands still until it has caught up.
        Timestamp::from_micros(self.floor.fetch_max(now, Ordering::SeqCst).max(now))
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn said(millis: i64) -> Timestamp {
        Timestamp::from_micros(millis * 1_000)
    }

    #[test]
    fn the_more_exact_answer_counts_until_it_has_aged() {
        let exact = Known::measured(said(5_001), MS, 3 * MS);
        assert_eq!((exact.ahead, exact.error), (4_999_000, MS));
        let vague = Known::measured(said(5_125), 100 * MS, 140 * MS);
        assert_eq!(exact.or(vague).ahead, exact.ahead);
        // 200 parts of a million of 200 s are 40 ms.
        let late = Known::measured(said(205_010), 200_000 * MS, 200_040 * MS);
        assert_eq!(exact.or(late).ahead, late.ahead);
    }

    #[test]
    fn an_answer_that_contradicts_what_is_known_is_believed() {
        let exact = Known::measured(said(5_001), MS, 3 * MS);
        let set_back = Known::measured(said(1_000), 100 * MS, 140 * MS);
        assert_eq!(exact.or(set_back).ahead, set_back.ahead);
    }

    #[test]
    fn time_does_not_go_back() {
        let clock = DatabaseClock::new();
        let asked = Instant::now();
        clock.set(said(1_000_000), asked);
        let before = clock.now();
        assert!(before >= said(1_000_000));
        clock.set(said(10), Instant::now());
        assert_eq!(clock.now(), before);
    }
}
