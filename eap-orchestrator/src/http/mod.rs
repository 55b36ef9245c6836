//! The HTTP API: `routes` is the table of all calls, one file per resource has their handlers.

mod agents;
mod call;
mod dead_letters;
mod error;
mod health;
mod heartbeat;
mod query;
mod register;
mod reports;
mod route;
mod routes;
mod tasks;
mod work;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use eap_types::{header, path};
use http::HeaderMap;

use self::error::ApiError;
pub(crate) use self::error::bad_target;
use self::route::Caller;
use crate::clock::draw;
use crate::orchestrator::Orchestrator;

/// Every row of the table of calls, served.
pub(crate) fn router(orchestrator: Orchestrator) -> Router {
    let (mut external, mut api) = (Router::new(), Router::new());
    for route in routes::routes() {
        match route.caller {
            Caller::Agent | Caller::Registration => external = external.route(route.path, route.handler),
            Caller::Open | Caller::Operator(_) => api = api.route(route.path, route.handler),
        }
    }
    // The fallbacks stand on the API's own subtree, so that the router merges into a host's beside its fallback.
    let rest = Router::new().fallback(no_route);
    api.nest(path::AGENTS_BASE, external)
        .nest("/api/v1", rest)
        .method_not_allowed_fallback(no_method)
        .with_state(orchestrator)
}

/// Answers a path that is not there; `serve` uses it for paths outside the API too.
pub(crate) async fn no_route(State(orchestrator): State<Orchestrator>, request: Request) -> Response {
    error::response(&ApiError::NoRoute, &request_id(&orchestrator, request.headers()))
}

async fn no_method(State(orchestrator): State<Orchestrator>, request: Request) -> Response {
    error::response(&ApiError::Method, &request_id(&orchestrator, request.headers()))
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
