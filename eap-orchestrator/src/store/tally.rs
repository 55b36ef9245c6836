//! What was written, counted after each transaction.

use std::time::Instant;

use super::{Claims, StoreStats};
use crate::metrics::{Counter, Histogram, StoreErrorCounters};

/// Up to the most that share a transaction.
const REQUESTS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512];
/// None at all is a claim of agents that were too many for what there was.
const TASKS: &[u64] = &[0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 4_096];
/// From a fast disk's 100 µs to what makes a heartbeat late.
const MICROS: &[u64] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000,
];

/// What was done since the store was opened.
#[derive(Debug)]
pub(super) struct Tally {
    commits: Counter,
    claims: Counter,
    transactions: Counter,
    batch: Histogram,
    claimed: Histogram,
    transaction_micros: Histogram,
    commit_micros: Histogram,
    pub(super) errors: StoreErrorCounters,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            commits: Counter::default(),
            claims: Counter::default(),
            transactions: Counter::default(),
            batch: Histogram::new(REQUESTS),
            claimed: Histogram::new(TASKS),
            transaction_micros: Histogram::new(MICROS),
            commit_micros: Histogram::new(MICROS),
            errors: StoreErrorCounters::default(),
        }
    }
}

/// What one transaction did, for all who shared it.
#[derive(Debug, Default)]
pub(super) struct Done {
    requests: u64,
    commits: u64,
    claims: u64,
    tasks: u64,
}

impl Done {
    /// So many requests share it.
    pub(super) fn of(requests: usize) -> Self {
        Self { requests: requests as u64, ..Self::default() }
    }

    /// A change was committed.
    pub(super) fn committed(&mut self) {
        self.commits += 1;
    }

    /// A claim was served.
    pub(super) fn claimed(&mut self, claims: &Claims) {
        self.claims += 1;
        let fresh = claims.answers.iter().filter(|answer| !answer.repeated);
        self.tasks += fresh.map(|answer| answer.tasks.len() as u64).sum::<u64>();
    }
}

impl Tally {
    /// A transaction is on the disk: it began then, and all of it was written then.
    pub(super) fn count(&self, done: &Done, began: Instant, written: Instant) {
        self.commits.add(done.commits);
        self.claims.add(done.claims);
        self.transactions.add(1);
        self.batch.observe(done.requests);
        if done.claims > 0 {
            self.claimed.observe(done.tasks);
        }
        self.transaction_micros.observe(micros_since(began));
        self.commit_micros.observe(micros_since(written));
    }

    pub(super) fn stats(&self) -> StoreStats {
        StoreStats {
            commits: self.commits.get(),
            claims: self.claims.get(),
            transactions: self.transactions.get(),
            batch: Some(self.batch.distribution()),
            claimed: Some(self.claimed.distribution()),
            transaction_micros: Some(self.transaction_micros.distribution()),
            commit_micros: Some(self.commit_micros.distribution()),
            errors: self.errors.get(),
            ..StoreStats::default()
        }
    }
}

fn micros_since(earlier: Instant) -> u64 {
    u64::try_from(earlier.elapsed().as_micros()).unwrap_or(u64::MAX)
}
