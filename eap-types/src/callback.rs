//! What a `callback_url` is sent once its task is over (docs/protocol.md, section 3).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::macros::words;
use crate::{TaskStatus, TaskView, Timestamp};

words! {
    /// How the task of a callback ended.
    pub enum CallbackKind {
        /// Done; the result is there.
        Completed = "task.completed",
        /// Failed for good; the last result is there.
        Failed = "task.failed",
        /// Stopped on request.
        Cancelled = "task.cancelled",
        /// Given up without a result.
        Dead = "task.dead",
    }
}

impl CallbackKind {
    /// The word for a task that ended so; none for one that goes on.
    #[must_use]
    pub const fn of(status: TaskStatus) -> Option<Self> {
        match status {
            TaskStatus::Completed => Some(Self::Completed),
            TaskStatus::Failed => Some(Self::Failed),
            TaskStatus::Cancelled => Some(Self::Cancelled),
            TaskStatus::Dead => Some(Self::Dead),
            TaskStatus::Queued | TaskStatus::Leased => None,
        }
    }
}

words! {
    /// Why a call to somebody else's endpoint failed: all that is told of it.
    pub enum CallFailure {
        /// There was no connection, or it broke off.
        Connect = "connect",
        /// The connection could not be secured.
        Tls = "tls",
        /// The answer says no.
        Status = "status",
        /// There was no answer in time.
        Timeout = "timeout",
        /// The server's endpoint policy does not allow the call.
        Policy = "policy",
    }
}

words! {
    /// Why an agent is no longer pushed to.
    pub enum PushStop {
        /// It answered 410: it wants no pushes until it registers again.
        Gone = "gone",
        /// The server's endpoint policy does not allow to call it.
        Policy = "policy",
        /// There was no connection for a long time.
        Connect = "connect",
        /// The connection could not be secured for a long time.
        Tls = "tls",
        /// It refused for a long time.
        Status = "status",
        /// It did not answer in time for a long time.
        Timeout = "timeout",
        /// The server cannot read what it kept for proving itself to the agent, which has to register again.
        Sealed = "sealed",
    }
}

impl From<CallFailure> for PushStop {
    fn from(failure: CallFailure) -> Self {
        match failure {
            CallFailure::Connect => Self::Connect,
            CallFailure::Tls => Self::Tls,
            CallFailure::Status => Self::Status,
            CallFailure::Timeout => Self::Timeout,
            CallFailure::Policy => Self::Policy,
        }
    }
}

/// The body that a `callback_url` is sent once its task is over, signed as [`webhook`](crate::webhook) says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Callback {
    /// How the task ended.
    #[serde(rename = "type")]
    pub kind: CallbackKind,
    /// When it ended.
    pub timestamp: Timestamp,
    /// The task as it is now, with its result.
    pub data: TaskView,
}

impl Callback {
    /// Tells of a task that ended at `timestamp`; `None` if it goes on.
    pub fn of(timestamp: Timestamp, data: TaskView) -> Option<Self> {
        Some(Self { kind: CallbackKind::of(data.status)?, timestamp, data })
    }
}
