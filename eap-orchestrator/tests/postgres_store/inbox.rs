//! Tasks that a host takes in within a transaction of its own: they are there if and only if that is committed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eap_orchestrator::store::{EventSeq, NewTask, PostgresOptions, PostgresStore, Repository, TaskFilter};
use eap_orchestrator::{Access, ListTasks, Operator, Orchestrator};
use eap_types::{SubmitTask, TaskId, TaskStatus, TenantId, Timestamp};
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};
use tokio::task::JoinSet;

use crate::postgres::{Schema, is_there};
use crate::records::{claim, ids, inserting, open, register, task};
use crate::replicas::{held_up, replicas};

/// A program that has a database and embeds an orchestrator over a store in it.
struct Host {
    store: Arc<PostgresStore>,
    orchestrator: Orchestrator,
    connection: PgConnection,
}

impl Host {
    async fn of(schema: &Schema) -> Self {
        Self::over(Arc::new(open(schema).await), schema).await
    }

    async fn over(store: Arc<PostgresStore>, schema: &Schema) -> Self {
        let built = Orchestrator::builder(store.clone()).access(Access::Open).build();
        Self { store, orchestrator: built.expect("a valid configuration"), connection: connection(schema).await }
    }

    fn prepared(&self, task_type: &str) -> NewTask {
        self.orchestrator.prepare(&Operator::host(), submission(task_type)).expect("a task that can run")
    }

    /// Takes so many tasks in with one commit.
    async fn commits(&mut self, task_type: &str, count: usize) -> Vec<TaskId> {
        let tasks: Vec<NewTask> = (0..count).map(|_| self.prepared(task_type)).collect();
        let mut transaction = self.connection.begin().await.expect("a transaction begins");
        self.store.enqueue(&mut transaction, &tasks).await.expect("tasks can be taken in");
        transaction.commit().await.expect("a transaction is committed");
        tasks.iter().map(NewTask::id).collect()
    }
}

fn submission(task_type: &str) -> SubmitTask {
    SubmitTask::text(task_type.parse().expect("a task type"), "input")
}

async fn connection(schema: &Schema) -> PgConnection {
    PgConnection::connect(schema.url()).await.expect("the server is there")
}

/// How many rows wait, and how many are set aside.
async fn rows(schema: &Schema, connection: &mut PgConnection) -> (i64, i64) {
    let sql = format!("SELECT count(*) - count(problem), count(problem) FROM {}.inbox", schema.name());
    let row = sqlx::query(&sql).fetch_one(connection).await.expect("a read succeeds");
    (row.get(0), row.get(1))
}

/// Waits until nothing waits any more.
async fn all_moved(schema: &Schema) {
    let (mut connection, started) = (connection(schema).await, Instant::now());
    while rows(schema, &mut connection).await.0 > 0 {
        assert!(started.elapsed() < Duration::from_secs(30), "tasks wait for ever");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The tasks that events tell were submitted, in their order.
async fn submitted(store: &PostgresStore) -> Vec<TaskId> {
    let events = store.events(EventSeq(0), None, 10_000).await.expect("a read succeeds");
    events.iter().filter(|event| event.kind == "task.submitted").filter_map(|event| event.task).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_commits_is_there_and_goes_to_an_agent_in_its_order() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let mut host = Host::of(&schema).await;
    let agent = register(&host.store, "a", 1_000).await;
    let tasks = host.commits("a", 300).await;
    all_moved(&schema).await;
    assert_eq!(ids(&claim(&host.store, &agent, 1_000).await.expect("a claim succeeds")), tasks);
    assert_eq!(submitted(&host.store).await, tasks);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_undoes_never_was() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let mut host = Host::of(&schema).await;
    let task = host.prepared("a");
    let mut transaction = host.connection.begin().await.expect("a transaction begins");
    host.store.enqueue(&mut transaction, std::slice::from_ref(&task)).await.expect("a task can be taken in");
    assert!(host.store.task(task.id()).await.expect("a read succeeds").is_none(), "it is not committed");
    transaction.rollback().await.expect("a transaction is undone");

    let kept = host.commits("a", 1).await;
    all_moved(&schema).await;
    assert_eq!(submitted(&host.store).await, kept);
    assert!(host.store.task(task.id()).await.expect("a read succeeds").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_from_a_host_is_what_a_submit_would_have_made() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let mut host = Host::of(&schema).await;
    let much_later = Timestamp::from_seconds(4_000_000_000);
    let session = host.prepared("a").id().to_string().parse().expect("an id is an id");
    let submission = submission("a")
        .with_context(eap_types::JsonObject::parse(r#"{"text":"a \u0000 and more"}"#).expect("an object"))
        .with_session_id(session)
        .with_timeout_seconds(7)
        .with_max_attempts(2)
        .with_run_at(much_later);
    let me = Operator::host();
    let one = host.orchestrator.submit(&me, submission.clone(), None).await.expect("a task is taken in");
    let other = host.orchestrator.prepare(&me, submission).expect("a task that can run");
    let mut transaction = host.connection.begin().await.expect("a transaction begins");
    host.store.enqueue(&mut transaction, std::slice::from_ref(&other)).await.expect("a task can be taken in");
    transaction.commit().await.expect("a transaction is committed");

    let store = &host.store;
    let stored = |id| async move { store.task(id).await.expect("a read succeeds").expect("it is there") };
    let (one, other) = (stored(one.task_id).await, stored(other.id()).await);
    let mut spec = (*other.record.spec).clone();
    (spec.id, spec.created_at) = (one.record.spec.id, one.record.spec.created_at);
    assert_eq!(spec, *one.record.spec);
    assert_eq!(other.revision, one.revision);
    assert_eq!(other.record.status(), TaskStatus::Queued);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_a_task_that_a_host_has_committed_finds_it() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let mut host = Host::of(&schema).await;
    let me = Operator::host();
    for _ in 0..10 {
        let tasks = host.commits("a", 5).await;
        let (last, orchestrator) = (tasks[4], host.orchestrator.clone());
        assert_eq!(orchestrator.get(&me, last).await.expect("it is found").status, TaskStatus::Queued);

        let tasks = host.commits("a", 5).await;
        let page = orchestrator.list(&me, ListTasks::default()).await.expect("a list is read");
        let listed: Vec<TaskId> = page.tasks.iter().take(5).map(|task| task.task_id).collect();
        assert_eq!(listed, tasks.into_iter().rev().collect::<Vec<_>>());

        let waited = host.commits("a", 1).await[0];
        orchestrator.wait(&me, waited, Duration::from_millis(1)).await.expect("it is found");
        let looked_at = host.commits("a", 1).await[0];
        let history = orchestrator.history(&me, looked_at).await.expect("it is found");
        assert_eq!(history.events.len(), 1, "it was submitted");
        let cancelled = host.commits("a", 1).await[0];
        let view = orchestrator.cancel(&me, cancelled, None).await.expect("it is found");
        assert_eq!(view.status, TaskStatus::Cancelled);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_cannot_be_moved_yet_is_shown_all_the_same() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let options = PostgresOptions::default().with_schema(schema.name()).with_lock_timeout(Duration::from_millis(50));
    let store = PostgresStore::connect(schema.url(), options).await.expect("the schema can be opened");
    let mut host = Host::over(Arc::new(store), &schema).await;
    let mut other = connection(&schema).await;
    let task = host.prepared("a");
    // Nobody comes between the commit and whoever takes the row in hand.
    let mut transaction = host.connection.begin().await.expect("a transaction begins");
    host.store.enqueue(&mut transaction, std::slice::from_ref(&task)).await.expect("a task can be taken in");
    let guard = format!("BEGIN; LOCK TABLE {}.meta IN EXCLUSIVE MODE", schema.name());
    other.execute(&*guard).await.expect("a table is held");
    transaction.commit().await.expect("a transaction is committed");

    let stored = host.store.task(task.id()).await.expect("a read succeeds").expect("it is there");
    assert_eq!((stored.record.id(), stored.record.status()), (task.id(), TaskStatus::Queued));
    assert_eq!(rows(&schema, &mut connection(&schema).await).await, (1, 0));
    other.execute("ROLLBACK").await.expect("the table is let go");
    all_moved(&schema).await;
    assert_eq!(submitted(&host.store).await, [task.id()]);
    let moved = host.store.task(task.id()).await.expect("a read succeeds").expect("it is there");
    assert_eq!((moved.record, moved.revision), (stored.record, stored.revision));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_takes_its_time_holds_up_nobody() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let (mut slow, mut quick) = (Host::of(&schema).await, Host::of(&schema).await);
    let agent = register(&quick.store, "a", 100).await;
    let late = [slow.prepared("a"), slow.prepared("new")];
    let mut transaction = slow.connection.begin().await.expect("a transaction begins");
    slow.store.enqueue(&mut transaction, &late).await.expect("tasks can be taken in");

    // All within the two seconds that a statement waits for a row, and none of them waits for one.
    for task_type in ["a", "new"] {
        quick.store.commit(inserting(task(task_type))).await.expect("a commit succeeds");
    }
    assert_eq!(claim(&quick.store, &agent, 9).await.expect("a claim succeeds").tasks.len(), 1);
    let overtaking = quick.commits("a", 2).await;
    all_moved(&schema).await;
    assert_eq!(ids(&claim(&quick.store, &agent, 9).await.expect("a claim succeeds")), overtaking);
    let mut other = connection(&schema).await;
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%' || $1 || '%'";
    let waiting = sqlx::query(sql).bind(schema.name()).fetch_one(&mut other).await.expect("a read succeeds");
    assert_eq!(waiting.get::<i64, _>(0), 0);

    transaction.commit().await.expect("a transaction is committed");
    all_moved(&schema).await;
    assert_eq!(ids(&claim(&quick.store, &agent, 9).await.expect("a claim succeeds")), [late[0].id()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replicas_that_move_at_once_move_each_task_once() {
    const HOSTS: usize = 8;
    const COMMITS: usize = 25;
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let stores = replicas(&schema).await;
    let mut hosts = JoinSet::new();
    for number in 0..HOSTS {
        let mut host = Host::over(Arc::clone(&stores[number % stores.len()]), &schema).await;
        // Whoever reads moves as well.
        let reader = Arc::clone(&stores[(number + 1) % stores.len()]);
        hosts.spawn(async move {
            let mut written = Vec::new();
            for step in 0..COMMITS {
                let tasks = host.commits("a", 1 + step % 3).await;
                let read = reader.task(*tasks.last().expect("at least one")).await.expect("a read succeeds");
                assert!(read.is_some(), "what is committed is there");
                written.push(tasks);
            }
            written
        });
    }
    let written = hosts.join_all().await;
    all_moved(&schema).await;
    let told = submitted(&stores[0]).await;
    let all: HashSet<TaskId> = written.iter().flatten().flatten().copied().collect();
    assert_eq!(told.len(), all.len(), "each is told of once");
    assert_eq!(told.iter().copied().collect::<HashSet<_>>(), all);
    for tasks in written.iter().flatten() {
        let of_one_commit: Vec<TaskId> = told.iter().copied().filter(|task| tasks.contains(task)).collect();
        assert_eq!(of_one_commit, *tasks);
    }
    let agent = register(&stores[1], "a", u32::MAX).await;
    let mut got = 0;
    while got < all.len() {
        let claimed = claim(&stores[2], &agent, 1_000).await.expect("a claim succeeds").tasks.len();
        assert!(claimed > 0, "every task is claimed");
        got += claimed;
    }
    assert_eq!(got, all.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_replica_moves_what_stands_behind_what_another_has_in_hand() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let mut host = Host::of(&schema).await;
    let _second = open(&schema).await;
    let first = host.prepared("a");
    host.store.enqueue(&mut host.connection, std::slice::from_ref(&first)).await.expect("a task can be taken in");
    all_moved(&schema).await;
    // Whoever takes the first page in hand is stopped by the row of a task that is in it again.
    let mut other = connection(&schema).await;
    other.execute(&*format!("BEGIN; SELECT 1 FROM {}.task FOR UPDATE", schema.name())).await.expect("a row is held");
    let tasks: Vec<NewTask> = std::iter::once(first).chain((1..300).map(|_| host.prepared("a"))).collect();
    host.store.enqueue(&mut host.connection, &tasks).await.expect("tasks can be taken in");
    let sql = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
         AND classid::int8 = hashtext('eap inbox')::int8 & 4294967295 AND objid::int8 = hashtext($1)::int8 & 4294967295";
    let started = Instant::now();
    while sqlx::query(sql).bind(schema.name()).fetch_optional(&mut host.connection).await.expect("a read").is_none() {
        assert!(started.elapsed() < Duration::from_secs(10), "the other does not wait");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    other.execute("ROLLBACK").await.expect("the row is let go");
    all_moved(&schema).await;
    assert_eq!(submitted(&host.store).await, tasks.iter().map(NewTask::id).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_was_moved_is_news_to_every_store() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let mut host = Host::of(&schema).await;
    let other = open(&schema).await;
    let tasks = host.commits("a", 2).await;
    all_moved(&schema).await;
    for store in [&*host.store, &other] {
        tokio::time::timeout(Duration::from_secs(10), store.noticed()).await.expect("it is told");
        let news = store.news(EventSeq(0), 10).await.expect("a read succeeds");
        assert_eq!(news.events.iter().filter_map(|event| event.task).collect::<Vec<_>>(), tasks);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_while_no_store_runs_is_moved_by_the_next_one() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let mut host = Host::of(&schema).await;
    host.store.close().await.expect("a store closes");
    let tasks = host.commits("a", 3).await;
    assert_eq!(rows(&schema, &mut host.connection).await, (3, 0));
    let next = open(&schema).await;
    all_moved(&schema).await;
    assert_eq!(submitted(&next).await, tasks);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_is_cut_halfway_loses_nothing_and_doubles_nothing() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let mut host = Host::of(&schema).await;
    let mut other = connection(&schema).await;
    // What a move writes last of all.
    let hold = format!("BEGIN; SELECT value FROM {}.meta WHERE key = 'last_event' FOR UPDATE", schema.name());
    other.execute(&*hold).await.expect("a row is held");
    let tasks = host.commits("a", 3).await;
    held_up(&schema, || false).await;
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE wait_event_type = 'Lock' AND query LIKE '%' || $1 || '%'";
    let mut killer = connection(&schema).await;
    let cut = sqlx::query(sql).bind(schema.name()).execute(&mut killer).await.expect("it can be cut");
    assert_eq!(cut.rows_affected(), 1);
    other.execute("ROLLBACK").await.expect("the row is let go");
    all_moved(&schema).await;
    assert_eq!(submitted(&host.store).await, tasks);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_a_host_writes_again_is_there_once() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let mut host = Host::of(&schema).await;
    let task = host.prepared("a");
    for _ in 0..2 {
        let mut transaction = host.connection.begin().await.expect("a transaction begins");
        for _ in 0..2 {
            let tasks = std::slice::from_ref(&task);
            host.store.enqueue(&mut transaction, tasks).await.expect("a task can be taken in");
        }
        transaction.commit().await.expect("a transaction is committed");
        all_moved(&schema).await;
    }
    assert_eq!(submitted(&host.store).await, [task.id()]);
    let filter = TaskFilter {
        tenant: TenantId::default(),
        status: None,
        agent: None,
        task_type: None,
        dead_letters: false,
        before: None,
        limit: 9,
    };
    assert_eq!(host.store.tasks(&filter).await.expect("a read succeeds").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_holds_no_task_is_set_aside_until_it_is_mended() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let mut host = Host::of(&schema).await;
    let tasks: Vec<NewTask> = (0..4).map(|_| host.prepared("a")).collect();
    let wanted: Vec<TaskId> = tasks.iter().map(NewTask::id).collect();
    let inbox = format!("{}.inbox", schema.name());
    let mut transaction = host.connection.begin().await.expect("a transaction begins");
    host.store.enqueue(&mut transaction, &tasks).await.expect("tasks can be taken in");
    // Of the four, one is no JSON any more and one has another's record.
    let first = format!("UPDATE {inbox} SET spec = '!' || spec WHERE id = $1");
    sqlx::query(&first).bind(&wanted[0].as_bytes()[..]).execute(&mut *transaction).await.expect("it is broken");
    let second = format!("UPDATE {inbox} SET spec = (SELECT spec FROM {inbox} WHERE id = $2) WHERE id = $1");
    let broken = sqlx::query(&second).bind(&wanted[1].as_bytes()[..]).bind(&wanted[3].as_bytes()[..]);
    broken.execute(&mut *transaction).await.expect("it is broken");
    transaction.commit().await.expect("a transaction is committed");

    all_moved(&schema).await;
    assert_eq!(submitted(&host.store).await, wanted[2..]);
    assert_eq!(rows(&schema, &mut host.connection).await, (0, 2));
    let counted = host.store.depths().await.expect("a count succeeds").inbox;
    assert_eq!((counted.waiting, counted.set_aside), (0, 2));
    assert!(host.store.task(wanted[0]).await.expect("a read succeeds").is_none());

    let mend = format!("UPDATE {inbox} SET spec = substr(spec, 2), problem = NULL WHERE id = $1");
    sqlx::query(&mend).bind(&wanted[0].as_bytes()[..]).execute(&mut host.connection).await.expect("it is mended");
    assert!(host.store.task(wanted[0]).await.expect("a read succeeds").is_some());
    assert_eq!(rows(&schema, &mut host.connection).await, (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_move_waits_too_long_holds_up_no_other() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let options = PostgresOptions::default().with_schema(schema.name()).with_lock_timeout(Duration::from_millis(50));
    let store = PostgresStore::connect(schema.url(), options).await.expect("the schema can be opened");
    let mut host = Host::over(Arc::new(store), &schema).await;
    let (stuck, free) = (host.prepared("a"), host.prepared("a"));
    host.store.enqueue(&mut host.connection, std::slice::from_ref(&stuck)).await.expect("a task can be taken in");
    all_moved(&schema).await;
    // Written again, while somebody has the task itself in hand.
    let mut other = connection(&schema).await;
    other.execute(&*format!("BEGIN; SELECT 1 FROM {}.task FOR UPDATE", schema.name())).await.expect("a row is held");
    host.store.enqueue(&mut host.connection, &[stuck, free.clone()]).await.expect("tasks can be taken in");
    let started = Instant::now();
    while rows(&schema, &mut host.connection).await != (1, 0) {
        assert!(started.elapsed() < Duration::from_secs(30), "the other task waits for ever");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(submitted(&host.store).await.contains(&free.id()));
    let counted = host.store.depths().await.expect("a count succeeds").inbox;
    assert_eq!((counted.waiting, counted.set_aside), (1, 0));
    other.execute("ROLLBACK").await.expect("the row is let go");
    all_moved(&schema).await;
    assert_eq!(submitted(&host.store).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_submit_refuses_cannot_be_prepared() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let host = Host::of(&schema).await;
    let past = Timestamp::from_seconds(1);
    let me = Operator::host();
    for bad in [
        submission("a").with_timeout_seconds(0),
        submission("a").with_max_attempts(101),
        submission("a").with_inactivity_seconds(u64::MAX),
        submission("a").with_required_capabilities((0..65).map(|number| format!("c{number}").parse().expect("a word"))),
        submission("a").with_expires_at(past),
        submission("a").with_callback_url("https://example.org/hook"),
        submission("a").with_callback_url("no URL"),
    ] {
        let submitted = host.orchestrator.submit(&me, bad.clone(), None).await.expect_err("it is refused");
        let prepared = host.orchestrator.prepare(&me, bad).expect_err("it is refused");
        assert_eq!(format!("{prepared:?}"), format!("{submitted:?}"));
    }
}
