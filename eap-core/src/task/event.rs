//! What can happen to a task.

use std::time::Duration;

use eap_types::{AgentId, FailureCode, LeaseId, RequestId, ResultStatus, TaskResult};

use super::Progress;
use crate::backoff::Chance;
use crate::digest::ResultDigest;

/// What can happen to a task; [`Task::apply`](super::Task::apply) says what follows.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TaskEvent {
    /// An agent takes it.
    Assign {
        /// Who.
        agent: AgentId,
        /// The agent's epoch.
        epoch: u64,
        /// The lease's id, fresh.
        lease_id: LeaseId,
        /// The request that asked for it, if it can be repeated.
        request_id: Option<RequestId>,
        /// How long it holds without renewal.
        length: Duration,
    },
    /// The holder says that it still works on it.
    Renew {
        /// Who says so.
        agent: AgentId,
        /// Which lease it means.
        lease_id: LeaseId,
        /// How far the work is, if it says so along with it; only a change counts as a sign of its handler.
        fraction: Option<f64>,
    },
    /// The holder tells how far it is; renews the lease as well.
    Progress {
        /// Who.
        agent: AgentId,
        /// Which attempt it means.
        quote: Quote,
        /// What it says.
        progress: Progress,
        /// What the work produced since the report before.
        output: Option<String>,
    },
    /// An agent reports the outcome of its attempt.
    Report {
        /// Who.
        agent: AgentId,
        /// Which attempt it means.
        quote: Quote,
        /// What came out.
        report: Report,
        /// For the back-off, should it be retried.
        chance: Chance,
    },
    /// An attempt ends without an outcome and without fault of the task.
    Release {
        /// The holder.
        agent: AgentId,
        /// Which attempt.
        quote: Quote,
        /// Why.
        why: EndOfLease,
        /// For the back-off.
        chance: Chance,
    },
    /// The holder is a new process that knows nothing of this lease: it is lost as if it had lapsed.
    Forget {
        /// The holder.
        agent: AgentId,
        /// The lease that it does not list.
        lease_id: LeaseId,
    },
    /// What brought the task to its holder is gone, and another one sees to it from now on.
    Adopt {
        /// The lease, and the request that it was made by.
        lease_id: LeaseId,
        /// That request.
        of: RequestId,
        /// The request that it is made by from now on.
        by: RequestId,
    },
    /// The sweeper looked at the clock and found the task due (see [`Task::due_at`](super::Task::due_at)).
    Due {
        /// For the back-off after a timeout.
        chance: Chance,
    },
    /// The orchestrator was away: a running lease gets exactly its length anew (G19).
    FreshStart,
    /// An operator ends it.
    Cancel {
        /// The operator's words.
        reason: Option<String>,
    },
}

impl TaskEvent {
    /// The word for this event in refusals and logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Assign { .. } => "assign",
            Self::Renew { .. } => "renew",
            Self::Progress { .. } => "progress",
            Self::Report { .. } => "report",
            Self::Release { .. } => "release",
            Self::Forget { .. } => "forget",
            Self::Adopt { .. } => "adopt",
            Self::Due { .. } => "due",
            Self::FreshStart => "fresh_start",
            Self::Cancel { .. } => "cancel",
        }
    }
}

/// How a report names the attempt it is about; an empty one means the newest (G12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quote {
    /// The lease.
    pub lease_id: Option<LeaseId>,
    /// The attempt's number.
    pub attempt: Option<u32>,
}

impl Quote {
    /// Names the attempt by its lease.
    #[must_use]
    pub fn lease(lease_id: LeaseId) -> Self {
        Self { lease_id: Some(lease_id), attempt: None }
    }
}

/// What a decision needs to know of a reported result; the body stays with the caller.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// What came out.
    pub kind: ReportKind,
    /// The fingerprint of the whole report.
    pub digest: ResultDigest,
}

/// The outcome an agent reports.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ReportKind {
    /// Done.
    Completed,
    /// The work failed.
    Failed {
        /// Its class.
        code: FailureCode,
        /// Whether another attempt may help.
        retryable: bool,
        /// The agent's words.
        message: Option<String>,
    },
    /// The agent will not or cannot do this task; another may.
    Rejected {
        /// REJECTED or UNSUPPORTED_TASK.
        code: FailureCode,
        /// The agent's words.
        message: Option<String>,
    },
}

impl Report {
    /// What `result` says.
    #[must_use]
    pub fn of(result: &TaskResult) -> Self {
        let code = result.error_code.unwrap_or(FailureCode::HandlerError);
        let message = result.error_message.clone();
        let kind = match (result.status, code) {
            (ResultStatus::Completed, _) => ReportKind::Completed,
            (_, FailureCode::Rejected | FailureCode::UnsupportedTask) => ReportKind::Rejected { code, message },
            _ => ReportKind::Failed { code, retryable: result.is_retryable(), message },
        };
        Self { kind, digest: ResultDigest::of(result) }
    }
}

/// Why an attempt ends as `released`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum EndOfLease {
    /// Its agent hands it back; counts towards `max_releases` and backs off, or waits as the agent asks.
    HandedBack {
        /// The agent's words.
        reason: Option<String>,
        /// Not offered again before this has passed.
        retry_after: Option<Duration>,
    },
    /// It surely did not reach its agent; counts towards `max_releases` and backs off.
    Undelivered {
        /// Why it did not.
        reason: String,
    },
    /// Its agent drains: no fault, no back-off.
    Draining,
    /// Its agent deregistered: no fault, no back-off.
    Deregistered,
    /// The caller was gone before the claim was answered: no fault, no back-off.
    Unclaimed,
    /// The server had no place to bring it to its agent: no fault, no back-off.
    NoPlace,
    /// Its agent began with something else while the task was on its way: no fault, no back-off.
    NotFree,
}
