//! `/health` (the process runs) and `/health/ready` (it can do its work); both are open to everybody.

use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use eap_types::{Health, Readiness};
use http::StatusCode;

use super::call::json;
use super::error::ApiError;
use crate::orchestrator::Orchestrator;

/// How far a replica may be behind what the others did, to be called ready.
const FARTHEST: Duration = Duration::from_secs(5);

/// The process runs.
pub(super) fn live(_: &Orchestrator, _: &Request) -> Result<Response, ApiError> {
    json(StatusCode::OK, &Health::ok())
}

/// The store is loaded and answers, and nobody asked us to stop.
pub(super) async fn ready(orchestrator: Orchestrator, _: Request) -> Result<Response, ApiError> {
    let reason = if !orchestrator.is_ready() {
        Some("starting")
    } else if orchestrator.stopping().is_cancelled() {
        Some("stopping")
    } else if orchestrator.lifecycle().failure().borrow().is_some()
        || orchestrator.lifecycle().store.head().await.is_err()
    {
        Some("storage")
    } else if orchestrator.lifecycle().behind() > FARTHEST {
        Some("replicas")
    } else {
        None
    };
    match reason {
        None => json(StatusCode::OK, &Readiness::ready()),
        Some(reason) => json(StatusCode::SERVICE_UNAVAILABLE, &Readiness::not_ready(reason)),
    }
}
