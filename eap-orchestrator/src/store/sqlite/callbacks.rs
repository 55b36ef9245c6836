//! Callbacks that are due, in the order of time.

use eap_core::DueCallback;
use eap_types::{TaskId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::fault::Fault;
use super::ledger::Ledger;
use super::rows::{count, rows_at_most, time};
use crate::store::{CallbackWrite, Revision, Stored};

pub(super) const CALLBACKS: &str = "SELECT rev, task, receiver, ended_at, tries, due_at \
     FROM callback INDEXED BY callback_due WHERE (due_at, task) > (?1, ?2) ORDER BY due_at, task LIMIT ?3";

impl Ledger {
    pub(super) fn callback_revision(&self, task: TaskId) -> Result<Option<i64>, Fault> {
        let mut statement = self.connection.prepare_cached("SELECT rev FROM callback WHERE task = ?1")?;
        Ok(statement.query_row([task.as_bytes()], |row| row.get(0)).optional()?)
    }

    /// Writes callbacks that were checked.
    pub(super) fn write_callbacks(&self, writes: &[CallbackWrite]) -> Result<(), Fault> {
        for write in writes {
            match write {
                CallbackWrite::Insert(DueCallback { task, receiver, ended_at, tries, due_at }) => {
                    self.connection
                        .prepare_cached(
                            "INSERT INTO callback (task, rev, receiver, ended_at, tries, due_at) \
                             VALUES (?1, 1, ?2, ?3, ?4, ?5)",
                        )?
                        .execute(params![task.as_bytes(), receiver, ended_at.as_micros(), tries, due_at.as_micros()])?;
                }
                CallbackWrite::Update { callback: DueCallback { task, receiver, ended_at, tries, due_at }, .. } => {
                    self.connection
                        .prepare_cached(
                            "UPDATE callback SET rev = rev + 1, receiver = ?2, ended_at = ?3, tries = ?4, due_at = ?5 \
                             WHERE task = ?1",
                        )?
                        .execute(params![task.as_bytes(), receiver, ended_at.as_micros(), tries, due_at.as_micros()])?;
                }
                CallbackWrite::Remove { task, .. } => {
                    self.connection
                        .prepare_cached("DELETE FROM callback WHERE task = ?1")?
                        .execute([task.as_bytes()])?;
                }
            }
        }
        Ok(())
    }
}

pub(super) fn callbacks(
    connection: &Connection,
    after: Option<(Timestamp, TaskId)>,
    limit: usize,
    now: Timestamp,
) -> Result<Vec<Stored<DueCallback>>, Fault> {
    // No bytes at all sort before any id.
    let (due_at, task) = after.as_ref().map_or((i64::MIN, &[][..]), |(at, task)| (at.as_micros(), task.as_bytes()));
    let mut statement = connection.prepare_cached(CALLBACKS)?;
    let mut rows = statement.query(params![due_at, task, rows_at_most(limit)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let record = DueCallback {
            task: TaskId::from_bytes(row.get(1)?),
            receiver: row.get(2)?,
            ended_at: time(row, 3)?,
            tries: row.get(4)?,
            due_at: time(row, 5)?,
        };
        found.push(Stored { record, revision: Revision(count(row, 0)?), now });
    }
    Ok(found)
}
