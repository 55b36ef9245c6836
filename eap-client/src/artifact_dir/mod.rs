//! A folder that artifacts are written into, and that nothing of them can leave.

mod file;
mod name;

use std::collections::HashSet;
use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use eap_types::{Artifact, ArtifactPath, EncodingError};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};

pub use self::file::ArtifactFile;
use self::file::synced;
use self::name::danger;

/// Opens a folder and follows no link to it.
const FOLDER: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// A folder that the artifacts of a result are written into. On Unix.
///
/// What an agent named decides where below the folder a file stands, and nothing else: every part of a path is opened
/// from the folder before it, no symbolic link is followed, no file is written over, and no file can be run. A file has its
/// name once it is whole, and a hidden one before ([`ArtifactFile`]). Names that
/// mean something else on Windows (a device as `nul.txt`, a stream as `a:b`, one that ends with a dot or a blank) are
/// refused on every system, so that a folder can be carried over.
///
/// The calls block for as long as the file system does.
///
/// ```
/// use eap_client::ArtifactDir;
/// use eap_types::Artifact;
///
/// # let folder = std::env::temp_dir().join(format!("eap-artifact-dir-{}", std::process::id()));
/// let dir = ArtifactDir::create(&folder)?;
/// let report = Artifact::text("deep/report.md".parse()?, "# yes");
/// let written = dir.write_all([&report])?;
/// assert_eq!(written, [folder.join("deep/report.md")]);
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ArtifactDir {
    root: PathBuf,
    folder: File,
}

/// Why an artifact was not written; what was begun of it is gone again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactDirError {
    /// The folder itself cannot be made or opened.
    #[error("the folder {} cannot be used", .root.display())]
    Root {
        /// The folder.
        root: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A part of the path means something else on some system.
    #[error("the artifact `{path}` has a name that {why}")]
    Name {
        /// The artifact.
        path: ArtifactPath,
        /// What is dangerous about it.
        why: &'static str,
    },
    /// Something stands there already: a file, a link, or another artifact with the same path.
    #[error("something stands at `{path}` already")]
    Exists {
        /// The artifact.
        path: ArtifactPath,
    },
    /// Where the path needs a folder, there is a link or a file.
    #[error("what stands in the way of `{path}` is no folder")]
    InTheWay {
        /// The artifact.
        path: ArtifactPath,
    },
    /// The content was uploaded and did not come along: fetch it, then write it.
    #[error("the content of `{path}` did not come along")]
    Elsewhere {
        /// The artifact.
        path: ArtifactPath,
    },
    /// The content is not what the artifact says that it is.
    #[error("the artifact cannot be read")]
    Encoding(#[from] EncodingError),
    /// The system did not do it.
    #[error("the artifact `{path}` cannot be written")]
    Io {
        /// The artifact.
        path: ArtifactPath,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl ArtifactDir {
    /// Opens a folder, and makes it with those above it if it is not there. The caller chose its path: links in that are
    /// followed.
    ///
    /// # Errors
    ///
    /// [`ArtifactDirError::Root`]: it is no folder, or cannot be made.
    pub fn create(root: impl Into<PathBuf>) -> Result<Self, ArtifactDirError> {
        let root = root.into();
        let opened = DirBuilder::new().recursive(true).create(&root).and_then(|()| File::open(&root));
        match opened.and_then(|folder| folder.metadata().map(|metadata| (folder, metadata.is_dir()))) {
            Ok((folder, true)) => Ok(Self { root, folder }),
            Ok((_, false)) => Err(ArtifactDirError::Root { root, source: io::ErrorKind::NotADirectory.into() }),
            Err(source) => Err(ArtifactDirError::Root { root, source }),
        }
    }

    /// Where the folder is, as it was given.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Begins a file; it goes again unless it is kept ([`ArtifactFile::keep`]).
    ///
    /// # Errors
    ///
    /// Every variant of [`ArtifactDirError`] but `Root`, `Encoding` and `Elsewhere`.
    pub fn begin(&self, path: &ArtifactPath) -> Result<ArtifactFile, ArtifactDirError> {
        check(path)?;
        let (parents, _) = path.as_str().rsplit_once('/').unwrap_or_default();
        let mut folder = self.folder.try_clone().map_err(|source| io_error(path, source))?;
        for part in parents.split('/').filter(|part| !part.is_empty()) {
            folder = enter(&folder, part, path)?;
        }
        ArtifactFile::begin(path, self.root.join(path.as_str()), folder)
    }

    /// Writes one artifact whose content came along, and gives where it stands.
    ///
    /// # Errors
    ///
    /// Every variant of [`ArtifactDirError`] but `Root`.
    pub fn write(&self, artifact: &Artifact) -> Result<PathBuf, ArtifactDirError> {
        if artifact.is_stored() {
            return Err(ArtifactDirError::Elsewhere { path: artifact.path.clone() });
        }
        let bytes = artifact.bytes()?;
        let mut file = self.begin(&artifact.path)?;
        file.write_all(&bytes).map_err(|source| io_error(&artifact.path, source))?;
        file.keep()
    }

    /// Writes several; their names are checked before the first is written.
    ///
    /// # Errors
    ///
    /// As those of [`write`](Self::write); what was written before the one that failed stays.
    pub fn write_all<'a>(
        &self,
        artifacts: impl IntoIterator<Item = &'a Artifact>,
    ) -> Result<Vec<PathBuf>, ArtifactDirError> {
        let artifacts: Vec<_> = artifacts.into_iter().collect();
        Self::check(artifacts.iter().map(|artifact| &artifact.path))?;
        artifacts.into_iter().map(|artifact| self.write(artifact)).collect()
    }

    /// Checks names, for those who fetch before they write.
    ///
    /// # Errors
    ///
    /// [`ArtifactDirError::Name`] for a dangerous one, [`ArtifactDirError::Exists`] for one that comes twice.
    pub fn check<'a>(paths: impl IntoIterator<Item = &'a ArtifactPath>) -> Result<(), ArtifactDirError> {
        let mut seen = HashSet::new();
        for path in paths {
            check(path)?;
            if !seen.insert(path) {
                return Err(ArtifactDirError::Exists { path: path.clone() });
            }
        }
        Ok(())
    }
}

fn check(path: &ArtifactPath) -> Result<(), ArtifactDirError> {
    match path.as_str().split('/').find_map(danger) {
        Some(why) => Err(ArtifactDirError::Name { path: path.clone(), why }),
        None => Ok(()),
    }
}

/// Opens a folder within another, and makes it if it is not there.
fn enter(folder: &File, part: &str, path: &ArtifactPath) -> Result<File, ArtifactDirError> {
    match mkdirat(folder, part, Mode::from_bits_truncate(0o777)) {
        Ok(()) => synced(folder).map_err(|errno| io_error(path, errno))?,
        Err(Errno::EEXIST) => {}
        Err(errno) => return Err(io_error(path, errno)),
    }
    match openat(folder, part, FOLDER, Mode::empty()) {
        Ok(opened) => Ok(opened.into()),
        Err(Errno::ELOOP | Errno::ENOTDIR | Errno::EMLINK) => Err(ArtifactDirError::InTheWay { path: path.clone() }),
        Err(errno) => Err(io_error(path, errno)),
    }
}

fn io_error(path: &ArtifactPath, source: impl Into<io::Error>) -> ArtifactDirError {
    ArtifactDirError::Io { path: path.clone(), source: source.into() }
}
