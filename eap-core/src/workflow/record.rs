//! A session's record: what was started, and how far it got.

use std::sync::Arc;

use eap_types::{AgentId, JsonObject, RawJson, SessionId, SessionState, TaskId, TenantId, Timestamp};
use serde::{Deserialize, Serialize};

use super::CheckedWorkflow;

/// What was started; written once and never changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionSpec {
    /// The session's id.
    pub id: SessionId,
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// The workflow as it was then: a later version changes nothing here.
    pub workflow: CheckedWorkflow,
    /// The agent that it was started for, if for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// The name of the operator key that started it.
    pub started_by: String,
    /// What the first step is given in place of its parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_payload: Option<JsonObject>,
    /// When it was started.
    pub created_at: Timestamp,
    /// The W3C trace that it was started in, passed through to the agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// How far a session got; the part of the record that changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionRun {
    /// Where it is in its life.
    pub phase: SessionPhase,
    /// The steps that were begun, oldest first; all but the newest are over.
    pub steps: Vec<StepRun>,
    /// When the record last changed.
    pub updated_at: Timestamp,
}

/// A session as it stands: what was started and how far it got.
///
/// [`Session::apply`] is the only way on from here. The record has no clock: every decision takes the time as an argument.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// What was started; shared, since it never changes.
    pub spec: Arc<SessionSpec>,
    /// How far it got.
    pub run: SessionRun,
}

/// Where a session is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum SessionPhase {
    /// Its first step was begun, and no agent has taken it.
    Started,
    /// An agent has taken a step.
    Running,
    /// No further step begins. The one that runs goes on to its end.
    Paused {
        /// Since when.
        since: Timestamp,
    },
    /// Every step of the chain is done.
    Completed {
        /// When.
        at: Timestamp,
    },
    /// A step failed for good, or could not begin.
    Failed {
        /// When.
        at: Timestamp,
        /// One sentence for people.
        reason: String,
    },
    /// Ended on request.
    Cancelled {
        /// When.
        at: Timestamp,
        /// The words of whoever asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
}

/// A step that was begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRun {
    /// Its place in the workflow's list.
    pub index: usize,
    /// The task that carries it.
    pub task: TaskId,
    /// The agent that took it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// How many attempts there were.
    #[serde(default)]
    pub attempts: u32,
    /// When it was begun.
    pub started_at: Timestamp,
    /// What became of it.
    pub phase: StepPhase,
}

/// What became of a step.
///
/// Its JSON names the variant outside, because a result keeps the text that came, which a tag inside would not let through.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepPhase {
    /// Its task is not over.
    Open,
    /// Done.
    Completed {
        /// When.
        at: Timestamp,
        /// What came out, and goes into the next step.
        result: RawJson,
    },
    /// Its task failed for good or died.
    Failed {
        /// When.
        at: Timestamp,
        /// Why, in one sentence for people.
        reason: String,
    },
    /// Its task was cancelled, with the session or by itself.
    Cancelled {
        /// When.
        at: Timestamp,
    },
}

impl Session {
    /// The session's id.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.spec.id
    }

    /// The word for its phase on the wire.
    #[must_use]
    pub fn status(&self) -> SessionState {
        self.run.phase.status()
    }

    /// The one step whose task is not over, if there is one.
    #[must_use]
    pub fn open_step(&self) -> Option<&StepRun> {
        self.run.steps.last().filter(|step| step.phase == StepPhase::Open)
    }

    /// The result of the last step, once every step is done.
    #[must_use]
    pub fn result(&self) -> Option<&RawJson> {
        match (&self.run.phase, self.run.steps.last()?.result()) {
            (SessionPhase::Completed { .. }, result) => result,
            _ => None,
        }
    }
}

impl SessionPhase {
    /// The word for this phase on the wire.
    #[must_use]
    pub fn status(&self) -> SessionState {
        match self {
            Self::Started => SessionState::Started,
            Self::Running => SessionState::Running,
            Self::Paused { .. } => SessionState::Paused,
            Self::Completed { .. } => SessionState::Completed,
            Self::Failed { .. } => SessionState::Failed,
            Self::Cancelled { .. } => SessionState::Cancelled,
        }
    }

    /// When it came to its end, if it did.
    #[must_use]
    pub fn ended_at(&self) -> Option<Timestamp> {
        match self {
            Self::Completed { at } | Self::Failed { at, .. } | Self::Cancelled { at, .. } => Some(*at),
            Self::Started | Self::Running | Self::Paused { .. } => None,
        }
    }

    /// Whether there is no way on from here.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.status().is_final()
    }

    /// Why it ended so, where there is a reason to give.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Failed { reason, .. } => Some(reason),
            Self::Cancelled { reason, .. } => reason.as_deref(),
            Self::Started | Self::Running | Self::Paused { .. } | Self::Completed { .. } => None,
        }
    }
}

impl StepRun {
    /// What came out of it, once it is done.
    #[must_use]
    pub fn result(&self) -> Option<&RawJson> {
        match &self.phase {
            StepPhase::Completed { result, .. } => Some(result),
            StepPhase::Open | StepPhase::Failed { .. } | StepPhase::Cancelled { .. } => None,
        }
    }

    /// When it ended, if it did.
    #[must_use]
    pub fn ended_at(&self) -> Option<Timestamp> {
        match &self.phase {
            StepPhase::Open => None,
            StepPhase::Completed { at, .. } | StepPhase::Failed { at, .. } | StepPhase::Cancelled { at } => Some(*at),
        }
    }
}
