//! One change: checked whole, then written whole.

use std::collections::HashSet;

use eap_types::{InstanceId, TaskId};
use rusqlite::{OptionalExtension as _, ToSql, params};

use super::fault::{Fault, Setback};
use super::ledger::Ledger;
use super::recent::Known;
use super::rows::{Prepared, PreparedAgent, PreparedAgentWrite, PreparedTask, PreparedTaskWrite, number};
use crate::store::{CallbackWrite, Committed, IdempotencyKeyRow, IdempotentTarget, RecordRef, StoreError};

/// What the check of a task write found out for the write.
enum TaskTarget {
    New,
    Stored(Known),
}

/// What the check of an agent write found out for the write.
enum AgentTarget {
    New,
    Stored(i64),
}

impl Ledger {
    /// Writes all of `change`, or says why nothing of it was written.
    pub(super) fn apply(&mut self, change: &Prepared) -> Result<Committed, Setback> {
        let tasks = self.check_tasks(change)?;
        let agents = self.check_agents(change)?;
        let sessions = self.check_sessions(change)?;
        self.check_workflows(change)?;
        self.check_credentials(change)?;
        self.check_webhook(change)?;
        self.check_results(change, &tasks)?;
        self.check_callbacks(change, &tasks)?;
        if let Some(row) = &change.idempotency
            && self.is_taken(row)?
        {
            return Err(duplicate(RecordRef::IdempotencyKey));
        }
        self.write(change, &tasks, &agents)?;
        self.write_sessions(change, &sessions)?;
        self.write_workflows(change)?;
        Ok(Committed { head: self.head() })
    }

    fn check_tasks(&self, change: &Prepared) -> Result<Vec<TaskTarget>, Setback> {
        let mut seen = HashSet::new();
        let check = |task: &PreparedTask| {
            let is_first = change.tasks.len() == 1 || seen.insert(task.task.id());
            self.check_task(task, is_first)
        };
        change.tasks.iter().map(check).collect()
    }

    fn check_task(&self, task: &PreparedTask, is_first: bool) -> Result<TaskTarget, Setback> {
        let id = task.task.id();
        match &task.write {
            PreparedTaskWrite::Insert { .. } if is_first && self.seq_of(id)?.is_none() => Ok(TaskTarget::New),
            PreparedTaskWrite::Insert { .. } => Err(duplicate(RecordRef::Task(id))),
            PreparedTaskWrite::Update { revision } => match self.stored(id)? {
                Some(before) if is_first && before.is_at(*revision) => Ok(TaskTarget::Stored(before)),
                _ => Err(conflict(RecordRef::Task(id))),
            },
        }
    }

    fn check_agents(&self, change: &Prepared) -> Result<Vec<AgentTarget>, Setback> {
        let (mut seen, mut identities) = (HashSet::new(), HashSet::new());
        let mut targets = Vec::with_capacity(change.agents.len());
        for write in &change.agents {
            let agent = &write.agent;
            targets.push(self.check_agent(write, seen.insert(&agent.id))?);
            let identity = agent.instance_id.as_ref().map(|instance| (agent.tenant, &agent.name, instance));
            if identity.is_some_and(|identity| !identities.insert(identity)) {
                return Err(duplicate(RecordRef::Agent(agent.id.clone())));
            }
        }
        Ok(targets)
    }

    fn check_agent(&self, write: &PreparedAgent, is_first: bool) -> Result<AgentTarget, Setback> {
        let agent = &write.agent;
        let record = RecordRef::Agent(agent.id.clone());
        let stored: Option<(i64, i64)> = self
            .connection
            .prepare_cached("SELECT seq, rev FROM agent WHERE id = ?1")?
            .query_row([agent.id.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let target = match (&write.write, stored) {
            (PreparedAgentWrite::Insert(_), None) if is_first => AgentTarget::New,
            (PreparedAgentWrite::Insert(_), _) => return Err(duplicate(record)),
            (PreparedAgentWrite::Update { revision }, Some((seq, rev))) if is_first && rev == number(revision.0) => {
                AgentTarget::Stored(seq)
            }
            (PreparedAgentWrite::Update { .. }, _) => return Err(conflict(record)),
        };
        let Some(instance) = &agent.instance_id else { return Ok(target) };
        let owner: Option<String> = self
            .connection
            .prepare_cached("SELECT id FROM agent WHERE tenant = ?1 AND name = ?2 AND instance_id = ?3")?
            .query_row(params![agent.tenant.as_bytes(), agent.name.as_str(), instance.as_str()], |row| row.get(0))
            .optional()?;
        match owner {
            Some(owner) if owner != agent.id.as_str() => {
                let owner = owner.parse().map_err(Fault::nonsense)?;
                Err(duplicate(RecordRef::Agent(owner)))
            }
            _ => Ok(target),
        }
    }

    fn check_results(&self, change: &Prepared, tasks: &[TaskTarget]) -> Result<(), Setback> {
        let mut seen = HashSet::new();
        for row in &change.results {
            let is_first = change.results.len() == 1 || seen.insert(row.task);
            let is_recorded = match self.seq_within(row.task, change, tasks)? {
                None => false,
                Some(seq) => self.has_result(seq)?,
            };
            if is_recorded || !is_first {
                return Err(duplicate(RecordRef::Task(row.task)));
            }
        }
        for row in &change.late_results {
            self.seq_within(row.task, change, tasks)?;
        }
        Ok(())
    }

    fn check_callbacks(&self, change: &Prepared, tasks: &[TaskTarget]) -> Result<(), Setback> {
        let mut seen = HashSet::new();
        for write in &change.callbacks {
            let task = write.task();
            let record = RecordRef::Callback(task);
            let is_first = change.callbacks.len() == 1 || seen.insert(task);
            if let CallbackWrite::Insert(_) = write {
                self.seq_within(task, change, tasks)?;
            }
            let stored = self.callback_revision(task)?;
            match write {
                CallbackWrite::Insert(_) if is_first && stored.is_none() => {}
                CallbackWrite::Insert(_) => return Err(duplicate(record)),
                CallbackWrite::Update { revision, .. } | CallbackWrite::Remove { revision, .. } => {
                    if !is_first || stored != Some(number(revision.0)) {
                        return Err(conflict(record));
                    }
                }
            }
        }
        Ok(())
    }

    /// The number of the task of a result or callback; it has none yet if this change inserts it.
    fn seq_within(&self, id: TaskId, change: &Prepared, tasks: &[TaskTarget]) -> Result<Option<i64>, Setback> {
        match change.tasks.iter().position(|write| write.task.id() == id).map(|index| &tasks[index]) {
            Some(TaskTarget::New) => Ok(None),
            Some(TaskTarget::Stored(before)) => Ok(Some(before.seq)),
            None => match self.seq_of(id)? {
                Some(seq) => Ok(Some(seq)),
                // A result of nothing: its task was purged since it was read.
                None => Err(conflict(RecordRef::Task(id))),
            },
        }
    }

    fn is_taken(&self, row: &IdempotencyKeyRow) -> Result<bool, Fault> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT 1 FROM idempotency WHERE principal = ?1 AND route = ?2 AND key = ?3")?;
        Ok(statement.exists(params![row.scope.principal, row.scope.route, row.scope.key])?)
    }

    fn write(&mut self, change: &Prepared, tasks: &[TaskTarget], agents: &[AgentTarget]) -> Result<(), Fault> {
        for (write, target) in change.tasks.iter().zip(tasks) {
            match (&write.write, target) {
                (PreparedTaskWrite::Insert { spec }, _) => {
                    self.insert_task(&write.task, spec, &write.state)?;
                }
                (_, TaskTarget::Stored(before)) => self.update_task(before, &write.task, &write.state)?,
                (PreparedTaskWrite::Update { .. }, TaskTarget::New) => {}
            }
        }
        for (write, target) in change.agents.iter().zip(agents) {
            self.write_agent(write, target)?;
        }
        self.write_credentials(change)?;
        self.write_states(change)?;
        self.write_results(change)?;
        self.write_callbacks(&change.callbacks)?;
        if let Some(row) = &change.idempotency {
            self.insert_key(row)?;
        }
        for (agent, vitals) in &change.vitals {
            self.connection
                .prepare_cached(
                    "UPDATE vitals SET last_seen = ?2, vitals = ?3 WHERE seq = (SELECT seq FROM agent WHERE id = ?1)",
                )?
                .execute(params![agent.as_str(), vitals.last_seen, vitals.text])?;
        }
        if let Some(pulse) = change.pulse {
            self.write_meta("pulse", pulse.as_micros())?;
        }
        self.insert_events(&change.events)
    }

    fn write_agent(&mut self, write: &PreparedAgent, target: &AgentTarget) -> Result<(), Fault> {
        let agent = &write.agent;
        self.holders.forget(&agent.id);
        let (name, instance) = (agent.name.as_str(), agent.instance_id.as_ref().map(InstanceId::as_str));
        let (tenant, epoch, is_active) = (agent.tenant.as_bytes(), number(agent.epoch), agent.takes_work());
        let execute = |sql, key: &dyn ToSql| {
            self.connection.prepare_cached(sql)?.execute(params![
                key,
                tenant,
                name,
                instance,
                epoch,
                is_active,
                write.gone_at(),
                write.record
            ])
        };
        match (target, &write.write) {
            (AgentTarget::Stored(seq), _) => {
                execute(
                    "UPDATE agent SET rev = rev + 1, tenant = ?2, name = ?3, instance_id = ?4, epoch = ?5, \
                     is_active = ?6, gone_at = ?7, record = ?8 WHERE seq = ?1",
                    seq,
                )?;
            }
            (AgentTarget::New, PreparedAgentWrite::Insert(vitals)) => {
                execute(
                    "INSERT INTO agent (id, tenant, name, instance_id, epoch, is_active, gone_at, rev, record) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1, ?8)",
                    &agent.id.as_str(),
                )?;
                let seq = self.connection.last_insert_rowid();
                self.connection
                    .prepare_cached("INSERT INTO vitals (seq, last_seen, vitals) VALUES (?1, ?2, ?3)")?
                    .execute(params![seq, vitals.last_seen, vitals.text])?;
            }
            (AgentTarget::New, PreparedAgentWrite::Update { .. }) => {}
        }
        Ok(())
    }

    fn write_results(&mut self, change: &Prepared) -> Result<(), Fault> {
        for row in &change.results {
            self.insert_result(row)?;
        }
        let seq_of = |id: TaskId| -> Result<i64, Fault> {
            self.seq_of(id)?.ok_or_else(|| Fault::nonsense("a task that was there a moment ago is gone"))
        };
        for row in &change.late_results {
            self.connection
                .prepare_cached(
                    "INSERT INTO late_result (seq, attempt, agent, received_at, result) \
                     VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (seq, attempt) DO NOTHING",
                )?
                .execute(params![seq_of(row.task)?, row.attempt, row.agent.as_str(), row.received_at, row.text])?;
        }
        Ok(())
    }

    fn insert_key(&self, row: &IdempotencyKeyRow) -> Result<(), Fault> {
        let (task, tasks, agent) = match &row.target {
            IdempotentTarget::Task(id) => (Some(id.as_bytes()), None, None),
            IdempotentTarget::Tasks(ids) => (None, Some(serde_json::to_string(ids)?), None),
            IdempotentTarget::Agent(id) => (None, None, Some(id.as_str())),
        };
        self.connection
            .prepare_cached(
                "INSERT INTO idempotency (principal, route, key, body_sha256, task, tasks, agent, created_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                row.scope.principal,
                row.scope.route,
                row.scope.key,
                row.body_sha256,
                task,
                tasks,
                agent,
                row.created_at.as_micros(),
            ])?;
        Ok(())
    }
}

pub(super) fn conflict(record: RecordRef) -> Setback {
    Setback::Refused(StoreError::Conflict { record })
}

pub(super) fn duplicate(record: RecordRef) -> Setback {
    Setback::Refused(StoreError::Duplicate { record })
}
