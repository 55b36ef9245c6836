//! The way to the server: a bounded pool, statements with a limit of time, and transactions.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use eap_types::Timestamp;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::{ConnectOptions, Connection, Executor, Postgres};

use super::fault::Fault;
use super::options::PostgresOptions;
use super::schema::Schema;
use super::values::time;
use crate::clock::Clock;
use crate::store::StoreError;

/// How long a call waits for a free connection, or for a server that does not answer.
const ACQUIRE: Duration = Duration::from_secs(3);

/// A connection that lay idle for longer is asked whether it is alive before it is used.
const FRESH: Duration = Duration::from_secs(1);

/// For how long no connection is trusted after one was lost: the others were likely lost with it.
const DOUBT: Duration = Duration::from_secs(30);

/// How long one statement of a migration may take, and how long it waits for another replica that migrates.
const MIGRATION: Duration = Duration::from_secs(600);

/// A database, and the schema in it that is a store's.
#[derive(Debug)]
pub(super) struct Database {
    pool: PgPool,
    /// Whether the pool is to be closed with the store.
    is_own: bool,
    is_closed: AtomicBool,
    losses: Arc<Losses>,
    pub(super) schema: Schema,
    pub(super) time: Time,
    begin: String,
    statement: Duration,
    is_prepared: bool,
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
        let parsed: Result<PgConnectOptions, _> = url.parse();
        // The error may quote the URL, and with it a password.
        let refused = |_| StoreError::Refused { reason: "this is not the URL of a PostgreSQL database".to_owned() };
        // A setting that proxies between us and the server may not know; we read no floating-point numbers.
        let connect =
            parsed.map_err(refused)?.extra_float_digits(None).application_name("eap").disable_statement_logging();
        let losses = Arc::new(Losses::default());
        let doubts = Arc::clone(&losses);
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections.max(1))
            .acquire_timeout(ACQUIRE)
            .test_before_acquire(false)
            .before_acquire(move |connection, of| {
                let is_trusted = of.idle_for < FRESH && !doubts.are_recent();
                Box::pin(async move {
                    if !is_trusted {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(connect);
        Self::of(pool, true, losses, options)
    }

    /// A database whose connections are another's, too.
    pub(super) fn of_pool(pool: PgPool, options: &PostgresOptions) -> Result<Self, StoreError> {
        Self::of(pool, false, Arc::default(), options)
    }

    fn of(pool: PgPool, is_own: bool, losses: Arc<Losses>, options: &PostgresOptions) -> Result<Self, StoreError> {
        Ok(Self {
            pool,
            is_own,
            is_closed: AtomicBool::new(false),
            losses,
            schema: Schema::named(&options.schema)?,
            time: options.clock.clone().map_or(Time::Database, Time::Clock),
            begin: begin(options.statement_timeout, options.lock_timeout),
            statement: options.statement_timeout,
            is_prepared: options.prepared_statements,
        })
    }

    /// How long a whole transaction may take, and a statement whose answer is lost on the way.
    pub(super) fn transaction_limit(&self) -> Duration {
        self.statement * 4
    }

    /// Reads, with one statement that names its tables as in `eap.task`.
    pub(super) async fn rows(&self, sql: &str, arguments: PgArguments) -> Result<Vec<PgRow>, Fault> {
        let mut connection = self.acquire_to_read().await?;
        let rows = async {
            if self.is_prepared {
                let sql = self.schema.sql(sql);
                return Ok(sqlx::query_with(&sql, arguments).fetch_all(&mut *connection).await?);
            }
            // What is prepared for the next message alone must meet the same connection of the server.
            let mut moment = self.moment(&mut connection).await?;
            let rows = moment.rows(sql, arguments).await?;
            moment.commit().await?;
            Ok(rows)
        };
        let outcome = tokio::time::timeout(self.statement, rows).await.unwrap_or_else(|_| Err(Fault::late()));
        outcome.inspect_err(|fault| self.let_go(connection, fault))
    }

    /// The same where there is one row or none.
    pub(super) async fn row(&self, sql: &str, arguments: PgArguments) -> Result<Option<PgRow>, Fault> {
        Ok(self.rows(sql, arguments).await?.pop())
    }

    /// A connection for a read: none once the store was closed, while writes that were handed over are still made.
    pub(super) async fn acquire_to_read(&self) -> Result<PoolConnection<Postgres>, Fault> {
        if self.is_closed.load(Ordering::SeqCst) {
            return Err(Fault::closed());
        }
        self.acquire().await
    }

    pub(super) async fn acquire(&self) -> Result<PoolConnection<Postgres>, Fault> {
        // A host's pool may have more patience than our callers.
        let acquired = match tokio::time::timeout(ACQUIRE, self.pool.acquire()).await {
            Ok(acquired) => acquired.map_err(Fault::from),
            Err(_) => Err(Fault::late()),
        };
        acquired.inspect_err(|fault| self.note(fault))
    }

    /// Begins a transaction in which every statement has its limits, and what was acknowledged is on disk whatever the
    /// server's default is.
    pub(super) async fn begin<'c>(
        &'c self,
        connection: &'c mut PoolConnection<Postgres>,
    ) -> Result<Transaction<'c>, Fault> {
        let inner = connection.begin_with(self.begin.clone()).await?;
        Ok(self.transaction(inner))
    }

    /// Begins a transaction that reads one moment.
    pub(super) async fn moment<'c>(
        &'c self,
        connection: &'c mut PoolConnection<Postgres>,
    ) -> Result<Transaction<'c>, Fault> {
        let limit = millis(self.statement);
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = {limit}; SET LOCAL jit = off"
        );
        Ok(self.transaction(connection.begin_with(begin).await?))
    }

    /// Begins a transaction that may change the schema, alone among all replicas.
    pub(super) async fn migration<'c>(
        &'c self,
        connection: &'c mut PoolConnection<Postgres>,
    ) -> Result<Transaction<'c>, Fault> {
        let begin = begin(MIGRATION, MIGRATION);
        Ok(self.transaction(connection.begin_with(begin).await?))
    }

    fn transaction<'c>(&'c self, inner: sqlx::Transaction<'c, Postgres>) -> Transaction<'c> {
        Transaction { inner, schema: &self.schema, is_prepared: self.is_prepared }
    }

    /// Gives a connection back after a failure: it is closed if it is of no more use, or still busy.
    pub(super) fn let_go(&self, mut connection: PoolConnection<Postgres>, fault: &Fault) {
        self.note(fault);
        if fault.is_lost() || fault.is_late() {
            connection.close_on_drop();
        }
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
            self.pool.close().await;
        }
    }
}

/// All that a transaction sets, in the one message that begins it: nothing stays behind in the session.
fn begin(statement: Duration, lock: Duration) -> String {
    // A replica that is stopped in the middle would hold its rows, and the count of events, for as long. `enable_seqscan`:
    // every statement of a transaction finds its rows by an index, whatever the statistics of a young table say.
    format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
         SET LOCAL statement_timeout = {statement}; SET LOCAL lock_timeout = {lock}; \
         SET LOCAL idle_in_transaction_session_timeout = {statement}; \
         SET LOCAL enable_seqscan = off; SET LOCAL jit = off; \
         SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'",
        statement = millis(statement),
        lock = millis(lock),
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
}

impl Transaction<'_> {
    pub(super) async fn rows(&mut self, sql: &str, arguments: PgArguments) -> Result<Vec<PgRow>, Fault> {
        let sql = self.schema.sql(sql);
        let query = sqlx::query_with(&sql, arguments).persistent(self.is_prepared);
        Ok(query.fetch_all(&mut *self.inner).await?)
    }

    /// The same where there is one row or none.
    pub(super) async fn row(&mut self, sql: &str, arguments: PgArguments) -> Result<Option<PgRow>, Fault> {
        Ok(self.rows(sql, arguments).await?.pop())
    }

    /// Writes, and says how many rows.
    pub(super) async fn execute(&mut self, sql: &str, arguments: PgArguments) -> Result<u64, Fault> {
        let sql = self.schema.sql(sql);
        let query = sqlx::query_with(&sql, arguments).persistent(self.is_prepared);
        Ok(query.execute(&mut *self.inner).await?.rows_affected())
    }

    /// Carries out several statements without arguments.
    pub(super) async fn execute_all(&mut self, sql: &str) -> Result<(), Fault> {
        let sql = self.schema.sql(sql);
        self.inner.execute(sqlx::raw_sql(&sql)).await?;
        Ok(())
    }

    pub(super) async fn commit(self) -> Result<(), Fault> {
        Ok(self.inner.commit().await?)
    }

    /// Undoes what was done, so that the connection is free at once.
    pub(super) async fn rollback(self) {
        // Where this fails, the connection is lost, and the transaction with it.
        let _ = self.inner.rollback().await;
    }
}
