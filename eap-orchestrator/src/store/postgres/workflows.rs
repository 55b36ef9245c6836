//! Workflows that are kept, as they are read.

use eap_types::{TenantId, WorkflowId, WorkflowSummary};
use sqlx::postgres::PgRow;

use super::database::Database;
use super::fault::Fault;
use super::read::tenant as of;
use super::values::{arguments, count, digest, json, time, word};
use crate::store::prepared::{number, rows_at_most};
use crate::store::{Insertion, WorkflowRow};

/// What a list shows of a version: its name, description, version and number of steps. In JSON, which holds any text.
pub(super) type Shown = (String, Option<String>, String, u32);

/// The newest version of each.
const NEWEST_FIRST: &str = "SELECT w.seq, w.stored_at, w.id, w.summary FROM eap.workflow w \
     WHERE w.tenant = $1 AND w.seq < $2 AND NOT EXISTS ( \
         SELECT 1 FROM eap.workflow n WHERE n.tenant = w.tenant AND n.id = w.id AND n.seq > w.seq) \
     ORDER BY w.seq DESC LIMIT $3";

impl Database {
    pub(super) async fn workflow(
        &self,
        tenant: TenantId,
        id: &WorkflowId,
        version: Option<&str>,
    ) -> Result<Option<WorkflowRow>, Fault> {
        let row = match version {
            Some(version) => {
                let sql = "SELECT stored_at, record FROM eap.workflow WHERE digest = $1";
                self.row(sql, arguments![&version_digest(tenant, id, version)[..]]).await?
            }
            None => {
                let sql = "SELECT stored_at, record FROM eap.workflow WHERE tenant = $1 AND id = $2 \
                     ORDER BY seq DESC LIMIT 1";
                self.row(sql, arguments![of(&tenant), id.as_str()]).await?
            }
        };
        row.map(|row| Ok(WorkflowRow { tenant, workflow: json(&row, 1)?, stored_at: time(&row, 0)? })).transpose()
    }

    pub(super) async fn workflows(
        &self,
        tenant: TenantId,
        before: Option<Insertion>,
        limit: usize,
    ) -> Result<Vec<(Insertion, WorkflowSummary)>, Fault> {
        let before = before.map_or(i64::MAX, |before| number(before.0));
        let rows = self.rows(NEWEST_FIRST, arguments![of(&tenant), before, rows_at_most(limit)]).await?;
        let read = |row: &PgRow| {
            let (name, description, version, steps): Shown = json(row, 3)?;
            let mut summary = WorkflowSummary::new(word(row, 2)?, name, version, steps, time(row, 1)?);
            summary.description = description;
            Ok((Insertion(count(row, 0)?), summary))
        };
        rows.iter().map(read).collect()
    }
}

/// What one version of a workflow is found by.
pub(super) fn version_digest(tenant: TenantId, id: &WorkflowId, version: &str) -> [u8; 32] {
    digest([tenant.as_bytes(), id.as_str().as_bytes(), version.as_bytes()])
}
