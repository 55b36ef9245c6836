//! Sessions, as they are read.

use std::sync::Arc;

use eap_core::Session;
use eap_types::{AgentId, SessionId, SessionState, SessionView, TaskId, Timestamp, WorkflowId};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::database::{Database, Time};
use super::fault::Fault;
use super::read::tenant;
use super::values::{arguments, bytes, count, json, maybe_json, maybe_word, text, time, word};
use crate::store::prepared::{number, rows_at_most};
use crate::store::{Insertion, Revision, SessionFilter, Stored};

impl Database {
    pub(super) async fn session(&self, id: SessionId) -> Result<Option<Stored<Session>>, Fault> {
        let sql = "SELECT eap.clock(), s.rev, p.spec, s.run \
             FROM eap.session s JOIN eap.session_spec p ON p.seq = s.seq WHERE s.id = $1";
        let row = self.row(sql, arguments![&id.as_bytes()[..]]).await?;
        row.map(|row| stored(&row, &self.time)).transpose()
    }

    pub(super) async fn session_of(&self, task: TaskId) -> Result<Option<Stored<Session>>, Fault> {
        let sql = "SELECT eap.clock(), s.rev, p.spec, s.run FROM eap.session_step t \
             JOIN eap.session s ON s.seq = t.session JOIN eap.session_spec p ON p.seq = t.session WHERE t.task = $1";
        let row = self.row(sql, arguments![&task.as_bytes()[..]]).await?;
        row.map(|row| stored(&row, &self.time)).transpose()
    }

    pub(super) async fn open_sessions(
        &self,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<(SessionId, SessionState)>, Fault> {
        let sql = "SELECT id, status FROM eap.session WHERE ended_at IS NULL AND id > $1 ORDER BY id LIMIT $2";
        // No bytes at all sort before any id.
        let after = after.as_ref().map_or(&[][..], |id| id.as_bytes());
        let rows = self.rows(sql, arguments![after, rows_at_most(limit)]).await?;
        rows.iter().map(|row| Ok((SessionId::from_bytes(bytes(row, 0)?), state(row, 1)?))).collect()
    }

    pub(super) async fn sessions(&self, filter: &SessionFilter) -> Result<Vec<(Insertion, SessionView)>, Fault> {
        let mut sql = "SELECT seq, id, workflow, started_at, status, agent, ended_at, reason FROM eap.session \
             WHERE tenant = $1 AND seq < $2"
            .to_owned();
        let filters = [
            (filter.status.is_some(), " AND status = $4"),
            (filter.workflow_id.is_some(), " AND workflow = $5"),
            (filter.agent_id.is_some(), " AND agent = $6"),
        ];
        sql.extend(filters.into_iter().filter(|(is_given, _)| *is_given).map(|(_, condition)| condition));
        sql.push_str(" ORDER BY seq DESC LIMIT $3");
        let rows = self
            .rows_in_time(
                &sql,
                arguments![
                    tenant(&filter.tenant),
                    filter.before.map_or(i64::MAX, |before| number(before.0)),
                    rows_at_most(filter.limit),
                    filter.status.map(SessionState::as_str),
                    filter.workflow_id.as_ref().map(WorkflowId::as_str),
                    filter.agent_id.as_ref().map(AgentId::as_str),
                ],
            )
            .await?;
        rows.iter().map(|row| Ok((Insertion(count(row, 0)?), in_list(row)?))).collect()
    }
}

fn state(row: &PgRow, column: usize) -> Result<SessionState, Fault> {
    text(row, column)?.parse().map_err(Fault::nonsense)
}

/// A session from the columns behind `seq` that lists show.
fn in_list(row: &PgRow) -> Result<SessionView, Fault> {
    let mut view = SessionView::new(SessionId::from_bytes(bytes(row, 1)?), word(row, 2)?, time(row, 3)?);
    view.status = state(row, 4)?;
    view.agent_id = maybe_word(row, 5)?;
    view.end_time = row.try_get::<Option<i64>, _>(6)?.map(Timestamp::from_micros);
    view.error = maybe_json(row, 7)?;
    Ok(view)
}

/// A session from the columns `clock, rev, spec, run`.
fn stored(row: &PgRow, clock: &Time) -> Result<Stored<Session>, Fault> {
    let record = Session { spec: Arc::new(json(row, 2)?), run: json(row, 3)? };
    Ok(Stored { record, revision: Revision(count(row, 1)?), now: clock.at(row, 0)? })
}
