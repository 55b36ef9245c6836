//! Agents of a platform (AgentKit): its webhooks bring and take them.

mod record;
mod states;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use eap_core::{Agent, AgentEvent, OnPlatform, Push, Standing, Vitals};
use eap_types::agentkit::{AgentNotification, PlatformAgent};
use eap_types::{AgentId, AgentType, Features, Labels, TenantId, Timestamp};
use tracing::{debug, info};

use self::record::{capabilities, max_concurrent_tasks, name, tombstone};
pub(crate) use self::states::States;
use super::registration::agent_event;
use super::{Lifecycle, MAX_CONFLICTS, Share, stand_aside};
use crate::directory::Entry;
use crate::error::Error;
use crate::store::{AgentWrite, Change, EventKind, NewEvent, RecordRef, Revision, StoreError, WebhookRow};

/// A webhook that came from its platform, as far as that can be known.
#[derive(Debug)]
pub(crate) struct Notified {
    pub(crate) told: AgentNotification,
    /// When it was sent; when it came, if it was not signed.
    pub(crate) sent_at: Timestamp,
    /// Tells a repeat; nothing does if it was not signed.
    pub(crate) digest: Option<[u8; 32]>,
}

/// What came of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noticed {
    /// It took effect.
    Applied,
    /// It was there before, and had its effect then.
    Duplicate,
    /// A newer one about the same agent took effect before: this one does not.
    Outdated,
}

impl Lifecycle {
    /// Has a webhook take effect, once (G26) and in order (G27).
    pub(crate) async fn notified(self: &Arc<Self>, notified: Notified) -> Result<Noticed, Error> {
        let this = Arc::clone(self);
        self.detached(Share::Running, async move { this.notice(&notified).await }).await
    }

    async fn notice(&self, notified: &Notified) -> Result<Noticed, Error> {
        let id = notified.told.agent_id();
        for turn in 0..MAX_CONFLICTS {
            stand_aside(turn).await;
            let now = self.clock.now();
            let webhook = notified.digest.map(|digest| WebhookRow { digest, received_at: now });
            let known = self.directory.get(id);
            let done = match (&notified.told, known.as_deref()) {
                (_, Some(known)) if known.agent.platform.is_none() => {
                    return Err(Error::Forbidden { reason: "this agent did not come by a webhook" });
                }
                (_, Some(known)) if is_outdated(known, notified.sent_at) => self
                    .commit(Change { webhook, ..Change::default() })
                    .await
                    .map(|()| Noticed::Outdated)
                    .map_err(Error::from),
                (AgentNotification::Register(told), known) => self.arrive(told, known, notified.sent_at, webhook).await,
                (_, Some(known)) if !matches!(known.agent.standing, Standing::Deregistered { .. }) => {
                    let platform = known.agent.platform.as_ref().map(|platform| platform.after(notified.sent_at));
                    self.retire_with(known, platform, webhook).await.map(|_| Noticed::Applied)
                }
                (_, known) => self.bury(id, known, notified.sent_at, webhook).await,
            };
            match done {
                Err(Error::Store(StoreError::Duplicate { record: RecordRef::Webhook })) => {
                    return self.repeated(&notified.told).await;
                }
                // Somebody else changed the agent meanwhile.
                Err(Error::Store(StoreError::Conflict { .. } | StoreError::Duplicate { .. })) => {}
                done => return done,
            }
        }
        Err(Error::Busy { reason: "other webhooks about this agent kept coming" })
    }

    /// What was begun by a webhook whose answer was lost is finished by its repeat.
    async fn repeated(&self, told: &AgentNotification) -> Result<Noticed, Error> {
        let id = told.agent_id();
        self.release_gone(id).await?;
        debug!(agent.id = %id, event = told.event_type(), "a webhook came again");
        Ok(Noticed::Duplicate)
    }

    /// An agent comes, comes back, or has changed.
    async fn arrive(
        &self,
        told: &PlatformAgent,
        known: Option<&Entry>,
        sent_at: Timestamp,
        webhook: Option<WebhookRow>,
    ) -> Result<Noticed, Error> {
        let now = self.clock.now();
        let capabilities = capabilities(&told.capabilities)?;
        let newest_event = known
            .and_then(|known| known.agent.platform.as_ref())
            .map_or(sent_at, |platform| platform.newest_event.max(sent_at));
        let platform = OnPlatform { name: told.agent_name.clone(), newest_event };
        let is_there = |known: &&Entry| !matches!(known.agent.standing, Standing::Deregistered { .. });
        let before = known.filter(is_there);
        if let Some(gone) = known.filter(|known| !is_there(known)) {
            // Its tasks went with it, even if that was cut off.
            self.release_all(&gone.agent.id, gone.agent.epoch).await?;
        }
        let agent = Agent {
            id: told.agent_id.clone(),
            tenant: TenantId::default(),
            name: name(told),
            instance_id: None,
            version: told.version.clone(),
            agent_type: AgentType::default(),
            capabilities,
            labels: Labels::default(),
            endpoint_url: Some(told.contact_endpoint.clone()),
            metadata: told.metadata.clone(),
            task_schemas: BTreeMap::new(),
            features: Some(Features::default()),
            max_concurrent_tasks: max_concurrent_tasks(&told.metadata),
            registered_with: None,
            admitted_capabilities: BTreeSet::new(),
            token_sha256: None,
            previous_token: None,
            rotation: None,
            orders: before.map(|known| known.agent.orders.clone()).unwrap_or_default(),
            push: self.outbound.as_ref().map(|_| Push::by_platform()),
            platform: Some(platform),
            epoch: match (known, before) {
                (None, _) => 1,
                (Some(_), Some(before)) => before.agent.epoch,
                // Its life before is over, and what it said then.
                (Some(gone), None) => gone.agent.epoch + 1,
            },
            registered_at: before.map_or(now, |known| known.agent.registered_at),
            standing: before.map_or(Standing::Active, |known| known.agent.standing),
        };
        let event = agent_event(&agent, EventKind::AgentRegistered, now);
        let first_heard = before.is_none().then(|| Vitals::registered(agent.epoch, now));
        self.put_platform_agent(agent, known, first_heard, event, webhook).await?;
        info!(agent.id = %told.agent_id, agent.name = %told.agent_name, "an agent came by a webhook");
        self.announcements.agent_freed(&told.agent_id);
        self.announcements.push_changed();
        Ok(Noticed::Applied)
    }

    /// An agent that is not there goes: what is older than that does not bring it (A44).
    async fn bury(
        &self,
        id: &AgentId,
        known: Option<&Entry>,
        sent_at: Timestamp,
        webhook: Option<WebhookRow>,
    ) -> Result<Noticed, Error> {
        let now = self.clock.now();
        let (agent, first_heard) = match known {
            Some(known) => {
                let platform = known.agent.platform.as_ref().map(|platform| platform.after(sent_at));
                let standing = known.agent.standing.after(AgentEvent::Deregister, now).unwrap_or(known.agent.standing);
                (Agent { platform, standing, ..Agent::clone(&known.agent) }, None)
            }
            None => (tombstone(id, sent_at, now), Some(Vitals::registered(0, now))),
        };
        let event = agent_event(&agent, EventKind::AgentDeregistered, now);
        self.put_platform_agent(agent, known, first_heard, event, webhook).await?;
        self.release_gone(id).await?;
        Ok(Noticed::Applied)
    }

    /// Gives back what an agent holds that is gone.
    async fn release_gone(&self, id: &AgentId) -> Result<(), Error> {
        match self.directory.get(id) {
            Some(entry) if matches!(entry.agent.standing, Standing::Deregistered { .. }) => {
                self.release_all(id, entry.agent.epoch).await.map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Whether agents of the platform can be given work.
    pub(crate) fn reaches_platform(&self) -> bool {
        self.config.agentkit.as_ref().is_some_and(|face| face.direct || face.url.is_some())
    }

    async fn put_platform_agent(
        &self,
        agent: Agent,
        known: Option<&Entry>,
        first_heard: Option<Vitals>,
        event: NewEvent,
        webhook: Option<WebhookRow>,
    ) -> Result<(), Error> {
        let mut change = Change { events: vec![event], webhook, ..Change::default() };
        let revision = match known {
            None => {
                let vitals = first_heard.clone().unwrap_or_else(|| Vitals::registered(agent.epoch, self.clock.now()));
                change.agents.push(AgentWrite::Insert(agent.clone(), vitals));
                Revision(1)
            }
            Some(known) => {
                change.agents.push(AgentWrite::Update { agent: agent.clone(), revision: known.revision });
                change.vitals.extend(first_heard.clone().map(|vitals| (agent.id.clone(), vitals)));
                Revision(known.revision.0 + 1)
            }
        };
        self.commit(change).await?;
        self.directory.put(agent, revision, first_heard);
        Ok(())
    }
}

/// Whether a platform says anything of an agent that is not known, or known otherwise.
pub(super) fn platform_agent_changed(known: &Agent, told: &PlatformAgent) -> bool {
    let offered = capabilities(&told.capabilities).ok();
    matches!(known.standing, Standing::Deregistered { .. })
        || known.platform.as_ref().is_none_or(|platform| platform.name != told.agent_name)
        || known.version != told.version
        || known.endpoint_url.as_ref() != Some(&told.contact_endpoint)
        || known.metadata != told.metadata
        || Some(&known.capabilities) != offered.as_ref()
}

fn is_outdated(known: &Entry, sent_at: Timestamp) -> bool {
    known.agent.platform.as_ref().is_some_and(|platform| platform.is_outdated(sent_at))
}
