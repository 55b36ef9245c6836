//! The operators' side: workflows, and the sessions that run them.

use std::time::Duration;

use eap_types::{
    CancelSession, IdempotencyKey, PageQuery, RunWorkflow, SessionId, SessionPage, SessionQuery, SessionView,
    WorkflowDefinition, WorkflowId, WorkflowPage, WorkflowStarted, WorkflowSummary, path,
};
use http::Method;

use crate::error::ClientError;
use crate::operator::{OperatorClient, with_query};

impl OperatorClient {
    /// Keeps a version of a workflow: `POST /api/v1/workflows`. The same once more changes nothing.
    ///
    /// # Errors
    ///
    /// 422 naming every problem of its steps, 409 WORKFLOW_EXISTS when the version is kept with another content, and what
    /// any call can come to.
    pub async fn keep_workflow(&self, workflow: &WorkflowDefinition) -> Result<WorkflowSummary, ClientError> {
        self.request(Method::POST, path::WORKFLOWS).json(workflow).send().await?.read()
    }

    /// Lists workflows, those that were kept last first: `GET /api/v1/workflows`.
    ///
    /// # Errors
    ///
    /// 422 for a query that breaks a rule, and what any call can come to.
    pub async fn workflows(&self, query: &PageQuery) -> Result<WorkflowPage, ClientError> {
        let limit = query.limit.map(|limit| limit.to_string());
        let path = with_query(path::WORKFLOWS, [("cursor", query.cursor.clone()), ("limit", limit)]);
        self.request(Method::GET, &path).send().await?.read()
    }

    /// Reads a workflow with its steps, in one version or in the one that was kept last:
    /// `GET /api/v1/workflows/{workflow_id}`.
    ///
    /// # Errors
    ///
    /// 404 NOT_FOUND, and what any call can come to.
    pub async fn workflow(&self, id: &WorkflowId, version: Option<&str>) -> Result<WorkflowDefinition, ClientError> {
        let path = with_query(&path::workflow(id), [("version", version.map(str::to_owned))]);
        self.request(Method::GET, &path).send().await?.read()
    }

    /// Starts a workflow in the version that was kept last: `POST /api/v1/workflows/{workflow_id}/runs`.
    ///
    /// With a key, repeating the call has the effect of one (RELIABILITY.md G5).
    ///
    /// # Errors
    ///
    /// 404 NOT_FOUND, 404 AGENT_NOT_FOUND, 422 naming each step that no agent could do, 409 IDEMPOTENCY_CONFLICT when the
    /// key was used for another call, and what any call can come to.
    pub async fn run_workflow(
        &self,
        id: &WorkflowId,
        run: &RunWorkflow,
        key: Option<&IdempotencyKey>,
    ) -> Result<WorkflowStarted, ClientError> {
        self.request(Method::POST, &path::workflow_runs(id)).json(run).idempotency_key(key).send().await?.read()
    }

    /// Reads a session, after waiting up to `wait` (whole seconds, at most 60) for its end: `GET /api/v1/sessions/{session_id}`.
    ///
    /// # Errors
    ///
    /// 404 NOT_FOUND, and what any call can come to.
    pub async fn session(&self, session: SessionId, wait: Option<Duration>) -> Result<SessionView, ClientError> {
        let path = path::session(&session);
        let Some(wait) = wait else {
            return self.request(Method::GET, &path).send().await?.read();
        };
        let path = format!("{path}?wait_seconds={}", wait.as_secs());
        self.request(Method::GET, &path).waiting(wait).send().await?.read()
    }

    /// Lists sessions, newest first, without their results and steps: `GET /api/v1/sessions`.
    ///
    /// # Errors
    ///
    /// 422 for a query that breaks a rule, and what any call can come to.
    pub async fn sessions(&self, query: &SessionQuery) -> Result<SessionPage, ClientError> {
        let path = with_query(
            path::SESSIONS,
            [
                ("status", query.status.map(|status| status.to_string())),
                ("workflow_id", query.workflow_id.as_ref().map(ToString::to_string)),
                ("agent_id", query.agent_id.as_ref().map(ToString::to_string)),
                ("cursor", query.cursor.clone()),
                ("limit", query.limit.map(|limit| limit.to_string())),
            ],
        );
        self.request(Method::GET, &path).send().await?.read()
    }

    /// Lets no further step of a session begin: `POST /api/v1/sessions/{session_id}/pause`. Asking again changes nothing.
    ///
    /// # Errors
    ///
    /// 409 SESSION_FINAL when it is over, 404 NOT_FOUND, and what any call can come to.
    pub async fn pause_session(&self, session: SessionId) -> Result<SessionView, ClientError> {
        self.request(Method::POST, &path::session_pause(&session)).send().await?.read()
    }

    /// Lets a paused session go on: `POST /api/v1/sessions/{session_id}/resume`. One that is not paused stays as it is.
    ///
    /// # Errors
    ///
    /// 409 SESSION_FINAL when it is over, 404 NOT_FOUND, and what any call can come to.
    pub async fn resume_session(&self, session: SessionId) -> Result<SessionView, ClientError> {
        self.request(Method::POST, &path::session_resume(&session)).send().await?.read()
    }

    /// Ends a session and the task of the step that runs: `POST /api/v1/sessions/{session_id}/cancel`. Asking again changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// 409 SESSION_FINAL when it ended otherwise, 404 NOT_FOUND, and what any call can come to.
    pub async fn cancel_session(&self, session: SessionId, reason: Option<&str>) -> Result<SessionView, ClientError> {
        let mut body = CancelSession::new();
        body.reason = reason.map(str::to_owned);
        self.request(Method::POST, &path::session_cancel(&session)).json(&body).send().await?.read()
    }
}
