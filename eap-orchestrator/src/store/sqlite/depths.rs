//! How many tasks are not over: what the indexes say, without a look at the queue itself.

use std::collections::BTreeMap;

use eap_core::RoutingKey;
use eap_types::{TenantId, Timestamp};
use rusqlite::{Connection, Row};

use super::fault::Fault;
use super::read::Moment;
use super::rows::{count, json, word};
use crate::store::{Depth, Depths, InboxDepth, ReadyDepth};

/// A walk over the index of ready tasks, one step a task: a quarter of a second for a million of them.
pub(super) const READY: &str = "SELECT waiting.tasks, waiting.first, r.key \
     FROM (SELECT route, count(*) AS tasks, min(seq) AS first FROM task INDEXED BY task_ready \
           WHERE route IS NOT NULL GROUP BY route) AS waiting \
     CROSS JOIN route r ON r.id = waiting.route";

pub(super) const DELAYED: &str = "SELECT tenant, task_type, count(*) FROM task INDEXED BY task_delayed \
     WHERE status = 'queued' AND route IS NULL GROUP BY tenant, task_type";

/// As many rows as agents hold tasks.
pub(super) const HELD: &str = "SELECT tenant, task_type, count(*) FROM task INDEXED BY task_held \
     WHERE holder IS NOT NULL GROUP BY tenant, task_type ORDER BY tenant, task_type";

const SINCE: &str = "SELECT json_quote(json_extract(spec, '$.created_at')), json_quote(json_extract(spec, '$.run_at')) \
     FROM task_spec WHERE seq = ?1";

pub(super) fn depths(connection: &Connection) -> Result<Depths, Fault> {
    // One transaction, so that no task is counted twice or not at all on its way from one list to the next.
    let moment = Moment::begin(connection)?;
    let depths = Depths {
        ready: ready(connection)?,
        delayed: by_type(connection, DELAYED)?,
        leased: by_type(connection, HELD)?,
        inbox: InboxDepth::default(),
    };
    drop(moment);
    Ok(depths)
}

fn ready(connection: &Connection) -> Result<Vec<ReadyDepth>, Fault> {
    let mut kinds = BTreeMap::new();
    let mut statement = connection.prepare_cached(READY)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (tasks, first): (u64, i64) = (count(row, 0)?, row.get(1)?);
        let RoutingKey { tenant, task_type, required_capabilities, .. } = json(row, 2)?;
        // Routes that differ in labels or agent alone are one kind.
        let kind = kinds.entry((tenant, task_type, required_capabilities)).or_insert((0, i64::MAX));
        *kind = (kind.0 + tasks, kind.1.min(first));
    }
    let depth = |((tenant, task_type, required_capabilities), (tasks, first))| {
        Ok(ReadyDepth { tenant, task_type, required_capabilities, tasks, oldest: since(connection, first)? })
    };
    kinds.into_iter().map(depth).collect()
}

/// From when a task might have been taken.
fn since(connection: &Connection, seq: i64) -> Result<Timestamp, Fault> {
    let mut statement = connection.prepare_cached(SINCE)?;
    let mut rows = statement.query([seq])?;
    let row = rows.next()?.ok_or_else(|| Fault::nonsense("a task without a spec"))?;
    let (created_at, run_at): (Timestamp, Option<Timestamp>) = (json(row, 0)?, json(row, 1)?);
    Ok(run_at.map_or(created_at, |at| at.max(created_at)))
}

fn by_type(connection: &Connection, sql: &str) -> Result<Vec<Depth>, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut depths = Vec::new();
    while let Some(row) = rows.next()? {
        depths.push(depth(row)?);
    }
    Ok(depths)
}

fn depth(row: &Row<'_>) -> Result<Depth, Fault> {
    Ok(Depth { tenant: TenantId::from_bytes(row.get(0)?), task_type: word(row, 1)?, tasks: count(row, 2)? })
}
