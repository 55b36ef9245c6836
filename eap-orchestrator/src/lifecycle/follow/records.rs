//! Agents and credentials as they are stored now: changed by others, or purged.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use eap_types::AgentId;
use tracing::{debug, warn};

use super::super::registration::agent_event;
use super::super::{Lifecycle, Share};
use crate::error::Error;
use crate::store::{Change, Cutoffs, EventKind, EventSeq, RecordRef, StoreError};

/// How many agents are asked for at once.
const AGENTS_AT_ONCE: usize = 256;

impl Lifecycle {
    /// Takes over what is stored of these agents; those that are not stored any more are forgotten.
    pub(super) async fn follow_agents(&self, ids: &[AgentId]) -> Result<(), Error> {
        let mut stored: BTreeMap<AgentId, _> = BTreeMap::new();
        for (agent, vitals) in self.store.agents_of(ids).await? {
            stored.insert(agent.record.id.clone(), (agent, vitals));
        }
        for id in ids {
            let Some((agent, vitals)) = stored.remove(id) else {
                self.forget_agents(std::slice::from_ref(id));
                continue;
            };
            let is_pushed = agent.record.push.is_some();
            if self.directory.follow(agent.record, agent.revision, &vitals) {
                debug!(agent.id = %id, "an agent was changed by another replica");
                self.announcements.agent_freed(id);
                if is_pushed {
                    self.announcements.push_changed();
                }
            }
        }
        Ok(())
    }

    pub(super) async fn follow_credentials(&self) -> Result<(), Error> {
        for (stored, last_used) in self.store.credentials().await? {
            self.keys.follow(stored.record, stored.revision, last_used);
        }
        Ok(())
    }

    /// Reads anew what a write was refused for: another replica was faster, and the next try is to know what it did.
    pub(in crate::lifecycle) async fn read_again(&self, error: &StoreError) {
        let (StoreError::Conflict { record } | StoreError::Duplicate { record }) = error else { return };
        if self.tail.is_none() {
            return;
        }
        let read = match record {
            RecordRef::Agent(id) => self.follow_agents(std::slice::from_ref(id)).await,
            RecordRef::Credential(_) => self.follow_credentials().await,
            _ => Ok(()),
        };
        if let Err(error) = read {
            debug!(%error, "what another replica was faster with could not be read");
        }
    }

    /// Events are gone that were not taken in: what they were about is read as it is now.
    pub(super) async fn load_anew(&self) -> Result<(), Error> {
        warn!("this replica was away for so long that events are gone; agents and keys are read anew");
        let known = self.directory.ids();
        for ids in known.chunks(AGENTS_AT_ONCE) {
            self.follow_agents(ids).await?;
        }
        for (agent, vitals) in self.store.agents().await? {
            self.directory.follow(agent.record, agent.revision, &vitals);
        }
        self.announcements.push_changed();
        self.follow_credentials().await?;
        self.load_leases(false).await
    }

    /// Forgets what is not stored any more: another replica may have purged it.
    pub(in crate::lifecycle) async fn forget_purged(&self, cutoffs: &Cutoffs) -> Result<(), Error> {
        if self.tail.is_none() {
            return Ok(());
        }
        for ids in self.directory.silent_before(cutoffs.agents).chunks(AGENTS_AT_ONCE) {
            let stored: HashSet<AgentId> =
                self.store.agents_of(ids).await?.into_iter().map(|(agent, _)| agent.record.id).collect();
            let purged: Vec<_> = ids.iter().filter(|id| !stored.contains(*id)).cloned().collect();
            self.forget_agents(&purged);
        }
        let ended = self.keys.ended_before(cutoffs.credentials);
        if !ended.is_empty() {
            let stored: HashSet<_> =
                self.store.credentials().await?.iter().map(|(stored, _)| stored.record.id).collect();
            let purged: Vec<_> = ended.into_iter().filter(|id| !stored.contains(id)).collect();
            self.keys.remove(&purged);
        }
        Ok(())
    }

    /// These were purged.
    pub(in crate::lifecycle) fn forget_agents(&self, ids: &[AgentId]) {
        self.directory.remove(ids);
        self.leases.forget(ids);
        self.states.forget(ids);
    }

    /// Tells the other replicas that an agent has opened its WebSocket here; the number of the event that does.
    pub(crate) async fn connected(self: &Arc<Self>, agent: &AgentId) -> Result<EventSeq, Error> {
        let Some(entry) = self.directory.get(agent).filter(|_| self.tail.is_some()) else { return Ok(EventSeq(0)) };
        let event = agent_event(&entry.agent, EventKind::AgentConnected, self.clock.now());
        let (this, change) = (Arc::clone(self), Change { events: vec![event], ..Change::default() });
        self.detached(Share::Running, async move {
            let told = this.store.commit(change).await.map_err(|error| this.noticed(error))?.head;
            this.announcements.committed(told);
            Ok(told)
        })
        .await
    }
}
