//! Time and chance as arguments, and their production defaults.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use eap_types::Timestamp;

/// Tells the time of day, for ids and for display: no decision depends on it.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time now, UTC.
    fn now(&self) -> Timestamp;
}

/// Draws random bytes, for ids and for spreading retries.
pub trait Entropy: fmt::Debug + Send + Sync {
    /// Fills `bytes` with random ones.
    fn fill(&self, bytes: &mut [u8]);
}

/// The clock of the operating system.
#[derive(Debug)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[allow(clippy::disallowed_methods, reason = "this is the production default")]
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
    }
}

/// The random numbers of the operating system.
#[derive(Debug)]
pub(crate) struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        #[allow(clippy::disallowed_methods, reason = "this is the production default")]
        let filled = getrandom::fill(bytes);
        filled.expect("the operating system has random numbers once it runs programs");
    }
}
