//! Artifacts in memory, for the store in memory: nothing survives the process.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use eap_types::{ContentDigest, TaskId};

use super::{ArtifactKey, ArtifactStore, Kept, shard_of};

/// Artifacts in memory, each held as long as its task; at most 1 GiB unless it is told otherwise.
pub struct MemoryArtifacts {
    contents: Mutex<BTreeMap<ArtifactKey, Content>>,
    most: usize,
}

impl Default for MemoryArtifacts {
    fn default() -> Self {
        Self::of_at_most(1024 * 1024 * 1024)
    }
}

struct Content {
    bytes: Vec<u8>,
    kept: Kept,
}

impl fmt::Debug for MemoryArtifacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryArtifacts").field("contents", &self.contents().len()).finish()
    }
}

impl MemoryArtifacts {
    /// Holds nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Holds nothing yet, and never more than `most` bytes.
    #[must_use]
    pub fn of_at_most(most: usize) -> Self {
        Self { contents: Mutex::default(), most }
    }

    fn contents(&self) -> MutexGuard<'_, BTreeMap<ArtifactKey, Content>> {
        // Each change is whole before anything could panic.
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self, key: &ArtifactKey, kept: Kept) -> io::Result<()> {
        let mut contents = self.contents();
        let content = contents.get_mut(key).ok_or(io::ErrorKind::NotFound)?;
        content.bytes.truncate(length(kept.bytes())?);
        content.kept = kept;
        Ok(())
    }
}

#[async_trait]
impl ArtifactStore for MemoryArtifacts {
    fn is_shared(&self) -> bool {
        false
    }

    async fn of_attempt(&self, task: TaskId, attempt: u32) -> io::Result<Vec<(ContentDigest, Kept)>> {
        let contents = self.contents();
        let of_attempt = contents.iter().filter(|(key, _)| (key.task, key.attempt) == (task, attempt));
        Ok(of_attempt.map(|(key, content)| (key.digest, content.kept)).collect())
    }

    async fn write(&self, key: ArtifactKey, _: u64, at: u64, bytes: Bytes) -> io::Result<()> {
        let mut contents = self.contents();
        let others = contents.iter().filter(|(other, _)| **other != key).map(|(_, content)| content.bytes.len());
        if others.sum::<usize>() + length(at)? + bytes.len() > self.most {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let content = contents.entry(key).or_insert_with(|| Content { bytes: Vec::new(), kept: Kept::Part(0) });
        content.bytes.resize(length(at)?, 0);
        content.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn keep(&self, key: ArtifactKey, _: u64, now: u64) -> io::Result<()> {
        self.settle(&key, Kept::Part(now))
    }

    async fn complete(&self, key: ArtifactKey, _: u64, size: u64) -> io::Result<()> {
        self.settle(&key, Kept::Whole(size))
    }

    async fn read(&self, key: ArtifactKey, kept: Kept, at: u64, most: usize) -> io::Result<Bytes> {
        let contents = self.contents();
        let content = contents.get(&key).filter(|content| content.kept == kept).ok_or(io::ErrorKind::NotFound)?;
        let kept = &content.bytes[..length(kept.bytes())?];
        let rest = kept.get(length(at)?..).unwrap_or_default();
        Ok(Bytes::copy_from_slice(&rest[..rest.len().min(most)]))
    }

    async fn remove(&self, key: ArtifactKey) -> io::Result<()> {
        self.contents().remove(&key);
        Ok(())
    }

    async fn remove_attempt(&self, task: TaskId, attempt: u32) -> io::Result<()> {
        self.contents().retain(|key, _| (key.task, key.attempt) != (task, attempt));
        Ok(())
    }

    async fn shard(&self, shard: u8) -> io::Result<Vec<(TaskId, Vec<u32>)>> {
        let mut tasks = BTreeMap::<TaskId, Vec<u32>>::new();
        for key in self.contents().keys().filter(|key| shard_of(key.task) == shard) {
            let attempts = tasks.entry(key.task).or_default();
            if attempts.last() != Some(&key.attempt) {
                attempts.push(key.attempt);
            }
        }
        Ok(tasks.into_iter().collect())
    }
}

fn length(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(io::Error::other)
}
