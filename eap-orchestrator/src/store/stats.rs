//! What a store says of itself: how much waits in it, and what it did since it was opened.

use std::collections::BTreeSet;

use eap_types::{Capability, TaskType, TenantId, Timestamp};

/// How many tasks are not over, by what they wait for; of one moment.
///
/// Each list has one entry for a kind of which there is at least one task, in rising order of tenant, type and
/// capabilities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Depths {
    /// Those that a claim may take now.
    pub ready: Vec<ReadyDepth>,
    /// Those that are queued and wait for their time, delayed or backing off.
    pub delayed: Vec<Depth>,
    /// Those that an agent holds.
    pub leased: Vec<Depth>,
    /// Those that hosts took in within transactions of their own and that are not among the tasks yet, of all tenants.
    pub inbox: InboxDepth,
}

/// How many tasks wait to be moved among the others; none where a store has no inbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InboxDepth {
    /// Those that are moved within a moment.
    pub waiting: u64,
    /// Those that cannot be moved, until somebody mends them.
    pub set_aside: u64,
}

/// How many tasks of one type there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Whose they are.
    pub tenant: TenantId,
    /// Their type.
    pub task_type: TaskType,
    /// How many.
    pub tasks: u64,
}

/// How many ready tasks of one type there are that need the same capabilities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyDepth {
    /// Whose they are.
    pub tenant: TenantId,
    /// Their type.
    pub task_type: TaskType,
    /// What an agent must offer to take one.
    pub required_capabilities: BTreeSet<Capability>,
    /// How many.
    pub tasks: u64,
    /// From when the one that was inserted first might have been taken: its submission, or its `run_at` if that is
    /// later.
    pub oldest: Timestamp,
}

/// What a store did since it was opened, and what it has on the disk.
///
/// What a back end has no notion of is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Changes that were committed.
    pub commits: u64,
    /// Claims that were served.
    pub claims: u64,
    /// Transactions that these shared.
    pub transactions: u64,
    /// How many requests shared a transaction.
    pub batch: Option<Distribution>,
    /// How many tasks a transaction leased, of those that served a claim.
    pub claimed: Option<Distribution>,
    /// How long transactions took from begin to commit, in microseconds.
    pub transaction_micros: Option<Distribution>,
    /// How long of that it took to bring them to the disk, in microseconds.
    pub commit_micros: Option<Distribution>,
    /// Requests that wait to be written.
    pub waiting: u64,
    /// Bytes in the file or files that hold the data.
    pub data_bytes: Option<u64>,
    /// Bytes in the log that is written ahead of them.
    pub log_bytes: Option<u64>,
    /// Calls that were answered with an error.
    pub errors: StoreErrors,
}

/// How many calls of a store were answered with an error, by its kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreErrors {
    /// A record had moved on: an ordinary thing, decided again.
    pub conflict: u64,
    /// A key was taken: an ordinary thing.
    pub duplicate: u64,
    /// There was no room.
    pub full: u64,
    /// The back end could not be reached, or its answer made no sense.
    pub unavailable: u64,
    /// The back end cannot be trusted any more.
    pub failed: u64,
    /// The data could not be used.
    pub refused: u64,
    /// The store was closed.
    pub closed: u64,
}

/// How many values fell into each of a few ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// The largest value of each range, rising.
    pub bounds: &'static [u64],
    /// How many values fell into each; one more than there are bounds, for what is above them all.
    pub counts: Vec<u64>,
    /// All values together.
    pub sum: u64,
}

impl Distribution {
    /// How many values there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}
