//! What happened to a task: `GET /api/v1/tasks/{id}/history` (docs/protocol.md section 3).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::macros::words;
use crate::{AgentId, FailureCode, JsonObject, LeaseId, TaskId, TaskResult, Timestamp};

words! {
    /// How one attempt ended. Only an expired one may still turn into completed or failed.
    pub enum AttemptOutcome {
        /// It has not.
        Open = "open",
        /// The work was done.
        Completed = "completed",
        /// The work failed.
        Failed = "failed",
        /// The agent fell silent.
        Expired = "expired",
        /// The task was given back.
        Released = "released",
        /// The task was cancelled.
        Cancelled = "cancelled",
    }
}

/// One attempt at a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct AttemptView {
    /// Its number, from 1; never used twice.
    pub attempt: u32,
    /// The agent that got it.
    pub agent_id: AgentId,
    /// The lease it was held under.
    pub lease_id: LeaseId,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// When it was handed out.
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Why it failed, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<FailureCode>,
    /// Why it failed, in the agent's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Why it ended, in the server's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl AttemptView {
    /// An attempt that goes on; how it ended is set as fields.
    pub fn new(attempt: u32, agent_id: AgentId, lease_id: LeaseId, started_at: Timestamp) -> Self {
        Self {
            attempt,
            agent_id,
            lease_id,
            outcome: AttemptOutcome::Open,
            started_at,
            ended_at: None,
            error_code: None,
            message: None,
            reason: None,
        }
    }
}

/// A report that came too late to count: kept as evidence, it changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct LateResult {
    /// The attempt it was about.
    pub attempt: u32,
    /// The agent that sent it.
    pub agent_id: AgentId,
    /// When it came.
    pub received_at: Timestamp,
    /// What it said.
    pub result: TaskResult,
}

impl LateResult {
    /// A report that was refused.
    pub fn new(attempt: u32, agent_id: AgentId, received_at: Timestamp, result: TaskResult) -> Self {
        Self { attempt, agent_id, received_at, result }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct EventView {
    /// Where it stands in the order of all events.
    pub seq: u64,
    /// When it happened.
    pub at: Timestamp,
    /// What kind of thing it is.
    pub kind: String,
    /// The task it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<TaskId>,
    /// The agent it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// The attempt it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Whatever else there is to say.
    #[serde(default, skip_serializing_if = "JsonObject::is_empty")]
    pub detail: JsonObject,
}

impl EventView {
    /// An event; what it is about is set as fields.
    pub fn new(seq: u64, at: Timestamp, kind: impl Into<String>) -> Self {
        Self { seq, at, kind: kind.into(), task_id: None, agent_id: None, attempt: None, detail: JsonObject::default() }
    }
}

/// Everything that is kept about a task, each list oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct TaskHistory {
    /// The task.
    pub task_id: TaskId,
    /// Its attempts.
    #[serde(default)]
    pub attempts: Vec<AttemptView>,
    /// Reports that came too late, the first for each attempt.
    #[serde(default)]
    pub late_results: Vec<LateResult>,
    /// What happened.
    #[serde(default)]
    pub events: Vec<EventView>,
}

impl TaskHistory {
    /// A task to which nothing happened; the lists are set as fields.
    pub fn new(task_id: TaskId) -> Self {
        Self { task_id, attempts: Vec::new(), late_results: Vec::new(), events: Vec::new() }
    }
}
