//! What operators see of agents.

use axum::response::Response;
use eap_types::limits;
use http::StatusCode;

use super::call::{OperatorCall, json};
use super::error::ApiError;
use super::query::Query;
use crate::orchestrator::Orchestrator;

/// A page of agents.
pub(super) async fn list(orchestrator: Orchestrator, call: OperatorCall) -> Result<Response, ApiError> {
    let mut query = Query::of(&call.parts.uri);
    let cursor: Option<String> = query.get("cursor", "This is the next_cursor of an earlier page.");
    let limit = query.number("limit", 1..=limits::MAX_PAGE as u64).and_then(|limit| usize::try_from(limit).ok());
    query.finish()?;
    json(StatusCode::OK, &orchestrator.agents(&call.operator, cursor.as_deref(), limit)?)
}

/// Asks an agent to get a new token.
pub(super) async fn rotate_token(orchestrator: Orchestrator, mut call: OperatorCall) -> Result<Response, ApiError> {
    let agent = call.agent().await?;
    json(StatusCode::OK, &orchestrator.rotate_token(&call.operator, &agent).await?)
}

/// One agent with its leases.
pub(super) async fn get(orchestrator: Orchestrator, mut call: OperatorCall) -> Result<Response, ApiError> {
    let agent = call.agent().await?;
    json(StatusCode::OK, &orchestrator.agent(&call.operator, &agent)?)
}
