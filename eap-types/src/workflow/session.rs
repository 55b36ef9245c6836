//! A workflow on its way: the session, and the steps that it has taken.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{StepId, WorkflowId};
use crate::macros::words;
use crate::schema::or_null;
use crate::{AgentId, RawJson, SessionId, TaskId, Timestamp};

words! {
    /// Where a session stands.
    pub enum SessionState {
        /// Its first step waits for an agent.
        Started = "started",
        /// An agent has begun.
        Running = "running",
        /// Every step of the chain is done.
        Completed = "completed",
        /// A step failed for good, and nothing more is done.
        Failed = "failed",
        /// Stopped on request.
        Cancelled = "cancelled",
        /// No further step begins until it is resumed.
        Paused = "paused",
    }
}

impl SessionState {
    /// Whether the session has come to its end: a final state has no exit.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

words! {
    /// Where a step of a session stands.
    pub enum StepState {
        /// Its turn has not come.
        Pending = "pending",
        /// Its task waits for an agent, or for its next attempt.
        Queued = "queued",
        /// An agent works on it.
        Running = "running",
        /// Done; its result is there.
        Completed = "completed",
        /// Failed for good.
        Failed = "failed",
        /// Stopped on request.
        Cancelled = "cancelled",
    }
}

/// A session as it now is: the answer to `GET /v1/opscore/session/{id}`.
///
/// What is not known yet is there as `null`, as Ops-Core has it; the members of a step are left out instead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SessionView {
    /// The session.
    pub session_id: SessionId,
    /// The workflow that it runs.
    pub workflow_id: WorkflowId,
    /// The agent that it was started for; `null` if for none.
    #[schemars(schema_with = "or_null::<AgentId>")]
    pub agent_id: Option<AgentId>,
    /// Where it stands.
    pub status: SessionState,
    /// When it was started.
    pub start_time: Timestamp,
    /// When it came to its end.
    #[schemars(schema_with = "or_null::<Timestamp>")]
    pub end_time: Option<Timestamp>,
    /// The result of its last step, once it is completed.
    #[schemars(with = "RawJson")]
    pub result: Option<RawJson>,
    /// Why it failed or was cancelled, for people.
    #[schemars(schema_with = "or_null::<String>")]
    pub error: Option<String>,
    /// The steps in the order in which they are done.
    #[serde(default)]
    pub steps: Vec<StepView>,
}

impl SessionView {
    /// A session that was just started; everything else is set as fields.
    pub fn new(session_id: SessionId, workflow_id: WorkflowId, start_time: Timestamp) -> Self {
        Self {
            session_id,
            workflow_id,
            agent_id: None,
            status: SessionState::Started,
            start_time,
            end_time: None,
            result: None,
            error: None,
            steps: Vec::new(),
        }
    }
}

/// A step of a session as it now is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct StepView {
    /// The step, as its workflow names it.
    pub task_id: StepId,
    /// Name shown to people.
    pub name: String,
    /// Where it stands.
    pub status: StepState,
    /// The task that carries it: its history tells of every attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eap_task_id: Option<TaskId>,
    /// The agent that ran it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// How many attempts there were.
    pub attempts: u32,
    /// When its turn came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Timestamp>,
    /// What came out of it, and goes into the next step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<RawJson>,
    /// Why it failed or was cancelled, or how its last attempt ended if it waits for another; for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether it waits and no agent that takes work can do it: because none has its capability, or because the agent
    /// that the session was started for has left.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_capable_agent: bool,
}

impl StepView {
    /// A step whose turn has not come; everything else is set as fields.
    pub fn new(task_id: StepId, name: impl Into<String>) -> Self {
        Self {
            task_id,
            name: name.into(),
            status: StepState::Pending,
            eap_task_id: None,
            agent_id: None,
            attempts: 0,
            start_time: None,
            end_time: None,
            result: None,
            error: None,
            no_capable_agent: false,
        }
    }
}

/// What the agent of a step is told beside its payload: the `context` of the step's task.
///
/// It is what AgentKit's `/run` has in its `sessionContext`, and the step's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct StepContext {
    /// The workflow.
    pub workflow_id: WorkflowId,
    /// The session that runs it.
    pub session_id: SessionId,
    /// The step, as its workflow names it.
    pub task_id: StepId,
    /// Name of the step, as shown to people.
    pub task_name: String,
}

impl StepContext {
    /// The context of one step of a session.
    pub fn new(workflow_id: WorkflowId, session_id: SessionId, task_id: StepId, task_name: impl Into<String>) -> Self {
        Self { workflow_id, session_id, task_id, task_name: task_name.into() }
    }
}

/// A page of sessions, newest first, shown without their result and without their steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct SessionPage {
    /// The sessions.
    pub sessions: Vec<SessionView>,
    /// What to pass as `cursor` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

impl SessionPage {
    /// A page and the way to the next one.
    pub fn new(sessions: Vec<SessionView>, next_cursor: Option<String>) -> Self {
        Self { sessions, next_cursor }
    }
}

/// Which sessions to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct SessionQuery {
    /// Only sessions that stand here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<SessionState>,
    /// Only sessions of this workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_id: Option<WorkflowId>,
    /// Only sessions that were started for this agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// Where the page starts: the `next_cursor` of the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// How many sessions a page holds, at most 500. Default 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 500))]
    pub limit: Option<u32>,
}

impl SessionQuery {
    /// All sessions, from the newest.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only sessions that stand here.
    #[must_use]
    pub fn with_status(mut self, status: SessionState) -> Self {
        self.status = Some(status);
        self
    }

    /// Only sessions of this workflow.
    #[must_use]
    pub fn with_workflow_id(mut self, workflow_id: WorkflowId) -> Self {
        self.workflow_id = Some(workflow_id);
        self
    }

    /// Only sessions that were started for this agent.
    #[must_use]
    pub fn with_agent_id(mut self, agent_id: AgentId) -> Self {
        self.agent_id = Some(agent_id);
        self
    }

    /// Starts where another page ended.
    #[must_use]
    pub fn with_cursor(mut self, cursor: impl Into<String>) -> Self {
        self.cursor = Some(cursor.into());
        self
    }

    /// Sets how many sessions a page holds.
    #[must_use]
    pub fn with_limit(mut self, limit: u32) -> Self {
        self.limit = Some(limit);
        self
    }
}
