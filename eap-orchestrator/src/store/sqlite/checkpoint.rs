//! Moving what the log holds into the database file, beside the writer.
//!
//! A passive checkpoint waits for nobody and makes nobody wait. But under steady writing it never catches
//! up with the end of the log, and SQLite starts a log over only when all of it was moved. So once the log
//! is long, the writer moves the short rest itself between two batches.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rusqlite::Connection;

use super::fault::Fault;
use super::writer::Shared;

/// A checkpoint is due after about so many pages: 8 MiB.
const EVERY_PAGES: u64 = 2_048;

/// From so many pages on the log is to start over: 32 MiB.
const LONG_LOG: i64 = 8_192;

/// Counts what the writer adds to the log, and wakes the checkpointer when it is worth it.
#[derive(Debug)]
pub(super) struct LogGauge {
    pages: u64,
    due: SyncSender<()>,
}

impl LogGauge {
    pub(super) fn add(&mut self, pages: u64) {
        self.pages += pages;
        // Full: one is due already, and it will take these pages along.
        if self.pages >= EVERY_PAGES && self.due.try_send(()).is_ok() {
            self.pages = 0;
        }
    }
}

/// What the checkpointing thread does until the writer is gone.
pub(super) struct Checkpointer {
    connection: Connection,
    due: Receiver<()>,
    shared: Arc<Shared>,
}

impl Checkpointer {
    pub(super) fn new(connection: Connection, shared: Arc<Shared>) -> (LogGauge, Self) {
        let (sender, due) = sync_channel(1);
        (LogGauge { pages: 0, due: sender }, Self { connection, due, shared })
    }

    pub(super) fn run(self) {
        while self.due.recv().is_ok() && self.shared.failure.get().is_none() {
            match checkpoint(&self.connection) {
                Ok(pages) if pages >= LONG_LOG => self.shared.log_is_long.store(true, Ordering::Release),
                Ok(_) => {}
                Err(fault) if fault.is_fatal() => self.shared.fail(fault),
                // No room in the file, say: the log keeps what was not moved.
                Err(fault) => tracing::warn!(?fault, "checkpoint put off"),
            }
        }
    }
}

/// Moves what can be moved without waiting for anyone; gives the length of the log in pages.
pub(super) fn checkpoint(connection: &Connection) -> Result<i64, Fault> {
    Ok(connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))?)
}
