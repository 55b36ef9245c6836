//! Dead letters: tasks that failed for good or died, until an operator requeues or discards them.
//!
//! Their own life is over, and nothing here leads out of a final state: a requeue makes a new task, a discard
//! takes the letter off the list.

use eap_types::{TaskId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Changed, Note, NoteKind, Phase, Refusal, Step, Task, TaskSpec, TaskState};

/// What an operator decided about a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "disposal", rename_all = "snake_case")]
pub enum Disposal {
    /// It is done again, by a new task.
    Requeued {
        /// The new task.
        task: TaskId,
        /// When that was decided.
        at: Timestamp,
    },
    /// Nothing follows from it.
    Discarded {
        /// When that was decided.
        at: Timestamp,
    },
}

/// What follows from a requeue.
#[derive(Clone, Debug, PartialEq)]
pub enum Requeue {
    /// Both are to be written, in one commit.
    Anew {
        /// The letter, which now names its successor.
        letter: Box<Changed>,
        /// The successor.
        task: Box<Task>,
    },
    /// It was requeued before, as this task.
    Before(TaskId),
}

impl Task {
    /// Whether it failed for good or died, and nobody has decided what follows.
    #[must_use]
    pub fn is_dead_letter(&self) -> bool {
        self.state.disposal.is_none() && matches!(self.state.phase, Phase::Failed { .. } | Phase::Dead { .. })
    }

    /// Puts a dead letter into the queue again, as a new task with a count and a history of its own.
    ///
    /// The new task is asked the same as the old one. It waits for no `run_at`, which has passed, and
    /// expires only if the letter's `expires_at` is still ahead.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotDeadLetter`] for a task that did neither fail for good nor die,
    /// [`Refusal::LetterDiscarded`] for one that somebody put away.
    pub fn requeue(&self, as_task: TaskId, now: Timestamp) -> Result<Requeue, Refusal> {
        match self.disposal()? {
            Some(Disposal::Requeued { task, .. }) => Ok(Requeue::Before(task)),
            Some(Disposal::Discarded { .. }) => Err(Refusal::LetterDiscarded),
            None => {
                let disposal = Disposal::Requeued { task: as_task, at: now };
                let message = Some(format!("requeued as {as_task}"));
                let letter = Box::new(self.disposed(disposal, NoteKind::Requeued, message));
                let spec = TaskSpec {
                    id: as_task,
                    run_at: None,
                    expires_at: self.spec.expires_at.filter(|at| *at > now),
                    created_at: now,
                    requeued_from: Some(self.spec.id),
                    // Its session is over, and stays so.
                    is_step: false,
                    ..TaskSpec::clone(&self.spec)
                };
                Ok(Requeue::Anew { letter, task: Box::new(Self::submitted(spec)) })
            }
        }
    }

    /// Takes a dead letter off the list. One that is off it already is left as it is.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotDeadLetter`] for a task that did neither fail for good nor die.
    pub fn discard(&self, now: Timestamp) -> Result<Step, Refusal> {
        Ok(match self.disposal()? {
            Some(_) => Step::Unchanged,
            None => {
                let discarded = self.disposed(Disposal::Discarded { at: now }, NoteKind::Discarded, None);
                Step::Changed(Box::new(discarded))
            }
        })
    }

    /// What was decided about it, if it is or was a dead letter.
    fn disposal(&self) -> Result<Option<Disposal>, Refusal> {
        match self.state.phase {
            Phase::Failed { .. } | Phase::Dead { .. } => Ok(self.state.disposal),
            _ => Err(Refusal::NotDeadLetter { status: self.status() }),
        }
    }

    fn disposed(&self, disposal: Disposal, kind: NoteKind, message: Option<String>) -> Changed {
        let at = match disposal {
            Disposal::Requeued { at, .. } | Disposal::Discarded { at } => at,
        };
        Changed {
            state: TaskState { disposal: Some(disposal), updated_at: at, ..self.state.clone() },
            notes: vec![Note { message, ..Note::of(kind) }],
            result: None,
        }
    }

    /// The successor that a requeue made.
    #[must_use]
    pub fn requeued_as(&self) -> Option<TaskId> {
        match self.state.disposal {
            Some(Disposal::Requeued { task, .. }) => Some(task),
            _ => None,
        }
    }
}
