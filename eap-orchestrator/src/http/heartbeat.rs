//! `POST …/{id}/heartbeat`.

use axum::extract::Request;
use axum::response::Response;
use eap_types::{Feature, Heartbeat, limits};
use http::StatusCode;

use super::call::{AgentCall, json, no_content};
use super::error::ApiError;
use crate::orchestrator::Orchestrator;

/// An agent is alive: 204, or what it should know if it agreed on directives.
pub(super) async fn beat(orchestrator: Orchestrator, request: Request) -> Result<Response, ApiError> {
    let answer = take(&orchestrator, request).await;
    let beats = &orchestrator.lifecycle().metrics.beats;
    let counter = if answer.is_ok() { &beats.accepted } else { &beats.refused };
    counter.add(1);
    answer
}

async fn take(orchestrator: &Orchestrator, request: Request) -> Result<Response, ApiError> {
    let limit = |entry: &crate::directory::Entry| limits::max_heartbeat_bytes(entry.agent.max_concurrent_tasks);
    let call: AgentCall<Heartbeat> = AgentCall::read(orchestrator, request, limit).await?;
    let reply = orchestrator.lifecycle().beat(&call.entry, call.body).await?;
    let agreed = call.entry.agent.features.as_ref();
    if agreed.is_some_and(|features| features.contains(Feature::DirectivesV1)) {
        json(StatusCode::OK, &reply)
    } else {
        Ok(no_content())
    }
}
