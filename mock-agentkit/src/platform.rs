//! What the platform does when it is asked to: the same for its HTTP calls and for those of the library.

use std::sync::Arc;

use eap_types::AgentId;
use eap_types::agentkit::{AgentNotification, PlatformAgent};
use tokio_util::sync::CancellationToken;

use crate::chance::now;
use crate::delivery::Letter;
use crate::error::RegisterError;
use crate::journal::SentKind;
use crate::registry::Shape;
use crate::shared::Shared;
use crate::webhooks::announce;

/// Registers an agent. What it gives is cancelled once the webhook was tried.
pub(crate) fn register(
    shared: &Arc<Shared>,
    agent: PlatformAgent,
    shape: Shape,
) -> Result<CancellationToken, RegisterError> {
    let room = shared.room().ok_or(RegisterError::Full)?;
    let turn = shared.agents.add(&agent, shape)?;
    Ok(announce(shared, &AgentNotification::Register(agent), turn, room))
}

/// Takes an agent off; `None` if it is not there.
pub(crate) fn remove(shared: &Arc<Shared>, id: &AgentId) -> Result<Option<CancellationToken>, RegisterError> {
    let room = shared.room().ok_or(RegisterError::Full)?;
    let Some(turn) = shared.agents.remove(id) else { return Ok(None) };
    Ok(Some(announce(shared, &AgentNotification::Deregister(id.clone()), turn, room)))
}

/// Forwards a message to where an agent can be called, by itself, byte for byte.
pub(crate) fn forward(shared: &Arc<Shared>, agent: &PlatformAgent, body: String) -> Result<(), RegisterError> {
    let room = shared.room().ok_or(RegisterError::Full)?;
    let Ok(url) = agent.contact_endpoint.parse() else { return Ok(()) };
    let letter = Letter {
        kind: SentKind::Forward,
        agent_id: agent.agent_id.clone(),
        at: now(),
        url,
        headers: Vec::new(),
        body,
        bearer: None,
    };
    let number = letter.announce(shared);
    let shared_too = Arc::clone(shared);
    shared.tasks.spawn(async move {
        let _room = room;
        let ending = letter.send(&shared_too, number, &CancellationToken::new()).await;
        shared_too.journal.ended(number, ending);
    });
    Ok(())
}
