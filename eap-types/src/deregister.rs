//! How an agent leaves (docs/protocol.md section 3).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::macros::decode_via_fields;
use crate::{Decode, Fields};

/// Characters of the reason for leaving.
const MAX_REASON_CHARS: usize = 4096;

/// Takes an agent off the list: the body of `POST …/{agent_id}/deregister`, which may also be empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Deregister {
    /// Why, for people; at most 4096 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub reason: Option<String>,
    /// Whether the agent leaves in good order. Default true.
    #[serde(default = "yes")]
    pub graceful: bool,
}

impl Deregister {
    /// Leaves in good order and gives no reason.
    pub fn new() -> Self {
        Self { reason: None, graceful: true }
    }

    /// Sets why.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Says whether the agent leaves in good order.
    #[must_use]
    pub fn with_graceful(mut self, graceful: bool) -> Self {
        self.graceful = graceful;
        self
    }
}

impl Default for Deregister {
    fn default() -> Self {
        Self::new()
    }
}

impl Decode for Deregister {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { reason: fields.text("reason", MAX_REASON_CHARS), graceful: fields.or("graceful", true) })
    }
}

/// The answer 200 to a deregistration; its leases have been handed back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Deregistered {
    /// Always `"success"`.
    pub status: String,
    /// One sentence for people.
    pub message: String,
    /// How many tasks went back to the queue.
    #[serde(default)]
    pub released: u64,
}

impl Deregistered {
    /// The agent is gone, and this many of its tasks are back in the queue.
    pub fn new(message: impl Into<String>, released: u64) -> Self {
        Self { status: "success".to_owned(), message: message.into(), released }
    }
}

fn yes() -> bool {
    true
}

decode_via_fields!(Deregister);
