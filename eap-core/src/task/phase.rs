//! Where a task is in its life; each phase carries what exists only in it.

use std::time::Duration;

use eap_types::{AgentId, LeaseId, RequestId, TaskStatus, Timestamp};
use serde::{Deserialize, Serialize};

/// Where a task is in its life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// Waits for an agent.
    Queued {
        /// `None`: ready for claims. Otherwise delayed or backing off until the sweeper finds it due.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ready_at: Option<Timestamp>,
    },
    /// An agent holds it.
    Leased(Lease),
    /// Done; the result of this attempt is recorded.
    Completed {
        /// The attempt whose result is recorded.
        attempt: u32,
    },
    /// Failed for good; the result of this attempt is recorded.
    Failed {
        /// The attempt whose result is recorded.
        attempt: u32,
        /// One sentence for people.
        reason: String,
    },
    /// Ended by an operator.
    Cancelled {
        /// The operator's words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Given up without a result: its holders vanished, nobody would take it, or its time passed.
    Dead {
        /// One sentence for people.
        reason: String,
    },
}

impl Phase {
    /// The word for this phase on the wire.
    #[must_use]
    pub fn status(&self) -> TaskStatus {
        match self {
            Self::Queued { .. } => TaskStatus::Queued,
            Self::Leased(_) => TaskStatus::Leased,
            Self::Completed { .. } => TaskStatus::Completed,
            Self::Failed { .. } => TaskStatus::Failed,
            Self::Cancelled { .. } => TaskStatus::Cancelled,
            Self::Dead { .. } => TaskStatus::Dead,
        }
    }

    /// Whether there is no way on from here.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.status().is_final()
    }

    /// Why it ended so, where there is a reason to give.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Failed { reason, .. } | Self::Dead { reason } => Some(reason),
            Self::Cancelled { reason } => reason.as_deref(),
            Self::Queued { .. } | Self::Leased(_) | Self::Completed { .. } => None,
        }
    }
}

/// The right of one agent to work on the task for a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    /// The attempt it belongs to: always the newest.
    pub attempt: u32,
    /// What its holder quotes.
    pub lease_id: LeaseId,
    /// The holder.
    pub agent: AgentId,
    /// The lease request that claimed it; repeating that request gives the same tasks (G17).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// When it lapses unless renewed; never later than `deadline`.
    pub expires_at: Timestamp,
    /// When the attempt ends whatever its holder says: assignment plus the task's timeout.
    pub deadline: Timestamp,
    /// What a renewal grants, counted from the renewal.
    pub length: Duration,
    /// When the attempt ends unless its handler tells something before; a renewal alone does not move it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_until: Option<Timestamp>,
}

impl Lease {
    /// When the clock ends it, should nothing more be heard.
    #[must_use]
    pub fn due_at(&self) -> Timestamp {
        let lapse = self.expires_at.min(self.deadline);
        self.quiet_until.map_or(lapse, |quiet| quiet.min(lapse))
    }

    /// Whether at `now` its handler has been quiet for too long, and that came before the lease lapsed.
    #[must_use]
    pub fn is_quiet(&self, now: Timestamp) -> bool {
        self.quiet_until.is_some_and(|quiet| quiet <= now && quiet < self.expires_at)
    }

    /// The expiry a renewal at `now` gives.
    #[must_use]
    pub fn renewed(&self, now: Timestamp) -> Timestamp {
        (now + self.length).min(self.deadline)
    }

    /// Whether a renewal at `now` is worth writing: a quarter of the lease has passed (G14), or it takes
    /// the lease to its deadline.
    #[must_use]
    pub fn is_worth_renewing(&self, now: Timestamp) -> bool {
        let renewed = self.renewed(now);
        // The last stretch is written however short it is: a holder that renews to the end ran out of
        // time, and must not look like one that vanished.
        let is_last = renewed == self.deadline && renewed > self.expires_at;
        is_last || renewed.saturating_since(self.expires_at) >= self.length / 4
    }
}
