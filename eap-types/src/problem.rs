//! The one body for every 4xx and 5xx, and the problems of single fields in it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CancelCause, DecodeError, ErrorCode};

/// One thing that is wrong with one field of a body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{field}: {message}")]
#[non_exhaustive]
pub struct FieldProblem {
    /// Where the field stands, as in `body.tasks[0].lease_id`.
    #[serde(default)]
    pub field: String,
    /// What is wrong, in words that follow the name of the field.
    #[serde(default)]
    pub message: String,
    /// The kind of problem as a stable word: `missing`, `type_error`, `value_error`, `duplicate`
    /// or `not_supported`.
    #[serde(default, rename = "type")]
    pub kind: String,
}

impl FieldProblem {
    /// Describes a problem of the field at this path.
    #[must_use]
    pub fn new(field: impl Into<String>, kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into(), kind: kind.into() }
    }
}

/// The body of every 4xx and 5xx, readable by older clients and by RFC 9457 at once.
///
/// It is read leniently, because it may come from an older orchestrator or from a proxy: what is
/// absent is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct ProblemBody {
    /// The URN of the code, as in `urn:eap:error:lease-lost`.
    #[serde(rename = "type", deserialize_with = "crate::macros::null_as_default")]
    pub kind: String,
    /// A few words that name the problem, the same for every answer with this code.
    #[serde(deserialize_with = "crate::macros::null_as_default")]
    pub title: String,
    /// The HTTP status, for readers that see the body alone.
    #[serde(deserialize_with = "crate::macros::null_as_default")]
    pub status: u16,
    /// One sentence about this answer.
    #[serde(deserialize_with = "crate::macros::null_as_default")]
    pub detail: String,
    /// The code as text, because a newer server may send one that is not known here.
    #[schemars(with = "ErrorCode")]
    #[serde(deserialize_with = "crate::macros::null_as_default")]
    pub code: String,
    /// The same as `code`, for older clients.
    #[schemars(with = "ErrorCode")]
    #[serde(deserialize_with = "crate::macros::null_as_default")]
    pub error: String,
    /// The same as `detail`, for older clients.
    #[serde(deserialize_with = "crate::macros::null_as_default")]
    pub message: String,
    /// What is wrong field by field; empty, but always there, for other errors.
    #[serde(deserialize_with = "crate::macros::null_as_default")]
    pub details: Vec<FieldProblem>,
    /// Finds the request in the server's log.
    #[serde(deserialize_with = "crate::macros::null_as_default")]
    pub request_id: String,
    /// Whether the same request may succeed later.
    #[serde(deserialize_with = "crate::macros::null_as_default")]
    pub retryable: bool,
    /// Why the server ended the attempt that the request is about, as the directive `cancel` says it: for an agent whose
    /// request is refused for that reason alone.
    #[serde(deserialize_with = "crate::macros::known_word", skip_serializing_if = "Option::is_none")]
    pub cause: Option<CancelCause>,
    /// The same for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl ProblemBody {
    /// Describes a refusal in one sentence, without details.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<String>, request_id: impl Into<String>) -> Self {
        let detail = detail.into();
        Self {
            kind: code.urn(),
            title: code.title().to_owned(),
            status: code.status(),
            message: detail.clone(),
            detail,
            code: code.as_str().to_owned(),
            error: code.as_str().to_owned(),
            details: Vec::new(),
            request_id: request_id.into(),
            retryable: code.is_retryable(),
            cause: None,
            reason: None,
        }
    }

    /// Describes a body that could not be read, with every problem found in it.
    #[must_use]
    pub fn of_decode(error: DecodeError, request_id: impl Into<String>) -> Self {
        let code = error.code();
        match error {
            DecodeError::Invalid { problems } => {
                let detail = match problems.len() {
                    1 => "The request has a field that is not valid.".to_owned(),
                    count => format!("The request has {count} problems."),
                };
                Self::new(code, detail, request_id).with_details(problems)
            }
            other => Self::new(code, other.to_string(), request_id),
        }
    }

    /// Adds what is wrong field by field.
    #[must_use]
    pub fn with_details(mut self, details: Vec<FieldProblem>) -> Self {
        self.details = details;
        self
    }

    /// Says why the server ended the attempt that the request is about.
    #[must_use]
    pub fn with_cause(mut self, cause: CancelCause, reason: Option<String>) -> Self {
        self.cause = Some(cause);
        self.reason = reason;
        self
    }

    /// Gives the code, or `None` for one that this version does not know.
    #[must_use]
    pub fn error_code(&self) -> Option<ErrorCode> {
        self.code.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_the_one_of_the_protocol() {
        let body = ProblemBody::new(ErrorCode::LeaseLost, "The lease ended.", "req-1");
        assert_eq!(
            serde_json::to_value(body).unwrap(),
            serde_json::json!({
                "type": "urn:eap:error:lease-lost",
                "title": "Lease lost",
                "status": 409,
                "detail": "The lease ended.",
                "code": "LEASE_LOST",
                "error": "LEASE_LOST",
                "message": "The lease ended.",
                "details": [],
                "request_id": "req-1",
                "retryable": false,
            })
        );
    }

    #[test]
    fn a_body_that_could_not_be_read_is_answered_with_every_problem() {
        let problems = vec![FieldProblem::new("body.x", "missing", "is required")];
        let body = ProblemBody::of_decode(DecodeError::Invalid { problems: problems.clone() }, "req-1");
        assert_eq!((body.status, body.details), (422, problems));
        let body = ProblemBody::of_decode(DecodeError::TooDeep, "req-1");
        assert_eq!((body.error_code(), body.details), (Some(ErrorCode::MalformedJson), vec![]));
        let given = "2.0".to_owned();
        let body = ProblemBody::of_decode(DecodeError::UnsupportedVersion { given }, "req-1");
        assert_eq!(body.code, "UNSUPPORTED_VERSION");
        assert!(body.detail.contains("1.0"), "the answer names what is supported: {}", body.detail);
    }

    #[test]
    fn the_answer_of_another_server_is_read_as_far_as_it_goes() {
        let body: ProblemBody = serde_json::from_str(r#"{"detail": "Agent not found"}"#).unwrap();
        assert_eq!((body.detail.as_str(), body.error_code()), ("Agent not found", None));
        let body: ProblemBody = serde_json::from_str(r#"{"code": "FROM_THE_FUTURE"}"#).unwrap();
        assert_eq!((body.code.as_str(), body.error_code()), ("FROM_THE_FUTURE", None));
        let body: ProblemBody = serde_json::from_str(r#"{"code": "LEASE_LOST", "cause": "moonlight"}"#).unwrap();
        assert_eq!((body.error_code(), body.cause), (Some(ErrorCode::LeaseLost), None));
        let body: ProblemBody = serde_json::from_str(r#"{"code": "LEASE_LOST", "cause": "timeout"}"#).unwrap();
        assert_eq!(body.cause, Some(CancelCause::Timeout));
    }
}
