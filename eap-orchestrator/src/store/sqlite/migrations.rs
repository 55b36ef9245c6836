//! The schema and its versions.

use rusqlite::{Connection, TransactionBehavior};

use super::fault::Fault;
use crate::store::StoreError;

/// Marks a file as ours: "EAPo" in ASCII.
const APPLICATION_ID: i32 = 0x4541_506f;

/// Every migration, oldest first; the version of a file is the number of those it has seen.
const MIGRATIONS: [&str; 11] = [
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
    include_str!("migrations/0004.sql"),
    include_str!("migrations/0005.sql"),
    include_str!("migrations/0006.sql"),
    include_str!("migrations/0007.sql"),
    include_str!("migrations/0008.sql"),
    include_str!("migrations/0009.sql"),
    include_str!("migrations/0010.sql"),
    include_str!("migrations/0011.sql"),
];

/// The version this program reads and writes.
const NEWEST: i32 = MIGRATIONS.len() as i32;

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Nobody's yet.
    Empty,
    /// Ours, at this version.
    Ours(i32),
}

/// Tells whose file it is and changes nothing.
pub(super) fn inspect(connection: &Connection, name: &str) -> Result<Origin, StoreError> {
    let refused = |reason: String| Err(StoreError::Refused { reason });
    let read = || -> Result<(i32, i32, i64), rusqlite::Error> {
        let number = |sql: &str| connection.query_row(sql, [], |row| row.get(0));
        let tables = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        Ok((number("PRAGMA application_id")?, number("PRAGMA user_version")?, tables))
    };
    match read() {
        Ok((0, 0, 0)) => Ok(Origin::Empty),
        Ok((APPLICATION_ID, version, _)) if version > NEWEST => refused(format!(
            "{name} has schema version {version}, and this program knows versions up to {NEWEST}: use a newer program"
        )),
        Ok((APPLICATION_ID, version, _)) => Ok(Origin::Ours(version)),
        Ok(_) => refused(format!("{name} is a database of another program")),
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
            refused(format!("{name} is not a SQLite database"))
        }
        Err(error) => Err(Fault::from(error).into()),
    }
}

/// Brings the file to the newest version, in one transaction.
pub(super) fn migrate(connection: &mut Connection, origin: Origin) -> Result<(), Fault> {
    let version = match origin {
        Origin::Empty => 0,
        Origin::Ours(version) => version,
    };
    let missing = MIGRATIONS.get(usize::try_from(version).unwrap_or(0)..).unwrap_or_default();
    if missing.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for migration in missing {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", NEWEST)?;
    transaction.commit()?;
    tracing::info!(from = version, to = NEWEST, "database schema is up to date");
    Ok(())
}
