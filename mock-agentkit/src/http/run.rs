//! Tasks for agents: done by the platform itself in the mock shape, forwarded in the real one.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::Response;
use eap_types::agentkit::{DetailBody, PlatformReply, RunMessage};
use eap_types::from_json;
use http::StatusCode;
use serde_json::json;

use super::agents::with_data;
use super::{App, full, reply, stopping, unknown};
use crate::platform::forward;
use crate::registry::Shape;
use crate::simulation::take_on;

/// `POST /v1/agents/{agent_id}/run`.
pub(super) async fn run(State(shared): App, Path(id): Path<String>, body: Bytes) -> Response {
    let Some(registered) = shared.agents.get(&id) else { return unknown(&id) };
    let message: RunMessage = match from_json(&body) {
        Ok(message) => message,
        Err(error) => return reply(StatusCode::UNPROCESSABLE_ENTITY, &DetailBody::of_decode(&error)),
    };
    let faults = shared.run_faults();
    let answer = match (faults.status.map(StatusCode::from_u16), registered.shape) {
        (Some(status), _) => {
            let body = PlatformReply::error("A fault was asked for.").with_error_code(Some("FAULT"));
            reply(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &body)
        }
        (None, Shape::Mock) => {
            let Some(room) = shared.room() else { return full() };
            take_on(&shared, registered.agent.agent_id, &message, room).cancelled().await;
            if shared.stop.is_cancelled() {
                return stopping();
            }
            reply(StatusCode::OK, &PlatformReply::success(received_by(&id)))
        }
        (None, Shape::Real) => {
            if forward(&shared, &registered.agent, String::from_utf8_lossy(&body).into_owned()).is_err() {
                return full();
            }
            let data = json!({ "agentId": id, "dispatch_status": PlatformReply::SCHEDULED });
            let message = format!("Message accepted and scheduled for dispatch to agent {id}.");
            reply(StatusCode::ACCEPTED, &with_data(message, &data))
        }
    };
    if let Some(by) = faults.late {
        // A mock that is stopped answers at once.
        let _ = shared.unless_stopped(tokio::time::sleep(by)).await;
    }
    answer
}

/// `POST /simulated/{agent_name}`: where a real agent can be called that this mock simulates.
pub(super) async fn simulated(State(shared): App, Path(name): Path<String>, body: Bytes) -> Response {
    let Some(registered) = shared.agents.named(&name) else { return unknown(&name) };
    let message: RunMessage = match from_json(&body) {
        Ok(message) => message,
        Err(error) => return reply(StatusCode::UNPROCESSABLE_ENTITY, &DetailBody::of_decode(&error)),
    };
    let Some(room) = shared.room() else { return full() };
    take_on(&shared, registered.agent.agent_id, &message, room);
    reply(StatusCode::ACCEPTED, &PlatformReply::success(received_by(&name)))
}

fn received_by(agent: &str) -> String {
    format!("Mock AgentKit: Task received by agent {agent} (state updates attempted)")
}
