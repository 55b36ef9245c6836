//! The writer's connection and what it knows by heart.

use std::collections::BTreeMap;
use std::sync::Arc;

use eap_core::{Task, TaskSpec};
use eap_types::{AgentId, TaskId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, ToSql, params, params_from_iter};

use super::fault::Fault;
use super::routes::Routes;
use super::rows::{StateColumns, stored_task};
use crate::clock::Clock;
use crate::store::{EventSeq, NewEvent};

/// How many ready tasks are kept at hand, and how many bytes of them.
const MAX_FRESH: usize = 8_192;
const MAX_FRESH_BYTES: usize = 16 << 20;

/// The first nine parameters are those of `UPDATE_STATE`.
const INSERT_TASK: &str = "INSERT INTO task (seq, rev, status, route, due_at, holder, request_id, ended_at, last_agent, \
     state, id, tenant, task_type, priority) \
     VALUES (?1, 1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
pub(super) const UPDATE_STATE: &str = "UPDATE task SET rev = rev + 1, status = ?2, route = ?3, due_at = ?4, \
     holder = ?5, request_id = ?6, ended_at = ?7, last_agent = ?8, state = ?9 WHERE seq = ?1";
/// For a state that is found under the same words as before: most indexes need no visit.
pub(super) const RENEW_STATE: &str = "UPDATE task SET rev = rev + 1, due_at = ?2, state = ?3 WHERE seq = ?1";

/// The one connection that writes.
///
/// Its numbers and caches are those of the open transaction; [`rollback`](Self::rollback) loads them anew.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) connection: Connection,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) routes: Routes,
    fresh: FreshTasks,
    last_task: i64,
    last_event: i64,
}

/// Tasks that became ready a moment ago, so that the claim that takes them need not read them back.
#[derive(Debug, Default)]
struct FreshTasks {
    tasks: BTreeMap<i64, (Task, usize)>,
    bytes: usize,
}

impl FreshTasks {
    fn put(&mut self, seq: i64, task: Task, bytes: usize) {
        self.bytes += bytes;
        self.tasks.insert(seq, (task, bytes));
        while self.tasks.len() > MAX_FRESH || self.bytes > MAX_FRESH_BYTES {
            let Some((_, (_, bytes))) = self.tasks.pop_first() else { break };
            self.bytes -= bytes;
        }
    }

    fn remove(&mut self, seq: i64) {
        if let Some((_, bytes)) = self.tasks.remove(&seq) {
            self.bytes -= bytes;
        }
    }
}

impl Ledger {
    /// Loads what the writer keeps in memory; none of it grows with the queue.
    pub(super) fn load(connection: Connection, clock: Arc<dyn Clock>) -> Result<Self, Fault> {
        let mut ledger = Self {
            connection,
            clock,
            routes: Routes::default(),
            fresh: FreshTasks::default(),
            last_task: 0,
            last_event: 0,
        };
        ledger.reload()?;
        Ok(ledger)
    }

    fn reload(&mut self) -> Result<(), Fault> {
        let newest =
            |sql| -> Result<i64, Fault> { Ok(self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?) };
        // The numbers of rows that were purged are not given again.
        self.last_task = newest(
            "SELECT max(ifnull((SELECT max(seq) FROM task), 0), \
             ifnull((SELECT value FROM meta WHERE key = 'last_task'), 0))",
        )?;
        self.last_event = newest(super::read::HEAD)?;
        self.fresh = FreshTasks::default();
        self.routes = Routes::load(&self.connection)?;
        Ok(())
    }

    pub(super) fn begin(&self) -> Result<(), Fault> {
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(())
    }

    pub(super) fn commit(&self) -> Result<(), Fault> {
        self.connection.prepare_cached("COMMIT")?.execute([]).map_err(Fault::of_commit)?;
        Ok(())
    }

    /// Undoes the open transaction, which SQLite may have done already, and what was known within it.
    pub(super) fn rollback(&mut self) -> Result<(), Fault> {
        if !self.connection.is_autocommit() {
            self.connection.execute_batch("ROLLBACK")?;
        }
        self.reload()
    }

    /// The number of the newest event.
    pub(super) fn head(&self) -> EventSeq {
        EventSeq(self.last_event.unsigned_abs())
    }

    /// Writes down the numbers that a purge may be about to take the rows of.
    pub(super) fn keep_numbers(&self) -> Result<(), Fault> {
        self.write_meta("last_task", self.last_task)?;
        self.write_meta("last_event", self.last_event)
    }

    pub(super) fn write_meta(&self, key: &str, value: i64) -> Result<(), Fault> {
        let sql =
            "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        self.connection.prepare_cached(sql)?.execute(params![key, value])?;
        Ok(())
    }

    /// The number under which a task is stored.
    pub(super) fn seq_of(&self, id: TaskId) -> Result<Option<i64>, Fault> {
        let mut statement = self.connection.prepare_cached("SELECT seq FROM task WHERE id = ?1")?;
        Ok(statement.query_row([id.as_bytes()], |row| row.get(0)).optional()?)
    }

    /// Writes a new task under the next number.
    pub(super) fn insert_task(&mut self, task: &Task, spec: &str, state: &StateColumns) -> Result<(), Fault> {
        let seq = self.last_task + 1;
        let route = self.route_of(state)?;
        self.connection
            .prepare_cached("INSERT INTO task_spec (seq, spec) VALUES (?1, ?2)")?
            .execute(params![seq, spec])?;
        let TaskSpec { id, routing, priority, .. } = &*task.spec;
        let (tenant, task_type, priority) = (routing.tenant.as_bytes(), routing.task_type.as_str(), priority.get());
        let fixed: [&dyn ToSql; 4] = [id.as_bytes(), tenant, &task_type, &priority];
        let params = state.params(&seq, &route).into_iter().chain(fixed);
        self.connection.prepare_cached(INSERT_TASK)?.execute(params_from_iter(params))?;
        self.last_task = seq;
        if route.is_some() {
            self.fresh.put(seq, task.clone(), spec.len());
        }
        Ok(())
    }

    /// Writes a task's new state. `is_renewal`: it is still held by the same agent for the same request.
    pub(super) fn update_task(&mut self, seq: i64, state: &StateColumns, is_renewal: bool) -> Result<(), Fault> {
        self.fresh.remove(seq);
        if is_renewal {
            let mut statement = self.connection.prepare_cached(RENEW_STATE)?;
            statement.execute(params![seq, state.due_at, state.text])?;
            return Ok(());
        }
        let route = self.route_of(state)?;
        self.connection.prepare_cached(UPDATE_STATE)?.execute(state.params(&seq, &route))?;
        Ok(())
    }

    fn route_of(&mut self, state: &StateColumns) -> Result<Option<i64>, Fault> {
        let Some((canonical, spec)) = &state.route else { return Ok(None) };
        self.routes.join(&self.connection, canonical, &spec.routing).map(Some)
    }

    /// A task that is about to be claimed.
    pub(super) fn ready_task(&self, seq: i64, now: Timestamp) -> Result<Task, Fault> {
        if let Some((task, _)) = self.fresh.tasks.get(&seq) {
            return Ok(task.clone());
        }
        let sql = "SELECT t.rev, s.spec, t.state FROM task t JOIN task_spec s ON s.seq = t.seq WHERE t.seq = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([seq])?;
        let row = rows.next()?.ok_or_else(|| Fault::nonsense("a ready task has no record"))?;
        Ok(stored_task(row, 0, now)?.record)
    }

    /// Numbers and writes events.
    pub(super) fn insert_events(&mut self, events: &[NewEvent]) -> Result<(), Fault> {
        if events.is_empty() {
            return Ok(());
        }
        let mut statement = self.connection.prepare_cached(
            "INSERT INTO event (seq, tenant, at, kind, task, agent, attempt, detail) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        for event in events {
            self.last_event += 1;
            statement.execute(params![
                self.last_event,
                event.tenant.as_bytes(),
                event.at.as_micros(),
                event.kind.as_str(),
                event.task.as_ref().map(TaskId::as_bytes),
                event.agent.as_ref().map(AgentId::as_str),
                event.attempt,
                (!event.detail.is_empty()).then(|| event.detail.as_str()),
            ])?;
        }
        Ok(())
    }
}
