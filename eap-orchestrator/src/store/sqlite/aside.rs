//! Reads while nothing can be written: on a full disk, or once the store has failed.
//!
//! What is in the journal then cannot move to where it is looked up. A transaction that is never committed moves it in the
//! memory of its connection alone, and is read within.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};

use super::fault::Fault;
use super::ledger::Ledger;
use super::open::connect;
use crate::clock::Clock;

/// Pages that fit into the connection's memory, in KiB: more than the journal ever has.
const CACHE: i64 = -64_000;

/// Runs `query` over everything that is stored, the journal included, and writes nothing.
pub(super) fn read<T>(
    path: &Path,
    vfs: Option<&str>,
    clock: Arc<dyn Clock>,
    query: impl FnOnce(&Connection) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let connection = connect(path, vfs, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "cache_size", CACHE)?;
    connection.pragma_update(None, "cache_spill", false)?;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let mut ledger = Ledger::load(connection, clock, Arc::default())?;
    ledger.settle()?;
    let answer = query(&ledger.connection);
    ledger.connection.execute_batch("ROLLBACK")?;
    answer
}
