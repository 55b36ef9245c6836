//! One file below the folder while it is written.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use eap_types::ArtifactPath;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::{ArtifactDirError, io_error};

/// An artifact that is being written; dropped before it was kept, it is gone again.
#[derive(Debug)]
pub struct ArtifactFile {
    path: ArtifactPath,
    place: PathBuf,
    folder: File,
    file: File,
    is_kept: bool,
}

impl ArtifactFile {
    pub(super) fn new(path: ArtifactPath, place: PathBuf, folder: File, file: File) -> Self {
        Self { path, place, folder, file, is_kept: false }
    }

    /// Where the file stands.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Keeps the file, which is whole and on the disk then, and gives where it stands.
    ///
    /// # Errors
    ///
    /// [`ArtifactDirError::Io`]: it cannot be brought to the disk, and is gone again.
    pub fn keep(mut self) -> Result<PathBuf, ArtifactDirError> {
        self.file.sync_all().map_err(|source| io_error(&self.path, source))?;
        self.is_kept = true;
        Ok(std::mem::take(&mut self.place))
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
        if !self.is_kept {
            let name = self.path.as_str().rsplit('/').next().unwrap_or_default();
            // Nobody is left to be told: a half file stays where even this fails.
            let _ = unlinkat(&self.folder, name, UnlinkatFlags::NoRemoveDir);
        }
    }
}
