//! The routing keys that ready tasks have: rows that all replicas share.

use std::collections::{BTreeSet, HashMap};

use eap_core::RoutingKey;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::database::Transaction;
use super::fault::Fault;
use super::values::{arguments, bytes, digest, integer, json};
use crate::store::Ask;
use crate::store::prepared::rows_at_most;
use crate::store::routing::RoutingKeys;

/// The numbers of routing keys, by their canonical text.
pub(super) type RouteIds = HashMap<String, i64>;

/// What stands for a routing key in the index of routes.
pub(super) fn digest_of(canonical: &str) -> [u8; 32] {
    digest([canonical.as_bytes()])
}

/// Finds the routes of tasks that become ready, and makes those that are missing.
///
/// A route that is found is locked against being forgotten until the commit, and none is made without the row that
/// counts them: so the numbers rise in the order of commits, and whoever knows all up to one misses none below it.
pub(super) async fn join<'a>(
    transaction: &mut Transaction<'_>,
    ready: impl Iterator<Item = (&'a str, &'a RoutingKey)>,
) -> Result<RouteIds, Fault> {
    let mut wanted = HashMap::new();
    for (canonical, key) in ready {
        wanted.entry(digest_of(canonical)).or_insert((canonical, key));
    }
    let mut found = RouteIds::new();
    if wanted.is_empty() {
        return Ok(found);
    }
    let digests: Vec<&[u8]> = wanted.keys().map(|digest| &digest[..]).collect();
    let sql = "SELECT digest, id FROM eap.route WHERE digest = ANY($1) ORDER BY id FOR KEY SHARE";
    for row in transaction.rows(sql, arguments![digests]).await? {
        if let Some((canonical, _)) = wanted.remove(&bytes(&row, 0)?) {
            found.insert(canonical.to_owned(), integer(&row, 1)?);
        }
    }
    if wanted.is_empty() {
        return Ok(found);
    }
    let sql = "UPDATE eap.meta SET value = value + $1 WHERE key = 'last_route' RETURNING value - $1";
    let last = transaction.row(sql, arguments![rows_at_most(wanted.len())]).await?;
    let last = integer(&last.ok_or_else(|| Fault::nonsense("the count of routes is gone"))?, 0)?;
    let (mut ids, mut digests, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    for (id, (digest, (canonical, key))) in (last + 1..).zip(&wanted) {
        found.insert((*canonical).to_owned(), id);
        ids.push(id);
        digests.push(&digest[..]);
        keys.push(serde_json::to_string(key)?);
    }
    let sql = "INSERT INTO eap.route (id, digest, key) SELECT * FROM unnest($1::int8[], $2::bytea[], $3::text[])";
    transaction.execute(sql, arguments![ids, digests, keys]).await?;
    Ok(found)
}

/// What one who claims knows of the routes, as far as they were committed: it looks before it writes.
#[derive(Debug, Default)]
pub(super) struct KnownRoutes {
    keys: RoutingKeys,
    /// How often routes had been forgotten when these were read.
    forgotten: i64,
}

impl KnownRoutes {
    /// The routes that one who asks may take from, of the types that it names.
    pub(super) fn open_to(&mut self, ask: &Ask) -> Vec<i64> {
        let matching = self.keys.admitting(&ask.agent).to_vec();
        matching.into_iter().filter(|route| self.keys.is_of(*route, ask.task_types.as_ref())).collect()
    }

    /// The newest route that is known.
    pub(super) fn newest(&self) -> i64 {
        self.keys.newest()
    }

    /// Takes up the routes that were made since, and drops those that were forgotten: from rows of `forgotten, id, key` that
    /// begin at column `first`, the count of forgotten ones in each of them.
    pub(super) async fn catch_up(
        &mut self,
        transaction: &mut Transaction<'_>,
        rows: &[&PgRow],
        first: usize,
    ) -> Result<(), Fault> {
        let counted = rows.first().ok_or_else(|| Fault::nonsense("the count of forgotten routes is gone"))?;
        let forgotten = integer(counted, first)?;
        for row in rows {
            if let Some(id) = row.try_get(first + 1)? {
                self.keys.add(id, json(row, first + 2)?);
            }
        }
        if forgotten != self.forgotten {
            let rows = transaction.rows("SELECT id FROM eap.route", arguments![]).await?;
            let there: BTreeSet<i64> = rows.iter().map(|row| integer(row, 0)).collect::<Result<_, _>>()?;
            let gone = self.keys.from(0).filter(|id| !there.contains(id)).collect();
            self.keys.remove(&gone);
            self.forgotten = forgotten;
        }
        Ok(())
    }
}

/// Forgets routes without ready tasks, at most `limit`, and says how many: a task that becomes ready joins anew.
pub(super) async fn forget_empty(transaction: &mut Transaction<'_>, limit: usize) -> Result<u64, Fault> {
    let sql = "SELECT r.id FROM eap.route r WHERE NOT EXISTS (SELECT 1 FROM eap.task t WHERE t.route = r.id) \
         ORDER BY r.id LIMIT $1 FOR UPDATE SKIP LOCKED";
    let rows = transaction.rows(sql, arguments![rows_at_most(limit)]).await?;
    let empty: Vec<i64> = rows.iter().map(|row| integer(row, 0)).collect::<Result<_, _>>()?;
    if empty.is_empty() {
        return Ok(0);
    }
    // Once they are locked: until then, a task may have joined.
    let sql = "DELETE FROM eap.route r WHERE r.id = ANY($1) \
         AND NOT EXISTS (SELECT 1 FROM eap.task t WHERE t.route = r.id)";
    let gone = transaction.execute(sql, arguments![empty]).await?;
    if gone > 0 {
        let sql = "UPDATE eap.meta SET value = value + 1 WHERE key = 'forgotten_routes'";
        transaction.execute(sql, arguments![]).await?;
    }
    Ok(gone)
}
