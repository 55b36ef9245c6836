//! News for a poll that comes after its claim has looked and before the claim has answered (A17).

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinHandle;

use crate::harness::{Agent, Answer, GatedStore, Setup, eventually, id_of};
use crate::metrics::page::Page;

/// What is to be noticed has been by then; a server that needs longer passes these tests without having been put to them.
const NOTICED: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_task_that_becomes_ready_behind_a_claims_back_is_not_left_lying() {
    let store = GatedStore::new();
    let server = Setup::store(store.clone()).start().await;
    let agent = server.agent("AGENT-A").await;
    store.keep_answers();
    let polling = poll(&agent);
    eventually("the claim found nothing", async || (store.kept() == 1).then_some(())).await;
    let id = server.operator().submit(json!({})).await;
    tokio::time::sleep(NOTICED).await;
    assert!(!polling.is_finished());
    store.give_answers();
    assert_eq!(task_of(polling).await, id);
}

#[tokio::test]
async fn room_that_comes_free_behind_a_claims_back_is_used() {
    let store = GatedStore::new();
    let server = Setup::store(store.clone()).start().await;
    let agent = server.agent_with("AGENT-A", json!({"max_concurrent_tasks": 1})).await;
    let (_, second) = (server.operator().submit(json!({})).await, server.operator().submit(json!({})).await);
    let first = agent.take().await;
    store.keep_answers();
    let polling = poll(&agent);
    eventually("the claim found no room", async || (store.kept() == 1).then_some(())).await;
    agent.complete(&first).await.expect(200);
    tokio::time::sleep(NOTICED).await;
    assert!(!polling.is_finished());
    store.give_answers();
    assert_eq!(task_of(polling).await, second);
}

#[tokio::test]
async fn a_task_that_somebody_waits_for_is_leased_by_the_commit_that_writes_it() {
    let store = GatedStore::new();
    let server = Setup::store(store.clone()).start().await;
    let agent = server.agent("AGENT-A").await;
    let polling = poll(&agent);
    eventually("the poll waits", async || (Page::of(&server).await.get("eap_polls_waiting") >= 1.0).then_some(()))
        .await;
    // No claim of its own would be answered.
    store.keep_answers();
    let id = server.operator().submit(json!({})).await;
    assert_eq!(task_of(polling).await, id);
}

/// As after a restart, when all agents are back at the same moment.
#[tokio::test]
async fn who_asks_while_many_do_stands_at_the_door_and_is_not_sent_away() {
    let store = GatedStore::new();
    let server = Setup::store(store.clone()).start().await;
    let agent = server.agent("AGENT-A").await;
    store.close_gate();
    let polls: Vec<_> = (0..1_100)
        .map(|number| {
            let agent = agent.clone();
            tokio::spawn(async move {
                agent.lease(json!({"request_id": format!("r{number}"), "wait_seconds": 0})).await.status
            })
        })
        .collect();
    eventually("as many are out as may be", async || (store.waiting() == 1_024).then_some(())).await;
    store.open_gate();
    for poll in polls {
        assert_eq!(poll.await.expect("a poll does not panic"), 204);
    }
}

fn poll(agent: &Agent) -> JoinHandle<Answer> {
    let agent = agent.clone();
    tokio::spawn(async move { agent.lease(json!({"request_id": "r", "wait_seconds": 20})).await })
}

/// The task that a poll gets without waiting for long.
async fn task_of(polling: JoinHandle<Answer>) -> String {
    let reply = tokio::time::timeout(Duration::from_secs(5), polling).await.expect("the poll gets the task at once");
    id_of(&reply.expect("a poll does not panic").expect(200)["tasks"][0])
}
