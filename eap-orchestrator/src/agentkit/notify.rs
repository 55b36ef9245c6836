//! `POST /v1/opscore/internal/agent/notify`: an agent came or went, says its platform.

use axum::extract::Request;
use axum::response::Response;
use eap_types::agentkit::{AgentNotification, AgentNotified, NotificationRefusal};
use eap_types::limits;
use http::StatusCode;

use super::refusals::Call;
use super::secrets::{Proof, SignatureHeaders};
use super::{Refused, be_served, note};
use crate::http::{collect, json, origin};
use crate::lifecycle::{Noticed, Notified};
use crate::orchestrator::Orchestrator;

/// Checks a webhook by its raw bytes, and has it take effect.
pub(crate) async fn notify(orchestrator: Orchestrator, request: Request) -> Result<Response, Refused> {
    take(&orchestrator, request).await.inspect_err(|why| note(&orchestrator, Call::Webhook, why))
}

async fn take(orchestrator: &Orchestrator, request: Request) -> Result<Response, Refused> {
    be_served(orchestrator)?;
    let (parts, body) = request.into_parts();
    let lifecycle = orchestrator.lifecycle();
    let counters = &lifecycle.metrics.webhooks;
    let headers = SignatureHeaders::read(&parts.headers).inspect_err(|why| why.count(counters))?;
    let config = orchestrator.config().agentkit.as_ref().ok_or(Refused::NotServed)?;
    let body = collect(orchestrator, &parts.headers, body, limits::MAX_REGISTER_BYTES).await?;
    let may_be_unsigned = orchestrator.config().access.trusts(&origin(&parts));
    let now = lifecycle.clock.now();
    let checked = lifecycle.platform_secrets.check(&headers, &body, config, may_be_unsigned, now);
    let Proof { sent_at, digest } = checked.inspect_err(|why| why.count(counters))?;
    let told = AgentNotification::read(&body).map_err(|refusal| match refusal {
        NotificationRefusal::UnknownEvent { event_type } => Refused::UnknownEvent { event_type },
        NotificationRefusal::MissingAgentId { event_type } => Refused::MissingId { event_type },
        NotificationRefusal::Invalid(error) => Refused::Unreadable(error),
        other => Refused::UnknownEvent { event_type: other.to_string() },
    })?;
    let answer = AgentNotified::of(&told);
    let noticed = lifecycle.notified(Notified { told, sent_at: sent_at.unwrap_or(now), digest }).await?;
    counters.noticed(noticed);
    let answer = match noticed {
        Noticed::Applied => answer,
        Noticed::Duplicate => answer.with_duplicate(),
        Noticed::Outdated => answer.with_stale(),
    };
    Ok(json(StatusCode::OK, &answer)?)
}
