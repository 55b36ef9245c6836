//! How a call becomes a request, and an answer a value.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use eap_types::{IdempotencyKey, ProblemBody, Secret, header};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::call::{AnswerBody, BoxError, CallError, HttpCall};
#[cfg(feature = "websocket")]
use crate::call::{Connection, Upgrade};
use crate::error::ClientError;

/// How long a call may take when it waits for nothing but its answer.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);

/// The longest refusal of a stream that is read, in bytes.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;

/// What a call that waits on purpose gets on top of its wait.
const WAIT_MARGIN: Duration = Duration::from_secs(10);

/// A server's address and the way to reach it.
#[derive(Clone)]
pub(crate) struct Wire {
    /// Scheme, host and port: what a path of the server is put behind.
    origin: Arc<str>,
    /// The path that all of the protocol's own paths stand behind; empty or `/…` without a last `/`.
    prefix: Arc<str>,
    http: Arc<dyn HttpCall>,
    deadline: Duration,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base_url())
    }
}

impl Wire {
    pub(crate) fn new(base_url: &str, http: Arc<dyn HttpCall>) -> Result<Self, ClientError> {
        let refuse = |why| Err(ClientError::BaseUrl { why });
        let Ok(url) = Url::parse(base_url) else {
            return refuse("is not an absolute URL");
        };
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return refuse("must start with http:// or https:// and name a host");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("must not carry a user name or password");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return refuse("must not have a query or a fragment");
        }
        Ok(Self {
            origin: url.origin().ascii_serialization().into(),
            prefix: url.path().trim_end_matches('/').into(),
            http,
            deadline: DEFAULT_DEADLINE,
        })
    }

    pub(crate) fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long a call may take.
    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The address in its one spelling, without a `/` at the end.
    pub(crate) fn base_url(&self) -> String {
        format!("{}{}", self.origin, self.prefix)
    }

    /// Puts a path of the protocol behind the base.
    pub(crate) fn under_base(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// Starts a request to a path of the server, as [`Wire::under_base`] makes it or an answer gave it.
    pub(crate) fn request(&self, method: Method, path: &str) -> Request<'_> {
        Request {
            wire: self,
            method,
            url: format!("{}{path}", self.origin),
            headers: Ok(HeaderMap::new()),
            body: Bytes::new(),
            deadline: self.deadline,
        }
    }
}

/// A request being put together.
pub(crate) struct Request<'a> {
    wire: &'a Wire,
    method: Method,
    url: String,
    headers: Result<HeaderMap, ClientError>,
    body: Bytes,
    deadline: Duration,
}

impl Request<'_> {
    pub(crate) fn json(mut self, body: &impl Serialize) -> Self {
        self.body = serde_json::to_vec(body).expect("every payload of the protocol has a JSON form").into();
        self.header(header::CONTENT_TYPE, header::JSON)
    }

    pub(crate) fn bytes(mut self, body: Bytes) -> Self {
        self.body = body;
        self.header(header::CONTENT_TYPE, header::OCTET_STREAM)
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.put(name, value, false);
        self
    }

    pub(crate) fn secret(mut self, name: &'static str, value: &Secret) -> Self {
        self.put(name, value.expose(), true);
        self
    }

    pub(crate) fn bearer(mut self, value: &Secret) -> Self {
        self.put(header::AUTHORIZATION, &format!("Bearer {}", value.expose()), true);
        self
    }

    /// Lets the call be repeated with the effect of one.
    pub(crate) fn idempotency_key(self, key: Option<&IdempotencyKey>) -> Self {
        match key {
            Some(key) => self.header(header::IDEMPOTENCY_KEY, key.as_str()),
            None => self,
        }
    }

    /// Gives the call time for a wait that it asks for.
    pub(crate) fn waiting(mut self, wait: Duration) -> Self {
        self.deadline = wait.saturating_add(WAIT_MARGIN);
        self
    }

    fn put(&mut self, name: &'static str, value: &str, is_secret: bool) {
        let Ok(headers) = &mut self.headers else { return };
        match HeaderValue::from_str(value) {
            Ok(mut value) => {
                value.set_sensitive(is_secret);
                headers.insert(HeaderName::from_static(name), value);
            }
            Err(_) => self.headers = Err(ClientError::Header { header: name }),
        }
    }

    pub(crate) async fn send(self) -> Result<Answer, ClientError> {
        let (wire, deadline) = (self.wire, self.deadline);
        let response = wire.http.call(self.put_together()?, deadline).await?;
        Ok(Answer::new(response))
    }

    /// Sends it and gives the body as it comes, if it is of this media type.
    pub(crate) async fn open(self, media_type: &str) -> Result<Box<dyn AnswerBody>, ClientError> {
        let (answer, headers, body) = self.begin().await?;
        let given = headers.get(header::CONTENT_TYPE).and_then(|given| given.to_str().ok()).unwrap_or_default();
        let is_asked_for = given.split(';').next().is_some_and(|given| given.trim().eq_ignore_ascii_case(media_type));
        if is_asked_for { Ok(body) } else { Err(answer.unreadable(None)) }
    }

    /// The same whatever the media type is, with the headers.
    pub(crate) async fn open_any(self) -> Result<(HeaderMap, Box<dyn AnswerBody>), ClientError> {
        let (_, headers, body) = self.begin().await?;
        Ok((headers, body))
    }

    /// Sends it and reads the head of a success, or all of a refusal.
    async fn begin(self) -> Result<(Answer, HeaderMap, Box<dyn AnswerBody>), ClientError> {
        let (wire, deadline) = (self.wire, self.deadline);
        let response = wire.http.open(self.put_together()?, deadline).await?;
        let (head, body) = response.into_parts();
        let mut answer = Answer { status: head.status, retry_after: retry_after(&head.headers), body: Bytes::new() };
        if !head.status.is_success() {
            let read = tokio::time::timeout(deadline, whole(body)).await;
            answer.body = read.unwrap_or(Err(CallError::Timeout { deadline }))?;
            return Err(answer.refusal());
        }
        Ok((answer, head.headers, body))
    }

    /// Asks to go on with another protocol: the headers of the 101, and the connection.
    #[cfg(feature = "websocket")]
    pub(crate) async fn upgrade(self) -> Result<(HeaderMap, Box<dyn Connection>), ClientError> {
        let (wire, deadline) = (self.wire, self.deadline);
        match wire.http.upgrade(self.put_together()?, deadline).await? {
            Upgrade::Switched(headers, connection) => Ok((headers, connection)),
            Upgrade::Answered(answer) => Err(Answer::new(answer).refusal()),
        }
    }

    fn put_together(self) -> Result<http::Request<Bytes>, ClientError> {
        let mut request = http::Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() =
            self.url.parse().map_err(|_| ClientError::BaseUrl { why: "or a path of it is not a valid URI" })?;
        *request.headers_mut() = self.headers?;
        Ok(request)
    }
}

/// The body of a refusal, which is short.
async fn whole(mut body: Box<dyn AnswerBody>) -> Result<Bytes, CallError> {
    let mut read = BytesMut::new();
    while let Some(piece) = body.piece().await? {
        if read.len() + piece.len() > MAX_REFUSAL_BYTES {
            return Err(CallError::TooLarge { limit: MAX_REFUSAL_BYTES });
        }
        read.extend_from_slice(&piece);
    }
    Ok(read.freeze())
}

/// The whole answer to a request.
pub(crate) struct Answer {
    status: StatusCode,
    retry_after: Option<Duration>,
    body: Bytes,
}

impl Answer {
    fn new(response: http::Response<Bytes>) -> Self {
        let retry_after = retry_after(response.headers());
        Self { status: response.status(), retry_after, body: response.into_body() }
    }

    /// What a frame answers: a success, or a problem with its status.
    #[cfg(feature = "websocket")]
    pub(crate) fn of_frame(status: StatusCode, body: String) -> Self {
        Self { status, retry_after: None, body: body.into() }
    }

    /// Reads a success as `T`, and anything else as the error it is.
    pub(crate) fn read<T: DeserializeOwned>(self) -> Result<T, ClientError> {
        if !self.status.is_success() {
            return Err(self.refusal());
        }
        serde_json::from_slice(&self.body).map_err(|error| self.unreadable(Some(error.into())))
    }

    /// Reads a success as `T`, or as `None` when it has no body.
    pub(crate) fn read_optional<T: DeserializeOwned>(self) -> Result<Option<T>, ClientError> {
        if self.status.is_success() && self.body.is_empty() { Ok(None) } else { self.read().map(Some) }
    }

    /// Takes any success, and anything else as the error it is.
    pub(crate) fn nothing(self) -> Result<(), ClientError> {
        if self.status.is_success() { Ok(()) } else { Err(self.refusal()) }
    }

    /// Reads the body as `T` whatever the status is, if it is one.
    pub(crate) fn read_any<T: DeserializeOwned>(self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body).or_else(|_| self.read())
    }

    fn refusal(self) -> ClientError {
        match serde_json::from_slice::<ProblemBody>(&self.body) {
            // An older orchestrator may send `detail` alone; what has neither is no problem body.
            Ok(mut problem) if !(problem.code.is_empty() && problem.detail.is_empty()) => {
                problem.status = self.status.as_u16();
                ClientError::Refused { problem: Box::new(problem), retry_after: self.retry_after }
            }
            _ => self.unreadable(None),
        }
    }

    pub(crate) fn unreadable(&self, source: Option<BoxError>) -> ClientError {
        ClientError::Unreadable { status: self.status.as_u16(), retry_after: self.retry_after, source }
    }
}

/// Only seconds: a date would have to be compared with a clock that may be wrong.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}
