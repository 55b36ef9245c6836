//! What a batch of changes stands on: the records that they name, locked, and the keys that are taken.
//!
//! Everything is read once, in one order of tables and of ids, so that replicas wait for each other and not in a ring: all but
//! new tasks, whose ids are believed to be free until that fails ([`NewTasks`]).
//! Then each change is checked against it in memory, and leaves its mark for those behind it.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use eap_core::Agent;
use eap_types::{AgentId, CredentialId, SessionId, TaskId};
use sqlx::Row;

use super::database::Transaction;
use super::fault::Fault;
use super::read::key_digest;
use super::values::{arguments, bytes, digest, integer, maybe_bytes, word};
use super::workflows::version_digest;
use crate::store::CallbackWrite;
use crate::store::prepared::{
    Prepared, PreparedAgent, PreparedAgentWrite, PreparedSession, PreparedTask, PreparedTaskWrite, PreparedWorkflow,
};

/// A digest that stands for a key.
pub(super) type Key = [u8; 32];

/// A record that is stored, or was until a moment ago.
#[derive(Debug)]
pub(super) struct Known<T = ()> {
    /// `None` once it was removed.
    pub(super) rev: Option<i64>,
    /// A change of this batch wrote it: another one that fits as well waits for the next transaction.
    pub(super) is_written: bool,
    pub(super) more: T,
}

#[derive(Debug, Default)]
pub(super) struct KnownAgent {
    pub(super) epoch: i64,
    pub(super) is_active: bool,
    pub(super) identity: Option<Key>,
}

/// What is believed of tasks that are to be inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NewTasks {
    /// Their ids were drawn and are free: one that is not breaks the transaction.
    Free,
    /// Some may be there already.
    Looked,
}

/// What was found of all that a batch names.
#[derive(Debug, Default)]
pub(super) struct Ground {
    /// With their numbers, those that are stored.
    pub(super) tasks: HashMap<TaskId, Known<i64>>,
    /// Of those, the ones with a result.
    pub(super) results: HashSet<TaskId>,
    pub(super) agents: HashMap<AgentId, Known<KnownAgent>>,
    pub(super) identities: HashMap<Key, AgentId>,
    pub(super) credentials: HashMap<CredentialId, Known>,
    pub(super) callbacks: HashMap<TaskId, Known>,
    /// With the number of their steps.
    pub(super) sessions: HashMap<SessionId, Known<usize>>,
    /// The tasks that are steps already.
    pub(super) steps: HashSet<TaskId>,
    /// The steps that admitted changes begin.
    pub(super) begun: Vec<(SessionId, TaskId)>,
    pub(super) workflows: HashSet<Key>,
    pub(super) keys: HashSet<Key>,
    pub(super) webhooks: HashSet<Key>,
}

impl Ground {
    /// Reads all that is named, and locks what may be written.
    pub(super) async fn load(
        transaction: &mut Transaction<'_>,
        changes: &[&Prepared],
        new: NewTasks,
    ) -> Result<Self, Fault> {
        let mut ground = Self::default();
        ground.load_tasks(transaction, changes, new).await?;
        ground.load_agents(transaction, changes).await?;
        ground.load_sessions(transaction, changes).await?;
        ground.load_credentials(transaction, changes).await?;
        ground.load_callbacks(transaction, changes).await?;
        let kept = changes.iter().flat_map(|change| &change.workflows).map(workflow_key).collect();
        let kept = taken(transaction, "SELECT digest FROM eap.workflow WHERE digest = ANY($1)", kept).await?;
        ground.workflows = kept;
        let keys = changes.iter().flat_map(|change| &change.idempotency).map(|row| key_digest(&row.scope)).collect();
        ground.keys = taken(transaction, "SELECT digest FROM eap.idempotency WHERE digest = ANY($1)", keys).await?;
        let webhooks = changes.iter().filter_map(|change| change.webhook).map(|row| row.digest).collect();
        ground.webhooks = taken(transaction, "SELECT digest FROM eap.webhook WHERE digest = ANY($1)", webhooks).await?;
        Ok(ground)
    }

    /// Locks the tasks that are written, or that a result or callback belongs to: none of them is purged meanwhile.
    async fn load_tasks(
        &mut self,
        transaction: &mut Transaction<'_>,
        changes: &[&Prepared],
        new: NewTasks,
    ) -> Result<(), Fault> {
        let is_looked_up =
            |write: &&PreparedTask| new == NewTasks::Looked || !matches!(write.write, PreparedTaskWrite::Insert { .. });
        let named = changes.iter().flat_map(|change| {
            let written = change.tasks.iter().filter(is_looked_up).map(|write| write.task.id());
            let results = change.results.iter().map(|row| row.task);
            let late = change.late_results.iter().map(|row| row.task);
            let callbacks = change.callbacks.iter().map(CallbackWrite::task);
            written.chain(results).chain(late).chain(callbacks)
        });
        let ids = distinct(named);
        if ids.is_empty() {
            return Ok(());
        }
        let ids: Vec<&[u8]> = ids.iter().map(|id| &id.as_bytes()[..]).collect();
        let sql = "SELECT t.id, t.rev, t.seq FROM eap.task t WHERE t.id = ANY($1) ORDER BY t.id FOR UPDATE";
        let mut numbers = HashMap::new();
        for row in transaction.rows(sql, arguments![ids]).await? {
            let (id, number) = (TaskId::from_bytes(bytes(&row, 0)?), integer(&row, 2)?);
            self.tasks.insert(id, Known::at(integer(&row, 1)?, number));
            numbers.insert(number, id);
        }
        // Once the rows are locked, or a result that was written while this waited would not be seen.
        let sql = "SELECT seq FROM eap.result WHERE seq = ANY($1)";
        let is_reported = changes.iter().any(|change| !change.results.is_empty());
        if is_reported && !numbers.is_empty() {
            let seqs: Vec<i64> = numbers.keys().copied().collect();
            for row in transaction.rows(sql, arguments![seqs]).await? {
                self.results.extend(numbers.get(&integer(&row, 0)?));
            }
        }
        Ok(())
    }

    /// Locks the agents that are written.
    async fn load_agents(&mut self, transaction: &mut Transaction<'_>, changes: &[&Prepared]) -> Result<(), Fault> {
        let written = || changes.iter().flat_map(|change| &change.agents);
        let ids = distinct(written().map(|write| &write.agent.id));
        let ids: Vec<&str> = ids.into_iter().map(AgentId::as_str).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let sql = "SELECT id, rev, epoch, is_active, identity FROM eap.agent WHERE id = ANY($1) ORDER BY id \
             FOR NO KEY UPDATE";
        for row in transaction.rows(sql, arguments![ids]).await? {
            let known =
                KnownAgent { epoch: integer(&row, 2)?, is_active: row.try_get(3)?, identity: maybe_bytes(&row, 4)? };
            self.agents.insert(word(&row, 0)?, Known::at(integer(&row, 1)?, known));
        }
        let wanted: Vec<Key> = distinct(written().filter_map(|write| identity(&write.agent)));
        if wanted.is_empty() {
            return Ok(());
        }
        let wanted: Vec<&[u8]> = wanted.iter().map(|key| &key[..]).collect();
        let sql = "SELECT identity, id FROM eap.agent WHERE identity = ANY($1)";
        for row in transaction.rows(sql, arguments![wanted]).await? {
            self.identities.insert(bytes(&row, 0)?, word(&row, 1)?);
        }
        Ok(())
    }

    async fn load_sessions(&mut self, transaction: &mut Transaction<'_>, changes: &[&Prepared]) -> Result<(), Fault> {
        let written: Vec<&PreparedSession> = changes.iter().flat_map(|change| &change.sessions).collect();
        let ids = distinct(written.iter().map(|write| write.session.id()));
        if ids.is_empty() {
            return Ok(());
        }
        let ids: Vec<&[u8]> = ids.iter().map(|id| &id.as_bytes()[..]).collect();
        let sql = "SELECT id, rev, steps FROM eap.session WHERE id = ANY($1) ORDER BY id FOR UPDATE";
        for row in transaction.rows(sql, arguments![ids]).await? {
            let steps = usize::try_from(integer(&row, 2)?).map_err(Fault::nonsense)?;
            self.sessions.insert(SessionId::from_bytes(bytes(&row, 0)?), Known::at(integer(&row, 1)?, steps));
        }
        let begun = distinct(written.iter().flat_map(|write| &write.session.run.steps).map(|step| step.task));
        let begun: Vec<&[u8]> = begun.iter().map(|id| &id.as_bytes()[..]).collect();
        let sql = "SELECT task FROM eap.session_step WHERE task = ANY($1)";
        for row in transaction.rows(sql, arguments![begun]).await? {
            self.steps.insert(TaskId::from_bytes(bytes(&row, 0)?));
        }
        Ok(())
    }

    async fn load_credentials(
        &mut self,
        transaction: &mut Transaction<'_>,
        changes: &[&Prepared],
    ) -> Result<(), Fault> {
        let written = changes.iter().flat_map(|change| &change.credentials);
        let ids = distinct(written.map(|write| write.write.credential().id));
        if ids.is_empty() {
            return Ok(());
        }
        let ids: Vec<&[u8]> = ids.iter().map(|id| &id.as_bytes()[..]).collect();
        let sql = "SELECT id, rev FROM eap.credential WHERE id = ANY($1) ORDER BY id FOR UPDATE";
        for row in transaction.rows(sql, arguments![ids]).await? {
            self.credentials.insert(CredentialId::from_bytes(bytes(&row, 0)?), Known::at(integer(&row, 1)?, ()));
        }
        Ok(())
    }

    async fn load_callbacks(&mut self, transaction: &mut Transaction<'_>, changes: &[&Prepared]) -> Result<(), Fault> {
        let tasks = distinct(changes.iter().flat_map(|change| &change.callbacks).map(CallbackWrite::task));
        if tasks.is_empty() {
            return Ok(());
        }
        let tasks: Vec<&[u8]> = tasks.iter().map(|id| &id.as_bytes()[..]).collect();
        let sql = "SELECT task, rev FROM eap.callback WHERE task = ANY($1) ORDER BY task FOR UPDATE";
        for row in transaction.rows(sql, arguments![tasks]).await? {
            self.callbacks.insert(TaskId::from_bytes(bytes(&row, 0)?), Known::at(integer(&row, 1)?, ()));
        }
        Ok(())
    }
}

impl<T> Known<T> {
    pub(super) fn at(rev: i64, more: T) -> Self {
        Self { rev: Some(rev), is_written: false, more }
    }

    /// What a record is once a change of this batch inserted it.
    pub(super) fn new(more: T) -> Self {
        Self { rev: Some(1), is_written: true, more }
    }
}

/// Which of these keys are taken.
async fn taken(transaction: &mut Transaction<'_>, sql: &str, keys: Vec<Key>) -> Result<HashSet<Key>, Fault> {
    if keys.is_empty() {
        return Ok(HashSet::new());
    }
    let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
    transaction.rows(sql, arguments![keys]).await?.iter().map(|row| bytes(row, 0)).collect()
}

/// Each once, in the order of ids: locks are taken in it.
fn distinct<T: Ord + Hash>(ids: impl Iterator<Item = T>) -> Vec<T> {
    let mut ids: Vec<T> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// What is unique among agents with an instance id.
pub(super) fn identity(agent: &Agent) -> Option<Key> {
    let instance = agent.instance_id.as_ref()?;
    Some(digest([agent.tenant.as_bytes(), agent.name.as_str().as_bytes(), instance.as_str().as_bytes()]))
}

pub(super) fn workflow_key(kept: &PreparedWorkflow) -> Key {
    let workflow = &kept.row.workflow;
    version_digest(kept.row.tenant, &workflow.id, &workflow.version)
}

/// What an agent is once it was written.
pub(super) fn known_agent(write: &PreparedAgent) -> KnownAgent {
    KnownAgent {
        epoch: crate::store::prepared::number(write.agent.epoch),
        is_active: write.agent.takes_work(),
        identity: identity(&write.agent),
    }
}

/// Whether a write inserts an agent.
pub(super) fn is_new(write: &PreparedAgent) -> bool {
    matches!(write.write, PreparedAgentWrite::Insert(_))
}
