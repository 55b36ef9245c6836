//! A store's errors, counted by kind.

use super::Counter;
use crate::store::{StoreError, StoreErrors};

/// Counts the errors of a store.
#[derive(Debug, Default)]
pub(crate) struct StoreErrorCounters {
    conflict: Counter,
    duplicate: Counter,
    full: Counter,
    unavailable: Counter,
    failed: Counter,
    refused: Counter,
    closed: Counter,
}

impl StoreErrorCounters {
    /// Passes an answer on, counted if it is an error.
    pub(crate) fn count<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        answer.inspect_err(|error| {
            let counter = match error {
                StoreError::Conflict { .. } => &self.conflict,
                StoreError::Duplicate { .. } => &self.duplicate,
                StoreError::Full { .. } => &self.full,
                StoreError::Unavailable { .. } => &self.unavailable,
                StoreError::Failed { .. } => &self.failed,
                StoreError::Refused { .. } => &self.refused,
                StoreError::Closed => &self.closed,
            };
            counter.add(1);
        })
    }

    pub(crate) fn get(&self) -> StoreErrors {
        StoreErrors {
            conflict: self.conflict.get(),
            duplicate: self.duplicate.get(),
            full: self.full.get(),
            unavailable: self.unavailable.get(),
            failed: self.failed.get(),
            refused: self.refused.get(),
            closed: self.closed.get(),
        }
    }
}
