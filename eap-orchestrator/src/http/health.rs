//! `/health` (the process runs) and `/health/ready` (it can do its work); both are open to everybody.

use axum::extract::State;
use axum::response::Response;
use eap_types::{Health, Readiness};
use http::StatusCode;

use super::call::json;
use super::error;
use crate::orchestrator::Orchestrator;

/// The process runs.
pub(super) async fn live(State(_): State<Orchestrator>) -> Response {
    json(StatusCode::OK, &Health::ok()).unwrap_or_else(|broken| error::response(&broken, ""))
}

/// The store is loaded and answers, and nobody asked us to stop.
pub(super) async fn ready(State(orchestrator): State<Orchestrator>) -> Response {
    let reason = if !orchestrator.is_ready() {
        Some("starting")
    } else if orchestrator.stopping().is_cancelled() {
        Some("stopping")
    } else if orchestrator.lifecycle().failure().borrow().is_some()
        || orchestrator.lifecycle().store.head().await.is_err()
    {
        Some("storage")
    } else {
        None
    };
    let answer = match reason {
        None => json(StatusCode::OK, &Readiness::ready()),
        Some(reason) => json(StatusCode::SERVICE_UNAVAILABLE, &Readiness::not_ready(reason)),
    };
    answer.unwrap_or_else(|broken| error::response(&broken, ""))
}
