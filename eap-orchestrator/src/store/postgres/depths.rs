//! How many tasks are not over.

use std::collections::{BTreeMap, HashMap};

use eap_core::{RoutingKey, TaskSpec};
use eap_types::{TenantId, Timestamp};

use super::database::{Database, Transaction};
use super::fault::Fault;
use super::values::{arguments, bytes, count, integer, json, word};
use crate::store::{Depth, Depths, InboxDepth, ReadyDepth};

/// A walk over the index of ready tasks, one step a task.
const READY: &str = "SELECT waiting.tasks, waiting.first, r.key \
     FROM (SELECT route, count(*) AS tasks, min(seq) AS first FROM eap.task WHERE route IS NOT NULL GROUP BY route) \
         AS waiting \
     JOIN eap.route r ON r.id = waiting.route";

/// Those that wait for a date and are not ready; among the same are those that agents hold.
const DELAYED: &str = "SELECT tenant, task_type, count(*) FROM eap.task \
     WHERE due_at IS NOT NULL AND holder IS NULL AND route IS NULL GROUP BY tenant, task_type ORDER BY tenant, task_type";

const HELD: &str = "SELECT tenant, task_type, count(*) FROM eap.task \
     WHERE holder IS NOT NULL GROUP BY tenant, task_type ORDER BY tenant, task_type";

const SPECS: &str = "SELECT seq, spec FROM eap.task_spec WHERE seq = ANY($1)";

impl Database {
    pub(super) async fn depths(&self) -> Result<Depths, Fault> {
        let mut loan = self.acquire_to_read().await?;
        let limit = self.transaction_limit();
        let counted = tokio::time::timeout(limit, async {
            // One moment, so that no task is counted twice or not at all on its way from one list to the next.
            let mut moment = self.moment(&mut loan).await?;
            let depths = Depths {
                ready: ready(&mut moment).await?,
                delayed: by_type(&mut moment, DELAYED).await?,
                leased: by_type(&mut moment, HELD).await?,
                inbox: inbox(&mut moment).await?,
            };
            moment.commit().await?;
            Ok(depths)
        });
        let outcome = counted.await.unwrap_or_else(|_| Err(Fault::late()));
        self.give_back(loan, outcome.as_ref().err());
        outcome
    }
}

async fn ready(moment: &mut Transaction<'_>) -> Result<Vec<ReadyDepth>, Fault> {
    let mut kinds = BTreeMap::new();
    for row in moment.rows(READY, arguments![]).await? {
        let (tasks, first) = (count(&row, 0)?, integer(&row, 1)?);
        let RoutingKey { tenant, task_type, required_capabilities, .. } = json(&row, 2)?;
        // Routes that differ in labels or agent alone are one kind.
        let kind = kinds.entry((tenant, task_type, required_capabilities)).or_insert((0, i64::MAX));
        *kind = (kind.0 + tasks, kind.1.min(first));
    }
    let first: Vec<i64> = kinds.values().map(|(_, first)| *first).collect();
    let mut since = HashMap::new();
    for row in moment.rows(SPECS, arguments![first]).await? {
        let spec: TaskSpec = json(&row, 1)?;
        since.insert(integer(&row, 0)?, from_when(&spec));
    }
    let depth = |((tenant, task_type, required_capabilities), (tasks, first))| {
        let oldest = since.get(&first).copied().ok_or_else(|| Fault::nonsense("a task without a spec"))?;
        Ok(ReadyDepth { tenant, task_type, required_capabilities, tasks, oldest })
    };
    kinds.into_iter().map(depth).collect()
}

/// From when a task might have been taken.
fn from_when(spec: &TaskSpec) -> Timestamp {
    spec.run_at.map_or(spec.created_at, |at| at.max(spec.created_at))
}

async fn inbox(moment: &mut Transaction<'_>) -> Result<InboxDepth, Fault> {
    let rows = moment.rows("SELECT count(*) - count(problem), count(problem) FROM eap.inbox", arguments![]).await?;
    let row = rows.first().ok_or_else(|| Fault::nonsense("a count of nothing"))?;
    Ok(InboxDepth { waiting: count(row, 0)?, set_aside: count(row, 1)? })
}

async fn by_type(moment: &mut Transaction<'_>, sql: &str) -> Result<Vec<Depth>, Fault> {
    let rows = moment.rows(sql, arguments![]).await?;
    let depth = |row: &sqlx::postgres::PgRow| {
        Ok(Depth { tenant: TenantId::from_bytes(bytes(row, 0)?), task_type: word(row, 1)?, tasks: count(row, 2)? })
    };
    rows.iter().map(depth).collect()
}
