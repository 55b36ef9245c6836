//! Tasks as operators see them: `GET /api/v1/tasks` and its kin (docs/protocol.md section 3).

mod batch;
mod explain;
mod history;
mod priority;
mod submit;

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::batch::{IncomingTask, IncomingTasks, SubmitBatch, SubmitBatchReply, SubmitOutcome, SubmittedTask};
pub use self::explain::{Candidate, CandidateRefusal, RefusalCode, ScoreParts, TaskExplanation, Whereabouts};
pub use self::history::{AttemptOutcome, AttemptView, EventView, LateResult, TaskHistory};
pub use self::priority::{Priority, PriorityError};
pub use self::submit::SubmitTask;
use crate::macros::{decode_via_fields, words};
use crate::{AgentId, Capability, Decode, Fields, Labels, SessionId, TaskId, TaskResult, TaskType, Timestamp, figure};

/// Characters of the reason an operator gives.
const MAX_REASON_CHARS: usize = 4096;

words! {
    /// Where a task stands.
    pub enum TaskStatus {
        /// Waits for an agent.
        Queued = "queued",
        /// An agent works on it.
        Leased = "leased",
        /// Done.
        Completed = "completed",
        /// Failed for good.
        Failed = "failed",
        /// Stopped on request.
        Cancelled = "cancelled",
        /// Given up without a result.
        Dead = "dead",
    }
}

impl TaskStatus {
    /// Whether the task has come to its end: a final state has no exit.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::Dead)
    }
}

/// A task as it now is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct TaskView {
    /// The task.
    pub task_id: TaskId,
    /// What it belongs to.
    pub session_id: SessionId,
    /// Where it stands.
    pub status: TaskStatus,
    /// What kind of work it is.
    pub task_type: TaskType,
    /// Which agents may do it.
    pub routing: RoutingView,
    /// How urgent it is.
    pub priority: Priority,
    /// The newest attempt's number; 0 before the first.
    pub attempt: u32,
    /// How many of `max_attempts` are used up: attempts that were done, failed or expired. One that was given back or is
    /// still open is not among them.
    #[serde(default)]
    pub attempts_used: u32,
    /// How often it is tried at most.
    pub max_attempts: u32,
    /// The agent of the newest attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// How far the attempt that runs is; absent while none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressView>,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it may be handed out first, or next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Timestamp>,
    /// After this no further attempt starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When the lease ends unless it is renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_expires_at: Option<Timestamp>,
    /// What the agent reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<TaskResult>,
    /// Why it stands where it stands, for people: why it ended; before that, how its last attempt that is over ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether it waits and no registered agent could do it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_capable_agent: bool,
    /// The dead or failed task that this one repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requeued_from: Option<TaskId>,
    /// The task that repeats this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requeued_as: Option<TaskId>,
    /// When its dead letter was discarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discarded_at: Option<Timestamp>,
}

impl TaskView {
    /// A task that was just submitted; everything else is set as fields.
    pub fn new(
        task_id: TaskId,
        session_id: SessionId,
        task_type: TaskType,
        routing: RoutingView,
        max_attempts: u32,
        created_at: Timestamp,
    ) -> Self {
        Self {
            task_id,
            session_id,
            status: TaskStatus::Queued,
            task_type,
            routing,
            priority: Priority::default(),
            attempt: 0,
            attempts_used: 0,
            max_attempts,
            agent_id: None,
            progress: None,
            created_at,
            updated_at: created_at,
            run_at: None,
            expires_at: None,
            lease_expires_at: None,
            result: None,
            reason: None,
            no_capable_agent: false,
            requeued_from: None,
            requeued_as: None,
            discarded_at: None,
        }
    }
}

/// Which agents may do a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct RoutingView {
    /// What an agent must be able to do.
    #[serde(default)]
    pub required_capabilities: BTreeSet<Capability>,
    /// Labels that an agent must all have.
    #[serde(default)]
    pub labels: Labels,
    /// The one agent that may do it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// Agents that get it before others that suit as well; they restrict nothing.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub preferred_agents: BTreeSet<AgentId>,
}

impl RoutingView {
    /// Any agent that can do all this.
    pub fn new(required_capabilities: impl IntoIterator<Item = Capability>) -> Self {
        Self { required_capabilities: required_capabilities.into_iter().collect(), ..Self::default() }
    }
}

/// How far an attempt is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ProgressView {
    /// How far, 0 to 1.
    #[serde(default, serialize_with = "figure::write_optional", skip_serializing_if = "figure::is_absent")]
    pub progress: Option<f64>,
    /// What is being done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl ProgressView {
    /// What the last report said.
    pub fn new(progress: Option<f64>, message: Option<String>) -> Self {
        Self { progress, message }
    }
}

/// A page of tasks, newest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct TaskPage {
    /// The tasks.
    pub tasks: Vec<TaskView>,
    /// What to pass as `cursor` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

impl TaskPage {
    /// A page and the way to the next one.
    pub fn new(tasks: Vec<TaskView>, next_cursor: Option<String>) -> Self {
        Self { tasks, next_cursor }
    }
}

/// Which tasks to list: the query of `GET /api/v1/tasks` and of `GET /api/v1/dead-letters`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct TaskQuery {
    /// Only tasks that stand here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<TaskStatus>,
    /// Only tasks whose newest attempt is this agent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// Only tasks of this type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_type: Option<TaskType>,
    /// Where the page starts: the `next_cursor` of the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// How many tasks a page holds, at most 500. Default 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 500))]
    pub limit: Option<u32>,
}

impl TaskQuery {
    /// All tasks, from the newest.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only tasks that stand here.
    #[must_use]
    pub fn with_status(mut self, status: TaskStatus) -> Self {
        self.status = Some(status);
        self
    }

    /// Only tasks whose newest attempt is this agent's.
    #[must_use]
    pub fn with_agent_id(mut self, agent_id: AgentId) -> Self {
        self.agent_id = Some(agent_id);
        self
    }

    /// Only tasks of this type.
    #[must_use]
    pub fn with_task_type(mut self, task_type: TaskType) -> Self {
        self.task_type = Some(task_type);
        self
    }

    /// Starts where another page ended.
    #[must_use]
    pub fn with_cursor(mut self, cursor: impl Into<String>) -> Self {
        self.cursor = Some(cursor.into());
        self
    }

    /// Sets how many tasks a page holds.
    #[must_use]
    pub fn with_limit(mut self, limit: u32) -> Self {
        self.limit = Some(limit);
        self
    }
}

/// Stops a task: the body of `POST /api/v1/tasks/{id}/cancel`, which may also be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct CancelTask {
    /// Why, for people; at most 4096 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub reason: Option<String>,
}

impl CancelTask {
    /// Stops it without a word.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets why.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }
}

impl Decode for CancelTask {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { reason: fields.text("reason", MAX_REASON_CHARS) })
    }
}

decode_via_fields!(CancelTask);
