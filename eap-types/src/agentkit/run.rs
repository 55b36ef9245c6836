//! Work for an agent of a platform, as the platform's `run` takes it.

use schemars::JsonSchema;
use serde::Serialize;

use crate::macros::decode_via_fields;
use crate::{Decode, Fields, JsonObject};

/// Characters of an id or a name in a message.
const MAX_WORD_CHARS: usize = 255;

/// Hands an agent a task: the body of `POST {agentkit}/v1/agents/{agentId}/run`.
///
/// Several ids stand in it twice, because the agents of different platforms look in different places:
/// [`with_session`](Self::with_session) fills them all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RunMessage {
    /// Who hands it over, at most 255 characters.
    #[schemars(length(max = 255))]
    pub sender_id: String,
    /// What kind of message it is, at most 255 characters.
    #[schemars(length(max = 255))]
    pub message_type: String,
    /// The task's input. Default `{}`.
    #[serde(default)]
    pub payload: JsonObject,
    /// The run of a workflow that the task is a step of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_context: Option<SessionContext>,
    /// The task's id, at most 255 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub task_id: Option<String>,
    /// What is to be done, at most 255 characters.
    #[serde(default, rename = "task_name", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub task_name: Option<String>,
    /// The id of the session once more, at most 255 characters.
    #[serde(default, rename = "opscore_session_id", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub opscore_session_id: Option<String>,
    /// The task's id once more, at most 255 characters.
    #[serde(default, rename = "opscore_task_id", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub opscore_task_id: Option<String>,
}

/// The run of a workflow that a task is a step of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SessionContext {
    /// The workflow's id, at most 255 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub workflow_id: Option<String>,
    /// The id of this run of it, at most 255 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub session_id: Option<String>,
    /// The step's id within the workflow, at most 255 characters; not the task's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub task_id: Option<String>,
}

impl RunMessage {
    /// Who hands tasks over, unless it is said otherwise.
    pub const SENDER: &'static str = "opscore_system_id";
    /// The kind of a message that hands a task over.
    pub const WORKFLOW_TASK: &'static str = "workflow_task";

    /// Hands over a task that belongs to no workflow.
    pub fn new(task_id: impl Into<String>, task_name: impl Into<String>, payload: JsonObject) -> Self {
        let task_id = task_id.into();
        Self {
            sender_id: Self::SENDER.to_owned(),
            message_type: Self::WORKFLOW_TASK.to_owned(),
            payload,
            session_context: None,
            task_id: Some(task_id.clone()),
            task_name: Some(task_name.into()),
            opscore_session_id: None,
            opscore_task_id: Some(task_id),
        }
    }

    /// Says which step of which run the task is, in both places.
    #[must_use]
    pub fn with_session(mut self, session: SessionContext) -> Self {
        self.opscore_session_id.clone_from(&session.session_id);
        self.session_context = Some(session);
        self
    }

    /// The task's id, wherever it stands.
    #[must_use]
    pub fn task(&self) -> Option<&str> {
        let step = self.session_context.as_ref().and_then(|session| session.task_id.as_deref());
        self.opscore_task_id.as_deref().or(self.task_id.as_deref()).or(step)
    }
}

impl SessionContext {
    /// A step of a run.
    pub fn new(workflow_id: impl Into<String>, session_id: impl Into<String>, step_id: impl Into<String>) -> Self {
        Self {
            workflow_id: Some(workflow_id.into()),
            session_id: Some(session_id.into()),
            task_id: Some(step_id.into()),
        }
    }
}

impl Decode for RunMessage {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        for name in ["senderId", "messageType"] {
            if !fields.has(name) {
                fields.problem(name, "missing", "is required");
            }
        }
        let sender_id = fields.text("senderId", MAX_WORD_CHARS);
        let message_type = fields.text("messageType", MAX_WORD_CHARS);
        let payload = fields.json_object("payload").unwrap_or_default();
        let session_context = fields.object("sessionContext");
        let task_id = fields.text("taskId", MAX_WORD_CHARS);
        let task_name = fields.text("task_name", MAX_WORD_CHARS);
        let opscore_session_id = fields.text("opscore_session_id", MAX_WORD_CHARS);
        let opscore_task_id = fields.text("opscore_task_id", MAX_WORD_CHARS);
        Some(Self {
            sender_id: sender_id?,
            message_type: message_type?,
            payload,
            session_context,
            task_id,
            task_name,
            opscore_session_id,
            opscore_task_id,
        })
    }
}

impl Decode for SessionContext {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            workflow_id: fields.text("workflowId", MAX_WORD_CHARS),
            session_id: fields.text("sessionId", MAX_WORD_CHARS),
            task_id: fields.text("taskId", MAX_WORD_CHARS),
        })
    }
}

decode_via_fields!(RunMessage, SessionContext);
