//! `POST` and `GET /v1/opscore/agent/{id}/state`, and its history: how agents of the platform say they are.

use axum::extract::Request;
use axum::response::Response;
use eap_types::agentkit::{AgentStateHistory, StateAccepted, StateReport};
use eap_types::{Scope, from_json, limits};
use http::StatusCode;

use super::refusals::Call;
use super::{Refused, agent_in, note, operator};
use crate::error::Error;
use crate::http::{Query, collect, json};
use crate::lifecycle::page_limit;
use crate::orchestrator::Orchestrator;

/// Takes in how an agent says it is.
pub(crate) async fn report(orchestrator: Orchestrator, request: Request) -> Result<Response, Refused> {
    take(&orchestrator, request).await.inspect_err(|why| note(&orchestrator, Call::StateReport, why))
}

async fn take(orchestrator: &Orchestrator, request: Request) -> Result<Response, Refused> {
    let (operator, mut parts, body) = operator(orchestrator, request, Scope::AgentsReport).await?;
    // What it says may be the result of its work; one that does not tell its length gets no room for that.
    let limit = match parts.headers.contains_key(http::header::CONTENT_LENGTH) {
        true => orchestrator.config().capacity.result_bytes,
        false => limits::MAX_SMALL_BYTES,
    };
    let body = collect(orchestrator, &parts.headers, body, limit).await?;
    let report: StateReport = from_json(&body).map_err(Refused::Unreadable)?;
    let agent = agent_in(&mut parts).await;
    let id = agent.as_ref().ok().filter(|id| **id == report.agent_id).ok_or(Refused::OtherAgent)?;
    orchestrator.lifecycle().report_state(&operator, id, report).await.map_err(|refusal| match refusal {
        Error::UnknownAgent => Refused::NoAgent { agent: id.to_string() },
        other => other.into(),
    })?;
    Ok(json(StatusCode::ACCEPTED, &StateAccepted::new())?)
}

/// Says how an agent is.
pub(crate) async fn show(orchestrator: Orchestrator, request: Request) -> Result<Response, Refused> {
    let (operator, mut parts, _) = operator(&orchestrator, request, Scope::AgentsRead).await?;
    let agent = agent_in(&mut parts).await.map_err(|agent| Refused::NoState { agent })?;
    let state = orchestrator.lifecycle().state(&operator, &agent).await.map_err(|refusal| no_state(refusal, &agent))?;
    Ok(json(StatusCode::OK, &state)?)
}

/// Says how it was before.
pub(crate) async fn history(orchestrator: Orchestrator, request: Request) -> Result<Response, Refused> {
    let (operator, mut parts, _) = operator(&orchestrator, request, Scope::AgentsRead).await?;
    let agent = agent_in(&mut parts).await.map_err(|agent| Refused::NoState { agent })?;
    let mut query = Query::of(&parts.uri);
    let limit = query.number("limit", 1..=limits::MAX_PAGE as u64).and_then(|limit| usize::try_from(limit).ok());
    query.finish()?;
    let states = orchestrator.lifecycle().state_history(&operator, &agent, page_limit(limit)?).await;
    let states = states.map_err(|refusal| no_state(refusal, &agent))?;
    Ok(json(StatusCode::OK, &AgentStateHistory::new(agent, states))?)
}

fn no_state(refusal: Error, agent: &eap_types::AgentId) -> Refused {
    match refusal {
        Error::UnknownAgent => Refused::NoState { agent: agent.to_string() },
        other => other.into(),
    }
}
