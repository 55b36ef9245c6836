//! What can go wrong, in one stable word each.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::IdError;

/// Says what went wrong in one stable word (PROTOCOL.md section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum ErrorCode {
    /// Fields of the body are missing or wrong.
    ValidationError,
    /// The body is not JSON, or nested too deeply.
    MalformedJson,
    /// The peer speaks another major version of the protocol.
    UnsupportedVersion,
    /// The token is wrong, or the agent unknown: the answer does not say which.
    InvalidToken,
    /// The signature of a webhook does not match.
    InvalidSignature,
    /// The registration secret is missing or wrong, or another one owns the identity.
    RegistrationDenied,
    /// The key is valid and does not allow this.
    Forbidden,
    /// There is no such agent for this caller.
    AgentNotFound,
    /// There is no such task for this caller.
    TaskNotFound,
    /// There is nothing at this path.
    NotFound,
    /// The path exists and the method does not.
    MethodNotAllowed,
    /// The path takes the opening handshake of a WebSocket.
    UpgradeRequired,
    /// The request did not arrive whole in time.
    RequestTimeout,
    /// The task is no longer the caller's.
    LeaseLost,
    /// The attempt already ended with another result.
    ResultConflict,
    /// The task has reached a final state and does not leave it.
    TaskFinal,
    /// The session is over, and is neither paused, resumed nor cancelled.
    SessionFinal,
    /// This version of the workflow is kept already, and reads otherwise.
    WorkflowExists,
    /// The idempotency key was used with another body.
    IdempotencyConflict,
    /// The task did neither fail for good nor die, or its dead letter was discarded.
    NotADeadLetter,
    /// The part does not go on where the upload stands: ask where that is.
    UploadOffset,
    /// What came is something else than its digest says.
    DigestMismatch,
    /// The body is larger than the route allows.
    PayloadTooLarge,
    /// Nothing of what is asked for lies within the range.
    RangeNotSatisfiable,
    /// The URI is longer than the server reads.
    UriTooLong,
    /// The body is not announced as JSON.
    UnsupportedMediaType,
    /// Too many requests; `Retry-After` says when to come back.
    RateLimited,
    /// The headers are larger than the server reads.
    HeadersTooLarge,
    /// The server failed; its log says why, under the request id.
    InternalError,
    /// The server cannot do this now; `Retry-After` says when to come back.
    Unavailable,
    /// The server is stopping and takes no more work.
    Draining,
}

impl ErrorCode {
    /// All codes, in the order of the protocol.
    pub const ALL: [Self; 31] = [
        Self::ValidationError,
        Self::MalformedJson,
        Self::UnsupportedVersion,
        Self::InvalidToken,
        Self::InvalidSignature,
        Self::RegistrationDenied,
        Self::Forbidden,
        Self::AgentNotFound,
        Self::TaskNotFound,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::UpgradeRequired,
        Self::RequestTimeout,
        Self::LeaseLost,
        Self::ResultConflict,
        Self::TaskFinal,
        Self::SessionFinal,
        Self::WorkflowExists,
        Self::IdempotencyConflict,
        Self::NotADeadLetter,
        Self::UploadOffset,
        Self::DigestMismatch,
        Self::PayloadTooLarge,
        Self::RangeNotSatisfiable,
        Self::UriTooLong,
        Self::UnsupportedMediaType,
        Self::RateLimited,
        Self::HeadersTooLarge,
        Self::InternalError,
        Self::Unavailable,
        Self::Draining,
    ];

    /// Gives the word on the wire, as in `LEASE_LOST`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.facts().0
    }

    /// Gives the HTTP status that goes with the code.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.facts().1
    }

    /// Gives the few words that name the problem for people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.facts().2
    }

    /// Gives the URN of RFC 9457's `type`, as in `urn:eap:error:lease-lost`.
    #[must_use]
    pub fn urn(self) -> String {
        format!("urn:eap:error:{}", self.as_str().to_ascii_lowercase().replace('_', "-"))
    }

    /// Says whether the same request may succeed later.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::RequestTimeout | Self::RateLimited | Self::InternalError | Self::Unavailable | Self::Draining
        )
    }

    #[rustfmt::skip] // a table is read by its columns
    const fn facts(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::ValidationError => ("VALIDATION_ERROR", 422, "Validation error"),
            Self::MalformedJson => ("MALFORMED_JSON", 400, "Malformed JSON"),
            Self::UnsupportedVersion => ("UNSUPPORTED_VERSION", 400, "Unsupported protocol version"),
            Self::InvalidToken => ("INVALID_TOKEN", 401, "Invalid token"),
            Self::InvalidSignature => ("INVALID_SIGNATURE", 401, "Invalid signature"),
            Self::RegistrationDenied => ("REGISTRATION_DENIED", 403, "Registration denied"),
            Self::Forbidden => ("FORBIDDEN", 403, "Forbidden"),
            Self::AgentNotFound => ("AGENT_NOT_FOUND", 404, "Agent not found"),
            Self::TaskNotFound => ("TASK_NOT_FOUND", 404, "Task not found"),
            Self::NotFound => ("NOT_FOUND", 404, "Not found"),
            Self::MethodNotAllowed => ("METHOD_NOT_ALLOWED", 405, "Method not allowed"),
            Self::UpgradeRequired => ("UPGRADE_REQUIRED", 426, "Upgrade required"),
            Self::RequestTimeout => ("REQUEST_TIMEOUT", 408, "Request timeout"),
            Self::LeaseLost => ("LEASE_LOST", 409, "Lease lost"),
            Self::ResultConflict => ("RESULT_CONFLICT", 409, "Result conflict"),
            Self::TaskFinal => ("TASK_FINAL", 409, "Task is final"),
            Self::SessionFinal => ("SESSION_FINAL", 409, "Session is final"),
            Self::WorkflowExists => ("WORKFLOW_EXISTS", 409, "Workflow exists"),
            Self::IdempotencyConflict => ("IDEMPOTENCY_CONFLICT", 409, "Idempotency conflict"),
            Self::NotADeadLetter => ("NOT_A_DEAD_LETTER", 409, "Not a dead letter"),
            Self::UploadOffset => ("UPLOAD_OFFSET", 409, "Upload goes on elsewhere"),
            Self::DigestMismatch => ("DIGEST_MISMATCH", 422, "Digest mismatch"),
            Self::PayloadTooLarge => ("PAYLOAD_TOO_LARGE", 413, "Payload too large"),
            Self::RangeNotSatisfiable => ("RANGE_NOT_SATISFIABLE", 416, "Range not satisfiable"),
            Self::UriTooLong => ("URI_TOO_LONG", 414, "URI too long"),
            Self::UnsupportedMediaType => ("UNSUPPORTED_MEDIA_TYPE", 415, "Unsupported media type"),
            Self::RateLimited => ("RATE_LIMITED", 429, "Rate limited"),
            Self::HeadersTooLarge => ("HEADERS_TOO_LARGE", 431, "Headers too large"),
            Self::InternalError => ("INTERNAL_ERROR", 500, "Internal error"),
            Self::Unavailable => ("UNAVAILABLE", 503, "Unavailable"),
            Self::Draining => ("DRAINING", 503, "Draining"),
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ErrorCode {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|code| code.as_str() == text)
            .ok_or(IdError::new("error code", "must be a code of the protocol"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_has_one_spelling_everywhere() {
        for code in ErrorCode::ALL {
            assert_eq!(code.as_str().parse(), Ok(code));
            assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{code}\""));
            assert_eq!(code.urn(), code.urn().to_ascii_lowercase());
        }
        let words: BTreeSet<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(words.len(), ErrorCode::ALL.len());
        assert_eq!(ErrorCode::LeaseLost.urn(), "urn:eap:error:lease-lost");
    }

    #[test]
    fn a_repeat_is_advised_only_where_it_can_help() {
        let retryable: Vec<_> = ErrorCode::ALL.into_iter().filter(|code| code.is_retryable()).collect();
        let mut statuses: Vec<_> = retryable.iter().map(|code| code.status()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [408, 429, 500, 503, 503]);
    }
}
