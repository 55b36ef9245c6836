//! What operators ask of agents: to take nothing new, to take work again, to beat at another interval
//! (docs/protocol.md section 3).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::MAX_HEARTBEAT_INTERVAL;
use crate::macros::decode_via_fields;
use crate::{Decode, Fields, Timestamp};

const MAX_REASON_CHARS: usize = 4096;

/// Has an agent finish what it holds and take nothing new: the body of `POST /api/v1/agents/{agent_id}/drain`, which may
/// also be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct DrainAgent {
    /// Why, for people; at most 4096 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub reason: Option<String>,
}

impl DrainAgent {
    /// Drains it without a word.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets why.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }
}

impl Decode for DrainAgent {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { reason: fields.text("reason", MAX_REASON_CHARS) })
    }
}

/// Has an agent beat at an interval of its own: the body of `PUT /api/v1/agents/{agent_id}/interval`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct SetInterval {
    /// The interval in seconds, 1 to 3600.
    #[schemars(range(min = 1, max = 3600))]
    pub heartbeat_interval_seconds: u64,
}

impl SetInterval {
    /// A beat every so many seconds.
    pub fn new(heartbeat_interval_seconds: u64) -> Self {
        Self { heartbeat_interval_seconds }
    }
}

impl Decode for SetInterval {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let heartbeat_interval_seconds = fields.required("heartbeat_interval_seconds")?;
        let longest = MAX_HEARTBEAT_INTERVAL.as_secs();
        if !(1..=longest).contains(&heartbeat_interval_seconds) {
            fields.problem("heartbeat_interval_seconds", "value_error", format!("must be 1 to {longest}"));
        }
        Some(Self { heartbeat_interval_seconds })
    }
}

decode_via_fields!(DrainAgent, SetInterval);

/// That an operator asked an agent to take nothing new.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct DrainView {
    /// Since when it gets no work.
    pub asked_at: Timestamp,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether the agent said that it has heard of it; false for one that understands no directives.
    pub acknowledged: bool,
}

impl DrainView {
    /// A drain without a word.
    pub fn new(asked_at: Timestamp, acknowledged: bool) -> Self {
        Self { asked_at, reason: None, acknowledged }
    }
}

/// That an operator asked an agent to beat at an interval of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct IntervalView {
    /// The interval in seconds.
    pub heartbeat_interval_seconds: u64,
    /// Whether the agent said that it has heard of it; until then its silence is judged by the longer of this interval and
    /// the one before.
    pub acknowledged: bool,
}

impl IntervalView {
    /// An interval of so many seconds.
    pub fn new(heartbeat_interval_seconds: u64, acknowledged: bool) -> Self {
        Self { heartbeat_interval_seconds, acknowledged }
    }
}
