//! What is uploaded for the attempts that run, over the store that keeps it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use eap_types::limits::MAX_ARTIFACTS;
use eap_types::{AgentId, ContentDigest, ContentHasher, TaskId};
use tokio_util::task::TaskTracker;

use super::receiving::{Begun, Receiving};
use super::{ArtifactKey, ArtifactStore, Kept, PIECE, SHARDS, shard_of};
use crate::announce::lock;
use crate::config::Capacity;
use crate::error::Error;
use crate::metrics::Counter;

/// How often what is kept for an attempt is learnt for one part: the sweeper forgets it at the wrong moment once at most.
const MAX_LEARNT: usize = 3;

/// Which bytes of a content a part has: those from `from` to before `to`, of `total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) total: u64,
}

/// The uploads of the attempts that were heard of lately; the store has those of all.
///
/// Over a store that others use as well, what is known here of an upload is only what need not be done again, as the digest of
/// its beginning: how much is kept is asked for with each part and each result, because the part before may have gone
/// elsewhere.
#[derive(Debug)]
pub(crate) struct Shelf {
    store: Arc<dyn ArtifactStore>,
    attempts: Mutex<HashMap<(TaskId, u32), Uploads>>,
    /// How many parts each agent sends at this moment.
    receiving: Mutex<HashMap<AgentId, usize>>,
    /// Attempts whose result is recorded, and whose uploads are those that it names: so many.
    settled: Mutex<HashMap<(TaskId, u32), usize>>,
    /// Writes under way, also those of parts that were given up.
    writes: TaskTracker,
    /// Bytes of each shard: those kept when it was last looked through, and those of the parts begun since.
    bytes: Mutex<Vec<u64>>,
    /// Bytes of parts that were kept.
    pub(crate) received: Counter,
    /// Uploads that became whole.
    pub(crate) completed: Counter,
}

type Uploads = BTreeMap<ContentDigest, Slot>;

/// One upload.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) kept: Kept,
    /// The digest of what is kept so far; `None` after a start.
    pub(super) hasher: Option<ContentHasher>,
    /// How many bytes it may take up, those not kept included.
    pub(super) held: u64,
    /// A part of it is being received, or still written: then it stays here.
    pub(super) is_busy: bool,
    /// It was removed, and goes from here with the part that is being received.
    is_gone: bool,
    /// A write failed, so that the store has to say anew what it keeps.
    pub(super) is_stale: bool,
}

impl Slot {
    fn of(kept: Kept) -> Self {
        Self { kept, hasher: None, held: kept.bytes(), is_busy: false, is_gone: false, is_stale: false }
    }
}

/// The turn of one part: as long as it lasts, its upload takes no other and is not swept.
#[derive(Debug)]
pub(super) struct Turn {
    shelf: Arc<Shelf>,
    agent: AgentId,
    key: ArtifactKey,
    /// How many bytes are counted for it that are not kept yet.
    counted: AtomicU64,
}

impl Turn {
    /// What is counted for it is kept.
    pub(super) fn settle(&self) {
        self.counted.store(0, Ordering::Relaxed);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.shelf.ended(&self.agent, &self.key);
        let mut bytes = lock(&self.shelf.bytes);
        let shard = &mut bytes[usize::from(shard_of(self.key.task))];
        *shard = shard.saturating_sub(self.counted.load(Ordering::Relaxed));
    }
}

/// What a part may do.
enum Place {
    Whole,
    Turn(Turn, Option<ContentHasher>),
}

impl Shelf {
    pub(crate) fn new(store: Arc<dyn ArtifactStore>) -> Self {
        Self {
            store,
            attempts: Mutex::default(),
            receiving: Mutex::default(),
            settled: Mutex::default(),
            writes: TaskTracker::new(),
            bytes: Mutex::new(vec![0; usize::from(SHARDS)]),
            received: Counter::default(),
            completed: Counter::default(),
        }
    }

    pub(super) fn store(&self) -> &dyn ArtifactStore {
        &*self.store
    }

    /// How much is kept of a content.
    pub(crate) async fn kept(&self, key: ArtifactKey) -> Result<Option<Kept>, Error> {
        if let Some(uploads) = lock(&self.attempts).get(&(key.task, key.attempt)).filter(|_| !self.store.is_shared()) {
            return Ok(uploads.get(&key.digest).filter(|slot| !slot.is_stale && !slot.is_gone).map(|slot| slot.kept));
        }
        let found = self.store.of_attempt(key.task, key.attempt).await?;
        Ok(found.into_iter().find(|(digest, _)| *digest == key.digest).map(|(_, kept)| kept))
    }

    /// Begins to receive a part.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        agent: &AgentId,
        key: ArtifactKey,
        span: Span,
        capacity: &Capacity,
    ) -> Result<Begun, Error> {
        for _ in 0..MAX_LEARNT {
            self.learn(key).await?;
            let (turn, hasher) = match self.place(agent, key, span, capacity)? {
                None => continue,
                Some(Place::Whole) => return Ok(Begun::Whole),
                Some(Place::Turn(turn, hasher)) => (turn, hasher),
            };
            let mut receiving = Receiving::new(turn, Arc::clone(self), key, span);
            match hasher {
                // What is kept may be another replica's, and as long: before the end it is read as it is.
                Some(hasher) if !self.store.is_shared() || span.to < span.total => receiving.go_on(hasher),
                _ => receiving.read_again().await?,
            }
            return Ok(Begun::Receiving(Box::new(receiving)));
        }
        Err(Error::Busy { reason: "the uploads of this attempt are being looked through" })
    }

    /// Finds what a part may do, or what stands in its way; nothing if what is kept is not known here any more.
    fn place(
        self: &Arc<Self>,
        agent: &AgentId,
        key: ArtifactKey,
        span: Span,
        capacity: &Capacity,
    ) -> Result<Option<Place>, Error> {
        let mut attempts = lock(&self.attempts);
        if lock(&self.settled).contains_key(&(key.task, key.attempt)) {
            return Err(Error::LeaseLost { stop: None });
        }
        let Some(uploads) = attempts.get_mut(&(key.task, key.attempt)) else { return Ok(None) };
        let others: u64 = uploads.iter().filter(|(digest, _)| **digest != key.digest).map(|(_, slot)| slot.held).sum();
        let count = uploads.len();
        let known = uploads.get_mut(&key.digest);
        let kept = match &known {
            Some(slot) if slot.is_busy => {
                return Err(Error::TooMany { reason: "another part of this upload is being received" });
            }
            Some(Slot { kept: Kept::Whole(size), .. }) if *size == span.total => return Ok(Some(Place::Whole)),
            Some(slot) => slot.kept,
            None => Kept::Part(0),
        };
        match kept {
            Kept::Whole(_) => return Err(Error::DigestMismatch { what: "content of another size" }),
            Kept::Part(kept) if kept != span.from => return Err(Error::UploadOffset { kept }),
            Kept::Part(_) => {}
        }
        if known.is_none() && count >= MAX_ARTIFACTS {
            return Err(Error::UploadsFull { what: "uploads", limit: MAX_ARTIFACTS as u64 });
        }
        if others + span.to > capacity.artifact_bytes_per_attempt {
            return Err(Error::UploadsFull { what: "bytes", limit: capacity.artifact_bytes_per_attempt });
        }
        let length = span.to - span.from;
        if self.bytes() + length > capacity.artifact_bytes_in_all {
            return Err(Error::Busy { reason: "as many artifacts are kept as may be" });
        }
        self.count(agent, capacity.uploads_per_agent)?;
        lock(&self.bytes)[usize::from(shard_of(key.task))] += length;
        let slot = uploads.entry(key.digest).or_insert_with(|| Slot::of(Kept::Part(0)));
        slot.is_busy = true;
        slot.held = slot.held.max(span.to);
        let turn = Turn { shelf: Arc::clone(self), agent: agent.clone(), key, counted: AtomicU64::new(length) };
        Ok(Some(Place::Turn(turn, slot.hasher.clone())))
    }

    /// Writes a piece of a part. A store may go on with a write that nobody waits for any more, so it has a task of its own
    /// that keeps the turn.
    pub(super) async fn write(&self, turn: &Arc<Turn>, kept: u64, at: u64, bytes: Bytes) -> io::Result<()> {
        let (store, turn) = (Arc::clone(&self.store), Arc::clone(turn));
        let written = self.writes.spawn(async move { store.write(turn.key, kept, at, bytes).await });
        written.await.unwrap_or_else(|broken| Err(io::Error::other(broken)))
    }

    /// Waits for the writes of parts that were given up.
    pub(crate) async fn at_rest(&self) {
        self.writes.close();
        self.writes.wait().await;
    }

    /// Takes in what the store has for an attempt that was not heard of yet, or of an upload whose write failed, or may be in
    /// other hands.
    async fn learn(&self, key: ArtifactKey) -> Result<(), Error> {
        let is_known = |uploads: &Uploads| uploads.get(&key.digest).is_none_or(|slot| !slot.is_stale);
        let is_shared = self.store.is_shared();
        if !is_shared && lock(&self.attempts).get(&(key.task, key.attempt)).is_some_and(is_known) {
            return Ok(());
        }
        let found = self.store.of_attempt(key.task, key.attempt).await?;
        let mut attempts = lock(&self.attempts);
        let uploads = attempts.entry((key.task, key.attempt)).or_default();
        if is_shared {
            uploads.retain(|digest, slot| slot.is_busy || found.iter().any(|(found, _)| found == digest));
        }
        let kept = found.iter().find(|(digest, _)| *digest == key.digest).map(|(_, kept)| *kept);
        let is_wrong = |slot: &Slot| slot.is_stale || kept.is_some_and(|kept| is_shared && kept != slot.kept);
        if uploads.get(&key.digest).is_some_and(|slot| !slot.is_busy && is_wrong(slot)) {
            uploads.remove(&key.digest);
        }
        for (digest, kept) in found {
            let slot = uploads.entry(digest).or_insert_with(|| Slot::of(kept));
            slot.held = slot.held.max(kept.bytes());
        }
        Ok(())
    }

    fn count(&self, agent: &AgentId, limit: usize) -> Result<(), Error> {
        let mut receiving = lock(&self.receiving);
        let count = receiving.entry(agent.clone()).or_default();
        if *count >= limit {
            return Err(Error::TooMany { reason: "this agent sends too many parts at once" });
        }
        *count += 1;
        Ok(())
    }

    /// A part is received, or given up.
    fn ended(&self, agent: &AgentId, key: &ArtifactKey) {
        if let Some(uploads) = lock(&self.attempts).get_mut(&(key.task, key.attempt)) {
            match uploads.get_mut(&key.digest) {
                Some(slot) if slot.is_gone => drop(uploads.remove(&key.digest)),
                Some(slot) => slot.is_busy = false,
                None => {}
            }
        }
        let mut receiving = lock(&self.receiving);
        if let Some(count) = receiving.get_mut(agent) {
            *count -= 1;
            if *count == 0 {
                receiving.remove(agent);
            }
        }
    }

    /// Notes what became of an upload; `None` if it is gone.
    pub(super) fn note(&self, key: &ArtifactKey, kept: Option<Kept>, hasher: Option<ContentHasher>) {
        let mut attempts = lock(&self.attempts);
        let slot = attempts.get_mut(&(key.task, key.attempt)).and_then(|uploads| uploads.get_mut(&key.digest));
        match (kept, slot) {
            (Some(kept), Some(slot)) => (slot.kept, slot.held, slot.hasher) = (kept, kept.bytes(), hasher),
            (None, Some(slot)) => slot.is_gone = true,
            (_, None) => {}
        }
    }

    /// The store failed, and may have done it nevertheless.
    pub(super) fn doubt(&self, key: &ArtifactKey) {
        if let Some(slot) =
            lock(&self.attempts).get_mut(&(key.task, key.attempt)).and_then(|all| all.get_mut(&key.digest))
        {
            slot.is_stale = true;
        }
    }

    /// A piece of what is whole.
    pub(crate) async fn read(&self, key: ArtifactKey, size: u64, at: u64) -> io::Result<Bytes> {
        self.store.read(key, Kept::Whole(size), at, PIECE).await
    }

    /// How many parts are being received.
    pub(crate) fn open(&self) -> usize {
        lock(&self.receiving).values().sum()
    }

    /// About how many bytes are kept.
    pub(crate) fn bytes(&self) -> u64 {
        lock(&self.bytes).iter().sum()
    }
}

/// What the sweeper does, shard by shard.
impl Shelf {
    pub(crate) async fn shard(&self, shard: u8) -> io::Result<Vec<(TaskId, Vec<u32>)>> {
        let found = self.store.shard(shard).await?;
        let is_there = |task: &TaskId| found.iter().any(|(found, _)| found == task);
        lock(&self.settled).retain(|(task, _), _| shard_of(*task) != shard || is_there(task));
        lock(&self.attempts)
            .retain(|(task, _), uploads| shard_of(*task) != shard || is_there(task) || is_busy(uploads));
        Ok(found)
    }

    /// So many bytes are kept in a shard.
    pub(crate) fn counted(&self, shard: u8, bytes: u64) {
        lock(&self.bytes)[usize::from(shard)] = bytes;
    }

    pub(crate) fn is_settled(&self, task: TaskId, attempt: u32) -> bool {
        lock(&self.settled).contains_key(&(task, attempt))
    }

    /// How many bytes are kept for an attempt. One that was settled, and has more by now from another process that received
    /// it meanwhile, is to be settled again.
    pub(crate) async fn bytes_of(&self, task: TaskId, attempt: u32) -> io::Result<u64> {
        let found = self.store.of_attempt(task, attempt).await?;
        let mut settled = lock(&self.settled);
        if settled.get(&(task, attempt)).is_some_and(|count| *count < found.len()) {
            settled.remove(&(task, attempt));
        }
        Ok(found.iter().map(|(_, kept)| kept.bytes()).sum())
    }

    /// Removes what was uploaded for an attempt that is over; nothing while a part of it is being received.
    pub(crate) async fn remove_attempt(&self, task: TaskId, attempt: u32) -> io::Result<()> {
        {
            let mut attempts = lock(&self.attempts);
            if attempts.get(&(task, attempt)).is_some_and(is_busy) {
                return Ok(());
            }
            attempts.remove(&(task, attempt));
            lock(&self.settled).remove(&(task, attempt));
        }
        self.store.remove_attempt(task, attempt).await
    }

    /// Removes what the recorded result of an attempt does not name. While a part is being received that is for the next
    /// time: then it may be kept after this has looked.
    pub(crate) async fn settle(&self, task: TaskId, attempt: u32, named: &[ContentDigest]) -> io::Result<()> {
        if lock(&self.attempts).get(&(task, attempt)).is_some_and(is_busy) {
            return Ok(());
        }
        let found = self.store.of_attempt(task, attempt).await?;
        let is_needed = |digest: &ContentDigest| {
            let is_whole = |(found, kept): &(ContentDigest, Kept)| found == digest && matches!(kept, Kept::Whole(_));
            named.contains(digest) && found.iter().any(is_whole)
        };
        let mut needed = 0;
        for (digest, _) in &found {
            if is_needed(digest) {
                needed += 1;
            } else {
                self.store.remove(ArtifactKey::new(task, attempt, *digest)).await?;
            }
        }
        let mut attempts = lock(&self.attempts);
        if !attempts.get(&(task, attempt)).is_some_and(is_busy) {
            attempts.remove(&(task, attempt));
            lock(&self.settled).insert((task, attempt), needed);
        }
        Ok(())
    }
}

fn is_busy(uploads: &Uploads) -> bool {
    uploads.values().any(|slot| slot.is_busy)
}
