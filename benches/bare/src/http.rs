//! The routes: the orchestrator's paths and bodies for the hot calls, and an echo that touches no store.

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::oneshot;

use crate::wire::{
    Ask, Assigned, Echo, Kept, KeptResult, Leased, Outcome, Recorded, Report, Reports, Submit, SubmitBatch, Submitted,
};
use crate::writer::{Request, Waiting, Writer};

/// The routes over a writer.
pub fn router(writer: Writer) -> Router {
    Router::new()
        .route("/api/v1/tasks", post(submit))
        .route("/api/v1/tasks/batch", post(submit_batch))
        .route("/api/v1/agents/external/{agent_id}/tasks/lease", post(lease))
        .route("/api/v1/agents/external/{agent_id}/tasks/{task_id}/result", post(result))
        .route("/api/v1/agents/external/{agent_id}/results", post(results))
        .with_state(writer)
        .route("/echo", post(echo))
}

/// Why a call was not done.
enum Refusal {
    Malformed(serde_json::Error),
    Busy,
}

impl From<serde_json::Error> for Refusal {
    fn from(error: serde_json::Error) -> Self {
        Self::Malformed(error)
    }
}

impl axum::response::IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Malformed(error) => (StatusCode::UNPROCESSABLE_ENTITY, error.to_string()).into_response(),
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        }
    }
}

async fn submit(State(writer): State<Writer>, body: Bytes) -> Result<Response, Refusal> {
    let task: Submit<'_> = serde_json::from_slice(&body)?;
    let ids = write_tasks(&writer, &[task]).await?;
    let id = ids.first().ok_or(Refusal::Busy)?;
    answer(StatusCode::CREATED, &queued(*id))
}

async fn submit_batch(State(writer): State<Writer>, body: Bytes) -> Result<Response, Refusal> {
    let batch: SubmitBatch<'_> = serde_json::from_slice(&body)?;
    let ids = write_tasks(&writer, &batch.tasks).await?;
    answer(StatusCode::OK, &Submitted { tasks: ids.into_iter().map(queued).collect() })
}

async fn write_tasks(writer: &Writer, tasks: &[Submit<'_>]) -> Result<Vec<i64>, Refusal> {
    let tasks = tasks.iter().map(kept).collect::<Result<_, _>>()?;
    let (reply, done) = oneshot::channel();
    hand_over(writer, Request::Submit { tasks, reply })?;
    done.await.map_err(|_| Refusal::Busy)
}

fn kept(task: &Submit<'_>) -> Result<Box<RawValue>, serde_json::Error> {
    to_raw_value(&Kept { task_type: &task.task_type, context: task.context, input_data: task.input })
}

fn queued(id: i64) -> Outcome {
    Outcome { task_id: id.to_string(), status: "queued" }
}

async fn lease(State(writer): State<Writer>, Path(agent): Path<String>, body: Bytes) -> Result<Response, Refusal> {
    let ask: Ask = serde_json::from_slice(&body)?;
    let (reply, leased) = oneshot::channel();
    hand_over(&writer, Request::Lease(Waiting { agent, room: ask.max_tasks, reply }))?;
    let Ok(Ok(tasks)) = tokio::time::timeout(Duration::from_secs(ask.wait_seconds), leased).await else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let assigned = tasks.iter().map(|ready| Assigned {
        task_id: ready.id.to_string(),
        lease_id: ready.id.to_string(),
        attempt: 1,
        timeout_seconds: 3600,
        task: &ready.task,
    });
    answer(StatusCode::OK, &Leased { tasks: assigned.collect() })
}

async fn result(
    State(writer): State<Writer>,
    Path((_, task)): Path<(String, i64)>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let report: Report<'_> = serde_json::from_slice(&body)?;
    let kept = serde_json::to_string(&KeptResult { status: &report.status, output_data: report.output_data })?;
    finish(&writer, vec![(task, kept)]).await?;
    answer(StatusCode::OK, &accepted(task))
}

async fn results(State(writer): State<Writer>, body: Bytes) -> Result<Response, Refusal> {
    let reports: Reports<'_> = serde_json::from_slice(&body)?;
    let mut written = Vec::with_capacity(reports.results.len());
    for report in &reports.results {
        let Ok(task) = report.task_id.parse::<i64>() else {
            return Ok(StatusCode::NOT_FOUND.into_response());
        };
        let kept = KeptResult { status: &report.status, output_data: report.output_data };
        written.push((task, serde_json::to_string(&kept)?));
    }
    let outcomes = written.iter().map(|(task, _)| accepted(*task)).collect();
    finish(&writer, written).await?;
    answer(StatusCode::OK, &Recorded { results: outcomes })
}

async fn finish(writer: &Writer, results: Vec<(i64, String)>) -> Result<(), Refusal> {
    let (reply, done) = oneshot::channel();
    hand_over(writer, Request::Finish { results, reply })?;
    done.await.map_err(|_| Refusal::Busy)
}

fn accepted(id: i64) -> Outcome {
    Outcome { task_id: id.to_string(), status: "accepted" }
}

async fn echo(body: Bytes) -> Result<Response, Refusal> {
    let body: Echo<'_> = serde_json::from_slice(&body)?;
    answer(StatusCode::OK, &body)
}

fn hand_over(writer: &Writer, request: Request) -> Result<(), Refusal> {
    if writer.send(request) { Ok(()) } else { Err(Refusal::Busy) }
}

fn answer(status: StatusCode, body: &impl Serialize) -> Result<Response, Refusal> {
    let body = serde_json::to_vec(body)?;
    Ok((status, [(CONTENT_TYPE, "application/json")], body).into_response())
}
