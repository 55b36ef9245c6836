//! Taking a request apart, in the order in which refusals are due: 401, 415 and 413, 400, 404, 422.

use std::sync::Arc;

use axum::extract::{FromRequestParts as _, RawPathParams, Request};
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use eap_types::{
    AgentId, ArtifactPath, CredentialId, Decode, DecodeError, Fields, Scope, Secret, SessionId, TaskId, TaskType,
    WorkflowId, from_json, header,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt as _;
use serde::Serialize;

use super::error::ApiError;
use crate::auth::{AgentToken, Ends, Operator, Origin};
use crate::canary;
use crate::directory::Entry;
use crate::error::Error;
use crate::orchestrator::Orchestrator;

/// A call by an agent that proved who it is.
pub(crate) struct AgentCall<T> {
    pub(crate) entry: Arc<Entry>,
    /// SHA-256 of the token it came with.
    pub(crate) token: [u8; 32],
    /// The task in the path, if the route has one.
    pub(crate) task: Option<TaskId>,
    pub(crate) body: T,
}

impl<T: Decode> AgentCall<T> {
    /// Reads a call whose body is required and at most `limit` bytes long.
    pub(crate) async fn read(
        orchestrator: &Orchestrator,
        request: Request,
        limit: impl FnOnce(&Entry) -> usize,
    ) -> Result<Self, ApiError> {
        Self::read_body(orchestrator, request, limit, None).await
    }

    /// The same, where an empty body means `absent`.
    pub(crate) async fn read_or(
        orchestrator: &Orchestrator,
        request: Request,
        limit: usize,
        absent: T,
    ) -> Result<Self, ApiError> {
        Self::read_body(orchestrator, request, |_| limit, Some(absent)).await
    }

    async fn read_body(
        orchestrator: &Orchestrator,
        request: Request,
        limit: impl FnOnce(&Entry) -> usize,
        absent: Option<T>,
    ) -> Result<Self, ApiError> {
        be_ready(orchestrator)?;
        let (mut parts, body) = request.into_parts();
        let (entry, token) = bearer(orchestrator, &parts.headers).await?;
        orchestrator.lifecycle().heard(&entry);
        let bytes = collect(orchestrator, &parts.headers, body, limit(&entry)).await?;
        let decoded = match absent {
            Some(absent) if bytes.is_empty() => Ok(absent),
            _ => from_json(&bytes),
        };
        // What cannot be read at all comes before what the path says, what is read and wrong after it.
        let invalid = match decoded {
            Ok(body) => Ok(body),
            Err(DecodeError::Invalid { problems }) => Err(Error::Invalid { problems }),
            Err(unreadable) => return Err(unreadable.into()),
        };
        let path = PathIds::of(&mut parts).await;
        if path.agent.as_ref() != Some(&entry.agent.id) && !canary::sings("owner-check-off") {
            return Err(Error::UnknownAgent.into());
        }
        let task = match path.task {
            Some(Err(())) => return Err(Error::UnknownTask.into()),
            Some(Ok(task)) => Some(task),
            None => None,
        };
        if let (Err(_), Some(task)) = (&invalid, task) {
            orchestrator.lifecycle().assigned(&entry.agent.id, task).await?;
        }
        Ok(Self { entry, token, task, body: invalid? })
    }

    /// The task in the path.
    pub(crate) fn task(&self) -> Result<TaskId, ApiError> {
        self.task.ok_or(ApiError::Core(Error::UnknownTask))
    }
}

/// A call by an agent about an artifact of a task, whose body is still to come.
pub(crate) struct AgentUpload {
    pub(crate) entry: Arc<Entry>,
    pub(crate) task: TaskId,
    pub(crate) artifact: ArtifactPath,
    pub(crate) headers: HeaderMap,
    pub(crate) uri: http::Uri,
}

impl AgentUpload {
    pub(crate) async fn read(
        orchestrator: &Orchestrator,
        request: Request,
    ) -> Result<(Self, axum::body::Body), ApiError> {
        be_ready(orchestrator)?;
        let (mut parts, body) = request.into_parts();
        let (entry, _) = bearer(orchestrator, &parts.headers).await?;
        orchestrator.lifecycle().heard(&entry);
        if parts.headers.get(http::header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
            return Err(ApiError::MediaType);
        }
        super::uploads::within_limits(orchestrator, &parts.headers)?;
        let ids = PathIds::of(&mut parts).await;
        if ids.agent.as_ref() != Some(&entry.agent.id) && !canary::sings("owner-check-off") {
            return Err(Error::UnknownAgent.into());
        }
        let task = ids.task.and_then(Result::ok).ok_or(Error::UnknownTask)?;
        let Some(artifact) = ids.artifact else {
            orchestrator.lifecycle().assigned(&entry.agent.id, task).await?;
            let message = "This is a relative path without `..`, in NFC, of at most 512 bytes.";
            return Err(crate::lifecycle::invalid("path", message).into());
        };
        Ok((Self { entry, task, artifact, headers: parts.headers, uri: parts.uri }, body))
    }
}

/// The body of a call that takes none: whatever object it is, nothing of it is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nothing;

impl Decode for Nothing {
    fn decode(_: &mut Fields<'_>) -> Option<Self> {
        Some(Self)
    }
}

/// A call by an operator or host.
pub(crate) struct OperatorCall {
    pub(crate) operator: Operator,
    pub(crate) parts: Parts,
    body: axum::body::Body,
}

impl OperatorCall {
    /// Reads a call that needs a key with `scope`: the one place where scopes are asked for.
    pub(super) async fn read(orchestrator: &Orchestrator, request: Request, scope: Scope) -> Result<Self, ApiError> {
        be_ready(orchestrator)?;
        let (parts, body) = request.into_parts();
        let lifecycle = orchestrator.lifecycle();
        let given = bearer_text(&parts.headers);
        let operator = lifecycle.operator(given.as_ref(), &origin(&parts), scope).await?;
        operator.must_have(scope)?;
        same_tenant(&parts.headers, operator.tenant)?;
        Ok(Self { operator, parts, body })
    }

    /// The body, at most `limit` bytes long; an empty one means `absent` where there is one.
    pub(crate) async fn body<T: Decode>(
        self,
        orchestrator: &Orchestrator,
        limit: usize,
        absent: Option<T>,
    ) -> Result<(T, Parts, Operator), ApiError> {
        let bytes = collect(orchestrator, &self.parts.headers, self.body, limit).await?;
        let body = match absent {
            Some(absent) if bytes.is_empty() => absent,
            _ => from_json(&bytes)?,
        };
        Ok((body, self.parts, self.operator))
    }

    /// The task in the path; a malformed id is as unknown as an absent one.
    pub(crate) async fn task(&mut self) -> Result<TaskId, ApiError> {
        PathIds::of(&mut self.parts).await.task.and_then(Result::ok).ok_or(ApiError::Core(Error::UnknownTask))
    }

    /// The task and the artifact in the path.
    pub(crate) async fn artifact(&mut self) -> Result<(TaskId, Option<ArtifactPath>), ApiError> {
        let ids = PathIds::of(&mut self.parts).await;
        Ok((ids.task.and_then(Result::ok).ok_or(Error::UnknownTask)?, ids.artifact))
    }

    /// The agent in the path.
    pub(crate) async fn agent(&mut self) -> Result<AgentId, ApiError> {
        PathIds::of(&mut self.parts).await.agent.ok_or(ApiError::Core(Error::UnknownAgent))
    }

    /// The task type in the path.
    pub(crate) async fn task_type(&mut self) -> Result<TaskType, ApiError> {
        PathIds::of(&mut self.parts).await.task_type.ok_or(ApiError::NoRoute)
    }

    /// The workflow in the path; one that cannot be an id is as unknown as an absent one.
    pub(crate) async fn workflow(&mut self) -> Result<WorkflowId, ApiError> {
        PathIds::of(&mut self.parts).await.workflow.ok_or(ApiError::Core(Error::UnknownWorkflow))
    }

    /// The session in the path.
    pub(crate) async fn session(&mut self) -> Result<SessionId, ApiError> {
        PathIds::of(&mut self.parts).await.session.ok_or(ApiError::Core(Error::UnknownSession))
    }

    /// The operator key or registration secret in the path; `None` for a malformed id.
    pub(crate) async fn credential(&mut self) -> Option<CredentialId> {
        PathIds::of(&mut self.parts).await.credential
    }
}

/// The ids in the path; a call that came otherwise than by a path brings them along.
#[derive(Clone, Default)]
pub(crate) struct PathIds {
    agent: Option<AgentId>,
    task: Option<Result<TaskId, ()>>,
    credential: Option<CredentialId>,
    task_type: Option<TaskType>,
    artifact: Option<ArtifactPath>,
    workflow: Option<WorkflowId>,
    session: Option<SessionId>,
}

impl PathIds {
    async fn of(parts: &mut Parts) -> Self {
        if let Some(ids) = parts.extensions.remove::<Self>() {
            return ids;
        }
        let mut ids = Self::default();
        let Ok(params) = RawPathParams::from_request_parts(parts, &()).await else { return ids };
        for (name, value) in &params {
            match name {
                "agent_id" => ids.agent = value.parse().ok(),
                "path" => ids.artifact = value.parse().ok(),
                "task_type" => ids.task_type = value.parse().ok(),
                "workflow_id" => ids.workflow = value.parse().ok(),
                "session_id" => ids.session = value.parse().ok(),
                "key_id" | "secret_id" => ids.credential = value.parse().ok(),
                "task_id" => ids.task = Some(value.parse().map_err(|_| ())),
                _ => {}
            }
        }
        ids
    }
}

impl PathIds {
    /// The ids of a call by `agent`.
    pub(crate) fn of_agent(agent: AgentId) -> Self {
        Self { agent: Some(agent), ..Self::default() }
    }

    /// Makes it one about a task; without an id, about one that nobody knows.
    pub(crate) fn with_task(self, task: Option<TaskId>) -> Self {
        Self { task: Some(task.ok_or(())), ..self }
    }
}

/// Whether the agent in the path is the one that calls.
pub(crate) async fn is_own_path(parts: &mut Parts, entry: &Entry) -> bool {
    PathIds::of(parts).await.agent.as_ref() == Some(&entry.agent.id)
}

/// Refuses what comes before the store was loaded: it would find nobody and nothing.
pub(crate) fn be_ready(orchestrator: &Orchestrator) -> Result<(), ApiError> {
    if orchestrator.is_ready() { Ok(()) } else { Err(ApiError::NotReady) }
}

/// Where the call came from; only `serve` knows. A frame brings that of its connection along.
pub(crate) fn origin(parts: &Parts) -> Origin {
    let told = parts.extensions.get::<Origin>().copied();
    let ends = || parts.extensions.get::<Ends>();
    told.or_else(|| ends().map(|ends| ends.origin(&parts.headers))).unwrap_or_default()
}

/// The agent whose live token came along, and the token's digest.
pub(crate) async fn bearer(orchestrator: &Orchestrator, headers: &HeaderMap) -> Result<(Arc<Entry>, [u8; 32]), Error> {
    let given = token_text(headers);
    let token = given.as_ref().and_then(AgentToken::read);
    let token = token.ok_or(Error::InvalidToken)?;
    let entry = known_bearer(orchestrator, &token).await?.ok_or(Error::InvalidToken)?;
    Ok((entry, token.digest))
}

/// The agent that a token belongs to, if it is live.
pub(crate) async fn known_bearer(orchestrator: &Orchestrator, token: &AgentToken) -> Result<Option<Arc<Entry>>, Error> {
    let lifecycle = orchestrator.lifecycle();
    lifecycle.be_level().await?;
    let known = || lifecycle.directory.bearer(token, || lifecycle.clock.now());
    if let Some(entry) = known() {
        return Ok(Some(entry));
    }
    // Another replica may have given it out a moment ago.
    lifecycle.catch_up().await?;
    Ok(known())
}

/// The agent's token, wherever it stands.
pub(crate) fn token_text(headers: &HeaderMap) -> Option<Secret> {
    header_text(headers, header::AGENT_TOKEN).or_else(|| bearer_text(headers))
}

/// What stands in `Authorization: Bearer`.
pub(crate) fn bearer_text(headers: &HeaderMap) -> Option<Secret> {
    let value = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, text) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Secret::new(text.trim()))
}

/// What stands in a header that carries a secret.
pub(crate) fn header_text(headers: &HeaderMap, name: &str) -> Option<Secret> {
    headers.get(name)?.to_str().ok().map(|text| Secret::new(text.trim()))
}

/// A key belongs to one tenant; a header that names another is refused.
pub(crate) fn same_tenant(headers: &HeaderMap, tenant: eap_types::TenantId) -> Result<(), Error> {
    match headers.get(header::TENANT_ID) {
        None => Ok(()),
        Some(given) if given.to_str().is_ok_and(|text| text.parse() == Ok(tenant)) => Ok(()),
        Some(_) => Err(Error::Forbidden { reason: "the key belongs to another tenant" }),
    }
}

/// A header that is an id of ours, if it is there.
pub(crate) fn checked_header<T: std::str::FromStr>(headers: &HeaderMap, name: &str) -> Result<Option<T>, Error> {
    let Some(given) = headers.get(name) else { return Ok(None) };
    let parsed = given.to_str().ok().and_then(|text| text.parse().ok());
    parsed.map(Some).ok_or_else(|| {
        crate::lifecycle::invalid(&format!("header.{name}"), "This header is 1 to 255 visible ASCII characters.")
    })
}

/// Reads a body within its limits of size and time.
pub(crate) async fn collect(
    orchestrator: &Orchestrator,
    headers: &HeaderMap,
    body: axum::body::Body,
    limit: usize,
) -> Result<Bytes, ApiError> {
    if headers.get(http::header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(ApiError::MediaType);
    }
    if headers.get(http::header::CONTENT_TYPE).is_some_and(|given| !is_json(given)) {
        return Err(ApiError::MediaType);
    }
    let announced = headers.get(http::header::CONTENT_LENGTH).and_then(|given| given.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > limit as u64) {
        return Err(ApiError::TooLarge { limit });
    }
    // A body whose length is not told may come to the limit.
    let most = announced.map_or(limit, |length| usize::try_from(length).unwrap_or(limit));
    let kib = u32::try_from(most.div_ceil(1024)).unwrap_or(u32::MAX);
    let _room = orchestrator
        .bodies()
        .try_acquire_many(kib)
        .map_err(|_| Error::Busy { reason: "too many large bodies are being received" })?;
    let timeout = orchestrator.config().capacity.body_timeout;
    tokio::time::timeout(timeout, read_all(body, limit)).await.unwrap_or(Err(ApiError::SlowBody))
}

async fn read_all(mut body: axum::body::Body, limit: usize) -> Result<Bytes, ApiError> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| ApiError::BrokenBody)?.into_data() else { continue };
        if whole.len() + data.len() > limit {
            return Err(ApiError::TooLarge { limit });
        }
        if whole.is_empty() && http_body::Body::is_end_stream(&body) {
            // The usual case: all of it came at once.
            return Ok(data);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

fn is_json(content_type: &HeaderValue) -> bool {
    let essence = content_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case(header::JSON) || essence.to_ascii_lowercase().ends_with("+json")
}

/// A reply with a JSON body.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Result<Response, ApiError> {
    let bytes = serde_json::to_vec(body).map_err(|error| {
        tracing::error!(%error, "a reply could not be written");
        Error::Broken
    })?;
    let mut response = (status, bytes).into_response();
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static(header::JSON));
    Ok(response)
}

/// Names the request in the reply's header, where its body names it too.
pub(crate) fn with_request_id(mut response: Response, id: &str) -> Response {
    if let Ok(id) = HeaderValue::from_str(id) {
        response.headers_mut().insert(header::REQUEST_ID, id);
    }
    response
}

/// A reply without a body.
pub(crate) fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}
