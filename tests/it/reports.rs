//! Progress while a task runs, and giving one back.

use serde_json::{Value, json};

use crate::harness::{Agent, Server, assert_shape, id_of};

async fn holding() -> (Server, Agent, Value) {
    let server = Server::start_with_clock().await;
    let agent = server.agent("AGENT-A").await;
    server.operator().submit(json!({})).await;
    let task = agent.take().await;
    (server, agent, task)
}

#[tokio::test]
async fn progress_renews_the_lease_and_is_shown_to_the_operator() {
    let (server, agent, task) = holding().await;
    server.advance(30);
    let body = json!({"seq": 1, "progress": 0.25, "message": "reading", "attempt": 1, "lease_id": task["lease_id"]});
    let reply = agent.progress(&id_of(&task), body).await.expect(200);
    assert_shape(&reply, &json!({"lease_expires_in_ms": 60_000, "directives": []}));
    let shown = server.operator().task(&id_of(&task)).await;
    assert_eq!(shown["progress"], json!({"progress": 0.25, "message": "reading"}));
    assert_eq!(shown["lease_expires_at"], "2027-01-15T08:01:30Z");
}

#[tokio::test]
async fn an_older_report_of_progress_is_ignored_and_renews_all_the_same() {
    let (server, agent, task) = holding().await;
    let id = id_of(&task);
    agent.progress(&id, json!({"seq": 2, "progress": 0.5})).await.expect(200);
    server.advance(30);
    for seq in [1, 2] {
        let reply = agent.progress(&id, json!({"seq": seq, "progress": 0.1})).await.expect(200);
        assert_eq!(reply["lease_expires_in_ms"], 60_000);
    }
    assert_eq!(server.operator().task(&id).await["progress"], json!({"progress": 0.5}));
    agent.progress(&id, json!({"seq": 3})).await.expect(200);
    assert_eq!(server.operator().task(&id).await["progress"], json!({}));
}

#[tokio::test]
async fn a_new_attempt_begins_without_progress() {
    let (server, agent, task) = holding().await;
    let id = id_of(&task);
    agent.progress(&id, json!({"seq": 100, "progress": 0.9})).await.expect(200);
    agent.release(&id, Some(&json!({"retry_after_seconds": 0}))).await.expect(200);
    let again = agent.take().await;
    assert_eq!(server.operator().task(&id).await.get("progress"), None);
    agent.progress(&id, json!({"seq": 1, "progress": 0.1, "attempt": again["attempt"]})).await.expect(200);
    assert_eq!(server.operator().task(&id).await["progress"], json!({"progress": 0.1}));
}

#[tokio::test]
async fn progress_of_an_attempt_that_no_longer_counts_is_refused_and_changes_nothing() {
    let (server, agent, task) = holding().await;
    let id = id_of(&task);
    agent.release(&id, Some(&json!({"retry_after_seconds": 0}))).await.expect(200);
    agent.progress(&id, json!({"seq": 1})).await.problem(409, "LEASE_LOST");
    let other = server.agent("AGENT-B").await;
    let again = other.take().await;
    agent.progress(&id, json!({"seq": 1, "attempt": 1})).await.problem(409, "LEASE_LOST");
    agent.release(&id, None).await.problem(409, "LEASE_LOST");
    // The number of the newest attempt does not make it one's own.
    agent.progress(&id, json!({"seq": 1, "attempt": 2})).await.problem(409, "LEASE_LOST");
    assert_eq!(server.operator().task(&id).await.get("progress"), None);
    assert_eq!(server.operator().outcomes(&id).await, ["released", "open"]);
    other.complete(&again).await.expect(200);
    agent.progress(&id, json!({"seq": 1})).await.problem(409, "TASK_FINAL");
    other.progress(&id, json!({"seq": 1})).await.problem(409, "TASK_FINAL");
    other.release(&id, None).await.problem(409, "TASK_FINAL");
}

#[tokio::test]
async fn a_task_that_is_given_back_spends_its_number_and_no_attempt() {
    let server = Server::start_with_clock().await;
    let agent = server.agent("AGENT-A").await;
    let id = server.operator().submit(json!({"max_attempts": 1})).await;
    for attempt in 1..=3 {
        let task = agent.take().await;
        assert_eq!(task["attempt"], attempt);
        let reply = agent.release(&id, Some(&json!({"reason": "no disk", "retry_after_seconds": 0}))).await;
        assert_eq!(reply.expect(200), json!({"task_id": id, "status": "released"}));
    }
    let history = server.operator().history(&id).await;
    for attempt in history["attempts"].as_array().expect("attempts are a list") {
        assert_eq!((&attempt["outcome"], &attempt["message"]), (&json!("released"), &json!("no disk")));
    }
    let last = agent.take().await;
    agent.complete(&last).await.expect(200);
    assert_eq!(server.operator().task(&id).await["attempt"], 4);
}

#[tokio::test]
async fn a_released_task_waits_as_long_as_its_agent_says() {
    let (server, agent, task) = holding().await;
    let id = id_of(&task);
    agent.release(&id, Some(&json!({"retry_after_seconds": 30}))).await.expect(200);
    server.advance(29);
    assert_eq!(agent.take_up_to(1).await, Vec::<Value>::new());
    server.advance(1);
    assert_eq!(id_of(&agent.wait_for_task().await), id);
}

#[tokio::test]
async fn a_release_without_a_word_backs_off() {
    let (server, agent, task) = holding().await;
    agent.release(&id_of(&task), None).await.expect(200);
    assert_eq!(agent.take_up_to(1).await, Vec::<Value>::new());
    server.advance(1);
    assert_eq!(agent.wait_for_task().await["attempt"], 2);
}

#[tokio::test]
async fn a_task_that_is_given_back_again_and_again_is_given_up() {
    let server = Server::start_with_clock().await;
    let agent = server.agent("AGENT-A").await;
    let id = server.operator().submit(json!({})).await;
    for round in 1..=20 {
        agent.take().await;
        // A release for draining does not count towards the twenty.
        if round == 5 {
            agent.beat(json!({"status": "offline"})).await.expect(200);
            agent.release(&id, Some(&json!({"draining": true}))).await.expect(200);
            agent.beat(json!({"status": "healthy"})).await.expect(200);
            agent.take().await;
        }
        agent.release(&id, Some(&json!({"retry_after_seconds": 0}))).await.expect(200);
    }
    let shown = server.operator().task(&id).await;
    assert_eq!((&shown["status"], &shown["attempt"]), (&json!("dead"), &json!(21)));
    assert!(shown["reason"].as_str().is_some_and(|reason| reason.contains("20 releases")), "{shown}");
    assert_eq!(agent.take_up_to(1).await, Vec::<Value>::new());
}

#[tokio::test]
async fn an_agent_that_says_it_drains_and_does_not_is_told_nothing_and_the_release_counts() {
    let (server, agent, task) = holding().await;
    agent.release(&id_of(&task), Some(&json!({"draining": true}))).await.expect(200);
    assert_eq!(agent.take_up_to(1).await, Vec::<Value>::new(), "it backs off as any other");
    server.advance(1);
    assert_eq!(agent.wait_for_task().await["attempt"], 2);
}

#[tokio::test]
async fn a_task_that_a_draining_agent_gives_back_is_there_at_once_for_another() {
    let (server, agent, task) = holding().await;
    agent.beat(json!({"status": "healthy", "draining": true})).await.expect(200);
    agent.release(&id_of(&task), Some(&json!({"draining": true}))).await.expect(200);
    let other = server.agent("AGENT-B").await;
    assert_eq!(id_of(&other.take().await), id_of(&task));
}
