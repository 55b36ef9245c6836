//! The writer's connection and what it knows by heart.

use std::collections::BTreeMap;
use std::sync::Arc;

use eap_core::{Task, TaskSpec};
use eap_types::{AgentId, TaskId};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::behind::Behind;
use super::event_row::EventRow;
use super::fault::Fault;
use super::holders::{Holders, request_of};
use super::journal::{Journal, MAX_SPEC, Moving, Share, Young};
use super::many::write_rows;
use super::recent::{Known, Recent};
use super::routes::Routes;
use super::rows::{PreparedResult, StateColumns, StateText, stored_task};
use crate::canary;
use crate::clock::Clock;
use crate::maps::IdMap;
use crate::store::prepared::Kept;
use crate::store::{EventSeq, NewEvent, Revision, Stored};

/// How many ready tasks are kept at hand, and how many bytes of them.
const MAX_FRESH: usize = 8_192;
const MAX_FRESH_BYTES: usize = 16 << 20;

/// A task as it stands, by its id.
const STORED: &str =
    "SELECT t.rev, s.spec, t.state, t.seq FROM task t JOIN task_spec s ON s.seq = t.seq WHERE t.id = ?1";

const INSERT_SPEC: &str = "INSERT OR FAIL INTO task_spec (seq, spec)";
const INSERT_TASK: &str = "INSERT OR FAIL INTO task (seq, rev, id, tenant, task_type, priority, status, route, due_at, \
     holder, request_id, ended_at, last_agent, letter, state)";
const INSERT_RESULT: &str = "INSERT OR FAIL INTO result (seq, attempt, recorded_at, result)";
const INSERT_EVENT: &str = "INSERT OR FAIL INTO event (seq, tenant, at, kind, task, agent, attempt, detail)";

// SQLite visits every index of a column that is set, whether or not its value changes. So the usual steps of a task's
// life name just the columns that they change.
/// A ready task is leased.
pub(super) const LEASE_STATE: &str = "UPDATE task SET rev = rev + 1, status = ?2, route = NULL, due_at = ?3, \
     holder = ?4, request_id = ?5, last_agent = ?6, state = ?7 WHERE seq = ?1";
/// It is still held by the same agent for the same request.
pub(super) const RENEW_STATE: &str = "UPDATE task SET rev = rev + 1, due_at = ?2, state = ?3 WHERE seq = ?1";
/// Its holder's lease ends with it.
pub(super) const END_STATE: &str = "UPDATE task SET rev = rev + 1, status = ?2, due_at = NULL, holder = NULL, \
     request_id = NULL, ended_at = ?3, state = ?4 WHERE seq = ?1";
/// Anything else.
pub(super) const UPDATE_STATE: &str = "UPDATE task SET rev = rev + 1, status = ?2, route = ?3, due_at = ?4, \
     holder = ?5, request_id = ?6, ended_at = ?7, last_agent = ?8, state = ?9 WHERE seq = ?1";
/// Beside the others, since few tasks become dead letters.
const LIST_LETTER: &str = "UPDATE task SET letter = ?2 WHERE seq = ?1";

/// The one connection that writes.
///
/// Its numbers and caches are those of the open transaction; [`rollback`](Self::rollback) loads them anew.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) connection: Connection,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) routes: Routes,
    pub(super) holders: Holders,
    /// What was committed, for everybody.
    recent: Arc<Recent>,
    /// What the open transaction wrote.
    written: IdMap<TaskId, Known>,
    fresh: FreshTasks,
    pub(super) behind: Behind,
    pub(super) journal: Journal,
    last_task: i64,
    last_event: i64,
}

/// A task that is in no table yet, as it is to be written.
struct NewRow<'a> {
    known: &'a Known,
    spec: &'a str,
    state: &'a str,
    /// Where it waits, while it is ready.
    route: Option<i64>,
}

impl<'a> From<&'a Young> for NewRow<'a> {
    fn from(Young { known, spec, state, route, .. }: &'a Young) -> Self {
        Self { known, spec, state, route: *route }
    }
}

/// Tasks that became ready a moment ago, so that the claim that takes them need not read them back.
#[derive(Debug, Default)]
struct FreshTasks {
    tasks: BTreeMap<i64, (Arc<Task>, usize)>,
    bytes: usize,
}

impl FreshTasks {
    fn put(&mut self, seq: i64, task: Arc<Task>) {
        let bytes = task.spec.payload_bytes();
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
    pub(super) fn load(connection: Connection, clock: Arc<dyn Clock>, recent: Arc<Recent>) -> Result<Self, Fault> {
        let mut ledger = Self {
            connection,
            clock,
            routes: Routes::default(),
            holders: Holders::default(),
            recent,
            written: IdMap::default(),
            fresh: FreshTasks::default(),
            behind: Behind::default(),
            journal: Journal::default(),
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
        self.holders = Holders::default();
        self.written.clear();
        self.routes = Routes::load(&self.connection)?;
        let (routes, connection) = (&mut self.routes, &self.connection);
        self.journal = Journal::load(connection, |key| routes.join(connection, &key.canonical(), key))?;
        self.last_task = self.last_task.max(self.journal.last_task().unwrap_or(0));
        self.last_event = self.last_event.max(self.journal.last_event().unwrap_or(0));
        self.behind = Behind::load(&self.connection, &self.journal)?;
        // Where nothing can move, these are found nowhere else.
        self.recent.publish(self.journal.tasks().map(|known| (known.task.id(), known.clone())));
        Ok(())
    }

    pub(super) fn begin(&self) -> Result<(), Fault> {
        if canary::sings("ack-before-commit") && !self.connection.is_autocommit() {
            self.connection.execute_batch("COMMIT")?;
        }
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(())
    }

    /// Writes down what the open transaction has done; the last thing before its commit.
    pub(super) fn write_down(&mut self) -> Result<(), Fault> {
        self.journal.write(&self.connection)
    }

    pub(super) fn commit(&mut self) -> Result<(), Fault> {
        if !canary::sings("ack-before-commit") {
            self.connection.prepare_cached("COMMIT")?.execute([]).map_err(Fault::of_commit)?;
        }
        self.recent.publish(self.written.drain());
        Ok(())
    }

    /// Ends the open transaction of a file that can no longer be trusted.
    pub(super) fn abandon(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::warn!(%error, "the last transaction could not be ended");
        }
    }

    /// Undoes the open transaction, which SQLite may have done already, and what was known within it.
    pub(super) fn rollback(&mut self) -> Result<(), Fault> {
        // A commit that failed may be in the file all the same.
        self.recent.clear();
        if !self.connection.is_autocommit() {
            self.connection.execute_batch("ROLLBACK")?;
        }
        self.reload()
    }

    /// The number of the newest event.
    pub(super) fn head(&self) -> EventSeq {
        EventSeq(self.last_event.unsigned_abs())
    }

    /// Writes down the numbers whose rows a purge takes. After it: what it takes from the journal counts as well.
    pub(super) fn keep_numbers(&self) -> Result<(), Fault> {
        self.write_meta("last_task", self.last_task)?;
        self.write_meta("newest_event", self.last_event)?;
        // A start passes over what the journal tells of events up to this one: those that are still there come later.
        let last_event = self.journal.first_event().map_or(self.last_event, |first| first - 1);
        self.write_meta("last_event", last_event)
    }

    pub(super) fn write_meta(&self, key: &str, value: i64) -> Result<(), Fault> {
        let sql =
            "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        self.connection.prepare_cached(sql)?.execute(params![key, value])?;
        Ok(())
    }

    /// A task as the open transaction has it, if it is remembered.
    pub(super) fn known(&self, id: TaskId) -> Option<Known> {
        self.written.get(&id).or_else(|| self.journal.by_id(id)).cloned().or_else(|| self.recent.get(id))
    }

    /// The same, read where it is not remembered.
    pub(super) fn stored(&self, id: TaskId) -> Result<Option<Known>, Fault> {
        if let Some(known) = self.known(id) {
            return Ok(Some(known));
        }
        let mut statement = self.connection.prepare_cached(STORED)?;
        let mut rows = statement.query([id.as_bytes()])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let Stored { record, revision, .. } = stored_task(row, 0, self.clock.now())?;
        Ok(Some(Known { seq: row.get(3)?, revision, task: Arc::new(record), result: None }))
    }

    /// The number under which a task is stored.
    pub(super) fn seq_of(&self, id: TaskId) -> Result<Option<i64>, Fault> {
        if let Some(known) = self.known(id) {
            return Ok(Some(known.seq));
        }
        let mut statement = self.connection.prepare_cached("SELECT seq FROM task WHERE id = ?1")?;
        Ok(statement.query_row([id.as_bytes()], |row| row.get(0)).optional()?)
    }

    /// Writes a new task under the next number; its id is new.
    pub(super) fn insert_task(&mut self, task: &Arc<Task>, spec: &str, state: &StateText) -> Result<(), Fault> {
        let seq = self.last_task + 1;
        let route = self.route_of(task, state)?;
        let known = Known { seq, revision: Revision(1), task: Arc::clone(task), result: None };
        if spec.len() <= MAX_SPEC {
            self.journal.insert(known.clone(), spec, &state.text, route);
        } else {
            self.put_tasks(&[NewRow { known: &known, spec, state: &state.text, route }])?;
            if route.is_some() {
                self.fresh.put(seq, Arc::clone(task));
            }
        }
        self.last_task = seq;
        self.pass(seq, None, task);
        self.written.insert(task.id(), known);
        Ok(())
    }

    /// Writes tasks that are in no table yet, as they now are.
    fn put_tasks(&self, tasks: &[NewRow<'_>]) -> Result<(), Fault> {
        write_rows(&self.connection, INSERT_TASK, 15, tasks, |row, places| {
            let task = &row.known.task;
            let TaskSpec { id, routing, priority, .. } = &*task.spec;
            let columns = StateColumns::of(task);
            places.take(row.known.seq)?;
            places.take(row.known.revision.0.cast_signed())?;
            places.take(id.as_bytes())?;
            places.take(routing.tenant.as_bytes())?;
            places.take(routing.task_type.as_str())?;
            places.take(priority.get())?;
            places.take(columns.status)?;
            places.take(row.route)?;
            places.take(columns.due_at)?;
            places.take(columns.holder)?;
            places.take(columns.request)?;
            places.take(columns.ended_at)?;
            places.take(columns.last_agent)?;
            places.take(task.is_dead_letter().then_some(1))?;
            places.take(row.state)
        })?;
        write_rows(&self.connection, INSERT_SPEC, 2, tasks, |row, places| {
            places.take(row.known.seq)?;
            places.take(row.spec)
        })?;
        let result_of = |row: &NewRow<'_>| Some((row.known.seq, Arc::clone(row.known.result.as_ref()?)));
        self.put_results(&tasks.iter().filter_map(result_of).collect::<Vec<_>>())
    }

    fn put_results(&self, results: &[(i64, Arc<Kept>)]) -> Result<(), Fault> {
        write_rows(&self.connection, INSERT_RESULT, 4, results, |(seq, kept), places| {
            places.take(seq)?;
            places.take(kept.attempt)?;
            places.take(kept.recorded_at)?;
            places.take(&kept.text)
        })
    }

    /// Writes the result of a task that has none.
    pub(super) fn insert_result(&mut self, PreparedResult { task, kept }: &PreparedResult) -> Result<(), Fault> {
        let seq = self.seq_of(*task)?.ok_or_else(|| Fault::nonsense("a task that was there a moment ago is gone"))?;
        if !self.journal.record(seq, kept) {
            self.put_results(&[(seq, Arc::clone(kept))])?;
        }
        if let Some(known) = self.written.get_mut(task) {
            known.result = Some(Arc::clone(kept));
        }
        Ok(())
    }

    /// Whether the task with this number has a result.
    pub(super) fn has_result(&self, seq: i64) -> Result<bool, Fault> {
        match self.journal.by_number(seq) {
            Some(known) => Ok(known.result.is_some()),
            None => Ok(self.connection.prepare_cached("SELECT 1 FROM result WHERE seq = ?1")?.exists([seq])?),
        }
    }

    /// Moves everything that is in the journal into the tables.
    pub(super) fn settle(&mut self) -> Result<(), Fault> {
        self.move_on(Share::Everything)
    }

    /// Whether something is due to move on.
    pub(super) fn is_untidy(&self) -> bool {
        self.journal.due().is_some() || self.behind.is_far()
    }

    /// Moves on what is due.
    pub(super) fn tidy(&mut self) -> Result<(), Fault> {
        if let Some(share) = self.journal.due() {
            self.move_on(share)?;
        }
        if self.behind.is_far() {
            self.catch_up()?;
        }
        Ok(())
    }

    /// Moves a share of what is in the journal into the tables.
    pub(super) fn move_on(&mut self, share: Share) -> Result<(), Fault> {
        if self.journal.is_empty() {
            return Ok(());
        }
        let Moving { tasks, events } = self.journal.take(&self.connection, share)?;
        self.put_tasks(&tasks.iter().map(|(_, young)| NewRow::from(young)).collect::<Vec<_>>())?;
        write_rows(&self.connection, INSERT_EVENT, 8, &events, |event, places| {
            places.take(event.number)?;
            places.take(event.tenant.as_bytes())?;
            places.take(event.at)?;
            places.take(&*event.kind)?;
            places.take(event.task.as_ref().map(TaskId::as_bytes))?;
            places.take(event.agent.as_ref().map(AgentId::as_str))?;
            places.take(event.attempt)?;
            places.take(event.detail.as_deref())
        })?;
        events.iter().for_each(|event| self.behind.note(event));
        Ok(())
    }

    /// Writes the new state of a task that stands at `before`.
    pub(super) fn update_task(&mut self, before: &Known, task: &Arc<Task>, state: &StateText) -> Result<(), Fault> {
        let seq = before.seq;
        let route = self.route_of(task, state)?;
        let spec = &before.task.spec;
        let known = Known {
            seq,
            revision: Revision(before.revision.0 + 1),
            // The spec that was inserted is never written again, whatever an update brings.
            task: if Arc::ptr_eq(spec, &task.spec) {
                Arc::clone(task)
            } else {
                Arc::new(Task { spec: Arc::clone(spec), state: task.state.clone() })
            },
            result: before.result.clone(),
        };
        if self.journal.contains(seq) {
            self.journal.update(known.clone(), &state.text, route);
        } else {
            self.write_state(before, task, &state.text, route)?;
        }
        self.pass(seq, Some(&before.task), task);
        self.written.insert(task.id(), known);
        Ok(())
    }

    fn write_state(&mut self, before: &Known, task: &Task, text: &str, route: Option<i64>) -> Result<(), Fault> {
        let seq = before.seq;
        self.fresh.remove(seq);
        let (old, new) = (StateColumns::of(&before.task), StateColumns::of(task));
        let is_same_holder = (old.status, old.holder, old.request) == (new.status, new.holder, new.request);
        if new.holder.is_some() && is_same_holder {
            self.connection.prepare_cached(RENEW_STATE)?.execute(params![seq, new.due_at, text])?;
        } else if new.holder.is_some() && old.ended_at.is_none() {
            let mut statement = self.connection.prepare_cached(LEASE_STATE)?;
            statement.execute(params![seq, new.status, new.due_at, new.holder, new.request, new.last_agent, text])?;
        } else if old.holder.is_some() && new.ended_at.is_some() && old.last_agent == new.last_agent {
            let mut statement = self.connection.prepare_cached(END_STATE)?;
            statement.execute(params![seq, new.status, new.ended_at, text])?;
        } else {
            let mut statement = self.connection.prepare_cached(UPDATE_STATE)?;
            let StateColumns { status, due_at, holder, request, ended_at, last_agent } = new;
            statement.execute(params![seq, status, route, due_at, holder, request, ended_at, last_agent, text])?;
        }
        self.list_letter(seq, before.task.is_dead_letter(), task)
    }

    /// Puts a task on the list of dead letters, or takes it off, where that changes.
    fn list_letter(&self, seq: i64, was_letter: bool, task: &Task) -> Result<(), Fault> {
        let is_letter = task.is_dead_letter();
        if is_letter != was_letter {
            self.connection.prepare_cached(LIST_LETTER)?.execute(params![seq, is_letter.then_some(1)])?;
        }
        Ok(())
    }

    /// Keeps in step what agents hold.
    fn pass(&mut self, seq: i64, before: Option<&Task>, after: &Task) {
        let from = before.and_then(Task::lease).map(|lease| &lease.agent);
        let to = after.lease().map(|lease| (&lease.agent, request_of(after)));
        self.holders.pass(seq, from, to);
    }

    fn route_of(&mut self, task: &Task, state: &StateText) -> Result<Option<i64>, Fault> {
        let Some(canonical) = &state.route else { return Ok(None) };
        self.routes.join(&self.connection, canonical, &task.spec.routing).map(Some)
    }

    /// A task that is ready or leased, by its number.
    pub(super) fn by_number(&self, seq: i64) -> Result<Known, Fault> {
        if let Some(known) = self.journal.by_number(seq) {
            return Ok(known.clone());
        }
        if let Some(known) = self.fresh.tasks.get(&seq).and_then(|(task, _)| self.known(task.id())) {
            return Ok(known);
        }
        let sql = "SELECT t.rev, s.spec, t.state FROM task t JOIN task_spec s ON s.seq = t.seq WHERE t.seq = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([seq])?;
        let row = rows.next()?.ok_or_else(|| Fault::nonsense("a task that is ready or leased has no record"))?;
        let Stored { record, revision, .. } = stored_task(row, 0, self.clock.now())?;
        Ok(Known { seq, revision, task: Arc::new(record), result: None })
    }

    /// Tasks are gone for good.
    pub(super) fn forget_tasks(&mut self, ids: &[TaskId]) {
        self.recent.forget(ids);
        self.written.retain(|id, _| !ids.contains(id));
    }

    /// Numbers events and writes them down.
    pub(super) fn insert_events(&mut self, events: &[NewEvent]) -> Result<(), Fault> {
        for event in events {
            self.last_event += 1;
            let task = event.task.map(|id| self.seq_of(id)).transpose()?.flatten();
            self.journal.tell(EventRow::of(self.last_event, event, task));
        }
        Ok(())
    }
}
