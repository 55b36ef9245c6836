//! The HTTP API: one line per route here, one file per resource beside it.

mod agents;
mod call;
mod error;
mod health;
mod heartbeat;
mod query;
mod register;
mod reports;
mod tasks;
mod work;

use std::future::Future;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, get, on};
use eap_types::{header, path};
use http::HeaderValue;

use self::error::ApiError;
pub(crate) use self::error::bad_target;
use crate::clock::draw;
use crate::orchestrator::Orchestrator;

/// Every route of this version.
pub(crate) fn router(orchestrator: Orchestrator) -> Router {
    let external = Router::new()
        .route(path::REGISTER, post(register::register))
        .route(path::AGENT, with(MethodFilter::DELETE, register::remove))
        .route(path::DEREGISTER, post(register::deregister))
        .route(path::HEARTBEAT, post(heartbeat::beat))
        .route(path::LEASE, post(work::lease))
        .route(path::NEXT, post(work::next))
        .route(path::RESULT, post(reports::result))
        .route(path::RESULTS, post(reports::results))
        .route(path::PROGRESS, post(reports::progress))
        .route(path::RELEASE, post(reports::release));
    let api = Router::new()
        .nest(path::AGENTS_BASE, external)
        .route(path::TASKS, on_get(tasks::list).merge(post(tasks::submit)))
        .route(path::TASKS_BATCH, post(tasks::submit_batch))
        .route(path::TASK, on_get(tasks::get))
        .route(path::TASK_CANCEL, post(tasks::cancel))
        .route(path::TASK_HISTORY, on_get(tasks::history))
        .route(path::AGENTS, on_get(agents::list))
        .route(path::AGENT_DETAIL, on_get(agents::get));
    // The fallbacks stand on the API's own subtree, so that the router merges into a host's beside its fallback.
    let rest = Router::new().fallback(no_route);
    api.nest("/api/v1", rest)
        .route(path::HEALTH, get(health::live))
        .route(path::READY, get(health::ready))
        .method_not_allowed_fallback(no_method)
        .with_state(orchestrator)
}

fn post<F, A>(handler: F) -> MethodRouter<Orchestrator>
where
    F: Fn(Orchestrator, Request) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    with(MethodFilter::POST, handler)
}

fn on_get<F, A>(handler: F) -> MethodRouter<Orchestrator>
where
    F: Fn(Orchestrator, Request) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    with(MethodFilter::GET, handler)
}

/// A route whose errors become problem bodies that carry the request's id.
fn with<F, A>(method: MethodFilter, handler: F) -> MethodRouter<Orchestrator>
where
    F: Fn(Orchestrator, Request) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    on(method, async move |State(orchestrator): State<Orchestrator>, request: Request| {
        let id = request_id(&orchestrator, &request);
        let answer = handler(orchestrator, request).await;
        let mut response = answer.unwrap_or_else(|refusal| error::response(&refusal, &id));
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(header::REQUEST_ID, id);
        }
        response
    })
}

/// Answers a path that is not there; `serve` uses it for paths outside the API too.
pub(crate) async fn no_route(State(orchestrator): State<Orchestrator>, request: Request) -> Response {
    error::response(&ApiError::NoRoute, &request_id(&orchestrator, &request))
}

async fn no_method(State(orchestrator): State<Orchestrator>, request: Request) -> Response {
    error::response(&ApiError::Method, &request_id(&orchestrator, &request))
}

/// The caller's `X-Request-ID`, or one of ours.
fn request_id(orchestrator: &Orchestrator, request: &Request) -> String {
    given_request_id(request).unwrap_or_else(|| {
        let bytes: [u8; 8] = draw(&*orchestrator.lifecycle().entropy);
        format!("{:016x}", u64::from_le_bytes(bytes))
    })
}

fn given_request_id(request: &Request) -> Option<String> {
    let given = request.headers().get(header::REQUEST_ID)?.to_str().ok()?;
    let usable = (1..=128).contains(&given.len()) && given.bytes().all(|byte| byte.is_ascii_graphic());
    usable.then(|| given.to_owned())
}
