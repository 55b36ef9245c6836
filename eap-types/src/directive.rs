//! What a server tells an agent along with its answers (docs/protocol.md section 1).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::macros::words;
use crate::{DirectiveId, LeaseId, PushStop, TaskId, Timestamp};

/// The answer 200 to a heartbeat, when `directives.v1` was agreed; otherwise it is 204 without a body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct HeartbeatReply {
    /// How often the agent is to send a heartbeat from now on, in seconds.
    pub heartbeat_interval_seconds: u64,
    /// The server's time.
    pub server_time: Timestamp,
    /// What became of the leases that the beat listed, or of all the agent's.
    #[serde(default, deserialize_with = "crate::macros::null_as_default")]
    pub leases: Vec<LeaseNote>,
    /// What the agent is asked to do; repeated until acknowledged.
    #[serde(default, deserialize_with = "crate::macros::null_as_default")]
    pub directives: Vec<Directive>,
}

impl HeartbeatReply {
    /// An answer without leases and directives.
    pub fn new(heartbeat_interval_seconds: u64, server_time: Timestamp) -> Self {
        Self { heartbeat_interval_seconds, server_time, leases: Vec::new(), directives: Vec::new() }
    }
}

/// What became of one lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct LeaseNote {
    /// The task.
    pub task_id: TaskId,
    /// The lease.
    pub lease_id: LeaseId,
    /// How long the renewed lease lasts from now, in milliseconds; absent when it is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<u64>,
    /// Whether the agent no longer holds the task and is to stop working on it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
}

impl LeaseNote {
    /// A lease that lasts this much longer.
    pub fn renewed(task_id: TaskId, lease_id: LeaseId, expires_in_ms: u64) -> Self {
        Self { task_id, lease_id, expires_in_ms: Some(expires_in_ms), lost: false }
    }

    /// A lease that the agent no longer holds.
    pub fn lost(task_id: TaskId, lease_id: LeaseId) -> Self {
        Self { task_id, lease_id, expires_in_ms: None, lost: true }
    }
}

/// Something an agent is asked to do, until it acknowledges the id in a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Directive {
    /// What the agent acknowledges.
    pub id: DirectiveId,
    /// What is to be done.
    #[serde(flatten)]
    pub kind: DirectiveKind,
}

impl Directive {
    /// A directive to be acknowledged under `id`.
    pub fn new(id: DirectiveId, kind: DirectiveKind) -> Self {
        Self { id, kind }
    }
}

/// What a directive asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum DirectiveKind {
    /// Stop working on a task: it was cancelled, or its attempt ran out of time.
    Cancel {
        /// The task to stop.
        task_id: TaskId,
        /// The lease it was held under.
        lease_id: LeaseId,
        /// Why, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Why, for programs.
        #[serde(default, deserialize_with = "crate::macros::known_word", skip_serializing_if = "Option::is_none")]
        cause: Option<CancelCause>,
    },
    /// Finish what is held and take nothing new.
    Drain {
        /// Why, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Take work again.
    Resume,
    /// Get a new token.
    RotateToken,
    /// Know that tasks are no longer pushed to it; it ends with a registration, or when `GET /health` is answered.
    PushSuspended {
        /// Why.
        reason: PushStop,
    },
    /// Send heartbeats at another interval.
    SetInterval {
        /// The new interval, in seconds.
        heartbeat_interval_seconds: u64,
    },
    /// A word of a newer server; it is acknowledged and otherwise left alone.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

words! {
    /// Why the server ended an attempt under its holder.
    pub enum CancelCause {
        /// An operator cancelled the task.
        Cancelled = "cancelled",
        /// The attempt ran longer than the task's `timeout_seconds`.
        Timeout = "timeout",
        /// Its handler told nothing for the task's `inactivity_seconds`.
        Inactivity = "inactivity",
    }
}
