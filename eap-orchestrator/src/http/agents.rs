//! What operators see of agents.

use std::time::Duration;

use axum::response::Response;
use eap_types::{AgentId, Decode, DrainAgent, SetInterval, limits};
use http::StatusCode;

use super::call::{OperatorCall, json};
use super::error::ApiError;
use super::query::Query;
use crate::auth::Operator;
use crate::error::Error;
use crate::orchestrator::Orchestrator;

/// A page of agents.
pub(super) async fn list(orchestrator: Orchestrator, call: OperatorCall) -> Result<Response, ApiError> {
    let mut query = Query::of(&call.parts.uri);
    let (cursor, limit) = query.page();
    query.finish()?;
    json(StatusCode::OK, &orchestrator.agents(&call.operator, cursor.as_deref(), limit)?)
}

/// Brings what is known of the platform's agents in line with its list.
pub(super) async fn reconcile(orchestrator: Orchestrator, call: OperatorCall) -> Result<Response, ApiError> {
    json(StatusCode::OK, &orchestrator.reconcile(&call.operator).await?)
}

/// Asks an agent to get a new token.
pub(super) async fn rotate_token(orchestrator: Orchestrator, mut call: OperatorCall) -> Result<Response, ApiError> {
    let agent = call.agent().await?;
    json(StatusCode::OK, &orchestrator.rotate_token(&call.operator, &agent).await?)
}

/// An agent gets no more work.
pub(super) async fn drain(orchestrator: Orchestrator, call: OperatorCall) -> Result<Response, ApiError> {
    let Asked { operator, agent, body } = asked(&orchestrator, call, Some(DrainAgent::new())).await?;
    json(StatusCode::OK, &orchestrator.drain_agent(&operator, &agent, body.reason).await?)
}

/// A drained agent gets work again.
pub(super) async fn resume(orchestrator: Orchestrator, mut call: OperatorCall) -> Result<Response, ApiError> {
    let agent = call.agent().await?;
    json(StatusCode::OK, &orchestrator.resume_agent(&call.operator, &agent).await?)
}

/// An agent is to beat at another interval.
pub(super) async fn set_interval(orchestrator: Orchestrator, call: OperatorCall) -> Result<Response, ApiError> {
    let Asked { operator, agent, body } = asked::<SetInterval>(&orchestrator, call, None).await?;
    let interval = Duration::from_secs(body.heartbeat_interval_seconds);
    json(StatusCode::OK, &orchestrator.set_agent_interval(&operator, &agent, interval).await?)
}

/// What an operator asks of an agent.
struct Asked<T> {
    operator: Operator,
    agent: AgentId,
    body: T,
}

async fn asked<T: Decode>(
    orchestrator: &Orchestrator,
    mut call: OperatorCall,
    absent: Option<T>,
) -> Result<Asked<T>, ApiError> {
    let (agent, operator) = (call.agent().await, call.operator.clone());
    match call.body(orchestrator, limits::MAX_SMALL_BYTES, absent).await {
        Ok((body, ..)) => Ok(Asked { operator, agent: agent?, body }),
        Err(invalid @ ApiError::Core(Error::Invalid { .. })) => {
            // An agent that is not there comes before what is wrong with the body.
            orchestrator.agent(&operator, &agent?)?;
            Err(invalid)
        }
        Err(unreadable) => Err(unreadable),
    }
}

/// One agent with its leases.
pub(super) async fn get(orchestrator: Orchestrator, mut call: OperatorCall) -> Result<Response, ApiError> {
    let agent = call.agent().await?;
    json(StatusCode::OK, &orchestrator.agent(&call.operator, &agent)?)
}
