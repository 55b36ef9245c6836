//! The HTTP API: `routes` is the table of all calls, one file per resource has their handlers.

mod agents;
mod artifacts;
mod call;
mod conditional;
mod dead_letters;
mod error;
mod events;
mod health;
mod heartbeat;
mod keys;
mod metrics;
mod openapi;
mod query;
mod register;
mod reports;
mod route;
mod routes;
#[cfg(test)]
mod scopes;
mod service;
mod tasks;
mod uploads;
mod work;
mod workflows;

use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use eap_types::{header, path};
use http::HeaderMap;

pub(crate) use self::call::{
    PathIds, be_ready, bearer, bearer_text, checked_header, collect, is_own_path, json, origin, same_tenant, token_text,
};
pub(crate) use self::error::{ApiError, bad_target, detail, detail_status};
pub(crate) use self::query::Query;
use self::route::Caller;
pub(crate) use self::service::well_known_router;
use crate::agentkit::Refused;
use crate::clock::draw;
use crate::orchestrator::Orchestrator;

/// What the face of an agent platform stands under; its refusals have a body of their own.
const FACE: &str = "/v1/opscore";

/// Every row of the table of calls but `/metrics`, served.
pub(crate) fn router(orchestrator: Orchestrator) -> Router {
    let mut api = Router::new();
    for route in routes::routes().into_iter().filter(|route| route.path != path::METRICS) {
        // One table of full paths: each router within another costs a call its path anew.
        let base = match route.caller {
            Caller::Agent | Caller::Registration => path::AGENTS_BASE,
            Caller::Open | Caller::Operator(_) | Caller::Platform | Caller::Reporter(_) => "",
        };
        api = api.route(&format!("{base}{}", pattern(route.path)), route.handler);
    }
    // The fallbacks stand on the API's own subtree, so that the router merges into a host's beside its fallback.
    let rest = Router::new().fallback(no_route);
    let rest_of_the_face = Router::new().fallback(no_route_of_the_face);
    api.nest("/api/v1", rest)
        .nest(FACE, rest_of_the_face)
        .method_not_allowed_fallback(no_method)
        .with_state(orchestrator)
}

/// A path of the table as the router writes it: what an artifact is called has slashes of its own.
fn pattern(path: &str) -> String {
    path.replace("{path}", "{*path}")
}

/// `/metrics` alone, which a host may keep to itself.
pub(crate) fn metrics_router(orchestrator: Orchestrator) -> Router {
    let rows = routes::routes().into_iter().filter(|route| route.path == path::METRICS);
    let router = rows.fold(Router::new(), |router, route| router.route(route.path, route.handler));
    router.method_not_allowed_fallback(no_method).with_state(orchestrator)
}

/// The names of all calls.
pub(crate) fn calls() -> impl Iterator<Item = &'static str> {
    routes::routes().into_iter().map(|route| route.words.id)
}

/// Every row of the table of calls, told.
pub(crate) fn openapi_document() -> serde_json::Value {
    openapi::document(&routes::routes())
}

/// A call of an agent that can also come as a frame of its WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Called {
    Heartbeat,
    Results,
    Progress,
    Release,
}

/// Carries such a call out, and counts it as the one that it is.
pub(crate) async fn in_process(orchestrator: Orchestrator, called: Called, request: Request) -> Response {
    match called {
        Called::Heartbeat => route::answer("heartbeat", heartbeat::beat, orchestrator, request).await,
        Called::Results => route::answer("report_results", reports::results, orchestrator, request).await,
        Called::Progress => route::answer("report_progress", reports::progress, orchestrator, request).await,
        Called::Release => route::answer("release_task", reports::release, orchestrator, request).await,
    }
}

/// Answers a path that is not there; `serve` uses it for paths outside the API too.
pub(crate) async fn no_route(State(orchestrator): State<Orchestrator>, request: Request) -> Response {
    astray(&orchestrator, &ApiError::NoRoute, &request)
}

async fn no_route_of_the_face(State(orchestrator): State<Orchestrator>) -> Response {
    astray_on_the_face(&orchestrator, ApiError::NoRoute)
}

async fn no_method(State(orchestrator): State<Orchestrator>, request: Request) -> Response {
    if request.uri().path().starts_with(FACE) {
        return astray_on_the_face(&orchestrator, ApiError::Method);
    }
    astray(&orchestrator, &ApiError::Method, &request)
}

fn astray(orchestrator: &Orchestrator, refusal: &ApiError, request: &Request) -> Response {
    let began = Instant::now();
    let response = error::response(refusal, &request_id(orchestrator, request.headers()));
    orchestrator.lifecycle().metrics.http.went_astray(response.status(), began);
    response
}

fn astray_on_the_face(orchestrator: &Orchestrator, refusal: ApiError) -> Response {
    let began = Instant::now();
    let is_served = orchestrator.config().agentkit.is_some();
    let response = detail(&if is_served { Refused::Api(refusal) } else { Refused::NotServed });
    orchestrator.lifecycle().metrics.http.went_astray(response.status(), began);
    response
}

/// The caller's `X-Request-ID`, or one of ours.
fn request_id(orchestrator: &Orchestrator, headers: &HeaderMap) -> String {
    given_request_id(headers).unwrap_or_else(|| {
        let bytes: [u8; 8] = draw(&*orchestrator.lifecycle().entropy);
        format!("{:016x}", u64::from_le_bytes(bytes))
    })
}

fn given_request_id(headers: &HeaderMap) -> Option<String> {
    let given = headers.get(header::REQUEST_ID)?.to_str().ok()?;
    let usable = (1..=128).contains(&given.len()) && given.bytes().all(|byte| byte.is_ascii_graphic());
    usable.then(|| given.to_owned())
}
