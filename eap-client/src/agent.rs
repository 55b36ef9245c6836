//! The agents' side: joining, and everything that needs the token one gets then.

use std::sync::Arc;
use std::time::Duration;

use eap_types::{
    AgentId, Assignment, Deregister, Deregistered, Endpoints, Heartbeat, HeartbeatReply, IdempotencyKey, LeaseReply,
    LeaseRequest, ProgressReply, ProgressReport, Registered, Registration, ReleaseRequest, Released, ResultAccepted,
    ResultBatch, ResultOutcome, ResultsReply, RotatedToken, Secret, TaskId, TaskResult, TenantId, header, path,
};
use http::Method;

use crate::call::HttpCall;
use crate::error::ClientError;
use crate::wire::{Request, Wire};

/// Calls that an agent makes before it has a token.
#[derive(Clone, Debug)]
pub struct AgentClient {
    wire: Wire,
    tenant: Option<TenantId>,
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
        Ok(Self { wire: Wire::new(base_url, http)?, tenant: None })
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
        AgentSession { wire: self.wire.clone(), agent_id, token, endpoints: Arc::new(endpoints) }
    }
}

/// Calls that an agent makes with its token.
#[derive(Clone, Debug)]
pub struct AgentSession {
    wire: Wire,
    agent_id: AgentId,
    token: Secret,
    endpoints: Arc<Endpoints>,
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

    /// Reports one result: `POST …/tasks/{task_id}/result`.
    ///
    /// # Errors
    ///
    /// 409 LEASE_LOST, TASK_FINAL or RESULT_CONFLICT when the task went another way, 404
    /// TASK_NOT_FOUND, 413 for a result that is too large, and what any call can come to.
    pub async fn result(&self, result: &TaskResult) -> Result<ResultAccepted, ClientError> {
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
        let own = || path::results(&self.agent_id);
        let batch = ResultBatch::new(results.iter().cloned());
        let reply: ResultsReply = self.post(&self.endpoints.results, None, own).json(&batch).send().await?.read()?;
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

    /// Starts a call at the endpoint that the server gave, else where the protocol has it.
    fn post(&self, given: &str, task: Option<TaskId>, own: impl FnOnce() -> String) -> Request<'_> {
        let path = match task {
            Some(task) => given.replace("{task_id}", &task.to_string()),
            None => given.to_owned(),
        };
        // Behind the origin anything else would name another host: `.evil.example`, `@evil.example`.
        let is_path = path.starts_with('/') && path.parse::<http::uri::PathAndQuery>().is_ok();
        let path = if is_path { path } else { self.wire.under_base(&format!("{}{}", path::AGENTS_BASE, own())) };
        self.wire.request(Method::POST, &path).secret(header::AGENT_TOKEN, &self.token)
    }
}
