//! What every artifact store does, and what a part may not do.

mod given_up;
#[cfg(all(unix, feature = "postgres"))]
#[path = "../../tests/postgres/mod.rs"]
mod postgres;
#[cfg(all(unix, feature = "postgres"))]
mod shared;

use std::sync::Arc;

use bytes::Bytes;
use eap_types::{AgentId, ContentDigest, TaskId};

use super::{
    ArtifactKey, ArtifactStore, Begun, FolderArtifacts, Kept, MemoryArtifacts, Received, Receiving, Shelf, Span,
};
use crate::config::Capacity;
use crate::error::Error;

fn key(content: &[u8]) -> ArtifactKey {
    ArtifactKey::new(TaskId::from_bytes([7; 16]), 1, ContentDigest::of(content))
}

/// A store of each kind, empty, and what they stand on.
async fn stores() -> (Ground, Vec<Arc<dyn ArtifactStore>>) {
    let dir = tempfile::tempdir().unwrap();
    let folder = FolderArtifacts::open(dir.path().join("artifacts")).unwrap();
    #[cfg_attr(not(all(unix, feature = "postgres")), expect(unused_mut, reason = "there is one more with it"))]
    let mut stores: Vec<Arc<dyn ArtifactStore>> = vec![Arc::new(folder), Arc::new(MemoryArtifacts::new())];
    #[cfg(all(unix, feature = "postgres"))]
    let database = postgres::is_there().then(postgres::Schema::new);
    #[cfg(all(unix, feature = "postgres"))]
    if let Some(schema) = &database {
        stores.push(Arc::new(shared::open(schema).await.artifacts()));
    }
    let ground = Ground {
        _dir: dir,
        #[cfg(all(unix, feature = "postgres"))]
        _database: database,
    };
    (ground, stores)
}

struct Ground {
    _dir: tempfile::TempDir,
    #[cfg(all(unix, feature = "postgres"))]
    _database: Option<postgres::Schema>,
}

#[tokio::test]
async fn what_is_kept_grows_until_it_is_whole_and_goes_when_it_is_removed() {
    let (_ground, stores) = stores().await;
    for store in stores {
        let key = key(b"content");
        let of_attempt = async || store.of_attempt(key.task, key.attempt).await.unwrap();
        assert_eq!(of_attempt().await, []);
        store.write(key, 0, 0, Bytes::from("conXX")).await.unwrap();
        store.keep(key, 0, 3).await.unwrap();
        assert_eq!(of_attempt().await, [(key.digest, Kept::Part(3))], "{store:?}");
        assert_eq!(store.read(key, Kept::Part(3), 1, 9).await.unwrap(), "on");
        store.write(key, 3, 3, Bytes::from("te")).await.unwrap();
        store.write(key, 3, 5, Bytes::from("nt and more")).await.unwrap();
        store.complete(key, 3, 7).await.unwrap();
        assert_eq!(of_attempt().await, [(key.digest, Kept::Whole(7))], "{store:?}");
        assert_eq!(store.read(key, Kept::Whole(7), 0, 100).await.unwrap(), "content");
        assert_eq!(store.read(key, Kept::Whole(7), 4, 2).await.unwrap(), "en");
        assert_eq!(store.read(key, Kept::Whole(7), 7, 2).await.unwrap(), "");
        let other = ArtifactKey { attempt: 2, ..key };
        store.write(other, 0, 0, Bytes::from("x")).await.unwrap();
        store.keep(other, 0, 1).await.unwrap();
        let mut found = store.shard(7).await.unwrap();
        found.iter_mut().for_each(|(_, attempts)| attempts.sort_unstable());
        assert_eq!(found, [(key.task, vec![1, 2])]);
        assert_eq!(store.shard(8).await.unwrap(), []);
        store.remove(key).await.unwrap();
        store.remove(key).await.unwrap();
        assert_eq!(of_attempt().await, []);
        store.remove_attempt(key.task, 1).await.unwrap();
        store.remove_attempt(key.task, 2).await.unwrap();
        store.remove_attempt(key.task, 2).await.unwrap();
        assert_eq!(store.shard(7).await.unwrap(), [], "{store:?}");
    }
}

fn agent() -> AgentId {
    "agent-1".parse().unwrap()
}

async fn begin(shelf: &Arc<Shelf>, key: ArtifactKey, from: u64, to: u64, total: u64) -> Result<Receiving, Error> {
    match shelf.begin(&agent(), key, Span { from, to, total }, &Capacity::default()).await? {
        Begun::Receiving(receiving) => Ok(*receiving),
        Begun::Whole => panic!("it is whole already"),
    }
}

async fn send(shelf: &Arc<Shelf>, key: ArtifactKey, from: u64, part: &[u8], total: u64) -> Result<Received, Error> {
    let mut receiving = begin(shelf, key, from, from + part.len() as u64, total).await?;
    receiving.take(&Bytes::copy_from_slice(part)).await?;
    receiving.finish(ContentDigest::of(part)).await
}

#[tokio::test]
async fn an_upload_goes_on_after_a_start_and_is_checked_as_a_whole() {
    let (_ground, stores) = stores().await;
    for store in stores {
        let key = key(b"content");
        let shelf = Arc::new(Shelf::new(Arc::clone(&store)));
        assert_eq!(send(&shelf, key, 0, b"con", 7).await.unwrap(), Received::Part(3));
        let shelf = Arc::new(Shelf::new(Arc::clone(&store)));
        assert_eq!(shelf.kept(key).await.unwrap(), Some(Kept::Part(3)));
        assert!(matches!(send(&shelf, key, 0, b"con", 7).await, Err(Error::UploadOffset { kept: 3 })));
        assert_eq!(send(&shelf, key, 3, b"tent", 7).await.unwrap(), Received::Whole);
        assert_eq!(shelf.kept(key).await.unwrap(), Some(Kept::Whole(7)));
        let again = shelf.begin(&agent(), key, Span { from: 0, to: 7, total: 7 }, &Capacity::default()).await.unwrap();
        assert!(matches!(again, Begun::Whole), "a repeat of what is whole is whole");
    }
}

#[tokio::test]
async fn content_that_is_not_what_it_was_called_is_not_kept() {
    let (_ground, stores) = stores().await;
    for store in stores {
        let shelf = Arc::new(Shelf::new(store));
        let key = key(b"content");
        send(&shelf, key, 0, b"con", 7).await.unwrap();
        assert!(matches!(send(&shelf, key, 3, b"TENT", 7).await, Err(Error::DigestMismatch { .. })));
        assert_eq!(shelf.kept(key).await.unwrap(), None, "nobody knows which part was wrong");
        let mut receiving = begin(&shelf, key, 0, 3, 7).await.unwrap();
        receiving.take(&Bytes::from("con")).await.unwrap();
        assert!(matches!(receiving.finish(ContentDigest::of(b"other")).await, Err(Error::DigestMismatch { .. })));
        assert_ne!(shelf.kept(key).await.unwrap().map(Kept::bytes), Some(3));
        let mut receiving = begin(&shelf, key, 0, 3, 7).await.unwrap();
        assert!(matches!(receiving.take(&Bytes::from("cont")).await, Err(Error::UploadLength)));
        drop(receiving);
        let receiving = begin(&shelf, key, 0, 3, 7).await.unwrap();
        assert!(matches!(receiving.finish(ContentDigest::of(b"")).await, Err(Error::UploadLength)));
    }
}

#[tokio::test]
async fn one_part_at_a_time_and_no_more_of_them_than_an_agent_may_send() {
    let shelf = Arc::new(Shelf::new(Arc::new(MemoryArtifacts::new())));
    let first = begin(&shelf, key(b"a"), 0, 1, 1).await.unwrap();
    assert!(matches!(begin(&shelf, key(b"a"), 0, 1, 1).await, Err(Error::TooMany { .. })));
    let mut others = Vec::new();
    for content in [b"b", b"c", b"d"] {
        others.push(begin(&shelf, key(content), 0, 1, 1).await.unwrap());
    }
    assert!(matches!(begin(&shelf, key(b"e"), 0, 1, 1).await, Err(Error::TooMany { .. })));
    assert_eq!(shelf.open(), 4);
    drop((first, others));
    assert_eq!(shelf.open(), 0);
    send(&shelf, key(b"a"), 0, b"a", 1).await.unwrap();
}

#[tokio::test]
async fn what_an_attempt_may_hold_has_an_end() {
    let shelf = Arc::new(Shelf::new(Arc::new(MemoryArtifacts::new())));
    let capacity = Capacity { artifact_bytes_per_attempt: 10, ..Capacity::default() };
    let begin = async |content: &[u8], to| {
        shelf.begin(&agent(), key(content), Span { from: 0, to, total: 20 }, &capacity).await.map(drop)
    };
    begin(b"a", 8).await.unwrap();
    assert!(matches!(begin(b"b", 3).await, Err(Error::UploadsFull { .. })), "what was given up still takes room");
    begin(b"b", 2).await.unwrap();
    for number in 0..98_u32 {
        begin(&number.to_le_bytes(), 0).await.unwrap();
    }
    assert!(matches!(begin(b"one too many", 0).await, Err(Error::UploadsFull { .. })));
}

#[tokio::test]
async fn a_store_takes_no_more_than_it_may_until_some_is_gone() {
    let (_ground, stores) = stores().await;
    for store in stores {
        let shelf = Arc::new(Shelf::new(Arc::clone(&store)));
        let capacity = Capacity { artifact_bytes_in_all: 10, ..Capacity::default() };
        let begin = async |key, to| shelf.begin(&agent(), key, Span { from: 0, to, total: to }, &capacity).await;
        let first = key(b"content");
        let Ok(Begun::Receiving(mut receiving)) = begin(first, 7).await else { panic!("there is room") };
        receiving.take(&Bytes::from("content")).await.unwrap();
        receiving.finish(ContentDigest::of(b"content")).await.unwrap();
        assert!(matches!(begin(key(b"else"), 4).await, Err(Error::Busy { .. })), "{store:?}");
        // Parts that break off take no room.
        for _ in 0..5 {
            assert!(matches!(begin(key(b"odd"), 3).await, Ok(Begun::Receiving(_))), "{store:?}");
        }
        assert!(matches!(begin(key(b"odd"), 3).await, Ok(Begun::Receiving(_))), "{store:?}");
        shelf.remove_attempt(first.task, first.attempt).await.unwrap();
        shelf.counted(7, 0);
        assert!(matches!(begin(key(b"else"), 4).await, Ok(Begun::Receiving(_))), "{store:?}");
    }
}

#[tokio::test]
async fn memory_holds_so_much_and_no_more() {
    let store = MemoryArtifacts::of_at_most(10);
    let write = async |content: &'static [u8]| store.write(key(content), 0, 0, Bytes::from_static(content)).await;
    write(b"content").await.unwrap();
    write(b"content").await.unwrap();
    assert_eq!(write(b"else").await.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    store.remove(key(b"content")).await.unwrap();
    write(b"else").await.unwrap();
}
