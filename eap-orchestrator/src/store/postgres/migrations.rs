//! The schema and its versions.

use std::time::Duration;

use sqlx::Row;

use super::database::{Database, Transaction};
use super::fault::Fault;
use super::values::arguments;
use crate::store::StoreError;

/// Every migration, oldest first; the version of a schema is the number of those it has seen.
const MIGRATIONS: [Migration; 5] = [
    Migration { sql: include_str!("migrations/0001.sql"), oldest: 1 },
    Migration { sql: include_str!("migrations/0002.sql"), oldest: 1 },
    Migration { sql: include_str!("migrations/0003.sql"), oldest: 1 },
    Migration { sql: include_str!("migrations/0004.sql"), oldest: 1 },
    Migration { sql: include_str!("migrations/0005.sql"), oldest: 1 },
];

/// One step of the schema.
struct Migration {
    sql: &'static str,
    /// The oldest version whose programs can stand on what it makes: one that only adds what they need not know leaves them
    /// be, so that replicas can be upgraded one after the other.
    oldest: i64,
}

/// Where the version stands. No other program's table of versions is called so, in a schema that is shared with one.
const VERSION: &str = "eap_schema_version";

/// How often a migration is begun that others are in the way of, and the pause before it is begun again.
const MAX_TRIES: u32 = 30;
const PAUSE: Duration = Duration::from_secs(1);

/// How long a migration waits for a table: as long as it does, others wait behind it.
const TABLE: &str = "SET LOCAL lock_timeout = '1s'";

/// The version this program reads and writes.
const NEWEST: i64 = MIGRATIONS.len() as i64;

/// Brings the schema to the newest version, or refuses one that is not at it.
///
/// One transaction under a lock: of several replicas that start, one migrates and the others find it done; killed at any
/// statement, it leaves nothing behind. It waits for tables only as long as those who use them can: then it is begun anew.
pub(super) async fn migrate(database: &Database, may_change: bool) -> Result<(), StoreError> {
    for tries in 1.. {
        match migrate_once(database, may_change).await {
            Err(Stop::Failed(fault)) if (fault.is_crossed() || fault.is_late()) && tries < MAX_TRIES => {
                tracing::info!(?fault, tries, "others use the tables that are to be changed; it is tried again");
                tokio::time::sleep(PAUSE).await;
            }
            Err(Stop::Failed(fault)) => return Err(fault.at_start()),
            Err(Stop::Refused(reason)) => return Err(StoreError::Refused { reason }),
            Ok(()) => break,
        }
    }
    Ok(())
}

async fn migrate_once(database: &Database, may_change: bool) -> Result<(), Stop> {
    let mut loan = match database.acquire().await {
        Ok(loan) => loan,
        Err(fault) => return Err(Stop::Failed(database.explained(fault).await)),
    };
    let outcome = match database.migration(&mut loan).await {
        Ok(mut transaction) => match brought_up(&mut transaction, database.schema.name(), may_change).await {
            Ok(()) => transaction.commit().await.map_err(Stop::Failed),
            Err(Stop::Failed(fault)) => Err(Stop::Failed(transaction.rollback(fault).await)),
            // Nothing was changed.
            Err(refused) => transaction.commit().await.map_err(Stop::Failed).and(Err(refused)),
        },
        Err(fault) => Err(Stop::Failed(fault)),
    };
    let fault = match &outcome {
        Err(Stop::Failed(fault)) => Some(fault),
        _ => None,
    };
    database.give_back(loan, fault);
    outcome
}

/// Why a schema was left as it was.
enum Stop {
    Refused(String),
    Failed(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}

async fn brought_up(transaction: &mut Transaction<'_>, schema: &str, may_change: bool) -> Result<(), Stop> {
    let encoding = transaction.row("SELECT current_setting('server_encoding')", arguments![]).await?;
    let encoding = encoding.map(|row| row.try_get::<String, _>(0)).transpose().map_err(Fault::from)?;
    if encoding.as_deref() != Some("UTF8") {
        return Err(Stop::Refused(format!(
            "the database's encoding is {}, which cannot hold every text: make one with UTF8",
            encoding.unwrap_or_default()
        )));
    }
    let version = version(transaction, schema, may_change).await?;
    if version > NEWEST {
        // Whoever made it that new has said whom it still suits.
        let row = transaction.row(&format!("SELECT oldest FROM eap.{VERSION}"), arguments![]).await?;
        let oldest = row.map_or(Ok(version), |row| row.try_get(0)).map_err(Fault::from)?;
        if oldest <= NEWEST {
            tracing::info!(schema, version, known = NEWEST, "the database schema is newer, and suits this program too");
            return Ok(());
        }
        return Err(Stop::Refused(format!(
            "the schema {schema} has version {version}, and this program knows versions up to {NEWEST}: use a newer program"
        )));
    }
    if version == NEWEST {
        return Ok(());
    }
    if !may_change {
        return Err(Stop::Refused(format!(
            "the schema {schema} has version {version}, this program needs {NEWEST}, and it was told not to migrate"
        )));
    }
    let missing = MIGRATIONS.get(usize::try_from(version).unwrap_or(0)..).unwrap_or_default();
    transaction.execute_all(TABLE).await?;
    for migration in missing {
        transaction.execute_all(migration.sql).await?;
    }
    let oldest = missing.iter().map(|migration| migration.oldest).max().unwrap_or(NEWEST);
    let sql = format!("UPDATE eap.{VERSION} SET version = $1, oldest = greatest(oldest, $2)");
    transaction.execute(&sql, arguments![NEWEST, oldest]).await?;
    tracing::info!(schema, from = version, to = NEWEST, "database schema is brought up to date");
    Ok(())
}

/// Whether the schema is of a newer version by now than this program knows.
pub(super) async fn is_newer(transaction: &mut Transaction<'_>) -> Result<bool, Fault> {
    let row = transaction.row(&format!("SELECT version > $1 FROM eap.{VERSION}"), arguments![NEWEST]).await?;
    Ok(row.map_or(Ok(false), |row| row.try_get(0))?)
}

/// How many migrations the schema has seen; makes an empty one if it may.
async fn version(transaction: &mut Transaction<'_>, schema: &str, may_change: bool) -> Result<i64, Fault> {
    // Whatever else takes such locks in this database, two numbers that agree by chance cost a wait.
    let lock = "SELECT pg_advisory_xact_lock(hashtext('eap schema'), hashtext($1))";
    transaction.rows(lock, arguments![schema]).await?;
    // Asked for rather than `IF NOT EXISTS`, which needs the right to make one even where there is one.
    let is_there =
        transaction.row("SELECT 1 FROM pg_namespace WHERE nspname = $1", arguments![schema]).await?.is_some();
    let is_known = transaction
        .row("SELECT 1 FROM pg_tables WHERE schemaname = $1 AND tablename = $2", arguments![schema, VERSION])
        .await?
        .is_some();
    if is_known {
        let row = transaction.row(&format!("SELECT version FROM eap.{VERSION}"), arguments![]).await?;
        let row = row.ok_or_else(|| Fault::nonsense("the schema does not say which version it has"))?;
        return Ok(row.try_get(0)?);
    }
    if may_change {
        if !is_there {
            transaction.execute_all(&format!("CREATE SCHEMA \"{schema}\"")).await?;
        }
        let sql = format!("CREATE TABLE eap.{VERSION} (version int8 NOT NULL); INSERT INTO eap.{VERSION} VALUES (0)");
        transaction.execute_all(&sql).await?;
    }
    Ok(0)
}
