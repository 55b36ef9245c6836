//! How an agent's token is replaced (docs/protocol.md section 3).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AgentId, DirectiveId, Secret, Timestamp};

/// The answer 200 to `POST …/{agent_id}/token/rotate`. It holds the token, so it cannot be compared.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct RotatedToken {
    /// The agent.
    pub agent_id: AgentId,
    /// What the agent proves itself with from now on; shown here and never again.
    pub auth_token: Secret,
    /// Until when the token works that asked.
    pub previous_valid_until: Timestamp,
}

impl RotatedToken {
    /// A new token beside one that works for a while yet.
    pub fn new(agent_id: AgentId, auth_token: Secret, previous_valid_until: Timestamp) -> Self {
        Self { agent_id, auth_token, previous_valid_until }
    }
}

/// The answer 200 to `POST /api/v1/agents/{agent_id}/rotate-token`: the agent is asked at its next heartbeats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct RotationAsked {
    /// The agent.
    pub agent_id: AgentId,
    /// The directive that tells it.
    pub directive_id: DirectiveId,
    /// Since when it is asked.
    pub asked_at: Timestamp,
}

impl RotationAsked {
    /// A wish that stands since `asked_at`.
    pub fn new(agent_id: AgentId, directive_id: DirectiveId, asked_at: Timestamp) -> Self {
        Self { agent_id, directive_id, asked_at }
    }
}
