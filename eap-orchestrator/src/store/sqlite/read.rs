//! What is read, by which query.

use std::cmp::Reverse;

use eap_core::{Agent, Task, Vitals};
use eap_types::{AgentId, TaskId, TaskStatus, TaskType, TenantId, Timestamp};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Params, Row, ToSql, params};

use super::behind::indexed;
use super::fault::Fault;
use super::rows::{count, event, json, number, rows_at_most, stored_task, time, word};
use crate::store::{
    Event, EventSeq, IdempotencyKeyRow, IdempotencyScope, IdempotentTarget, Insertion, LateResultRow, ResultRow,
    Revision, Stored, TaskFilter,
};

const TASK: &str = "SELECT t.rev, s.spec, t.state FROM task t JOIN task_spec s ON s.seq = t.seq WHERE t.id = ?1";

pub(super) const LEASES: &str = "SELECT t.rev, s.spec, t.state \
     FROM task t INDEXED BY task_held JOIN task_spec s ON s.seq = t.seq WHERE t.holder = ?1 ORDER BY t.priority, t.seq";

pub(super) const LEASED: &str = "SELECT t.rev, s.spec, t.state \
     FROM (SELECT seq, id FROM task INDEXED BY task_held WHERE holder IS NOT NULL AND id > ?1 ORDER BY id LIMIT ?2) AS held \
     JOIN task t ON t.seq = held.seq JOIN task_spec s ON s.seq = held.seq ORDER BY held.id";

pub(super) const DUE: &str = "SELECT t.rev, s.spec, t.state \
     FROM task t INDEXED BY task_due JOIN task_spec s ON s.seq = t.seq \
     WHERE t.due_at <= ?1 ORDER BY t.due_at, t.seq LIMIT ?2";

/// The newest event that was ever told; counts on after the newest were purged.
pub(super) const HEAD: &str = "SELECT max(ifnull((SELECT max(seq) FROM event), 0), \
     ifnull((SELECT max(value) FROM meta WHERE key IN ('last_event', 'newest_event')), 0))";

/// The newest event that has moved from the journal into its table, whether or not it is still there.
pub(super) const MOVED: &str = "SELECT max(ifnull((SELECT max(seq) FROM event), 0), \
     ifnull((SELECT value FROM meta WHERE key = 'last_event'), 0))";

pub(super) const OLDEST_EVENT: &str = "SELECT min(seq) FROM event";

const EVENTS: &str =
    "SELECT seq, tenant, at, kind, task, agent, attempt, detail FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2";
pub(super) const EVENTS_OF_TASK: &str = "SELECT e.seq, e.tenant, e.at, e.kind, e.task, e.agent, e.attempt, e.detail \
     FROM event_of_task o CROSS JOIN event e ON e.seq = o.event \
     WHERE o.task = (SELECT seq FROM task WHERE id = ?3) AND o.event > ?1 ORDER BY o.event LIMIT ?2";
/// Among the newest, which are not in that table yet.
pub(super) const NEWEST_OF_TASK: &str = "SELECT seq, tenant, at, kind, task, agent, attempt, detail \
     FROM event WHERE seq > ?1 AND task = ?3 ORDER BY seq LIMIT ?2";

pub(super) fn all<T, P: Params>(
    connection: &Connection,
    sql: &str,
    params: P,
    mut read: impl FnMut(&Row<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push(read(row)?);
    }
    Ok(records)
}

/// Lets several queries see the same moment, within a transaction or without one.
pub(super) struct Moment<'c>(&'c Connection);

impl<'c> Moment<'c> {
    pub(super) fn begin(connection: &'c Connection) -> Result<Self, Fault> {
        connection.prepare_cached("SAVEPOINT moment")?.execute([])?;
        Ok(Self(connection))
    }
}

impl Drop for Moment<'_> {
    fn drop(&mut self) {
        // There is nothing to write that could fail.
        let _ = self.0.execute_batch("RELEASE moment");
    }
}

pub(super) fn one<T, P: Params>(
    connection: &Connection,
    sql: &str,
    params: P,
    read: impl FnOnce(&Row<'_>) -> Result<T, Fault>,
) -> Result<Option<T>, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    rows.next()?.map(read).transpose()
}

pub(super) fn task(connection: &Connection, id: TaskId, now: Timestamp) -> Result<Option<Stored<Task>>, Fault> {
    one(connection, TASK, [id.as_bytes()], |row| stored_task(row, 0, now))
}

pub(super) fn result(connection: &Connection, id: TaskId) -> Result<Option<ResultRow>, Fault> {
    let sql = "SELECT r.attempt, r.recorded_at, r.result FROM task t JOIN result r ON r.seq = t.seq WHERE t.id = ?1";
    one(connection, sql, [id.as_bytes()], |row| {
        Ok(ResultRow { task: id, attempt: row.get(0)?, recorded_at: time(row, 1)?, result: json(row, 2)? })
    })
}

pub(super) fn late_results(connection: &Connection, id: TaskId) -> Result<Vec<LateResultRow>, Fault> {
    let sql = "SELECT l.attempt, l.agent, l.received_at, l.result \
         FROM task t JOIN late_result l ON l.seq = t.seq WHERE t.id = ?1 ORDER BY l.attempt";
    all(connection, sql, [id.as_bytes()], |row| {
        Ok(LateResultRow {
            task: id,
            attempt: row.get(0)?,
            agent: word(row, 1)?,
            received_at: time(row, 2)?,
            result: json(row, 3)?,
        })
    })
}

/// Where a list of tasks is walked through, from its newest end.
#[derive(Clone, Copy)]
pub(super) enum Walk {
    /// Those of an agent that are in the table for that.
    OfAgent,
    /// Those that its newest leases made the agent's.
    NewestOfAgent,
    /// Whatever the other filters ask for.
    All,
}

/// The query for the filters that are given. Every combination walks one index from its newest end, but for what is
/// leased, which is sorted: as many rows as agents hold tasks.
pub(super) fn tasks_sql(filter: &TaskFilter, walk: Walk) -> String {
    const ALL: &str = "task t";
    let from = match (walk, filter.status) {
        _ if filter.dead_letters => "task t INDEXED BY task_letter",
        (Walk::OfAgent, _) => "task_of_agent o CROSS JOIN task t ON t.seq = o.task",
        (Walk::NewestOfAgent, _) => {
            "(SELECT DISTINCT task AS id FROM event WHERE seq > ?7 AND agent = ?5 AND kind = 'task.leased') AS o \
             CROSS JOIN task t ON t.id = o.id"
        }
        (Walk::All, Some(TaskStatus::Leased)) => "task t INDEXED BY task_held",
        (Walk::All, Some(TaskStatus::Queued)) => "task t INDEXED BY task_open",
        (Walk::All, Some(_)) if filter.task_type.is_none() => "task t INDEXED BY task_over",
        (Walk::All, _) if filter.task_type.is_some() => "task t INDEXED BY task_by_type",
        (Walk::All, _) => ALL,
    };
    let place = if matches!(walk, Walk::OfAgent) {
        "o.tenant = ?1 AND o.agent = ?5 AND o.task < ?2 AND t.tenant = ?1"
    } else if from == ALL {
        // The rows themselves stand in this order, whatever indexes there are.
        "+t.tenant = ?1 AND t.seq < ?2"
    } else {
        "t.tenant = ?1 AND t.seq < ?2"
    };
    let mut sql = format!(
        "SELECT t.rev, s.spec, t.state, t.seq FROM {from} CROSS JOIN task_spec s ON s.seq = t.seq WHERE {place}"
    );
    let is_open = match filter.status {
        Some(TaskStatus::Leased) => " AND t.holder IS NOT NULL",
        Some(TaskStatus::Queued) => " AND t.ended_at IS NULL",
        Some(_) => " AND t.ended_at IS NOT NULL",
        None => "",
    };
    sql.push_str(is_open);
    if filter.dead_letters {
        sql.push_str(" AND t.letter IS NOT NULL");
    }
    let filters = [
        (filter.status.is_some(), " AND t.status = ?4"),
        (filter.agent.is_some(), " AND t.last_agent = ?5"),
        (filter.task_type.is_some(), " AND t.task_type = ?6"),
    ];
    sql.extend(filters.into_iter().filter(|(is_given, _)| *is_given).map(|(_, condition)| condition));
    sql.push_str(if matches!(walk, Walk::OfAgent) { " ORDER BY o.task" } else { " ORDER BY t.seq" });
    sql.push_str(" DESC LIMIT ?3");
    sql
}

type Page = Vec<(Insertion, Stored<Task>)>;

pub(super) fn tasks(connection: &Connection, filter: &TaskFilter, now: Timestamp) -> Result<Page, Fault> {
    if filter.agent.is_none() || filter.dead_letters {
        return walk(connection, filter, Walk::All, 0, now);
    }
    // One transaction, so that no task is between the two.
    let moment = Moment::begin(connection)?;
    let indexed = indexed(connection)?;
    let mut tasks = walk(connection, filter, Walk::OfAgent, indexed, now)?;
    tasks.extend(walk(connection, filter, Walk::NewestOfAgent, indexed, now)?);
    drop(moment);
    tasks.sort_by_key(|(number, _)| Reverse(*number));
    // Leased to it before and again.
    tasks.dedup_by_key(|(number, _)| *number);
    tasks.truncate(filter.limit);
    Ok(tasks)
}

fn walk(connection: &Connection, filter: &TaskFilter, walk: Walk, indexed: i64, now: Timestamp) -> Result<Page, Fault> {
    let before = filter.before.map_or(i64::MAX, |before| number(before.0));
    let limit = rows_at_most(filter.limit);
    let status = filter.status.map(TaskStatus::as_str);
    let agent = filter.agent.as_ref().map(AgentId::as_str);
    let task_type = filter.task_type.as_ref().map(TaskType::as_str);
    let tenant: &TenantId = &filter.tenant;
    let all_params: [(usize, &dyn ToSql); 7] =
        [(1, tenant.as_bytes()), (2, &before), (3, &limit), (4, &status), (5, &agent), (6, &task_type), (7, &indexed)];
    let mut statement = connection.prepare_cached(&tasks_sql(filter, walk))?;
    let known = statement.parameter_count();
    for (index, value) in all_params {
        // A filter that is not given has no place in the query; the places behind it keep their numbers.
        if index <= known {
            statement.raw_bind_parameter(index, value)?;
        }
    }
    let mut rows = statement.raw_query();
    let mut tasks = Vec::new();
    while let Some(row) = rows.next()? {
        tasks.push((Insertion(count(row, 3)?), stored_task(row, 0, now)?));
    }
    Ok(tasks)
}

pub(super) fn leases(connection: &Connection, agent: &AgentId, now: Timestamp) -> Result<Vec<Stored<Task>>, Fault> {
    let mut tasks = all(connection, LEASES, [agent.as_str()], |row| stored_task(row, 0, now))?;
    tasks.sort_by_key(|task| task.record.newest_attempt().map(|attempt| attempt.started_at));
    Ok(tasks)
}

pub(super) fn leased(
    connection: &Connection,
    after: Option<TaskId>,
    limit: usize,
    now: Timestamp,
) -> Result<Vec<Stored<Task>>, Fault> {
    // No bytes at all sort before any id.
    let after = after.as_ref().map_or(&[][..], |id| id.as_bytes());
    all(connection, LEASED, params![after, rows_at_most(limit)], |row| stored_task(row, 0, now))
}

pub(super) fn due(
    connection: &Connection,
    until: Timestamp,
    limit: usize,
    now: Timestamp,
) -> Result<Vec<Stored<Task>>, Fault> {
    all(connection, DUE, params![until.as_micros(), rows_at_most(limit)], |row| stored_task(row, 0, now))
}

pub(super) fn agents(connection: &Connection, now: Timestamp) -> Result<Vec<(Stored<Agent>, Vitals)>, Fault> {
    let sql = "SELECT a.rev, a.record, v.vitals FROM agent a JOIN vitals v ON v.seq = a.seq ORDER BY a.seq";
    all(connection, sql, [], |row| agent(row, now))
}

pub(super) fn agents_of(
    connection: &Connection,
    ids: &[AgentId],
    now: Timestamp,
) -> Result<Vec<(Stored<Agent>, Vitals)>, Fault> {
    let sql = "SELECT a.rev, a.record, v.vitals FROM agent a JOIN vitals v ON v.seq = a.seq WHERE a.id = ?1";
    let mut agents = Vec::with_capacity(ids.len());
    for id in ids {
        agents.extend(one(connection, sql, [id.as_str()], |row| agent(row, now))?);
    }
    Ok(agents)
}

/// An agent from the columns `rev, record, vitals`.
fn agent(row: &Row<'_>, now: Timestamp) -> Result<(Stored<Agent>, Vitals), Fault> {
    let revision = Revision(count(row, 0)?);
    Ok((Stored { record: json(row, 1)?, revision, now }, json(row, 2)?))
}

pub(super) fn vitals_since(connection: &Connection, since: Timestamp) -> Result<Vec<(AgentId, Vitals)>, Fault> {
    let sql = "SELECT a.id, v.vitals FROM vitals v JOIN agent a ON a.seq = v.seq WHERE v.last_seen >= ?1";
    all(connection, sql, [since.as_micros()], |row| Ok((word(row, 0)?, json(row, 1)?)))
}

pub(super) fn idempotent(
    connection: &Connection,
    scope: &IdempotencyScope,
) -> Result<Option<IdempotencyKeyRow>, Fault> {
    let sql = "SELECT body_sha256, task, agent, created_at, tasks FROM idempotency \
         WHERE principal = ?1 AND route = ?2 AND key = ?3";
    one(connection, sql, params![scope.principal, scope.route, scope.key], |row| {
        let target = match (row.get::<_, Option<[u8; 16]>>(1)?, row.get_ref(4)? == ValueRef::Null) {
            (Some(task), _) => IdempotentTarget::Task(TaskId::from_bytes(task)),
            (None, false) => IdempotentTarget::Tasks(json(row, 4)?),
            (None, true) => IdempotentTarget::Agent(word(row, 2)?),
        };
        Ok((row.get(0)?, target, time(row, 3)?))
    })
    .map(|found| {
        found.map(|(body_sha256, target, created_at)| IdempotencyKeyRow {
            scope: scope.clone(),
            body_sha256,
            target,
            created_at,
        })
    })
}

pub(super) fn events(
    connection: &Connection,
    after: EventSeq,
    task: Option<TaskId>,
    limit: usize,
) -> Result<Vec<Event>, Fault> {
    let (after, limit) = (number(after.0), rows_at_most(limit));
    let Some(task) = task else { return all(connection, EVENTS, params![after, limit], event) };
    // One transaction, so that no event is between the two.
    let moment = Moment::begin(connection)?;
    let newest = after.max(indexed(connection)?);
    let mut events = all(connection, EVENTS_OF_TASK, params![after, limit, task.as_bytes()], event)?;
    let room = limit - events.len() as i64;
    events.extend(all(connection, NEWEST_OF_TASK, params![newest, room, task.as_bytes()], event)?);
    drop(moment);
    Ok(events)
}

pub(super) fn oldest_event(connection: &Connection) -> Result<Option<EventSeq>, Fault> {
    let oldest: Option<i64> = connection.prepare_cached(OLDEST_EVENT)?.query_row([], |row| row.get(0))?;
    Ok(oldest.map(|oldest| EventSeq(oldest.unsigned_abs())))
}

pub(super) fn head(connection: &Connection) -> Result<EventSeq, Fault> {
    let head: i64 = connection.prepare_cached(HEAD)?.query_row([], |row| row.get(0))?;
    Ok(EventSeq(head.unsigned_abs()))
}

pub(super) fn pulse(connection: &Connection) -> Result<Option<Timestamp>, Fault> {
    let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE key = 'pulse'")?;
    let micros: Option<i64> = statement.query_row([], |row| row.get(0)).optional()?;
    Ok(micros.map(Timestamp::from_micros))
}
