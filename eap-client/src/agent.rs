//! The agents' side: joining, and everything that needs the token one gets then.

use std::sync::Arc;
use std::time::Duration;

use eap_types::socket::FrameKind;
use eap_types::{
    AgentId, Assignment, Deregister, Deregistered, Endpoints, Heartbeat, HeartbeatReply, IdempotencyKey, LeaseReply,
    LeaseRequest, ProgressReply, ProgressReport, Registered, Registration, ReleaseRequest, Released, ResultAccepted,
    ResultOutcome, ResultsReply, RotatedToken, Secret, TaskId, TaskResult, TenantId, header, path,
};
use http::Method;
use serde::Serialize;

use crate::call::HttpCall;
use crate::error::ClientError;
#[cfg(feature = "websocket")]
use crate::socket::{self, AgentSocket, Line};
use crate::wire::{Answer, Request, Wire};

/// Calls that an agent makes before it has a token.
#[derive(Clone, Debug)]
pub struct AgentClient {
    wire: Wire,
    tenant: Option<TenantId>,
    #[cfg(feature = "websocket")]
    line: Line,
}

/// What a registration proves itself with; all of it is optional.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// The registration secret of the server.
    pub registration_secret: Option<Secret>,
    /// The token the identity has now, which lets it keep its `agent_id`.
    pub live_token: Option<Secret>,
    /// Makes a repeated registration the same one.
    pub idempotency_key: Option<IdempotencyKey>,
}

impl AgentClient {
    /// Calls the orchestrator at `base_url`, which may have a path that everything stands behind.
    ///
    /// # Errors
    ///
    /// The URL is not an absolute http(s) URL, or carries user info, a query or a fragment.
    pub fn new(base_url: &str, http: Arc<dyn HttpCall>) -> Result<Self, ClientError> {
        Ok(Self {
            wire: Wire::new(base_url, http)?,
            tenant: None,
            #[cfg(feature = "websocket")]
            line: Line::default(),
        })
    }

    /// Sets how long a call may take; default 30 seconds ([`crate::DEFAULT_DEADLINE`]).
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.wire = self.wire.with_deadline(deadline);
        self
    }

    /// Names the tenant, which must be that of the registration secret.
    #[must_use]
    pub fn with_tenant(mut self, tenant: TenantId) -> Self {
        self.tenant = Some(tenant);
        self
    }

    /// The orchestrator's address in its one spelling: the host in small letters, no default port, no
    /// `/` at the end.
    pub fn base_url(&self) -> String {
        self.wire.base_url()
    }

    /// Joins: `POST …/register`.
    ///
    /// # Errors
    ///
    /// 403 REGISTRATION_DENIED without the right secret, 422 for a registration that breaks a rule,
    /// and what any call can come to.
    pub async fn register(
        &self,
        registration: &Registration,
        credentials: Credentials,
    ) -> Result<Registered, ClientError> {
        let path = self.wire.under_base(&format!("{}{}", path::AGENTS_BASE, path::REGISTER));
        let mut request = self.wire.request(Method::POST, &path).json(registration);
        if let Some(secret) = &credentials.registration_secret {
            request = request.secret(header::REGISTRATION_TOKEN, secret);
        }
        if let Some(token) = &credentials.live_token {
            request = request.secret(header::AGENT_TOKEN, token);
        }
        if let Some(key) = &credentials.idempotency_key {
            request = request.header(header::IDEMPOTENCY_KEY, key.as_str());
        }
        if let Some(tenant) = self.tenant {
            request = request.header(header::TENANT_ID, &tenant.to_string());
        }
        request.send().await?.read()
    }

    /// Goes on as a registered agent, with the `endpoints` that the registration gave.
    ///
    /// An endpoint that is not a path of this server is not used, so that a token goes nowhere else.
    pub fn session(&self, agent_id: AgentId, token: Secret, endpoints: Option<Endpoints>) -> AgentSession {
        let endpoints = endpoints.unwrap_or_default();
        AgentSession {
            wire: self.wire.clone(),
            agent_id,
            token,
            endpoints: Arc::new(endpoints),
            #[cfg(feature = "websocket")]
            line: self.line.clone(),
        }
    }
}

/// Calls that an agent makes with its token.
#[derive(Clone, Debug)]
pub struct AgentSession {
    wire: Wire,
    agent_id: AgentId,
    token: Secret,
    endpoints: Arc<Endpoints>,
    #[cfg(feature = "websocket")]
    line: Line,
}

impl AgentSession {
    /// The agent whose calls these are.
    pub fn agent_id(&self) -> &AgentId {
        &self.agent_id
    }

    /// Sets how long a call may take that waits for nothing but its answer; default 30 seconds.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.wire = self.wire.with_deadline(deadline);
        self
    }

    /// Says that the agent lives, and renews leases: `POST …/{agent_id}/heartbeat`.
    ///
    /// Gives `None` when the server has nothing to say (204).
    ///
    /// # Errors
    ///
    /// 401 for a dead token, 413 and 422 for a body the server does not take (nothing is renewed
    /// then), and what any call can come to.
    pub async fn heartbeat(&self, beat: &Heartbeat) -> Result<Option<HeartbeatReply>, ClientError> {
        let own = || path::heartbeat(&self.agent_id);
        self.post(&self.endpoints.heartbeat, None, own).json(beat).send().await?.read_optional()
    }

    /// Asks for tasks and waits as long as the request says: `POST …/{agent_id}/tasks/lease`.
    ///
    /// No task within the wait is an empty list. After a call that got no answer, the same
    /// `request_id` gets the same tasks.
    ///
    /// # Errors
    ///
    /// 401 for a dead token, 503 DRAINING while the server stops, and what any call can come to.
    pub async fn lease(&self, request: &LeaseRequest) -> Result<Vec<Assignment>, ClientError> {
        let own = || path::lease(&self.agent_id);
        let wait = Duration::from_secs(request.wait_seconds);
        let call = self.post(&self.endpoints.lease, None, own).json(request).waiting(wait);
        let reply: Option<LeaseReply> = call.send().await?.read_optional()?;
        Ok(reply.map_or_else(Vec::new, |reply| reply.tasks))
    }

    /// Opens the agent's WebSocket and says hello: `GET …/{agent_id}/ws`. `held` is every lease the agent holds, those
    /// whose result has no answer yet among them; what it holds and does not list is brought again.
    ///
    /// While it is open, results, progress and releases of this agent go over it, also those of other sessions of the same
    /// client. What is too large for it, and everything once it is over, is posted as ever.
    ///
    /// # Errors
    ///
    /// 401 for a dead token, 426 from what is between that knows no WebSocket, 404 from a server that does not serve it,
    /// and what any call can come to.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[cfg(feature = "websocket")]
    pub async fn open_socket(&self, held: Vec<eap_types::HeldTask>) -> Result<AgentSocket, ClientError> {
        let own = || path::socket(&self.agent_id);
        let request = self.at(Method::GET, &self.endpoints.ws, None, own);
        let hello = eap_types::socket::Hello::new(held);
        socket::open(request, self.wire.deadline(), &self.agent_id, hello, &self.line).await
    }

    /// Makes a call over the agent's open socket; `None` if there is none.
    #[cfg(feature = "websocket")]
    async fn over_socket(&self, kind: FrameKind, payload: &impl Serialize) -> Option<Result<Answer, ClientError>> {
        let answered = self.line.call(&self.agent_id, kind, payload, self.wire.deadline()).await?;
        Some(answered.map_err(ClientError::from))
    }

    #[cfg(not(feature = "websocket"))]
    #[expect(clippy::unused_async, reason = "as it is with the feature")]
    async fn over_socket(&self, _: FrameKind, _: &impl Serialize) -> Option<Result<Answer, ClientError>> {
        None
    }

    /// Reports one result: `POST …/tasks/{task_id}/result`.
    ///
    /// # Errors
    ///
    /// 409 LEASE_LOST, TASK_FINAL or RESULT_CONFLICT when the task went another way, 404
    /// TASK_NOT_FOUND, 413 for a result that is too large, and what any call can come to.
    pub async fn result(&self, result: &TaskResult) -> Result<ResultAccepted, ClientError> {
        let alone = Batch { results: std::slice::from_ref(result) };
        if let Some(answer) = self.over_socket(FrameKind::TaskResult, &alone).await {
            return only_outcome(answer?.read()?);
        }
        let task = result.task_id;
        let own = || path::result(&self.agent_id, &task);
        self.post(&self.endpoints.result, Some(task), own).json(result).send().await?.read()
    }

    /// Reports several results: `POST …/{agent_id}/results`; the outcomes come in their order.
    ///
    /// # Errors
    ///
    /// 413 when they are too large together, and what any call can come to; a result that is
    /// refused alone is an outcome and no error. An answer with another number of outcomes is
    /// [`ClientError::Unreadable`].
    pub async fn results(&self, results: &[TaskResult]) -> Result<Vec<ResultOutcome>, ClientError> {
        let batch = Batch { results };
        let own = || path::results(&self.agent_id);
        let answer = match self.over_socket(FrameKind::TaskResult, &batch).await {
            Some(answer) => answer?,
            None => self.post(&self.endpoints.results, None, own).json(&batch).send().await?,
        };
        let reply: ResultsReply = answer.read()?;
        if reply.results.len() == results.len() {
            Ok(reply.results)
        } else {
            Err(ClientError::Unreadable { status: 200, retry_after: None, source: None })
        }
    }

    /// Says how far a task is, which also renews its lease: `POST …/tasks/{task_id}/progress`.
    ///
    /// # Errors
    ///
    /// 409 LEASE_LOST or TASK_FINAL when the task is no longer the agent's, and what any call can
    /// come to.
    pub async fn progress(&self, task: TaskId, report: &ProgressReport) -> Result<ProgressReply, ClientError> {
        if let Some(answer) = self.over_socket(FrameKind::TaskProgress, &OfTask { task_id: task, body: report }).await {
            return answer?.read();
        }
        let own = || path::progress(&self.agent_id, &task);
        self.post(&self.endpoints.progress, Some(task), own).json(report).send().await?.read()
    }

    /// Hands a task back: `POST …/tasks/{task_id}/release`.
    ///
    /// # Errors
    ///
    /// 409 LEASE_LOST or TASK_FINAL when the task is no longer the agent's, and what any call can
    /// come to.
    pub async fn release(&self, task: TaskId, request: &ReleaseRequest) -> Result<Released, ClientError> {
        if let Some(answer) = self.over_socket(FrameKind::TaskReleased, &OfTask { task_id: task, body: request }).await
        {
            return answer?.read();
        }
        let own = || path::release(&self.agent_id, &task);
        self.post(&self.endpoints.release, Some(task), own).json(request).send().await?.read()
    }

    /// Leaves; what the agent still holds goes back to the queue: `POST …/{agent_id}/deregister`.
    ///
    /// # Errors
    ///
    /// 401 for a dead token, and what any call can come to.
    pub async fn deregister(&self, request: &Deregister) -> Result<Deregistered, ClientError> {
        let own = || path::deregister(&self.agent_id);
        self.post(&self.endpoints.deregister, None, own).json(request).send().await?.read()
    }

    /// Gets a new token; the one this session has works on for a while: `POST …/{agent_id}/token/rotate`.
    ///
    /// After a call that got no answer it can be made again, as long as this session's token works.
    ///
    /// # Errors
    ///
    /// 401 for a dead token, 403 FORBIDDEN when a newer token is in use already, 404 from a server that does not serve
    /// it, and what any call can come to.
    pub async fn rotate_token(&self) -> Result<RotatedToken, ClientError> {
        let own = || path::token_rotate(&self.agent_id);
        self.post(&self.endpoints.rotate, None, own).send().await?.read()
    }

    pub(crate) fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    fn post(&self, given: &str, task: Option<TaskId>, own: impl FnOnce() -> String) -> Request<'_> {
        self.at(Method::POST, given, task, own)
    }

    /// Starts a call at the endpoint that the server gave, else where the protocol has it.
    pub(crate) fn at(
        &self,
        method: Method,
        given: &str,
        task: Option<TaskId>,
        own: impl FnOnce() -> String,
    ) -> Request<'_> {
        let path = match task {
            Some(task) => given.replace("{task_id}", &task.to_string()),
            None => given.to_owned(),
        };
        // Behind the origin anything else would name another host: `.evil.example`, `@evil.example`.
        let is_path = path.starts_with('/') && path.parse::<http::uri::PathAndQuery>().is_ok();
        let path = if is_path { path } else { self.wire.under_base(&format!("{}{}", path::AGENTS_BASE, own())) };
        self.wire.request(method, &path).secret(header::AGENT_TOKEN, &self.token)
    }
}

/// The body of a report of results, [`eap_types::ResultBatch`], of results that stay where they are.
#[derive(Serialize)]
struct Batch<'a> {
    results: &'a [TaskResult],
}

/// The body of a call whose path names a task, as a frame has it.
#[derive(Serialize)]
struct OfTask<'a, T> {
    task_id: TaskId,
    #[serde(flatten)]
    body: &'a T,
}

/// What became of the one result of a frame, as the call for one result has it.
fn only_outcome(reply: ResultsReply) -> Result<ResultAccepted, ClientError> {
    match <[ResultOutcome; 1]>::try_from(reply.results) {
        Ok([ResultOutcome::Accepted(accepted)]) => Ok(accepted),
        Ok([ResultOutcome::Refused(mut problem)]) => {
            if problem.status == 0 {
                problem.status = problem.error_code().map_or(500, eap_types::ErrorCode::status);
            }
            Err(ClientError::Refused { problem, retry_after: None })
        }
        // Two outcomes, or a word of a newer server.
        _ => Err(ClientError::Unreadable { status: 200, retry_after: None, source: None }),
    }
}
