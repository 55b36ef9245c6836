//! Several orchestrators over one store of artifacts: parts of one upload come to each of them.

use std::sync::Arc;

use bytes::Bytes;
use eap_types::ContentDigest;

use super::postgres::{Schema, is_there};
use super::{begin, key, send};
use crate::artifacts::{ArtifactStore, Kept, PIECE, Received, Shelf};
use crate::error::Error;
use crate::store::{PostgresOptions, PostgresStore};

/// A store in a schema, which need not outlive its artifacts.
pub(super) async fn open(schema: &Schema) -> PostgresStore {
    let options = PostgresOptions::default().with_schema(schema.name()).with_max_connections(4);
    PostgresStore::connect(schema.url(), options).await.expect("a store opens")
}

/// Two orchestrators' shelves, each with connections of its own, and what is below them.
async fn replicas(schema: &Schema) -> ([Arc<Shelf>; 2], Arc<dyn ArtifactStore>) {
    let store: Arc<dyn ArtifactStore> = Arc::new(open(schema).await.artifacts());
    let other = Arc::new(open(schema).await.artifacts());
    ([Arc::new(Shelf::new(Arc::clone(&store))), Arc::new(Shelf::new(other))], store)
}

/// So many bytes, no two stretches of them alike.
fn content(length: usize) -> Bytes {
    (0..length).map(|place| (place * 31 % 251) as u8 ^ (place >> 8) as u8).collect::<Vec<_>>().into()
}

#[tokio::test]
async fn parts_that_come_to_one_and_then_the_other_make_one_whole() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let (shelves, store) = replicas(&schema).await;
    let content = content(3 * PIECE + 1_000);
    let (key, total) = (key(&content), content.len() as u64);
    // No part ends where a piece does.
    let part = PIECE / 2 + 7;
    for (number, from) in (0..content.len()).step_by(part).enumerate() {
        let to = (from + part).min(content.len());
        let received = send(&shelves[number % 2], key, from as u64, &content[from..to], total).await.unwrap();
        let is_last = to == content.len();
        assert_eq!(received, if is_last { Received::Whole } else { Received::Part(to as u64) });
        let kept = if is_last { Kept::Whole(total) } else { Kept::Part(to as u64) };
        for shelf in &shelves {
            assert_eq!(shelf.kept(key).await.unwrap(), Some(kept), "each knows what the other has kept");
        }
    }
    let mut read = Vec::new();
    while read.len() < content.len() {
        read.extend_from_slice(&shelves[1].read(key, total, read.len() as u64).await.unwrap());
    }
    assert_eq!(ContentDigest::of(&read), key.digest);
    let middle = store.read(key, Kept::Whole(total), 100, content.len() - 200).await.unwrap();
    assert_eq!(middle, content[100..content.len() - 100]);
}

#[tokio::test]
async fn of_two_that_receive_the_same_part_one_keeps_it_and_the_other_nothing() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let ([one, other], store) = replicas(&schema).await;
    let content = content(4 * PIECE);
    let (key, total) = (key(&content), content.len() as u64);
    let half = content.len() / 2;
    // Its sender lost the connection, and comes to the other before the first has noticed.
    let mut slow = begin(&one, key, 0, total, total).await.unwrap();
    slow.take(&content.slice(..half)).await.unwrap();
    let mut quick = begin(&other, key, 0, total, total).await.unwrap();
    quick.take(&content.slice(..half)).await.unwrap();
    let late = slow.take(&content.slice(half..)).await;
    assert!(matches!(late, Err(Error::TooMany { .. })), "{late:?}");
    drop(slow);
    quick.take(&content.slice(half..)).await.unwrap();
    assert_eq!(quick.finish(key.digest).await.unwrap(), Received::Whole);
    assert_eq!(store.read(key, Kept::Whole(total), 0, content.len()).await.unwrap(), content);

    // The same once one of them has kept it already.
    let small = super::key(b"content");
    let mut slow = begin(&one, small, 0, 7, 7).await.unwrap();
    slow.take(&Bytes::from("content")).await.unwrap();
    assert_eq!(send(&other, small, 0, b"content", 7).await.unwrap(), Received::Whole);
    let late = slow.finish(small.digest).await;
    assert!(matches!(late, Err(Error::TooMany { .. })), "{late:?}");
    assert_eq!(one.kept(small).await.unwrap(), Some(Kept::Whole(7)));
}

#[tokio::test]
async fn what_one_removes_the_other_begins_anew() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let ([one, other], _store) = replicas(&schema).await;
    let key = key(b"content");
    send(&one, key, 0, b"con", 7).await.unwrap();
    assert!(matches!(send(&other, key, 3, b"TENT", 7).await, Err(Error::DigestMismatch { .. })));
    assert!(matches!(send(&one, key, 3, b"tent", 7).await, Err(Error::UploadOffset { kept: 0 })));
    assert_eq!(send(&one, key, 0, b"content", 7).await.unwrap(), Received::Whole);
}

#[tokio::test]
async fn what_one_sweeps_counts_nowhere_and_what_came_after_that_is_swept_again() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let ([one, other], store) = replicas(&schema).await;
    let (named, odd) = (key(b"content"), key(b"odd"));
    send(&one, named, 0, b"content", 7).await.unwrap();
    send(&one, odd, 0, b"o", 3).await.unwrap();
    let mut late = begin(&other, odd, 1, 3, 3).await.unwrap();
    // The result came, and names one of them.
    one.settle(named.task, named.attempt, &[named.digest]).await.unwrap();
    assert!(one.is_settled(named.task, named.attempt));
    late.take(&Bytes::from("dd")).await.unwrap();
    assert!(matches!(late.finish(ContentDigest::of(b"dd")).await, Err(Error::TooMany { .. })), "it is gone");
    assert_eq!(store.of_attempt(named.task, named.attempt).await.unwrap(), [(named.digest, Kept::Whole(7))]);

    // One that began before the result came may write its first part after that.
    assert_eq!(send(&other, odd, 0, b"odd", 3).await.unwrap(), Received::Whole);
    assert_eq!(one.bytes_of(named.task, named.attempt).await.unwrap(), 10);
    assert!(!one.is_settled(named.task, named.attempt), "there is more than was settled");
    one.settle(named.task, named.attempt, &[named.digest]).await.unwrap();
    assert_eq!(one.bytes_of(named.task, named.attempt).await.unwrap(), 7);
    assert!(one.is_settled(named.task, named.attempt));

    one.remove_attempt(named.task, named.attempt).await.unwrap();
    assert_eq!(other.kept(named).await.unwrap(), None);
    assert_eq!(store.shard(7).await.unwrap(), []);
}
