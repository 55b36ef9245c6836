//! Time and chance: the only place where the orchestrator reads a clock or draws a random number.

use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use eap_core::Chance;
use eap_types::Timestamp;

/// Tells the time. A builder argument, so that tests and simulations bring their own.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time in whole microseconds; never goes backwards while the process runs.
    fn now(&self) -> Timestamp;
}

/// The UTC time of its creation plus the monotonic time since then: a step of the wall clock
/// neither expires nor prolongs anything (G16).
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
    wall: Timestamp,
}

impl SystemClock {
    /// Reads the wall clock, once.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the production clock that everything else is handed")]
    pub fn new() -> Self {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), wall: Timestamp::UNIX_EPOCH + since_epoch }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.wall + self.started.elapsed()
    }
}

/// A clock that stands until it is moved, for tests.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// Stands at `start`.
    #[must_use]
    pub fn at(start: Timestamp) -> Self {
        Self(AtomicI64::new(start.as_micros()))
    }

    /// Moves on by `step`.
    pub fn advance(&self, step: Duration) {
        let micros = i64::try_from(step.as_micros()).unwrap_or(i64::MAX);
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

/// Draws random bytes. A builder argument, so that simulations bring a seeded one.
pub trait Entropy: fmt::Debug + Send + Sync + 'static {
    /// Fills `bytes` with unpredictable ones.
    fn fill(&self, bytes: &mut [u8]);
}

/// The operating system's random source.
///
/// What is as short as an id or a chance comes out of a stock that each thread keeps, for which the system is asked once
/// in a while: otherwise every task would cost seven system calls. Longer secrets are drawn at once and kept nowhere.
#[derive(Debug, Default)]
pub struct SystemEntropy;

/// What comes out of the stock at most, in bytes.
const SHORT: usize = 16;
/// How much the stock of a thread holds, in bytes.
const STOCK: usize = 512;

/// Random bytes that were drawn and not given yet.
struct Stock {
    bytes: [u8; STOCK],
    given: usize,
}

thread_local! {
    static OF_THIS_THREAD: RefCell<Stock> = const { RefCell::new(Stock { bytes: [0; STOCK], given: STOCK }) };
}

impl Stock {
    fn give(&mut self, bytes: &mut [u8]) {
        if self.given + bytes.len() > STOCK {
            draw_from_system(&mut self.bytes);
            self.given = 0;
        }
        let next = &mut self.bytes[self.given..][..bytes.len()];
        bytes.copy_from_slice(next);
        next.fill(0);
        self.given += bytes.len();
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the production source that everything else is handed")]
fn draw_from_system(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system has a random source");
}

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        if bytes.len() > SHORT {
            return draw_from_system(bytes);
        }
        OF_THIS_THREAD.with_borrow_mut(|stock| stock.give(bytes));
    }
}

/// Draws a fixed number of random bytes.
pub(crate) fn draw<const N: usize>(entropy: &dyn Entropy) -> [u8; N] {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes);
    bytes
}

/// Draws a chance for a back-off.
pub(crate) fn draw_chance(entropy: &dyn Entropy) -> Chance {
    Chance::from_bits(u64::from_le_bytes(draw(entropy)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn nothing_is_drawn_twice_however_long_it_is() {
        let mut seen = HashSet::new();
        for length in (8..=40).cycle().take(1_000) {
            let mut bytes = vec![0; length];
            SystemEntropy.fill(&mut bytes);
            assert!(bytes.iter().any(|byte| *byte != 0));
            assert!(seen.insert(bytes[..8].to_vec()));
        }
    }
}
