//! What a workflow consists of, as its author writes it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{StepId, WorkflowId};
use crate::checked::has_chars;
use crate::limits::{DEFAULT_STEP_RETRIES, MAX_STEP_RETRIES, MAX_TASK_TIMEOUT, MAX_WORKFLOW_STEPS};
use crate::macros::decode_via_fields;
use crate::{Capability, Decode, Fields, JsonObject, Timestamp};

/// Characters of the name of a workflow or a step.
const MAX_NAME_CHARS: usize = 256;
/// Characters of what a workflow says of itself.
const MAX_DESCRIPTION_CHARS: usize = 4096;
/// Characters of what a platform calls a capability.
const MAX_PLATFORM_WORD_CHARS: usize = 128;
/// Characters of a workflow's version.
pub(super) const MAX_VERSION_CHARS: usize = 64;

/// A workflow: steps that follow each other, each done by an agent that can do it.
///
/// It begins with the first step of the list and goes on from each to the one that its `nextTaskId` names. Reading it checks
/// each field; whether the steps form a chain is checked before it is kept or started.
///
/// ```
/// use eap_types::{WorkflowDefinition, WorkflowStep};
///
/// let steps = [
///     WorkflowStep::new("t1".parse()?, "summarize").with_capability("summarize".parse()?).with_next("t2".parse()?),
///     WorkflowStep::new("t2".parse()?, "check").with_capability("review".parse()?),
/// ];
/// let workflow = WorkflowDefinition::new("wf-1".parse()?, "Summarize and check", "1.0", steps);
/// assert_eq!(workflow.tasks[1].max_retries, 3);
/// # Ok::<(), eap_types::IdError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct WorkflowDefinition {
    /// Names it for whoever starts it.
    pub id: WorkflowId,
    /// Name shown to people, 1 to 256 characters.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// What it is for, at most 4,096 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub description: Option<String>,
    /// Its author's word for this state of it, 1 to 64 characters. A session keeps the version that it began with.
    #[schemars(length(min = 1, max = 64))]
    pub version: String,
    /// The steps, 1 to 1,000; the first of the list is done first.
    #[schemars(length(min = 1, max = 1000))]
    pub tasks: Vec<WorkflowStep>,
}

/// One step of a workflow.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct WorkflowStep {
    /// Names it within its workflow.
    pub task_id: StepId,
    /// Name shown to people and told to the agent, 1 to 256 characters.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// What its agent must be able to do, 1 to 128 characters, which are read as [`Capability::of_words`] does; absent: the
    /// agent that the workflow was started for does it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", length(min = 1, max = 128))]
    pub agent_capability: Option<Capability>,
    /// What the agent is given; every step after the first gets the result of the one before as the member `previous`
    /// beside it. Default `{}`.
    #[serde(default)]
    pub parameters: JsonObject,
    /// The step that follows; absent: none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_task_id: Option<StepId>,
    /// How often it is tried again after its first attempt, 0 to 99. Default 3.
    #[serde(default = "default_retries")]
    #[schemars(range(min = 0, max = 99))]
    pub max_retries: u32,
    /// How long one attempt may take, in seconds, 1 to 604,800. Default: an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800))]
    pub timeout_seconds: Option<u64>,
}

impl WorkflowDefinition {
    /// A workflow of these steps, which begins with the first of them.
    pub fn new(
        id: WorkflowId,
        name: impl Into<String>,
        version: impl Into<String>,
        tasks: impl IntoIterator<Item = WorkflowStep>,
    ) -> Self {
        let tasks = tasks.into_iter().collect();
        Self { id, name: name.into(), description: None, version: version.into(), tasks }
    }

    /// Says what it is for.
    #[must_use]
    pub fn with_description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// The place of a step in the list.
    #[must_use]
    pub fn position(&self, step: &StepId) -> Option<usize> {
        self.tasks.iter().position(|other| other.task_id == *step)
    }
}

impl WorkflowStep {
    /// A step of the agent that its workflow is started for, that nothing follows.
    pub fn new(task_id: StepId, name: impl Into<String>) -> Self {
        Self {
            task_id,
            name: name.into(),
            agent_capability: None,
            parameters: JsonObject::default(),
            next_task_id: None,
            max_retries: DEFAULT_STEP_RETRIES,
            timeout_seconds: None,
        }
    }

    /// Sets what its agent must be able to do.
    #[must_use]
    pub fn with_capability(mut self, capability: Capability) -> Self {
        self.agent_capability = Some(capability);
        self
    }

    /// Sets what the agent is given.
    #[must_use]
    pub fn with_parameters(mut self, parameters: JsonObject) -> Self {
        self.parameters = parameters;
        self
    }

    /// Sets the step that follows.
    #[must_use]
    pub fn with_next(mut self, step: StepId) -> Self {
        self.next_task_id = Some(step);
        self
    }

    /// Sets how often it is tried again after its first attempt.
    #[must_use]
    pub fn with_max_retries(mut self, retries: u32) -> Self {
        self.max_retries = retries;
        self
    }

    /// Sets how many seconds one attempt may take.
    #[must_use]
    pub fn with_timeout_seconds(mut self, seconds: u64) -> Self {
        self.timeout_seconds = Some(seconds);
        self
    }
}

impl Decode for WorkflowDefinition {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id");
        let name = required_text(fields, "name", MAX_NAME_CHARS);
        let description = fields.text("description", MAX_DESCRIPTION_CHARS);
        let version = required_text(fields, "version", MAX_VERSION_CHARS);
        if !fields.has("tasks") {
            fields.problem("tasks", "missing", "is required");
        }
        let tasks: Option<Vec<WorkflowStep>> = fields.array("tasks");
        let count = tasks.as_ref().map_or(1, Vec::len);
        if !(1..=MAX_WORKFLOW_STEPS).contains(&count) {
            fields.problem("tasks", "value_error", format!("must have 1 to {MAX_WORKFLOW_STEPS} entries"));
        }
        Some(Self { id: id?, name: name?, description, version: version?, tasks: tasks? })
    }
}

impl Decode for WorkflowStep {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let task_id = fields.required("taskId");
        let name = required_text(fields, "name", MAX_NAME_CHARS);
        let agent_capability = platform_word(fields, "agentCapability");
        let parameters = fields.json_object("parameters").unwrap_or_default();
        let next_task_id = fields.optional("nextTaskId");
        let max_retries = fields
            .range("maxRetries", 0..=MAX_STEP_RETRIES.into(), Some(DEFAULT_STEP_RETRIES.into()))
            .and_then(|retries| u32::try_from(retries).ok());
        let timeout_seconds = fields.range("timeoutSeconds", 1..=MAX_TASK_TIMEOUT.as_secs(), None);
        Some(Self {
            task_id: task_id?,
            name: name?,
            agent_capability,
            parameters,
            next_task_id,
            max_retries: max_retries?,
            timeout_seconds,
        })
    }
}

decode_via_fields!(WorkflowDefinition, WorkflowStep);

/// Reads a text that must be there and say something.
fn required_text(fields: &mut Fields<'_>, name: &str, most: usize) -> Option<String> {
    let text: String = fields.required(name)?;
    if has_chars(&text, 1, most) {
        return Some(text);
    }
    fields.problem(name, "value_error", format!("must have 1 to {most} characters"));
    None
}

/// Reads a capability as platforms write them, in words of their own.
fn platform_word(fields: &mut Fields<'_>, name: &str) -> Option<Capability> {
    let text: String = fields.optional(name)?;
    if !has_chars(&text, 1, MAX_PLATFORM_WORD_CHARS) {
        fields.problem(name, "value_error", format!("must have 1 to {MAX_PLATFORM_WORD_CHARS} characters"));
        return None;
    }
    let capability = Capability::of_words(&text);
    if let Err(why) = &capability {
        fields.problem(name, "value_error", why.to_string());
    }
    capability.ok()
}

fn default_retries() -> u32 {
    DEFAULT_STEP_RETRIES
}

/// A workflow as lists show it: without its steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct WorkflowSummary {
    /// Names it for whoever starts it.
    pub id: WorkflowId,
    /// Name shown to people.
    pub name: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The version that a run gets now.
    pub version: String,
    /// How many steps it has.
    pub steps: u32,
    /// When this version was stored.
    pub stored_at: Timestamp,
}

impl WorkflowSummary {
    /// What a list shows of a workflow that was stored then.
    pub fn of(workflow: &WorkflowDefinition, stored_at: Timestamp) -> Self {
        let steps = u32::try_from(workflow.tasks.len()).unwrap_or(u32::MAX);
        let mut summary =
            Self::new(workflow.id.clone(), workflow.name.clone(), workflow.version.clone(), steps, stored_at);
        summary.description.clone_from(&workflow.description);
        summary
    }

    /// The same from its parts; a description is set as a field.
    pub fn new(id: WorkflowId, name: String, version: String, steps: u32, stored_at: Timestamp) -> Self {
        Self { id, name, description: None, version, steps, stored_at }
    }
}

/// A page of workflows, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct WorkflowPage {
    /// The workflows.
    pub workflows: Vec<WorkflowSummary>,
    /// What to pass as `cursor` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

impl WorkflowPage {
    /// A page and the way to the next one.
    pub fn new(workflows: Vec<WorkflowSummary>, next_cursor: Option<String>) -> Self {
        Self { workflows, next_cursor }
    }
}
