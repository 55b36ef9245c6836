//! Workflows that are kept, in their table.

use std::collections::HashSet;

use eap_types::{TenantId, WorkflowId, WorkflowSummary};
use rusqlite::{Connection, Row, params};

use super::batch::duplicate;
use super::fault::{Fault, Setback};
use super::ledger::Ledger;
use super::read::{all, one};
use super::rows::{Prepared, count, json, number, rows_at_most, time, word};
use crate::store::{Insertion, RecordRef, WorkflowRow};

pub(super) const VERSION: &str =
    "SELECT seq, stored_at, record FROM workflow WHERE tenant = ?1 AND id = ?2 AND version = ?3";

pub(super) const NEWEST: &str =
    "SELECT seq, stored_at, record FROM workflow WHERE tenant = ?1 AND id = ?2 ORDER BY seq DESC LIMIT 1";

/// The newest version of each.
pub(super) const NEWEST_FIRST: &str = "SELECT w.seq, w.stored_at, w.id, w.name, w.description, w.version, w.steps \
     FROM workflow w INDEXED BY workflow_of_tenant WHERE w.tenant = ?1 AND w.seq < ?2 \
     AND NOT EXISTS (SELECT 1 FROM workflow n WHERE n.tenant = w.tenant AND n.id = w.id AND n.seq > w.seq) \
     ORDER BY w.seq DESC LIMIT ?3";

pub(super) fn workflow(
    connection: &Connection,
    tenant: TenantId,
    id: &WorkflowId,
    version: Option<&str>,
) -> Result<Option<WorkflowRow>, Fault> {
    let found = match version {
        Some(version) => {
            one(connection, VERSION, params![tenant.as_bytes(), id.as_str(), version], |row| read(tenant, row))
        }
        None => one(connection, NEWEST, params![tenant.as_bytes(), id.as_str()], |row| read(tenant, row)),
    };
    Ok(found?.map(|(_, row)| row))
}

pub(super) fn workflows(
    connection: &Connection,
    tenant: TenantId,
    before: Option<Insertion>,
    limit: usize,
) -> Result<Vec<(Insertion, WorkflowSummary)>, Fault> {
    let before = before.map_or(i64::MAX, |before| number(before.0));
    all(connection, NEWEST_FIRST, params![tenant.as_bytes(), before, rows_at_most(limit)], |row| {
        let mut summary = WorkflowSummary::new(word(row, 2)?, row.get(3)?, row.get(5)?, row.get(6)?, time(row, 1)?);
        summary.description = row.get(4)?;
        Ok((Insertion(count(row, 0)?), summary))
    })
}

fn read(tenant: TenantId, row: &Row<'_>) -> Result<(Insertion, WorkflowRow), Fault> {
    let kept = WorkflowRow { tenant, workflow: json(row, 2)?, stored_at: time(row, 1)? };
    Ok((Insertion(count(row, 0)?), kept))
}

impl Ledger {
    /// Refuses a change that brings a version which is kept already.
    pub(super) fn check_workflows(&self, change: &Prepared) -> Result<(), Setback> {
        let mut seen = HashSet::new();
        for kept in &change.workflows {
            let (tenant, id, version) = (kept.row.tenant, &kept.row.workflow.id, &kept.row.workflow.version);
            let mut statement = self.connection.prepare_cached(VERSION)?;
            let is_new = seen.insert((tenant, id, version))
                && !statement.exists(params![tenant.as_bytes(), id.as_str(), version])?;
            if !is_new {
                return Err(duplicate(RecordRef::Workflow { id: id.clone(), version: version.clone() }));
            }
        }
        Ok(())
    }

    pub(super) fn write_workflows(&self, change: &Prepared) -> Result<(), Fault> {
        for kept in &change.workflows {
            let (tenant, workflow) = (kept.row.tenant, &kept.row.workflow);
            self.connection
                .prepare_cached(
                    "INSERT INTO workflow (tenant, id, version, stored_at, record, name, description, steps) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )?
                .execute(params![
                    tenant.as_bytes(),
                    workflow.id.as_str(),
                    workflow.version,
                    kept.row.stored_at.as_micros(),
                    kept.record,
                    workflow.name,
                    workflow.description,
                    rows_at_most(workflow.tasks.len()),
                ])?;
        }
        Ok(())
    }
}
