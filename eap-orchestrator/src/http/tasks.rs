//! What operators do with tasks: submit alone or in batches, get, list, cancel, history, explain.

use std::time::Duration;

use axum::extract::OriginalUri;
use axum::response::Response;
use eap_types::{
    CancelTask, FieldProblem, IncomingTasks, SubmitBatchReply, SubmitOutcome, SubmitTask, SubmittedTask, header, limits,
};
use http::{HeaderValue, StatusCode};

use super::call::{OperatorCall, checked_header, json, with_request_id};
use super::error::ApiError;
use super::query::Query;
use crate::error::Error;
use crate::lifecycle::ListTasks;
use crate::orchestrator::Orchestrator;
use crate::trace::traceparent;

/// Takes a task in.
pub(super) async fn submit(orchestrator: Orchestrator, call: OperatorCall) -> Result<Response, ApiError> {
    let limit = orchestrator.config().capacity.submit_bytes;
    let (task, parts, operator) = call.body::<SubmitTask>(&orchestrator, limit, None).await?;
    let key = checked_header(&parts.headers, header::IDEMPOTENCY_KEY)?;
    let view = orchestrator.lifecycle().submit(&operator, task, key, traceparent(&parts.headers)).await?;
    let uri = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |original| &original.0);
    let location = format!("{}/{}", uri.path(), view.task_id);
    let mut response = json(StatusCode::CREATED, &view)?;
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(http::header::LOCATION, location);
    }
    Ok(response)
}

/// Takes several in; each gets an answer, in order.
pub(super) async fn submit_batch(orchestrator: Orchestrator, call: OperatorCall) -> Result<Response, ApiError> {
    let id = super::request_id(&orchestrator, &call.parts.headers);
    let (whole, each) = (orchestrator.config().capacity.batch_bytes, orchestrator.config().capacity.submit_bytes);
    let (batch, parts, operator) = call.body::<IncomingTasks>(&orchestrator, whole, None).await?;
    let key = checked_header(&parts.headers, header::IDEMPOTENCY_KEY)?;
    let entries = batch.entries.into_iter().enumerate().map(|(index, entry)| {
        if entry.bytes <= each {
            return entry.task;
        }
        let message = format!("must have at most {each} bytes");
        Err(vec![FieldProblem::new(format!("body.tasks[{index}]"), "value_error", message)])
    });
    let (entries, trace) = (entries.collect(), traceparent(&parts.headers));
    let outcomes = orchestrator.lifecycle().submit_batch(&operator, entries, key, trace).await?;
    let outcomes = outcomes.into_iter().map(|outcome| match outcome {
        Ok(task) => SubmitOutcome::Submitted(SubmittedTask::new(task)),
        Err(refusal) => SubmitOutcome::Refused(Box::new(ApiError::from(refusal).problem(&id))),
    });
    Ok(with_request_id(json(StatusCode::OK, &SubmitBatchReply::new(outcomes))?, &id))
}

/// One task; with `wait_seconds`, once it is final.
pub(super) async fn get(orchestrator: Orchestrator, mut call: OperatorCall) -> Result<Response, ApiError> {
    let task = call.task().await?;
    let mut query = Query::of(&call.parts.uri);
    let wait = query.number("wait_seconds", 0..=limits::MAX_WAIT.as_secs());
    query.finish()?;
    let view = match wait {
        Some(seconds) => orchestrator.wait(&call.operator, task, Duration::from_secs(seconds)).await?,
        None => orchestrator.get(&call.operator, task).await?,
    };
    json(StatusCode::OK, &view)
}

impl ListTasks {
    /// What a query string says of it.
    pub(super) fn read(query: &mut Query) -> Self {
        let (cursor, limit) = query.page();
        Self {
            status: query.get("status", "This is queued, leased, completed, failed, cancelled or dead."),
            agent_id: query.get("agent_id", "This is an agent's id."),
            task_type: query.get("task_type", "This is a task type."),
            cursor,
            limit,
        }
    }
}

/// A page of tasks.
pub(super) async fn list(orchestrator: Orchestrator, call: OperatorCall) -> Result<Response, ApiError> {
    let mut query = Query::of(&call.parts.uri);
    let list = ListTasks::read(&mut query);
    query.finish()?;
    json(StatusCode::OK, &orchestrator.list(&call.operator, list).await?)
}

/// What the agents of a task type take as input.
pub(super) async fn of_type(orchestrator: Orchestrator, mut call: OperatorCall) -> Result<Response, ApiError> {
    let task_type = call.task_type().await?;
    json(StatusCode::OK, &orchestrator.task_type(&call.operator, &task_type))
}

/// Ends a task.
pub(super) async fn cancel(orchestrator: Orchestrator, mut call: OperatorCall) -> Result<Response, ApiError> {
    let (task, operator) = (call.task().await, call.operator.clone());
    let absent = Some(CancelTask::new());
    match call.body(&orchestrator, limits::MAX_SMALL_BYTES, absent).await {
        Ok((cancel, ..)) => json(StatusCode::OK, &orchestrator.cancel(&operator, task?, cancel.reason).await?),
        Err(invalid @ ApiError::Core(Error::Invalid { .. })) => {
            // A task that is not there comes before what is wrong with the body.
            orchestrator.get(&operator, task?).await?;
            Err(invalid)
        }
        Err(unreadable) => Err(unreadable),
    }
}

/// What happened to a task.
pub(super) async fn history(orchestrator: Orchestrator, mut call: OperatorCall) -> Result<Response, ApiError> {
    let task = call.task().await?;
    json(StatusCode::OK, &orchestrator.history(&call.operator, task).await?)
}

/// Why it is where it is.
pub(super) async fn explain(orchestrator: Orchestrator, mut call: OperatorCall) -> Result<Response, ApiError> {
    let task = call.task().await?;
    json(StatusCode::OK, &orchestrator.explain(&call.operator, task).await?)
}
