//! `POST /task`, `GET /health` and `DELETE /task/{task_id}` (docs/protocol.md, section 1).

use std::future::Future;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{delete, get, post};
use eap_types::{
    Assignment, CancelTask, DecodeError, ErrorCode, HealthStatus, Heartbeat, ProblemBody, TaskId, from_json, header,
    limits,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::accept::accept;
use super::caller::{is_orchestrator, may_be_orchestrator};
use super::counter::{End, Offered};
use crate::leases::LeaseKey;
use crate::output::LONGEST_HOLD;
use crate::shared::{Access, Shared};

/// What a full or stopping agent asks for.
const RETRY_AFTER: &str = "1";
/// A reason of 4096 characters, each escaped, and room for what later versions add.
const MAX_CANCEL_BYTES: usize = 64 * 1024;
/// How many connections may be open at once, beside one for each task that the agent may hold: whoever opens more waits
/// until others end.
const CONNECTIONS: usize = 256;
/// How long the body of a call may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The agent's three paths, to be mounted at any prefix.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/task", post(task))
        .route("/task/{task_id}", delete(cancel))
        .route("/health", get(health))
        .with_state(shared)
}

/// Serves them on a listener of the agent's own until `stop`.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>, stop: impl Future<Output = ()> + Send + 'static) {
    let connections = CONNECTIONS + shared.max_tasks as usize;
    match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => accept(&listener, &router(shared), connections, stop).await,
        Err(error) => warn!(%error, "the agent's endpoint ended"),
    }
}

/// Takes a task: answers with its result, or before it where the orchestrator can live with that.
async fn task(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if !may_be_orchestrator(&parts.headers) {
        return unauthorized();
    }
    // An input of 1 MiB, of which every byte may be escaped, and the rest of an assignment.
    let body = match read(body, limits::MAX_RESULT_BYTES).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let Some(access) = access(&shared) else { return unavailable("the agent is not registered") };
    let assignment = from_json::<Assignment>(&body);
    let id = match &assignment {
        Ok(Assignment { task_id, attempt: Some(attempt), .. }) => format!("{task_id}.{attempt}"),
        Ok(Assignment { task_id, .. }) => format!("{task_id}."),
        Err(_) => String::new(),
    };
    if !is_orchestrator(&access, &parts.headers, &id, &body, shared.clock.now()) {
        return unauthorized();
    }
    let mut assignment = match assignment {
        Ok(assignment) => assignment,
        Err(error) => return unreadable(error),
    };
    if assignment.lease_id.is_none() && assignment.lease_expires_in_ms.is_none() {
        // Nothing renews it: an older orchestrator waits for as long as the task may take.
        assignment.lease_expires_in_ms = Some(assignment.timeout_seconds.saturating_mul(1000));
    }
    let key = LeaseKey::of(&assignment);
    let may_be_async = assignment.lease_id.is_some() && prefers_async(&parts.headers);
    let takes_nothing = *shared.paused.borrow() || shared.draining.load(Ordering::Relaxed);
    let most = if takes_nothing { 0 } else { shared.max_tasks as usize };
    let held = shared.leases.len().max(shared.slots.load(Ordering::Relaxed));
    let offered = shared.counter.offer(assignment, held, most);
    let mut end = match offered {
        Offered::Done(result) => return answer(200, &*result),
        Offered::Full => {
            return with_retry(problem(
                StatusCode::TOO_MANY_REQUESTS,
                ErrorCode::RateLimited,
                "the agent has as many tasks as it takes",
            ));
        }
        Offered::Closed => return unavailable("the agent takes nothing new"),
        Offered::Taken(_) if may_be_async => return answer(202, &Accepted { status: "accepted" }),
        Offered::Taken(end) => end,
    };
    let ended = end.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
    match ended {
        Some(End::Result(result)) => {
            output_told(&shared, key).await;
            answer(200, &*result)
        }
        Some(End::Gone) | None => unavailable("the agent gave the task back"),
    }
}

/// Waits until what the handler of a task emitted is told, for as long as its result waits for that.
async fn output_told(shared: &Shared, key: LeaseKey) {
    let mut changes = shared.output_told.subscribe();
    let told = async {
        while !shared.leases.is_output_told(key) {
            changes.changed().await.expect("the sender is borrowed for as long as this waits");
        }
    };
    // Without it then: whoever waits for the result waits no longer.
    let _ = timeout(LONGEST_HOLD, told).await;
}

/// A body, as far as it may be as large and take as long as it does.
async fn read(body: Body, most: usize) -> Result<Bytes, Response> {
    let Ok(body) = timeout(BODY_TIMEOUT, to_bytes(body, most)).await else {
        return Err(problem(StatusCode::REQUEST_TIMEOUT, ErrorCode::RequestTimeout, "the body came too slowly"));
    };
    body.map_err(|_| problem(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::PayloadTooLarge, "the body is too large"))
}

fn unreadable(error: DecodeError) -> Response {
    let status = if matches!(error, DecodeError::Invalid { .. }) { 422 } else { 400 };
    answer(status, &ProblemBody::of_decode(error, ""))
}

/// Stops a task that was cancelled.
async fn cancel(State(shared): State<Arc<Shared>>, Path(task): Path<String>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if !may_be_orchestrator(&parts.headers) {
        return unauthorized();
    }
    let body = match read(body, MAX_CANCEL_BYTES).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let Some(access) = access(&shared) else { return unavailable("the agent is not registered") };
    if !is_orchestrator(&access, &parts.headers, &format!("cancel.{task}."), &body, shared.clock.now()) {
        return unauthorized();
    }
    let told = if body.is_empty() { Ok(CancelTask::new()) } else { from_json::<CancelTask>(&body) };
    let told = match told {
        Ok(told) => told,
        Err(error) => return unreadable(error),
    };
    let reason = told.reason.as_deref();
    let is_held = task.parse::<TaskId>().is_ok_and(|task| shared.leases.cancel_task(task, reason));
    debug!(task, is_held, "a task is cancelled by a call");
    if is_held {
        answer(202, &Accepted { status: "cancelling" })
    } else {
        problem(StatusCode::NOT_FOUND, ErrorCode::TaskNotFound, "the agent does not have this task")
    }
}

/// Says how the agent is doing; which tasks it holds, to its orchestrator alone.
async fn health(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let held = shared.leases.len();
    let load = (held as f64 / f64::from(shared.max_tasks.max(1))).min(1.0);
    let is_draining = shared.draining.load(Ordering::Relaxed);
    let mut beat = Heartbeat::new(HealthStatus::Healthy)
        .with_current_load(load)
        .with_tasks_in_progress(held as u64)
        .with_draining(is_draining);
    // Without the list, the beat would renew what a process before this one held.
    beat.tasks = Some(Vec::new());
    let now = shared.clock.now();
    if access(&shared).is_some_and(|access| is_orchestrator(&access, &headers, "health.", b"", now)) {
        beat.tasks = shared.leases.listed().tasks;
    }
    answer(200, &beat)
}

fn access(shared: &Shared) -> Option<Arc<Access>> {
    shared.access.borrow().clone()
}

fn prefers_async(headers: &HeaderMap) -> bool {
    let preferences = headers.get_all(header::PREFER).into_iter().filter_map(|value| value.to_str().ok());
    preferences.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case(header::RESPOND_ASYNC))
}

#[derive(Serialize)]
struct Accepted {
    status: &'static str,
}

fn unauthorized() -> Response {
    let mut response = problem(StatusCode::UNAUTHORIZED, ErrorCode::InvalidToken, "the call is not the orchestrator's");
    response.headers_mut().insert(http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

fn unavailable(why: &str) -> Response {
    with_retry(problem(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, why))
}

fn with_retry(mut response: Response) -> Response {
    response.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
    response
}

fn problem(status: StatusCode, code: ErrorCode, detail: &str) -> Response {
    answer(status.as_u16(), &ProblemBody::new(code, detail, ""))
}

fn answer(status: u16, body: &impl Serialize) -> Response {
    let text = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = if status < 400 { header::JSON } else { header::PROBLEM_JSON };
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
