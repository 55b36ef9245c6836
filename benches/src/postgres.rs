//! A PostgreSQL server under the orchestrator: this machine's own, private to this run, with `fsync` and `synchronous_commit`
//! on; a schema for each database that a measurement asks for, and what the server says of itself.

use std::fs;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::Serialize;
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};

use crate::BoxError;
use crate::load::rounded;

/// A schema of a private server, gone with what is in it when it is dropped by [`Schema::remove`].
#[derive(Clone, Debug)]
pub(crate) struct Schema {
    pub(crate) url: String,
    pub(crate) name: String,
}

/// What the server has done so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Work {
    /// Processor time of all its processes, in seconds.
    cpu: f64,
    /// Bytes of its log.
    log: f64,
    transactions: f64,
}

/// What a task cost the server.
#[derive(Debug, Serialize)]
pub(crate) struct Cost {
    postgres_cpu_us_per_task: f64,
    postgres_log_bytes_per_task: f64,
    postgres_transactions_per_task: f64,
}

impl Schema {
    /// A new one; `None` where this machine has no PostgreSQL, which is said aloud.
    pub(crate) fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let server = eap_tests::postgres::server()?;
        let name = format!("eap_bench_{}_{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Some(Self { url: server.url().to_owned(), name })
    }

    async fn connect(&self) -> Result<PgConnection, BoxError> {
        Ok(PgConnection::connect(&self.url).await?)
    }

    /// How many results it holds.
    pub(crate) async fn results(&self) -> Result<u64, BoxError> {
        let sql = format!("SELECT count(*) FROM {}.result", self.name);
        let count: i64 = sqlx::query(&sql).fetch_one(&mut self.connect().await?).await?.try_get(0)?;
        Ok(count.try_into()?)
    }

    /// How many bytes its tables take, with their indexes, once what is dead in them is cleared away.
    pub(crate) async fn bytes(&self) -> Result<u64, BoxError> {
        let mut connection = self.connect().await?;
        let sql = "SELECT relname FROM pg_class WHERE relnamespace = $1::regnamespace AND relkind = 'r'";
        for row in sqlx::query(sql).bind(&self.name).fetch_all(&mut connection).await? {
            let table: String = row.try_get(0)?;
            connection.execute(&*format!("VACUUM ANALYZE {}.{table}", self.name)).await?;
        }
        let sql = "SELECT sum(pg_total_relation_size(oid))::int8 FROM pg_class \
             WHERE relnamespace = $1::regnamespace AND relkind = 'r'";
        let bytes: i64 = sqlx::query(sql).bind(&self.name).fetch_one(&mut connection).await?.try_get(0)?;
        Ok(bytes.try_into()?)
    }

    /// What the server has done so far, for whomever. Backends tell of their transactions when they rest, so it is late by a
    /// second at most.
    pub(crate) async fn work(&self) -> Result<Work, BoxError> {
        let mut connection = self.connect().await?;
        let sql = "SELECT pg_backend_pid(), pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8, \
             (SELECT sum(xact_commit)::float8 FROM pg_stat_database WHERE datname = current_database())";
        let row = sqlx::query(sql).fetch_one(&mut connection).await?;
        let pid: i32 = row.try_get(0)?;
        Ok(Work { cpu: cpu_of_all(pid)?, log: row.try_get(1)?, transactions: row.try_get(2)? })
    }

    /// Removes it with all that is in it.
    pub(crate) async fn remove(self) -> Result<(), BoxError> {
        self.connect().await?.execute(&*format!("DROP SCHEMA {} CASCADE", self.name)).await?;
        Ok(())
    }
}

impl Work {
    /// What each of so many tasks cost since `earlier`.
    pub(crate) fn each(&self, earlier: &Self, tasks: u64) -> Cost {
        let each = |amount: f64| rounded(amount / tasks.max(1) as f64);
        Cost {
            postgres_cpu_us_per_task: each((self.cpu - earlier.cpu) * 1e6),
            postgres_log_bytes_per_task: each(self.log - earlier.log),
            postgres_transactions_per_task: each(self.transactions - earlier.transactions),
        }
    }
}

/// Processor time of the server that the process `backend` belongs to: its own, its children's, and that of those that ended.
fn cpu_of_all(backend: i32) -> Result<f64, BoxError> {
    let server = fields(&backend.to_string())?.first().copied().ok_or("a process has a parent")?;
    // `utime` and `stime`, and those of children that ended.
    let mut ticks: u64 = fields(&server.to_string())?.get(10..14).map_or(0, |times| times.iter().sum());
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else { continue };
        // One that ends meanwhile is counted with its parent next time.
        let Ok(fields) = fields(pid) else { continue };
        if fields.first() == Some(&server) {
            ticks += fields.get(10..12).map_or(0, |times| times.iter().sum());
        }
    }
    // The kernel counts for programs in hundredths of a second, whatever it does itself.
    Ok(ticks as f64 / 100.0)
}

/// What `/proc` says of a process, from its parent on.
fn fields(pid: &str) -> Result<Vec<u64>, BoxError> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Its name may hold anything, and stands in parentheses; behind them a letter for its state.
    let (_, rest) = text.rsplit_once(") ").ok_or("a process has a name")?;
    Ok(rest.split_whitespace().skip(1).map(|field| field.parse().unwrap_or(0)).collect())
}
