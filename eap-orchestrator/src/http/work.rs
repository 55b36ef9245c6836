//! `POST …/{id}/tasks/lease` and `POST …/{id}/tasks/next`.

use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use eap_types::{LeaseReply, LeaseRequest, NextRequest, limits};
use http::StatusCode;

use super::call::{AgentCall, json, no_content};
use super::error::ApiError;
use crate::matchmaker::Wish;
use crate::orchestrator::Orchestrator;

/// An agent asks for work and waits for it; repeating the request gives the same tasks.
pub(super) async fn lease(orchestrator: Orchestrator, request: Request) -> Result<Response, ApiError> {
    // On the heap, so that a call that waits for work keeps no room for how it was read.
    let read = Box::pin(AgentCall::<LeaseRequest>::read(&orchestrator, request, |_| limits::MAX_SMALL_BYTES));
    let call = read.await?;
    if let Some(held) = call.body.held {
        let (agent, listed) = (&call.entry.agent, held.into_iter().collect());
        let missing = orchestrator.lifecycle().unlisted(&agent.id, agent.epoch, &listed).await?;
        if !missing.is_empty() {
            return json(StatusCode::OK, &LeaseReply::new(orchestrator.lifecycle().assignments(&missing)));
        }
    }
    let wish = Wish {
        max_tasks: call.body.max_tasks,
        wait: Duration::from_secs(call.body.wait_seconds),
        task_types: call.body.task_types.map(|types| types.into_iter().collect()),
        request_id: Some(call.body.request_id),
    };
    let tasks = orchestrator.matchmaker().ask(&call.entry, wish).await?.accept();
    if tasks.is_empty() {
        return Ok(no_content());
    }
    json(StatusCode::OK, &LeaseReply::new(orchestrator.lifecycle().assignments(&tasks)))
}

/// The one-task form; needs no body. A caller that hangs up gives its task back.
pub(super) async fn next(orchestrator: Orchestrator, request: Request) -> Result<Response, ApiError> {
    let absent = NextRequest::default();
    let call = Box::pin(AgentCall::read_or(&orchestrator, request, limits::MAX_SMALL_BYTES, absent)).await?;
    let wish = Wish {
        max_tasks: 1,
        wait: Duration::from_secs(call.body.wait_seconds),
        task_types: call.body.task_types.map(|types| types.into_iter().collect()),
        request_id: None,
    };
    let tasks = orchestrator.matchmaker().ask(&call.entry, wish).await?.accept();
    match orchestrator.lifecycle().assignments(&tasks).first() {
        Some(assignment) => json(StatusCode::OK, assignment),
        None => Ok(no_content()),
    }
}
