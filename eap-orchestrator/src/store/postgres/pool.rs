//! Ready tasks on their way to those who ask: read from the heads of the routes they may take from, in order.

use std::sync::Arc;

use eap_core::{Task, TaskState};

use super::database::Transaction;
use super::fault::Fault;
use super::holders::Place;
use super::values::{arguments, integer, is_null, json};
use crate::store::prepared::rows_at_most;

/// How many tasks are read at once, at most.
pub(super) const PAGE: usize = 128;

/// The heads of all routes merged in their common order, until their specs have so many bytes together; and of those the
/// tasks that no other transaction has in hand, now locked, for what is locked here others pass over. A step of the index
/// for each route and each task; what waits behind them costs nothing, nor do the bytes of what has no room. `LATERAL`: joined
/// otherwise, specs would be walked from the first one on where the plan is to do for any limit.
const HEADS: &str = "WITH heads AS MATERIALIZED ( \
         SELECT h.priority, h.seq FROM unnest($1::int8[]) AS r (route) CROSS JOIN LATERAL ( \
             SELECT t.priority, t.seq FROM eap.task t \
             WHERE t.route = r.route AND (t.priority, t.seq) > ($2, $3) ORDER BY t.priority, t.seq LIMIT $4) AS h \
         ORDER BY h.priority, h.seq LIMIT $4), \
     sized AS MATERIALIZED ( \
         SELECT h.priority, h.seq, octet_length(s.spec) AS bytes, \
             sum(octet_length(s.spec)) OVER (ORDER BY h.priority, h.seq) AS up_to, count(*) OVER () AS found \
         FROM heads h CROSS JOIN LATERAL (SELECT s.spec FROM eap.task_spec s WHERE s.seq = h.seq LIMIT 1) AS s), \
     fitting AS MATERIALIZED (SELECT * FROM sized WHERE up_to - bytes < $5), \
     free AS MATERIALIZED ( \
         SELECT t.seq, t.state FROM eap.task t \
         WHERE t.seq = ANY(ARRAY(SELECT seq FROM fitting)) AND t.route IS NOT NULL FOR UPDATE OF t SKIP LOCKED) \
     SELECT h.priority, h.seq, s.spec, f.state, h.found FROM fitting h \
     LEFT JOIN free f ON f.seq = h.seq LEFT JOIN eap.task_spec s ON s.seq = f.seq ORDER BY h.priority, h.seq";

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
        let rows = transaction.rows(HEADS, arguments).await?;
        let found = rows.first().map_or(Ok(0), |row| integer(row, 4))?;
        self.is_at_end = found < rows_at_most(limit) && found == rows_at_most(rows.len());
        for row in &rows {
            let place = (integer(row, 0)?, integer(row, 1)?);
            self.last = place;
            if is_known(place.1) {
                continue;
            }
            if is_null(row, 2)? {
                self.is_shared = true;
                continue;
            }
            let state: TaskState = json(row, 3)?;
            self.tasks.push((place, Task { spec: Arc::new(json(row, 2)?), state }));
        }
        Ok(())
    }
}
