//! One file below the folder while it is written.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use eap_types::ArtifactPath;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, fsync, linkat, unlinkat};

use super::{ArtifactDirError, io_error};

/// How many names are tried for a file that is being written; those of others stand in the way at most.
const MAX_NAMES: usize = 1_000;

/// An artifact that is being written, under a hidden name beside its own until it is kept.
///
/// Dropped before, it is gone again; of a process that was killed, the file with the hidden name (`.eap-….part`) stays.
#[derive(Debug)]
pub struct ArtifactFile {
    path: ArtifactPath,
    place: PathBuf,
    folder: File,
    file: File,
    hidden: String,
}

impl ArtifactFile {
    /// Begins a file in the folder that its path leads to.
    pub(super) fn begin(path: &ArtifactPath, place: PathBuf, folder: File) -> Result<Self, ArtifactDirError> {
        // Looked for before the work; whether it can have its name is known once it gets it.
        match fstatat(&folder, name_of(path), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => {}
            Ok(_) => return Err(ArtifactDirError::Exists { path: path.clone() }),
            Err(errno) => return Err(io_error(path, errno)),
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        for hidden in hidden_names().take(MAX_NAMES) {
            match openat(&folder, hidden.as_str(), flags, Mode::from_bits_truncate(0o666)) {
                Ok(file) => return Ok(Self { path: path.clone(), place, folder, file: file.into(), hidden }),
                Err(Errno::EEXIST | Errno::ELOOP) => {}
                Err(errno) => return Err(io_error(path, errno)),
            }
        }
        Err(io_error(path, Errno::EEXIST))
    }

    /// Where the file will stand once it is kept.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Keeps the file, and gives where it stands: it is whole and on the disk when it gets its name, and its name is on the
    /// disk when this returns.
    ///
    /// # Errors
    ///
    /// [`ArtifactDirError::Exists`]: something got the name meanwhile. [`ArtifactDirError::Io`]: the system did not do it; if
    /// only the name could not be brought to the disk, the file stands there nevertheless.
    pub fn keep(self) -> Result<PathBuf, ArtifactDirError> {
        self.file.sync_all().map_err(|source| io_error(&self.path, source))?;
        match named(&self.folder, &self.hidden, name_of(&self.path)) {
            Ok(()) => {}
            Err(Errno::EEXIST) => return Err(ArtifactDirError::Exists { path: self.path.clone() }),
            Err(errno) => return Err(io_error(&self.path, errno)),
        }
        synced(&self.folder).map_err(|errno| io_error(&self.path, errno))?;
        Ok(self.place.clone())
    }
}

impl Write for ArtifactFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for ArtifactFile {
    fn drop(&mut self) {
        // Nobody is left to be told: a hidden file stays where even this fails.
        let _ = unlinkat(&self.folder, self.hidden.as_str(), UnlinkatFlags::NoRemoveDir);
    }
}

fn name_of(path: &ArtifactPath) -> &str {
    path.as_str().rsplit('/').next().unwrap_or_default()
}

/// Names that no other file of this process has; one of a process before it may be in the way.
fn hidden_names() -> impl Iterator<Item = String> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let process = std::process::id();
    std::iter::repeat_with(move || format!(".eap-{process}-{}.part", NUMBER.fetch_add(1, Ordering::Relaxed)))
}

/// Gives a file its name, and takes nothing's place with that.
fn named(folder: &File, hidden: &str, name: &str) -> Result<(), Errno> {
    match linkat(folder, hidden, folder, name, AtFlags::empty()) {
        // A file system without links.
        Err(Errno::EPERM | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EMLINK) => renamed(folder, hidden, name),
        Ok(()) => unlinkat(folder, hidden, UnlinkatFlags::NoRemoveDir),
        Err(errno) => Err(errno),
    }
}

/// Brings the names in a folder to the disk, where the file system can.
pub(super) fn synced(folder: &File) -> Result<(), Errno> {
    match fsync(folder) {
        Err(Errno::EINVAL | Errno::EOPNOTSUPP) => Ok(()),
        synced => synced,
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn renamed(folder: &File, hidden: &str, name: &str) -> Result<(), Errno> {
    use nix::fcntl::{RenameFlags, renameat2};
    renameat2(folder, hidden, folder, name, RenameFlags::RENAME_NOREPLACE)
}

/// Elsewhere a rename would write over what is there.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn renamed(_: &File, _: &str, _: &str) -> Result<(), Errno> {
    Err(Errno::EOPNOTSUPP)
}
