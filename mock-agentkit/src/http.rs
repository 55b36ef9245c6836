//! The paths of the platform, and of its control.

mod agents;
mod control;
mod run;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{delete, get, post};
use eap_types::agentkit::{DetailBody, PlatformReply};
use eap_types::{header, path};
use http::{HeaderMap, StatusCode};
use serde::Serialize;

use crate::chance::now;
use crate::journal::ReceivedCall;
use crate::shared::Shared;

/// Bytes of a body that are taken.
const MOST_BODY_BYTES: usize = 2 * 1024 * 1024;
/// Where real agents that this mock simulates can be called.
pub(crate) const SIMULATED: &str = "/simulated/{agent_name}";

type App = State<Arc<Shared>>;

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let platform = Router::new()
        .route("/", get(root))
        .route(path::HEALTH, get(health))
        .route(path::PLATFORM_AGENTS, get(agents::list).post(agents::register_mock))
        .route(path::PLATFORM_REGISTER, post(agents::register_real))
        .route(path::PLATFORM_AGENT, delete(agents::remove))
        .route(path::PLATFORM_RUN, post(run::run))
        .route(SIMULATED, post(run::simulated))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(from_fn_with_state(Arc::clone(&shared), record));
    let control = Router::new()
        .route("/control/faults", get(control::faults).put(control::set_faults).delete(control::end_faults))
        .route("/control/work", get(control::work).put(control::set_work))
        .route("/control/received", get(control::received).delete(control::forget_received))
        .route("/control/sent", get(control::sent).delete(control::forget_sent));
    platform.merge(control).with_state(shared)
}

/// Writes a call down before it is carried out, and its status after.
async fn record(State(shared): App, request: Request, next: Next) -> Response {
    let at = now();
    let (parts, body) = request.into_parts();
    // A client that is slow to send must not hold up a stop.
    let Some(body) = shared.unless_stopped(to_bytes(body, MOST_BODY_BYTES)).await else { return stopping() };
    let Ok(body) = body else {
        return refusal(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large, or did not come whole");
    };
    let number = shared.journal.arrived(|number| ReceivedCall {
        number,
        at,
        method: parts.method.to_string(),
        path: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        headers: told(&parts.headers),
        body: String::from_utf8_lossy(&body).into_owned(),
        status: None,
    });
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    shared.journal.answered(number, response.status().as_u16());
    response
}

/// The headers that may be shown.
fn told(headers: &HeaderMap) -> Vec<(String, String)> {
    let shown = headers.iter().filter(|(name, _)| name.as_str() != header::AUTHORIZATION);
    shown.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())).collect()
}

async fn root() -> Response {
    reply(StatusCode::OK, &PlatformReply::success("mock-agentkit is running"))
}

async fn health() -> Response {
    reply(StatusCode::OK, &eap_types::Health::ok())
}

async fn not_found() -> Response {
    refusal(StatusCode::NOT_FOUND, "Not Found")
}

async fn not_allowed() -> Response {
    refusal(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
}

fn reply<T: Serialize>(status: StatusCode, body: &T) -> Response {
    let body = serde_json::to_vec(body).expect("answers can be written");
    let response = Response::builder().status(status).header(http::header::CONTENT_TYPE, header::JSON);
    response.body(Bytes::from(body).into()).expect("the parts of an answer are valid")
}

fn refusal(status: StatusCode, detail: &str) -> Response {
    reply(status, &DetailBody::text(detail))
}

/// The refusal of a call for which there is no room.
fn full() -> Response {
    let body = PlatformReply::error("Too much is under way.").with_error_code(Some("OVERLOADED"));
    reply(StatusCode::SERVICE_UNAVAILABLE, &body)
}

/// The refusal of a call that a stop has cut.
fn stopping() -> Response {
    let body = PlatformReply::error("The platform stops.").with_error_code(Some("STOPPING"));
    reply(StatusCode::SERVICE_UNAVAILABLE, &body)
}

/// The refusal of a call about an agent that is not there.
fn unknown(id: &str) -> Response {
    let body = PlatformReply::error(format!("Agent {id} not found")).with_error_code(Some("AGENT_NOT_FOUND"));
    reply(StatusCode::NOT_FOUND, &body)
}
