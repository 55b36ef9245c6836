//! The way to the server: a bounded pool, statements with a limit of time, and transactions.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use eap_types::Timestamp;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::{ConnectOptions, Connection, Executor, Postgres};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::clock::DatabaseClock;
use super::fault::Fault;
use super::news::{Doubts, OwnEvents};
use super::options::PostgresOptions;
use super::schema::Schema;
use super::values::time;
use crate::clock::{Clock, SystemEntropy, draw};
use crate::store::{ReplicaId, StoreError};

/// How long a call waits for a free connection, or for a server that does not answer.
const ACQUIRE: Duration = Duration::from_secs(3);

/// A connection that lay idle for longer is asked whether it is alive before it is used.
const FRESH: Duration = Duration::from_secs(1);

/// For how long no connection is trusted after one was lost: the others were likely lost with it.
const DOUBT: Duration = Duration::from_secs(30);

/// How long a connection that lay idle, or is given back, may take to say that it is alive.
const PING: Duration = Duration::from_millis(500);

/// How much longer than the server the store waits for the end of a statement: then the answer is lost on the way.
const GRACE: Duration = Duration::from_secs(1);

/// How long one statement of a migration may take, and how long it waits for another replica that migrates.
const MIGRATION: Duration = Duration::from_secs(600);

/// How long a replica that migrates may do nothing, before the others need not wait for it.
const MIGRATION_PAUSE: Duration = Duration::from_secs(10);

/// How many connections a host's pool must have for one of them to listen.
const ROOM_TO_LISTEN: u32 = 3;

/// How many connections there must be, but for one that listens, for two of them to write.
const ROOM_TO_WRITE: u32 = 4;

/// How long closing waits for connections to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// The limits that options can set: the server counts in milliseconds, and takes 0 for no limit at all.
const LIMITS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(86_400));

/// A database, and the schema in it that is a store's.
#[derive(Debug)]
pub(super) struct Database {
    pool: PgPool,
    /// Where a connection can be kept that hears of others' commits.
    pub(super) listening: Option<PgPool>,
    /// Whether the pool is to be closed with the store.
    is_own: bool,
    is_closed: AtomicBool,
    /// Permits for the connections of the writers, whom no reader keeps waiting.
    writing: Semaphore,
    /// Permits for all others but the one that listens.
    aside: Arc<Semaphore>,
    losses: Arc<Losses>,
    pub(super) schema: Schema,
    pub(super) time: Time,
    /// Tells the database's time between its answers.
    pub(super) clock: Arc<DatabaseClock>,
    pub(super) replica: ReplicaId,
    /// Whose events these are, among those of all stores on the schema.
    writer: AtomicI64,
    pub(super) own: OwnEvents,
    pub(super) doubts: Doubts,
    /// Others may have committed something.
    pub(super) news: Arc<Notify>,
    /// Hosts may have committed tasks.
    pub(super) arrivals: Notify,
    /// Held by whoever moves what they committed.
    pub(super) moving: tokio::sync::Mutex<()>,
    /// Held by a writer from before its events have numbers until they are committed, which the other one cannot pass: it waits
    /// here, and not on the server, where a slow commit would use up its patience.
    pub(super) telling: tokio::sync::Mutex<()>,
    begin: String,
    statement: Duration,
    pub(super) is_prepared: bool,
}

/// What tells the time of a record that is read, and of a claim.
#[derive(Clone, Debug)]
pub(super) enum Time {
    /// The database: statements ask for `eap.clock()`.
    Database,
    /// A clock of this process.
    Clock(Arc<dyn Clock>),
}

impl Time {
    /// The time at which a row was read, from its column with the database's.
    pub(super) fn at(&self, row: &PgRow, column: usize) -> Result<Timestamp, Fault> {
        match self {
            Self::Database => time(row, column),
            Self::Clock(clock) => Ok(clock.now()),
        }
    }
}

/// When a connection was last lost.
#[derive(Debug, Default)]
struct Losses(Mutex<Option<Instant>>);

impl Losses {
    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn are_recent(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|at| at.elapsed() < DOUBT)
    }
}

impl Database {
    /// A database of our own connections.
    pub(super) fn of_url(url: &str, options: &PostgresOptions) -> Result<Self, StoreError> {
        let connect = connect_options(url)?;
        let listening = match &options.listen_url {
            Some(direct) => Some(connect_options(direct)?),
            // What hands a connection to others between transactions would hand them our news as well.
            None => options.prepared_statements.then(|| connect.clone()),
        };
        let losses = Arc::new(Losses::default());
        let doubts = Arc::clone(&losses);
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections.max(1))
            .acquire_timeout(ACQUIRE)
            .test_before_acquire(false)
            .before_acquire(move |connection, of| {
                let is_trusted = of.idle_for < FRESH && !doubts.are_recent();
                Box::pin(async move {
                    // One that is dead would else use up all the time that the call has.
                    Ok(is_trusted || timeout(PING, connection.ping()).await.is_ok_and(|alive| alive.is_ok()))
                })
            })
            .connect_lazy_with(connect);
        Self::of(pool, listening.map(pool_to_listen), true, losses, options)
    }

    /// A database whose connections are another's, too.
    pub(super) fn of_pool(pool: PgPool, options: &PostgresOptions) -> Result<Self, StoreError> {
        let has_room = pool.options().get_max_connections() >= ROOM_TO_LISTEN;
        let listening = match &options.listen_url {
            Some(direct) => Some(pool_to_listen(connect_options(direct)?)),
            None => (options.prepared_statements && has_room).then(|| pool.clone()),
        };
        Self::of(pool, listening, false, Arc::default(), options)
    }

    fn of(
        pool: PgPool,
        listening: Option<PgPool>,
        is_own: bool,
        losses: Arc<Losses>,
        options: &PostgresOptions,
    ) -> Result<Self, StoreError> {
        let statement = options.statement_timeout.clamp(LIMITS.0, LIMITS.1);
        let lock = options.lock_timeout.clamp(LIMITS.0, LIMITS.1);
        let listens = u32::from(!is_own && listening.is_some() && options.listen_url.is_none());
        let connections = pool.options().get_max_connections().saturating_sub(listens);
        let writing = if connections < ROOM_TO_WRITE { 1 } else { 2 };
        let aside = connections.saturating_sub(writing).max(1);
        Ok(Self {
            pool,
            listening,
            is_own,
            is_closed: AtomicBool::new(false),
            writing: Semaphore::new(writing as usize),
            aside: Arc::new(Semaphore::new(aside as usize)),
            losses,
            schema: Schema::named(&options.schema)?,
            time: options.clock.clone().map_or(Time::Database, Time::Clock),
            clock: Arc::new(DatabaseClock::new()),
            replica: ReplicaId(u64::from_le_bytes(draw(&SystemEntropy))),
            writer: AtomicI64::new(drawn_writer()),
            own: OwnEvents::default(),
            doubts: Doubts::default(),
            news: Arc::default(),
            arrivals: Notify::new(),
            moving: tokio::sync::Mutex::default(),
            telling: tokio::sync::Mutex::default(),
            begin: begin(statement, lock, statement),
            statement,
            is_prepared: options.prepared_statements,
        })
    }

    /// What tells the time of the data.
    pub(super) fn told_time(&self) -> Arc<dyn Clock> {
        match &self.time {
            Time::Database => Arc::clone(&self.clock) as Arc<dyn Clock>,
            Time::Clock(clock) => Arc::clone(clock),
        }
    }

    /// The number that events are written with now.
    pub(super) fn writer(&self) -> i64 {
        self.writer.load(Ordering::SeqCst)
    }

    /// Whether a transaction was committed is not known, and so nobody here can have told of its events: they are to be
    /// found as another's would be, from the newest event that was known when it began.
    pub(super) fn be_another_writer(&self, head: u64) {
        self.writer.store(drawn_writer(), Ordering::SeqCst);
        self.doubts.since(head);
        self.news.notify_one();
    }

    /// How long a whole transaction may take, and a statement whose answer is lost on the way.
    pub(super) fn transaction_limit(&self) -> Duration {
        self.statement * 4
    }

    /// Reads, with one statement that names its tables as in `eap.task`.
    pub(super) async fn rows(&self, sql: &str, arguments: PgArguments) -> Result<Vec<PgRow>, Fault> {
        let mut loan = self.acquire_to_read().await?;
        let rows = async {
            if self.is_prepared {
                let sql = self.schema.sql(sql);
                return Ok(sqlx::query_with(&sql, arguments).fetch_all(&mut *loan.connection).await?);
            }
            // What is prepared for the next message alone must meet the same connection of the server.
            let mut moment = self.moment(&mut loan).await?;
            let rows = moment.rows(sql, arguments).await?;
            moment.commit().await?;
            Ok(rows)
        };
        let outcome = within(self.statement, rows).await;
        self.give_back(loan, outcome.as_ref().err());
        outcome
    }

    /// The same where the server may have to look at any number of rows: it stops by itself once that takes too long.
    pub(super) async fn rows_in_time(&self, sql: &str, arguments: PgArguments) -> Result<Vec<PgRow>, Fault> {
        let mut loan = self.acquire_to_read().await?;
        let rows = async {
            let mut moment = self.moment(&mut loan).await?;
            let rows = moment.rows(sql, arguments).await?;
            moment.commit().await?;
            Ok(rows)
        };
        let outcome = within(self.statement + GRACE, rows).await;
        self.give_back(loan, outcome.as_ref().err());
        outcome
    }

    /// The same where there is one row or none.
    pub(super) async fn row(&self, sql: &str, arguments: PgArguments) -> Result<Option<PgRow>, Fault> {
        Ok(self.rows(sql, arguments).await?.pop())
    }

    /// A connection for a read: none once the store was closed, while writes that were handed over are still made.
    pub(super) async fn acquire_to_read(&self) -> Result<Loan, Fault> {
        if self.is_closed.load(Ordering::SeqCst) {
            return Err(Fault::closed());
        }
        self.acquire_aside().await
    }

    /// A connection for what is done beside the writers.
    pub(super) async fn acquire_aside(&self) -> Result<Loan, Fault> {
        let permit =
            within(ACQUIRE, async { Arc::clone(&self.aside).acquire_owned().await.map_err(|_| Fault::closed()) });
        let permit = permit.await?;
        let mut loan = self.acquire().await?;
        loan.permit = Some(permit);
        Ok(loan)
    }

    /// A writer's turn, where it has to wait for the other one's connection.
    pub(super) async fn turn_to_write(&self) -> Result<SemaphorePermit<'_>, Fault> {
        self.writing.acquire().await.map_err(|_| Fault::closed())
    }

    /// A connection for a writer whose turn it is.
    pub(super) async fn acquire(&self) -> Result<Loan, Fault> {
        // A host's pool may have more patience than our callers. Ours gives up first, and says why.
        let acquired = match timeout(ACQUIRE + GRACE, self.pool.acquire()).await {
            Ok(acquired) => acquired.map_err(Fault::from),
            Err(_) => Err(Fault::unreached()),
        };
        let connection = acquired.inspect_err(|fault| self.note(fault))?;
        Ok(Loan { connection, is_sound: false, permit: None })
    }

    /// Why there was no connection: the pool tells that its patience was at its end, a connection of its own tells more.
    pub(super) async fn explained(&self, fault: Fault) -> Fault {
        if !self.is_own || !fault.is_lost() {
            return fault;
        }
        match timeout(GRACE, self.pool.connect_options().connect()).await {
            Ok(Err(error)) => error.into(),
            Ok(Ok(connection)) => {
                // It is back a moment later.
                let _ = timeout(GRACE, connection.close()).await;
                fault
            }
            Err(_) => Fault::silent(),
        }
    }

    /// Begins a transaction in which every statement has its limits, and what was acknowledged is on disk whatever the
    /// server's default is.
    pub(super) async fn begin<'c>(&'c self, loan: &'c mut Loan) -> Result<Transaction<'c>, Fault> {
        self.open(loan, self.begin.clone(), self.statement).await
    }

    /// The same for changes and claims, whose statements are planned once, for any number of rows: planning takes longer than
    /// carrying them out. It also keeps them from walking an index: new ids are at its end, so that a merge looks cheap.
    pub(super) async fn begin_to_write<'c>(&'c self, loan: &'c mut Loan) -> Result<Transaction<'c>, Fault> {
        let begin = format!("{}; SET LOCAL plan_cache_mode = force_generic_plan", self.begin);
        self.open(loan, begin, self.statement).await
    }

    /// Begins a transaction that reads one moment.
    pub(super) async fn moment<'c>(&'c self, loan: &'c mut Loan) -> Result<Transaction<'c>, Fault> {
        let limit = millis(self.statement);
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = {limit}; \
             SET LOCAL idle_in_transaction_session_timeout = {limit}; SET LOCAL jit = off"
        );
        self.open(loan, begin, self.statement).await
    }

    /// Begins a transaction that may change the schema, alone among all replicas.
    pub(super) async fn migration<'c>(&'c self, loan: &'c mut Loan) -> Result<Transaction<'c>, Fault> {
        self.open(loan, begin(MIGRATION, MIGRATION, MIGRATION_PAUSE), MIGRATION).await
    }

    /// Begins a transaction, each of whose statements the server ends after `statement`.
    async fn open<'c>(
        &'c self,
        loan: &'c mut Loan,
        begin: String,
        statement: Duration,
    ) -> Result<Transaction<'c>, Fault> {
        let begun = loan.connection.begin_with(begin);
        let inner = within(self.statement + GRACE, async { begun.await.map_err(Fault::of_begin) }).await?;
        Ok(Transaction { inner, schema: &self.schema, is_prepared: self.is_prepared, limit: statement + GRACE })
    }

    /// Gives a connection back once a call has ended, with its failure if there was one: it is closed if it is of no more
    /// use, or still busy.
    pub(super) fn give_back(&self, mut loan: Loan, fault: Option<&Fault>) {
        if let Some(fault) = fault {
            self.note(fault);
            if fault.is_lost() || fault.is_late() {
                return;
            }
        }
        loan.is_sound = true;
        // The pool asks whether it is alive, for as long as that takes; while it does, the connection counts as taken.
        let (returned, permit) = (loan.connection.return_to_pool(), loan.permit.take());
        tokio::spawn(async move {
            let _ = timeout(PING, returned).await;
            drop(permit);
        });
    }

    fn note(&self, fault: &Fault) {
        if fault.is_lost() {
            self.losses.note();
        }
    }

    /// Reads nothing from now on.
    pub(super) fn refuse(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
    }

    /// Lets go of the connections, if they are ours.
    pub(super) async fn close(&self) {
        self.refuse();
        if self.is_own {
            // One that a dead network swallowed is not waited for: the pool takes it apart once it is given back.
            let _ = timeout(GOODBYE, self.pool.close()).await;
        }
    }
}

fn drawn_writer() -> i64 {
    i64::from_le_bytes(draw(&SystemEntropy))
}

fn connect_options(url: &str) -> Result<PgConnectOptions, StoreError> {
    let parsed: Result<PgConnectOptions, _> = url.parse();
    // The error may quote the URL, and with it a password.
    let refused = |_| StoreError::Refused { reason: "this is not the URL of a PostgreSQL database".to_owned() };
    // A setting that proxies between us and the server may not know; we read no floating-point numbers.
    let connect = parsed.map_err(refused)?.extra_float_digits(None).disable_statement_logging();
    Ok(if connect.get_application_name().is_none() { connect.application_name("eap") } else { connect })
}

/// Of one connection, which is kept.
fn pool_to_listen(connect: PgConnectOptions) -> PgPool {
    let options = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
    options.acquire_timeout(ACQUIRE).connect_lazy_with(connect)
}

/// A connection that somebody uses. Unless it is given back, it is closed: a call whose future was dropped may have left it
/// anywhere, even in a transaction of which the driver has not heard yet.
#[derive(Debug)]
pub(super) struct Loan {
    connection: PoolConnection<Postgres>,
    is_sound: bool,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Loan {
    fn drop(&mut self) {
        if !self.is_sound {
            self.connection.close_on_drop();
        }
    }
}

/// What comes of a call, unless it takes too long.
async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    timeout(limit, call).await.unwrap_or_else(|_| Err(Fault::late()))
}

/// All that a transaction sets, in the one message that begins it: nothing stays behind in the session.
fn begin(statement: Duration, lock: Duration, idle: Duration) -> String {
    // A replica that is stopped in the middle would hold its rows, and the count of events, for as long. `enable_seqscan`:
    // every statement of a transaction finds its rows by an index, whatever the statistics of a young table say.
    format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
         SET LOCAL statement_timeout = {statement}; SET LOCAL lock_timeout = {lock}; \
         SET LOCAL idle_in_transaction_session_timeout = {idle}; \
         SET LOCAL enable_seqscan = off; SET LOCAL jit = off; \
         SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'",
        statement = millis(statement),
        lock = millis(lock),
        idle = millis(idle),
    )
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// An open transaction; dropped without a commit, it is undone.
#[derive(Debug)]
pub(super) struct Transaction<'c> {
    inner: sqlx::Transaction<'c, Postgres>,
    schema: &'c Schema,
    is_prepared: bool,
    limit: Duration,
}

impl Transaction<'_> {
    pub(super) async fn rows(&mut self, sql: &str, arguments: PgArguments) -> Result<Vec<PgRow>, Fault> {
        let sql = self.schema.sql(sql);
        let query = sqlx::query_with(&sql, arguments).persistent(self.is_prepared);
        within(self.limit, async { Ok(query.fetch_all(&mut *self.inner).await?) }).await
    }

    /// The same where there is one row or none.
    pub(super) async fn row(&mut self, sql: &str, arguments: PgArguments) -> Result<Option<PgRow>, Fault> {
        Ok(self.rows(sql, arguments).await?.pop())
    }

    /// Writes, and says how many rows.
    pub(super) async fn execute(&mut self, sql: &str, arguments: PgArguments) -> Result<u64, Fault> {
        let sql = self.schema.sql(sql);
        let query = sqlx::query_with(&sql, arguments).persistent(self.is_prepared);
        within(self.limit, async { Ok(query.execute(&mut *self.inner).await?.rows_affected()) }).await
    }

    /// Carries out several statements without arguments.
    pub(super) async fn execute_all(&mut self, sql: &str) -> Result<(), Fault> {
        let sql = self.schema.sql(sql);
        within(self.limit, async { Ok(self.inner.execute(sqlx::raw_sql(&sql)).await.map(drop)?) }).await
    }

    pub(super) async fn commit(self) -> Result<(), Fault> {
        within(self.limit, async { Ok(self.inner.commit().await?) }).await
    }

    /// Undoes what was done, so that the connection is free at once; gives the fault that tells what becomes of it.
    pub(super) async fn rollback(self, fault: Fault) -> Fault {
        match within(self.limit, async { Ok(self.inner.rollback().await?) }).await {
            Ok(()) => fault,
            // The connection is lost, and the transaction with it.
            Err(lost) => lost,
        }
    }
}
