//! Durable storage in PostgreSQL, which several stores may share.
//!
//! Writes wait in two queues, those that claim and those that do not; of each they are carried out together, in one
//! transaction with one statement for each kind of row, and answered after the commit. What a change was decided on is
//! locked, read and compared in that transaction, so a replica that wakes late undoes nothing. Reads are single statements.
//! Nothing is kept in a session: no setting, no lock, no temporary table.

mod artifacts;
mod batch;
mod check;
mod claim;
mod clock;
mod database;
mod depths;
mod fault;
mod ground;
mod holders;
mod inbox;
mod incoming;
mod listen;
mod look;
mod migrations;
mod mover;
mod news;
mod options;
mod pool;
mod purge;
mod read;
mod routes;
mod schema;
mod sessions;
mod states;
mod values;
mod workflows;
mod write;
mod writer;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use eap_core::{Agent, DueCallback, Session, Task, Vitals};
use eap_types::{
    AgentId, SessionId, SessionState, SessionView, TaskId, TenantId, Timestamp, WorkflowId, WorkflowSummary,
};
use sqlx::{PgConnection, PgPool};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use self::artifacts::PostgresArtifacts;
use self::database::Database;
use self::fault::Fault;
pub use self::inbox::NewTask;
pub use self::options::PostgresOptions;
use self::writer::{Request, Write, Writer};
use super::prepared::Prepared;
use super::queue::Queue;
use super::tally::Tally;
use super::{
    Change, Claims, Committed, CredentialRow, Cutoffs, Decide, Demand, Depths, Event, EventSeq, IdempotencyKeyRow,
    IdempotencyScope, Insertion, LateResultRow, News, Purged, ReplicaId, Repository, ResultRow, SessionFilter,
    StateRow, StoreError, StoreStats, Stored, TaskFilter, WorkflowRow,
};
use crate::clock::Clock;

/// Everything in one schema of a PostgreSQL database, with what was acknowledged on the server's disk (G8).
///
/// Any number of stores, in any number of processes, may stand on the same schema: revisions decide between their writes,
/// claims never share a task, and events are numbered in the order of all their commits. Times are the database's, so
/// that their clocks need not agree. An [`Orchestrator`](crate::Orchestrator) over each of them keeps its agents and running
/// leases in memory, and follows there what the others write.
///
/// `synchronous_commit` is switched on for every write of a server that has it off.
///
/// While the server cannot be reached, calls fail with [`StoreError::Unavailable`] after some seconds at most; once it is
/// back, they succeed again. Such an error of a write says that it may have been made or not.
///
/// Works through a proxy that hands a connection to another client after each transaction, with
/// [`prepared_statements`](PostgresOptions::prepared_statements) off; that is tested with PgBouncer. Before one that follows
/// prepared statements (PgBouncer from 1.21 on, with `max_prepared_statements` above 0), which is not tested, they may stay on.
///
/// Its statements ask for no more than PostgreSQL 12 has; it is tested with 15 alone.
///
/// Lives in the runtime that it was opened in. Dropping it lets what was handed over be finished;
/// [`close`](Repository::close) does the same and waits for it.
pub struct PostgresStore {
    database: Arc<Database>,
    changes: Queue<Request>,
    /// Apart from the changes: so they go on beside each other, and no two claims of this store get in each other's way.
    claims: Queue<Request>,
    tally: Arc<Tally>,
    running: TaskTracker,
    /// Ends what goes on beside the writes; so does dropping the store.
    stop: CancellationToken,
    _no_longer: DropGuard,
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("schema", &self.database.schema.name())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// Opens the store in the database at `url`, as in `postgres://user:password@host:5432/database?sslmode=verify-full`.
    ///
    /// The connection is encrypted if the server offers it (`sslmode=prefer`); `sslmode=verify-full` insists on that and
    /// on a certificate for this host by an authority that the system trusts, or by `sslrootcert`. What the URL leaves out
    /// is looked for where `psql` looks: in variables as `PGPASSWORD` and in `~/.pgpass`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] if this is no URL or no name of a schema, if the schema was written by a newer version, or is
    /// of an older one and [`migrate`](PostgresOptions::migrate) is off, or if the server does not let this role in, or not do
    /// it; [`StoreError::Unavailable`] if the server cannot be reached.
    pub async fn connect(url: &str, options: PostgresOptions) -> Result<Self, StoreError> {
        Self::open(Database::of_url(url, &options)?, &options).await
    }

    /// The same on connections of a pool that the host has, and goes on using; closing the store leaves it open.
    ///
    /// Two of them are taken while there is something to write, one if the pool has no more than three beside one that
    /// listens. The pool should test connections before it hands them out, which is what sqlx does by default.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn with_pool(pool: PgPool, options: PostgresOptions) -> Result<Self, StoreError> {
        Self::open(Database::of_pool(pool, &options)?, &options).await
    }

    /// Storage for artifacts in the same schema, by the same connections; it ends with this store.
    ///
    /// The connections of the writes are left to them, whatever is sent or fetched.
    #[must_use]
    pub fn artifacts(&self) -> PostgresArtifacts {
        PostgresArtifacts::new(Arc::clone(&self.database))
    }

    async fn open(database: Database, options: &PostgresOptions) -> Result<Self, StoreError> {
        migrations::migrate(&database, options.migrate).await?;
        database.ask_time().await?;
        // Before anything is done by it, so that nobody takes it for dead.
        database.replicas().await?;
        let (database, tally, running) = (Arc::new(database), Arc::new(Tally::default()), TaskTracker::new());
        let writing = || {
            let (queue, requests) = Queue::new();
            running.spawn(Writer { requests, database: Arc::clone(&database), tally: Arc::clone(&tally) }.run());
            queue
        };
        let (changes, claims) = (writing(), writing());
        let stop = CancellationToken::new();
        if let Some(pool) = database.listening.clone() {
            running.spawn(listen::run(Arc::clone(&database), pool, stop.clone()));
        }
        running.spawn(mover::run(Arc::clone(&database), stop.clone()));
        running.close();
        Ok(Self { database, changes, claims, tally, running, _no_longer: stop.clone().drop_guard(), stop })
    }

    /// Takes tasks in within a transaction of the host's, on this database: they exist if and only if that is committed.
    ///
    /// ```no_run
    /// # async fn placed(
    /// #     orchestrator: eap_orchestrator::Orchestrator,
    /// #     store: eap_orchestrator::store::PostgresStore,
    /// #     pool: sqlx::PgPool,
    /// # ) -> Result<(), Box<dyn std::error::Error>> {
    /// use eap_orchestrator::Operator;
    /// use eap_types::SubmitTask;
    ///
    /// let task = SubmitTask::text("invoice".parse()?, "order 17");
    /// let task = orchestrator.prepare(&Operator::host(), task)?;
    /// let id = task.id();
    ///
    /// let mut transaction = pool.begin().await?;
    /// sqlx::query("INSERT INTO orders (number, task) VALUES (17, $1)")
    ///     .bind(id.to_string())
    ///     .execute(&mut *transaction)
    ///     .await?;
    /// store.enqueue(&mut transaction, &[task]).await?;
    /// transaction.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// That is one statement and one `NOTIFY`, whatever the number of tasks. It writes where no store waits, so a
    /// transaction that stays open holds up none; as any that notifies, it takes its turn among those at its commit. After the
    /// commit a store on the schema moves the tasks among the others, within a second and mostly at once, in the order in which
    /// they were written; from then on agents get them. Who reads one of them by its id finds it from the commit on.
    ///
    /// Not for a transaction in two phases: PostgreSQL prepares none (`PREPARE TRANSACTION`) that notifies.
    ///
    /// Writing a task once more is harmless while it is kept (`retention.tasks`), so a transaction whose commit got no answer may
    /// be repeated with the same tasks; later it would be done again.
    ///
    /// # Errors
    ///
    /// Whatever the server says, as [`StoreError::Unavailable`] or [`StoreError::Full`]: the transaction is then of no more
    /// use, and nothing of it will be there.
    pub async fn enqueue(&self, transaction: &mut PgConnection, tasks: &[NewTask]) -> Result<(), StoreError> {
        self.told(self.database.enqueue(transaction, tasks).await)
    }

    /// Counts an answer if it is an error.
    fn told<T>(&self, answer: Result<T, Fault>) -> Result<T, StoreError> {
        self.tally.errors.count(answer.map_err(StoreError::from))
    }

    async fn write(&self, change: Option<Change>, claim: Option<(Demand, Arc<Decide>)>) -> Result<Claims, StoreError> {
        let change = change.map(Prepared::of).transpose();
        let change = self.told(change.map_err(Fault::from))?.map(Box::new);
        let write = Write { change, claim };
        let (queue, bytes) = (if write.claim.is_some() { &self.claims } else { &self.changes }, write.bytes());
        self.ask(queue, bytes, |reply| Request::Write(write, reply)).await
    }

    async fn ask<T>(
        &self,
        queue: &Queue<Request>,
        bytes: usize,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> Result<T, StoreError> {
        let (reply, answered) = oneshot::channel();
        let answer = match queue.send(request(reply), bytes).await {
            Ok(()) => answered.await.unwrap_or_else(|_| Err(Fault::nonsense("a write ended unexpectedly").into())),
            Err(_) => Err(StoreError::Closed),
        };
        self.tally.errors.count(answer)
    }
}

#[async_trait]
impl Repository for PostgresStore {
    async fn task(&self, id: TaskId) -> Result<Option<Stored<Task>>, StoreError> {
        self.told(self.database.task_anywhere(id).await)
    }

    async fn tasks_of(&self, ids: &[TaskId]) -> Result<Vec<Stored<Task>>, StoreError> {
        self.told(self.database.tasks_of(ids).await)
    }

    async fn result(&self, id: TaskId) -> Result<Option<ResultRow>, StoreError> {
        self.told(self.database.result(id).await)
    }

    async fn late_results(&self, id: TaskId) -> Result<Vec<LateResultRow>, StoreError> {
        self.told(self.database.late_results(id).await)
    }

    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<(Insertion, Stored<Task>)>, StoreError> {
        self.told(self.database.tasks_with_new(filter).await)
    }

    async fn leases(&self, agent: &AgentId) -> Result<Vec<Stored<Task>>, StoreError> {
        self.told(self.database.leases(agent).await)
    }

    async fn leased(&self, after: Option<TaskId>, limit: usize) -> Result<Vec<Stored<Task>>, StoreError> {
        self.told(self.database.leased(after, limit).await)
    }

    async fn due(&self, until: Timestamp, limit: usize) -> Result<Vec<Stored<Task>>, StoreError> {
        self.told(self.database.due(until, limit).await)
    }

    async fn session(&self, id: SessionId) -> Result<Option<Stored<Session>>, StoreError> {
        self.told(self.database.session(id).await)
    }

    async fn sessions(&self, filter: &SessionFilter) -> Result<Vec<(Insertion, SessionView)>, StoreError> {
        self.told(self.database.sessions(filter).await)
    }

    async fn open_sessions(
        &self,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<(SessionId, SessionState)>, StoreError> {
        self.told(self.database.open_sessions(after, limit).await)
    }

    async fn session_of(&self, task: TaskId) -> Result<Option<Stored<Session>>, StoreError> {
        self.told(self.database.session_of(task).await)
    }

    async fn workflow(
        &self,
        tenant: TenantId,
        id: &WorkflowId,
        version: Option<&str>,
    ) -> Result<Option<WorkflowRow>, StoreError> {
        self.told(self.database.workflow(tenant, id, version).await)
    }

    async fn workflows(
        &self,
        tenant: TenantId,
        before: Option<Insertion>,
        limit: usize,
    ) -> Result<Vec<(Insertion, WorkflowSummary)>, StoreError> {
        self.told(self.database.workflows(tenant, before, limit).await)
    }

    async fn agents(&self) -> Result<Vec<(Stored<Agent>, Vitals)>, StoreError> {
        self.told(self.database.agents().await)
    }

    async fn agents_of(&self, ids: &[AgentId]) -> Result<Vec<(Stored<Agent>, Vitals)>, StoreError> {
        self.told(self.database.agents_of(ids).await)
    }

    async fn vitals_since(&self, since: Timestamp) -> Result<Vec<(AgentId, Vitals)>, StoreError> {
        self.told(self.database.vitals_since(since).await)
    }

    async fn credentials(&self) -> Result<Vec<CredentialRow>, StoreError> {
        self.told(self.database.credentials().await)
    }

    async fn idempotent(&self, scope: &IdempotencyScope) -> Result<Option<IdempotencyKeyRow>, StoreError> {
        self.told(self.database.idempotent(scope).await)
    }

    async fn states(&self, agent: &AgentId, limit: usize) -> Result<Vec<StateRow>, StoreError> {
        self.told(self.database.states(agent, limit).await)
    }

    async fn newest_states(&self) -> Result<Vec<StateRow>, StoreError> {
        self.told(self.database.newest_states().await)
    }

    async fn events(&self, after: EventSeq, task: Option<TaskId>, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.told(self.database.events(after, task, limit).await)
    }

    async fn oldest_event(&self) -> Result<Option<EventSeq>, StoreError> {
        self.told(self.database.oldest_event().await)
    }

    async fn head(&self) -> Result<EventSeq, StoreError> {
        self.told(self.database.head().await)
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn clock(&self) -> Option<Arc<dyn Clock>> {
        Some(self.database.told_time())
    }

    async fn news(&self, after: EventSeq, limit: usize) -> Result<News, StoreError> {
        self.told(self.database.news(after, limit).await)
    }

    async fn noticed(&self) {
        self.database.news.notified().await;
    }

    fn replica(&self) -> ReplicaId {
        self.database.replica
    }

    async fn replicas(&self) -> Result<Vec<(ReplicaId, Timestamp)>, StoreError> {
        self.told(self.database.replicas().await)
    }

    async fn pulse(&self) -> Result<Option<Timestamp>, StoreError> {
        self.told(self.database.pulse().await)
    }

    async fn callbacks(
        &self,
        after: Option<(Timestamp, TaskId)>,
        limit: usize,
    ) -> Result<Vec<Stored<DueCallback>>, StoreError> {
        self.told(self.database.callbacks(after, limit).await)
    }

    async fn depths(&self) -> Result<Depths, StoreError> {
        self.told(self.database.depths().await)
    }

    fn stats(&self) -> StoreStats {
        StoreStats { waiting: self.changes.waiting() + self.claims.waiting(), ..self.tally.stats() }
    }

    async fn commit(&self, change: Change) -> Result<Committed, StoreError> {
        let Claims { head, .. } = self.write(Some(change), None).await?;
        Ok(Committed { head })
    }

    async fn claim(&self, demand: Demand, decide: Arc<Decide>) -> Result<Claims, StoreError> {
        self.write(None, Some((demand, decide))).await
    }

    async fn commit_and_claim(
        &self,
        change: Change,
        demand: Demand,
        decide: Arc<Decide>,
    ) -> Result<Claims, StoreError> {
        self.write(Some(change), Some((demand, decide))).await
    }

    async fn purge(&self, cutoffs: &Cutoffs, limit: usize) -> Result<Purged, StoreError> {
        self.ask(&self.changes, 0, |reply| Request::Purge(*cutoffs, limit, reply)).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        // First, or what it is refused would be told as an outage.
        self.stop.cancel();
        self.database.refuse();
        // An error says that it has ended already.
        let _ = self.changes.send(Request::Close, 0).await;
        let _ = self.claims.send(Request::Close, 0).await;
        self.running.wait().await;
        self.database.say_goodbye().await;
        self.database.close().await;
        Ok(())
    }
}
