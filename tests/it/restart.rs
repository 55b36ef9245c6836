//! The same SQLite file under a new server: everything acknowledged is there (G1, G2, G19).

use std::path::PathBuf;
use std::time::Duration;

use eap_orchestrator::SystemClock;
use eap_orchestrator::store::{SqliteOptions, SqliteStore};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Agent, Server, Setup, assert_shape, eventually, id_of, work};

fn file() -> (TempDir, PathBuf) {
    let dir = TempDir::new().expect("there is room for a temporary directory");
    let path = dir.path().join("eap.db");
    (dir, path)
}

/// The same agent, at another server.
fn at(server: &Server, agent: &Agent) -> Agent {
    Agent { api: server.api.clone(), ..agent.clone() }
}

#[tokio::test]
async fn everything_that_was_acknowledged_is_there_after_a_restart() {
    let (_dir, path) = file();
    let first = Setup::sqlite_at(&path).manual_clock().start().await;
    let agent = first.agent_with("AGENT-A", json!({"labels": {"region": "eu"}, "metadata": {"x": [1]}})).await;
    let operator = first.operator();

    let body = work(json!({"input": "with a key"}));
    let keyed = id_of(&operator.submit_with_key("k1", &body).await.expect(201));
    let completed = agent.take().await;
    let output = json!({"status": "completed", "output_data": {"z": 1, "a": [null, 1.5]}, "tokens_used": 3,
        "artifacts": [{"path": "a/b.txt", "content": "é\u{0}\n", "mime_type": "text/x"}]});
    agent.report_for(&completed, output.clone()).await.expect(200);
    let late = operator.submit(json!({})).await;
    let late_task = agent.take().await;
    operator.cancel(&late, Some(&json!({"reason": "why not"}))).await.expect(200);
    agent.complete(&late_task).await.problem(409, "TASK_FINAL");
    operator.submit(json!({})).await;
    agent.fail(&agent.take().await, json!({})).await.expect(200);
    operator.submit(json!({"priority": 0, "run_at": "2100-01-01T00:00:00Z"})).await;
    let leased = operator.submit(json!({"input": {"big": "x".repeat(100_000)}})).await;
    let held = agent.take().await;
    agent.progress(&leased, json!({"seq": 1, "progress": 0.5})).await.expect(200);

    let snapshot = async |server: &Server| {
        let operator = server.operator();
        let page = operator.list("limit=500").await;
        let mut all = vec![page.clone(), json!(operator.agents().await)];
        for task in page["tasks"].as_array().expect("tasks are a list") {
            all.push(operator.task(&id_of(task)).await);
            all.push(operator.history(&id_of(task)).await);
        }
        all
    };
    let before = snapshot(&first).await;
    let clock = first.clock();
    first.stop().await;

    let second = Setup::sqlite_at(&path).clock(clock).start().await;
    let after = snapshot(&second).await;
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before, after);
    }
    // The agent goes on under its old token, without registering again.
    let agent = at(&second, &agent);
    assert_eq!(agent.report_for(&completed, output).await.expect(200)["duplicate"], true);
    agent
        .beat(json!({"status": "healthy", "tasks": [
            {"task_id": held["task_id"], "lease_id": held["lease_id"]},
        ]}))
        .await
        .expect(200);
    assert_eq!(agent.complete(&held).await.expect(200)["duplicate"], false);
    // Keys are remembered too.
    let operator = second.operator();
    assert_eq!(id_of(&operator.submit_with_key("k1", &body).await.expect(201)), keyed);
    operator.submit_with_key("k1", &work(json!({}))).await.problem(409, "IDEMPOTENCY_CONFLICT");
    let detail = operator.agent(&agent.id).await.expect(200);
    assert_eq!((&detail["epoch"], &detail["metadata"]), (&json!(1), &json!({"x": [1]})));
}

#[tokio::test]
async fn running_leases_begin_anew_at_a_restart_and_never_last_longer_than_their_length() {
    let (_dir, path) = file();
    let first = Setup::sqlite_at(&path).manual_clock().start().await;
    let agent = first.agent("AGENT-A").await;
    let id = first.operator().submit(json!({})).await;
    let task = agent.take().await;
    let clock = first.clock();
    first.stop().await;
    // Ten minutes away: the lease would have lapsed long ago.
    clock.advance(Duration::from_secs(600));
    let second = Setup::sqlite_at(&path).clock(clock.clone()).start().await;
    let shown = second.operator().task(&id).await;
    assert_eq!((&shown["status"], &shown["attempt"]), (&json!("leased"), &json!(1)));
    assert_eq!(shown["lease_expires_at"], "2027-01-15T08:11:00Z");
    let detail = second.operator().agent(&agent.id).await.expect(200);
    assert_eq!((&detail["state"], &detail["leases"]), (&json!("online"), &json!(1)));
    // Without a word from the holder it lapses after its length, counted from now.
    second.advance(59);
    assert_eq!(second.operator().status(&id).await, "leased");
    second.advance(1);
    second.operator().until(&id, "queued").await;
    assert_eq!(at(&second, &agent).complete(&task).await.expect(200)["duplicate"], false);
}

#[tokio::test]
async fn a_clock_that_was_set_back_leaves_no_long_leases() {
    let (_dir, path) = file();
    let ahead = Setup::sqlite_at(&path).manual_clock().start().await;
    ahead.advance(3600);
    let agent = ahead.agent("AGENT-A").await;
    let id = ahead.operator().submit(json!({})).await;
    agent.take().await;
    ahead.stop().await;
    let corrected = Setup::sqlite_at(&path).manual_clock().start().await;
    assert_eq!(corrected.operator().task(&id).await["lease_expires_at"], "2027-01-15T08:01:00Z");
    corrected.advance(60);
    corrected.operator().until(&id, "queued").await;
}

#[tokio::test]
async fn what_waited_is_handed_out_after_a_restart_in_the_same_order() {
    let (_dir, path) = file();
    let first = Setup::sqlite_at(&path).start().await;
    let agent = first.agent_with("AGENT-A", json!({"max_concurrent_tasks": 10})).await;
    let mut expected = Vec::new();
    for priority in [3, 1, 2, 1, 0] {
        expected.push((priority, first.operator().submit(json!({"priority": priority})).await));
    }
    expected.sort_by_key(|(priority, _)| *priority);
    first.stop().await;
    let second = Setup::sqlite_at(&path).start().await;
    let taken: Vec<String> = at(&second, &agent).take_up_to(10).await.iter().map(id_of).collect();
    assert_eq!(taken, expected.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
    // New tasks queue behind the old ones.
    let next = second.operator().submit(json!({})).await;
    assert_eq!(id_of(&at(&second, &agent).take().await), next);
}

#[tokio::test]
async fn a_claim_repeated_after_a_restart_gives_the_same_task() {
    let (_dir, path) = file();
    let first = Setup::sqlite_at(&path).start().await;
    let agent = first.agent("AGENT-A").await;
    first.operator().submit(json!({})).await;
    let body = json!({"request_id": "r", "wait_seconds": 0});
    let before = agent.lease(body.clone()).await.expect(200)["tasks"].clone();
    first.operator().submit(json!({})).await;
    first.stop().await;
    let second = Setup::sqlite_at(&path).start().await;
    let after = at(&second, &agent).lease(body).await.expect(200)["tasks"].clone();
    for name in ["task_id", "lease_id", "attempt"] {
        assert_eq!(before[0][name], after[0][name]);
    }
    assert_eq!(after.as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_deregistered_identity_is_remembered_over_a_restart() {
    let (_dir, path) = file();
    let first = Setup::sqlite_at(&path).start().await;
    let agent = first.agent("AGENT-A").await;
    agent.deregister().await.expect(200);
    first.stop().await;
    let second = Setup::sqlite_at(&path).start().await;
    assert_eq!(second.operator().agents().await, Vec::<Value>::new());
    at(&second, &agent).beat(json!({"status": "healthy"})).await.problem(401, "INVALID_TOKEN");
    let again = second.agent("AGENT-A").await;
    assert_eq!(again.id, agent.id);
    assert_eq!(second.operator().agent(&again.id).await.expect(200)["epoch"], 2);
}

#[tokio::test]
async fn a_server_whose_store_was_wiped_tells_its_agents_to_register_again() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    drop(server);
    let fresh = Setup::sqlite().start().await;
    let stranger = at(&fresh, &agent);
    for answer in [
        stranger.beat(json!({"status": "healthy"})).await,
        stranger.lease(json!({"request_id": "r"})).await,
        stranger.delete().await,
    ] {
        answer.problem(401, "INVALID_TOKEN");
    }
    let shape = json!({"agent_id": "<uuid>", "status": "registered", "auth_token": "<text>",
        "heartbeat_interval_seconds": 30});
    let peer = fresh.older_peer("AGENT-OLD").await;
    assert_shape(&peer.reply, &shape);
}

#[tokio::test]
async fn two_servers_cannot_own_one_file() {
    let (_dir, path) = file();
    let first = Setup::sqlite_at(&path).start().await;
    let clock = std::sync::Arc::new(SystemClock::new());
    let refused = SqliteStore::open(&path, clock.clone(), SqliteOptions::default());
    assert!(refused.is_err(), "another server has it");
    first.operator().submit(json!({})).await;
    first.stop().await;
    // The lock goes with the server.
    let opened =
        eventually("the file is free", async || SqliteStore::open(&path, clock.clone(), SqliteOptions::default()).ok())
            .await;
    drop(opened);
}

#[tokio::test]
async fn what_is_over_is_kept_as_long_as_the_configuration_says_and_no_longer() {
    let (_dir, path) = file();
    let first = Setup::sqlite_at(&path).manual_clock().start().await;
    let agent = first.agent("AGENT-A").await;
    let over = first.operator().submit(json!({})).await;
    agent.complete(&agent.take().await).await.expect(200);
    let waiting = first.operator().submit(json!({})).await;
    let clock = first.clock();
    first.stop().await;
    clock.advance(Duration::from_secs(6 * 24 * 3600));
    let second = Setup::sqlite_at(&path).clock(clock.clone()).start().await;
    assert_eq!(second.operator().status(&over).await, "completed", "six days are less than seven");
    second.stop().await;
    clock.advance(Duration::from_secs(2 * 24 * 3600));
    let third = Setup::sqlite_at(&path).clock(clock).start().await;
    eventually("the old task is gone", async || {
        let answer = third.operator().get(&format!("/api/v1/tasks/{over}")).send().await;
        (answer.status == 404).then_some(())
    })
    .await;
    assert_eq!(third.operator().status(&waiting).await, "queued", "what is not over is never too old");
    let gone = third.operator().get(&format!("/api/v1/agents/{}", agent.id)).send().await;
    gone.problem(404, "AGENT_NOT_FOUND");
}
