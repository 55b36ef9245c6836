//! Operator keys and registration secrets in their table.

use std::collections::HashSet;

use eap_types::{CredentialId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::batch::{conflict, duplicate};
use super::fault::{Fault, Setback};
use super::ledger::Ledger;
use super::read::all;
use super::rows::{Prepared, PreparedCredential, count, json, number, rows_at_most};
use crate::store::{CredentialRow, CredentialWrite, RecordRef, Revision, Stored};

pub(super) fn read(connection: &Connection, now: Timestamp) -> Result<Vec<CredentialRow>, Fault> {
    all(connection, "SELECT rev, record, last_used_at FROM credential ORDER BY id", [], |row| {
        let stored = Stored { record: json(row, 1)?, revision: Revision(count(row, 0)?), now };
        let last_used: Option<i64> = row.get(2)?;
        Ok((stored, last_used.map(Timestamp::from_micros)))
    })
}

impl Ledger {
    /// Refuses a change whose credentials are not what it was decided on.
    pub(super) fn check_credentials(&self, change: &Prepared) -> Result<(), Setback> {
        let mut seen = HashSet::new();
        for PreparedCredential { write, .. } in &change.credentials {
            let id = write.credential().id;
            let is_first = seen.insert(id);
            let stored: Option<i64> = self
                .connection
                .prepare_cached("SELECT rev FROM credential WHERE id = ?1")?
                .query_row([id.as_bytes()], |row| row.get(0))
                .optional()?;
            match write {
                CredentialWrite::Insert(_) if is_first && stored.is_none() => {}
                CredentialWrite::Insert(_) => return Err(duplicate(RecordRef::Credential(id))),
                CredentialWrite::Update { revision, .. } if is_first && stored == Some(number(revision.0)) => {}
                CredentialWrite::Update { .. } => return Err(conflict(RecordRef::Credential(id))),
            }
        }
        Ok(())
    }

    pub(super) fn write_credentials(&self, change: &Prepared) -> Result<(), Fault> {
        for PreparedCredential { write, record } in &change.credentials {
            let credential = write.credential();
            let sql = match write {
                CredentialWrite::Insert(_) => {
                    "INSERT INTO credential (id, rev, ended_at, record) VALUES (?1, 1, ?2, ?3)"
                }
                CredentialWrite::Update { .. } => {
                    "UPDATE credential SET rev = rev + 1, ended_at = ?2, record = ?3 WHERE id = ?1"
                }
            };
            let ended_at = credential.ended_at().map(Timestamp::as_micros);
            self.connection.prepare_cached(sql)?.execute(params![credential.id.as_bytes(), ended_at, record])?;
        }
        for (id, at) in &change.last_used {
            self.connection
                .prepare_cached("UPDATE credential SET last_used_at = ?2 WHERE id = ?1")?
                .execute(params![id.as_bytes(), at.as_micros()])?;
        }
        Ok(())
    }

    /// Deletes at most `limit` that ended before the cut-off, and names them.
    pub(super) fn purge_credentials(&self, cutoff: Timestamp, limit: usize) -> Result<Vec<CredentialId>, Fault> {
        let sql = "DELETE FROM credential WHERE id IN \
             (SELECT id FROM credential WHERE ended_at < ?1 LIMIT ?2) RETURNING id";
        all(&self.connection, sql, params![cutoff.as_micros(), rows_at_most(limit)], |row| {
            Ok(CredentialId::from_bytes(row.get(0)?))
        })
    }
}
