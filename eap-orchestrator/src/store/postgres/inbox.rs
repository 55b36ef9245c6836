//! Tasks that hosts take in within transactions of their own, until they are moved among the others.

use std::fmt;

use eap_core::{Task, TaskSpec};
use eap_types::{TaskId, TaskStatus};
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use tracing::debug;

use super::database::Database;
use super::fault::Fault;
use super::mover;
use super::values::{arguments, integer, json};
use crate::store::{Insertion, Revision, Stored, TaskFilter};

/// What those who listen are told of new rows.
pub(super) const HAS_NEW: &str = "inbox";

/// A task that was checked and has its id, and is kept nowhere yet: from
/// [`Orchestrator::prepare`](crate::Orchestrator::prepare), for [`PostgresStore::enqueue`](super::PostgresStore::enqueue).
#[derive(Clone)]
pub struct NewTask {
    task: Task,
}

impl fmt::Debug for NewTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewTask").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl NewTask {
    pub(crate) fn of(task: Task) -> Self {
        Self { task }
    }

    /// The id that the task has from now on.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.task.id()
    }
}

impl Database {
    /// Writes tasks in the transaction of a host: one statement, which waits for nobody and holds up nobody.
    ///
    /// One that waits already is left as it is, so that a host may repeat a transaction whose end it does not know; one that
    /// could not be moved waits anew.
    pub(super) async fn enqueue(&self, transaction: &mut PgConnection, tasks: &[NewTask]) -> Result<(), Fault> {
        if tasks.is_empty() {
            return Ok(());
        }
        let (mut ids, mut specs): (Vec<&[u8]>, Vec<String>) = (Vec::new(), Vec::new());
        for NewTask { task } in tasks {
            ids.push(task.spec.id.as_bytes());
            specs.push(serde_json::to_string(&*task.spec)?);
        }
        let sql = self.schema.sql(
            "WITH kept AS ( \
                 INSERT INTO eap.inbox AS inbox (id, spec) \
                 SELECT id, spec FROM unnest($1::bytea[], $2::text[]) WITH ORDINALITY AS w (id, spec, place) \
                 ORDER BY place ON CONFLICT (id) DO UPDATE SET spec = excluded.spec, problem = NULL \
                     WHERE inbox.problem IS NOT NULL) \
             SELECT pg_notify($3, $4)",
        );
        let query = sqlx::query_with(&sql, arguments![ids, specs, self.schema.channel(), HAS_NEW]);
        query.persistent(self.is_prepared).execute(transaction).await?;
        Ok(())
    }

    /// Reads a task wherever it is. One that waits is moved first; if that cannot be, it is shown as it will be then.
    pub(super) async fn task_anywhere(&self, id: TaskId) -> Result<Option<Stored<Task>>, Fault> {
        if let Some(stored) = self.task(id).await? {
            return Ok(Some(stored));
        }
        let waiting = self.waiting(id).await?;
        if let Some((seq, _)) = &waiting
            && let Err(fault) = Box::pin(mover::bring(self, *seq)).await
        {
            debug!(?fault, task.id = %id, "a task that is read could not be moved first");
        }
        // Moved by now, or between the two looks.
        Ok(self.task(id).await?.or(waiting.map(|(_, stored)| stored)))
    }

    /// Reads tasks, after those that wait were moved, as many as are moved at once.
    pub(super) async fn tasks_with_new(&self, filter: &TaskFilter) -> Result<Vec<(Insertion, Stored<Task>)>, Fault> {
        let shows_new = matches!(filter.status, None | Some(TaskStatus::Queued))
            && filter.agent.is_none()
            && !filter.dead_letters
            && filter.before.is_none();
        if shows_new
            && self.is_any_waiting().await?
            && let Err(fault) = Box::pin(mover::page(self)).await
        {
            debug!(?fault, "tasks could not be moved before a list of them was read");
        }
        self.tasks(filter).await
    }

    pub(super) async fn is_any_waiting(&self) -> Result<bool, Fault> {
        let sql = "SELECT 1 FROM eap.inbox WHERE problem IS NULL ORDER BY seq LIMIT 1";
        Ok(self.row(sql, arguments![]).await?.is_some())
    }

    pub(super) async fn is_waiting(&self, seq: i64) -> Result<bool, Fault> {
        let sql = "SELECT 1 FROM eap.inbox WHERE seq = $1 AND problem IS NULL";
        Ok(self.row(sql, arguments![seq]).await?.is_some())
    }

    /// A task that waits, and where in the line.
    async fn waiting(&self, id: TaskId) -> Result<Option<(i64, Stored<Task>)>, Fault> {
        let sql = "SELECT eap.clock(), seq, spec FROM eap.inbox WHERE id = $1 AND problem IS NULL";
        let Some(row) = self.row(sql, arguments![&id.as_bytes()[..]]).await? else { return Ok(None) };
        // Whoever moves it says what is wrong with it.
        let Some(task) = task_in(&row, 2, id) else { return Ok(None) };
        let stored = Stored { record: task, revision: Revision(1), now: self.time.at(&row, 0)? };
        Ok(Some((integer(&row, 1)?, stored)))
    }
}

/// The task of a row, unless its record is none of this task.
pub(super) fn task_in(row: &PgRow, column: usize, id: TaskId) -> Option<Task> {
    let spec: TaskSpec = json(row, column).ok()?;
    (spec.id == id).then(|| Task::submitted(spec))
}
