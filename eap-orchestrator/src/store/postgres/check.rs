//! Whether a change fits what is stored, whole.

use std::collections::HashSet;
use std::hash::Hash;

use eap_types::TaskId;

use super::ground::{Ground, Known, identity, is_new, known_agent, workflow_key};
use super::read::key_digest;
use crate::store::prepared::{
    Prepared, PreparedAgentWrite, PreparedSession, PreparedSessionWrite, PreparedTaskWrite, number,
};
use crate::store::{CallbackWrite, CredentialWrite, RecordRef, Revision, StoreError};

/// Why a change is not written now.
pub(super) enum No {
    /// Never, as it is.
    Refused(StoreError),
    /// It fits what another change of the same batch has just written: it is for the next transaction, since a
    /// transaction writes a record once.
    Later,
}

/// What a write asks of its record.
enum Wanted {
    New,
    At(i64),
}

impl Wanted {
    fn at(revision: Revision) -> Self {
        Self::At(number(revision.0))
    }

    /// Compares with what is stored; `is_first` says that nothing before it in the same change names the record.
    fn check<T>(&self, stored: Option<&Known<T>>, is_first: bool, record: RecordRef) -> Result<(), No> {
        let rev = stored.and_then(|known| known.rev);
        match self {
            Self::New if !is_first || rev.is_some() => Err(No::Refused(StoreError::Duplicate { record })),
            Self::At(wanted) if !is_first || rev != Some(*wanted) => Err(No::Refused(StoreError::Conflict { record })),
            _ if stored.is_some_and(|known| known.is_written) => Err(No::Later),
            _ => Ok(()),
        }
    }
}

impl Ground {
    /// Checks a change whole, and marks what it will have written; or says why nothing of it is.
    pub(super) fn admit(&mut self, change: &Prepared) -> Result<(), No> {
        self.check_tasks(change)?;
        self.check_sessions(change)?;
        self.check_workflows(change)?;
        self.check_agents(change)?;
        self.check_credentials(change)?;
        self.check_results(change)?;
        self.check_callbacks(change)?;
        if let Some(row) = &change.idempotency {
            must_be_free(&self.keys, &key_digest(&row.scope), RecordRef::IdempotencyKey)?;
        }
        if let Some(row) = &change.webhook {
            must_be_free(&self.webhooks, &row.digest, RecordRef::Webhook)?;
        }
        self.mark(change);
        Ok(())
    }

    fn check_tasks(&self, change: &Prepared) -> Result<(), No> {
        let mut seen = HashSet::new();
        for write in &change.tasks {
            let id = write.task.id();
            let wanted = match &write.write {
                PreparedTaskWrite::Insert { .. } => Wanted::New,
                PreparedTaskWrite::Update { revision } => Wanted::at(*revision),
            };
            wanted.check(self.tasks.get(&id), seen.insert(id), RecordRef::Task(id))?;
        }
        Ok(())
    }

    fn check_sessions(&self, change: &Prepared) -> Result<(), No> {
        let (mut seen, mut begun) = (HashSet::new(), HashSet::new());
        for write in &change.sessions {
            let id = write.session.id();
            let wanted = match &write.write {
                PreparedSessionWrite::Insert { .. } => Wanted::New,
                PreparedSessionWrite::Update { revision } => Wanted::at(*revision),
            };
            wanted.check(self.sessions.get(&id), seen.insert(id), RecordRef::Session(id))?;
            for task in self.steps_since(write) {
                if !begun.insert(task) || self.steps.contains(&task) {
                    return Err(No::Refused(StoreError::Duplicate { record: RecordRef::Step(task) }));
                }
            }
        }
        Ok(())
    }

    /// The tasks of the steps that were begun since the session was stored.
    fn steps_since(&self, write: &PreparedSession) -> impl Iterator<Item = TaskId> {
        let known = self.sessions.get(&write.session.id()).map_or(0, |known| known.more);
        write.session.run.steps.iter().skip(known).map(|step| step.task)
    }

    fn check_workflows(&self, change: &Prepared) -> Result<(), No> {
        let mut seen = HashSet::new();
        for kept in &change.workflows {
            let (key, workflow) = (workflow_key(kept), &kept.row.workflow);
            let record = || RecordRef::Workflow { id: workflow.id.clone(), version: workflow.version.clone() };
            must_be_free(&self.workflows, &key, record())?;
            must_be_free(&seen, &key, record())?;
            seen.insert(key);
        }
        Ok(())
    }

    fn check_agents(&self, change: &Prepared) -> Result<(), No> {
        let (mut seen, mut identities) = (HashSet::new(), HashSet::new());
        for write in &change.agents {
            let id = &write.agent.id;
            let wanted = match &write.write {
                PreparedAgentWrite::Insert(_) => Wanted::New,
                PreparedAgentWrite::Update { revision } => Wanted::at(*revision),
            };
            wanted.check(self.agents.get(id), seen.insert(id), RecordRef::Agent(id.clone()))?;
            if let Some(identity) = identity(&write.agent) {
                let owner = self.identities.get(&identity).unwrap_or(id);
                if owner != id || !identities.insert(identity) {
                    return Err(No::Refused(StoreError::Duplicate { record: RecordRef::Agent(owner.clone()) }));
                }
            }
        }
        Ok(())
    }

    fn check_credentials(&self, change: &Prepared) -> Result<(), No> {
        let mut seen = HashSet::new();
        for write in &change.credentials {
            let id = write.write.credential().id;
            let wanted = match &write.write {
                CredentialWrite::Insert(_) => Wanted::New,
                CredentialWrite::Update { revision, .. } => Wanted::at(*revision),
            };
            wanted.check(self.credentials.get(&id), seen.insert(id), RecordRef::Credential(id))?;
        }
        Ok(())
    }

    fn check_results(&self, change: &Prepared) -> Result<(), No> {
        let mut seen = HashSet::new();
        for row in &change.results {
            self.must_be_there(row.task, change)?;
            let record = RecordRef::Task(row.task);
            if !seen.insert(row.task) || self.results.contains(&row.task) {
                return Err(No::Refused(StoreError::Duplicate { record }));
            }
        }
        change.late_results.iter().try_for_each(|row| self.must_be_there(row.task, change))
    }

    /// A result of nothing: its task was purged since it was read.
    fn must_be_there(&self, task: TaskId, change: &Prepared) -> Result<(), No> {
        let is_there = self.tasks.contains_key(&task) || change.tasks.iter().any(|write| write.task.id() == task);
        let record = RecordRef::Task(task);
        if is_there { Ok(()) } else { Err(No::Refused(StoreError::Conflict { record })) }
    }

    fn check_callbacks(&self, change: &Prepared) -> Result<(), No> {
        let mut seen = HashSet::new();
        for write in &change.callbacks {
            let task = write.task();
            let wanted = match write {
                CallbackWrite::Insert(_) => {
                    self.must_be_there(task, change)?;
                    Wanted::New
                }
                CallbackWrite::Update { revision, .. } | CallbackWrite::Remove { revision, .. } => {
                    Wanted::at(*revision)
                }
            };
            wanted.check(self.callbacks.get(&task), seen.insert(task), RecordRef::Callback(task))?;
        }
        Ok(())
    }

    /// What a change that fits will have written.
    fn mark(&mut self, change: &Prepared) {
        for write in &change.sessions {
            let (id, begun) = (write.session.id(), self.steps_since(write).collect::<Vec<_>>());
            self.begun.extend(begun.iter().map(|task| (id, *task)));
            self.steps.extend(begun);
            let mut known = self.sessions.remove(&id).map_or_else(|| Known::new(0), Known::updated);
            known.more = write.session.run.steps.len();
            self.sessions.insert(id, known);
        }
        for write in &change.tasks {
            let id = write.task.id();
            let known = self.tasks.remove(&id).map_or_else(|| Known::new(0), Known::updated);
            self.tasks.insert(id, known);
        }
        for write in &change.agents {
            let (id, more) = (write.agent.id.clone(), known_agent(write));
            let before = self.agents.remove(&id);
            if let Some(identity) = before.as_ref().and_then(|known| known.more.identity) {
                self.identities.remove(&identity);
            }
            self.identities.extend(more.identity.map(|identity| (identity, id.clone())));
            debug_assert_eq!(before.is_none(), is_new(write));
            let known = before.map_or_else(|| Known::new(Default::default()), Known::updated);
            self.agents.insert(id, Known { more, ..known });
        }
        for write in &change.credentials {
            let id = write.write.credential().id;
            let known = self.credentials.remove(&id).map_or_else(|| Known::new(()), Known::updated);
            self.credentials.insert(id, known);
        }
        for write in &change.callbacks {
            let task = write.task();
            let mut known = self.callbacks.remove(&task).map_or_else(|| Known::new(()), Known::updated);
            if let CallbackWrite::Remove { .. } = write {
                known.rev = None;
            }
            self.callbacks.insert(task, known);
        }
        self.results.extend(change.results.iter().map(|row| row.task));
        self.workflows.extend(change.workflows.iter().map(workflow_key));
        self.keys.extend(change.idempotency.iter().map(|row| key_digest(&row.scope)));
        self.webhooks.extend(change.webhook.map(|row| row.digest));
    }
}

impl<T> Known<T> {
    fn updated(self) -> Self {
        Self { rev: self.rev.map(|rev| rev + 1), is_written: true, ..self }
    }
}

fn must_be_free<T: Eq + Hash>(taken: &HashSet<T>, key: &T, record: RecordRef) -> Result<(), No> {
    if taken.contains(key) { Err(No::Refused(StoreError::Duplicate { record })) } else { Ok(()) }
}
