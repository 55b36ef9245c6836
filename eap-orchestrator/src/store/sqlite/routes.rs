//! Which routing keys there are, which may have ready tasks, and which an agent may take from.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use eap_core::{Agent, RoutingKey};
use eap_types::TaskType;
use rusqlite::{Connection, params};

use super::fault::Fault;
use super::rows::json;
use crate::store::routing::RoutingKeys;

/// How many routes a step of forgetting looks at for each one that it may forget.
const LOOKS: usize = 8;

pub(super) const IS_READY: &str = "SELECT 1 FROM task INDEXED BY task_ready WHERE route = ?1 LIMIT 1";

/// The routing keys in memory. What it knows is that of the current transaction: after a rollback it
/// is loaded anew.
#[derive(Debug, Default)]
pub(super) struct Routes {
    keys: RoutingKeys,
    ids: HashMap<String, i64>,
    /// Routes that may have ready tasks. One that was found empty is left out until a task joins it,
    /// so that a claim does not pay for the routes that were ever used.
    hot: BTreeSet<i64>,
    /// Where [`forget_empty`](Self::forget_empty) goes on.
    next_look: i64,
}

impl Routes {
    pub(super) fn load(connection: &Connection) -> Result<Self, Fault> {
        let mut routes = Self::default();
        let mut statement = connection.prepare_cached("SELECT id, canonical, key FROM route")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id = row.get(0)?;
            routes.add(id, row.get(1)?, json(row, 2)?);
        }
        Ok(routes)
    }

    fn add(&mut self, id: i64, canonical: String, key: RoutingKey) {
        self.ids.insert(canonical, id);
        self.keys.add(id, key);
        self.hot.insert(id);
    }

    /// The route of a task that becomes ready.
    pub(super) fn join(&mut self, connection: &Connection, canonical: &str, key: &RoutingKey) -> Result<i64, Fault> {
        if let Some(id) = self.ids.get(canonical) {
            self.hot.insert(*id);
            return Ok(*id);
        }
        let id = self.keys.newest() + 1;
        let text = serde_json::to_string(key)?;
        connection
            .prepare_cached("INSERT INTO route (id, tenant, canonical, key) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![id, key.tenant.as_bytes(), canonical, text])?;
        self.add(id, canonical.to_owned(), key.clone());
        Ok(id)
    }

    /// Nothing on this route is ready.
    pub(super) fn cool(&mut self, id: i64) {
        self.hot.remove(&id);
    }

    /// The routes that may have ready tasks of these types for `agent`.
    pub(super) fn open_to(&mut self, agent: &Arc<Agent>, types: Option<&BTreeSet<TaskType>>) -> Vec<i64> {
        let matching = self.keys.admitting(agent);
        let hot: Vec<i64> = if matching.len() < self.hot.len() {
            matching.iter().copied().filter(|id| self.hot.contains(id)).collect()
        } else {
            self.hot.iter().copied().filter(|id| matching.binary_search(id).is_ok()).collect()
        };
        hot.into_iter().filter(|id| self.keys.is_of(*id, types)).collect()
    }

    /// Forgets routes without ready tasks, at most `limit`, and says how many: a task that becomes ready joins
    /// anew. Goes on where it stopped the last time, so that its cost does not grow with the routes in use.
    pub(super) fn forget_empty(&mut self, connection: &Connection, limit: usize) -> Result<u64, Fault> {
        let mut is_ready = connection.prepare_cached(IS_READY)?;
        let mut empty = BTreeSet::new();
        let unlooked = self.keys.from(self.next_look).enumerate();
        self.next_look = 0;
        for (looks, id) in unlooked {
            if empty.len() >= limit || looks >= limit.saturating_mul(LOOKS) {
                self.next_look = id;
                break;
            }
            if !is_ready.exists([id])? {
                empty.insert(id);
            }
        }
        if empty.is_empty() {
            return Ok(0);
        }
        let mut delete = connection.prepare_cached("DELETE FROM route WHERE id = ?1")?;
        for id in &empty {
            delete.execute([id])?;
            self.hot.remove(id);
        }
        for key in self.keys.remove(&empty) {
            self.ids.remove(&key.canonical());
        }
        Ok(empty.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use eap_types::{TaskType, TenantId};

    use super::*;
    use crate::store::sqlite::SqliteOptions;
    use crate::store::sqlite::open::Database;

    #[test]
    fn routes_are_forgotten_without_an_agent_that_finds_them_empty() {
        let folder = tempfile::tempdir().unwrap();
        let connection = Database::open(&folder.path().join("eap.db"), &SqliteOptions::default()).unwrap().writer;
        let mut routes = Routes::load(&connection).unwrap();
        let key = |number: u32| {
            let task_type: TaskType = format!("type{number}").parse().unwrap();
            RoutingKey::of_type(TenantId::default(), task_type)
        };
        for number in 1..=50 {
            let id = routes.join(&connection, &key(number).canonical(), &key(number)).unwrap();
            if number > 30 {
                let sql = "INSERT INTO task (seq, id, tenant, task_type, priority, rev, status, route, state) \
                     VALUES (?1, ?2, x'', '', 2, 1, 'queued', ?1, '')";
                connection.execute(sql, params![id, number.to_be_bytes()]).unwrap();
            }
        }
        let stored = || connection.query_row("SELECT count(*) FROM route", [], |row| row.get::<_, u32>(0)).unwrap();
        let mut forget = || routes.forget_empty(&connection, 20).unwrap();
        assert_eq!((forget(), stored()), (20, 30), "at most as many as it may");
        assert_eq!((forget(), stored()), (10, 20), "the rest of them");
        assert_eq!((forget(), stored()), (0, 20), "those in use stay");
        assert_eq!((routes.keys.from(0).count(), routes.ids.len(), routes.hot.len()), (20, 20, 20));

        assert_eq!(routes.join(&connection, &key(1).canonical(), &key(1)).unwrap(), 51, "it joins anew");
        assert_eq!(routes.join(&connection, &key(31).canonical(), &key(31)).unwrap(), 31, "it was never gone");
    }
}
