//! Artifacts in a folder beside the database.
//!
//! `<root>/<shard>/<task>/<attempt>/<digest>` is whole, `<digest>.<n>.part` has `n` bytes that are kept. The name changes
//! with what is kept, after the bytes are on the disk: so it never promises more than there is. It counts once the name is
//! on the disk as well.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use eap_types::{ContentDigest, TaskId};

use super::names::{SyncedNames, sync_folder};
use super::{ArtifactKey, ArtifactStore, Kept, shard_of};

/// Artifacts in a folder, which only one orchestrator may use: it goes with the database beside it.
#[derive(Clone, Debug)]
pub struct FolderArtifacts {
    root: Arc<Path>,
    names: Arc<SyncedNames>,
}

impl FolderArtifacts {
    /// Uses the folder, and makes it if it is not there; only its owner can look into it.
    ///
    /// Blocks for as long as the file system does.
    ///
    /// # Errors
    ///
    /// It cannot be made, or is no folder.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = std::path::absolute(root.into())?;
        let missing = root.ancestors().take_while(|folder| !folder.is_dir()).count();
        make(&root)?;
        if !root.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        // Even if it was there: who made it may have ended before its name was on the disk.
        for folder in root.ancestors().skip(1).take(missing.max(1)) {
            match sync_folder(folder) {
                // A folder that may be passed through and not read is not ours to look after.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                synced => synced?,
            }
        }
        Ok(Self { root: root.into(), names: Arc::default() })
    }

    /// The folder beside a database file: `eap.db.artifacts` beside `eap.db`.
    ///
    /// # Errors
    ///
    /// As those of [`open`](Self::open).
    pub fn beside(database: &Path) -> io::Result<Self> {
        let mut name = database.to_owned().into_os_string();
        name.push(".artifacts");
        Self::open(name)
    }

    fn shard_dir(&self, shard: u8) -> PathBuf {
        self.root.join(format!("{shard:02x}"))
    }

    fn task_dir(&self, task: TaskId) -> PathBuf {
        self.shard_dir(shard_of(task)).join(task.to_string())
    }

    fn attempt_dir(&self, task: TaskId, attempt: u32) -> PathBuf {
        self.task_dir(task).join(attempt.to_string())
    }

    fn file(&self, key: &ArtifactKey, kept: Kept) -> PathBuf {
        let name = match kept {
            Kept::Whole(_) => key.digest.to_string(),
            Kept::Part(bytes) => format!("{}.{bytes}.part", key.digest),
        };
        self.attempt_dir(key.task, key.attempt).join(name)
    }

    /// Does what blocks where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(Self) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || work(this)).await.unwrap_or_else(|broken| Err(io::Error::other(broken)))
    }

    /// Makes the names in the folder of an attempt survive a loss of power, with the folders above it.
    fn sync_names(&self, task: TaskId, attempt: u32) -> io::Result<()> {
        let attempt = self.attempt_dir(task, attempt);
        attempt.ancestors().take_while(|folder| folder.starts_with(&*self.root)).try_for_each(sync_folder)
    }

    /// Has the first `kept` bytes of a content counted as `now`.
    fn count(&self, key: &ArtifactKey, kept: u64, now: Kept) -> io::Result<()> {
        let before = self.file(key, Kept::Part(kept));
        settle(&before, now.bytes())?;
        let _change = self.names.change(key.task, key.attempt);
        fs::rename(before, self.file(key, now))?;
        self.sync_names(key.task, key.attempt)
    }
}

#[async_trait]
impl ArtifactStore for FolderArtifacts {
    fn is_shared(&self) -> bool {
        false
    }

    async fn of_attempt(&self, task: TaskId, attempt: u32) -> io::Result<Vec<(ContentDigest, Kept)>> {
        self.blocking(move |this| {
            let mut found = BTreeMap::new();
            for entry in entries(&this.attempt_dir(task, attempt))? {
                let entry = entry?;
                let Some((digest, kept)) = entry.file_name().to_str().and_then(read_name) else {
                    continue;
                };
                let there = match entry.metadata() {
                    Ok(metadata) => metadata.len(),
                    // It got another name meanwhile, or went.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                };
                let kept = match kept {
                    None => Kept::Whole(there),
                    // Shorter than its name says, it was changed by somebody else: it begins anew.
                    Some(kept) if there < kept => {
                        there_or_not(fs::remove_file(entry.path()))?;
                        continue;
                    }
                    Some(kept) => Kept::Part(kept),
                };
                let best = found.entry(digest).or_insert(kept);
                if rank(kept) > rank(*best) {
                    *best = kept;
                }
            }
            if found.is_empty() {
                return Ok(Vec::new());
            }
            // A process that ended, or a failure, may have left names that are not on the disk.
            match this.names.ensure(task, attempt, || this.sync_names(task, attempt)) {
                Ok(()) => Ok(found.into_iter().collect()),
                // The attempt went meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
                Err(error) => Err(error),
            }
        })
        .await
    }

    async fn write(&self, key: ArtifactKey, kept: u64, at: u64, bytes: Bytes) -> io::Result<()> {
        self.blocking(move |this| {
            if kept == 0 && at == 0 {
                make(&this.attempt_dir(key.task, key.attempt))?;
            }
            let mut file =
                private(OpenOptions::new().write(true).create(kept == 0)).open(this.file(&key, Kept::Part(kept)))?;
            file.seek(SeekFrom::Start(at))?;
            file.write_all(&bytes)
        })
        .await
    }

    async fn keep(&self, key: ArtifactKey, kept: u64, now: u64) -> io::Result<()> {
        self.blocking(move |this| this.count(&key, kept, Kept::Part(now))).await
    }

    async fn complete(&self, key: ArtifactKey, kept: u64, size: u64) -> io::Result<()> {
        self.blocking(move |this| this.count(&key, kept, Kept::Whole(size))).await
    }

    async fn read(&self, key: ArtifactKey, kept: Kept, at: u64, most: usize) -> io::Result<Bytes> {
        self.blocking(move |this| {
            let mut file = File::open(this.file(&key, kept))?;
            file.seek(SeekFrom::Start(at))?;
            let mut bytes = Vec::new();
            file.take(kept.bytes().saturating_sub(at).min(most as u64)).read_to_end(&mut bytes)?;
            Ok(bytes.into())
        })
        .await
    }

    async fn remove(&self, key: ArtifactKey) -> io::Result<()> {
        self.blocking(move |this| {
            for entry in entries(&this.attempt_dir(key.task, key.attempt))? {
                let entry = entry?;
                let read = entry.file_name().to_str().and_then(read_name);
                if read.is_some_and(|(digest, _)| digest == key.digest) {
                    there_or_not(fs::remove_file(entry.path()))?;
                }
            }
            Ok(())
        })
        .await
    }

    async fn remove_attempt(&self, task: TaskId, attempt: u32) -> io::Result<()> {
        self.blocking(move |this| {
            there_or_not(fs::remove_dir_all(this.attempt_dir(task, attempt)))?;
            this.names.forget(task, attempt);
            // Other attempts may have something in it.
            let _ = fs::remove_dir(this.task_dir(task));
            Ok(())
        })
        .await
    }

    async fn shard(&self, shard: u8) -> io::Result<Vec<(TaskId, Vec<u32>)>> {
        self.blocking(move |this| {
            let mut tasks = Vec::new();
            for entry in entries(&this.shard_dir(shard))? {
                let entry = entry?;
                let Some(task) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
                let mut attempts = Vec::new();
                for attempt in entries(&entry.path())? {
                    attempts.extend(attempt?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
                }
                if attempts.is_empty() {
                    let _ = fs::remove_dir(entry.path());
                } else {
                    tasks.push((task, attempts));
                }
            }
            Ok(tasks)
        })
        .await
    }
}

/// Cuts a file to what counts of it, and brings it to the disk.
fn settle(path: &Path, size: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(size)?;
    file.sync_all()
}

/// Of two files for one content the one that counts: what is whole, or else has more.
fn rank(kept: Kept) -> (bool, u64) {
    (matches!(kept, Kept::Whole(_)), kept.bytes())
}

/// The content of a file, and how much of it is kept if it is not whole.
fn read_name(name: &str) -> Option<(ContentDigest, Option<u64>)> {
    match name.split_once('.') {
        None => Some((name.parse().ok()?, None)),
        Some((digest, rest)) => Some((digest.parse().ok()?, Some(rest.strip_suffix(".part")?.parse().ok()?))),
    }
}

fn make(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(folder)
}

/// Lets the owner alone read a file that is made.
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options
}

/// What is in a folder; nothing if it is not there.
fn entries(folder: &Path) -> io::Result<impl Iterator<Item = io::Result<fs::DirEntry>>> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(Some(entries).into_iter().flatten()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None.into_iter().flatten()),
        Err(error) => Err(error),
    }
}

fn there_or_not(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
