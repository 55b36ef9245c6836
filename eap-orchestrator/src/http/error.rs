//! Which status and code each error gets; the only place that decides it.

use axum::response::{IntoResponse as _, Response};
use eap_types::agentkit::DetailBody;
use eap_types::{DecodeError, ErrorCode, ProblemBody, header};
use http::{HeaderValue, StatusCode};
use tracing::{error, warn};

use crate::agentkit::Refused;
use crate::error::{Error, causes};
use crate::store::StoreError;

/// Why a request is refused: the orchestrator's reasons, and those of HTTP itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error(transparent)]
    Core(#[from] Error),
    #[error("the body is larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the body must be application/json without content encoding")]
    MediaType,
    #[error("the body did not arrive in time")]
    SlowBody,
    #[error("the body broke off")]
    BrokenBody,
    #[error("there is nothing at this path")]
    NoRoute,
    #[error("this path does not take this method")]
    Method,
    #[error("the orchestrator is not ready yet")]
    NotReady,
    #[error("this path takes the opening handshake of a WebSocket (RFC 6455, version 13)")]
    NoUpgrade,
    #[error("it has {size} bytes, and the range begins after them")]
    BeyondEnd { size: u64 },
}

impl From<DecodeError> for ApiError {
    fn from(error: DecodeError) -> Self {
        Self::Core(match error {
            DecodeError::Invalid { problems } => Error::Invalid { problems },
            other => Error::Unreadable(other),
        })
    }
}

impl ApiError {
    /// The code that the caller gets.
    pub(crate) fn code(&self) -> ErrorCode {
        use ErrorCode as Code;
        let core = match self {
            Self::Core(core) => core,
            Self::TooLarge { .. } => return Code::PayloadTooLarge,
            Self::MediaType => return Code::UnsupportedMediaType,
            Self::SlowBody => return Code::RequestTimeout,
            Self::BrokenBody => return Code::MalformedJson,
            Self::NoRoute => return Code::NotFound,
            Self::Method => return Code::MethodNotAllowed,
            Self::NotReady => return Code::Unavailable,
            Self::NoUpgrade => return Code::UpgradeRequired,
            Self::BeyondEnd { .. } => return Code::RangeNotSatisfiable,
        };
        match core {
            Error::Unreadable(error) => error.code(),
            Error::Invalid { .. } | Error::NameWithoutPrefix => Code::ValidationError,
            Error::InvalidToken | Error::InvalidKey | Error::EndedKey { .. } => Code::InvalidToken,
            Error::RegistrationDenied { .. } => Code::RegistrationDenied,
            Error::Forbidden { .. } | Error::MissingScope { .. } | Error::CannotGrant { .. } => Code::Forbidden,
            Error::UnknownCredential
            | Error::UnknownArtifact
            | Error::NoUploads
            | Error::UnknownWorkflow
            | Error::UnknownSession
            | Error::NoPlatform
            | Error::PlatformUnlisted => Code::NotFound,
            Error::UnknownAgent => Code::AgentNotFound,
            Error::UnknownTask => Code::TaskNotFound,
            Error::LeaseLost { .. } => Code::LeaseLost,
            Error::ResultConflict { .. } => Code::ResultConflict,
            Error::TaskFinal { .. } => Code::TaskFinal,
            Error::SessionFinal { .. } => Code::SessionFinal,
            Error::WorkflowExists { .. } => Code::WorkflowExists,
            Error::OutputFull { .. } | Error::UploadsFull { .. } => Code::PayloadTooLarge,
            Error::UploadOffset { .. } => Code::UploadOffset,
            Error::DigestMismatch { .. } | Error::UploadLength => Code::DigestMismatch,
            Error::IdempotencyConflict => Code::IdempotencyConflict,
            Error::NotDeadLetter { .. } | Error::LetterDiscarded => Code::NotADeadLetter,
            Error::TooMany { .. } => Code::RateLimited,
            Error::Draining | Error::Store(StoreError::Closed) => Code::Draining,
            Error::Busy { .. } | Error::Artifacts(_) | Error::Store(_) | Error::PlatformSilent { .. } => {
                Code::Unavailable
            }
            Error::Broken => Code::InternalError,
        }
    }

    /// The problem body; the log gets the causes, the caller does not.
    pub(crate) fn problem(&self, request_id: &str) -> ProblemBody {
        let code = self.code();
        match self {
            Self::Core(Error::Unreadable(error)) => ProblemBody::new(code, error.to_string(), request_id),
            Self::Core(Error::Invalid { problems }) => {
                ProblemBody::of_decode(DecodeError::Invalid { problems: problems.clone() }, request_id)
            }
            // OpenCode answers this one with 400.
            Self::Core(Error::NameWithoutPrefix) => {
                let mut problem = ProblemBody::new(code, self.to_string(), request_id);
                problem.status = 400;
                problem
            }
            Self::Core(Error::LeaseLost { stop: Some(stop) } | Error::TaskFinal { stop: Some(stop), .. }) => {
                ProblemBody::new(code, self.to_string(), request_id).with_cause(stop.cause, stop.reason.clone())
            }
            Self::Core(Error::Store(_) | Error::Artifacts(_)) => {
                ProblemBody::new(code, "the store cannot answer now; try again", request_id)
            }
            _ => ProblemBody::new(code, self.to_string(), request_id),
        }
    }
}

/// The answer to a request that is refused.
pub(crate) fn response(refusal: &ApiError, request_id: &str) -> Response {
    let problem = refusal.problem(request_id);
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    log(refusal, status, request_id);
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(header::PROBLEM_JSON));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(header::REQUEST_ID, id);
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        headers.insert(http::header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if let ApiError::BeyondEnd { size } = refusal
        && let Ok(range) = HeaderValue::from_str(&format!("bytes */{size}"))
    {
        headers.insert(http::header::CONTENT_RANGE, range);
    }
    response
}

/// The status of a refusal of the agent platform's face.
pub(crate) fn detail_status(refusal: &Refused) -> StatusCode {
    let status = match refusal {
        Refused::Api(refusal) => refusal.code().status(),
        Refused::NotServed
        | Refused::NoAgent { .. }
        | Refused::NoState { .. }
        | Refused::NoWorkflow { .. }
        | Refused::NoSession { .. } => 404,
        Refused::Distrusted(_) | Refused::NoKey | Refused::WrongKey => 401,
        Refused::UnknownEvent { .. } | Refused::MissingId { .. } | Refused::OtherAgent => 400,
        Refused::Unreadable(_) => 422,
    };
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The answer to a call of the agent platform's face that is refused, in the body that it has for that.
pub(crate) fn detail(refusal: &Refused) -> Response {
    let status = detail_status(refusal);
    let body = match refusal {
        Refused::Unreadable(error) => DetailBody::of_decode(error),
        Refused::Api(ApiError::Core(Error::Store(_) | Error::Artifacts(_))) => {
            DetailBody::text("the store cannot answer now; try again")
        }
        refusal => DetailBody::text(refusal.to_string()),
    };
    if let Refused::Api(refusal) = refusal {
        log(refusal, status, "");
    }
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let mut response = (status, [(http::header::CONTENT_TYPE, header::JSON)], body).into_response();
    let headers = response.headers_mut();
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        headers.insert(http::header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// The answer to a target that is no path of ours (`GET http://other/…`, `CONNECT …`): refused before there is a
/// request, so it has no body.
pub(crate) fn bad_target() -> Response {
    (StatusCode::BAD_REQUEST, [(http::header::CONNECTION, "close")]).into_response()
}

fn log(refusal: &ApiError, status: StatusCode, request_id: &str) {
    if !status.is_server_error() {
        return;
    }
    let causes = causes(refusal);
    match refusal {
        ApiError::Core(Error::Broken | Error::Store(StoreError::Failed { .. })) => {
            error!(request_id, status = status.as_u16(), causes, "a request failed");
        }
        ApiError::Core(Error::Draining) | ApiError::NotReady => {}
        _ => warn!(request_id, status = status.as_u16(), causes, "a request was refused"),
    }
}
