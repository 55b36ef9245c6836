//! Sessions in their tables, and the tasks that are their steps.

use std::collections::HashSet;
use std::sync::Arc;

use eap_core::{Session, StepRun};
use eap_types::{AgentId, SessionId, SessionState, SessionView, TaskId, Timestamp, WorkflowId};
use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, params};

use super::batch::{conflict, duplicate};
use super::fault::{Fault, Setback};
use super::ledger::Ledger;
use super::read::{all, one};
use super::rows::{Prepared, PreparedSessionWrite, count, json, number, rows_at_most, time, word};
use crate::store::{Insertion, RecordRef, Revision, SessionFilter, Stored};

const SESSION: &str = "SELECT s.rev, p.spec, s.run FROM session s JOIN session_spec p ON p.seq = s.seq WHERE s.id = ?1";

pub(super) const OPEN: &str = "SELECT id, status FROM session INDEXED BY session_open \
     WHERE ended_at IS NULL AND id > ?1 ORDER BY id LIMIT ?2";

pub(super) const OF_STEP: &str = "SELECT s.rev, p.spec, s.run FROM session_step t \
     CROSS JOIN session s ON s.seq = t.session CROSS JOIN session_spec p ON p.seq = t.session WHERE t.task = ?1";

pub(super) const ENDED: &str =
    "SELECT seq FROM session INDEXED BY session_ended WHERE ended_at < ?1 ORDER BY ended_at LIMIT ?2";

pub(super) const FORGET_STEPS: &str = "DELETE FROM session_step WHERE session = ?1";

// An index is visited by statements that set one of its columns; a session that stands where it stood sets none.
/// A step ended, another began.
pub(super) const STEP_ON: &str = "UPDATE session SET rev = rev + 1, steps = ?2, run = ?3 WHERE seq = ?1";
/// It also stands elsewhere now.
pub(super) const MOVE_ON: &str =
    "UPDATE session SET rev = rev + 1, steps = ?2, run = ?3, status = ?4, ended_at = ?5, reason = ?6 WHERE seq = ?1";

/// What the check of a session found out for the write.
pub(super) enum SessionTarget {
    New,
    Stored { seq: i64, steps: usize, status: String },
}

impl SessionTarget {
    /// The steps that were begun since it was stored.
    fn steps_since<'a>(&self, session: &'a Session) -> &'a [StepRun] {
        let known = match self {
            Self::New => 0,
            Self::Stored { steps, .. } => *steps,
        };
        session.run.steps.get(known..).unwrap_or_default()
    }
}

pub(super) fn session(
    connection: &Connection,
    id: SessionId,
    now: Timestamp,
) -> Result<Option<Stored<Session>>, Fault> {
    one(connection, SESSION, [id.as_bytes()], |row| read(row, now))
}

pub(super) fn of_step(connection: &Connection, task: TaskId, now: Timestamp) -> Result<Option<Stored<Session>>, Fault> {
    one(connection, OF_STEP, [task.as_bytes()], |row| read(row, now))
}

pub(super) fn open(
    connection: &Connection,
    after: Option<SessionId>,
    limit: usize,
) -> Result<Vec<(SessionId, SessionState)>, Fault> {
    // No bytes at all sort before any id.
    let after = after.as_ref().map_or(&[][..], |id| id.as_bytes());
    all(connection, OPEN, params![after, rows_at_most(limit)], |row| {
        Ok((SessionId::from_bytes(row.get(0)?), state(row, 1)?))
    })
}

/// The query for the filters that are given: it walks the index of one of them from its newest end.
pub(super) fn sessions_sql(filter: &SessionFilter) -> String {
    let index = match filter {
        SessionFilter { agent_id: Some(_), .. } => "session_by_agent",
        SessionFilter { workflow_id: Some(_), .. } => "session_by_workflow",
        SessionFilter { status: Some(_), .. } => "session_by_status",
        _ => "session_of_tenant",
    };
    let mut sql = format!(
        "SELECT s.seq, s.id, s.workflow, s.started_at, s.status, s.agent, s.ended_at, s.reason \
         FROM session s INDEXED BY {index} WHERE s.tenant = ?1 AND s.seq < ?2"
    );
    let filters = [
        (filter.status.is_some(), " AND s.status = ?4"),
        (filter.workflow_id.is_some(), " AND s.workflow = ?5"),
        (filter.agent_id.is_some(), " AND s.agent = ?6"),
    ];
    sql.extend(filters.into_iter().filter(|(is_given, _)| *is_given).map(|(_, condition)| condition));
    sql.push_str(" ORDER BY s.seq DESC LIMIT ?3");
    sql
}

pub(super) fn sessions(
    connection: &Connection,
    filter: &SessionFilter,
) -> Result<Vec<(Insertion, SessionView)>, Fault> {
    let before = filter.before.map_or(i64::MAX, |before| number(before.0));
    let limit = rows_at_most(filter.limit);
    let status = filter.status.map(SessionState::as_str);
    let workflow = filter.workflow_id.as_ref().map(WorkflowId::as_str);
    let agent = filter.agent_id.as_ref().map(AgentId::as_str);
    let all_params: [&dyn ToSql; 6] = [filter.tenant.as_bytes(), &before, &limit, &status, &workflow, &agent];
    let mut statement = connection.prepare_cached(&sessions_sql(filter))?;
    let known = statement.parameter_count();
    for (index, value) in (1..=known).zip(all_params) {
        statement.raw_bind_parameter(index, value)?;
    }
    let mut rows = statement.raw_query();
    let mut sessions = Vec::new();
    while let Some(row) = rows.next()? {
        sessions.push((Insertion(count(row, 0)?), in_list(row)?));
    }
    Ok(sessions)
}

fn state(row: &Row<'_>, column: usize) -> Result<SessionState, Fault> {
    row.get::<_, String>(column)?.parse().map_err(Fault::nonsense)
}

/// A session from the columns behind `seq` that lists show.
fn in_list(row: &Row<'_>) -> Result<SessionView, Fault> {
    let mut view = SessionView::new(SessionId::from_bytes(row.get(1)?), word(row, 2)?, time(row, 3)?);
    view.status = state(row, 4)?;
    view.agent_id = row.get::<_, Option<String>>(5)?.map(|_| word(row, 5)).transpose()?;
    view.end_time = row.get::<_, Option<i64>>(6)?.map(Timestamp::from_micros);
    view.error = row.get(7)?;
    Ok(view)
}

/// A session from the columns `rev, spec, run`.
fn read(row: &Row<'_>, now: Timestamp) -> Result<Stored<Session>, Fault> {
    let record = Session { spec: Arc::new(json(row, 1)?), run: json(row, 2)? };
    Ok(Stored { record, revision: Revision(count(row, 0)?), now })
}

impl Ledger {
    /// Refuses a change whose sessions are not what it was decided on, or begin a step with another's task.
    pub(super) fn check_sessions(&self, change: &Prepared) -> Result<Vec<SessionTarget>, Setback> {
        let (mut seen, mut begun) = (HashSet::new(), HashSet::new());
        let mut targets = Vec::with_capacity(change.sessions.len());
        for write in &change.sessions {
            let id = write.session.id();
            let stored: Option<(i64, i64, i64, String)> = self
                .connection
                .prepare_cached("SELECT rev, seq, steps, status FROM session WHERE id = ?1")?
                .query_row([id.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
                .optional()?;
            let is_first = seen.insert(id);
            let target = match (&write.write, stored) {
                (PreparedSessionWrite::Insert { .. }, None) if is_first => SessionTarget::New,
                (PreparedSessionWrite::Insert { .. }, _) => return Err(duplicate(RecordRef::Session(id))),
                (PreparedSessionWrite::Update { revision }, Some((rev, seq, steps, status)))
                    if is_first && rev == number(revision.0) =>
                {
                    SessionTarget::Stored { seq, steps: usize::try_from(steps).map_err(Fault::nonsense)?, status }
                }
                (PreparedSessionWrite::Update { .. }, _) => return Err(conflict(RecordRef::Session(id))),
            };
            for step in target.steps_since(&write.session) {
                let mut statement = self.connection.prepare_cached("SELECT 1 FROM session_step WHERE task = ?1")?;
                if !begun.insert(step.task) || statement.exists([step.task.as_bytes()])? {
                    return Err(duplicate(RecordRef::Step(step.task)));
                }
            }
            targets.push(target);
        }
        Ok(targets)
    }

    /// Writes sessions that were checked.
    pub(super) fn write_sessions(&self, change: &Prepared, targets: &[SessionTarget]) -> Result<(), Fault> {
        for (write, target) in change.sessions.iter().zip(targets) {
            let (Session { spec, run }, text) = (&write.session, &write.run);
            let status = write.session.status().as_str();
            let ended_at = run.phase.ended_at().map(Timestamp::as_micros);
            let reason = run.phase.reason();
            let steps = rows_at_most(run.steps.len());
            let seq = match (target, &write.write) {
                (SessionTarget::Stored { seq, status: before, .. }, _) if before == status => {
                    self.connection.prepare_cached(STEP_ON)?.execute(params![seq, steps, text])?;
                    *seq
                }
                (SessionTarget::Stored { seq, .. }, _) => {
                    self.connection
                        .prepare_cached(MOVE_ON)?
                        .execute(params![seq, steps, text, status, ended_at, reason])?;
                    *seq
                }
                (SessionTarget::New, PreparedSessionWrite::Insert { spec: spec_text }) => {
                    let agent = spec.agent_id.as_ref().map(AgentId::as_str);
                    self.connection
                        .prepare_cached(
                            "INSERT INTO session (rev, id, tenant, workflow, agent, status, ended_at, steps, run, \
                             started_at, reason) VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                        )?
                        .execute(params![
                            spec.id.as_bytes(),
                            spec.tenant.as_bytes(),
                            spec.workflow.id.as_str(),
                            agent,
                            status,
                            ended_at,
                            steps,
                            text,
                            spec.created_at.as_micros(),
                            reason,
                        ])?;
                    let seq = self.connection.last_insert_rowid();
                    self.connection
                        .prepare_cached("INSERT INTO session_spec (seq, spec) VALUES (?1, ?2)")?
                        .execute(params![seq, spec_text])?;
                    seq
                }
                (SessionTarget::New, PreparedSessionWrite::Update { .. }) => continue,
            };
            for step in target.steps_since(&write.session) {
                self.connection
                    .prepare_cached("INSERT INTO session_step (task, session) VALUES (?1, ?2)")?
                    .execute(params![step.task.as_bytes(), seq])?;
            }
        }
        Ok(())
    }

    /// Deletes at most `limit` that ended before the cut-off; says how many went.
    pub(super) fn purge_sessions(&self, cutoff: Timestamp, limit: usize) -> Result<u64, Fault> {
        let old: Vec<i64> =
            all(&self.connection, ENDED, params![cutoff.as_micros(), rows_at_most(limit)], |row| Ok(row.get(0)?))?;
        for seq in &old {
            for sql in [FORGET_STEPS, "DELETE FROM session_spec WHERE seq = ?1", "DELETE FROM session WHERE seq = ?1"] {
                self.connection.prepare_cached(sql)?.execute([seq])?;
            }
        }
        Ok(old.len() as u64)
    }
}
