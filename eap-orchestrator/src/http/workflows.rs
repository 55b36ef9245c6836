//! What operators do with workflows, and with the sessions that run them.

use std::time::Duration;

use axum::response::Response;
use eap_types::{CancelSession, RunWorkflow, SessionId, WorkflowDefinition, header, limits};
use http::StatusCode;

use super::call::{OperatorCall, checked_header, json};
use super::error::ApiError;
use super::query::Query;
use crate::auth::Operator;
use crate::error::Error;
use crate::lifecycle::{ListSessions, Start};
use crate::orchestrator::Orchestrator;
use crate::trace::traceparent;

/// Keeps a workflow.
pub(super) async fn keep(orchestrator: Orchestrator, call: OperatorCall) -> Result<Response, ApiError> {
    let (workflow, _, operator) =
        call.body::<WorkflowDefinition>(&orchestrator, limits::MAX_WORKFLOW_BYTES, None).await?;
    let kept = orchestrator.lifecycle().keep_workflow(&operator, workflow).await?;
    json(if kept.is_new { StatusCode::CREATED } else { StatusCode::OK }, &kept.workflow)
}

/// A page of workflows.
pub(super) async fn list(orchestrator: Orchestrator, call: OperatorCall) -> Result<Response, ApiError> {
    let mut query = Query::of(&call.parts.uri);
    let (cursor, limit) = query.page();
    query.finish()?;
    json(StatusCode::OK, &orchestrator.workflows(&call.operator, cursor.as_deref(), limit).await?)
}

/// One workflow, with its steps.
pub(super) async fn get(orchestrator: Orchestrator, mut call: OperatorCall) -> Result<Response, ApiError> {
    let workflow = call.workflow().await?;
    let mut query = Query::of(&call.parts.uri);
    let version: Option<String> = query.get("version", "This is a version.");
    query.finish()?;
    json(StatusCode::OK, &orchestrator.workflow(&call.operator, &workflow, version.as_deref()).await?)
}

/// Starts a workflow.
pub(super) async fn run(orchestrator: Orchestrator, mut call: OperatorCall) -> Result<Response, ApiError> {
    let (workflow, operator) = (call.workflow().await, call.operator.clone());
    let limit = orchestrator.config().capacity.submit_bytes;
    match call.body(&orchestrator, limit, Some(RunWorkflow::new())).await {
        Ok((run, parts, operator)) => {
            let start = Start::of(workflow?, run);
            let key = checked_header(&parts.headers, header::IDEMPOTENCY_KEY)?;
            let trace = traceparent(&parts.headers);
            let started = orchestrator.lifecycle().start_workflow(&operator, start, key, trace).await?;
            json(StatusCode::ACCEPTED, &started)
        }
        Err(invalid @ ApiError::Core(Error::Invalid { .. })) => {
            // A workflow that is not there comes before what is wrong with the body.
            orchestrator.workflow(&operator, &workflow?, None).await?;
            Err(invalid)
        }
        Err(unreadable) => Err(unreadable),
    }
}

impl ListSessions {
    /// What a query string says of it.
    pub(crate) fn read(query: &mut Query) -> Self {
        let (cursor, limit) = query.page();
        Self {
            status: query.get("status", "This is started, running, completed, failed, cancelled or paused."),
            workflow_id: query.get("workflow_id", "This is a workflow's id."),
            agent_id: query.get("agent_id", "This is an agent's id."),
            cursor,
            limit,
        }
    }
}

/// A page of sessions.
pub(super) async fn sessions(orchestrator: Orchestrator, call: OperatorCall) -> Result<Response, ApiError> {
    let mut query = Query::of(&call.parts.uri);
    let list = ListSessions::read(&mut query);
    query.finish()?;
    json(StatusCode::OK, &orchestrator.sessions(&call.operator, list).await?)
}

/// One session; with `wait_seconds`, once it is over.
pub(super) async fn session(orchestrator: Orchestrator, mut call: OperatorCall) -> Result<Response, ApiError> {
    let session = call.session().await?;
    let mut query = Query::of(&call.parts.uri);
    let wait = query.number("wait_seconds", 0..=limits::MAX_WAIT.as_secs());
    query.finish()?;
    let wait = Duration::from_secs(wait.unwrap_or_default());
    json(StatusCode::OK, &orchestrator.wait_for_session(&call.operator, session, wait).await?)
}

/// Lets no further step begin.
pub(super) async fn pause(orchestrator: Orchestrator, mut call: OperatorCall) -> Result<Response, ApiError> {
    let session = call.session().await?;
    json(StatusCode::OK, &orchestrator.pause_session(&call.operator, session).await?)
}

/// Lets it go on.
pub(super) async fn resume(orchestrator: Orchestrator, mut call: OperatorCall) -> Result<Response, ApiError> {
    let session = call.session().await?;
    json(StatusCode::OK, &orchestrator.resume_session(&call.operator, session).await?)
}

/// Ends it.
pub(super) async fn cancel(orchestrator: Orchestrator, mut call: OperatorCall) -> Result<Response, ApiError> {
    let (session, operator): (Result<SessionId, _>, Operator) = (call.session().await, call.operator.clone());
    match call.body(&orchestrator, limits::MAX_SMALL_BYTES, Some(CancelSession::new())).await {
        Ok((cancel, ..)) => {
            json(StatusCode::OK, &orchestrator.cancel_session(&operator, session?, cancel.reason).await?)
        }
        Err(invalid @ ApiError::Core(Error::Invalid { .. })) => {
            // A session that is not there comes before what is wrong with the body.
            orchestrator.session(&operator, session?).await?;
            Err(invalid)
        }
        Err(unreadable) => Err(unreadable),
    }
}
