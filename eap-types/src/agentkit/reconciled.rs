//! What was changed because a platform lists other agents than were known.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::AgentId;

/// What a comparison with the platform's own list of agents changed: the answer to `POST /api/v1/agentkit/reconcile`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Reconciled {
    /// Agents that were not known, or known to be gone.
    pub added: Vec<AgentId>,
    /// Agents of which something else was known.
    pub changed: Vec<AgentId>,
    /// Agents that the platform has no more.
    pub removed: Vec<AgentId>,
    /// How many entries of the list could not be read, or name an agent that did not come from the platform.
    pub skipped: u32,
}

impl Reconciled {
    /// Nothing was changed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether anything was changed.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}
