//! Parts whose sender went while the store was at work, and what the sweeper does meanwhile.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use eap_types::{ContentDigest, TaskId};
use tokio::sync::Semaphore;

use super::{begin, key, send, stores};
use crate::artifacts::{ArtifactKey, ArtifactStore, FolderArtifacts, Kept, MemoryArtifacts, PIECE, Received, Shelf};
use crate::config::Access;
use crate::error::Error;
use crate::orchestrator::Orchestrator;

/// A store whose writes and shards wait for a permit each, as on a disk that is slow.
#[derive(Debug)]
struct Slow {
    store: MemoryArtifacts,
    permits: Arc<Semaphore>,
}

impl Slow {
    async fn waited(&self) -> io::Result<()> {
        self.permits.acquire().await.map_err(io::Error::other)?.forget();
        Ok(())
    }
}

#[async_trait]
impl ArtifactStore for Slow {
    fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    async fn of_attempt(&self, task: TaskId, attempt: u32) -> io::Result<Vec<(ContentDigest, Kept)>> {
        self.store.of_attempt(task, attempt).await
    }

    async fn write(&self, key: ArtifactKey, kept: u64, at: u64, bytes: Bytes) -> io::Result<()> {
        self.waited().await?;
        self.store.write(key, kept, at, bytes).await
    }

    async fn keep(&self, key: ArtifactKey, kept: u64, now: u64) -> io::Result<()> {
        self.store.keep(key, kept, now).await
    }

    async fn complete(&self, key: ArtifactKey, kept: u64, size: u64) -> io::Result<()> {
        self.store.complete(key, kept, size).await
    }

    async fn read(&self, key: ArtifactKey, kept: Kept, at: u64, most: usize) -> io::Result<Bytes> {
        self.store.read(key, kept, at, most).await
    }

    async fn remove(&self, key: ArtifactKey) -> io::Result<()> {
        self.store.remove(key).await
    }

    async fn remove_attempt(&self, task: TaskId, attempt: u32) -> io::Result<()> {
        self.store.remove_attempt(task, attempt).await
    }

    async fn shard(&self, shard: u8) -> io::Result<Vec<(TaskId, Vec<u32>)>> {
        self.waited().await?;
        self.store.shard(shard).await
    }
}

#[tokio::test]
async fn a_part_that_is_given_up_keeps_its_turn_until_the_store_has_written() {
    let permits = Arc::new(Semaphore::new(0));
    let store = Slow { store: MemoryArtifacts::new(), permits: Arc::clone(&permits) };
    let shelf = Arc::new(Shelf::new(Arc::new(store)));
    let content = Bytes::from(vec![1; PIECE]);
    let (key, size) = (key(&content), PIECE as u64);
    let mut receiving = begin(&shelf, key, 0, size, size).await.unwrap();
    let taken = tokio::time::timeout(Duration::from_millis(1), receiving.take(&content)).await;
    assert!(taken.is_err(), "the store is slow");
    drop(receiving);
    assert!(matches!(begin(&shelf, key, 0, size, size).await, Err(Error::TooMany { .. })));
    assert_eq!(shelf.open(), 1);
    shelf.settle(key.task, key.attempt, &[]).await.unwrap();
    assert!(!shelf.is_settled(key.task, key.attempt), "what is being written is not there yet to be removed");

    permits.add_permits(10);
    shelf.at_rest().await;
    assert_eq!(shelf.open(), 0);
    assert_eq!(send(&shelf, key, 0, &content, size).await.unwrap(), Received::Whole);
}

#[tokio::test(start_paused = true)]
async fn uploads_that_cannot_be_looked_through_hold_up_neither_the_clock_nor_the_stop() {
    let store = Slow { store: MemoryArtifacts::new(), permits: Arc::new(Semaphore::new(0)) };
    let builder = Orchestrator::builder_in_memory().access(Access::Open).artifacts(Arc::new(store));
    let orchestrator = builder.build().unwrap();
    let _running = orchestrator.start().await.unwrap();
    let done = || orchestrator.lifecycle().metrics.sweeper.done.get();
    for _ in 0..60 {
        tokio::time::sleep(orchestrator.config().timing.sweep_interval).await;
    }
    assert!(done() >= 50, "{} rounds", done());
    assert!(!orchestrator.shutdown().await.writes_cut);
}

#[tokio::test]
async fn what_is_being_received_is_not_swept() {
    let (_ground, stores) = stores().await;
    for store in stores {
        let shelf = Arc::new(Shelf::new(store));
        let key = key(b"content");
        send(&shelf, key, 0, b"con", 7).await.unwrap();
        let mut receiving = begin(&shelf, key, 3, 7, 7).await.unwrap();
        shelf.settle(key.task, key.attempt, &[key.digest]).await.unwrap();
        assert!(!shelf.is_settled(key.task, key.attempt));
        shelf.remove_attempt(key.task, key.attempt).await.unwrap();
        receiving.take(&Bytes::from("tent")).await.unwrap();
        assert_eq!(receiving.finish(ContentDigest::of(b"tent")).await.unwrap(), Received::Whole);
        send(&shelf, super::key(b"other"), 0, b"other", 5).await.unwrap();
        shelf.settle(key.task, key.attempt, &[key.digest]).await.unwrap();
        assert!(shelf.is_settled(key.task, key.attempt));
        assert_eq!(shelf.kept(key).await.unwrap(), Some(Kept::Whole(7)));
        assert_eq!(shelf.kept(super::key(b"other")).await.unwrap(), None, "the result does not name it");
        assert!(matches!(begin(&shelf, super::key(b"new"), 0, 1, 1).await, Err(Error::LeaseLost { .. })));
        shelf.remove_attempt(key.task, key.attempt).await.unwrap();
        assert_eq!(shelf.kept(key).await.unwrap(), None);
    }
}

#[tokio::test]
async fn what_is_whole_counts_whatever_is_left_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(FolderArtifacts::open(dir.path().join("artifacts")).unwrap());
    let shelf = Arc::new(Shelf::new(Arc::<FolderArtifacts>::clone(&store)));
    let key = key(b"content");
    send(&shelf, key, 0, b"content", 7).await.unwrap();
    let attempt = dir.path().join("artifacts/07").join(key.task.to_string()).join("1");
    for part in ["0", "3"] {
        std::fs::write(attempt.join(format!("{}.{part}.part", key.digest)), "con").unwrap();
    }
    assert_eq!(store.of_attempt(key.task, 1).await.unwrap(), [(key.digest, Kept::Whole(7))]);
    shelf.settle(key.task, 1, &[key.digest]).await.unwrap();
    assert_eq!(shelf.kept(key).await.unwrap(), Some(Kept::Whole(7)));
    assert_eq!(store.read(key, Kept::Whole(7), 0, 9).await.unwrap(), "content");
}
