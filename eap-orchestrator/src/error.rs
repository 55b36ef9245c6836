//! Why a call was not done, by what its caller can do next.

use eap_core::{Refusal, SessionRefusal, Stop, Task};
use eap_types::{DecodeError, FieldProblem, Scope, SessionState, TaskStatus, WorkflowId};

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
    /// The operator key was valid once.
    #[error("this operator key {ended}")]
    EndedKey {
        /// How it ended.
        ended: &'static str,
    },
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
    /// The task has no such artifact, or none yet.
    #[error("the task has no such artifact")]
    UnknownArtifact,
    /// This server takes no uploads.
    #[error("this server takes no artifacts by reference")]
    NoUploads,
    /// The part does not go on where the upload stands.
    #[error("the upload goes on at byte {kept}")]
    UploadOffset {
        /// How many bytes are kept.
        kept: u64,
    },
    /// What came is something else than was announced; of it nothing is kept.
    #[error("this is {what}")]
    DigestMismatch {
        /// What it is.
        what: &'static str,
    },
    /// The body is shorter or longer than was announced.
    #[error("the body is not as long as its headers say")]
    UploadLength,
    /// The uploads for the attempt are as many as they may be.
    #[error("an attempt may have at most {limit} {what} in artifacts by reference")]
    UploadsFull {
        /// What there are too many of.
        what: &'static str,
        /// How many there may be.
        limit: u64,
    },
    /// No agent platform is configured.
    #[error("no agent platform is configured")]
    NoPlatform,
    /// The agent platform does not list its agents.
    #[error("the agent platform does not list its agents")]
    PlatformUnlisted,
    /// The agent platform did not say what agents it has; try again later.
    #[error("the agent platform cannot be asked: {reason}")]
    PlatformSilent {
        /// Why, in a few words.
        reason: String,
    },
    /// There is no such workflow, or no such version of it, or not for this caller.
    #[error("there is no such workflow, or no such version of it")]
    UnknownWorkflow,
    /// There is no such session, or not for this caller.
    #[error("there is no such session")]
    UnknownSession,
    /// This version of the workflow is kept already, and reads otherwise: a changed workflow needs a version of its own.
    #[error(
        "version {version} of workflow {id} is kept already, and reads otherwise: give the changed one another version"
    )]
    WorkflowExists {
        /// The workflow.
        id: WorkflowId,
        /// Its version.
        version: String,
    },
    /// The session is over.
    #[error("the session is already {status}")]
    SessionFinal {
        /// How it ended.
        status: SessionState,
    },
    /// The attempt no longer counts: drop it.
    #[error("the lease is lost: a newer attempt was claimed, or the server ended this one")]
    LeaseLost {
        /// Why the server ended it, if it did.
        stop: Option<Stop>,
    },
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
        /// Why the server ended the caller's attempt, if it did.
        stop: Option<Stop>,
    },
    /// The attempt has told as much output as it may while it runs: the rest belongs into its result.
    #[error("an attempt may tell at most {limit} bytes of output while it runs")]
    OutputFull {
        /// How much that is.
        limit: usize,
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
    /// Where uploads are kept, something does not work.
    #[error("the artifact store did not answer as it should")]
    Artifacts(#[source] std::io::Error),
    /// The store did not do it.
    #[error("the store did not answer as it should")]
    Store(#[source] StoreError),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Error {
    /// What a caller is told whose event a task refused.
    pub(crate) fn refused(task: &Task, refusal: Refusal) -> Self {
        let attempt = refusal.attempt_that_is_over().and_then(|number| task.attempt(number));
        let why = attempt.and_then(|attempt| task.stop_of(attempt));
        let mut error = Self::from(refusal);
        if let Self::LeaseLost { stop } | Self::TaskFinal { stop, .. } = &mut error {
            *stop = why;
        }
        error
    }
}

impl From<SessionRefusal> for Error {
    fn from(refusal: SessionRefusal) -> Self {
        match refusal {
            SessionRefusal::Final { status } => Self::SessionFinal { status },
            _ => Self::Broken,
        }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            // By another orchestrator: `ArtifactStore` says so.
            std::io::ErrorKind::ResourceBusy => {
                Self::TooMany { reason: "another part of this upload is being received" }
            }
            _ => Self::Artifacts(error),
        }
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
            Refusal::TaskFinal { status, .. } => Self::TaskFinal { status, stop: None },
            Refusal::OutputFull { limit } => Self::OutputFull { limit },
            Refusal::NotDeadLetter { status } => Self::NotDeadLetter { status },
            Refusal::LetterDiscarded => Self::LetterDiscarded,
            // The last two never reach a caller: claims and sweeps take them as "not this one".
            _ => Self::LeaseLost { stop: None },
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
    /// A workflow of the configuration cannot be kept.
    #[error("config.workflows: {reason}")]
    Workflows {
        /// Why, in one sentence.
        reason: String,
    },
    /// Others may share the store, and what is sealed for agents must be readable by all of them.
    #[error(
        "config.sealing_key is needed, the same for every replica: the store is one that several orchestrators share"
    )]
    NoSealingKey,
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
