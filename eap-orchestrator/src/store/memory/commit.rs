//! One change: checked whole, then written whole.

use std::collections::HashSet;

use eap_types::{CredentialId, TaskId, Timestamp};

use super::tables::{KnownCredential, Row, Tables, identity_of};
use crate::store::{
    AgentWrite, CallbackWrite, Change, Committed, CredentialWrite, RecordRef, Revision, StoreError, TaskWrite,
};

impl Tables {
    /// Writes all of `change`, or says why none of it was.
    pub(super) fn commit(&mut self, change: Change) -> Result<Committed, StoreError> {
        self.check_tasks(&change)?;
        self.sessions.check(&change.sessions)?;
        self.workflows.check(&change.workflows)?;
        self.check_agents(&change)?;
        self.check_credentials(&change)?;
        self.check_results(&change)?;
        self.check_callbacks(&change)?;
        self.check_keys(&change)?;
        self.check_webhook(&change)?;
        self.write(change);
        Ok(Committed { head: self.head })
    }

    fn check_tasks(&self, change: &Change) -> Result<(), StoreError> {
        let mut seen = HashSet::new();
        for write in &change.tasks {
            let id = write.task().id();
            let record = RecordRef::Task(id);
            let is_first = seen.insert(id);
            let stored = self.task(id).map(|row| row.revision);
            match write {
                TaskWrite::Insert(_) => must_be_new(is_first && stored.is_none(), record)?,
                TaskWrite::Update { revision, .. } => must_be_at(*revision, stored.filter(|_| is_first), record)?,
            }
        }
        Ok(())
    }

    fn check_results(&self, change: &Change) -> Result<(), StoreError> {
        let mut seen = HashSet::new();
        for row in &change.results {
            self.must_be_there(row.task, change)?;
            let is_new = seen.insert(row.task) && !self.results.contains_key(&row.task);
            must_be_new(is_new, RecordRef::Task(row.task))?;
        }
        change.late_results.iter().try_for_each(|row| self.must_be_there(row.task, change))
    }

    /// A result of nothing: its task was purged since it was read.
    fn must_be_there(&self, id: TaskId, change: &Change) -> Result<(), StoreError> {
        let is_there = self.task(id).is_some() || change.tasks.iter().any(|write| write.task().id() == id);
        if is_there { Ok(()) } else { Err(StoreError::Conflict { record: RecordRef::Task(id) }) }
    }

    fn check_agents(&self, change: &Change) -> Result<(), StoreError> {
        let (mut seen, mut identities) = (HashSet::new(), HashSet::new());
        for write in &change.agents {
            let (AgentWrite::Insert(agent, _) | AgentWrite::Update { agent, .. }) = write;
            let record = RecordRef::Agent(agent.id.clone());
            let is_first = seen.insert(&agent.id);
            let stored = self.agents.get(&agent.id).map(|known| known.row.revision);
            match write {
                AgentWrite::Insert(..) => must_be_new(is_first && stored.is_none(), record)?,
                AgentWrite::Update { revision, .. } => must_be_at(*revision, stored.filter(|_| is_first), record)?,
            }
            if let Some(identity) = identity_of(agent) {
                let owner = self.identities.get(&identity).unwrap_or(&agent.id);
                let is_free = *owner == agent.id && identities.insert(identity);
                must_be_new(is_free, RecordRef::Agent(owner.clone()))?;
            }
        }
        Ok(())
    }

    fn check_credentials(&self, change: &Change) -> Result<(), StoreError> {
        let mut seen = HashSet::new();
        for write in &change.credentials {
            let id = write.credential().id;
            let record = RecordRef::Credential(id);
            let is_first = seen.insert(id);
            let stored = self.credentials.get(&id).map(|known| known.row.revision);
            match write {
                CredentialWrite::Insert(_) => must_be_new(is_first && stored.is_none(), record)?,
                CredentialWrite::Update { revision, .. } => must_be_at(*revision, stored.filter(|_| is_first), record)?,
            }
        }
        Ok(())
    }

    fn check_callbacks(&self, change: &Change) -> Result<(), StoreError> {
        let mut seen = HashSet::new();
        for write in &change.callbacks {
            let task = write.task();
            let record = RecordRef::Callback(task);
            let is_first = seen.insert(task);
            let stored = self.callback(task).map(|row| row.revision);
            match write {
                CallbackWrite::Insert(_) => {
                    self.must_be_there(task, change)?;
                    must_be_new(is_first && stored.is_none(), record)?;
                }
                CallbackWrite::Update { revision, .. } | CallbackWrite::Remove { revision, .. } => {
                    must_be_at(*revision, stored.filter(|_| is_first), record)?;
                }
            }
        }
        Ok(())
    }

    fn check_keys(&self, change: &Change) -> Result<(), StoreError> {
        let is_new = change.idempotency.as_ref().is_none_or(|row| !self.keys.contains_key(&row.scope));
        must_be_new(is_new, RecordRef::IdempotencyKey)
    }

    fn write(&mut self, change: Change) {
        let Change { tasks, agents, results, late_results, callbacks, idempotency, vitals, pulse, events, .. } = change;
        self.sessions.write(change.sessions);
        self.workflows.keep(change.workflows);
        self.write_credentials(change.credentials, change.last_used);
        self.webhooks.extend(change.webhook.map(|row| (row.digest, row.received_at)));
        change.states.into_iter().for_each(|row| self.add_state(row));
        for write in tasks {
            match write {
                TaskWrite::Insert(task) => self.insert_task(task),
                TaskWrite::Update { task, .. } => self.update_task(task),
            }
        }
        for write in agents {
            match write {
                AgentWrite::Insert(agent, vitals) => self.insert_agent(agent, vitals),
                AgentWrite::Update { agent, .. } => self.update_agent(agent),
            }
        }
        self.results.extend(results.into_iter().map(|row| (row.task, row)));
        for row in late_results {
            self.late_results.entry((row.task, row.attempt)).or_insert(row);
        }
        for write in callbacks {
            match write {
                CallbackWrite::Insert(callback) | CallbackWrite::Update { callback, .. } => self.put_callback(callback),
                CallbackWrite::Remove { task, .. } => self.remove_callback(task),
            }
        }
        self.keys.extend(idempotency.map(|row| (row.scope.clone(), row)));
        for (agent, vitals) in vitals {
            if let Some(known) = self.agents.get_mut(&agent).filter(|known| !known.vitals.are_newer_than(&vitals)) {
                known.vitals = vitals;
            }
        }
        self.pulse = pulse.max(self.pulse);
        for event in events {
            self.append_event(event);
        }
    }
}

impl Tables {
    fn write_credentials(&mut self, writes: Vec<CredentialWrite>, last_used: Vec<(CredentialId, Timestamp)>) {
        for write in writes {
            match write {
                CredentialWrite::Insert(credential) => {
                    let known = KnownCredential { row: Row::new(credential), last_used: None };
                    self.credentials.insert(known.row.record.id, known);
                }
                CredentialWrite::Update { credential, .. } => {
                    if let Some(known) = self.credentials.get_mut(&credential.id) {
                        known.row.replace(credential);
                    }
                }
            }
        }
        for (id, at) in last_used {
            if let Some(known) = self.credentials.get_mut(&id) {
                known.last_used = Some(at);
            }
        }
    }
}

pub(super) fn must_be_new(is_new: bool, record: RecordRef) -> Result<(), StoreError> {
    if is_new { Ok(()) } else { Err(StoreError::Duplicate { record }) }
}

pub(super) fn must_be_at(revision: Revision, stored: Option<Revision>, record: RecordRef) -> Result<(), StoreError> {
    if stored == Some(revision) { Ok(()) } else { Err(StoreError::Conflict { record }) }
}
