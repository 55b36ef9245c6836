//! What follows from an event: a new state, or a refusal.

use eap_types::{AgentId, FailureCode, ResultStatus};

use super::TaskState;

/// What follows from an event that was let through.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Step {
    /// The record changes; the caller commits all of this or none of it.
    Changed(Box<Changed>),
    /// Nothing to write.
    Unchanged,
    /// The same report came before; it gets the first answer again.
    Duplicate,
}

impl Step {
    /// The change, if there is one.
    #[must_use]
    pub fn changed(self) -> Option<Changed> {
        match self {
            Self::Changed(changed) => Some(*changed),
            Self::Unchanged | Self::Duplicate => None,
        }
    }
}

/// A change to a task: its new state and what to write beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// The new state.
    pub state: TaskState,
    /// What the history tells of it, in order.
    pub notes: Vec<Note>,
    /// The result row to write: present exactly when the task became completed or failed (I2).
    pub result: Option<RecordedResult>,
}

/// Which result a task that becomes completed or failed is recorded with.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RecordedResult {
    /// The one being reported, under this attempt.
    Reported {
        /// The attempt.
        attempt: u32,
        /// What it says.
        status: ResultStatus,
    },
    /// One the server makes, because the last attempt ran out of time.
    ServerMade {
        /// The attempt.
        attempt: u32,
        /// TIMEOUT.
        code: FailureCode,
        /// One sentence.
        message: String,
    },
}

/// One line of a task's history.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// What happened.
    pub kind: NoteKind,
    /// The attempt it concerns.
    pub attempt: Option<u32>,
    /// The agent it concerns.
    pub agent: Option<AgentId>,
    /// One sentence, where there is more to say.
    pub message: Option<String>,
    /// How far the work is, with [`NoteKind::Progress`].
    pub fraction: Option<f64>,
    /// What the work produced, with [`NoteKind::OutputDelta`].
    pub output: Option<String>,
}

impl Note {
    /// A line about the task as a whole.
    #[must_use]
    pub fn of(kind: NoteKind) -> Self {
        Self { kind, attempt: None, agent: None, message: None, fraction: None, output: None }
    }
}

/// The kinds of lines in a task's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NoteKind {
    /// It was accepted.
    Submitted,
    /// A delay or back-off ended.
    Ready,
    /// An agent took it.
    Leased,
    /// Its holder told how far it is.
    Progress,
    /// Its holder told what the work has produced so far, in parts.
    OutputDelta,
    /// An attempt failed and another follows.
    AttemptFailed,
    /// An attempt ended without fault and another follows.
    Released,
    /// A lease lapsed.
    Expired,
    /// Final: done.
    Completed,
    /// Final: failed for good.
    Failed,
    /// Final: ended by an operator.
    Cancelled,
    /// Final: given up.
    Dead,
    /// A report came too late and was kept as evidence.
    LateResult,
    /// A dead letter is done again, by a new task.
    Requeued,
    /// A dead letter was taken off the list.
    Discarded,
}

impl NoteKind {
    /// Every kind, in the order in which they are declared.
    pub const ALL: &'static [Self] = &[
        Self::Submitted,
        Self::Ready,
        Self::Leased,
        Self::Progress,
        Self::OutputDelta,
        Self::AttemptFailed,
        Self::Released,
        Self::Expired,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Dead,
        Self::LateResult,
        Self::Requeued,
        Self::Discarded,
    ];

    /// The word on the wire and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submitted => "task.submitted",
            Self::Ready => "task.ready",
            Self::Leased => "task.leased",
            Self::Progress => "task.progress",
            Self::OutputDelta => "task.output_delta",
            Self::AttemptFailed => "task.attempt_failed",
            Self::Released => "task.released",
            Self::Expired => "task.expired",
            Self::Completed => "task.completed",
            Self::Failed => "task.failed",
            Self::Cancelled => "task.cancelled",
            Self::Dead => "task.dead",
            Self::LateResult => "task.late_result",
            Self::Requeued => "task.requeued",
            Self::Discarded => "task.discarded",
        }
    }
}

/// Why an event changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// To this agent the task does not exist: it was never assigned to it.
    #[error("the task was never assigned to this agent")]
    NotAssigned,
    /// The lease and the attempt it quotes do not belong together.
    #[error("the quoted lease and attempt do not belong together")]
    Mismatch,
    /// The attempt has another result from its agent; that one stays.
    #[error("attempt {attempt} already has another result")]
    ResultConflict {
        /// The attempt.
        attempt: u32,
    },
    /// The task is over.
    #[error("the task is already {status}")]
    TaskFinal {
        /// How it ended.
        status: eap_types::TaskStatus,
        /// The caller's attempt, if the caller is an agent; a report of it is kept as a late result.
        attempt: Option<u32>,
    },
    /// A newer attempt was claimed, or the server ended this one.
    #[error("the lease is lost")]
    LeaseLost {
        /// The caller's attempt, if the caller is an agent; a report of it is kept as a late result.
        attempt: Option<u32>,
    },
    /// The attempt has told as much output as it may; the rest belongs into its result.
    #[error("an attempt may tell at most {limit} bytes of output while it runs")]
    OutputFull {
        /// How much that is.
        limit: usize,
    },
    /// The task is not ready to be taken, or not by this agent.
    #[error("the task cannot be taken now")]
    NotReady,
    /// Nothing is due yet: the record moved on since the sweeper read it.
    #[error("nothing is due yet")]
    NotDue,
    /// The task did neither fail for good nor die: it is no dead letter.
    #[error("the task is {status}, and only one that failed for good or died is a dead letter")]
    NotDeadLetter {
        /// Where it stands.
        status: eap_types::TaskStatus,
    },
    /// Somebody decided that nothing follows from this dead letter.
    #[error("the dead letter was discarded")]
    LetterDiscarded,
}

impl Refusal {
    /// The caller's attempt, where that no longer counts.
    #[must_use]
    pub fn attempt_that_is_over(&self) -> Option<u32> {
        match self {
            Self::TaskFinal { attempt, .. } | Self::LeaseLost { attempt } => *attempt,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes after `kind` in the list. A new kind does not compile until it has its place here.
    fn following(kind: NoteKind) -> Option<NoteKind> {
        use NoteKind::*;
        Some(match kind {
            Submitted => Ready,
            Ready => Leased,
            Leased => Progress,
            Progress => OutputDelta,
            OutputDelta => AttemptFailed,
            AttemptFailed => Released,
            Released => Expired,
            Expired => Completed,
            Completed => Failed,
            Failed => Cancelled,
            Cancelled => Dead,
            Dead => LateResult,
            LateResult => Requeued,
            Requeued => Discarded,
            Discarded => return None,
        })
    }

    #[test]
    fn every_kind_is_listed_in_its_order() {
        let mut next = Some(NoteKind::Submitted);
        for (index, kind) in NoteKind::ALL.iter().enumerate() {
            assert_eq!((Some(*kind), *kind as usize), (next, index));
            next = following(*kind);
        }
        assert_eq!(next, None);
    }
}
