//! `GET /metrics`.

use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode};

use super::call::OperatorCall;
use super::error::ApiError;
use crate::metrics::CONTENT_TYPE;
use crate::orchestrator::Orchestrator;

/// What the orchestrator counts, for Prometheus.
pub(super) async fn page(orchestrator: Orchestrator, call: OperatorCall) -> Result<Response, ApiError> {
    let mut response = (StatusCode::OK, orchestrator.metrics(&call.operator).await).into_response();
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    Ok(response)
}
