//! How a store is opened.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;

/// How a [`PostgresStore`](super::PostgresStore) is opened.
#[derive(Clone)]
#[non_exhaustive]
pub struct PostgresOptions {
    /// The schema that everything stands in; `eap`. Lower-case letters, digits and `_`. Several stores can share a
    /// database, each in a schema of its own.
    pub schema: String,
    /// How many connections are open at most; 10. Zero counts as one. Two of them write, one if there are no more than three.
    /// A pool that is handed over has its own bound.
    pub max_connections: u32,
    /// How long one statement may take; 5 s. A call whose statement takes longer fails with
    /// [`StoreError::Unavailable`](crate::store::StoreError::Unavailable). A whole transaction may take four times as long.
    /// Less than 1 ms counts as 1 ms, more than a day as a day.
    pub statement_timeout: Duration,
    /// How long a statement waits for a row that another transaction holds; 2 s. Within the same bounds.
    pub lock_timeout: Duration,
    /// Whether an empty or older schema is brought to the newest version; yes. If not, one that is not at this version
    /// is refused: for those who migrate by hand, with a role that may. The role that the store runs under needs the rights to
    /// read and write all tables of the schema then, and `USAGE` on its sequences.
    pub migrate: bool,
    /// Whether statements are prepared once for each connection; yes. A proxy that gives a connection to others between
    /// transactions and does not follow prepared statements (PgBouncer before 1.21) needs a no: then each read is a
    /// transaction, too, which costs two more messages to the server and back.
    pub prepared_statements: bool,
    /// Where to listen for what others commit, in the same database, if not where everything else is asked: the address of the
    /// server itself, for those who go through a proxy that gives a connection to others between transactions. Such a
    /// proxy cannot listen: without this, and with `prepared_statements` off, what others commit is looked for
    /// twice a second. Listening takes one more connection, of a pool that is handed over one of its own, if it has three.
    pub listen_url: Option<String>,
    /// What tells the time. `None`, the default, is the database itself, so that replicas agree about leases whatever
    /// their own clocks say; a clock is for tests that move it.
    pub clock: Option<Arc<dyn Clock>>,
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An address may hold a password.
        f.debug_struct("PostgresOptions")
            .field("schema", &self.schema)
            .field("max_connections", &self.max_connections)
            .field("statement_timeout", &self.statement_timeout)
            .field("lock_timeout", &self.lock_timeout)
            .field("migrate", &self.migrate)
            .field("prepared_statements", &self.prepared_statements)
            .field("listens_elsewhere", &self.listen_url.is_some())
            .finish_non_exhaustive()
    }
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            schema: "eap".to_owned(),
            max_connections: 10,
            statement_timeout: Duration::from_secs(5),
            lock_timeout: Duration::from_secs(2),
            migrate: true,
            prepared_statements: true,
            listen_url: None,
            clock: None,
        }
    }
}

impl PostgresOptions {
    /// Sets the schema that everything stands in.
    #[must_use]
    pub fn with_schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// Sets how many connections are open at most.
    #[must_use]
    pub fn with_max_connections(mut self, max_connections: u32) -> Self {
        self.max_connections = max_connections;
        self
    }

    /// Sets how long one statement may take.
    #[must_use]
    pub fn with_statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }

    /// Sets how long a statement waits for a row that another transaction holds.
    #[must_use]
    pub fn with_lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// Sets whether an empty or older schema is brought to the newest version.
    #[must_use]
    pub fn with_migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// Sets whether statements are prepared once for each connection.
    #[must_use]
    pub fn with_prepared_statements(mut self, prepared_statements: bool) -> Self {
        self.prepared_statements = prepared_statements;
        self
    }

    /// Sets where to listen for what others commit.
    #[must_use]
    pub fn with_listen_url(mut self, url: impl Into<String>) -> Self {
        self.listen_url = Some(url.into());
        self
    }

    /// Takes the time from `clock` instead of the database.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }
}
