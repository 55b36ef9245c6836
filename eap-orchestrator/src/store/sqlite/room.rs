//! Whether there is room for what is in the journal to move into the tables.
//!
//! A move takes more room than a commit. Where there is none for it, the journal goes on growing, up to a bound, and
//! whoever looks something up reads aside (see `aside`): on a full disk, commits that still fit go on.

use std::time::{Duration, Instant};

use super::fault::Fault;

/// When a move that had no room is tried again: it costs a rollback, after which the journal is read back.
const AGAIN: Duration = Duration::from_secs(1);

/// What the last move found.
#[derive(Debug, Default)]
pub(super) struct Room(Option<(Fault, Instant)>);

impl Room {
    /// Why nothing should move now.
    pub(super) fn refusal(&self) -> Option<Fault> {
        self.0.as_ref().filter(|(_, tried)| tried.elapsed() < AGAIN).map(|(fault, _)| fault.clone())
    }

    /// A move found none.
    pub(super) fn is_missing(&mut self, fault: &Fault) {
        self.0 = Some((fault.clone(), Instant::now()));
    }

    /// A move found some, or something made some.
    pub(super) fn may_be_there(&mut self) {
        self.0 = None;
    }
}
