//! What the writer did, counted after each transaction.

use std::time::Instant;

use super::writer::{Answer, Outcome};
use crate::metrics::{Counter, Histogram, StoreErrorCounters};
use crate::store::StoreStats;

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

impl Tally {
    /// A transaction is on the disk: it began then, and all of it was written then.
    pub(super) fn count(&self, outcomes: &[Outcome], began: Instant, written: Instant) {
        let (mut commits, mut claims, mut tasks) = (0, 0, 0);
        for outcome in outcomes {
            match outcome {
                Ok(Answer::Committed(_)) => commits += 1,
                Ok(Answer::Claimed(claimed) | Answer::CommittedAndClaimed(claimed)) => {
                    commits += u64::from(matches!(outcome, Ok(Answer::CommittedAndClaimed(_))));
                    claims += 1;
                    let fresh = claimed.answers.iter().filter(|answer| !answer.repeated);
                    tasks += fresh.map(|answer| answer.tasks.len() as u64).sum::<u64>();
                }
                Ok(Answer::Purged(_) | Answer::Settled) | Err(_) => {}
            }
        }
        self.commits.add(commits);
        self.claims.add(claims);
        self.transactions.add(1);
        self.batch.observe(outcomes.len() as u64);
        if claims > 0 {
            self.claimed.observe(tasks);
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
