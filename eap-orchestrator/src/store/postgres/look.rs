//! What claims look at before they decide, in one call: `eap.look` of the fifth migration, which locks.

use std::collections::HashMap;

use eap_types::{AgentId, Timestamp};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::database::{Time, Transaction};
use super::fault::Fault;
use super::holders::{self, Holder};
use super::incoming::Incoming;
use super::pool::Pool;
use super::routes::KnownRoutes;
use super::values::{arguments, integer, is_null, word};
use crate::store::MAX_CLAIM_BYTES;
use crate::store::prepared::rows_at_most;

/// Where the columns of each kind of row begin: of agents, of the time with the routes, of holders, of heads.
const AGENT: usize = 0;
const NOW: usize = 3;
const HOLDER: usize = 7;
const HEAD: usize = 9;
/// The last of a head's, which no other row has.
const FOUND: usize = 13;

/// Of an agent that asks, what decides on whether it gets anything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    pub(super) epoch: i64,
    pub(super) is_active: bool,
}

/// What was found, with the rows of the agents who asked locked.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) askers: HashMap<AgentId, Asker>,
    pub(super) holders: HashMap<AgentId, Holder>,
    pub(super) now: Timestamp,
    /// The heads of the routes that were wanted, if any were.
    pub(super) pool: Option<Pool>,
}

/// Looks around, and takes up the routes that were made since; gives at most so many heads of the routes that are `open` as
/// far as they are known. What is stored of tasks that the batch writes is left out.
pub(super) async fn look(
    transaction: &mut Transaction<'_>,
    asking: &[&str],
    (open, most): (Vec<i64>, usize),
    incoming: &Incoming<'_>,
    routes: &mut KnownRoutes,
    clock: &Time,
) -> Result<Looked, Fault> {
    let arguments = arguments![asking, routes.newest(), &open, rows_at_most(most), rows_at_most(MAX_CLAIM_BYTES)];
    let rows = transaction.rows("SELECT * FROM eap.look($1, $2, $3, $4, $5)", arguments).await?;
    let has = |row: &PgRow, column| is_null(row, column).is_ok_and(|is| !is);
    let of = |column| rows.iter().filter(move |row| has(row, column)).collect::<Vec<&PgRow>>();
    let known = of(NOW);
    let now = clock.at(known.first().ok_or_else(|| Fault::nonsense("there is no time"))?, NOW)?;
    routes.catch_up(transaction, &known, NOW + 1).await?;
    let mut askers = HashMap::new();
    for row in of(AGENT) {
        let asker = Asker { epoch: integer(row, AGENT + 1)?, is_active: row.try_get(AGENT + 2)? };
        askers.insert(word(row, AGENT)?, asker);
    }
    let holders = holders::of_rows(&of(HOLDER), HOLDER, |number| !incoming.has(number))?;
    let mut pool = (most > 0).then(|| Pool::new(open));
    if let Some(pool) = &mut pool {
        pool.take_in(&of(FOUND), HEAD, most, |number| incoming.has(number))?;
    }
    Ok(Looked { askers, holders, now, pool })
}
