//! Artifacts in the schema of a store, so that replicas need no folder that they share.
//!
//! How much is kept of a content stands in one row, its bytes in pieces below it. Whoever begins a part takes that row over;
//! whoever goes on with it says what was kept when it was begun, and that it is its own still. Where that does not hold any
//! more, another replica is at it, and nothing is changed.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use eap_types::{ContentDigest, TaskId};
use futures_util::future::BoxFuture;
use sqlx::postgres::PgRow;
use tokio::time::timeout;

use super::database::{Database, Transaction};
use super::fault::Fault;
use super::values::{arguments, bytes as fixed, count, integer, number_of, small};
use crate::artifacts::{ArtifactKey, ArtifactStore, Kept, PIECE, shard_of};
use crate::clock::{Entropy, SystemEntropy};
use crate::store::StoreError;

/// Makes the row of a content of which nothing is kept.
const INSERT: &str = "INSERT INTO eap.artifact (shard, task, attempt, digest, kept, is_whole, writer) \
     VALUES ($1, $2, $3, $4, 0, false, $5) ON CONFLICT (shard, task, attempt, digest) DO NOTHING";

/// Takes the row over. What is written counts with the commit that keeps it, which brings all before it to the disk: this
/// one need not wait for that.
const TAKE_OVER: &str = "UPDATE eap.artifact SET writer = $5 \
     WHERE shard = $1 AND task = $2 AND attempt = $3 AND digest = $4 AND kept = $6 AND NOT is_whole \
     RETURNING number, set_config('synchronous_commit', 'off', true)";

/// Holds the row for as long as a piece is written below it.
const GO_ON: &str = "SELECT number, set_config('synchronous_commit', 'off', true) FROM eap.artifact \
     WHERE shard = $1 AND task = $2 AND attempt = $3 AND digest = $4 AND writer = $5 AND kept = $6 AND NOT is_whole \
     FOR SHARE";

const KEEP: &str = "UPDATE eap.artifact SET kept = $7, is_whole = $8 \
     WHERE shard = $1 AND task = $2 AND attempt = $3 AND digest = $4 AND writer = $5 AND kept = $6 AND NOT is_whole \
     RETURNING number";

/// How many bytes are written behind what was kept, and where they end.
const WRITTEN: &str = "SELECT coalesce(sum(octet_length(bytes)), 0)::int8, coalesce(max(place + octet_length(bytes)), $2) \
     FROM eap.artifact_piece WHERE artifact = $1 AND place >= $2";

/// The bytes from one place to another of what is kept, in order; a row without any where there are none, and no row where
/// that is not what is kept.
const READ: &str = "SELECT substring(p.bytes FROM (greatest($7 - p.place, 0) + 1)::int4 \
         FOR greatest($8 - greatest(p.place, $7), 0)::int4) \
     FROM eap.artifact a LEFT JOIN eap.artifact_piece p ON p.artifact = a.number AND p.place > $7 - $9 AND p.place < $8 \
     WHERE a.shard = $1 AND a.task = $2 AND a.attempt = $3 AND a.digest = $4 AND a.kept = $5 AND a.is_whole = $6 \
     ORDER BY p.place";

/// Artifacts in the schema of a [`PostgresStore`](crate::store::PostgresStore), by its connections: any number of
/// orchestrators over it share them.
///
/// Made by [`PostgresStore::artifacts`](crate::store::PostgresStore::artifacts). Each is one writer of its own.
#[derive(Clone, Debug)]
pub struct PostgresArtifacts {
    database: Arc<Database>,
    writer: i64,
}

impl PostgresArtifacts {
    pub(super) fn new(database: Arc<Database>) -> Self {
        let mut random = [0; 8];
        SystemEntropy.fill(&mut random);
        Self { database, writer: i64::from_ne_bytes(random) }
    }

    async fn rows(&self, sql: &str, arguments: sqlx::postgres::PgArguments) -> io::Result<Vec<PgRow>> {
        self.database.rows(sql, arguments).await.map_err(told)
    }

    /// Writes in one transaction: all of it, or nothing.
    async fn transact<T>(
        &self,
        work: impl for<'t> FnOnce(&'t mut Transaction<'_>) -> BoxFuture<'t, Result<T, Fault>>,
    ) -> io::Result<T> {
        let mut loan = self.database.acquire_aside().await.map_err(told)?;
        let whole = async {
            let mut transaction = self.database.begin(&mut loan).await?;
            match work(&mut transaction).await {
                Ok(done) => transaction.commit().await.map(|()| done),
                Err(fault) => Err(transaction.rollback(fault).await),
            }
        };
        let outcome = timeout(self.database.transaction_limit(), whole).await.unwrap_or_else(|_| Err(Fault::late()));
        self.database.give_back(loan, outcome.as_ref().err());
        outcome.map_err(told)
    }

    /// Has the first `now` bytes counted in the place of the first `kept`.
    async fn count(&self, key: ArtifactKey, kept: u64, now: u64, is_whole: bool) -> io::Result<()> {
        let writer = self.writer;
        let is_ours = self.transact(|transaction| {
            Box::pin(async move {
                let (kept, now) = (place(kept)?, place(now)?);
                let (shard, task, attempt, digest) = columns(&key);
                let arguments = arguments![shard, task, attempt, digest, writer, kept, now, is_whole];
                let Some(row) = transaction.row(KEEP, arguments).await? else { return Ok(false) };
                let number = integer(&row, 0)?;
                let (mut bytes, end) = written(transaction, number, kept).await?;
                if end > now {
                    cut(transaction, number, now).await?;
                    (bytes, _) = written(transaction, number, kept).await?;
                }
                if bytes == now - kept { Ok(true) } else { Err(Fault::nonsense("not all that was written is there")) }
            })
        });
        ours(is_ours.await?)
    }

    async fn remove_all(&self, task: TaskId, attempt: u32, digest: Option<ContentDigest>) -> io::Result<()> {
        self.transact(|transaction| {
            Box::pin(async move {
                let sql = "DELETE FROM eap.artifact WHERE shard = $1 AND task = $2 AND attempt = $3 \
                     AND ($4::bytea IS NULL OR digest = $4) RETURNING number";
                let digest = digest.as_ref().map(|digest| &digest.as_bytes()[..]);
                let arguments = arguments![i64::from(shard_of(task)), &task.as_bytes()[..], small(attempt), digest];
                let rows = transaction.rows(sql, arguments).await?;
                let numbers: Vec<i64> = rows.iter().map(|row| integer(row, 0)).collect::<Result<_, _>>()?;
                // A statement of its own: it sees what was written until the rows were ours.
                let sql = "DELETE FROM eap.artifact_piece WHERE artifact = ANY($1)";
                if numbers.is_empty() { Ok(0) } else { transaction.execute(sql, arguments![numbers]).await }
            })
        })
        .await
        .map(drop)
    }
}

#[async_trait]
impl ArtifactStore for PostgresArtifacts {
    fn is_shared(&self) -> bool {
        true
    }

    async fn of_attempt(&self, task: TaskId, attempt: u32) -> io::Result<Vec<(ContentDigest, Kept)>> {
        let sql = "SELECT digest, kept, is_whole FROM eap.artifact WHERE shard = $1 AND task = $2 AND attempt = $3";
        let arguments = || Ok(arguments![i64::from(shard_of(task)), &task.as_bytes()[..], small(attempt)]);
        let rows = self.rows(sql, arguments().map_err(told)?).await?;
        let kept = rows.iter().map(|row| {
            let bytes = count(row, 1)?;
            let kept = if sqlx::Row::try_get(row, 2)? { Kept::Whole(bytes) } else { Kept::Part(bytes) };
            Ok((ContentDigest::from_bytes(fixed(row, 0)?), kept))
        });
        kept.collect::<Result<_, _>>().map_err(told)
    }

    async fn write(&self, key: ArtifactKey, kept: u64, at: u64, bytes: Bytes) -> io::Result<()> {
        let writer = self.writer;
        let is_ours = self.transact(|transaction| {
            Box::pin(async move {
                let (kept, at) = (place(kept)?, place(at)?);
                let (shard, task, attempt, digest) = columns(&key);
                if at == 0 {
                    transaction.execute(INSERT, arguments![shard, task, attempt, digest, writer]).await?;
                }
                let sql = if at == kept { TAKE_OVER } else { GO_ON };
                let row = transaction.row(sql, arguments![shard, task, attempt, digest, writer, kept]).await?;
                let Some(row) = row else { return Ok(false) };
                let number = integer(&row, 0)?;
                if at == kept {
                    cut(transaction, number, kept).await?;
                }
                let pieces: Vec<&[u8]> = bytes.chunks(PIECE).collect();
                let places: Vec<i64> = (at..).step_by(PIECE).take(pieces.len()).collect();
                let sql = "INSERT INTO eap.artifact_piece (artifact, place, bytes) \
                     SELECT $1, p.place, p.bytes FROM unnest($2::int8[], $3::bytea[]) AS p (place, bytes)";
                transaction.execute(sql, arguments![number, places, pieces]).await?;
                Ok(true)
            })
        });
        ours(is_ours.await?)
    }

    async fn keep(&self, key: ArtifactKey, kept: u64, now: u64) -> io::Result<()> {
        self.count(key, kept, now, false).await
    }

    async fn complete(&self, key: ArtifactKey, kept: u64, size: u64) -> io::Result<()> {
        self.count(key, kept, size, true).await
    }

    async fn read(&self, key: ArtifactKey, kept: Kept, at: u64, most: usize) -> io::Result<Bytes> {
        let arguments = || {
            let end = place(kept.bytes().min(at.saturating_add(most as u64)))?;
            let (shard, task, attempt, digest) = columns(&key);
            let (all, is_whole) = (place(kept.bytes())?, matches!(kept, Kept::Whole(_)));
            Ok(arguments![shard, task, attempt, digest, all, is_whole, place(at)?, end, place(PIECE as u64)?])
        };
        let rows = self.rows(READ, arguments().map_err(told)?).await?;
        if rows.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut read = BytesMut::new();
        for row in &rows {
            let piece: Option<&[u8]> = sqlx::Row::try_get(row, 0).map_err(|error| told(error.into()))?;
            read.extend_from_slice(piece.unwrap_or_default());
        }
        Ok(read.freeze())
    }

    async fn remove(&self, key: ArtifactKey) -> io::Result<()> {
        self.remove_all(key.task, key.attempt, Some(key.digest)).await
    }

    async fn remove_attempt(&self, task: TaskId, attempt: u32) -> io::Result<()> {
        self.remove_all(task, attempt, None).await
    }

    async fn shard(&self, shard: u8) -> io::Result<Vec<(TaskId, Vec<u32>)>> {
        let sql = "SELECT DISTINCT task, attempt FROM eap.artifact WHERE shard = $1 ORDER BY task, attempt";
        let arguments = || Ok(arguments![i64::from(shard)]);
        let mut tasks = Vec::<(TaskId, Vec<u32>)>::new();
        for row in self.rows(sql, arguments().map_err(told)?).await? {
            let task = TaskId::from_bytes(fixed(&row, 0).map_err(told)?);
            let attempt = number_of(&row, 1).map_err(told)?;
            match tasks.last_mut() {
                Some((last, attempts)) if *last == task => attempts.push(attempt),
                _ => tasks.push((task, vec![attempt])),
            }
        }
        Ok(tasks)
    }
}

/// What a content is found by.
fn columns(key: &ArtifactKey) -> (i64, &[u8], i64, &[u8]) {
    (i64::from(shard_of(key.task)), key.task.as_bytes(), small(key.attempt), key.digest.as_bytes())
}

async fn written(transaction: &mut Transaction<'_>, artifact: i64, from: i64) -> Result<(i64, i64), Fault> {
    let row = transaction.row(WRITTEN, arguments![artifact, from]).await?;
    let row = row.ok_or_else(|| Fault::nonsense("a sum has no row"))?;
    Ok((integer(&row, 0)?, integer(&row, 1)?))
}

/// Lets nothing stand from `end` on.
async fn cut(transaction: &mut Transaction<'_>, artifact: i64, end: i64) -> Result<(), Fault> {
    let sql = "DELETE FROM eap.artifact_piece WHERE artifact = $1 AND place >= $2";
    transaction.execute(sql, arguments![artifact, end]).await?;
    let sql = "UPDATE eap.artifact_piece SET bytes = substring(bytes FROM 1 FOR ($2 - place)::int4) \
         WHERE artifact = $1 AND place > $2 - $3 AND place < $2 AND place + octet_length(bytes) > $2";
    transaction.execute(sql, arguments![artifact, end, place(PIECE as u64)?]).await.map(drop)
}

fn place(bytes: u64) -> Result<i64, Fault> {
    i64::try_from(bytes).map_err(Fault::nonsense)
}

/// What is not ours is for another process to go on with.
fn ours(is_ours: bool) -> io::Result<()> {
    if is_ours { Ok(()) } else { Err(io::ErrorKind::ResourceBusy.into()) }
}

fn told(fault: Fault) -> io::Error {
    match StoreError::from(fault) {
        error @ StoreError::Full { .. } => io::Error::new(io::ErrorKind::StorageFull, error),
        error => io::Error::other(error),
    }
}
