//! How an agent of a platform is doing: its report, the answer, and what is shown of it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StateWord;
use super::agent::{decode_id, decode_words};
use crate::macros::decode_via_fields;
use crate::schema::or_null;
use crate::{AgentId, Decode, Fields, JsonObject, RawJson, Timestamp};

const MAX_STATE_CHARS: usize = 64;
/// Where a report may name its task, in the order in which the names count.
const TASK_NAMES: [&str; 4] = ["task_id", "taskId", "opscore_task_id", "current_task"];

/// What an agent says of itself: the body of `POST /v1/opscore/agent/{id}/state`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct StateReport {
    /// The agent, which must be the one of the path.
    pub agent_id: AgentId,
    /// When it was so, by the agent's clock; `None` when what was sent names no time, which means now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Timestamp")]
    pub timestamp: Option<Timestamp>,
    /// The word for how it is doing, as it was sent: 1 to 64 characters.
    #[schemars(length(min = 1, max = 64))]
    pub state: String,
    /// Anything else, the task it is about among it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<JsonObject>,
}

impl StateReport {
    /// Reports a state without details.
    pub fn new(agent_id: AgentId, timestamp: Timestamp, state: impl Into<String>) -> Self {
        Self { agent_id, timestamp: Some(timestamp), state: state.into(), details: None }
    }

    /// Sets what else there is to say.
    #[must_use]
    pub fn with_details(mut self, details: JsonObject) -> Self {
        self.details = Some(details);
        self
    }

    /// What the word for the state says.
    #[must_use]
    pub fn word(&self) -> StateWord {
        StateWord::of(&self.state)
    }

    /// The id of the task that the report is about, if its details name one.
    ///
    /// It is the first text that is not empty of `task_id`, `taskId`, `opscore_task_id` and `current_task`.
    #[must_use]
    pub fn task_id(&self) -> Option<String> {
        let details: BTreeMap<String, RawJson> = self.details.as_ref()?.decode().ok()?;
        let texts = TASK_NAMES.iter().filter_map(|name| details.get(*name)?.decode::<String>().ok());
        texts.into_iter().find(|id| !id.is_empty())
    }
}

impl Decode for StateReport {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let agent_id = decode_id(fields, "agentId");
        let timestamp = decode_timestamp(fields);
        let state = decode_words(fields, "state", MAX_STATE_CHARS);
        let details = fields.json_object("details");
        Some(Self { agent_id: agent_id?, timestamp: timestamp?, state: state?, details })
    }
}

/// Reads a text or a number, which need not name a time.
#[allow(clippy::option_option, reason = "a problem is not a time that cannot be read")]
fn decode_timestamp(fields: &mut Fields<'_>) -> Option<Option<Timestamp>> {
    let given: RawJson = fields.required("timestamp")?;
    if given.as_str().starts_with(['"', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) {
        return Some(given.decode().ok());
    }
    fields.problem("timestamp", "type_error", "expected a text or a number");
    None
}

decode_via_fields!(StateReport);

/// The answer 202 to a state report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct StateAccepted {
    /// Always `"success"`.
    pub status: String,
    /// One sentence for people.
    pub message: String,
}

impl StateAccepted {
    pub(super) const SUCCESS: &'static str = "success";

    /// Says that the report was taken.
    pub fn new() -> Self {
        Self { status: Self::SUCCESS.to_owned(), message: "State update accepted".to_owned() }
    }
}

impl Default for StateAccepted {
    fn default() -> Self {
        Self::new()
    }
}

/// What an agent of a platform said of itself, the newest first: the answer to `GET …/state/history`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct AgentStateHistory {
    /// The agent.
    pub agent_id: AgentId,
    /// Its reports in the order of their own times, the newest first, as far as they are kept.
    pub states: Vec<AgentStateView>,
}

impl AgentStateHistory {
    /// Lists what an agent reported.
    pub fn new(agent_id: AgentId, states: Vec<AgentStateView>) -> Self {
        Self { agent_id, states }
    }
}

/// How much of an agent's history is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct StateHistoryQuery {
    /// How many reports, at most 500. Default 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 500))]
    pub limit: Option<u32>,
}

impl StateHistoryQuery {
    /// The newest reports.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many.
    #[must_use]
    pub fn with_limit(mut self, limit: u32) -> Self {
        self.limit = Some(limit);
        self
    }
}

/// How an agent of a platform is doing: the answer to `GET /v1/opscore/agent/{id}/state`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct AgentStateView {
    /// The agent.
    pub agent_id: AgentId,
    /// The word for how it is doing, as it was sent; `UNKNOWN` before the first report.
    pub state: String,
    /// What else the report said; `null` if nothing.
    #[serde(default)]
    #[schemars(schema_with = "or_null::<JsonObject>")]
    pub details: Option<JsonObject>,
    /// When it was so; before the first report, since when the agent is known.
    pub timestamp: Timestamp,
}

impl AgentStateView {
    /// Shows an agent that has not reported yet.
    pub fn unknown(agent_id: AgentId, since: Timestamp) -> Self {
        Self::new(agent_id, StateWord::INITIAL, None, since)
    }

    /// Shows what an agent reported.
    pub fn new(agent_id: AgentId, state: impl Into<String>, details: Option<JsonObject>, timestamp: Timestamp) -> Self {
        Self { agent_id, state: state.into(), details, timestamp }
    }
}
