//! What agents report: result, results, progress, release.

use axum::extract::Request;
use axum::response::Response;
use eap_types::{IncomingResults, ProgressReport, ReleaseRequest, ResultOutcome, ResultsReply, TaskResult, limits};
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
    let refused = |refusal: Error| ResultOutcome::Refused(Box::new(ApiError::from(refusal).problem(&id)));
    let (mut outcomes, mut results, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for (place, entry) in call.body.entries.into_iter().enumerate() {
        match entry {
            Ok(result) => {
                results.push(result);
                places.push(place);
                outcomes.push(None);
            }
            Err(problems) => outcomes.push(Some(refused(Error::Invalid { problems }))),
        }
    }
    let recorded = orchestrator.lifecycle().record_all(&call.entry.agent, results).await?;
    for (place, recorded) in places.into_iter().zip(recorded) {
        outcomes[place] = Some(recorded.map_or_else(refused, ResultOutcome::Accepted));
    }
    let reply = ResultsReply::new(outcomes.into_iter().flatten());
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
