//! The webhook by which a platform tells that an agent came or left, and its answer.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};

use super::agent::decode_id;
use super::{PlatformAgent, StateAccepted};
use crate::macros::decode_via_fields;
use crate::{AgentId, Decode, DecodeError, Fields, from_json};

const REGISTER: &str = "REGISTER";
const DEREGISTER: &str = "DEREGISTER";
/// Characters of an unknown event that its refusal repeats.
const MAX_SHOWN_CHARS: usize = 64;

/// What a platform tells of an agent: the body of `POST /v1/opscore/internal/agent/notify`.
///
/// [`read`](Self::read) tells the refusals apart that have a code and words of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AgentNotification {
    /// The agent is there, or has changed.
    Register(PlatformAgent),
    /// The agent is gone; whatever else is said of it is not read.
    Deregister(AgentId),
}

/// Why a notification is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotificationRefusal {
    /// The event is neither REGISTER nor DEREGISTER: 400, with these words.
    #[error("Unknown event type: {event_type}")]
    UnknownEvent {
        /// The event as it was sent, or how it begins.
        event_type: String,
    },
    /// The agent has no id: 400, with these words.
    #[error("Missing agentId in agent_details for {event_type} event.")]
    MissingAgentId {
        /// REGISTER or DEREGISTER.
        event_type: &'static str,
    },
    /// The body is not what it should be: 422.
    #[error(transparent)]
    Invalid(DecodeError),
}

impl AgentNotification {
    /// Reads a body; the event may be in any case.
    ///
    /// # Errors
    ///
    /// In this order: if there is no event and no object to look for an id in, if the event is unknown, if the agent has
    /// no id, and if anything else is wrong, all at once.
    pub fn read(body: &[u8]) -> Result<Self, NotificationRefusal> {
        let error = match from_json(body) {
            Ok(notification) => return Ok(notification),
            Err(error) => error,
        };
        // Its own problems are those of the error, which names more.
        let Ok(Glance { event_type, has_id }) = from_json(body) else {
            return Err(NotificationRefusal::Invalid(error));
        };
        match (known(&event_type), has_id) {
            (None, _) => {
                let event_type = event_type.chars().take(MAX_SHOWN_CHARS).collect();
                Err(NotificationRefusal::UnknownEvent { event_type })
            }
            (Some(event_type), Some(false)) => Err(NotificationRefusal::MissingAgentId { event_type }),
            (Some(_), _) => Err(NotificationRefusal::Invalid(error)),
        }
    }

    /// The event in one word, upper case.
    #[must_use]
    pub const fn event_type(&self) -> &'static str {
        match self {
            Self::Register(_) => REGISTER,
            Self::Deregister(_) => DEREGISTER,
        }
    }

    /// The agent that is told of.
    #[must_use]
    pub const fn agent_id(&self) -> &AgentId {
        match self {
            Self::Register(agent) => &agent.agent_id,
            Self::Deregister(agent_id) => agent_id,
        }
    }
}

/// The word of a known event, whatever its case.
fn known(event_type: &str) -> Option<&'static str> {
    [REGISTER, DEREGISTER].into_iter().find(|word| word.eq_ignore_ascii_case(event_type))
}

/// As much of a body as tells refusals apart.
struct Glance {
    event_type: String,
    /// Whether the agent has an id; `None` if there are no details to look in.
    has_id: Option<bool>,
}

impl Decode for Glance {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let event_type: String = fields.required("event_type")?;
        if known(&event_type).is_none() {
            return Some(Self { event_type, has_id: None });
        }
        let HasId(has_id) = fields.object("agent_details")?;
        Some(Self { event_type, has_id: Some(has_id) })
    }
}

struct HasId(bool);

impl Decode for HasId {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        // An empty text is what a platform sends that has none.
        let is_empty = fields.raw("agentId").is_some_and(|id| id.as_str() == "\"\"");
        Some(Self(fields.has("agentId") && !is_empty))
    }
}

/// The details of an agent that left.
#[derive(Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "GonePlatformAgent")]
struct Gone {
    agent_id: AgentId,
}

impl Decode for Gone {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        decode_id(fields, "agentId").map(|agent_id| Self { agent_id })
    }
}

impl Decode for AgentNotification {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let event_type: Option<String> = fields.required("event_type");
        if !fields.has("agent_details") {
            fields.problem("agent_details", "missing", "is required");
        }
        match known(&event_type?) {
            Some(REGISTER) => fields.object("agent_details").map(Self::Register),
            Some(_) => fields.object("agent_details").map(|Gone { agent_id }| Self::Deregister(agent_id)),
            None => {
                fields.problem("event_type", "value_error", "must be REGISTER or DEREGISTER");
                None
            }
        }
    }
}

impl Serialize for AgentNotification {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Written<T> {
            event_type: &'static str,
            agent_details: T,
        }
        let event_type = self.event_type();
        match self {
            Self::Register(agent) => Written { event_type, agent_details: agent }.serialize(serializer),
            Self::Deregister(agent_id) => {
                let agent_details = Gone { agent_id: agent_id.clone() };
                Written { event_type, agent_details }.serialize(serializer)
            }
        }
    }
}

impl JsonSchema for AgentNotification {
    fn schema_name() -> Cow<'static, str> {
        "AgentNotification".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let event = |about: &str, word: &str, details: Schema| {
            let any_case: String = word.chars().map(|c| format!("[{c}{}]", c.to_ascii_lowercase())).collect();
            json_schema!({
                "description": about,
                "type": "object",
                "properties": {
                    "event_type": { "type": "string", "pattern": format!("^{any_case}$") },
                    "agent_details": details,
                },
                "required": ["event_type", "agent_details"],
            })
        };
        let (came, left) = (generator.subschema_for::<PlatformAgent>(), generator.subschema_for::<Gone>());
        json_schema!({
            "description": "What a platform tells of an agent: the body of `POST /v1/opscore/internal/agent/notify`.",
            "oneOf": [
                event("The agent is there, or has changed.", REGISTER, came),
                event("The agent is gone.", DEREGISTER, left),
            ],
        })
    }
}

decode_via_fields!(AgentNotification);

/// The answer 200 to a notification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct AgentNotified {
    /// Always `"success"`.
    pub status: String,
    /// One sentence for people.
    pub message: String,
    /// Whether this very message was taken before, and changed nothing now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
    /// Why the message changed nothing: `"stale"` when a later one was there first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignored: Option<String>,
}

impl AgentNotified {
    /// Says that the notification was carried out.
    pub fn of(notification: &AgentNotification) -> Self {
        let done = match notification {
            AgentNotification::Register(_) => "registered",
            AgentNotification::Deregister(_) => "deregistered",
        };
        Self {
            status: StateAccepted::SUCCESS.to_owned(),
            message: format!("Agent {} {done} successfully.", notification.agent_id()),
            duplicate: false,
            ignored: None,
        }
    }

    /// Says that it was carried out when it came before.
    #[must_use]
    pub fn with_duplicate(mut self) -> Self {
        self.duplicate = true;
        self
    }

    /// Says that a later one of this agent was carried out before.
    #[must_use]
    pub fn with_stale(mut self) -> Self {
        self.ignored = Some("stale".to_owned());
        self
    }
}
