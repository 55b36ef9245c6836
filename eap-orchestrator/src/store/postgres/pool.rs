//! Ready tasks on their way to those who ask: read from the heads of the routes they may take from, in order.

use std::sync::Arc;

use eap_core::{Task, TaskState};
use sqlx::postgres::PgRow;

use super::database::Transaction;
use super::fault::Fault;
use super::holders::Place;
use super::values::{arguments, integer, is_null, json};
use crate::store::prepared::rows_at_most;

/// How many tasks are read at once, at most.
pub(super) const PAGE: usize = 128;

/// The ready tasks of some routes, as far as they were read.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) routes: Vec<i64>,
    /// Those that nobody took yet.
    pub(super) tasks: Vec<(Place, Task)>,
    last: Place,
    pub(super) is_at_end: bool,
    /// Another transaction has some in hand that stand among these.
    pub(super) is_shared: bool,
}

impl Pool {
    pub(super) fn new(routes: Vec<i64>) -> Self {
        let is_at_end = routes.is_empty();
        Self { routes, tasks: Vec::new(), last: (-1, -1), is_at_end, is_shared: false }
    }

    pub(super) fn get(&self, index: usize) -> Option<(Place, &Task)> {
        self.tasks.get(index).map(|(place, task)| (*place, task))
    }

    /// Whether all that stand before `place` were read.
    pub(super) fn reaches(&self, place: Place) -> bool {
        self.is_at_end || place <= self.last
    }

    /// Reads the next tasks, at most so many and about so many bytes but at least one, except for those of which this
    /// transaction knows better.
    pub(super) async fn read_on(
        &mut self,
        transaction: &mut Transaction<'_>,
        limit: usize,
        bytes: usize,
        is_known: impl Fn(i64) -> bool + Send,
    ) -> Result<(), Fault> {
        let (priority, seq) = self.last;
        let arguments = arguments![&self.routes, priority, seq, rows_at_most(limit), rows_at_most(bytes)];
        let rows = transaction.rows("SELECT * FROM eap.heads($1, $2, $3, $4, $5)", arguments).await?;
        self.take_in(&rows.iter().collect::<Vec<_>>(), 0, limit, is_known)
    }

    /// Takes in the next heads, of which so many were asked for: from rows of `heads` that begin at column `first`.
    pub(super) fn take_in(
        &mut self,
        rows: &[&PgRow],
        first: usize,
        limit: usize,
        is_known: impl Fn(i64) -> bool,
    ) -> Result<(), Fault> {
        let found = rows.first().map_or(Ok(0), |row| integer(row, first + 4))?;
        self.is_at_end = found < rows_at_most(limit) && found == rows_at_most(rows.len());
        for row in rows {
            let place = (integer(row, first)?, integer(row, first + 1)?);
            self.last = place;
            if is_known(place.1) {
                continue;
            }
            if is_null(row, first + 2)? {
                self.is_shared = true;
                continue;
            }
            let state: TaskState = json(row, first + 3)?;
            self.tasks.push((place, Task { spec: Arc::new(json(row, first + 2)?), state }));
        }
        Ok(())
    }
}
