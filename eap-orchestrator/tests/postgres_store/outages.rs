//! A server that goes away, connections that are cut, rows that somebody holds: calls fail, and the next ones succeed.

use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use eap_orchestrator::store::{Change, Decide, PostgresOptions, PostgresStore, Repository, StoreError};
use eap_tests::postgres::PrivateServer;
use eap_types::Timestamp;
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};

use crate::network::Network;
use crate::postgres::{Schema, is_there};
use crate::records::{asking, claim, granting, ids, inserting, open, register, task};

/// Tries until it succeeds, and fails if anything but an outage is in the way; gives the number of calls that failed.
async fn until_it_works(store: &PostgresStore, patience: Duration) -> u32 {
    let started = Instant::now();
    let mut failed = 0;
    loop {
        match store.commit(inserting(task("a"))).await {
            Ok(_) => return failed,
            Err(StoreError::Unavailable { .. }) => failed += 1,
            Err(other) => panic!("an outage is told as one, not as {other:?}"),
        }
        assert!(started.elapsed() < patience, "the store does not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the server has ended all connections that it was told to end: one may go on for a moment.
async fn all_gone(pids: &[i32], other: &mut PgConnection) {
    let started = Instant::now();
    let sql = "SELECT 1 FROM pg_stat_activity WHERE pid = ANY($1)";
    while !sqlx::query(sql).bind(pids).fetch_all(&mut *other).await.expect("a read succeeds").is_empty() {
        assert!(started.elapsed() < Duration::from_secs(10), "a connection goes on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_were_cut_cost_a_call_at_most() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let store = open(&schema).await;
    let agent = register(&store, "a", 100).await;
    // Several connections are open.
    let reads = (0..6).map(|_| store.head());
    for head in futures_util::future::join_all(reads).await {
        head.expect("a read succeeds");
    }
    let mut other = PgConnection::connect(schema.url()).await.expect("the server is there");
    // Those of this store alone: other tests use the server as well.
    let sql = "SELECT a.pid, pg_terminate_backend(a.pid) FROM pg_stat_activity a \
         WHERE a.pid <> pg_backend_pid() AND a.application_name = 'eap' AND a.query LIKE '%' || $1 || '%'";
    let cut = sqlx::query(sql).bind(schema.name()).fetch_all(&mut other).await.expect("they can be cut");
    let cut: Vec<i32> = cut.iter().map(|row| row.get(0)).collect();
    assert!(!cut.is_empty(), "there were connections to cut");
    all_gone(&cut, &mut other).await;

    let failed = until_it_works(&store, Duration::from_secs(10)).await;
    assert!(failed <= 1, "{failed} calls failed");
    for _ in 0..6 {
        store.head().await.expect("the next reads succeed");
    }
    assert_eq!(claim(&store, &agent, 5).await.expect("the next claim succeeds").tasks.len(), 1);
}

/// A51: the server's restart costs some seconds, and the store comes back by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_survives_its_servers_restart() {
    let Some(mut server) = PrivateServer::start() else { return };
    let options = PostgresOptions::default().with_max_connections(4);
    let store = PostgresStore::connect(&server.url(), options).await.expect("the schema can be made");
    let agent = register(&store, "a", 100).await;
    let first = task("a");
    let id = first.id();
    store.commit(inserting(first)).await.expect("a commit succeeds");

    server.stop();
    let asked = Instant::now();
    let (read, written) = tokio::join!(store.task(id), store.commit(inserting(task("a"))));
    assert!(matches!(read, Err(StoreError::Unavailable { .. })), "{read:?}");
    assert!(matches!(written, Err(StoreError::Unavailable { .. })), "{written:?}");
    assert!(asked.elapsed() < Duration::from_secs(20), "whoever asks is told in time");

    server.start_again();
    until_it_works(&store, Duration::from_secs(5)).await;
    assert!(store.task(id).await.expect("a read succeeds").is_some(), "what was acknowledged is there");
    let claimed = claim(&store, &agent, 1).await.expect("a claim succeeds");
    assert_eq!(ids(&claimed), [id], "and in its place");
    store.close().await.expect("a store closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_holds_the_count_of_events_holds_it_up_for_no_longer_than_a_lock_may_be_waited_for() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let options = PostgresOptions::default()
        .with_schema(schema.name())
        .with_lock_timeout(Duration::from_millis(200))
        .with_max_connections(4);
    let store = PostgresStore::connect(schema.url(), options).await.expect("the schema can be made");
    let mut other = PgConnection::connect(schema.url()).await.expect("the server is there");
    let sql = format!("BEGIN; UPDATE {}.meta SET value = value WHERE key = 'last_event'", schema.name());
    other.execute(&*sql).await.expect("the row can be held");
    let held_up = store.commit(inserting(task("a"))).await;
    assert!(matches!(held_up, Err(StoreError::Unavailable { .. })), "{held_up:?}");
    store.head().await.expect("reads go on");
    other.execute("ROLLBACK").await.expect("the row is let go");
    store.commit(inserting(task("a"))).await.expect("the next commit succeeds");
    assert_eq!(store.head().await.expect("a read succeeds").0, 1, "what failed told of nothing");
}

/// A commit that waits for a standby for longer than anybody waits for a lock: a claim beside it waits, and does not fail.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_commit_costs_the_other_writer_time_alone() {
    let Some(server) = PrivateServer::start() else { return };
    let options = PostgresOptions::default().with_lock_timeout(Duration::from_millis(200)).with_max_connections(6);
    let store = Arc::new(PostgresStore::connect(&server.url(), options).await.expect("the schema can be made"));
    let agent = register(&store, "a", 9).await;
    store.commit(inserting(task("a"))).await.expect("a commit succeeds");
    let mut other = PgConnection::connect(&server.url()).await.expect("the server is there");
    for sql in ["ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()"] {
        other.execute(sql).await.expect("a superuser may");
    }
    let slow = tokio::spawn({
        let store = Arc::clone(&store);
        async move { until_slow(&store).await }
    });
    let sql = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let started = Instant::now();
    while sqlx::query(sql).fetch_all(&mut other).await.expect("a read succeeds").is_empty() {
        assert!(started.elapsed() < Duration::from_secs(3), "no commit waits");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let beside = tokio::spawn({
        let store = Arc::clone(&store);
        async move { claim(&store, &agent, 1).await }
    });
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert!(!slow.is_finished() && !beside.is_finished(), "both wait");
    for sql in ["ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()"] {
        other.execute(sql).await.expect("a superuser may");
    }
    slow.await.unwrap();
    assert_eq!(beside.await.unwrap().expect("a claim succeeds").tasks.len(), 1);
}

/// Commits until one is slow: the server takes up its settings a moment after it was told to.
async fn until_slow(store: &PostgresStore) {
    loop {
        let began = Instant::now();
        store.commit(inserting(task("b"))).await.expect("a commit succeeds");
        if began.elapsed() > Duration::from_millis(500) {
            break;
        }
    }
}

/// A51: a replica that is stopped in the middle of a transaction does not hold its rows for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_nobody_goes_on_with_is_ended_by_the_server() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let options = PostgresOptions::default()
        .with_schema(schema.name())
        .with_statement_timeout(Duration::from_millis(500))
        .with_max_connections(4);
    let other = PostgresStore::connect(schema.url(), options.clone()).await.expect("the schema can be made");
    let agent = register(&other, "a", 100).await;
    other.commit(inserting(task("a"))).await.expect("a commit succeeds");

    let (stopped, is_stopped) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let (url, asking) = (schema.url().to_owned(), asking(&agent, 1));
    // A replica in a thread of its own. What decides blocks that thread in the middle of a claim, as SIGSTOP would.
    let replica = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        runtime.block_on(async {
            let store = PostgresStore::connect(&url, options).await.expect("the schema can be opened");
            let may_go_on = Mutex::new(may_go_on);
            let decide: Arc<Decide> = Arc::new(move |task, ask, now| {
                let _ = stopped.send(());
                let _ = may_go_on.lock().expect("nobody panics").recv();
                granting()(task, ask, now)
            });
            let late = store.claim(asking, decide).await;
            assert!(matches!(late, Err(StoreError::Unavailable { .. })), "it undoes nothing: {late:?}");
            until_it_works(&store, Duration::from_secs(10)).await;
        });
    });
    tokio::task::spawn_blocking(move || is_stopped.recv()).await.unwrap().expect("the claim is under way");
    // It holds the row of its agent; whoever asks for the same one gets an answer all the same.
    let started = Instant::now();
    loop {
        match claim(&other, &agent, 1).await {
            Ok(claimed) => break assert_eq!(claimed.tasks.len(), 1, "the task is free again"),
            Err(StoreError::Unavailable { .. }) => assert!(started.elapsed() < Duration::from_secs(10)),
            Err(error) => panic!("an outage is told as one, not as {error:?}"),
        }
    }
    go_on.send(()).expect("it still waits");
    tokio::task::spawn_blocking(|| replica.join()).await.unwrap().expect("the replica does not panic");
}

/// A caller that leaves while a transaction begins leaves nobody inside it.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_was_dropped_while_it_began_makes_no_later_one_stale() {
    let Some(server) = PrivateServer::start() else { return };
    let network = Network::before(&server).await;
    let options = PostgresOptions::default().with_max_connections(1);
    let store = Arc::new(PostgresStore::connect(network.url(), options.clone()).await.expect("the schema can be made"));
    let other = PostgresStore::connect(&server.url(), options).await.expect("the schema can be opened");
    store.head().await.expect("a read succeeds");

    network.hold_beginnings();
    let counting = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.depths().await }
    });
    network.holds_one().await;
    counting.abort();
    assert!(counting.await.expect_err("it was dropped").is_cancelled());
    network.pass();

    for round in 1..=3 {
        other.commit(inserting(task("a"))).await.expect("a commit succeeds");
        assert_eq!(store.head().await.expect("a read succeeds").0, round, "reads see what was acknowledged");
    }
    store.commit(inserting(task("a"))).await.expect("the next commit succeeds");
}

/// A network that swallows all, and tells nobody: what was under way is lost, and what comes then is not.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_a_network_swallowed_do_not_count_for_ever() {
    let Some(server) = PrivateServer::start() else { return };
    let network = Network::before(&server).await;
    let options = PostgresOptions::default().with_max_connections(4).with_statement_timeout(Duration::from_secs(2));
    let store = PostgresStore::connect(network.url(), options).await.expect("the schema can be made");
    for head in futures_util::future::join_all((0..8).map(|_| store.head())).await {
        head.expect("a read succeeds");
    }
    network.hold();
    let reads = futures_util::future::join_all((0..8).map(|_| store.head()));
    tokio::time::timeout(Duration::from_millis(300), reads).await.expect_err("no answer arrives");
    network.swallow();

    until_it_works(&store, Duration::from_secs(15)).await;
    for head in futures_util::future::join_all((0..8).map(|_| store.head())).await {
        head.expect("the next reads succeed");
    }

    network.hold();
    let reads = futures_util::future::join_all((0..8).map(|_| store.head()));
    tokio::time::timeout(Duration::from_millis(300), reads).await.expect_err("no answer arrives");
    let closing = tokio::time::timeout(Duration::from_secs(15), store.close()).await;
    closing.expect("closing has an end").expect("a store closes");
}

/// A write whose acknowledgement is lost is told as such, and made whole or not at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_there_whole() {
    let Some(server) = PrivateServer::start() else { return };
    let network = Network::before(&server).await;
    let options = PostgresOptions::default().with_max_connections(4);
    let store = PostgresStore::connect(network.url(), options).await.expect("the schema can be made");
    let task = task("a");
    let id = task.id();
    network.cut_at_commit();
    let lost = store.commit(inserting(task)).await;
    assert!(matches!(lost, Err(StoreError::Unavailable { .. })), "{lost:?}");
    assert!(store.task(id).await.expect("a read succeeds").is_some(), "the server had committed it");
    assert_eq!(store.head().await.expect("a read succeeds").0, 1, "with its event, and once");
    let agent = register(&store, "a", 9).await;
    assert_eq!(ids(&claim(&store, &agent, 9).await.expect("a claim succeeds")), [id]);
}

/// Reads that wait for the server do not keep writes waiting for a connection: of six, two are left to them.
#[tokio::test(flavor = "multi_thread")]
async fn reads_leave_connections_to_the_writers() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let store = Arc::new(open(&schema).await);
    let mut other = PgConnection::connect(schema.url()).await.expect("the server is there");
    let sql = format!("BEGIN; LOCK TABLE {}.task IN ACCESS EXCLUSIVE MODE", schema.name());
    other.execute(&*sql).await.expect("the table can be held");
    let mut reads = tokio::task::JoinSet::new();
    let id = task("a").id();
    for _ in 0..40 {
        let store = Arc::clone(&store);
        reads.spawn(async move { store.task(id).await });
    }
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%' || $1 || '%'";
    let started = Instant::now();
    // Not in that transaction, which would be told the same each time.
    let mut watching = PgConnection::connect(schema.url()).await.expect("the server is there");
    loop {
        let row = sqlx::query(sql).bind(schema.name()).fetch_one(&mut watching).await.expect("a read succeeds");
        if row.get::<i64, _>(0) >= 4 {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(3), "the reads do not wait");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let written = Change { pulse: Some(Timestamp::UNIX_EPOCH), ..Change::default() };
    store.commit(written).await.expect("a commit that needs none of that succeeds");
    reads.shutdown().await;
    other.execute("ROLLBACK").await.expect("the table is let go");
}
