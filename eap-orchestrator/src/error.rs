//! Why a call was not done, by what its caller can do next.

use eap_core::Refusal;
use eap_types::{DecodeError, FieldProblem, Scope, TaskStatus};

use crate::store::{BoxError, StoreError};

/// Why a call was not done. The HTTP answer to each is chosen in `http/error.rs`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request could not be read; send another one.
    #[error("the request cannot be read")]
    Unreadable(#[source] DecodeError),
    /// The request breaks a rule; every problem is named.
    #[error("the request has {} problems", problems.len())]
    Invalid {
        /// All of them.
        problems: Vec<FieldProblem>,
    },
    /// The agent's name breaks OpenCode's prefix rule.
    #[error("Agent name must start with 'AGENT-'")]
    NameWithoutPrefix,
    /// The token is unknown, revoked, or not given: register again.
    #[error("Invalid agent token")]
    InvalidToken,
    /// The operator key is unknown or not given.
    #[error("a valid operator key is needed")]
    InvalidKey,
    /// No agent may register with this secret, or not under this identity.
    #[error("{reason}")]
    RegistrationDenied {
        /// One sentence.
        reason: &'static str,
    },
    /// The caller is known, and may not do this.
    #[error("{reason}")]
    Forbidden {
        /// One sentence.
        reason: &'static str,
    },
    /// The caller's key has not the scope that the call needs.
    #[error("this key has not the scope {scope}")]
    MissingScope {
        /// What it lacks.
        scope: Scope,
    },
    /// The caller's key has not the scope that a new one is to have.
    #[error("a key grants no more than it has: this one has not the scope {scope}")]
    CannotGrant {
        /// What it lacks.
        scope: Scope,
    },
    /// There is no such operator key or registration secret, or not for this caller.
    #[error("there is no such key or secret")]
    UnknownCredential,
    /// There is no such agent, or not for this caller.
    #[error("there is no such agent")]
    UnknownAgent,
    /// There is no such task, or not for this caller.
    #[error("there is no such task")]
    UnknownTask,
    /// The attempt no longer counts: drop it.
    #[error("the lease is lost: a newer attempt was claimed, or the server ended this one")]
    LeaseLost,
    /// The attempt already has another result, which stays.
    #[error("attempt {attempt} already has another result; that one stays")]
    ResultConflict {
        /// The attempt.
        attempt: u32,
    },
    /// The task is over.
    #[error("the task is already {status}")]
    TaskFinal {
        /// How it ended.
        status: TaskStatus,
    },
    /// The task did neither fail for good nor die: there is nothing to requeue or discard.
    #[error("the task is {status}, and only one that failed for good or died is a dead letter")]
    NotDeadLetter {
        /// Where it stands.
        status: TaskStatus,
    },
    /// The dead letter was discarded, and is not requeued.
    #[error("the dead letter was discarded")]
    LetterDiscarded,
    /// The idempotency key was used with another body.
    #[error("this idempotency key was used with another body")]
    IdempotencyConflict,
    /// The caller has too much going on; wait and come again.
    #[error("{reason}")]
    TooMany {
        /// One sentence.
        reason: &'static str,
    },
    /// The server is full, or its writers kept colliding; wait and come again.
    #[error("{reason}")]
    Busy {
        /// One sentence.
        reason: &'static str,
    },
    /// Something broke inside; the log has more.
    #[error("something broke inside the orchestrator")]
    Broken,
    /// The server is stopping; go elsewhere or come again.
    #[error("the orchestrator is stopping")]
    Draining,
    /// The store did not do it.
    #[error("the store did not answer as it should")]
    Store(#[source] StoreError),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotAssigned => Self::UnknownTask,
            Refusal::Mismatch => Self::Invalid {
                problems: vec![FieldProblem::new(
                    "body.attempt",
                    "value_error",
                    "The quoted lease_id and attempt do not belong together.",
                )],
            },
            Refusal::ResultConflict { attempt } => Self::ResultConflict { attempt },
            Refusal::TaskFinal { status, .. } => Self::TaskFinal { status },
            Refusal::NotDeadLetter { status } => Self::NotDeadLetter { status },
            Refusal::LetterDiscarded => Self::LetterDiscarded,
            // The last two never reach a caller: claims and sweeps take them as "not this one".
            _ => Self::LeaseLost,
        }
    }
}

/// Why an orchestrator could not be built or started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The store cannot be used.
    #[error("the store cannot be used")]
    Store(#[from] StoreError),
    /// `serve` was asked to listen where anybody can reach it, without what protects it.
    #[error("refusing to serve {address}, which others can reach, without {}", missing.join(", "))]
    Exposed {
        /// The listener's address.
        address: std::net::SocketAddr,
        /// What is missing, by configuration key.
        missing: Vec<&'static str>,
    },
    /// The certificate or key cannot be used.
    #[error("the TLS files cannot be used")]
    Tls(#[source] BoxError),
    /// The listener does not work.
    #[error("the listener does not work")]
    Listener(#[source] std::io::Error),
    /// It was started before.
    #[error("the orchestrator is running already")]
    Running,
    /// It had to stop because its store failed.
    #[error("stopped because the store failed: {reason}")]
    StoreFailed {
        /// What the store said.
        reason: String,
    },
}

/// An error and everything behind it, in one line.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
