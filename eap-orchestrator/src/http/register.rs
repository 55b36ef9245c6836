//! `POST …/register`, `POST …/{id}/deregister`, `POST …/{id}/token/rotate`, `DELETE …/{id}`.

use axum::extract::{OriginalUri, Request};
use axum::response::Response;
use eap_types::{
    Deregister, Deregistered, Endpoints, PROTOCOL_VERSION, Registered, Registration, WireLimits, from_json, header,
    limits, path,
};
use http::{HeaderValue, StatusCode, Uri};

use super::call::{
    AgentCall, Nothing, be_ready, bearer_text, checked_header, collect, header_text, json, no_content, origin,
    same_tenant,
};
use super::error::ApiError;
use crate::auth::AgentToken;
use crate::error::Error;
use crate::lifecycle::{Registering, Welcome};
use crate::orchestrator::Orchestrator;

/// An agent joins, or comes back.
pub(super) async fn register(orchestrator: Orchestrator, request: Request) -> Result<Response, ApiError> {
    be_ready(&orchestrator)?;
    let (parts, body) = request.into_parts();
    let headers = &parts.headers;
    let lifecycle = orchestrator.lifecycle();
    // A bearer may be either: the secret to register with, or the agent's live token.
    let bearer = bearer_text(headers);
    let token = header_text(headers, header::AGENT_TOKEN).or_else(|| bearer.clone());
    let secret = header_text(headers, header::REGISTRATION_TOKEN).or(bearer);
    lifecycle.be_level().await?;
    // What another replica did a moment ago counts, for whoever may be known there.
    if token.as_ref().and_then(AgentToken::read).is_some() || secret.is_some() {
        lifecycle.catch_up().await?;
    }
    let live = token.as_ref().and_then(AgentToken::read).and_then(|token| {
        let entry = lifecycle.directory.bearer(&token, || lifecycle.clock.now())?;
        // A token that was replaced and left behind does not take the agent over.
        entry.may_renew(&token.digest).then_some(entry)
    });
    let admission = lifecycle.keys.admission(secret.as_ref(), &origin(&parts), lifecycle.clock.now());
    if live.is_none() && admission.is_err() {
        return Err(admission.err().unwrap_or(Error::InvalidToken).into());
    }
    let bytes = collect(&orchestrator, headers, body, limits::MAX_REGISTER_BYTES).await?;
    let registration: Registration = from_json(&bytes)?;
    let key = checked_header(headers, header::IDEMPOTENCY_KEY)?;
    let tenant = match (&admission, &live) {
        (Ok(admission), _) => Some(admission.tenant),
        (Err(_), live) => live.as_ref().map(|live| live.agent.tenant),
    };
    if let Some(tenant) = tenant {
        let reason = "the registration secret or token belongs to another tenant";
        same_tenant(headers, tenant).map_err(|_| Error::RegistrationDenied { reason })?;
    }
    let welcome = lifecycle.register(Registering { registration, admission, live, key }).await?;
    let uri = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |original| &original.0);
    let base = agents_base(&orchestrator, uri);
    let location = format!("{base}{}", path::agent(&welcome.agent.id));
    let mut response = json(StatusCode::CREATED, &reply(&orchestrator, welcome, &base))?;
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(http::header::LOCATION, location);
    }
    Ok(response)
}

/// The path agents' calls begin with, as the caller sees it: under `public_url`, else where it called.
fn agents_base(orchestrator: &Orchestrator, called: &Uri) -> String {
    match orchestrator.config().public_url.as_deref().and_then(|url| url::Url::parse(url).ok()) {
        Some(url) => format!("{}{}", url.path().trim_end_matches('/'), path::AGENTS_BASE),
        None => called.path().strip_suffix(path::REGISTER).unwrap_or(path::AGENTS_BASE).to_owned(),
    }
}

/// An older peer gets the four fields of ADR 001 and no more.
fn reply(orchestrator: &Orchestrator, welcome: Welcome, base: &str) -> Registered {
    let Welcome { agent, token, push_secret } = welcome;
    let timing = &orchestrator.config().timing;
    let interval = agent.orders.interval(timing.heartbeat_interval).as_secs();
    let mut reply = Registered::new(agent.id.clone(), token, interval);
    if agent.is_older_peer() {
        return reply;
    }
    let of = |fill: fn(&eap_types::AgentId) -> String| format!("{base}{}", fill(&agent.id));
    let of_task = |template: &str| {
        format!("{base}{}", template.replace("{agent_id}", path::agent(&agent.id).trim_start_matches('/')))
    };
    let mut endpoints = Endpoints::new();
    endpoints.heartbeat = of(path::heartbeat);
    endpoints.lease = of(path::lease);
    endpoints.next = of(path::next);
    endpoints.result = of_task(path::RESULT);
    endpoints.results = of(path::results);
    endpoints.progress = of_task(path::PROGRESS);
    endpoints.release = of_task(path::RELEASE);
    let takes_uploads = orchestrator.lifecycle().artifacts.is_some();
    if takes_uploads {
        endpoints.artifact = of_task(path::ARTIFACT);
    }
    endpoints.ws = of(path::socket);
    endpoints.rotate = of(path::token_rotate);
    endpoints.deregister = of(path::deregister);
    reply.push_secret = push_secret;
    reply.endpoints = Some(endpoints);
    reply.protocol_version = Some(PROTOCOL_VERSION.to_owned());
    reply.features.clone_from(&agent.features);
    reply.lease_seconds = Some(timing.lease.as_secs());
    let capacity = &orchestrator.config().capacity;
    let mut limits = WireLimits::new(capacity.result_bytes as u64);
    limits.max_artifact_bytes = takes_uploads.then_some(capacity.artifact_bytes);
    reply.limits = Some(limits);
    reply.server_time = Some(orchestrator.lifecycle().clock.now());
    reply
}

/// An agent leaves.
pub(super) async fn deregister(orchestrator: Orchestrator, request: Request) -> Result<Response, ApiError> {
    let absent = Deregister::new();
    let call = AgentCall::read_or(&orchestrator, request, limits::MAX_SMALL_BYTES, absent).await?;
    let released = orchestrator.lifecycle().deregister(&call.entry.agent).await?;
    let message = format!("Agent {} deregistered.", call.entry.agent.id);
    json(StatusCode::OK, &Deregistered::new(message, released))
}

/// An agent gets a new token.
pub(super) async fn rotate(orchestrator: Orchestrator, request: Request) -> Result<Response, ApiError> {
    let call = AgentCall::read_or(&orchestrator, request, limits::MAX_SMALL_BYTES, Nothing).await?;
    json(StatusCode::OK, &orchestrator.lifecycle().rotate(&call.entry.agent, call.token).await?)
}

/// An agent leaves, in HTTP's own words.
pub(super) async fn remove(orchestrator: Orchestrator, request: Request) -> Result<Response, ApiError> {
    let absent = Deregister::new();
    let call = AgentCall::read_or(&orchestrator, request, limits::MAX_SMALL_BYTES, absent).await?;
    orchestrator.lifecycle().deregister(&call.entry.agent).await?;
    Ok(no_content())
}
