//! One owner per file (G7): a lock file beside the database, held as long as the store is open.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use crate::store::StoreError;

/// The right to use a database file; given up when dropped, also by a process that dies.
#[derive(Debug)]
pub(super) struct FileLock {
    _file: File,
}

impl FileLock {
    /// Takes the lock of `database`, or says who has it. The lock file stays when the lock goes:
    /// removing it would let two owners lock two different files of the same name.
    pub(super) fn take(database: &Path) -> Result<Self, StoreError> {
        refuse_hard_links(database)?;
        let path = path_of(database);
        let refused = |why: &dyn std::fmt::Display| StoreError::Refused {
            reason: format!("the lock file {} cannot be used: {why}", path.display()),
        };
        let mut file = private(OpenOptions::new().read(true).write(true).create(true).truncate(false))
            .open(&path)
            .map_err(|error| refused(&error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                // Only to name the owner: whatever cannot be read is left out.
                let owner = io::read_to_string(&file).unwrap_or_default();
                let owner = owner.trim().parse::<u32>().map_or_else(|_| String::new(), |pid| format!(" (pid {pid})"));
                let reason = format!("{} is in use by another orchestrator{owner}", database.display());
                return Err(StoreError::Refused { reason });
            }
            Err(TryLockError::Error(error)) => return Err(refused(&error)),
        }
        let written =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(|error| refused(&error))?;
        Ok(Self { _file: file })
    }
}

/// A file of two names would have two lock files, and two owners.
fn refuse_hard_links(database: &Path) -> Result<(), StoreError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        if std::fs::metadata(database).is_ok_and(|found| found.is_file() && found.nlink() > 1) {
            let reason = format!("{} has hard links; keep one name for it", database.display());
            return Err(StoreError::Refused { reason });
        }
    }
    Ok(())
}

/// `<file>.lock`.
fn path_of(database: &Path) -> PathBuf {
    let mut path = OsString::from(database);
    path.push(".lock");
    path.into()
}

/// Files made with these options are readable by their owner alone.
pub(super) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options
}
