//! What a claim costs, by the server's own count of the rows that it looked at.

use std::time::{Duration, Instant};

use eap_orchestrator::store::{Change, PostgresStore, Repository, Revision, TaskWrite};
use eap_types::Timestamp;
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};

use crate::postgres::{Schema, is_there};
use crate::records::{claim, open, register, task};

/// So many tasks of a type, some hundred in a commit.
async fn fill(store: &PostgresStore, count: usize, task_type: impl Fn(usize) -> String, is_delayed: bool) {
    for first in (0..count).step_by(500) {
        let one = |number: usize| {
            let mut task = task(&task_type(number));
            if is_delayed {
                task.state.phase = eap_core::Phase::Queued { ready_at: Some(Timestamp::MAX) };
            }
            TaskWrite::Insert(task)
        };
        let tasks = (first..count.min(first + 500)).map(one).collect();
        store.commit(Change { tasks, ..Change::default() }).await.expect("a commit succeeds");
    }
}

/// How often a table of this schema was walked, and how many of its rows were looked at by an index. Of tables that never
/// have more than a few rows, which are looked through every second, the walks are not counted.
async fn looks(connection: &mut PgConnection, schema: &Schema) -> (i64, i64) {
    let sql = "SELECT coalesce(sum(seq_scan) FILTER (WHERE relname NOT IN ('eap_schema_version', 'replica', 'inbox')), 0)::int8, \
             coalesce(sum(idx_tup_fetch), 0)::int8 \
         FROM pg_stat_user_tables WHERE schemaname = $1";
    let row = sqlx::query(sql).bind(schema.name()).fetch_one(connection).await.expect("a read succeeds");
    (row.get(0), row.get(1))
}

/// Waits until what was counted stands still: a server tells of it when a connection ends.
async fn settled(connection: &mut PgConnection, schema: &Schema) -> (i64, i64) {
    let started = Instant::now();
    let mut last = looks(connection, schema).await;
    let mut since = Instant::now();
    while since.elapsed() < Duration::from_secs(2) {
        assert!(started.elapsed() < Duration::from_secs(30), "the count does not come to rest");
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = looks(connection, schema).await;
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    last
}

#[tokio::test]
async fn a_claim_does_not_pay_for_what_it_cannot_take() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let mut connection = PgConnection::connect(schema.url()).await.expect("the server is there");
    let store = open(&schema).await;
    let agent = register(&store, "wanted", u32::MAX).await;
    fill(&store, 2_000, |_| "wanted".to_owned(), false).await;
    fill(&store, 3_000, |_| "wanted".to_owned(), true).await;
    fill(&store, 3_000, |number| format!("other{}", number % 300), false).await;
    // The routes are read once, by a store that claims for the first time; this is about the claims behind it.
    store.close().await.expect("a store closes");
    let before = settled(&mut connection, &schema).await;

    let store = open(&schema).await;
    for _ in 0..20 {
        assert_eq!(claim(&store, &agent, 2).await.expect("a claim succeeds").tasks.len(), 2);
    }
    // Few and many may be planned differently, and what an agent holds already counts.
    for _ in 0..20 {
        let agent = register(&store, "wanted", u32::MAX).await;
        assert_eq!(claim(&store, &agent, 50).await.expect("a claim succeeds").tasks.len(), 50);
    }
    store.close().await.expect("a store closes");
    let after = settled(&mut connection, &schema).await;
    assert!(after.1 > before.1, "claims are counted at all");
    assert_eq!(after.0 - before.0, 0, "walks over tables that grow");
    // 301 routes once; then for each claim its agent, the tasks, their specs, and a few rows that count.
    let rows = after.1 - before.1;
    assert!(rows < 301 + 20 * 60 + 20 * (60 + 50 * 10), "{rows} rows");
}

/// New ids are at the end of their index: a plan that merges it with what changes would walk all of it.
#[tokio::test]
async fn a_change_does_not_pay_for_what_it_does_not_name() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let mut connection = PgConnection::connect(schema.url()).await.expect("the server is there");
    let store = open(&schema).await;
    fill(&store, 6_000, |_| "a".to_owned(), false).await;
    let newest: Vec<_> = (0..300).map(|_| task("a")).collect();
    let tasks = newest.iter().cloned().map(TaskWrite::Insert).collect();
    store.commit(Change { tasks, ..Change::default() }).await.expect("a commit succeeds");
    store.close().await.expect("a store closes");
    connection.execute(&*format!("ANALYZE {}.task", schema.name())).await.expect("the table can be counted");
    let before = settled(&mut connection, &schema).await;

    let store = open(&schema).await;
    let tasks = newest.into_iter().map(|task| TaskWrite::Update { task, revision: Revision(1) }).collect();
    store.commit(Change { tasks, ..Change::default() }).await.expect("a commit succeeds");
    store.close().await.expect("a store closes");
    let after = settled(&mut connection, &schema).await;
    let rows = after.1 - before.1;
    assert!((300..3_000).contains(&rows), "{rows} rows");
}
