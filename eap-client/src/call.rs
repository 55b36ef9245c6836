//! One HTTP exchange, as a trait: production uses a socket, tests and simulations do not.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

/// An error of another crate, kept as a cause and not as a type.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Sends one request and reads the whole answer.
///
/// An answer with any status is `Ok`; what it means is for the caller. An implementation follows no
/// redirects, because requests carry tokens.
#[async_trait]
pub trait HttpCall: fmt::Debug + Send + Sync {
    /// Sends `request`, whose URI is absolute, and reads the answer to its end.
    ///
    /// `deadline` covers all of it: connecting, sending, waiting and reading.
    ///
    /// # Errors
    ///
    /// There was no whole answer; whether the request arrived is known only for
    /// [`CallError::Connect`] and [`CallError::Setup`]: it did not.
    async fn call(&self, request: http::Request<Bytes>, deadline: Duration)
    -> Result<http::Response<Bytes>, CallError>;

    /// Sends `request` and gives the answer once its head is there; the body comes piece by piece, for as long as there
    /// is one. The stream of events and artifacts need it: an exchange that has only whole answers refuses, as here.
    ///
    /// `deadline` covers connecting, sending and waiting for the head.
    ///
    /// # Errors
    ///
    /// As those of [`HttpCall::call`].
    async fn open(
        &self,
        request: http::Request<Bytes>,
        deadline: Duration,
    ) -> Result<http::Response<Box<dyn AnswerBody>>, CallError> {
        let _ = (request, deadline);
        Err(CallError::Setup { source: "this exchange gives whole answers only".into() })
    }

    /// Sends `request`, which asks to go on with another protocol (RFC 9110, section 7.8). Only an agent's WebSocket needs
    /// it: an exchange that cannot do so refuses, as here.
    ///
    /// `deadline` covers connecting, sending and the whole of the answer's head.
    ///
    /// # Errors
    ///
    /// As those of [`HttpCall::call`].
    async fn upgrade(&self, request: http::Request<Bytes>, deadline: Duration) -> Result<Upgrade, CallError> {
        let _ = (request, deadline);
        Err(CallError::Setup { source: "this exchange cannot go on with another protocol".into() })
    }
}

/// The answer to a request for another protocol.
pub enum Upgrade {
    /// The server changes the protocol: the headers of its 101, and the connection.
    Switched(http::HeaderMap, Box<dyn Connection>),
    /// The server answers as to any other request.
    Answered(http::Response<Bytes>),
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switched(..) => f.write_str("Switched"),
            Self::Answered(answer) => f.debug_tuple("Answered").field(&answer.status()).finish(),
        }
    }
}

/// A connection that speaks another protocol now.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// The body of an answer that goes on; dropping it closes the exchange.
#[async_trait]
pub trait AnswerBody: Send {
    /// The next piece once there is one, `None` at the end. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// The connection broke.
    async fn piece(&mut self) -> Result<Option<Bytes>, CallError>;
}

/// Why a request got no whole answer.
///
/// Neither this text nor those of its causes hold URLs, tokens or bodies.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// No connection could be made: the request did not arrive.
    #[error("no connection to the server")]
    Connect {
        /// What the network said.
        #[source]
        source: BoxError,
    },
    /// The deadline passed first; the request may have arrived.
    #[error("no answer within {}", Seconds(*.deadline))]
    Timeout {
        /// How long the call had.
        deadline: Duration,
    },
    /// The connection broke, or what came was not HTTP; the request may have arrived.
    #[error("the exchange with the server broke off")]
    Broken {
        /// What the network said.
        #[source]
        source: BoxError,
    },
    /// The answer is longer than is read; the request arrived.
    #[error("the answer is longer than {limit} bytes")]
    TooLarge {
        /// How much is read at most, in bytes.
        limit: usize,
    },
    /// The client could not be built, or the request could not be sent by it.
    #[error("the HTTP client cannot make this call")]
    Setup {
        /// What it lacked.
        #[source]
        source: BoxError,
    },
}

impl CallError {
    /// Whether the request surely did not reach the server.
    pub fn surely_not_sent(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Setup { .. })
    }
}

struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} s", self.0.as_secs_f64())
    }
}
