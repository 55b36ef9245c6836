//! What SQLite's errors mean for the caller.

use std::error::Error;
use std::sync::Arc;

use rusqlite::{ErrorCode, ffi};

use crate::store::{BoxError, StoreError};

/// A failure of the back end. It can be told to everyone it concerns, which [`StoreError`] cannot.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    kind: FaultKind,
    cause: Arc<dyn Error + Send + Sync>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FaultKind {
    Full,
    /// There was no room, and what was to be committed may be in the log all the same.
    Doubtful,
    Unavailable,
    Failed,
}

impl Fault {
    /// What was read is not what was written: a record that does not parse, a value out of range.
    pub(super) fn nonsense(cause: impl Into<BoxError>) -> Self {
        Self { kind: FaultKind::Unavailable, cause: Arc::from(cause.into()) }
    }

    /// The writer cannot go on: its thread is gone.
    pub(super) fn stopped() -> Self {
        Self { kind: FaultKind::Failed, cause: Arc::from(BoxError::from("a thread of the store ended unexpectedly")) }
    }

    /// Why a transaction could not be committed.
    pub(super) fn of_commit(error: rusqlite::Error) -> Self {
        if is_of_log_index(&error) {
            // The log had room and its index had not: until the log is written on, a crash brings to light
            // what was not acknowledged. `Full` would say that it is not there.
            return Self { kind: FaultKind::Doubtful, cause: Arc::new(error) };
        }
        error.into()
    }

    /// A read ended in a panic.
    pub(super) fn panicked() -> Self {
        Self::nonsense("a read panicked")
    }

    /// Whether there was no room, and nothing of what was to be written is there.
    pub(super) fn is_full(&self) -> bool {
        self.kind == FaultKind::Full
    }

    /// Whether there was no room, whatever is there.
    pub(super) fn is_of_room(&self) -> bool {
        matches!(self.kind, FaultKind::Full | FaultKind::Doubtful)
    }

    /// Whether the file can no longer be trusted, so that nothing may be written to it again.
    pub(super) fn is_fatal(&self) -> bool {
        self.kind == FaultKind::Failed
    }

    /// Whether the cause may lie in one request, so that its neighbours deserve a try of their own.
    pub(super) fn may_be_of_one_request(&self) -> bool {
        self.kind == FaultKind::Unavailable
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        let kind = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => FaultKind::Full,
            // Of files that cannot grow, the log's index alone does not say that the disk is full.
            Some(_) if is_of_log_index(&error) => FaultKind::Full,
            Some(ErrorCode::SystemIoFailure | ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                FaultKind::Failed
            }
            _ => FaultKind::Unavailable,
        };
        Self { kind, cause: Arc::new(error) }
    }
}

/// Whether the index beside the log could not grow.
fn is_of_log_index(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_SHMSIZE)
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::nonsense(error)
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        let source: BoxError = Box::new(fault.cause);
        match fault.kind {
            FaultKind::Full => Self::Full { source },
            FaultKind::Unavailable | FaultKind::Doubtful => Self::Unavailable { source },
            FaultKind::Failed => Self::Failed { source },
        }
    }
}

/// Why one request of a batch got nothing.
#[derive(Debug)]
pub(super) enum Setback {
    /// It was refused before anything of it was written: the batch goes on.
    Refused(StoreError),
    /// The back end failed: the batch cannot go on.
    Broken(Fault),
}

impl<E: Into<Fault>> From<E> for Setback {
    fn from(error: E) -> Self {
        Self::Broken(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: i32) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
    }

    fn told(code: i32) -> StoreError {
        Fault::from(failure(code)).into()
    }

    #[test]
    fn errors_are_told_by_what_can_be_done_next() {
        assert!(matches!(told(ffi::SQLITE_FULL), StoreError::Full { .. }));
        assert!(matches!(told(ffi::SQLITE_IOERR_SHMSIZE), StoreError::Full { .. }));
        assert!(matches!(told(ffi::SQLITE_IOERR_FSYNC), StoreError::Failed { .. }));
        assert!(matches!(told(ffi::SQLITE_IOERR_WRITE), StoreError::Failed { .. }));
        assert!(matches!(told(ffi::SQLITE_CORRUPT), StoreError::Failed { .. }));
        assert!(matches!(told(ffi::SQLITE_NOTADB), StoreError::Failed { .. }));
        assert!(matches!(told(ffi::SQLITE_BUSY), StoreError::Unavailable { .. }));
    }

    #[test]
    fn a_commit_that_may_be_in_the_log_is_not_told_to_be_absent() {
        let told = |code| StoreError::from(Fault::of_commit(failure(code)));
        assert!(matches!(told(ffi::SQLITE_IOERR_SHMSIZE), StoreError::Unavailable { .. }));
        assert!(matches!(told(ffi::SQLITE_FULL), StoreError::Full { .. }));
        assert!(matches!(told(ffi::SQLITE_IOERR_FSYNC), StoreError::Failed { .. }));
    }
}
