//! How a store is opened: versions of the schema, several at once, and on whose connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use eap_orchestrator::store::{Change, Decide, EventSeq, PostgresOptions, PostgresStore, Repository, StoreError};
use eap_types::Timestamp;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};
use tokio::task::JoinSet;

use crate::postgres::{Schema, is_there};
use crate::records::{asking, granting, inserting, open, register, task};

fn options(schema: &Schema) -> PostgresOptions {
    PostgresOptions::default().with_schema(schema.name()).with_max_connections(3)
}

fn refusal(outcome: Result<PostgresStore, StoreError>) -> String {
    match outcome {
        Err(StoreError::Refused { reason }) => reason,
        other => panic!("a refusal was due, not {other:?}"),
    }
}

async fn connection(schema: &Schema) -> PgConnection {
    PgConnection::connect(schema.url()).await.expect("the server is there")
}

#[tokio::test(flavor = "multi_thread")]
async fn of_replicas_that_start_at_once_one_migrates_and_all_open() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let mut opening = JoinSet::new();
    for _ in 0..6 {
        let (url, options) = (schema.url().to_owned(), options(&schema));
        opening.spawn(async move { PostgresStore::connect(&url, options).await });
    }
    for store in opening.join_all().await {
        store.expect("all of them open").head().await.expect("a read succeeds");
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_as_it_is() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    open(&schema).await.close().await.expect("a store closes");
    let mut connection = connection(&schema).await;
    let sql = format!("UPDATE {}.eap_schema_version SET version = version + 1, oldest = version + 1", schema.name());
    connection.execute(&*sql).await.expect("the version can be set");
    let reason = refusal(PostgresStore::connect(schema.url(), options(&schema)).await);
    assert!(reason.contains("use a newer program"), "{reason}");
}

/// As while replicas are upgraded one after the other: those of the version before go on, and start anew.
#[tokio::test]
async fn a_newer_schema_that_suits_older_programs_is_taken_as_it_is() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let running = open(&schema).await;
    let mut connection = connection(&schema).await;
    let sql = format!(
        "ALTER TABLE {0}.event ADD COLUMN newer int8; UPDATE {0}.eap_schema_version SET version = version + 1",
        schema.name()
    );
    connection.execute(&*sql).await.expect("the schema can be changed");
    running.commit(inserting(task("a"))).await.expect("one that runs goes on");
    let started = open(&schema).await;
    started.commit(inserting(task("a"))).await.expect("one that is started works");
    let sql = format!("SELECT version - $1 FROM {}.eap_schema_version", schema.name());
    let left: i64 = sqlx::query(&sql).bind(2_i64).fetch_one(&mut connection).await.expect("a read succeeds").get(0);
    assert!(left > 0, "the version is left as it is");
}

/// The first version had no column for it: what it wrote is there after the upgrade, and both go on.
#[tokio::test]
async fn a_schema_of_the_first_version_is_brought_up_while_it_is_used() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let store = open(&schema).await;
    let kept = task("a");
    let id = kept.id();
    store.commit(inserting(kept)).await.expect("a commit succeeds");
    store.close().await.expect("a store closes");
    let mut connection = connection(&schema).await;
    let back = format!(
        "ALTER TABLE {0}.event DROP COLUMN writer; ALTER TABLE {0}.vitals DROP COLUMN epoch; \
         DROP TABLE {0}.replica; DROP TABLE {0}.inbox; DROP TABLE {0}.artifact; DROP TABLE {0}.artifact_piece; \
         DROP FUNCTION {0}.look; DROP FUNCTION {0}.heads; \
         ALTER TABLE {0}.eap_schema_version DROP COLUMN oldest; UPDATE {0}.eap_schema_version SET version = 1",
        schema.name()
    );
    connection.execute(&*back).await.expect("the schema can be set back");
    let store = open(&schema).await;
    assert!(store.task(id).await.expect("a read succeeds").is_some());
    assert_eq!(store.news(EventSeq(0), 10).await.expect("a read succeeds").events.len(), 1);
    store.commit(inserting(task("a"))).await.expect("a commit succeeds");
}

#[tokio::test]
async fn a_schema_is_left_alone_by_one_that_may_not_migrate() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let careful = || options(&schema).with_migrate(false);
    let reason = refusal(PostgresStore::connect(schema.url(), careful()).await);
    assert!(reason.contains("told not to migrate"), "{reason}");
    let sql = "SELECT count(*) FROM pg_namespace WHERE nspname = $1";
    let made = sqlx::query(sql).bind(schema.name()).fetch_one(&mut connection(&schema).await).await.expect("a read");
    assert_eq!(made.get::<i64, _>(0), 0);

    open(&schema).await.close().await.expect("a store closes");
    PostgresStore::connect(schema.url(), careful()).await.expect("it is at the newest version").close().await.unwrap();
}

/// A53: what happens to a migration that is cut at its last moment happens at every other, since it is one transaction.
#[tokio::test]
async fn a_migration_that_is_cut_leaves_nothing_behind() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let mut other = connection(&schema).await;
    // The last table of the migration is in somebody else's hand, who takes it back at the end.
    other.execute(&*format!("CREATE SCHEMA {}", schema.name())).await.expect("a schema is made");
    let held = format!("BEGIN; CREATE TABLE {}.session_step (task bytea)", schema.name());
    other.execute(&*held).await.expect("a table is made");
    let (url, options) = (schema.url().to_owned(), options(&schema));
    let (first, again) = (options.clone(), options);
    let opening = tokio::spawn(async move { PostgresStore::connect(&url, first).await.map(drop) });
    let started = Instant::now();
    let pid: i32 = loop {
        assert!(started.elapsed() < Duration::from_secs(20), "the migration does not get there");
        let sql = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1";
        // The server shows how its text begins.
        let row = sqlx::query(sql).bind(format!("%CREATE FUNCTION \"{}\".clock%", schema.name()));
        if let Some(row) = row.fetch_optional(&mut connection(&schema).await).await.expect("a read succeeds") {
            break row.get(0);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    sqlx::query("SELECT pg_terminate_backend($1)").bind(pid).execute(&mut other).await.expect("it is ended");
    let cut = opening.await.expect("it does not panic");
    assert!(matches!(cut, Err(StoreError::Unavailable { .. })), "{cut:?}");
    other.execute("ROLLBACK").await.expect("a transaction ends");
    let sql = "SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = n.oid) \
         + (SELECT count(*) FROM pg_proc WHERE pronamespace = n.oid) FROM pg_namespace n WHERE n.nspname = $1";
    let left = sqlx::query(sql).bind(schema.name()).fetch_one(&mut other).await.expect("a read succeeds");
    assert_eq!(left.get::<i64, _>(0), 0, "the schema is as empty as it was");

    let store = PostgresStore::connect(schema.url(), again).await.expect("the next start migrates");
    store.commit(inserting(task("a"))).await.expect("a commit succeeds");
}

#[tokio::test]
async fn what_cannot_be_opened_is_refused_without_telling_the_password() {
    let reason = refusal(PostgresStore::connect("postgres://a:hunter2@[", PostgresOptions::default()).await);
    assert!(!reason.contains("hunter2"), "{reason}");
    let named = PostgresOptions::default().with_schema("a\"; DROP SCHEMA public; --");
    refusal(PostgresStore::connect("postgres://127.0.0.1/eap", named).await);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let outcome = PostgresStore::connect(&format!("postgres://{free}/eap"), PostgresOptions::default()).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable { .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_pool_that_was_handed_over_stays_open() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let pool = PgPoolOptions::new().max_connections(3).connect(schema.url()).await.expect("the server is there");
    let store = PostgresStore::with_pool(pool.clone(), options(&schema)).await.expect("the schema can be opened");
    let written = Change { pulse: Some(Timestamp::UNIX_EPOCH), ..Change::default() };
    store.commit(written).await.expect("a commit succeeds");
    store.close().await.expect("a store closes");
    assert!(matches!(store.pulse().await, Err(StoreError::Closed)));
    let sql = format!("SELECT value FROM {}.meta WHERE key = 'pulse'", schema.name());
    let row = sqlx::query(&sql).fetch_one(&pool).await.expect("the host's pool is open");
    assert_eq!(row.get::<i64, _>(0), 0);
}

#[tokio::test]
async fn times_are_the_databases() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let store = open(&schema).await;
    let task = task("a");
    let id = task.id();
    store.commit(inserting(task)).await.expect("a commit succeeds");
    // A server whose clock is an hour ahead of this machine's.
    let mut connection = connection(&schema).await;
    let clock = "SELECT ((extract(epoch FROM clock_timestamp()) + 3600) * 1000000)::int8";
    let ahead = format!(
        "CREATE OR REPLACE FUNCTION {}.clock() RETURNS int8 LANGUAGE sql VOLATILE AS $$ {clock} $$",
        schema.name()
    );
    connection.execute(&*ahead).await.expect("the clock can be set");
    let mut now =
        async || -> i64 { sqlx::query(clock).fetch_one(&mut connection).await.expect("a read succeeds").get(0) };
    let before = now().await;
    let told = store.task(id).await.expect("a read succeeds").expect("it is stored").now.as_micros();
    assert!((before..=now().await).contains(&told), "{told}");

    let agent = register(&store, "a", 1).await;
    let decided = Arc::new(AtomicI64::new(0));
    let decide: Arc<Decide> = Arc::new({
        let decided = Arc::clone(&decided);
        move |task, ask, now| {
            decided.store(now.as_micros(), Ordering::SeqCst);
            granting()(task, ask, now)
        }
    });
    let before = now().await;
    store.claim(asking(&agent, 1), decide).await.expect("a claim succeeds");
    let told = decided.load(Ordering::SeqCst);
    assert!((before..=now().await).contains(&told), "{told}");
}

/// A schema that is shared with another program's tables.
#[tokio::test]
async fn the_table_of_versions_of_another_program_is_not_taken_for_ours() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let theirs = format!("CREATE SCHEMA {0}; CREATE TABLE {0}.schema_version AS SELECT 'V9' AS version", schema.name());
    connection(&schema).await.execute(&*theirs).await.expect("a table can be made");
    let store = PostgresStore::connect(schema.url(), options(&schema)).await.expect("it is made beside theirs");
    store.commit(inserting(task("a"))).await.expect("a commit succeeds");
}

/// Limits of nothing and of ever, which the server would take for none and could not count.
#[tokio::test]
async fn extreme_limits_are_brought_to_their_bounds() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let patient = options(&schema).with_statement_timeout(Duration::MAX).with_lock_timeout(Duration::MAX);
    let store = PostgresStore::connect(schema.url(), patient).await.expect("the schema can be opened");
    store.commit(inserting(task("a"))).await.expect("a commit succeeds");
    let mut other = connection(&schema).await;
    let held = format!("BEGIN; UPDATE {}.meta SET value = value WHERE key = 'last_event'", schema.name());
    other.execute(&*held).await.expect("the row can be held");
    let hasty = PostgresStore::connect(schema.url(), options(&schema).with_lock_timeout(Duration::ZERO)).await;
    let hasty = hasty.expect("the schema can be opened");
    let written = tokio::time::timeout(Duration::from_secs(3), hasty.commit(inserting(task("a")))).await;
    assert!(matches!(written, Ok(Err(StoreError::Unavailable { .. }))), "{written:?}");
}

/// What was acknowledged is on the disk (G1), whatever the server does for others.
#[tokio::test]
async fn a_commit_waits_for_the_disk_where_the_servers_default_does_not() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    open(&schema).await.close().await.expect("a store closes");
    let name = schema.name();
    let mut connection = connection(&schema).await;
    let spy = format!(
        "CREATE TABLE {name}.spied (mode text); \
         CREATE FUNCTION {name}.spy() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN INSERT INTO {name}.spied VALUES (current_setting('synchronous_commit')); RETURN NEW; END $$; \
         CREATE TRIGGER spy AFTER INSERT ON {name}.event FOR EACH ROW EXECUTE FUNCTION {name}.spy()"
    );
    connection.execute(&*spy).await.expect("a trigger can be made");
    let sloppy: sqlx::postgres::PgConnectOptions = schema.url().parse().expect("this is a URL");
    let sloppy = sloppy.options([("synchronous_commit", "off")]);
    let pool = PgPoolOptions::new().max_connections(3).connect_with(sloppy).await.expect("the server is there");
    let store = PostgresStore::with_pool(pool, options(&schema)).await.expect("the schema can be opened");
    store.commit(inserting(task("a"))).await.expect("a commit succeeds");
    let sql = format!("SELECT mode FROM {name}.spied");
    let row = sqlx::query(&sql).fetch_one(&mut connection).await.expect("it was spied on");
    assert_eq!(row.get::<String, _>(0), "on");
}
