//! Calls that the server makes by itself, as a trait: production uses sockets, simulations do not.

#[cfg(feature = "outbound")]
mod names;
#[cfg(feature = "outbound")]
mod socket;
#[cfg(all(test, feature = "outbound"))]
mod traps;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use eap_types::CallFailure;

#[cfg(feature = "outbound")]
pub(crate) use self::socket::SocketCall;
use crate::store::BoxError;

/// How much of an exchange is waited for and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallLimits {
    /// Covers all of it: finding the address, connecting, sending, waiting and reading.
    pub deadline: Duration,
    /// The longest body that is read, in bytes; `None` reads no further than the headers, and gives an empty body.
    pub answer: Option<usize>,
}

impl CallLimits {
    /// Waits so long for the headers of the answer; its body does not matter.
    #[must_use]
    pub fn headers_within(deadline: Duration) -> Self {
        Self { deadline, answer: None }
    }

    /// Reads a body of at most so many bytes as well.
    #[must_use]
    pub fn with_answer(mut self, bytes: usize) -> Self {
        self.answer = Some(bytes);
        self
    }
}

/// Marks a request, among its extensions, whose URL an operator configured: the profile of the endpoint policy is not for it,
/// everything else is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Configured;

/// A path behind that of a base URL, whose query stays.
pub(crate) fn below(base: &str, path: &str) -> Option<String> {
    let mut url = url::Url::parse(base).ok()?;
    let whole = format!("{}{path}", url.path().trim_end_matches('/'));
    url.set_path(&whole);
    Some(url.into())
}

/// Sends one request to an endpoint that somebody named, and reads the answer.
///
/// An answer with any status is `Ok`; what it means is for the caller. An implementation follows no redirect, uses no
/// proxy, undoes no compression, and calls only what the endpoint policy allows.
#[async_trait]
pub trait OutboundCall: fmt::Debug + Send + Sync + 'static {
    /// Sends `request`, whose URI is absolute, and reads the answer as far as `limits` say.
    ///
    /// # Errors
    ///
    /// There was no answer within the limits. Whether the request arrived may not be known:
    /// [`OutboundError::surely_not_sent`].
    async fn call(
        &self,
        request: http::Request<Bytes>,
        limits: CallLimits,
    ) -> Result<http::Response<Bytes>, OutboundError>;
}

/// Why a request got no answer.
///
/// Neither this text nor those of its causes hold what the peer sent. Others are told [`failure`](Self::failure) and no
/// more: details would let them look around where they cannot go themselves.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboundError {
    /// The endpoint policy does not allow it: nothing was sent.
    #[error("the endpoint policy does not allow this call")]
    Policy {
        /// What it does not allow.
        #[source]
        source: BoxError,
    },
    /// No connection could be made: nothing was sent.
    #[error("no connection to the endpoint")]
    Connect {
        /// What the network said.
        #[source]
        source: BoxError,
    },
    /// The connection could not be secured: nothing was sent.
    #[error("no secure connection to the endpoint")]
    Tls {
        /// What went wrong.
        #[source]
        source: BoxError,
    },
    /// The time was over.
    #[error("the endpoint took too long")]
    Timeout {
        /// Whether there was a connection by then, so that the request may have arrived.
        connected: bool,
    },
    /// The connection broke, or what came was not HTTP; the request may have arrived.
    #[error("the exchange with the endpoint broke off")]
    Broken {
        /// What the network said.
        #[source]
        source: BoxError,
    },
    /// The answer is longer than is read; the request arrived.
    #[error("the answer of the endpoint is longer than {limit} bytes")]
    TooLong {
        /// How much is read at most, in bytes.
        limit: usize,
    },
}

impl OutboundError {
    /// The word that others are told.
    #[must_use]
    pub fn failure(&self) -> CallFailure {
        match self {
            Self::Policy { .. } => CallFailure::Policy,
            Self::Connect { .. } | Self::Broken { .. } => CallFailure::Connect,
            Self::Tls { .. } => CallFailure::Tls,
            Self::Timeout { .. } => CallFailure::Timeout,
            Self::TooLong { .. } => CallFailure::Status,
        }
    }

    /// Whether the request surely did not reach the endpoint.
    #[must_use]
    pub fn surely_not_sent(&self) -> bool {
        match self {
            Self::Policy { .. } | Self::Connect { .. } | Self::Tls { .. } | Self::Timeout { connected: false } => true,
            Self::Timeout { connected: true } | Self::Broken { .. } | Self::TooLong { .. } => false,
        }
    }
}

/// The pause that an answer asks for, where it is given in seconds.
pub(crate) fn retry_after(answer: &http::Response<Bytes>) -> Option<Duration> {
    let text = answer.headers().get(http::header::RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().map(Duration::from_secs).ok()
}
