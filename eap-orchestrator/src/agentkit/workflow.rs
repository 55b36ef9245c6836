//! `POST /v1/opscore/agent/{id}/workflow` and `GET /v1/opscore/session/{id}`: workflows, as Ops-Core starts and shows them.

use axum::extract::Request;
use axum::response::Response;
use eap_types::{AgentId, Scope, SessionId, TriggerWorkflow, WorkflowChoice, from_json, header, limits};
use http::StatusCode;

use super::{Refused, agent_in, operator, param};
use crate::error::Error;
use crate::http::{Query, checked_header, collect, json};
use crate::lifecycle::{ListSessions, Start};
use crate::orchestrator::Orchestrator;
use crate::trace::traceparent;

/// Starts a workflow for an agent.
pub(crate) async fn trigger(orchestrator: Orchestrator, request: Request) -> Result<Response, Refused> {
    let (operator, mut parts, body) = operator(&orchestrator, request, Scope::TasksSubmit).await?;
    let limit = limits::MAX_WORKFLOW_BYTES + orchestrator.config().capacity.submit_bytes;
    let body = collect(&orchestrator, &parts.headers, body, limit).await?;
    let TriggerWorkflow { workflow, initial_payload, .. } = from_json(&body).map_err(Refused::Unreadable)?;
    let agent: AgentId = agent_in(&mut parts).await.map_err(|agent| Refused::NoAgent { agent })?;
    let stored = match &workflow {
        WorkflowChoice::Stored(id) => Some(id.clone()),
        _ => None,
    };
    let key = checked_header(&parts.headers, header::IDEMPOTENCY_KEY)?;
    let start = Start { workflow, version: None, agent: Some(agent.clone()), initial_payload };
    let started = orchestrator.lifecycle().start_workflow(&operator, start, key, traceparent(&parts.headers)).await;
    let started = started.map_err(|refusal| match (refusal, stored) {
        (Error::UnknownAgent, _) => Refused::NoAgent { agent: agent.to_string() },
        (Error::UnknownWorkflow, Some(workflow)) => Refused::NoWorkflow { workflow },
        (other, _) => other.into(),
    })?;
    Ok(json(StatusCode::ACCEPTED, &started)?)
}

/// Says how far a workflow is.
pub(crate) async fn session(orchestrator: Orchestrator, request: Request) -> Result<Response, Refused> {
    let (operator, mut parts, _) = operator(&orchestrator, request, Scope::TasksRead).await?;
    let text = param(&mut parts, "session_id").await;
    let none = || Refused::NoSession { session: text.clone() };
    let id: SessionId = text.parse().map_err(|_| none())?;
    let view = orchestrator.session(&operator, id).await.map_err(|refusal| match refusal {
        Error::UnknownSession => none(),
        other => other.into(),
    })?;
    Ok(json(StatusCode::OK, &view)?)
}

/// A page of workflows that were started.
pub(crate) async fn sessions(orchestrator: Orchestrator, request: Request) -> Result<Response, Refused> {
    let (operator, parts, _) = operator(&orchestrator, request, Scope::TasksRead).await?;
    let mut query = Query::of(&parts.uri);
    let list = ListSessions::read(&mut query);
    query.finish()?;
    Ok(json(StatusCode::OK, &orchestrator.sessions(&operator, list).await?)?)
}
