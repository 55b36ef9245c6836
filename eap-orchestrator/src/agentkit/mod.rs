//! The face of an agent platform, AgentKit: webhooks come in, work goes out, states come back (docs/protocol.md, section 6).
//!
//! Its shapes and its refusals are those of the two systems that speak so already, not those of the rest of the API; what
//! a call does is done by the same lifecycle manager.

mod notify;
mod refusals;
mod secrets;
mod state;
mod workflow;

use axum::extract::Request;
use axum::response::Response;
use eap_types::{AgentId, DecodeError, Scope, WorkflowId};
use http::request::Parts;

pub(crate) use self::notify::notify;
use self::refusals::Call;
pub(crate) use self::refusals::RefusalLog;
pub(crate) use self::secrets::{Distrust, PlatformSecrets};
pub(crate) use self::state::{history, report, show};
pub(crate) use self::workflow::{session, sessions, trigger};
use crate::auth::Operator;
use crate::error::Error;
use crate::http::{ApiError, be_ready, bearer_text, origin, same_tenant};
use crate::orchestrator::Orchestrator;

/// Why a call is refused. Which status that is, `http/error.rs` says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// As elsewhere.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The face is not served.
    #[error("Not Found")]
    NotServed,
    #[error("{0}")]
    Distrusted(#[from] Distrust),
    #[error("Authorization header missing")]
    NoKey,
    #[error("Invalid authentication credentials")]
    WrongKey,
    #[error("Unknown event type: {event_type}")]
    UnknownEvent { event_type: String },
    #[error("Missing agentId in agent_details for {event_type} event.")]
    MissingId { event_type: &'static str },
    #[error("Agent ID in path does not match agent ID in payload")]
    OtherAgent,
    #[error("Agent {agent} not found")]
    NoAgent { agent: String },
    #[error("No state found for agent {agent}")]
    NoState { agent: String },
    #[error("Workflow definition {workflow} not found")]
    NoWorkflow { workflow: WorkflowId },
    #[error("Session {session} not found")]
    NoSession { session: String },
    /// The body is wrong; this face has a list of its own for that.
    #[error(transparent)]
    Unreadable(DecodeError),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid { problems } => Self::Unreadable(DecodeError::Invalid { problems }),
            Error::Unreadable(error) => Self::Unreadable(error),
            other => Self::Api(other.into()),
        }
    }
}

/// Refuses what comes while the face is not served, or nothing is loaded yet.
fn be_served(orchestrator: &Orchestrator) -> Result<(), Refused> {
    if orchestrator.config().agentkit.is_none() {
        return Err(Refused::NotServed);
    }
    Ok(be_ready(orchestrator)?)
}

/// A call by whoever has an operator key, taken apart as far as that.
async fn operator(
    orchestrator: &Orchestrator,
    request: Request,
    scope: Scope,
) -> Result<(Operator, Parts, axum::body::Body), Refused> {
    be_served(orchestrator)?;
    let (parts, body) = request.into_parts();
    let lifecycle = orchestrator.lifecycle();
    let given = bearer_text(&parts.headers);
    let operator = lifecycle.operator(given.as_ref(), &origin(&parts), scope).await;
    let operator = operator.map_err(|refusal| match refusal {
        Error::InvalidKey if !parts.headers.contains_key(http::header::AUTHORIZATION) => Refused::NoKey,
        Error::InvalidKey | Error::EndedKey { .. } => Refused::WrongKey,
        other => other.into(),
    })?;
    operator.must_have(scope)?;
    same_tenant(&parts.headers, operator.tenant)?;
    Ok((operator, parts, body))
}

/// The agent in the path, as it is written there where it is no id.
async fn agent_in(parts: &mut Parts) -> Result<AgentId, String> {
    let text = param(parts, "agent_id").await;
    text.parse().map_err(|_| text)
}

/// A part of the path, as it is written there.
async fn param(parts: &mut Parts, wanted: &str) -> String {
    use axum::extract::FromRequestParts as _;
    let params = axum::extract::RawPathParams::from_request_parts(parts, &()).await.ok();
    let find = |params: axum::extract::RawPathParams| {
        params.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.to_owned())
    };
    params.and_then(find).unwrap_or_default()
}

/// Has the log tell of a refusal.
fn note(orchestrator: &Orchestrator, call: Call, refused: &Refused) {
    let lifecycle = orchestrator.lifecycle();
    lifecycle.refusals.note(call, refused, lifecycle.clock.now());
}

/// Carries a call of this face out; its refusals get the body that it has for them.
pub(crate) async fn answered<F, A>(
    handler: F,
    orchestrator: Orchestrator,
    request: Request,
) -> Result<Response, ApiError>
where
    F: FnOnce(Orchestrator, Request) -> A,
    A: Future<Output = Result<Response, Refused>>,
{
    let answer = handler(orchestrator, request).await;
    Ok(answer.unwrap_or_else(|refusal| crate::http::detail(&refusal)))
}
