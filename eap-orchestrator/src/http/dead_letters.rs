//! What operators do with tasks that failed for good or died: list, requeue, discard.

use axum::extract::OriginalUri;
use axum::response::Response;
use eap_types::path;
use http::{HeaderValue, StatusCode};

use super::call::{OperatorCall, json, no_content};
use super::error::ApiError;
use super::query::Query;
use crate::lifecycle::ListTasks;
use crate::orchestrator::Orchestrator;

/// A page of dead letters.
pub(super) async fn list(orchestrator: Orchestrator, call: OperatorCall) -> Result<Response, ApiError> {
    let mut query = Query::of(&call.parts.uri);
    let list = ListTasks::read(&mut query);
    query.finish()?;
    json(StatusCode::OK, &orchestrator.dead_letters(&call.operator, list).await?)
}

/// Does one again; 201 for the call that made the new task, 200 for one that repeats it.
pub(super) async fn requeue(orchestrator: Orchestrator, mut call: OperatorCall) -> Result<Response, ApiError> {
    let letter = call.task().await?;
    let requeued = orchestrator.lifecycle().requeue(&call.operator, letter).await?;
    let status = if requeued.is_new { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = json(status, &requeued.task)?;
    // Where a host mounted the API, the new task stands under the same prefix.
    let uri = call.parts.extensions.get::<OriginalUri>().map_or(&call.parts.uri, |original| &original.0);
    let prefix = uri.path().split(path::DEAD_LETTERS).next().unwrap_or_default();
    let location = format!("{prefix}{}", path::task(&requeued.task.task_id));
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(http::header::LOCATION, location);
    }
    Ok(response)
}

/// Takes one off the list.
pub(super) async fn discard(orchestrator: Orchestrator, mut call: OperatorCall) -> Result<Response, ApiError> {
    let letter = call.task().await?;
    orchestrator.discard(&call.operator, letter).await?;
    Ok(no_content())
}
