//! What can go wrong in a store, by what the caller can do next.

use std::fmt;

use eap_types::{AgentId, CredentialId, SessionId, TaskId, WorkflowId};

/// An error of another crate, kept for the log.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The record moved on since it was read: load it and decide again.
    #[error("{record} was changed by another writer")]
    Conflict {
        /// Which record.
        record: RecordRef,
    },
    /// The key is taken: read what it stands for.
    #[error("{record} exists already")]
    Duplicate {
        /// Which record.
        record: RecordRef,
    },
    /// There is no room left; reads go on, and writes succeed again once there is.
    #[error("storage is full")]
    Full {
        /// What the back end said.
        #[source]
        source: BoxError,
    },
    /// The back end could not be reached, or its answer made no sense: try again later.
    #[error("storage is unavailable")]
    Unavailable {
        /// What the back end said.
        #[source]
        source: BoxError,
    },
    /// The back end can no longer be trusted (a failed fsync, say): stop.
    #[error("storage has failed")]
    Failed {
        /// What the back end said.
        #[source]
        source: BoxError,
    },
    /// The data is of a newer version, owned by another process, or not ours: do not start.
    #[error("storage cannot be opened: {reason}")]
    Refused {
        /// One sentence for people.
        reason: String,
    },
    /// The store was closed.
    #[error("storage is closed")]
    Closed,
}

/// Names a record in an error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordRef {
    /// A task.
    Task(TaskId),
    /// An agent, by its id or by its identity.
    Agent(AgentId),
    /// An operator key or a registration secret.
    Credential(CredentialId),
    /// An idempotency key.
    IdempotencyKey,
    /// A webhook.
    Webhook,
    /// The callback of a task.
    Callback(TaskId),
    /// A session.
    Session(SessionId),
    /// The session's step that a task carries.
    Step(TaskId),
    /// One version of a workflow.
    Workflow {
        /// Its id.
        id: WorkflowId,
        /// Its version.
        version: String,
    },
}

impl fmt::Display for RecordRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task(id) => write!(f, "task {id}"),
            Self::Agent(id) => write!(f, "agent {id}"),
            Self::Credential(id) => write!(f, "credential {id}"),
            Self::Callback(task) => write!(f, "the callback of task {task}"),
            Self::Session(id) => write!(f, "session {id}"),
            Self::Step(task) => write!(f, "the step of task {task}"),
            Self::Workflow { id, version } => write!(f, "version {version} of workflow {id}"),
            Self::IdempotencyKey => f.write_str("this idempotency key"),
            Self::Webhook => f.write_str("this webhook"),
        }
    }
}
