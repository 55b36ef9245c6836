//! How a workflow is started: through Ops-Core's call, or as a run over agents of our own.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::definition::MAX_VERSION_CHARS;
use super::{WorkflowDefinition, WorkflowId};
use crate::macros::decode_via_fields;
use crate::{AgentId, Decode, Fields, JsonObject, SessionId};

/// Starts a workflow for an agent: the body of `POST /v1/opscore/agent/{id}/workflow`.
///
/// Exactly one of `workflowDefinitionId` and `workflowDefinition` is there.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TriggerWorkflow {
    /// Which workflow.
    #[serde(flatten)]
    pub workflow: WorkflowChoice,
    /// What the first step is given in place of its `parameters`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<InitialPayload>")]
    pub initial_payload: Option<JsonObject>,
}

/// The same object under a name of its own: the choice of the workflow would have generators of clients meet it twice.
struct InitialPayload;

impl JsonSchema for InitialPayload {
    fn schema_name() -> Cow<'static, str> {
        "InitialPayload".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        JsonObject::json_schema(generator)
    }
}

/// Which workflow is to be started.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[non_exhaustive]
pub enum WorkflowChoice {
    /// One that the server has stored, in its newest version.
    #[serde(rename = "workflowDefinitionId")]
    Stored(WorkflowId),
    /// This one, which is not stored.
    #[serde(rename = "workflowDefinition")]
    Inline(Box<WorkflowDefinition>),
}

impl TriggerWorkflow {
    /// Starts a workflow that the server has stored.
    pub fn stored(id: WorkflowId) -> Self {
        Self { workflow: WorkflowChoice::Stored(id), initial_payload: None }
    }

    /// Starts this workflow.
    pub fn inline(workflow: WorkflowDefinition) -> Self {
        Self { workflow: WorkflowChoice::Inline(Box::new(workflow)), initial_payload: None }
    }

    /// Sets what the first step is given in place of its parameters.
    #[must_use]
    pub fn with_initial_payload(mut self, payload: JsonObject) -> Self {
        self.initial_payload = Some(payload);
        self
    }
}

impl Decode for TriggerWorkflow {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        const ID: &str = "workflowDefinitionId";
        const WHOLE: &str = "workflowDefinition";
        let has_both = fields.has(ID) && fields.has(WHOLE);
        if has_both {
            fields.problem(ID, "value_error", format!("must not stand beside {WHOLE}"));
        } else if !fields.has(ID) && !fields.has(WHOLE) {
            fields.problem(ID, "missing", format!("one of {ID} and {WHOLE} is required"));
        }
        // Both are read, so that all their problems are told.
        let stored = fields.optional(ID).map(WorkflowChoice::Stored);
        let inline = fields.object(WHOLE).map(|workflow| WorkflowChoice::Inline(Box::new(workflow)));
        let initial_payload = fields.json_object("initialPayload");
        Some(Self { workflow: stored.or(inline)?, initial_payload })
    }
}

/// Starts a workflow that the server has stored: the body of `POST /api/v1/workflows/{id}/runs`, which may also be empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct RunWorkflow {
    /// What the first step is given in place of its `parameters`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_payload: Option<JsonObject>,
    /// The agent that does every step it can; absent: any agent that can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// Which version of the workflow, at most 64 characters; absent: the one that was kept last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub version: Option<String>,
}

impl RunWorkflow {
    /// A run over any agents that can do its steps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what the first step is given in place of its parameters.
    #[must_use]
    pub fn with_initial_payload(mut self, payload: JsonObject) -> Self {
        self.initial_payload = Some(payload);
        self
    }

    /// Has this agent do every step that it can.
    #[must_use]
    pub fn with_agent_id(mut self, agent_id: AgentId) -> Self {
        self.agent_id = Some(agent_id);
        self
    }

    /// Runs this version.
    #[must_use]
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }
}

impl Decode for RunWorkflow {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            initial_payload: fields.json_object("initial_payload"),
            agent_id: fields.optional("agent_id"),
            version: fields.text("version", MAX_VERSION_CHARS),
        })
    }
}

decode_via_fields!(TriggerWorkflow, RunWorkflow);

/// The answer 202 to both: the workflow runs from here on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct WorkflowStarted {
    /// The session to ask about.
    pub session_id: SessionId,
    /// The workflow that it runs.
    pub workflow_id: WorkflowId,
    /// One sentence for people.
    pub message: String,
}

impl WorkflowStarted {
    /// A session that was just started.
    pub fn new(session_id: SessionId, workflow_id: WorkflowId) -> Self {
        let message = format!("Workflow {workflow_id} started.");
        Self { session_id, workflow_id, message }
    }
}
