//! One assignment of a task.

use eap_types::{AgentId, CancelCause, FailureCode, LeaseId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::digest::ResultDigest;

pub use eap_types::AttemptOutcome;

/// One assignment of a task, with its own number and lease id; neither is ever used again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// 1, 2, 3… within the task.
    pub number: u32,
    /// Who got it.
    pub agent: AgentId,
    /// The agent's epoch when it got it: a later one is a new process.
    pub epoch: u64,
    /// The lease the agent quotes in its reports.
    pub lease_id: LeaseId,
    /// How it ended, or `open`.
    pub outcome: AttemptOutcome,
    /// When it was assigned.
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// The failure's class, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<FailureCode>,
    /// One sentence on why it ended as it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The fingerprint of the result its agent reported; a repeat is known by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<ResultDigest>,
    /// Whether its release counts towards `max_releases`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub given_up: bool,
    /// Whether it ran out of time because its handler told nothing for too long.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inactive: bool,
}

/// Why the server ended an attempt under its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// For programs.
    pub cause: CancelCause,
    /// For people.
    pub reason: Option<String>,
}

impl Attempt {
    /// Whether the server ended it under its holder, which may still be at work: it was cancelled, or ran out of time.
    #[must_use]
    pub fn was_stopped(&self) -> bool {
        self.stopped().is_some()
    }

    /// Why the server ended it under its holder, if it did.
    #[must_use]
    pub fn stopped(&self) -> Option<CancelCause> {
        match self.outcome {
            AttemptOutcome::Cancelled => Some(CancelCause::Cancelled),
            _ if self.error_code != Some(FailureCode::Timeout) || self.reported.is_some() => None,
            _ if self.inactive => Some(CancelCause::Inactivity),
            _ => Some(CancelCause::Timeout),
        }
    }

    /// Whether it uses up one of the task's `max_attempts`; a release never does.
    #[must_use]
    pub fn counts(&self) -> bool {
        matches!(self.outcome, AttemptOutcome::Completed | AttemptOutcome::Failed | AttemptOutcome::Expired)
    }
}
