//! Agents get new tokens while they run, by themselves or because an operator asks for it.

use std::sync::Arc;

use eap_core::{Agent, NoRotation, RotationIntent, Standing};
use eap_types::{AgentId, CredentialId, Directive, DirectiveKind, Feature, RotatedToken, RotationAsked, Timestamp};
use tracing::info;

use super::registration::agent_event;
use super::submit::invalid;
use super::{Lifecycle, MAX_CONFLICTS, Share, stand_aside};
use crate::auth::{AgentToken, Operator, hex};
use crate::clock::draw;
use crate::directory::Entry;
use crate::error::Error;
use crate::store::{AgentWrite, Change, EventKind, Revision, StoreError};

impl Lifecycle {
    /// Gives an agent a new token; the one it asks with works on for a while. Its epoch and its leases stay.
    pub(crate) async fn rotate(self: &Arc<Self>, agent: &Agent, token: [u8; 32]) -> Result<RotatedToken, Error> {
        let (this, id, epoch, asking) = (Arc::clone(self), agent.id.clone(), agent.epoch, hex(&token));
        self.detached(Share::Running, async move {
            for turn in 0..MAX_CONFLICTS {
                stand_aside(turn).await;
                let entry = this.directory.get(&id).filter(|entry| entry.agent.epoch == epoch);
                match this.rotate_once(&*entry.ok_or(Error::InvalidToken)?, &asking).await {
                    Err(Error::Store(StoreError::Conflict { .. })) => {}
                    answer => return answer,
                }
            }
            Err(Error::Busy { reason: "other writers kept changing the agent" })
        })
        .await
    }

    async fn rotate_once(&self, entry: &Entry, asking: &str) -> Result<RotatedToken, Error> {
        let (now, overlap) = (self.clock.now(), self.config.timing.rotation_overlap);
        let (secret, digest) = AgentToken::mint(&entry.agent.id, &*self.entropy);
        let rotated = entry.agent.rotated(asking, entry.is_token_used(), hex(&digest), now, overlap);
        let mut agent = rotated.map_err(|refusal| match refusal {
            NoRotation::Replaced => Error::Forbidden { reason: "a newer token is in use: ask with that one" },
            _ => Error::InvalidToken,
        })?;
        agent.push = self.push_with_token(&agent, &secret);
        let valid_until = agent.previous_token.as_ref().map_or(now, |token| token.valid_until);
        self.write_agent(entry, agent.clone(), EventKind::AgentTokenRotated, now).await?;
        info!(agent.id = %agent.id, agent.name = %agent.name, "token rotated");
        Ok(RotatedToken::new(agent.id, secret, valid_until))
    }

    /// Asks an agent for a new token, until it got one. Asking again changes nothing.
    pub(crate) async fn ask_rotation(
        self: &Arc<Self>,
        operator: &Operator,
        id: &AgentId,
    ) -> Result<RotationAsked, Error> {
        let (this, tenant, id) = (Arc::clone(self), operator.tenant, id.clone());
        self.detached(Share::Running, async move {
            for turn in 0..MAX_CONFLICTS {
                stand_aside(turn).await;
                let is_theirs =
                    |agent: &Agent| agent.tenant == tenant && !matches!(agent.standing, Standing::Deregistered { .. });
                let entry = this.directory.get(&id).filter(|entry| is_theirs(&entry.agent));
                match this.ask_rotation_once(&*entry.ok_or(Error::UnknownAgent)?).await {
                    Err(Error::Store(StoreError::Conflict { .. })) => {}
                    answer => return answer,
                }
            }
            Err(Error::Busy { reason: "other writers kept changing the agent" })
        })
        .await
    }

    async fn ask_rotation_once(&self, entry: &Entry) -> Result<RotationAsked, Error> {
        let agent = &entry.agent;
        let answer = |intent: &RotationIntent| RotationAsked::new(agent.id.clone(), intent.id.clone(), intent.at);
        if let Some(intent) = &agent.rotation {
            return Ok(answer(intent));
        }
        if agent.platform.is_some() {
            return Err(invalid("path.agent_id", "this agent came through a platform, and has no token"));
        }
        if !is_told(agent) {
            return Err(invalid("path.agent_id", "this agent did not agree on directives.v1 and rotate.v1"));
        }
        let now = self.clock.now();
        // A UUID of version 7 like any other.
        let id = CredentialId::v7(now, draw(&*self.entropy)).to_string();
        let intent = RotationIntent { id: id.parse().map_err(|_| Error::Broken)?, at: now };
        let asked = Agent { rotation: Some(intent.clone()), ..Agent::clone(agent) };
        self.write_agent(entry, asked, EventKind::AgentRotationAsked, now).await?;
        Ok(answer(&intent))
    }

    async fn write_agent(&self, entry: &Entry, agent: Agent, kind: EventKind, now: Timestamp) -> Result<(), Error> {
        let change = Change {
            events: vec![agent_event(&agent, kind, now)],
            agents: vec![AgentWrite::Update { agent: agent.clone(), revision: entry.revision }],
            ..Change::default()
        };
        self.commit(change).await?;
        self.directory.put(agent, Revision(entry.revision.0 + 1), None);
        Ok(())
    }
}

/// What tells an agent that it is to get a new token; it is told until it has one.
pub(super) fn rotation_directive(agent: &Agent) -> Option<Directive> {
    let intent = agent.rotation.as_ref().filter(|_| is_told(agent))?;
    Some(Directive::new(intent.id.clone(), DirectiveKind::RotateToken))
}

/// Whether the agent understands the directive.
fn is_told(agent: &Agent) -> bool {
    let agreed = |feature| agent.features.as_ref().is_some_and(|features| features.contains(feature));
    agreed(Feature::DirectivesV1) && agreed(Feature::RotateV1)
}
