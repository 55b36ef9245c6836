//! Workflows that are kept.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;

use eap_types::{TenantId, WorkflowId};

use super::commit::must_be_new;
use crate::store::{Insertion, RecordRef, StoreError, WorkflowRow};

/// The workflows, by the number under which a version was kept.
#[derive(Default)]
pub(super) struct Workflows {
    rows: BTreeMap<Insertion, WorkflowRow>,
    /// The versions of each.
    versions: HashMap<(TenantId, WorkflowId), HashMap<String, Insertion>>,
    /// The version of each that was kept last.
    newest: HashMap<(TenantId, WorkflowId), Insertion>,
}

impl Workflows {
    pub(super) fn get(&self, tenant: TenantId, id: &WorkflowId, version: Option<&str>) -> Option<&WorkflowRow> {
        let key = (tenant, id.clone());
        let number = match version {
            Some(version) => self.versions.get(&key)?.get(version)?,
            None => self.newest.get(&key)?,
        };
        self.rows.get(number)
    }

    /// The newest version of each, newest first.
    pub(super) fn newest_first(
        &self,
        tenant: TenantId,
        before: Option<Insertion>,
    ) -> impl Iterator<Item = (Insertion, &WorkflowRow)> {
        let end = before.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.rows.range((Bound::Unbounded, end)).rev().map(|(number, row)| (*number, row));
        rows.filter(move |(number, row)| row.tenant == tenant && self.newest.get(&key_of(row)) == Some(number))
    }

    pub(super) fn check(&self, rows: &[WorkflowRow]) -> Result<(), StoreError> {
        let mut seen = HashSet::new();
        for row in rows {
            let (id, version) = (&row.workflow.id, &row.workflow.version);
            let is_new = seen.insert((row.tenant, id, version)) && self.get(row.tenant, id, Some(version)).is_none();
            must_be_new(is_new, RecordRef::Workflow { id: id.clone(), version: version.clone() })?;
        }
        Ok(())
    }

    /// Keeps versions that were checked.
    pub(super) fn keep(&mut self, rows: Vec<WorkflowRow>) {
        for row in rows {
            // None is ever removed.
            let number = Insertion(self.rows.len() as u64 + 1);
            let key = key_of(&row);
            self.versions.entry(key.clone()).or_default().insert(row.workflow.version.clone(), number);
            self.newest.insert(key, number);
            self.rows.insert(number, row);
        }
    }
}

fn key_of(row: &WorkflowRow) -> (TenantId, WorkflowId) {
    (row.tenant, row.workflow.id.clone())
}
