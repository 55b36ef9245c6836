//! Several stores on one schema, as in several processes: they know nothing of each other but what is stored.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use eap_core::{Agent, Phase, Task, TaskState};
use eap_orchestrator::store::{
    AgentWrite, Change, Cutoffs, Decide, EventSeq, IdempotencyKeyRow, IdempotencyScope, IdempotentTarget,
    MAX_CLAIM_BYTES, PostgresOptions, PostgresStore, Repository, StoreError, Stored, TaskWrite, WebhookRow,
};
use eap_tests::postgres::PrivateServer;
use eap_types::{Capabilities, Capability, TaskId, Timestamp};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::task::JoinSet;

use crate::network::Network;
use crate::postgres::{Schema, is_there};
use crate::records::{asking, claim, granting, ids, inserting, open, register, task};

const REPLICAS: usize = 3;

pub(crate) async fn replicas(schema: &Schema) -> Vec<Arc<PostgresStore>> {
    let mut opening = JoinSet::new();
    for _ in 0..REPLICAS {
        let (name, url) = (schema.name().to_owned(), schema.url().to_owned());
        opening.spawn(async move {
            let options = PostgresOptions::default().with_schema(name).with_max_connections(6);
            PostgresStore::connect(&url, options).await.expect("the schema can be opened")
        });
    }
    opening.join_all().await.into_iter().map(Arc::new).collect()
}

/// Cut-offs before which there is nothing.
fn nothing_old() -> Cutoffs {
    let never = Timestamp::MIN;
    Cutoffs {
        tasks: never,
        sessions: never,
        events: never,
        late_results: never,
        idempotency_keys: never,
        webhooks: never,
        states: never,
        credentials: never,
        agents: never,
    }
}

/// Follows the events from the beginning, and gives their numbers once `done` was true and none is left.
async fn followed(store: Arc<PostgresStore>, done: Arc<AtomicBool>) -> Vec<EventSeq> {
    let mut seen: Vec<EventSeq> = Vec::new();
    loop {
        // Asked before the read: what was written by then must be in it.
        let is_last = done.load(Ordering::SeqCst);
        let after = seen.last().copied().unwrap_or_default();
        let new = store.events(after, None, 50).await.expect("a read succeeds");
        if new.is_empty() && is_last {
            return seen;
        }
        seen.extend(new.iter().map(|event| event.seq));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_the_tasks_and_number_the_events_without_a_gap() {
    const WRITERS: usize = 12;
    const TASKS_EACH: usize = 25;
    const CLAIMERS: usize = 12;
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let stores = replicas(&schema).await;
    let done = Arc::new(AtomicBool::new(false));
    let followers: Vec<_> =
        stores.iter().map(|store| tokio::spawn(followed(Arc::clone(store), Arc::clone(&done)))).collect();

    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let store = Arc::clone(&stores[number % REPLICAS]);
        // Keys that are new to the others: each writer has one of its own, and all share one.
        let types = ["shared".to_owned(), format!("own{number}")];
        writers.spawn(async move {
            let mut written = Vec::new();
            for step in 0..TASKS_EACH {
                let task = task(&types[usize::from(step % 5 == 0)]);
                written.push(task.id());
                store.commit(inserting(task)).await.expect("a commit succeeds");
            }
            written
        });
    }
    let all = WRITERS * TASKS_EACH;
    let mut claimers = JoinSet::new();
    for number in 0..CLAIMERS {
        let store = Arc::clone(&stores[number % REPLICAS]);
        let agent = register(&store, "shared", u32::MAX).await;
        claimers.spawn(async move {
            let mut got = Vec::new();
            let mut dry = 0;
            while dry < 100 {
                let claimed = claim(&store, &agent, 3).await.expect("a claim succeeds");
                dry = if claimed.tasks.is_empty() { dry + 1 } else { 0 };
                got.extend(ids(&claimed));
            }
            got
        });
    }
    let written: HashSet<TaskId> = writers.join_all().await.into_iter().flatten().collect();
    assert_eq!(written.len(), all);
    let mut got: Vec<TaskId> = claimers.join_all().await.into_iter().flatten().collect();
    // What nobody looked for any more, once all was written.
    for number in 0..WRITERS {
        for task_type in ["shared".to_owned(), format!("own{number}")] {
            let agent = register(&stores[(number + 1) % REPLICAS], &task_type, u32::MAX).await;
            let claimed = claim(&stores[(number + 1) % REPLICAS], &agent, 1_000).await.expect("a claim succeeds");
            got.extend(ids(&claimed));
        }
    }
    assert_eq!(got.len(), all, "every task is claimed, and none twice");
    assert_eq!(got.into_iter().collect::<HashSet<_>>(), written);

    done.store(true, Ordering::SeqCst);
    // One for each task that was submitted, and one for each that was leased.
    let expected: Vec<EventSeq> = (1..=2 * all as u64).map(EventSeq).collect();
    for follower in followers {
        assert_eq!(follower.await.expect("the follower does not panic"), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_asks_every_replica_at_once_keeps_within_its_room() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let stores = replicas(&schema).await;
    for _ in 0..60 {
        stores[0].commit(inserting(task("a"))).await.expect("a commit succeeds");
    }
    let agent = register(&stores[0], "a", 7).await;
    let mut asking = JoinSet::new();
    for number in 0..24 {
        let (store, agent) = (Arc::clone(&stores[number % REPLICAS]), agent.clone());
        asking.spawn(async move { ids(&claim(&store, &agent, 2).await.expect("a claim succeeds")) });
    }
    let got: Vec<TaskId> = asking.join_all().await.into_iter().flatten().collect();
    assert_eq!((got.len(), got.iter().collect::<HashSet<_>>().len()), (7, 7));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_repeated_at_every_replica_gets_the_same_tasks() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let stores = replicas(&schema).await;
    for _ in 0..20 {
        stores[0].commit(inserting(task("a"))).await.expect("a commit succeeds");
    }
    let agent = register(&stores[1], "a", 10).await;
    let mut asking = JoinSet::new();
    for number in 0..12 {
        let (store, mut demand) = (Arc::clone(&stores[number % REPLICAS]), crate::records::asking(&agent, 3));
        demand.asks[0].request_id = Some("request-1".parse().expect("a request id"));
        asking.spawn(async move { ids(&store.claim(demand, granting()).await.expect("a claim succeeds").answers[0]) });
    }
    let answers = asking.join_all().await;
    assert_eq!(answers[0].len(), 3);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_replicas_that_take_the_same_key_one_wins() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let stores = replicas(&schema).await;
    for round in 0..20 {
        let mut taking = JoinSet::new();
        for number in 0..2 * REPLICAS {
            let (store, task) = (Arc::clone(&stores[number % REPLICAS]), task("a"));
            let scope = IdempotencyScope { principal: "somebody".into(), route: "POST /tasks", key: round.to_string() };
            let target = IdempotentTarget::Task(task.id());
            let (body_sha256, created_at) = ([7; 32], Timestamp::UNIX_EPOCH);
            let key = IdempotencyKeyRow { scope, body_sha256, target, created_at };
            taking.spawn(async move { store.commit(Change { idempotency: Some(key), ..inserting(task) }).await });
        }
        let (won, lost): (Vec<_>, Vec<_>) = taking.join_all().await.into_iter().partition(Result::is_ok);
        assert_eq!((won.len(), lost.len()), (1, 2 * REPLICAS - 1));
        assert!(lost.iter().all(|answer| matches!(answer, Err(StoreError::Duplicate { .. }))), "{lost:?}");
    }
    let events = stores[0].events(EventSeq(0), None, 1_000).await.expect("a read succeeds");
    assert_eq!(events.len(), 20, "those that lost tell of nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_one_replica_forgot_is_found_by_the_others_again() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let stores = replicas(&schema).await;
    let agent = register(&stores[0], "a", 100).await;
    for round in 0..3 {
        let task = task("a");
        let id = task.id();
        stores[round].commit(inserting(task)).await.expect("a commit succeeds");
        assert_eq!(ids(&claim(&stores[(round + 1) % REPLICAS], &agent, 9).await.expect("a claim succeeds")), [id]);
        // Nothing is old; but the route of that task is in use no more.
        assert_eq!(stores[(round + 2) % REPLICAS].purge(&nothing_old(), 10).await.expect("a purge succeeds").rows, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn submitting_goes_on_while_routes_are_forgotten() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let stores = replicas(&schema).await;
    let agent = register(&stores[0], "a", u32::MAX).await;
    let done = Arc::new(AtomicBool::new(false));
    let forgetting = tokio::spawn({
        let (store, done) = (Arc::clone(&stores[2]), Arc::clone(&done));
        async move {
            while !done.load(Ordering::SeqCst) {
                store.purge(&nothing_old(), 100).await.expect("a purge succeeds");
            }
        }
    });
    for round in 0..60 {
        let task = task("a");
        let id = task.id();
        stores[round % 2].commit(inserting(task)).await.expect("a commit succeeds");
        assert_eq!(ids(&claim(&stores[(round + 1) % 2], &agent, 1).await.expect("a claim succeeds")), [id], "{round}");
    }
    done.store(true, Ordering::SeqCst);
    forgetting.await.expect("a purge does not panic");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_panics_costs_nobody_else_their_answer() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let store = Arc::new(open(&schema).await);
    let agent = register(&store, "a", 9).await;
    let id = task("a");
    store.commit(inserting(id.clone())).await.expect("a commit succeeds");
    let (panicking, writing) = tokio::join!(
        store.claim(asking(&agent, 1), Arc::new(|_, _, _| panic!("a stranger's mistake"))),
        store.commit(inserting(task("b"))),
    );
    assert!(matches!(panicking, Err(StoreError::Unavailable { .. })), "{panicking:?}");
    writing.expect("the neighbour is written");
    let claimed = tokio::time::timeout(Duration::from_secs(5), claim(&store, &agent, 1)).await.expect("in time");
    assert_eq!(ids(&claimed.expect("the next claim succeeds")), [id.id()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_changed_at_one_replica_is_matched_anew_by_the_others() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let stores = replicas(&schema).await;
    let agent = register(&stores[0], "a", 100).await;
    let (first, second) = (task("a"), task("b"));
    let wanted = [first.id(), second.id()];
    for task in [first, second] {
        stores[0].commit(inserting(task)).await.expect("a commit succeeds");
    }
    assert_eq!(ids(&claim(&stores[1], &agent, 9).await.expect("a claim succeeds")), wanted[..1]);
    let (stored, _) = stores[0].agents().await.expect("a read succeeds").pop().expect("the agent is stored");
    let capabilities = Capabilities::new(["b".parse::<Capability>().expect("a capability")]).expect("not empty");
    let agent = Agent { capabilities, ..stored.record };
    let update = AgentWrite::Update { agent: agent.clone(), revision: stored.revision };
    stores[0].commit(Change { agents: vec![update], ..Change::default() }).await.expect("a commit succeeds");
    assert_eq!(ids(&claim(&stores[1], &agent, 9).await.expect("a claim succeeds")), wanted[1..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_claim_does_not_give_what_was_taken_back_meanwhile() {
    let Some(server) = PrivateServer::start() else { return };
    let network = Network::before(&server).await;
    let options = PostgresOptions::default().with_max_connections(4);
    let store = PostgresStore::connect(network.url(), options.clone()).await.expect("the schema can be made");
    let other = PostgresStore::connect(&server.url(), options).await.expect("the schema can be opened");
    let agent = register(&other, "a", 9).await;
    let task = task("a");
    let id = task.id();
    other.commit(inserting(task)).await.expect("a commit succeeds");
    let mut demand = asking(&agent, 1);
    demand.asks[0].request_id = Some("request-1".parse().expect("a request id"));
    assert_eq!(ids(&other.claim(demand.clone(), granting()).await.expect("a claim succeeds").answers[0]), [id]);

    // The repeat has read what its request is bound to, and not yet the tasks.
    network.hold_answers_with(b"request-1");
    let repeated = tokio::spawn(async move { store.claim(demand, granting()).await });
    network.holds_one().await;
    let Stored { record, revision, .. } = other.task(id).await.expect("a read succeeds").expect("it is stored");
    let state = TaskState { phase: Phase::Queued { ready_at: None }, ..record.state };
    let task = Task { state, ..record };
    let change = Change { tasks: vec![TaskWrite::Update { task, revision }], ..Change::default() };
    other.commit(change).await.expect("a commit succeeds");
    network.pass();

    let answer = repeated.await.expect("it does not panic").expect("a claim succeeds").answers.remove(0);
    assert_eq!((ids(&answer), answer.repeated), (vec![id], false), "it was claimed anew");
    assert_eq!(other.leases(&agent.id).await.expect("a read succeeds").len(), 1);
}

/// What does not fit into one answer is left to others.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_claim_of_large_tasks_holds_no_more_of_them_than_it_may_get() {
    const TASKS: usize = 16;
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let (store, other) = (open(&schema).await, open(&schema).await);
    let (agent, next) = (register(&store, "a", 100).await, register(&store, "a", 100).await);
    let mut wanted = Vec::new();
    for _ in 0..TASKS {
        let mut task = task("a");
        Arc::make_mut(&mut task.spec).input = "x".repeat(1 << 20);
        wanted.push(task.id());
        store.commit(inserting(task)).await.expect("a commit succeeds");
    }
    let (decides, is_deciding) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let decide: Arc<Decide> = Arc::new(move |task, ask, now| {
        let _ = decides.send(());
        let _ = may_go_on.lock().expect("nobody panics").recv_timeout(Duration::from_secs(4));
        granting()(task, ask, now)
    });
    let (demand, few) = (asking(&agent, TASKS as u32), MAX_CLAIM_BYTES >> 20);
    let claiming = tokio::spawn(async move { store.claim(demand, decide).await });
    tokio::task::spawn_blocking(move || is_deciding.recv()).await.unwrap().expect("the claim is under way");
    let others = claim(&other, &next, TASKS as u32).await.expect("a claim succeeds");
    drop(go_on);
    let first = claiming.await.expect("it does not panic").expect("a claim succeeds").answers.remove(0);
    assert_eq!((first.tasks.len(), others.tasks.len()), (few, few));
    assert_eq!(ids(&first), wanted[..few]);
    // Of those between, one at most was locked and did not fit.
    let next = ids(&others)[0];
    assert!(wanted[few..=few + 1].contains(&next));
}

/// Waits until a statement of this schema waits for somebody's lock.
pub(crate) async fn held_up(schema: &Schema, is_over: impl Fn() -> bool) {
    // Not in a transaction, which would be told the same each time.
    let mut other = PgConnection::connect(schema.url()).await.expect("the server is there");
    let sql = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%' || $1 || '%'";
    while sqlx::query(sql).bind(schema.name()).fetch_optional(&mut other).await.expect("a read succeeds").is_none() {
        assert!(!is_over(), "it does not wait");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_purge_at_once_do_not_fail_and_hold_up_no_write() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let store = Arc::new(open(&schema).await);
    let hasty = PostgresOptions::default().with_schema(schema.name()).with_lock_timeout(Duration::from_millis(100));
    let hasty = PostgresStore::connect(schema.url(), hasty).await.expect("the schema can be opened");
    let webhook = Some(WebhookRow { digest: [7; 32], received_at: Timestamp::UNIX_EPOCH });
    store.commit(Change { webhook, ..inserting(task("a")) }).await.expect("a commit succeeds");
    // Somebody holds one of the last rows that go.
    let mut other = PgConnection::connect(schema.url()).await.expect("the server is there");
    let hold = format!("BEGIN; SELECT digest FROM {}.webhook FOR UPDATE", schema.name());
    other.execute(&*hold).await.expect("a row is held");
    let cutoffs = Cutoffs { events: Timestamp::MAX, webhooks: Timestamp::MAX, ..nothing_old() };
    let purging = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.purge(&cutoffs, 10).await }
    });
    held_up(&schema, || purging.is_finished()).await;

    store.commit(inserting(task("a"))).await.expect("a commit succeeds");
    assert!(!purging.is_finished(), "it did not wait for the purge");
    let second = hasty.purge(&cutoffs, 10).await.expect("a purge that comes second succeeds");
    assert_eq!(second.rows, 0, "it leaves the work to the first");
    other.execute("ROLLBACK").await.expect("the row is let go");
    assert_eq!(purging.await.expect("it does not panic").expect("a purge succeeds").rows, 2);
}
