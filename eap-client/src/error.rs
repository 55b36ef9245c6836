//! What a call can come to.

use std::time::Duration;

use eap_types::{ErrorCode, ProblemBody};

use crate::call::{BoxError, CallError};

/// Why a call did not give what was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// There was no answer.
    #[error("the call got no answer")]
    Call(#[from] CallError),
    /// The server refused, and said why.
    #[error("the server refused with {} {}: {}", .problem.status, .problem.code, .problem.detail)]
    Refused {
        /// The server's words; `status` is always that of the answer itself.
        problem: Box<ProblemBody>,
        /// How long the server asked to wait.
        retry_after: Option<Duration>,
    },
    /// The answer is neither what was asked for nor a problem of the protocol: perhaps another
    /// program answered, or a proxy.
    #[error("the answer with status {status} is not one of the protocol")]
    Unreadable {
        /// The HTTP status.
        status: u16,
        /// How long the server asked to wait.
        retry_after: Option<Duration>,
        /// What is wrong with the body of a successful answer.
        #[source]
        source: Option<BoxError>,
    },
    /// What came of an artifact is not what the server announced: cut off or changed on its way, or where it was kept.
    #[error("what came is not what the server announced")]
    Altered,
    /// The address of the server cannot be used.
    #[error("the server's address {why}")]
    BaseUrl {
        /// The rule it breaks.
        why: &'static str,
    },
    /// A token, secret or key holds characters that no header can carry.
    #[error("the value for the header {header} holds characters that cannot be sent")]
    Header {
        /// The header it was meant for.
        header: &'static str,
    },
}

impl ClientError {
    /// The HTTP status of the answer, if there was one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { problem, .. } => Some(problem.status),
            Self::Unreadable { status, .. } => Some(*status),
            Self::Call(_) | Self::Altered | Self::BaseUrl { .. } | Self::Header { .. } => None,
        }
    }

    /// The protocol's code for the refusal, if the server gave one that is known here.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { problem, .. } => problem.error_code(),
            _ => None,
        }
    }

    /// The server's words, if it refused with a problem body.
    pub fn problem(&self) -> Option<&ProblemBody> {
        match self {
            Self::Refused { problem, .. } => Some(problem),
            _ => None,
        }
    }

    /// Whether the same request will never be answered otherwise (RELIABILITY.md G20): the server
    /// refused with a 4xx other than 401, 408, 425 and 429.
    ///
    /// An answer that is not the protocol's may be another program's, as the 404 page of a proxy whose
    /// server is starting: only its 413 is definitive, for that a proxy says too.
    pub fn is_definitive(&self) -> bool {
        match self {
            Self::Refused { problem, .. } => {
                matches!(problem.status, 400..=499) && !matches!(problem.status, 401 | 408 | 425 | 429)
            }
            Self::Unreadable { status, .. } => *status == 413,
            Self::Call(_) | Self::Altered | Self::BaseUrl { .. } | Self::Header { .. } => false,
        }
    }

    /// How long the server asked to wait before the next try.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } | Self::Unreadable { retry_after, .. } => *retry_after,
            Self::Call(_) | Self::Altered | Self::BaseUrl { .. } | Self::Header { .. } => None,
        }
    }
}
