//! Durable storage in one SQLite file.
//!
//! One thread writes. It takes whatever requests are there, carries them out in one transaction and
//! answers when that is on disk, so that many callers share an fsync and a lone one never waits for
//! company. Other threads read, each with a connection of its own, and one moves the log into the file.
//! What a claim costs is the reading of the index of ready tasks, whatever else is stored.

mod aside;
mod batch;
mod behind;
mod callbacks;
mod checkpoint;
mod claim;
mod credentials;
mod depths;
mod event_row;
mod fault;
mod holders;
mod journal;
mod ledger;
mod lock;
mod many;
mod migrations;
mod open;
mod pages;
#[cfg(test)]
mod plans;
mod purge;
mod read;
mod readers;
mod recent;
mod room;
mod routes;
mod rows;
#[cfg(test)]
mod sample;
mod sessions;
mod states;
mod workflows;
mod writer;

use std::convert::Infallible;
use std::fmt;
use std::future::pending;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use async_trait::async_trait;
use eap_core::{Agent, DueCallback, Session, Task, Vitals};
use eap_types::{
    AgentId, SessionId, SessionState, SessionView, TaskId, TenantId, Timestamp, WorkflowId, WorkflowSummary,
};
use rusqlite::Connection;
use tokio::sync::{Mutex, mpsc, oneshot};

use self::checkpoint::Checkpointer;
use self::fault::Fault;
use self::journal::Share;
use self::ledger::Ledger;
use self::open::Database;
use self::readers::Readers;
use self::recent::Recent;
use self::room::Room;
use self::rows::Prepared;
use self::writer::{Request, Shared, Writer};
use super::queue::Queue;
use super::{
    Change, Claims, Committed, CredentialRow, Cutoffs, Decide, Demand, Depths, Event, EventSeq, IdempotencyKeyRow,
    IdempotencyScope, Insertion, LateResultRow, News, Purged, ReplicaId, Repository, ResultRow, SessionFilter,
    StateRow, StoreError, StoreStats, Stored, TaskFilter, WorkflowRow,
};
use crate::clock::{Clock, SystemEntropy, draw};

/// How a [`SqliteStore`] is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SqliteOptions {
    /// How many threads read, each with a connection; 2. Zero counts as one.
    pub readers: usize,
    /// How large the database file may grow, in bytes; `None`, the default, is as far as the disk goes.
    /// A write beyond it fails with [`StoreError::Full`]. The log beside the file is not counted.
    pub max_bytes: Option<u64>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { readers: 2, max_bytes: None }
    }
}

impl SqliteOptions {
    /// Sets how many threads read.
    #[must_use]
    pub fn with_readers(mut self, readers: usize) -> Self {
        self.readers = readers;
        self
    }

    /// Sets how large the database file may grow, in bytes.
    #[must_use]
    pub fn with_max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = Some(max_bytes);
        self
    }
}

/// Everything in one SQLite file, with what was acknowledged on disk (G1, G2, G6, G7).
///
/// The file belongs to one store at a time; `<file>.lock` beside it says to which. Write-ahead logging,
/// `synchronous=FULL`; a weaker mode is not offered. After an I/O error or a failed fsync every further
/// write fails with [`StoreError::Failed`], because what is on the disk is no longer known. On a full
/// disk writes fail with [`StoreError::Full`] (with [`StoreError::Unavailable`] if the commit may be in the
/// log already) and succeed again once there is room.
///
/// Dropping the store lets its threads finish what they were handed and then give the file free;
/// [`close`](Repository::close) does the same and waits for it.
pub struct SqliteStore {
    path: Arc<Path>,
    vfs: Option<Arc<str>>,
    clock: Arc<dyn Clock>,
    replica: ReplicaId,
    writes: Queue<Request>,
    readers: Readers,
    recent: Arc<Recent>,
    shared: Arc<Shared>,
    /// Yields `None` when the last thread has ended.
    ended: Mutex<mpsc::Receiver<Infallible>>,
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.path).field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens the database at `path`, or makes it, readable by its owner alone. Times come from `clock`.
    ///
    /// Blocks for as long as the last moments before a crash take to be read back; how many tasks are
    /// stored does not matter.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] if another store has the file, if it was written by a newer version or by
    /// another program, or if its directory does not exist; the file is left as it was.
    pub fn open(path: impl AsRef<Path>, clock: Arc<dyn Clock>, options: SqliteOptions) -> Result<Self, StoreError> {
        Self::over(Database::open(path.as_ref(), &options)?, clock)
    }

    /// Opens a file that is there on a file system registered with SQLite as `vfs`, for tests of what a disk may do.
    ///
    /// Neither takes the lock nor looks at the file's rights: both are the operating system's.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    #[cfg(feature = "test-vfs")]
    #[doc(hidden)]
    pub fn open_on_vfs(
        vfs: &str,
        path: impl AsRef<Path>,
        clock: Arc<dyn Clock>,
        options: SqliteOptions,
    ) -> Result<Self, StoreError> {
        Self::over(Database::open_on(vfs, path.as_ref(), &options)?, clock)
    }

    fn over(database: Database, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let Database { lock, path, vfs, writer, checkpointer, readers } = database;
        let shared = Arc::new(Shared::default());
        let recent = Arc::new(Recent::default());
        let ledger = Ledger::load(writer, Arc::clone(&clock), Arc::clone(&recent))?;
        shared.tell(&ledger);
        let (log, checkpointer) = Checkpointer::new(checkpointer, Arc::clone(&shared));
        let (readers, reading) = Readers::new(readers);
        let (writes, requests) = Queue::new();
        let writer = Writer { requests, ledger, log, room: Room::default(), shared: Arc::clone(&shared) };
        let (alive, ended) = mpsc::channel(1);
        // The lock is held until the last thread let go of its connection.
        let held = Held { _lock: Arc::new(lock), _alive: alive };
        let failing = Arc::clone(&shared);
        held.spawn("eap-sqlite-write", move || {
            // The `decide` of a claim is a stranger's code.
            if panic::catch_unwind(AssertUnwindSafe(|| writer.run())).is_err() {
                failing.fail(Fault::stopped());
            }
        })?;
        held.spawn("eap-sqlite-checkpoint", move || checkpointer.run())?;
        for reader in reading {
            held.spawn("eap-sqlite-read", move || reader.run())?;
        }
        Ok(Self {
            path: Arc::from(path),
            vfs: vfs.map(Arc::from),
            clock,
            replica: ReplicaId(u64::from_le_bytes(draw(&SystemEntropy))),
            writes,
            readers,
            recent,
            shared,
            ended: Mutex::new(ended),
        })
    }

    /// What was done since it was opened, and how large its files are.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let length = |path: &Path| path.metadata().ok().map(|file| file.len());
        let mut log = self.path.as_os_str().to_owned();
        log.push("-wal");
        StoreStats {
            waiting: self.writes.waiting(),
            data_bytes: length(&self.path),
            // Gone once the store was closed in good order.
            log_bytes: Some(length(Path::new(&log)).unwrap_or(0)),
            ..self.shared.tally.stats()
        }
    }

    /// Reads what stands in the tables and not in the journal.
    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.shared.tally.errors.count(self.readers.read(query).await)
    }

    /// Reads when at least this share of what is stored can be found, with the time at which a reader takes it up.
    async fn read_all<T: Send + 'static>(
        &self,
        share: Share,
        query: impl FnOnce(&Connection, Timestamp) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        if !self.shared.is_unsettled.load(Ordering::Acquire) {
            return self.read_now(query).await;
        }
        match self.written(|reply| Request::Settle(share, reply)).await {
            Ok(()) => self.read_now(query).await,
            // Nothing can be written; if the reads are over, too, they say so.
            Err(_) => {
                let (path, vfs, clock) = (Arc::clone(&self.path), self.vfs.clone(), Arc::clone(&self.clock));
                let query = move |_: &Connection| {
                    let now = clock.now();
                    aside::read(&path, vfs.as_deref(), Arc::clone(&clock), |all| query(all, now))
                };
                self.read(query).await
            }
        }
    }

    /// Reads with the time at which a reader takes it up: however long it waited, what is told is not older.
    async fn read_now<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection, Timestamp) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let clock = Arc::clone(&self.clock);
        self.read(move |connection| query(connection, clock.now())).await
    }

    async fn write<T>(&self, request: impl FnOnce(writer::Reply<T>) -> Request) -> Result<T, StoreError> {
        self.shared.tally.errors.count(self.written(request).await)
    }

    async fn written<T>(&self, request: impl FnOnce(writer::Reply<T>) -> Request) -> Result<T, StoreError> {
        let (reply, answered) = oneshot::channel();
        let request = request(reply);
        let bytes = request.bytes();
        self.writes.send(request, bytes).await.map_err(|_| self.stopped(StoreError::Closed))?;
        answered.await.unwrap_or_else(|_| Err(self.stopped(Fault::stopped().into())))
    }

    /// Why the writer takes no more, or else what seemed to be the reason.
    fn stopped(&self, otherwise: StoreError) -> StoreError {
        self.shared.failure.get().map_or(otherwise, |fault| fault.clone().into())
    }
}

/// What every thread of a store holds until its work is dropped: first the lock goes, then the sign of life.
#[derive(Clone)]
struct Held {
    _lock: Arc<Option<lock::FileLock>>,
    _alive: mpsc::Sender<Infallible>,
}

impl Held {
    fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
        let held = self.clone();
        let run = move || {
            work();
            drop(held);
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
        thread.map(drop).map_err(|error| StoreError::Unavailable { source: error.into() })
    }
}

#[async_trait]
impl Repository for SqliteStore {
    async fn task(&self, id: TaskId) -> Result<Option<Stored<Task>>, StoreError> {
        if let Some(stored) = self.recent.read(id, || self.clock.now()) {
            return Ok(Some(stored));
        }
        self.read_all(Share::Everything, move |connection, now| read::task(connection, id, now)).await
    }

    async fn tasks_of(&self, ids: &[TaskId]) -> Result<Vec<Stored<Task>>, StoreError> {
        let mut tasks = Vec::with_capacity(ids.len());
        for id in ids {
            tasks.extend(self.task(*id).await?);
        }
        Ok(tasks)
    }

    async fn result(&self, id: TaskId) -> Result<Option<ResultRow>, StoreError> {
        if let Some(known) = self.recent.get(id)
            && let Some(kept) = known.result
        {
            return Ok(Some(kept.row(id).map_err(Fault::from)?));
        }
        self.read_all(Share::Everything, move |connection, _| read::result(connection, id)).await
    }

    async fn late_results(&self, id: TaskId) -> Result<Vec<LateResultRow>, StoreError> {
        self.read_all(Share::Everything, move |connection, _| read::late_results(connection, id)).await
    }

    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<(Insertion, Stored<Task>)>, StoreError> {
        let filter = filter.clone();
        self.read_all(Share::Everything, move |connection, now| read::tasks(connection, &filter, now)).await
    }

    async fn leases(&self, agent: &AgentId) -> Result<Vec<Stored<Task>>, StoreError> {
        let agent = agent.clone();
        self.read_all(Share::Everything, move |connection, now| read::leases(connection, &agent, now)).await
    }

    async fn leased(&self, after: Option<TaskId>, limit: usize) -> Result<Vec<Stored<Task>>, StoreError> {
        self.read_all(Share::Everything, move |connection, now| read::leased(connection, after, limit, now)).await
    }

    async fn due(&self, until: Timestamp, limit: usize) -> Result<Vec<Stored<Task>>, StoreError> {
        if !self.shared.may_be_due(until) {
            return self.read_now(move |connection, now| read::due(connection, until, limit, now)).await;
        }
        self.read_all(Share::Everything, move |connection, now| read::due(connection, until, limit, now)).await
    }

    async fn session(&self, id: SessionId) -> Result<Option<Stored<Session>>, StoreError> {
        self.read_now(move |connection, now| sessions::session(connection, id, now)).await
    }

    async fn sessions(&self, filter: &SessionFilter) -> Result<Vec<(Insertion, SessionView)>, StoreError> {
        let filter = filter.clone();
        self.read(move |connection| sessions::sessions(connection, &filter)).await
    }

    async fn open_sessions(
        &self,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<(SessionId, SessionState)>, StoreError> {
        self.read(move |connection| sessions::open(connection, after, limit)).await
    }

    async fn session_of(&self, task: TaskId) -> Result<Option<Stored<Session>>, StoreError> {
        self.read_now(move |connection, now| sessions::of_step(connection, task, now)).await
    }

    async fn workflow(
        &self,
        tenant: TenantId,
        id: &WorkflowId,
        version: Option<&str>,
    ) -> Result<Option<WorkflowRow>, StoreError> {
        let (id, version) = (id.clone(), version.map(str::to_owned));
        self.read(move |connection| workflows::workflow(connection, tenant, &id, version.as_deref())).await
    }

    async fn workflows(
        &self,
        tenant: TenantId,
        before: Option<Insertion>,
        limit: usize,
    ) -> Result<Vec<(Insertion, WorkflowSummary)>, StoreError> {
        self.read(move |connection| workflows::workflows(connection, tenant, before, limit)).await
    }

    async fn agents(&self) -> Result<Vec<(Stored<Agent>, Vitals)>, StoreError> {
        self.read_now(read::agents).await
    }

    async fn agents_of(&self, ids: &[AgentId]) -> Result<Vec<(Stored<Agent>, Vitals)>, StoreError> {
        let ids = ids.to_vec();
        self.read_now(move |connection, now| read::agents_of(connection, &ids, now)).await
    }

    async fn vitals_since(&self, since: Timestamp) -> Result<Vec<(AgentId, Vitals)>, StoreError> {
        self.read(move |connection| read::vitals_since(connection, since)).await
    }

    async fn credentials(&self) -> Result<Vec<CredentialRow>, StoreError> {
        self.read_now(credentials::read).await
    }

    async fn states(&self, agent: &AgentId, limit: usize) -> Result<Vec<StateRow>, StoreError> {
        let agent = agent.clone();
        self.read_now(move |connection, _| states::of_agent(connection, &agent, limit)).await
    }

    async fn newest_states(&self) -> Result<Vec<StateRow>, StoreError> {
        self.read_now(|connection, _| states::newest(connection)).await
    }

    async fn idempotent(&self, scope: &IdempotencyScope) -> Result<Option<IdempotencyKeyRow>, StoreError> {
        let scope = scope.clone();
        self.read(move |connection| read::idempotent(connection, &scope)).await
    }

    async fn events(&self, after: EventSeq, task: Option<TaskId>, limit: usize) -> Result<Vec<Event>, StoreError> {
        let share = if task.is_some() { Share::Everything } else { Share::Done };
        self.read_all(share, move |connection, _| read::events(connection, after, task, limit)).await
    }

    async fn oldest_event(&self) -> Result<Option<EventSeq>, StoreError> {
        self.read_all(Share::Done, |connection, _| read::oldest_event(connection)).await
    }

    async fn head(&self) -> Result<EventSeq, StoreError> {
        self.read_all(Share::Done, |connection, _| read::head(connection)).await
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn clock(&self) -> Option<Arc<dyn Clock>> {
        Some(Arc::clone(&self.clock))
    }

    async fn news(&self, after: EventSeq, _: usize) -> Result<News, StoreError> {
        let head = self.head().await?;
        Ok(News { events: Vec::new(), from: after, upto: head, head })
    }

    async fn noticed(&self) {
        pending::<()>().await;
    }

    fn replica(&self) -> ReplicaId {
        self.replica
    }

    async fn replicas(&self) -> Result<Vec<(ReplicaId, Timestamp)>, StoreError> {
        // The file is locked: nobody else has it open.
        Ok(vec![(self.replica, self.clock.now())])
    }

    async fn pulse(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(read::pulse).await
    }

    async fn callbacks(
        &self,
        after: Option<(Timestamp, TaskId)>,
        limit: usize,
    ) -> Result<Vec<Stored<DueCallback>>, StoreError> {
        self.read_now(move |connection, now| callbacks::callbacks(connection, after, limit, now)).await
    }

    async fn depths(&self) -> Result<Depths, StoreError> {
        self.read_all(Share::Everything, |connection, _| depths::depths(connection)).await
    }

    fn stats(&self) -> StoreStats {
        Self::stats(self)
    }

    async fn commit(&self, change: Change) -> Result<Committed, StoreError> {
        let change = Box::new(Prepared::of(change).map_err(Fault::from)?);
        self.write(|reply| Request::Commit(change, reply)).await
    }

    async fn claim(&self, demand: Demand, decide: Arc<Decide>) -> Result<Claims, StoreError> {
        self.write(|reply| Request::Claim(demand, decide, reply)).await
    }

    async fn commit_and_claim(
        &self,
        change: Change,
        demand: Demand,
        decide: Arc<Decide>,
    ) -> Result<Claims, StoreError> {
        let change = Box::new(Prepared::of(change).map_err(Fault::from)?);
        self.write(|reply| Request::CommitAndClaim(change, demand, decide, reply)).await
    }

    async fn purge(&self, cutoffs: &Cutoffs, limit: usize) -> Result<Purged, StoreError> {
        let cutoffs = *cutoffs;
        self.write(|reply| Request::Purge(cutoffs, limit, reply)).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        // Errors say that the threads have ended already.
        let _ = self.writes.send(Request::Close, 0).await;
        self.readers.stop().await;
        // No thread sends; `None` comes when all have ended.
        let _ = self.ended.lock().await.recv().await;
        self.recent.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::mpsc::channel;
    use std::task::{Context, Waker};
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;

    #[tokio::test]
    async fn a_read_that_waited_tells_the_time_of_its_turn() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
        let options = SqliteOptions::default().with_readers(1);
        let path = folder.path().join("eap.db");
        let store = SqliteStore::open(path, Arc::clone(&clock) as Arc<dyn Clock>, options).unwrap();
        let (release, held_up) = channel();
        let mut slow = pin!(store.readers.read(move |_| held_up.recv().map_err(Fault::nonsense)));
        let mut told = pin!(store.read_now(|_, now| Ok(now)));
        // Polled once: both are handed over, in this order.
        let mut context = Context::from_waker(Waker::noop());
        assert!(slow.as_mut().poll(&mut context).is_pending() && told.as_mut().poll(&mut context).is_pending());
        clock.advance(Duration::from_secs(5));
        release.send(()).unwrap();
        slow.await.unwrap();
        assert_eq!(told.await.unwrap(), Timestamp::from_seconds(5));
    }
}
