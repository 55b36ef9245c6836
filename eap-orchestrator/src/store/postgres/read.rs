//! Tasks and all that belongs to them, as they are read.

use eap_core::{Agent, DueCallback, Task, Vitals};
use eap_types::{AgentId, TaskId, TaskStatus, TaskType, TenantId, Timestamp};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::database::Database;
use super::fault::Fault;
use super::values::{
    arguments, bytes, count, digest, event, integer, is_null, json, maybe_bytes, number_of, stored_task, time, word,
};
use crate::store::prepared::{Kept, number, rows_at_most};
use crate::store::{
    CredentialRow, Event, EventSeq, IdempotencyKeyRow, IdempotencyScope, IdempotentTarget, Insertion, LateResultRow,
    ResultRow, Revision, Stored, TaskFilter,
};

impl Database {
    pub(super) async fn task(&self, id: TaskId) -> Result<Option<Stored<Task>>, Fault> {
        let sql = "SELECT eap.clock(), t.rev, s.spec, t.state \
             FROM eap.task t JOIN eap.task_spec s ON s.seq = t.seq WHERE t.id = $1";
        let row = self.row(sql, arguments![&id.as_bytes()[..]]).await?;
        row.map(|row| stored_task(&row, &self.time)).transpose()
    }

    pub(super) async fn result(&self, id: TaskId) -> Result<Option<ResultRow>, Fault> {
        let sql = "SELECT r.attempt, r.recorded_at, r.result \
             FROM eap.task t JOIN eap.result r ON r.seq = t.seq WHERE t.id = $1";
        let row = self.row(sql, arguments![&id.as_bytes()[..]]).await?;
        let read = |row: PgRow| {
            let (attempt, recorded_at) = (number_of(&row, 0)?, integer(&row, 1)?);
            Ok(Kept { attempt, recorded_at, text: row.try_get(2)? }.row(id)?)
        };
        row.map(read).transpose()
    }

    pub(super) async fn late_results(&self, id: TaskId) -> Result<Vec<LateResultRow>, Fault> {
        let sql = "SELECT l.attempt, l.agent, l.received_at, l.result \
             FROM eap.task t JOIN eap.late_result l ON l.seq = t.seq WHERE t.id = $1 ORDER BY l.attempt";
        let rows = self.rows(sql, arguments![&id.as_bytes()[..]]).await?;
        let read = |row: &PgRow| {
            let (attempt, agent, received_at) = (number_of(row, 0)?, word(row, 1)?, time(row, 2)?);
            Ok(LateResultRow { task: id, attempt, agent, received_at, result: json(row, 3)? })
        };
        rows.iter().map(read).collect()
    }

    pub(super) async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<(Insertion, Stored<Task>)>, Fault> {
        let mut sql = "SELECT eap.clock(), t.rev, s.spec, t.state, t.seq \
             FROM eap.task t JOIN eap.task_spec s ON s.seq = t.seq \
             WHERE t.tenant = $1 AND t.seq < $2"
            .to_owned();
        // A filter that is not given has no place in the statement, but its number: so it is planned for those that are.
        // A partial index is told by what all its rows have in common.
        sql.push_str(match filter.status {
            Some(TaskStatus::Queued | TaskStatus::Leased) => " AND t.status = $4 AND t.ended_at IS NULL",
            Some(_) => " AND t.status = $4 AND t.ended_at IS NOT NULL",
            None => "",
        });
        let filters = [
            (filter.agent.is_some(), " AND t.last_agent = $5"),
            (filter.task_type.is_some(), " AND t.task_type = $6"),
            (filter.dead_letters, " AND t.letter"),
        ];
        sql.extend(filters.into_iter().filter(|(is_given, _)| *is_given).map(|(_, condition)| condition));
        sql.push_str(" ORDER BY t.seq DESC LIMIT $3");
        let rows = self
            .rows_in_time(
                &sql,
                arguments![
                    &filter.tenant.as_bytes()[..],
                    filter.before.map_or(i64::MAX, |before| number(before.0)),
                    rows_at_most(filter.limit),
                    filter.status.map(TaskStatus::as_str),
                    filter.agent.as_ref().map(AgentId::as_str),
                    filter.task_type.as_ref().map(TaskType::as_str),
                ],
            )
            .await?;
        rows.iter().map(|row| Ok((Insertion(count(row, 4)?), stored_task(row, &self.time)?))).collect()
    }

    pub(super) async fn leases(&self, agent: &AgentId) -> Result<Vec<Stored<Task>>, Fault> {
        let sql = "SELECT eap.clock(), t.rev, s.spec, t.state \
             FROM eap.task t JOIN eap.task_spec s ON s.seq = t.seq WHERE t.holder = $1 ORDER BY t.priority, t.seq";
        let rows = self.rows(sql, arguments![agent.as_str()]).await?;
        let mut tasks = self.stored(&rows)?;
        tasks.sort_by_key(|task| task.record.newest_attempt().map(|attempt| attempt.started_at));
        Ok(tasks)
    }

    pub(super) async fn leased(&self, after: Option<TaskId>, limit: usize) -> Result<Vec<Stored<Task>>, Fault> {
        let sql = "SELECT eap.clock(), t.rev, s.spec, t.state \
             FROM eap.task t JOIN eap.task_spec s ON s.seq = t.seq \
             WHERE t.holder IS NOT NULL AND t.id > $1 ORDER BY t.id LIMIT $2";
        // No bytes at all sort before any id.
        let after = after.as_ref().map_or(&[][..], |id| id.as_bytes());
        self.stored(&self.rows(sql, arguments![after, rows_at_most(limit)]).await?)
    }

    pub(super) async fn due(&self, until: Timestamp, limit: usize) -> Result<Vec<Stored<Task>>, Fault> {
        let sql = "SELECT eap.clock(), t.rev, s.spec, t.state \
             FROM eap.task t JOIN eap.task_spec s ON s.seq = t.seq \
             WHERE t.due_at <= $1 ORDER BY t.due_at, t.seq LIMIT $2";
        self.stored(&self.rows(sql, arguments![until.as_micros(), rows_at_most(limit)]).await?)
    }

    fn stored(&self, rows: &[PgRow]) -> Result<Vec<Stored<Task>>, Fault> {
        rows.iter().map(|row| stored_task(row, &self.time)).collect()
    }

    pub(super) async fn agents(&self) -> Result<Vec<(Stored<Agent>, Vitals)>, Fault> {
        let sql = "SELECT eap.clock(), a.rev, a.record, v.vitals \
             FROM eap.agent a JOIN eap.vitals v ON v.agent = a.id ORDER BY a.id";
        let read = |row: &PgRow| {
            let (now, revision) = (self.time.at(row, 0)?, Revision(count(row, 1)?));
            Ok((Stored { record: json(row, 2)?, revision, now }, json(row, 3)?))
        };
        self.rows(sql, arguments![]).await?.iter().map(read).collect()
    }

    pub(super) async fn credentials(&self) -> Result<Vec<CredentialRow>, Fault> {
        let sql = "SELECT eap.clock(), rev, record, last_used_at FROM eap.credential ORDER BY id";
        let read = |row: &PgRow| {
            let (now, revision) = (self.time.at(row, 0)?, Revision(count(row, 1)?));
            let last_used: Option<i64> = row.try_get(3)?;
            Ok((Stored { record: json(row, 2)?, revision, now }, last_used.map(Timestamp::from_micros)))
        };
        self.rows(sql, arguments![]).await?.iter().map(read).collect()
    }

    pub(super) async fn idempotent(&self, scope: &IdempotencyScope) -> Result<Option<IdempotencyKeyRow>, Fault> {
        let sql = "SELECT body_sha256, task, tasks, agent, created_at FROM eap.idempotency WHERE digest = $1";
        let Some(row) = self.row(sql, arguments![&key_digest(scope)[..]]).await? else { return Ok(None) };
        let target = match maybe_bytes(&row, 1)? {
            Some(task) => IdempotentTarget::Task(TaskId::from_bytes(task)),
            None if is_null(&row, 2)? => IdempotentTarget::Agent(word(&row, 3)?),
            None => IdempotentTarget::Tasks(json(&row, 2)?),
        };
        let (body_sha256, created_at) = (bytes(&row, 0)?, time(&row, 4)?);
        Ok(Some(IdempotencyKeyRow { scope: scope.clone(), body_sha256, target, created_at }))
    }

    pub(super) async fn events(
        &self,
        after: EventSeq,
        task: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<Event>, Fault> {
        let (after, limit) = (number(after.0), rows_at_most(limit));
        let rows = match task {
            None => {
                let sql = "SELECT seq, tenant, at, kind, task, agent, attempt, detail \
                     FROM eap.event WHERE seq > $1 ORDER BY seq LIMIT $2";
                self.rows(sql, arguments![after, limit]).await?
            }
            Some(task) => {
                let sql = "SELECT seq, tenant, at, kind, task, agent, attempt, detail \
                     FROM eap.event WHERE task = $3 AND seq > $1 ORDER BY seq LIMIT $2";
                self.rows(sql, arguments![after, limit, &task.as_bytes()[..]]).await?
            }
        };
        rows.iter().map(event).collect()
    }

    pub(super) async fn oldest_event(&self) -> Result<Option<EventSeq>, Fault> {
        let row = self.row("SELECT seq FROM eap.event ORDER BY seq LIMIT 1", arguments![]).await?;
        row.map(|row| Ok(EventSeq(count(&row, 0)?))).transpose()
    }

    pub(super) async fn head(&self) -> Result<EventSeq, Fault> {
        let newest = self.meta("last_event").await?;
        Ok(EventSeq(newest.unwrap_or(0).unsigned_abs()))
    }

    pub(super) async fn pulse(&self) -> Result<Option<Timestamp>, Fault> {
        Ok(self.meta("pulse").await?.map(Timestamp::from_micros))
    }

    async fn meta(&self, key: &str) -> Result<Option<i64>, Fault> {
        let row = self.row("SELECT value FROM eap.meta WHERE key = $1", arguments![key]).await?;
        row.map(|row| integer(&row, 0)).transpose()
    }

    pub(super) async fn callbacks(
        &self,
        after: Option<(Timestamp, TaskId)>,
        limit: usize,
    ) -> Result<Vec<Stored<DueCallback>>, Fault> {
        let sql = "SELECT eap.clock(), rev, task, receiver, ended_at, tries, due_at \
             FROM eap.callback WHERE (due_at, task) > ($1, $2) ORDER BY due_at, task LIMIT $3";
        // No bytes at all sort before any id.
        let (due_at, task) = after.as_ref().map_or((i64::MIN, &[][..]), |(at, task)| (at.as_micros(), task.as_bytes()));
        let rows = self.rows(sql, arguments![due_at, task, rows_at_most(limit)]).await?;
        let read = |row: &PgRow| {
            let record = DueCallback {
                task: TaskId::from_bytes(bytes(row, 2)?),
                receiver: json(row, 3)?,
                ended_at: time(row, 4)?,
                tries: number_of(row, 5)?,
                due_at: time(row, 6)?,
            };
            Ok(Stored { record, revision: Revision(count(row, 1)?), now: self.time.at(row, 0)? })
        };
        rows.iter().map(read).collect()
    }
}

/// What an idempotency key is found by.
pub(super) fn key_digest(scope: &IdempotencyScope) -> [u8; 32] {
    digest([scope.principal.as_bytes(), scope.route.as_bytes(), scope.key.as_bytes()])
}

/// A tenant as a column has it.
pub(super) fn tenant(tenant: &TenantId) -> &[u8] {
    &tenant.as_bytes()[..]
}
