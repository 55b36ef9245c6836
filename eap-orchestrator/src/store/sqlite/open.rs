//! How a database file is found, checked and opened.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::SqliteOptions;
use super::fault::Fault;
use super::lock::{FileLock, private};
use super::migrations::{inspect, migrate};
use crate::canary;
use crate::store::StoreError;

/// How long a connection waits for another one of this process: only ever for moments.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// What the log is cut to when it starts over, so that one burst does not keep its space for good.
const WAL_SIZE_LIMIT: i64 = 64 << 20;

/// A log of so many pages is checkpointed within a commit, should the checkpointer fall behind: 400 MB.
const LAST_RESORT_CHECKPOINT: i64 = 100_000;

const PAGE: u64 = 4096;

/// An open database: one connection that writes, one that checkpoints, some that read.
#[derive(Debug)]
pub(super) struct Database {
    /// `None` on a file system that is not the operating system's.
    pub(super) lock: Option<FileLock>,
    pub(super) path: PathBuf,
    /// The name of that other file system.
    pub(super) vfs: Option<String>,
    pub(super) writer: Connection,
    pub(super) checkpointer: Connection,
    pub(super) readers: Vec<Connection>,
}

impl Database {
    /// Takes the lock, checks that the file is ours, and brings it to the newest schema.
    pub(super) fn open(path: &Path, options: &SqliteOptions) -> Result<Self, StoreError> {
        let path = resolve(path)?;
        let lock = FileLock::take(&path)?;
        create_if_missing(&path)?;
        Self::connect(path, Some(lock), None, options)
    }

    /// The same on a file system that was registered with SQLite under the name `vfs`: there the file is there already
    /// and nobody else's.
    #[cfg(feature = "test-vfs")]
    pub(super) fn open_on(vfs: &str, path: &Path, options: &SqliteOptions) -> Result<Self, StoreError> {
        Self::connect(path.to_owned(), None, Some(vfs), options)
    }

    fn connect(
        path: PathBuf,
        lock: Option<FileLock>,
        vfs: Option<&str>,
        options: &SqliteOptions,
    ) -> Result<Self, StoreError> {
        let name = path.display().to_string();
        // Looked at before anything is set: a file that is not ours stays as it is.
        let mut writer = connect(&path, vfs, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let origin = inspect(&writer, &name)?;
        let mode: String = writer.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(Fault::from)?;
        if mode != "wal" {
            let reason = format!("{name} lies on a file system without shared memory, which write-ahead logging needs");
            return Err(StoreError::Refused { reason });
        }
        set_up_writer(&writer, options)?;
        migrate(&mut writer, origin)?;
        let checkpointer = connect(&path, vfs, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        set_durable(&checkpointer)?;
        let readers = (0..options.readers.max(1)).map(|_| connect_reader(&path, vfs)).collect::<Result<_, _>>()?;
        Ok(Self { lock, path, vfs: vfs.map(str::to_owned), writer, checkpointer, readers })
    }
}

/// The file itself, however it was named: one file has one lock.
fn resolve(path: &Path) -> Result<PathBuf, StoreError> {
    let refused = |reason: String| StoreError::Refused { reason };
    match path.canonicalize() {
        Ok(path) if path.is_file() => return Ok(path),
        Ok(path) => return Err(refused(format!("{} is not a file", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(refused(format!("{} cannot be reached: {error}", path.display()))),
    }
    let Some(name) = path.file_name() else {
        return Err(refused(format!("{} names no file", path.display())));
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match folder.canonicalize() {
        Ok(folder) if folder.is_dir() => Ok(folder.join(name)),
        Ok(folder) => Err(refused(format!("{} is not a directory", folder.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(refused(format!("the directory {} does not exist", folder.display())))
        }
        Err(error) => Err(refused(format!("the directory {} cannot be reached: {error}", folder.display()))),
    }
}

/// Makes an empty file that its owner alone can read; SQLite gives the files beside it the same mode.
fn create_if_missing(path: &Path) -> Result<(), StoreError> {
    let created = match private(OpenOptions::new().write(true).create_new(true)).open(path) {
        Ok(file) => file.sync_all().and_then(|()| sync_folder_of(path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    };
    let reason = |error| format!("{} cannot be created: {error}", path.display());
    created.map_err(|error| StoreError::Refused { reason: reason(error) })
}

/// Makes the file's name survive a loss of power.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if cfg!(unix) => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

pub(super) fn connect(path: &Path, vfs: Option<&str>, access: OpenFlags) -> Result<Connection, Fault> {
    // No mutex: each connection belongs to one thread at a time.
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs)?,
        None => Connection::open_with_flags(path, flags)?,
    };
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(64);
    // `close` checkpoints when all is well. After a failed fsync nothing may be written any more.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Plans do not look at bound values: otherwise a statement is parsed again whenever one changes.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

/// What is acknowledged or checkpointed is on the disk itself (G1); macOS needs to be told twice.
fn set_durable(connection: &Connection) -> Result<(), Fault> {
    let synchronous = if canary::sings("synchronous-normal") { "NORMAL" } else { "FULL" };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    Ok(())
}

fn set_up_writer(connection: &Connection, options: &SqliteOptions) -> Result<(), Fault> {
    set_durable(connection)?;
    connection.pragma_update(None, "journal_size_limit", WAL_SIZE_LIMIT)?;
    connection.pragma_update(None, "wal_autocheckpoint", LAST_RESORT_CHECKPOINT)?;
    // What is written is at the ends of the tables. A larger cache costs more than it saves: when pages are put in order
    // (SQLite's `balance_nonroot`), the end of the transaction walks over all of it.
    connection.pragma_update(None, "cache_size", -8_000)?;
    if let Some(bytes) = options.max_bytes {
        let pages = i64::try_from(bytes / PAGE).unwrap_or(i64::MAX).max(1);
        connection.pragma_update(None, "max_page_count", pages)?;
    }
    Ok(())
}

fn connect_reader(path: &Path, vfs: Option<&str>) -> Result<Connection, Fault> {
    let connection = connect(path, vfs, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.pragma_update(None, "cache_size", -4_000)?;
    Ok(connection)
}
