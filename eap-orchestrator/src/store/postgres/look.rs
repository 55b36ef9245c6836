//! What claims look at before they decide, in one call: `eap.look` of the fifth migration.

use std::collections::HashMap;

use eap_types::{AgentId, Timestamp};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::database::{Time, Transaction};
use super::fault::Fault;
use super::ground::{Known, KnownAgent};
use super::holders::{self, Holder};
use super::routes::KnownRoutes;
use super::values::{arguments, integer, is_null, word};
use crate::store::MAX_CLAIM_BYTES;
use crate::store::prepared::rows_at_most;

/// Where the columns of each kind of row begin: of agents, of the time with the routes, of holders.
const AGENT: usize = 0;
const NOW: usize = 4;
const HOLDER: usize = 8;
/// Where those of heads do.
pub(super) const HEAD: usize = 10;
/// The last of them, which no other row has.
const FOUND: usize = 14;

/// What was found, with the rows of the agents who asked locked.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) agents: HashMap<AgentId, Known<KnownAgent>>,
    pub(super) holders: HashMap<AgentId, Holder>,
    pub(super) now: Timestamp,
    /// Rows of `heads`, from column [`HEAD`] on.
    pub(super) heads: Vec<PgRow>,
}

/// Looks around, and takes up the routes that were made since; gives at most so many heads of the `open` ones. What is stored
/// of tasks whose numbers do not count is left out of what is held.
pub(super) async fn look(
    transaction: &mut Transaction<'_>,
    asking: &[&str],
    (routes, open, most): (&mut KnownRoutes, &[i64], usize),
    clock: &Time,
    counts: impl Fn(i64) -> bool,
) -> Result<Looked, Fault> {
    let arguments = arguments![asking, routes.newest(), open, rows_at_most(most), rows_at_most(MAX_CLAIM_BYTES)];
    let rows = transaction.rows("SELECT * FROM eap.look($1, $2, $3, $4, $5)", arguments).await?;
    let has = |row: &PgRow, column| is_null(row, column).is_ok_and(|is| !is);
    let (heads, rows): (Vec<PgRow>, Vec<PgRow>) = rows.into_iter().partition(|row| has(row, FOUND));
    let of = |column| rows.iter().filter(|row| has(row, column)).collect::<Vec<&PgRow>>();
    let (known, held) = (of(NOW), of(HOLDER));
    let now = clock.at(known.first().ok_or_else(|| Fault::nonsense("there is no time"))?, NOW)?;
    routes.catch_up(transaction, &known, NOW + 1).await?;
    let mut agents = HashMap::new();
    for row in of(AGENT) {
        let more = KnownAgent { epoch: integer(row, AGENT + 2)?, is_active: row.try_get(AGENT + 3)?, identity: None };
        agents.insert(word(row, AGENT)?, Known::at(integer(row, AGENT + 1)?, more));
    }
    Ok(Looked { agents, holders: holders::of_rows(&held, HOLDER, counts)?, now, heads })
}
