//! The operators' side: submitting tasks, and seeing what becomes of them.

use std::sync::Arc;
use std::time::Duration;

use eap_types::{
    AgentDetail, AgentId, AgentPage, CancelTask, Health, IdempotencyKey, JsonObject, Readiness, Secret, SubmitBatch,
    SubmitBatchReply, SubmitOutcome, SubmitTask, TaskExplanation, TaskHistory, TaskId, TaskPage, TaskQuery, TaskType,
    TaskTypeView, TaskView, TenantId, Traceparent, WellKnown, header, path,
};
use http::Method;
use serde::de::IgnoredAny;
use url::form_urlencoded;

use crate::call::HttpCall;
use crate::error::ClientError;
use crate::wire::{Request, Wire};

/// Calls that an operator makes.
#[derive(Clone, Debug)]
pub struct OperatorClient {
    wire: Wire,
    key: Option<Secret>,
    tenant: Option<TenantId>,
    traceparent: Option<Traceparent>,
}

/// Which page of the agents to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AgentQuery {
    /// Where the last page ended: its `next_cursor`. Default: the newest agents.
    pub cursor: Option<String>,
    /// How many to read, 1 to 500. Default: the server's 50.
    pub limit: Option<u32>,
}

impl AgentQuery {
    /// Reads the first page.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on where the last page ended.
    #[must_use]
    pub fn with_cursor(mut self, cursor: impl Into<String>) -> Self {
        self.cursor = Some(cursor.into());
        self
    }

    /// Sets how many to read.
    #[must_use]
    pub fn with_limit(mut self, limit: u32) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl OperatorClient {
    /// Calls the orchestrator at `base_url`, which may have a path that everything stands behind.
    ///
    /// # Errors
    ///
    /// The URL is not an absolute http(s) URL, or carries user info, a query or a fragment.
    pub fn new(base_url: &str, http: Arc<dyn HttpCall>) -> Result<Self, ClientError> {
        Ok(Self { wire: Wire::new(base_url, http)?, key: None, tenant: None, traceparent: None })
    }

    /// Sets the operator key; without one only open calls and those on loopback are answered.
    #[must_use]
    pub fn with_key(mut self, key: Secret) -> Self {
        self.key = Some(key);
        self
    }

    /// Names the tenant, which must be that of the key.
    #[must_use]
    pub fn with_tenant(mut self, tenant: TenantId) -> Self {
        self.tenant = Some(tenant);
        self
    }

    /// Names the trace that the calls are part of; the agents that get the tasks submitted hear of it too.
    ///
    /// A clone for one submit costs little: `client.clone().with_traceparent(trace).submit(…)`.
    #[must_use]
    pub fn with_traceparent(mut self, traceparent: Traceparent) -> Self {
        self.traceparent = Some(traceparent);
        self
    }

    /// Sets how long a call may take that waits for nothing but its answer; default 30 seconds.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.wire = self.wire.with_deadline(deadline);
        self
    }

    /// Submits a task: `POST /api/v1/tasks`.
    ///
    /// With a key, repeating the call has the effect of one (RELIABILITY.md G5).
    ///
    /// # Errors
    ///
    /// 422 for a task that breaks a rule, 409 IDEMPOTENCY_CONFLICT when the key was used for
    /// another task, and what any call can come to.
    pub async fn submit(&self, task: &SubmitTask, key: Option<&IdempotencyKey>) -> Result<TaskView, ClientError> {
        self.request(Method::POST, path::TASKS).json(task).idempotency_key(key).send().await?.read()
    }

    /// Submits 1 to 1000 tasks: `POST /api/v1/tasks/batch`; the outcomes come in their order.
    ///
    /// With a key, repeating the call with the same tasks has the effect of one (RELIABILITY.md G5).
    ///
    /// # Errors
    ///
    /// 413 when they are too large together, 409 IDEMPOTENCY_CONFLICT when the key was used for another
    /// batch, and what any call can come to; a task that is refused alone is an outcome and no error. An
    /// answer with another number of outcomes is [`ClientError::Unreadable`].
    pub async fn submit_batch(
        &self,
        batch: &SubmitBatch,
        key: Option<&IdempotencyKey>,
    ) -> Result<Vec<SubmitOutcome>, ClientError> {
        let request = self.request(Method::POST, path::TASKS_BATCH).json(batch).idempotency_key(key);
        let reply: SubmitBatchReply = request.send().await?.read()?;
        if reply.tasks.len() == batch.tasks.len() {
            Ok(reply.tasks)
        } else {
            Err(ClientError::Unreadable { status: 200, retry_after: None, source: None })
        }
    }

    /// Reads a task, after waiting up to `wait` (whole seconds, at most 60) for its final state:
    /// `GET /api/v1/tasks/{task_id}`.
    ///
    /// The answer after a wait that was over is the task as it is, not final.
    ///
    /// # Errors
    ///
    /// 404 TASK_NOT_FOUND, and what any call can come to.
    pub async fn task(&self, task: TaskId, wait: Option<Duration>) -> Result<TaskView, ClientError> {
        let path = path::task(&task);
        let Some(wait) = wait else {
            return self.request(Method::GET, &path).send().await?.read();
        };
        let path = format!("{path}?wait_seconds={}", wait.as_secs());
        self.request(Method::GET, &path).waiting(wait).send().await?.read()
    }

    /// Lists tasks, newest first: `GET /api/v1/tasks`.
    ///
    /// # Errors
    ///
    /// 422 for a query that breaks a rule, and what any call can come to.
    pub async fn tasks(&self, query: &TaskQuery) -> Result<TaskPage, ClientError> {
        self.request(Method::GET, &list(path::TASKS, query)).send().await?.read()
    }

    /// Asks what the agents that do tasks of one type take as input: `GET /api/v1/task-types/{task_type}`.
    ///
    /// # Errors
    ///
    /// What any call can come to.
    pub async fn task_type(&self, task_type: &TaskType) -> Result<TaskTypeView, ClientError> {
        self.request(Method::GET, &path::task_type(task_type)).send().await?.read()
    }

    /// Lists dead letters, newest task first: `GET /api/v1/dead-letters`.
    ///
    /// # Errors
    ///
    /// 422 for a query that breaks a rule, and what any call can come to.
    pub async fn dead_letters(&self, query: &TaskQuery) -> Result<TaskPage, ClientError> {
        self.request(Method::GET, &list(path::DEAD_LETTERS, query)).send().await?.read()
    }

    /// Does a dead letter again, by a new task: `POST /api/v1/dead-letters/{task_id}/requeue`.
    ///
    /// Repeating the call gives the task that the first one made, as it now is.
    ///
    /// # Errors
    ///
    /// 409 NOT_A_DEAD_LETTER for a task that did neither fail for good nor die, or was discarded;
    /// 404 TASK_NOT_FOUND, and what any call can come to.
    pub async fn requeue(&self, letter: TaskId) -> Result<TaskView, ClientError> {
        self.request(Method::POST, &path::dead_letter_requeue(&letter)).send().await?.read()
    }

    /// Takes a dead letter off the list: `POST /api/v1/dead-letters/{task_id}/discard`.
    ///
    /// One that is off it already stays as it is.
    ///
    /// # Errors
    ///
    /// 409 NOT_A_DEAD_LETTER for a task that did neither fail for good nor die, 404 TASK_NOT_FOUND,
    /// and what any call can come to.
    pub async fn discard(&self, letter: TaskId) -> Result<(), ClientError> {
        let path = path::dead_letter_discard(&letter);
        self.request(Method::POST, &path).send().await?.read_optional::<IgnoredAny>().map(drop)
    }

    /// Cancels a task, at once and for good: `POST /api/v1/tasks/{task_id}/cancel`.
    ///
    /// # Errors
    ///
    /// 409 TASK_FINAL when it ended otherwise, 404 TASK_NOT_FOUND, and what any call can come to.
    pub async fn cancel(&self, task: TaskId, reason: Option<&str>) -> Result<TaskView, ClientError> {
        let mut body = CancelTask::new();
        if let Some(reason) = reason {
            body = body.with_reason(reason);
        }
        self.request(Method::POST, &path::task_cancel(&task)).json(&body).send().await?.read()
    }

    /// Reads the attempts, late results and events of a task: `GET /api/v1/tasks/{task_id}/history`.
    ///
    /// # Errors
    ///
    /// 404 TASK_NOT_FOUND, and what any call can come to.
    pub async fn history(&self, task: TaskId) -> Result<TaskHistory, ClientError> {
        self.request(Method::GET, &path::task_history(&task)).send().await?.read()
    }

    /// Asks why a task is where it is, and who could have it: `GET /api/v1/tasks/{task_id}/explain`.
    ///
    /// # Errors
    ///
    /// 404 TASK_NOT_FOUND, and what any call can come to.
    pub async fn explain(&self, task: TaskId) -> Result<TaskExplanation, ClientError> {
        self.request(Method::GET, &path::task_explain(&task)).send().await?.read()
    }

    /// Lists agents, newest first: `GET /api/v1/agents`.
    ///
    /// # Errors
    ///
    /// 422 for a query that breaks a rule, and what any call can come to.
    pub async fn agents(&self, query: AgentQuery) -> Result<AgentPage, ClientError> {
        let limit = query.limit.map(|limit| limit.to_string());
        let path = with_query(path::AGENTS, [("cursor", query.cursor), ("limit", limit)]);
        self.request(Method::GET, &path).send().await?.read()
    }

    /// Reads one agent: `GET /api/v1/agents/{agent_id}`.
    ///
    /// # Errors
    ///
    /// 404 AGENT_NOT_FOUND, and what any call can come to.
    pub async fn agent(&self, agent: &AgentId) -> Result<AgentDetail, ClientError> {
        self.request(Method::GET, &path::agent_detail(agent)).send().await?.read()
    }

    /// Asks whether the process runs: `GET /health`.
    ///
    /// # Errors
    ///
    /// What any call can come to.
    pub async fn health(&self) -> Result<Health, ClientError> {
        self.request(Method::GET, path::HEALTH).send().await?.read()
    }

    /// Asks whether the server can take work: `GET /health/ready`.
    ///
    /// A server that says it is not ready is an answer and no error.
    ///
    /// # Errors
    ///
    /// What any call can come to.
    pub async fn ready(&self) -> Result<Readiness, ClientError> {
        self.request(Method::GET, path::READY).send().await?.read_any()
    }

    /// Asks where everything is: `GET /.well-known/eap`, behind the path of the base URL.
    ///
    /// # Errors
    ///
    /// What any call can come to.
    pub async fn well_known(&self) -> Result<WellKnown, ClientError> {
        self.request(Method::GET, path::WELL_KNOWN).send().await?.read()
    }

    /// Reads the description of all calls, an OpenAPI 3.1 document: `GET /openapi.json`.
    ///
    /// # Errors
    ///
    /// What any call can come to.
    pub async fn openapi(&self) -> Result<JsonObject, ClientError> {
        self.request(Method::GET, path::OPENAPI).send().await?.read()
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.wire.deadline()
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> Request<'_> {
        let mut request = self.wire.request(method, &self.wire.under_base(path));
        if let Some(key) = &self.key {
            request = request.bearer(key);
        }
        if let Some(tenant) = self.tenant {
            request = request.header(header::TENANT_ID, &tenant.to_string());
        }
        if let Some(traceparent) = &self.traceparent {
            request = request.header(header::TRACEPARENT, traceparent.as_str());
        }
        request
    }
}

fn list(path: &str, query: &TaskQuery) -> String {
    with_query(
        path,
        [
            ("status", query.status.map(|status| status.to_string())),
            ("agent_id", query.agent_id.as_ref().map(ToString::to_string)),
            ("task_type", query.task_type.as_ref().map(ToString::to_string)),
            ("cursor", query.cursor.clone()),
            ("limit", query.limit.map(|limit| limit.to_string())),
        ],
    )
}

pub(crate) fn with_query<const N: usize>(path: &str, pairs: [(&str, Option<String>); N]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs {
        if let Some(value) = value {
            query.append_pair(name, &value);
        }
    }
    let query = query.finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}
