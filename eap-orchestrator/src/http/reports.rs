//! What agents report: result, results, progress, release.

use axum::extract::Request;
use axum::response::Response;
use eap_types::{
    FieldProblem, IncomingResults, ProgressReport, ReleaseRequest, ResultOutcome, ResultsReply, TaskResult, limits,
};
use futures_util::future::join_all;
use http::StatusCode;

use super::call::{AgentCall, json, with_request_id};
use super::error::ApiError;
use crate::error::Error;
use crate::orchestrator::Orchestrator;

/// Records the outcome an agent reports for its attempt.
pub(super) async fn result(orchestrator: Orchestrator, request: Request) -> Result<Response, ApiError> {
    let limit = orchestrator.config().capacity.result_bytes;
    let call: AgentCall<TaskResult> = AgentCall::read(&orchestrator, request, |_| limit).await?;
    let task = call.task()?;
    let accepted = orchestrator.lifecycle().record(&call.entry.agent, task, call.body).await?;
    json(StatusCode::OK, &accepted)
}

/// Records several; each gets the answer it would have had alone, in order.
pub(super) async fn results(orchestrator: Orchestrator, request: Request) -> Result<Response, ApiError> {
    let limit = orchestrator.config().capacity.result_bytes;
    let id = super::request_id(&orchestrator, request.headers());
    let call: AgentCall<IncomingResults> = AgentCall::read(&orchestrator, request, |_| limit).await?;
    let (lifecycle, agent) = (orchestrator.lifecycle(), &call.entry.agent);
    let outcomes = call.body.entries.into_iter().map(async |entry: Result<TaskResult, Vec<FieldProblem>>| {
        let recorded = match entry {
            Ok(result) => lifecycle.record(agent, result.task_id, result).await,
            Err(problems) => Err(Error::Invalid { problems }),
        };
        match recorded {
            Ok(accepted) => ResultOutcome::Accepted(accepted),
            Err(refusal) => ResultOutcome::Refused(ApiError::from(refusal).problem(&id)),
        }
    });
    let reply = ResultsReply::new(join_all(outcomes).await);
    Ok(with_request_id(json(StatusCode::OK, &reply)?, &id))
}

/// Takes in how far an attempt is.
pub(super) async fn progress(orchestrator: Orchestrator, request: Request) -> Result<Response, ApiError> {
    let call: AgentCall<ProgressReport> =
        AgentCall::read(&orchestrator, request, |_| limits::MAX_PROGRESS_BYTES).await?;
    let task = call.task()?;
    let reply = orchestrator.lifecycle().progress(&call.entry.agent, task, call.body).await?;
    json(StatusCode::OK, &reply)
}

/// Takes a task back.
pub(super) async fn release(orchestrator: Orchestrator, request: Request) -> Result<Response, ApiError> {
    let absent = ReleaseRequest::new();
    let call = AgentCall::read_or(&orchestrator, request, limits::MAX_SMALL_BYTES, absent).await?;
    let task = call.task()?;
    let released = orchestrator.lifecycle().release(&call.entry.agent, task, call.body).await?;
    json(StatusCode::OK, &released)
}
