//! What the SQLite store promises beyond the contract: one owner, versions, group commit, full disks.
#![cfg(feature = "sqlite")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use eap_core::{
    Agent, CheckedWorkflow, NextTask, RoutingKey, Session, SessionSpec, Standing, Task, TaskEvent, TaskPolicy,
    TaskSpec, Vitals,
};
use eap_orchestrator::store::{
    AgentWrite, Ask, Change, Claimed, Committed, Cutoffs, Decide, Demand, EventKind, EventSeq, IdempotencyKeyRow,
    IdempotencyScope, IdempotentTarget, Insertion, NewEvent, Repository, ResultRow, SessionWrite, SqliteOptions,
    SqliteStore, StoreError, Stored, TaskFilter, TaskWrite, WorkflowRow,
};
use eap_orchestrator::{Clock, ManualClock};
use eap_types::{
    AgentId, AgentType, Capabilities, Capability, JsonObject, Labels, LeaseId, Priority, SessionId, TaskId, TaskResult,
    TaskType, TenantId, Timestamp, WorkflowDefinition, WorkflowStep,
};

struct Bench {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_767_225_600)));
        Self { folder: tempfile::tempdir().unwrap(), clock }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("eap.db")
    }

    fn open(&self) -> SqliteStore {
        self.open_with(SqliteOptions::default()).unwrap()
    }

    fn open_with(&self, options: SqliteOptions) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(self.path(), Arc::clone(&self.clock) as Arc<dyn Clock>, options)
    }

    fn refusal(&self) -> String {
        match self.open_with(SqliteOptions::default()) {
            Err(StoreError::Refused { reason }) => reason,
            other => panic!("a refusal was due, not {other:?}"),
        }
    }

    fn task(&self, number: u32) -> Task {
        self.large_task(number, 4)
    }

    fn large_task(&self, number: u32, input_bytes: usize) -> Task {
        let now = self.clock.now();
        let task_type: TaskType = "text.translate".parse().unwrap();
        Task::submitted(TaskSpec {
            id: TaskId::v7(now, random(number)),
            routing: RoutingKey::of_type(TenantId::default(), task_type),
            session_id: SessionId::v7(now, random(number)),
            input: "x".repeat(input_bytes),
            context: JsonObject::default(),
            preferred_agents: Default::default(),
            requirements: Vec::new(),
            priority: Priority::default(),
            timeout: Duration::from_secs(3600),
            inactivity: None,
            max_attempts: 3,
            run_at: None,
            expires_at: None,
            created_at: now,
            traceparent: None,
            requeued_from: None,
            is_step: false,
            callback_url: None,
        })
    }

    fn agent(&self) -> Agent {
        let now = self.clock.now();
        let capability: Capability = "text.translate".parse().unwrap();
        Agent {
            id: AgentId::v7(now, random(0)),
            tenant: TenantId::default(),
            name: "translator".parse().unwrap(),
            instance_id: Some("one".parse().unwrap()),
            version: "1.0.0".to_owned(),
            agent_type: AgentType::default(),
            capabilities: Capabilities::new([capability]).unwrap(),
            labels: Labels::default(),
            endpoint_url: None,
            metadata: JsonObject::default(),
            features: None,
            max_concurrent_tasks: 5,
            task_schemas: Default::default(),
            admitted_capabilities: std::collections::BTreeSet::new(),
            previous_token: None,
            rotation: None,
            orders: eap_core::Orders::default(),
            push: None,
            platform: None,
            registered_with: None,
            token_sha256: None,
            epoch: 1,
            registered_at: now,
            standing: Standing::Active,
        }
    }
}

fn random(number: u32) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[6..].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn inserting(task: Task) -> Change {
    let event = NewEvent {
        tenant: TenantId::default(),
        at: task.spec.created_at,
        kind: EventKind::Task(eap_core::NoteKind::Submitted),
        task: Some(task.id()),
        agent: None,
        attempt: None,
        detail: JsonObject::default(),
    };
    Change { tasks: vec![TaskWrite::Insert(task)], events: vec![event], ..Change::default() }
}

fn registering(agent: &Agent) -> Change {
    let vitals = Vitals::registered(agent.epoch, agent.registered_at);
    Change { agents: vec![AgentWrite::Insert(agent.clone(), vitals)], ..Change::default() }
}

/// What grants everything.
fn granting() -> Arc<Decide> {
    Arc::new(|task, ask, now| {
        let event = TaskEvent::Assign {
            agent: ask.agent.id.clone(),
            epoch: ask.agent.epoch,
            lease_id: LeaseId::v7(now, random(7)),
            request_id: ask.request_id.clone(),
            length: ask.lease,
        };
        Ok(task.apply(event, now, &TaskPolicy::default())?.changed().expect("an assignment changes its task"))
    })
}

async fn claim(store: &SqliteStore, agent: &Agent, max_tasks: u32) -> Claimed {
    let ask = Ask {
        agent: Arc::new(agent.clone()),
        max_tasks,
        request_id: Some("request-1".parse().unwrap()),
        task_types: None,
        lease: Duration::from_secs(60),
    };
    store.claim(Demand { asks: vec![ask] }, granting()).await.unwrap().answers.pop().unwrap()
}

async fn cancel(store: &SqliteStore, id: TaskId) -> Committed {
    let Stored { record, revision, now } = store.task(id).await.unwrap().unwrap();
    let step = record.apply(TaskEvent::Cancel { reason: None }, now, &TaskPolicy::default()).unwrap();
    let task = Task { spec: record.spec, state: step.changed().unwrap().state };
    let change = Change { tasks: vec![TaskWrite::Update { task, revision }], ..Change::default() };
    store.commit(change).await.unwrap()
}

fn everything() -> TaskFilter {
    TaskFilter {
        tenant: TenantId::default(),
        status: None,
        agent: None,
        task_type: None,
        dead_letters: false,
        before: None,
        limit: 1000,
    }
}

/// Whatever is older than now.
fn all_before(at: Timestamp) -> Cutoffs {
    Cutoffs {
        tasks: at,
        events: at,
        late_results: at,
        idempotency_keys: at,
        sessions: at,
        webhooks: at,
        states: at,
        credentials: at,
        agents: at,
    }
}

#[tokio::test]
async fn a_second_owner_is_refused_and_the_first_is_not_disturbed() {
    let bench = Bench::new();
    let first = bench.open();
    let reason = bench.refusal();
    assert!(reason.contains("in use by another orchestrator"), "{reason}");
    assert!(reason.contains(&format!("pid {}", std::process::id())), "{reason}");

    first.commit(inserting(bench.task(1))).await.unwrap();
    assert_eq!(first.tasks(&everything()).await.unwrap().len(), 1);
    first.close().await.unwrap();
    let next = bench.open();
    assert_eq!(next.tasks(&everything()).await.unwrap().len(), 1);
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_with_a_second_hard_link_is_refused() {
    let bench = Bench::new();
    let _first = bench.open();
    let other = bench.folder.path().join("other.db");
    fs::hard_link(bench.path(), &other).unwrap();
    let clock = Arc::clone(&bench.clock) as Arc<dyn Clock>;
    let second = SqliteStore::open(&other, clock, SqliteOptions::default());
    let Err(StoreError::Refused { reason }) = second else { panic!("{second:?}") };
    assert!(reason.contains("hard links"), "{reason}");
}

#[cfg(unix)]
#[tokio::test]
async fn another_name_of_the_file_is_the_same_file() {
    let bench = Bench::new();
    let _first = bench.open();
    let other = bench.folder.path().join("other.db");
    std::os::unix::fs::symlink(bench.path(), &other).unwrap();
    let clock = Arc::clone(&bench.clock) as Arc<dyn Clock>;
    let second = SqliteStore::open(&other, clock, SqliteOptions::default());
    assert!(matches!(second, Err(StoreError::Refused { .. })), "{second:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_can_read_the_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = Bench::new();
    let store = bench.open();
    store.commit(inserting(bench.task(1))).await.unwrap();
    for entry in fs::read_dir(bench.folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.file_name());
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused_by_both_versions() {
    let bench = Bench::new();
    bench.open().close().await.unwrap();
    let connection = rusqlite::Connection::open(bench.path()).unwrap();
    let newest: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let before = fs::read(bench.path()).unwrap();
    let reason = bench.refusal();
    assert!(reason.contains("version 99") && reason.contains(&format!("up to {newest}")), "{reason}");
    assert_eq!(fs::read(bench.path()).unwrap(), before);
}

#[tokio::test]
async fn a_file_of_another_program_is_refused_and_left_as_it_was() {
    let bench = Bench::new();
    let connection = rusqlite::Connection::open(bench.path()).unwrap();
    connection.execute_batch("CREATE TABLE recipe (name TEXT)").unwrap();
    drop(connection);
    let before = fs::read(bench.path()).unwrap();
    let reason = bench.refusal();
    assert!(reason.contains("another program"), "{reason}");
    assert_eq!(fs::read(bench.path()).unwrap(), before);

    fs::write(bench.path(), "this is a letter, not a database; ".repeat(100)).unwrap();
    let reason = bench.refusal();
    assert!(reason.contains("not a SQLite database"), "{reason}");
}

#[test]
fn a_missing_directory_is_named() {
    let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
    let refused = SqliteStore::open(Path::new("/nowhere/at/all/eap.db"), clock, SqliteOptions::default());
    let Err(StoreError::Refused { reason }) = refused else { panic!("a refusal was due") };
    assert_eq!(reason, "the directory /nowhere/at/all does not exist");
}

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let bench = Bench::new();
    let store = bench.open();
    let agent = bench.agent();
    store.commit(registering(&agent)).await.unwrap();
    let (done, waiting) = (bench.task(1), bench.task(2));
    store.commit(inserting(done.clone())).await.unwrap();
    store.commit(inserting(waiting.clone())).await.unwrap();
    let scope = IdempotencyScope { principal: "operator".into(), route: "submit", key: "k".into() };
    let key = IdempotencyKeyRow {
        scope: scope.clone(),
        body_sha256: [3; 32],
        target: IdempotentTarget::Task(done.id()),
        created_at: bench.clock.now(),
    };
    store
        .commit(Change { idempotency: Some(key.clone()), pulse: Some(bench.clock.now()), ..Change::default() })
        .await
        .unwrap();
    let claimed = claim(&store, &agent, 1).await;
    assert_eq!(claimed.tasks[0].id(), done.id());
    let row = ResultRow {
        task: done.id(),
        attempt: 1,
        recorded_at: bench.clock.now(),
        result: TaskResult::completed(done.id(), JsonObject::parse(r#"{"n":  1e3}"#).unwrap()),
    };
    store.commit(Change { results: vec![row.clone()], ..Change::default() }).await.unwrap();
    let (tasks, events) =
        (store.tasks(&everything()).await.unwrap(), store.events(EventSeq(0), None, 100).await.unwrap());
    store.close().await.unwrap();

    let store = bench.open();
    assert_eq!(store.tasks(&everything()).await.unwrap(), tasks);
    assert_eq!(store.events(EventSeq(0), None, 100).await.unwrap(), events);
    assert_eq!(store.result(done.id()).await.unwrap(), Some(row));
    assert_eq!(store.idempotent(&scope).await.unwrap(), Some(key));
    assert_eq!(store.pulse().await.unwrap(), Some(bench.clock.now()));
    assert_eq!(store.agents().await.unwrap()[0].0.record, agent);
    // The lease is still bound to its request, and the routing key is known.
    let again = claim(&store, &agent, 2).await;
    assert!(again.repeated && again.tasks == claimed.tasks);
    let ask = Ask {
        agent: Arc::new(agent),
        max_tasks: 2,
        request_id: None,
        task_types: None,
        lease: Duration::from_secs(60),
    };
    let fresh = store.claim(Demand { asks: vec![ask] }, granting()).await.unwrap();
    assert_eq!(fresh.answers[0].tasks.iter().map(Task::id).collect::<Vec<_>>(), [waiting.id()]);
}

#[tokio::test]
async fn a_session_is_there_after_reopening_with_the_task_of_its_step() {
    let bench = Bench::new();
    let (store, now) = (bench.open(), bench.clock.now());
    let step = WorkflowStep::new("t1".parse().unwrap(), "summarize");
    let workflow = WorkflowDefinition::new("wf".parse().unwrap(), "Summarize", "1.0", [step]);
    let kept = WorkflowRow {
        tenant: TenantId::default(),
        workflow: CheckedWorkflow::check(workflow, None).unwrap(),
        stored_at: now,
    };
    let spec = SessionSpec {
        id: SessionId::v7(now, random(1)),
        tenant: TenantId::default(),
        workflow: kept.workflow.clone(),
        agent_id: None,
        started_by: "operator".to_owned(),
        initial_payload: None,
        created_at: now,
        traceparent: None,
    };
    let next = NextTask { id: TaskId::v7(now, random(2)), timeout: Duration::from_secs(60), offered: None };
    let (session, first) = Session::start(spec, &next);
    let change = Change {
        sessions: vec![SessionWrite::Insert(session.clone())],
        workflows: vec![kept.clone()],
        ..inserting(*first)
    };
    store.commit(change).await.unwrap();
    let task = store.task(next.id).await.unwrap();
    store.close().await.unwrap();

    let store = bench.open();
    assert_eq!(store.open_sessions(None, 9).await.unwrap(), [(session.id(), session.status())]);
    assert_eq!(store.session_of(next.id).await.unwrap().map(|stored| stored.record), Some(session));
    assert_eq!(store.task(next.id).await.unwrap(), task);
    assert_eq!(store.workflow(kept.tenant, &kept.workflow.id, None).await.unwrap(), Some(kept));
}

#[tokio::test]
async fn commits_that_come_together_share_a_transaction() {
    let bench = Bench::new();
    let store = Arc::new(bench.open());
    let mut running = tokio::task::JoinSet::new();
    // On one thread: all of them are handed over before the first answer is looked at.
    for number in 0..500 {
        let (store, task) = (Arc::clone(&store), bench.task(number));
        running.spawn(async move { store.commit(inserting(task)).await.unwrap() });
    }
    let mut heads: Vec<u64> = running.join_all().await.into_iter().map(|committed| committed.head.0).collect();
    heads.sort_unstable();
    assert_eq!(heads, (1..=500).collect::<Vec<_>>());
    let stats = store.stats();
    assert_eq!(stats.commits, 500);
    assert!(stats.transactions < 100, "{stats:?}");
}

#[tokio::test]
async fn a_commit_lands_though_nobody_waits_for_it() {
    let bench = Bench::new();
    let store = bench.open();
    let task = bench.task(1);
    let id = task.id();
    {
        let mut commit = Box::pin(store.commit(inserting(task)));
        // Polled once: it is handed over, and then its caller hangs up.
        std::future::poll_fn(|context| Poll::Ready(commit.as_mut().poll(context).is_ready())).await;
    }
    // What is asked of the writer later is answered later.
    store.commit(Change::default()).await.unwrap();
    assert!(store.task(id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_full_disk_is_told_reads_go_on_and_writes_resume() {
    let bench = Bench::new();
    let store = bench.open_with(SqliteOptions::default().with_max_bytes(1 << 20)).unwrap();
    let mut stored = Vec::new();
    let refused = loop {
        let task = bench.large_task(u32::try_from(stored.len()).unwrap(), 64 << 10);
        let id = task.id();
        match store.commit(inserting(task)).await {
            Ok(_) => stored.push(id),
            Err(StoreError::Full { .. }) => break id,
            Err(other) => panic!("{other:?}"),
        }
    };
    assert!(stored.len() > 5, "{}", stored.len());
    assert_eq!(store.task(refused).await.unwrap(), None);
    assert_eq!(store.tasks(&everything()).await.unwrap().len(), stored.len());
    // A small one still fits, and nothing that failed left a trace in what the writer remembers.
    store.commit(inserting(bench.task(1_000))).await.unwrap();

    for id in &stored {
        cancel(&store, *id).await;
    }
    bench.clock.advance(Duration::from_secs(1));
    let purged = store.purge(&all_before(bench.clock.now()), 1000).await.unwrap();
    assert_eq!(purged.tasks, stored);
    store.commit(inserting(bench.large_task(2_000, 64 << 10))).await.unwrap();
    let events = store.events(EventSeq(0), None, 1000).await.unwrap();
    assert_eq!(events.iter().map(|event| event.seq.0).collect::<Vec<_>>(), [stored.len() as u64 + 2]);
}

/// Of tasks so small that they are in the journal when the room ends.
#[tokio::test]
async fn on_a_full_disk_young_tasks_are_read_and_a_purge_makes_room_for_them() {
    let bench = Bench::new();
    let store = bench.open_with(SqliteOptions::default().with_max_bytes(1 << 20)).unwrap();
    let mut old = Vec::new();
    for number in 0..60 {
        let task = bench.large_task(number, 4 << 10);
        old.push(task.id());
        store.commit(inserting(task)).await.unwrap();
        cancel(&store, old[number as usize]).await;
    }
    assert_eq!(store.tasks(&everything()).await.unwrap().len(), old.len(), "all are in the tables now");
    bench.clock.advance(Duration::from_secs(1));
    let cutoffs = all_before(bench.clock.now());
    let mut young = Vec::new();
    loop {
        let task = bench.large_task(1_000 + u32::try_from(young.len()).unwrap(), 4 << 10);
        let id = task.id();
        match store.commit(inserting(task)).await {
            Ok(_) => young.push(id),
            Err(StoreError::Full { .. }) => break,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(young.len() > 20, "{}", young.len());
    let listed = store.tasks(&everything()).await.unwrap();
    assert_eq!(listed.len(), old.len() + young.len());
    let newest = store.task(young[young.len() - 1]).await.unwrap().unwrap();
    assert_eq!(listed[0].1.record, newest.record);
    assert_eq!(store.events(EventSeq(0), Some(young[0]), 9).await.unwrap().len(), 1);

    assert_eq!(store.purge(&cutoffs, 1000).await.unwrap().tasks, old);
    store.commit(inserting(bench.task(2_000))).await.unwrap();
    let ids = |page: Vec<(Insertion, Stored<Task>)>| -> Vec<TaskId> {
        page.into_iter().rev().map(|(_, stored)| stored.record.id()).collect()
    };
    young.push(bench.task(2_000).id());
    assert_eq!(ids(store.tasks(&everything()).await.unwrap()), young);
    store.close().await.unwrap();
    assert_eq!(ids(bench.open().tasks(&everything()).await.unwrap()), young, "and none came back");
}

#[tokio::test]
async fn numbers_are_not_given_twice_though_all_was_purged() {
    let bench = Bench::new();
    let store = bench.open();
    let task = bench.task(1);
    let id = task.id();
    store.commit(inserting(task)).await.unwrap();
    cancel(&store, id).await;
    let (number, _) = store.tasks(&everything()).await.unwrap().pop().unwrap();
    bench.clock.advance(Duration::from_secs(1));
    let purged = store.purge(&all_before(bench.clock.now()), 10).await.unwrap();
    assert_eq!(purged.tasks, [id]);
    assert_eq!(store.head().await.unwrap(), EventSeq(1));
    store.close().await.unwrap();

    let store = bench.open();
    assert_eq!(store.head().await.unwrap(), EventSeq(1));
    assert_eq!(store.commit(inserting(bench.task(2))).await.unwrap().head, EventSeq(2));
    let (next, _) = store.tasks(&everything()).await.unwrap().pop().unwrap();
    assert!(next > number, "{next:?} after {number:?}");
}

#[tokio::test]
async fn a_routing_key_that_was_forgotten_is_learned_again() {
    let bench = Bench::new();
    let store = bench.open();
    let agent = bench.agent();
    store.commit(registering(&agent)).await.unwrap();
    store.commit(inserting(bench.task(1))).await.unwrap();
    assert_eq!(claim(&store, &agent, 1).await.tasks.len(), 1);
    cancel(&store, bench.task(1).id()).await;
    // Nobody has to find the route empty for the purge to forget it.
    assert_eq!(store.purge(&all_before(Timestamp::UNIX_EPOCH), 10).await.unwrap().rows, 1);
    assert_eq!(store.purge(&all_before(Timestamp::UNIX_EPOCH), 10).await.unwrap().rows, 0);
    store.commit(inserting(bench.task(2))).await.unwrap();
    assert_eq!(claim(&store, &agent, 1).await.tasks.len(), 1);
}

#[tokio::test]
async fn a_panic_within_a_claim_fails_the_store_and_reads_go_on() {
    let bench = Bench::new();
    let store = bench.open();
    let agent = bench.agent();
    store.commit(registering(&agent)).await.unwrap();
    store.commit(inserting(bench.task(1))).await.unwrap();
    let ask = Ask {
        agent: Arc::new(agent),
        max_tasks: 1,
        request_id: None,
        task_types: None,
        lease: Duration::from_secs(60),
    };
    let panicking: Arc<Decide> = Arc::new(|_, _, _| panic!("a stranger's code"));
    let claimed = store.claim(Demand { asks: vec![ask] }, panicking).await;
    assert!(matches!(claimed, Err(StoreError::Failed { .. })), "{claimed:?}");
    assert!(store.tasks(&everything()).await.unwrap()[0].1.record.is_ready());
    store.close().await.unwrap();
    assert!(bench.open().task(bench.task(1).id()).await.unwrap().is_some());
}

/// A statement that meets a broken page leaves its transaction open.
#[tokio::test]
async fn a_broken_page_fails_the_store_and_young_tasks_are_still_read() {
    let bench = Bench::new();
    bench.open().close().await.unwrap();
    let connection = rusqlite::Connection::open(bench.path()).unwrap();
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'idempotency'";
    let root: u32 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
    drop(connection);
    let mut file = fs::read(bench.path()).unwrap();
    file[(root as usize - 1) * 4096..][..4096].fill(0xff);
    fs::write(bench.path(), file).unwrap();

    let store = bench.open();
    store.commit(inserting(bench.task(1))).await.unwrap();
    let key = IdempotencyKeyRow {
        scope: IdempotencyScope { principal: "operator".into(), route: "submit", key: "k".into() },
        body_sha256: [3; 32],
        target: IdempotentTarget::Task(bench.task(1).id()),
        created_at: bench.clock.now(),
    };
    let failed = store.commit(Change { idempotency: Some(key), ..Change::default() }).await;
    assert!(matches!(failed, Err(StoreError::Failed { .. })), "{failed:?}");
    assert_eq!(store.tasks(&everything()).await.unwrap().len(), 1);
    let refused = store.commit(inserting(bench.task(2))).await;
    assert!(matches!(refused, Err(StoreError::Failed { .. })), "{refused:?}");
}

#[test]
fn it_works_on_any_runtime_and_from_any_thread() {
    let bench = Bench::new();
    let store = bench.open();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        store.commit(inserting(bench.task(1))).await.unwrap();
        assert_eq!(store.tasks(&everything()).await.unwrap().len(), 1);
        store.close().await.unwrap();
        assert!(matches!(store.head().await, Err(StoreError::Closed)));
        store.close().await.unwrap();
    });
}
