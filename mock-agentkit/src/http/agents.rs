//! Agents come, are listed, and leave.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::Response;
use eap_types::agentkit::{DetailBody, PlatformAgent, PlatformReply};
use eap_types::{AgentId, Decode, Fields, RawJson, from_json};
use http::StatusCode;
use serde_json::{Value, json};

use super::{App, full, reply, unknown};
use crate::chance::agent_id;
use crate::error::RegisterError;
use crate::platform;
use crate::registry::Shape;

/// `POST /v1/agents`: the mock shape, under an id that the caller chose.
pub(super) async fn register_mock(State(shared): App, body: Bytes) -> Response {
    let agent: PlatformAgent = match from_json(&body) {
        Ok(agent) => agent,
        Err(error) => return reply(StatusCode::UNPROCESSABLE_ENTITY, &DetailBody::of_decode(&error)),
    };
    let id = agent.agent_id.clone();
    match platform::register(&shared, agent, Shape::Mock) {
        Ok(attempted) => {
            attempted.cancelled().await;
            let message = format!("Agent {id} registered (webhook notification attempted)");
            reply(StatusCode::OK, &PlatformReply::success(message))
        }
        Err(error) => refused(&error),
    }
}

/// `POST /v1/agents/register`: the real shape, under an id of the platform's own.
pub(super) async fn register_real(State(shared): App, body: Bytes) -> Response {
    let agent: WithoutId = match from_json(&body) {
        Ok(agent) => agent,
        Err(error) => return reply(StatusCode::UNPROCESSABLE_ENTITY, &DetailBody::of_decode(&error)),
    };
    let WithoutId(agent) = agent;
    let (id, name) = (agent.agent_id.clone(), agent.agent_name.clone());
    match platform::register(&shared, agent, Shape::Real) {
        Ok(attempted) => {
            attempted.cancelled().await;
            let message = format!("Agent '{name}' registered successfully.");
            reply(StatusCode::CREATED, &with_data(message, &json!({ "agentId": id })))
        }
        Err(error) => refused(&error),
    }
}

/// `GET /v1/agents`: all of them, whatever their shape.
pub(super) async fn list(State(shared): App) -> Response {
    let agents = shared.agents.all();
    let message = format!("{} agents registered", agents.len());
    let data = RawJson::from_serialize(&agents).expect("agents can be written");
    reply(StatusCode::OK, &PlatformReply::success(message).with_data(data))
}

/// `DELETE /v1/agents/{agent_id}`.
pub(super) async fn remove(State(shared): App, Path(id): Path<String>) -> Response {
    let Ok(agent_id) = id.parse::<AgentId>() else { return unknown(&id) };
    match platform::remove(&shared, &agent_id) {
        Ok(Some(attempted)) => {
            attempted.cancelled().await;
            let message = format!("Agent {id} deregistered (webhook notification attempted)");
            reply(StatusCode::OK, &PlatformReply::success(message))
        }
        Ok(None) => unknown(&id),
        Err(error) => refused(&error),
    }
}

/// An answer of the real shape, which says that nothing went wrong.
pub(super) fn with_data(message: String, data: &Value) -> PlatformReply {
    let data = RawJson::from_serialize(data).expect("a JSON value can be written");
    PlatformReply::success(message).with_data(data).with_error_code(None)
}

fn refused(error: &RegisterError) -> Response {
    match error {
        RegisterError::DuplicateName { name } => {
            let body = PlatformReply::error(format!("Agent with name '{name}' is already registered."))
                .with_data(RawJson::parse("null").expect("it is JSON"))
                .with_error_code(Some("DUPLICATE_AGENT"));
            reply(StatusCode::CONFLICT, &body)
        }
        RegisterError::Full => full(),
    }
}

/// An agent as it comes in the real shape: the platform gives it an id.
struct WithoutId(PlatformAgent);

impl Decode for WithoutId {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        PlatformAgent::decode_with_id(fields, agent_id()).map(Self)
    }
}
