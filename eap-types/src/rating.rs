//! How an agent has done so far, in the words of routing (docs/protocol.md section 3, "Routing").

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::macros::words;
use crate::{Timestamp, figure};

words! {
    /// What an agent's success rate makes of it.
    pub enum AgentTier {
        /// At least 95 % of its last results were good.
        Elite = "elite",
        /// At least 85 %.
        Advanced = "advanced",
        /// At least 70 %, or too few results to tell.
        Competent = "competent",
        /// At least half.
        Trainee = "trainee",
        /// Fewer.
        Degraded = "degraded",
    }
}

words! {
    /// How much of what it may hold an agent holds.
    pub enum LoadBand {
        /// Nothing.
        Idle = "idle",
        /// Less than half.
        Optimal = "optimal",
        /// Less than four fifths.
        High = "high",
        /// There is room for a little more.
        Critical = "critical",
        /// There is no room.
        Full = "full",
    }
}

words! {
    /// Whether an agent's failures keep work from it.
    pub enum BreakerState {
        /// They do not.
        Closed = "closed",
        /// It gets nothing until it has cooled down.
        Open = "open",
        /// It has cooled down, and one trial task decides.
        HalfOpen = "half_open",
    }
}

/// How an agent has done so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct TrackRecordView {
    /// What its success rate makes of it.
    pub tier: AgentTier,
    /// How many of its last results were counted, at most 50.
    pub results: u32,
    /// The share of them that was good, 0 to 1; absent without a result.
    #[serde(default, serialize_with = "figure::write_optional", skip_serializing_if = "figure::is_absent")]
    pub success_rate: Option<f64>,
    /// Whether its failures keep work from it.
    pub breaker: BreakerState,
    /// Until when it gets nothing; present while the breaker is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker_until: Option<Timestamp>,
    /// When it last got a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_served_at: Option<Timestamp>,
}

impl TrackRecordView {
    /// An agent that did nothing yet; everything is set as fields.
    pub fn new() -> Self {
        Self {
            tier: AgentTier::Competent,
            results: 0,
            success_rate: None,
            breaker: BreakerState::Closed,
            breaker_until: None,
            last_served_at: None,
        }
    }
}

impl Default for TrackRecordView {
    fn default() -> Self {
        Self::new()
    }
}
