//! Where uploaded artifacts are kept: the [`ArtifactStore`] contract, a folder, memory and PostgreSQL.
//!
//! Content is kept by its digest, below the attempt that it was uploaded for; what it is called stands in the result
//! alone. So nothing that an agent chose becomes the name of a file.

mod folder;
mod memory;
mod names;
mod receiving;
mod shelf;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use eap_types::{ContentDigest, TaskId};

pub use self::folder::FolderArtifacts;
pub use self::memory::MemoryArtifacts;
pub(crate) use self::receiving::{Begun, Received, Receiving};
pub(crate) use self::shelf::{Shelf, Span};
#[cfg(feature = "postgres")]
pub use crate::store::postgres::PostgresArtifacts;

/// Into how many shards the tasks are parted, by the last byte of their ids.
pub const SHARDS: u16 = 256;

/// How much is read or written at once, in bytes.
pub(crate) const PIECE: usize = 256 * 1024;

/// Which content: what it is, and the attempt it was uploaded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct ArtifactKey {
    /// The task.
    pub task: TaskId,
    /// Its attempt.
    pub attempt: u32,
    /// SHA-256 of the whole content, as its uploader announced it.
    pub digest: ContentDigest,
}

impl ArtifactKey {
    /// Names content.
    #[must_use]
    pub fn new(task: TaskId, attempt: u32, digest: ContentDigest) -> Self {
        Self { task, attempt, digest }
    }
}

/// How much of some content is kept, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Its beginning.
    Part(u64),
    /// All of it.
    Whole(u64),
}

impl Kept {
    /// The bytes that are kept.
    #[must_use]
    pub fn bytes(self) -> u64 {
        match self {
            Self::Part(bytes) | Self::Whole(bytes) => bytes,
        }
    }
}

/// Storage for uploaded artifacts.
///
/// # Contract
///
/// - **Kept is kept.** What [`keep`](ArtifactStore::keep) and [`complete`](ArtifactStore::complete) acknowledged survives
///   whatever the back end promises to survive (a folder: kill -9 at any instruction, and loss of power).
/// - **Written is not kept.** Bytes that were written and not kept may be there or not after a crash; they are never
///   counted, and the next write at their place replaces them.
/// - **One writer.** The caller never has two calls about one [`ArtifactKey`] under way that change it. Where other processes
///   write as well, the one that began last goes on, and what is kept never comes of two: a call whose `kept` is no longer
///   what is kept, or which goes on with what another process took over, changes nothing and fails with
///   [`ErrorKind::ResourceBusy`](io::ErrorKind::ResourceBusy).
/// - Removing what is not there is `Ok`.
///
/// No method has a default body: a forgotten one is a compile error, not a wrong answer.
#[async_trait]
pub trait ArtifactStore: fmt::Debug + Send + Sync + 'static {
    /// Whether other orchestrators use it as well: then what one of them knows of it may be out of date, and is asked for
    /// anew.
    fn is_shared(&self) -> bool;

    /// What is kept of the uploads for an attempt, each content once. A call that changes it may have failed or be under
    /// way: what is said here is as safe as if that had been acknowledged.
    async fn of_attempt(&self, task: TaskId, attempt: u32) -> io::Result<Vec<(ContentDigest, Kept)>>;

    /// Writes bytes at the place `at`, not before `kept`, which is how much is kept. Those at `kept` begin a part, those
    /// behind them go on with it.
    async fn write(&self, key: ArtifactKey, kept: u64, at: u64, bytes: Bytes) -> io::Result<()>;

    /// Keeps the first `now` bytes, in the place of the first `kept`.
    async fn keep(&self, key: ArtifactKey, kept: u64, now: u64) -> io::Result<()>;

    /// Keeps `size` bytes, in the place of the first `kept`, as the whole.
    async fn complete(&self, key: ArtifactKey, kept: u64, size: u64) -> io::Result<()>;

    /// Reads at most `most` bytes of what is kept from the place `at` on; fewer at its end.
    async fn read(&self, key: ArtifactKey, kept: Kept, at: u64, most: usize) -> io::Result<Bytes>;

    /// Removes one upload, whole or not.
    async fn remove(&self, key: ArtifactKey) -> io::Result<()>;

    /// Removes all uploads for an attempt.
    async fn remove_attempt(&self, task: TaskId, attempt: u32) -> io::Result<()>;

    /// The tasks of a shard and their attempts for which there is anything.
    async fn shard(&self, shard: u8) -> io::Result<Vec<(TaskId, Vec<u32>)>>;
}

/// The shard that a task belongs to.
pub(crate) fn shard_of(task: TaskId) -> u8 {
    task.as_bytes()[15]
}
