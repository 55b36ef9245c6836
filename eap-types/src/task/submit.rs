//! A task on its way in: `POST /api/v1/tasks` (docs/protocol.md section 3).

use std::collections::BTreeSet;

use schemars::{JsonSchema, Schema};
use serde::Serialize;

use crate::limits::{
    DEFAULT_ATTEMPTS, DEFAULT_TASK_TIMEOUT, MAX_ATTEMPTS, MAX_CAPABILITIES, MAX_PREFERRED_AGENTS, MAX_TASK_TIMEOUT,
};
use crate::macros::decode_via_fields;
use crate::schema::add_spelling;
use crate::{
    AgentId, Capability, Decode, Fields, JsonError, JsonObject, Labels, Priority, RawJson, SessionId, TaskType,
    Timestamp, endpoint,
};

/// A task to be done: the body of `POST /api/v1/tasks`.
///
/// ```
/// use eap_types::SubmitTask;
///
/// let task = SubmitTask::text("text.translate".parse()?, "Guten Morgen").with_timeout_seconds(60);
/// assert_eq!(task.input_text(), "Guten Morgen");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(transform = two_spellings)]
#[non_exhaustive]
pub struct SubmitTask {
    /// What kind of work it is.
    pub task_type: TaskType,
    /// The work itself, any JSON but `null`; `input_data` is read as well, and wins.
    pub input: RawJson,
    /// What else the agent is to know. Default `{}`.
    #[serde(default, skip_serializing_if = "JsonObject::is_empty")]
    pub context: JsonObject,
    /// Words passed through to the agent and never matched. Default `[]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requirements: Vec<String>,
    /// What an agent must be able to do, at most 64. Default: the task type alone.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub required_capabilities: BTreeSet<Capability>,
    /// The one agent that may do it; absent: any that can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// Agents that get it before others that suit as well, at most 16; they restrict nothing. Default none.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(length(max = 16))]
    pub preferred_agents: BTreeSet<AgentId>,
    /// Labels that an agent must all have. Default none.
    #[serde(default, skip_serializing_if = "no_labels")]
    pub labels: Labels,
    /// What the task belongs to; absent: a new session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// How urgent it is, 0 (first) to 4. Default 2.
    #[serde(default)]
    pub priority: Priority,
    /// How long one attempt may take, 1 second to 7 days. Default 3600.
    #[serde(default = "default_timeout")]
    #[schemars(range(min = 1, max = 604_800))]
    pub timeout_seconds: u64,
    /// How long an attempt may go on without telling anything, 1 second to 7 days; absent: as long as it may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800))]
    pub inactivity_seconds: Option<u64>,
    /// How often it is tried, 1 to 100. Default 3.
    #[serde(default = "default_attempts")]
    #[schemars(range(min = 1, max = 100))]
    pub max_attempts: u32,
    /// When it may be handed out first; absent: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Timestamp>,
    /// After this no further attempt starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Who is told once it is over: an http or https URL, at most 2,048 characters, without user name and fragment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub callback_url: Option<String>,
}

impl SubmitTask {
    /// A task with any input.
    pub fn new(task_type: TaskType, input: RawJson) -> Self {
        Self {
            required_capabilities: BTreeSet::from([task_type.clone().into()]),
            task_type,
            input,
            context: JsonObject::default(),
            requirements: Vec::new(),
            agent_id: None,
            preferred_agents: BTreeSet::new(),
            labels: Labels::default(),
            session_id: None,
            priority: Priority::default(),
            timeout_seconds: default_timeout(),
            inactivity_seconds: None,
            max_attempts: DEFAULT_ATTEMPTS,
            run_at: None,
            expires_at: None,
            callback_url: None,
        }
    }

    /// A task whose input is text, which reaches the agent as it is.
    pub fn text(task_type: TaskType, input: &str) -> Self {
        let input = RawJson::from_serialize(input).expect("every text has a JSON form");
        Self::new(task_type, input)
    }

    /// A task whose input is data, which reaches the agent as compact JSON.
    ///
    /// # Errors
    ///
    /// The value has no JSON form, as a map whose keys are not text.
    pub fn json<T: Serialize + ?Sized>(task_type: TaskType, input: &T) -> Result<Self, JsonError> {
        Ok(Self::new(task_type, RawJson::from_serialize(input)?))
    }

    /// The input as it reaches the agent: a JSON string travels as it is, anything else as its compact text.
    pub fn input_text(&self) -> String {
        if self.input.as_str().starts_with('"') {
            self.input.decode().expect("a JSON string is text")
        } else {
            compact(self.input.as_str())
        }
    }

    /// Sets what else the agent is to know.
    #[must_use]
    pub fn with_context(mut self, context: JsonObject) -> Self {
        self.context = context;
        self
    }

    /// Sets words that are passed through to the agent.
    #[must_use]
    pub fn with_requirements<W: Into<String>>(mut self, requirements: impl IntoIterator<Item = W>) -> Self {
        self.requirements = requirements.into_iter().map(Into::into).collect();
        self
    }

    /// Sets what an agent must be able to do.
    #[must_use]
    pub fn with_required_capabilities(mut self, capabilities: impl IntoIterator<Item = Capability>) -> Self {
        self.required_capabilities = capabilities.into_iter().collect();
        self
    }

    /// Lets only this agent do it.
    #[must_use]
    pub fn with_agent_id(mut self, agent_id: AgentId) -> Self {
        self.agent_id = Some(agent_id);
        self
    }

    /// Lets these agents have it before others that suit as well.
    #[must_use]
    pub fn with_preferred_agents(mut self, agents: impl IntoIterator<Item = AgentId>) -> Self {
        self.preferred_agents = agents.into_iter().collect();
        self
    }

    /// Sets the labels that an agent must have.
    #[must_use]
    pub fn with_labels(mut self, labels: Labels) -> Self {
        self.labels = labels;
        self
    }

    /// Sets what the task belongs to.
    #[must_use]
    pub fn with_session_id(mut self, session_id: SessionId) -> Self {
        self.session_id = Some(session_id);
        self
    }

    /// Sets how urgent it is.
    #[must_use]
    pub fn with_priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Sets how long one attempt may take.
    #[must_use]
    pub fn with_timeout_seconds(mut self, seconds: u64) -> Self {
        self.timeout_seconds = seconds;
        self
    }

    /// Sets how long an attempt may go on without telling anything.
    #[must_use]
    pub fn with_inactivity_seconds(mut self, seconds: u64) -> Self {
        self.inactivity_seconds = Some(seconds);
        self
    }

    /// Sets how often it is tried.
    #[must_use]
    pub fn with_max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// Sets when it may be handed out first.
    #[must_use]
    pub fn with_run_at(mut self, at: Timestamp) -> Self {
        self.run_at = Some(at);
        self
    }

    /// Sets when it is no longer worth starting.
    #[must_use]
    pub fn with_expires_at(mut self, at: Timestamp) -> Self {
        self.expires_at = Some(at);
        self
    }

    /// Sets who is told once it is over; checked when the message is read.
    #[must_use]
    pub fn with_callback_url(mut self, url: impl Into<String>) -> Self {
        self.callback_url = Some(url.into());
        self
    }
}

impl Decode for SubmitTask {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let task_type: Option<TaskType> = fields.required("task_type");
        let input = fields.required(if fields.has("input_data") { "input_data" } else { "input" });
        let context = fields.json_object("context").unwrap_or_default();
        let requirements = fields.or_default("requirements");
        let required_capabilities = decode_capabilities(fields);
        let agent_id = fields.optional("agent_id");
        let preferred_agents: BTreeSet<AgentId> = fields.or_default("preferred_agents");
        if preferred_agents.len() > MAX_PREFERRED_AGENTS {
            let message = format!("must have at most {MAX_PREFERRED_AGENTS} entries");
            fields.problem("preferred_agents", "value_error", message);
        }
        let labels = fields.or_default("labels");
        let session_id = fields.optional("session_id");
        let priority = fields.or_default("priority");
        let timeout_seconds = fields.range("timeout_seconds", 1..=MAX_TASK_TIMEOUT.as_secs(), Some(default_timeout()));
        let inactivity_seconds = fields.range("inactivity_seconds", 1..=MAX_TASK_TIMEOUT.as_secs(), None);
        let max_attempts = fields
            .range("max_attempts", 1..=MAX_ATTEMPTS.into(), Some(DEFAULT_ATTEMPTS.into()))
            .and_then(|attempts| u32::try_from(attempts).ok());
        let run_at = fields.optional("run_at");
        let expires_at = fields.optional("expires_at");
        let callback_url = endpoint::decode(fields, "callback_url");
        let task_type = task_type?;
        Some(Self {
            required_capabilities: required_capabilities.unwrap_or_else(|| BTreeSet::from([task_type.clone().into()])),
            task_type,
            input: input?,
            context,
            requirements,
            agent_id,
            preferred_agents,
            labels,
            session_id,
            priority,
            timeout_seconds: timeout_seconds?,
            inactivity_seconds,
            max_attempts: max_attempts?,
            run_at,
            expires_at,
            callback_url,
        })
    }
}

/// An empty list means the default, as no list does: a task that anybody could do is a mistake.
fn decode_capabilities(fields: &mut Fields<'_>) -> Option<BTreeSet<Capability>> {
    let capabilities: BTreeSet<Capability> = fields.optional("required_capabilities")?;
    if capabilities.len() > MAX_CAPABILITIES {
        let message = format!("must have at most {MAX_CAPABILITIES} entries");
        fields.problem("required_capabilities", "value_error", message);
    }
    Some(capabilities).filter(|capabilities| !capabilities.is_empty())
}

/// Drops the white space between the words of a JSON text and keeps everything else as it came.
fn compact(text: &str) -> String {
    let mut in_string = false;
    let mut escaped = false;
    text.chars()
        .filter(|&char| {
            match char {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_string = !in_string,
                _ => {}
            }
            in_string || !matches!(char, ' ' | '\t' | '\n' | '\r')
        })
        .collect()
}

fn default_timeout() -> u64 {
    DEFAULT_TASK_TIMEOUT.as_secs()
}

fn default_attempts() -> u32 {
    DEFAULT_ATTEMPTS
}

fn no_labels(labels: &Labels) -> bool {
    labels.is_empty()
}

fn two_spellings(schema: &mut Schema) {
    add_spelling(schema, "input", "input_data");
}

decode_via_fields!(SubmitTask);
