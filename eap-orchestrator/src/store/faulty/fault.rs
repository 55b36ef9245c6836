//! What can go wrong with a call of a store, how often, and how often it did.

use std::time::Duration;

use crate::clock::{Entropy, draw};

/// The kinds of calls that faults tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreCall {
    /// Any read.
    Read,
    /// [`Repository::commit`](crate::store::Repository::commit).
    Commit,
    /// [`Repository::claim`](crate::store::Repository::claim).
    Claim,
    /// [`Repository::purge`](crate::store::Repository::purge).
    Purge,
}

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Another writer is said to have been faster; nothing is written. Strikes commits that update a record, since no
    /// other call can meet it.
    Conflict,
    /// The back end does not answer, and nothing is written.
    Unavailable,
    /// The back end carries the call out and its answer is lost: the caller is told that it was unavailable.
    AnswerLost,
    /// The call is carried out this much later.
    Slow(Duration),
    /// From this write on the disk is full for so long: writes fail, reads go on. Does not strike reads.
    Full(Duration),
    /// The fsync of this write fails, and with it this and every later write; reads go on (G6). Does not strike reads.
    FsyncFailed {
        /// Whether the write is there all the same, which nobody can know who is only told of the failure.
        written: bool,
    },
}

/// How often each fault strikes by chance, in thousandths of the calls that it can strike; never, by default.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FaultOdds {
    /// [`Fault::Conflict`].
    pub conflict: u32,
    /// [`Fault::Unavailable`].
    pub unavailable: u32,
    /// [`Fault::AnswerLost`].
    pub answer_lost: u32,
    /// [`Fault::Slow`], by up to [`longest_delay`](Self::longest_delay).
    pub slow: u32,
    /// [`Fault::Full`], for up to [`longest_full`](Self::longest_full).
    pub full: u32,
    /// [`Fault::FsyncFailed`]; in half of the cases the write is there.
    pub fsync_failed: u32,
    /// The longest that a slow call takes. Default: 20 ms.
    pub longest_delay: Duration,
    /// The longest that the disk is full at a time. Default: 200 ms.
    pub longest_full: Duration,
}

impl Default for FaultOdds {
    fn default() -> Self {
        Self {
            conflict: 0,
            unavailable: 0,
            answer_lost: 0,
            slow: 0,
            full: 0,
            fsync_failed: 0,
            longest_delay: Duration::from_millis(20),
            longest_full: Duration::from_millis(200),
        }
    }
}

impl FaultOdds {
    /// Draws once: at most one fault for a call.
    pub(super) fn draw(&self, entropy: &dyn Entropy) -> Option<Fault> {
        let part = |longest: Duration| {
            let drawn = u32::from_le_bytes(draw(entropy));
            longest.mul_f64(f64::from(drawn) / f64::from(u32::MAX))
        };
        let mut rest = u32::from_le_bytes(draw(entropy)) % 1_000;
        let mut strikes = |odds: u32| {
            let is_struck = rest < odds;
            rest = rest.saturating_sub(odds);
            is_struck
        };
        if strikes(self.conflict) {
            Some(Fault::Conflict)
        } else if strikes(self.unavailable) {
            Some(Fault::Unavailable)
        } else if strikes(self.answer_lost) {
            Some(Fault::AnswerLost)
        } else if strikes(self.slow) {
            Some(Fault::Slow(part(self.longest_delay)))
        } else if strikes(self.full) {
            Some(Fault::Full(part(self.longest_full)))
        } else if strikes(self.fsync_failed) {
            Some(Fault::FsyncFailed { written: draw::<1>(entropy)[0] < 128 })
        } else {
            None
        }
    }
}

/// How many calls each fault changed. A test that counts on faults looks here whether there were any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultCounts {
    /// Commits told of a faster writer that there was not.
    pub conflicts: u64,
    /// Calls that were not carried out.
    pub unavailable: u64,
    /// Calls that were carried out and told to have failed.
    pub answers_lost: u64,
    /// Calls that were late.
    pub slow: u64,
    /// Writes that found the disk full.
    pub full: u64,
    /// Writes that were told of a failed fsync, their own or an earlier one.
    pub failed: u64,
}
