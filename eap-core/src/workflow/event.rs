//! What can happen to a session.

use eap_types::{AgentId, RawJson, TaskId};

use crate::task::{Phase, Task};

/// What can happen to a session; [`Session::apply`](super::Session::apply) says what follows.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SessionEvent {
    /// An agent took the task of a step. A session gets on without being told of it; it only shows less.
    StepTaken {
        /// The task.
        task: TaskId,
        /// Who.
        agent: AgentId,
        /// The number of the attempt.
        attempt: u32,
    },
    /// The task of a step has come to its end.
    StepOver {
        /// The task.
        task: TaskId,
        /// The agent of its newest attempt.
        agent: Option<AgentId>,
        /// How many attempts there were.
        attempts: u32,
        /// How it ended.
        outcome: StepOutcome,
    },
    /// An operator wants no further step to begin.
    Pause,
    /// An operator lets it go on.
    Resume,
    /// An operator ends it.
    Cancel {
        /// The operator's words.
        reason: Option<String>,
    },
}

/// How the task of a step ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum StepOutcome {
    /// Done.
    Completed {
        /// What came out: the result's output, or the details of the report that completed it.
        result: RawJson,
    },
    /// It failed for good, or was given up without a result.
    Failed {
        /// Why, in one sentence for people.
        reason: String,
    },
    /// Somebody ended the task by itself, and not the session.
    Cancelled {
        /// That one's words.
        reason: Option<String>,
    },
}

impl SessionEvent {
    /// What a task as it now stands means for the session whose step it carries; `None` while it waits.
    ///
    /// `result` is what came out, if it is completed; where that is nothing, the next step gets `null`.
    #[must_use]
    pub fn of(task: &Task, result: Option<RawJson>) -> Option<Self> {
        let newest = task.newest_attempt();
        let outcome = match &task.state.phase {
            Phase::Queued { .. } => return None,
            Phase::Leased(lease) => {
                let (agent, attempt) = (lease.agent.clone(), lease.attempt);
                return Some(Self::StepTaken { task: task.id(), agent, attempt });
            }
            Phase::Completed { .. } => StepOutcome::Completed {
                result: result.unwrap_or_else(|| RawJson::parse("null").expect("null is JSON")),
            },
            Phase::Failed { reason, .. } | Phase::Dead { reason } => StepOutcome::Failed { reason: reason.clone() },
            Phase::Cancelled { reason } => StepOutcome::Cancelled { reason: reason.clone() },
        };
        let agent = newest.map(|attempt| attempt.agent.clone());
        let attempts = newest.map_or(0, |attempt| attempt.number);
        Some(Self::StepOver { task: task.id(), agent, attempts, outcome })
    }

    /// The word for this event in refusals and logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::StepTaken { .. } => "step_taken",
            Self::StepOver { .. } => "step_over",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel { .. } => "cancel",
        }
    }
}
