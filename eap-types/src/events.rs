//! The stream of events: `GET /api/v1/events` (docs/protocol.md section 3).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AgentId, TaskId};

/// Which events to stream: the query of `GET /api/v1/events`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct EventQuery {
    /// Begin after the event with this number, 0 for the oldest one kept; absent: what happens from now on. The header
    /// `Last-Event-ID` wins over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Only events about this task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<TaskId>,
    /// Only events about this agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// Only events of this kind, or of several with commas between them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

impl EventQuery {
    /// Everything that happens from now on.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins after the event with this number.
    #[must_use]
    pub fn with_after(mut self, number: u64) -> Self {
        self.after = Some(number);
        self
    }

    /// Only events about this task.
    #[must_use]
    pub fn with_task_id(mut self, task_id: TaskId) -> Self {
        self.task_id = Some(task_id);
        self
    }

    /// Only events about this agent.
    #[must_use]
    pub fn with_agent_id(mut self, agent_id: AgentId) -> Self {
        self.agent_id = Some(agent_id);
        self
    }

    /// Only events of this kind, or of several with commas between them.
    #[must_use]
    pub fn with_kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = Some(kind.into());
        self
    }
}

/// The data of the event `reset`: what came after the watcher's number is not kept any more, so that whatever it made of
/// the events has to be made anew. The stream goes on with the oldest event kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct EventsReset {
    /// The number of the oldest event kept, or of the next one if none is.
    pub oldest: u64,
}

impl EventsReset {
    /// The name of the event.
    pub const KIND: &'static str = "reset";

    /// Says which event is the oldest one kept.
    pub fn new(oldest: u64) -> Self {
        Self { oldest }
    }
}
