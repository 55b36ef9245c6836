//! The faulty store keeps the contract of a store, and each fault does what it says.
#![cfg(all(feature = "faulty", feature = "conformance"))]

use std::sync::Arc;
use std::time::Duration;

use eap_core::{Agent, Standing, Vitals};
use eap_orchestrator::store::faulty::{Fault, FaultOdds, FaultyStore, StoreCall};
use eap_orchestrator::store::{
    AgentWrite, Change, EventSeq, IdempotencyKeyRow, IdempotencyScope, IdempotentTarget, MemoryStore, Repository,
    Revision, StoreError, conformance,
};
use eap_orchestrator::{Entropy, SystemClock, SystemEntropy};
use eap_types::{AgentId, AgentType, Capabilities, Capability, JsonObject, Labels, TaskId, TenantId, Timestamp};

// Half of all calls are late, the others pass: neither breaks the contract.
conformance::suite!(async |clock| {
    let mut odds = FaultOdds::default();
    odds.slow = 500;
    odds.longest_delay = Duration::from_millis(2);
    FaultyStore::new(Arc::new(MemoryStore::new(clock))).with_random(Arc::new(SystemEntropy), odds)
});

fn store() -> FaultyStore {
    FaultyStore::new(Arc::new(MemoryStore::new(Arc::new(SystemClock::new()))))
}

fn scope(key: &str) -> IdempotencyScope {
    IdempotencyScope { principal: "host".to_owned(), route: "submit", key: key.to_owned() }
}

/// A change that can be read back by its key.
fn change(key: &str) -> Change {
    let target = IdempotentTarget::Task(TaskId::v7(Timestamp::UNIX_EPOCH, [7; 10]));
    let row = IdempotencyKeyRow { scope: scope(key), body_sha256: [0; 32], target, created_at: Timestamp::UNIX_EPOCH };
    Change { idempotency: Some(row), ..Change::default() }
}

fn agent() -> Agent {
    let now = Timestamp::UNIX_EPOCH;
    Agent {
        id: AgentId::v7(now, [0; 10]),
        tenant: TenantId::default(),
        name: "AGENT-FAULT-01".parse().unwrap(),
        instance_id: None,
        version: "1.0.0".to_owned(),
        agent_type: AgentType::default(),
        capabilities: Capabilities::new(["translate".parse::<Capability>().unwrap()]).unwrap(),
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

async fn is_there(store: &FaultyStore, key: &str) -> bool {
    store.idempotent(&scope(key)).await.expect("reads go on").is_some()
}

#[tokio::test]
async fn what_is_unavailable_was_not_written_and_what_lost_its_answer_was() {
    let store = store();
    store.inject(StoreCall::Commit, Fault::Unavailable);
    store.inject(StoreCall::Commit, Fault::AnswerLost);
    assert!(matches!(store.commit(change("one")).await, Err(StoreError::Unavailable { .. })));
    assert!(!is_there(&store, "one").await);
    assert!(matches!(store.commit(change("two")).await, Err(StoreError::Unavailable { .. })));
    assert!(is_there(&store, "two").await);
    assert!(store.commit(change("three")).await.is_ok());
    let counts = store.counts();
    assert_eq!((counts.unavailable, counts.answers_lost), (1, 1));
}

#[tokio::test]
async fn only_a_commit_that_updates_a_record_meets_a_conflict() {
    let store = store();
    store.inject(StoreCall::Commit, Fault::Conflict);
    assert!(store.commit(change("one")).await.is_ok());
    assert_eq!(store.counts().conflicts, 0);
    let agent = agent();
    let vitals = Vitals::registered(agent.epoch, agent.registered_at);
    store
        .commit(Change { agents: vec![AgentWrite::Insert(agent.clone(), vitals)], ..Change::default() })
        .await
        .unwrap();
    store.inject(StoreCall::Commit, Fault::Conflict);
    let update = AgentWrite::Update { agent, revision: Revision(1) };
    let update = Change { agents: vec![update], ..Change::default() };
    assert!(matches!(store.commit(update.clone()).await, Err(StoreError::Conflict { .. })));
    assert!(store.commit(update).await.is_ok(), "nothing was written, so the revision still fits");
    assert_eq!(store.counts().conflicts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_writes_until_there_is_room_and_reads_go_on() {
    let store = store();
    store.inject(StoreCall::Commit, Fault::Full(Duration::from_secs(3)));
    for _ in 0..2 {
        assert!(matches!(store.commit(change("one")).await, Err(StoreError::Full { .. })));
        assert!(!is_there(&store, "one").await);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(store.commit(change("one")).await.is_ok());
    store.inject(StoreCall::Commit, Fault::Full(Duration::from_secs(3)));
    assert!(store.commit(change("two")).await.is_err());
    store.heal();
    assert!(store.commit(change("two")).await.is_ok());
    assert_eq!(store.counts().full, 3);
}

#[tokio::test]
async fn after_a_failed_fsync_nothing_is_written_any_more_not_even_once_all_else_is_healed() {
    for written in [false, true] {
        let store = store();
        store.inject(StoreCall::Commit, Fault::FsyncFailed { written });
        assert!(matches!(store.commit(change("one")).await, Err(StoreError::Failed { .. })));
        assert_eq!(is_there(&store, "one").await, written);
        store.heal();
        assert!(matches!(store.commit(change("two")).await, Err(StoreError::Failed { .. })));
        assert!(!is_there(&store, "two").await);
        assert!(store.has_failed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_write_lands_without_the_one_who_waited() {
    let store = store();
    store.inject(StoreCall::Commit, Fault::Slow(Duration::from_secs(5)));
    let left = tokio::time::timeout(Duration::from_secs(1), store.commit(change("one"))).await;
    assert!(left.is_err() && !is_there(&store, "one").await);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(is_there(&store, "one").await);
}

/// Draws 0, 1, 2… in every four bytes.
#[derive(Debug, Default)]
struct Counting(std::sync::atomic::AtomicU32);

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        let drawn = self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        bytes.copy_from_slice(&drawn.to_le_bytes()[..bytes.len()]);
    }
}

#[tokio::test]
async fn odds_are_thousandths() {
    let mut odds = FaultOdds::default();
    (odds.unavailable, odds.answer_lost) = (250, 100);
    let store = FaultyStore::new(Arc::new(MemoryStore::new(Arc::new(SystemClock::new()))))
        .with_random(Arc::new(Counting::default()), odds);
    for _ in 0..2_000 {
        let _ = store.events(EventSeq(0), None, 1).await;
    }
    let counts = store.counts();
    assert_eq!((counts.unavailable, counts.answers_lost), (500, 200));
}
