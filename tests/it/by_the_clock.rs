//! What time brings: lapsed leases, time-outs, back-off, delayed starts, poison (A19–A23; G10, G13, G18).

use std::sync::Arc;

use eap_orchestrator::ManualClock;
use eap_types::Timestamp;
use serde_json::{Value, json};

use crate::harness::{Agent, GatedStore, START, Server, Setup, assert_shape, eventually, id_of};

const NOTHING: [Value; 0] = [];

async fn holding(members: Value) -> (Server, Agent, Value) {
    let server = Server::start_with_clock().await;
    let agent = server.agent("AGENT-A").await;
    server.operator().submit(members).await;
    let task = agent.take().await;
    (server, agent, task)
}

#[tokio::test]
async fn a_task_whose_holder_vanished_goes_to_another_agent_as_the_next_attempt() {
    let (server, _, task) = holding(json!({})).await;
    let other = server.agent("AGENT-B").await;
    server.advance(59);
    assert_eq!(other.take_up_to(1).await, NOTHING);
    server.advance(1);
    let again = other.wait_for_task().await;
    assert_eq!((id_of(&again), &again["attempt"]), (id_of(&task), &json!(2)));
    other.complete(&again).await.expect(200);
    assert_eq!(server.operator().outcomes(&id_of(&task)).await, ["expired", "completed"]);
}

#[tokio::test]
async fn a_poll_that_waits_gets_the_task_whose_lease_lapses() {
    let (server, _, task) = holding(json!({})).await;
    let other = server.agent("AGENT-B").await;
    server.advance(1);
    let body = json!({"request_id": "r", "wait_seconds": 20});
    let poll = server.park(&other, "/tasks/lease", Some(body)).await;
    server.advance(60);
    let answer = crate::harness::in_time("the poll is served", poll).await.expect("it does not panic");
    assert_eq!(id_of(&answer.expect(200)["tasks"][0]), id_of(&task));
}

#[tokio::test]
async fn a_late_result_that_nobody_overtook_is_recorded() {
    let (server, agent, task) = holding(json!({})).await;
    server.advance(60);
    server.operator().until(&id_of(&task), "queued").await;
    assert_eq!(server.operator().outcomes(&id_of(&task)).await, ["expired"]);
    assert_eq!(agent.complete(&task).await.expect(200)["duplicate"], false);
    assert_eq!(server.operator().outcomes(&id_of(&task)).await, ["completed"]);
    assert_eq!(server.operator().status(&id_of(&task)).await, "completed");
    assert_eq!(agent.take_up_to(1).await, NOTHING);
}

/// A21.
#[tokio::test]
async fn a_sweep_leaves_what_was_reported_or_renewed_after_it_read() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(START)));
    let store = GatedStore::with_clock(clock.clone());
    let server = Setup::store(store.clone()).clock(clock).start().await;
    let agent = server.agent("AGENT-A").await;
    server.operator().submit(json!({})).await;
    server.operator().submit(json!({})).await;
    let (reported, renewed) = (agent.take().await, agent.take().await);
    store.hold_sweeps();
    server.advance(60);
    store.until_a_sweep_holds(2).await;
    agent.complete(&reported).await.expect(200);
    let held = json!([{"task_id": renewed["task_id"], "lease_id": renewed["lease_id"]}]);
    let kept = agent.beat(json!({"status": "healthy", "tasks": held})).await.expect(200);
    store.release_sweep().await;

    let (reported, renewed) = (id_of(&reported), id_of(&renewed));
    assert_eq!(server.operator().status(&reported).await, "completed");
    assert_eq!(server.operator().outcomes(&reported).await, ["completed"]);
    assert_eq!(server.operator().status(&renewed).await, "leased", "{kept:?}");
    assert_eq!(server.operator().outcomes(&renewed).await, ["open"]);
}

#[tokio::test]
async fn a_late_failure_takes_the_place_of_its_expiry() {
    let (server, agent, task) = holding(json!({"max_attempts": 2})).await;
    server.advance(60);
    server.operator().until(&id_of(&task), "queued").await;
    agent.fail(&task, json!({})).await.expect(200);
    assert_eq!(server.operator().outcomes(&id_of(&task)).await, ["failed"]);
    // It used up one attempt, not two.
    server.advance(1);
    let again = agent.wait_for_task().await;
    assert_eq!(again["attempt"], 2);
    agent.complete(&again).await.expect(200);
}

#[tokio::test]
async fn a_late_result_that_was_overtaken_is_kept_as_evidence_and_changes_nothing() {
    let (server, agent, task) = holding(json!({})).await;
    let other = server.agent("AGENT-B").await;
    server.advance(60);
    let again = other.wait_for_task().await;
    let late = json!({"status": "completed", "output_data": {"by": "the first"}});
    agent.report_for(&task, late).await.problem(409, "LEASE_LOST");
    other.report_for(&again, json!({"status": "completed", "output_data": {"by": "the second"}})).await.expect(200);

    let shown = server.operator().task(&id_of(&task)).await;
    assert_eq!((&shown["status"], &shown["agent_id"]), (&json!("completed"), &json!(other.id)));
    assert_eq!(shown["result"]["output_data"], json!({"by": "the second"}));
    let history = server.operator().history(&id_of(&task)).await;
    let late = history["late_results"].as_array().expect("late results are a list");
    assert_eq!(late.len(), 1);
    assert_eq!((&late[0]["attempt"], &late[0]["agent_id"]), (&json!(1), &json!(agent.id)));
    assert_eq!(late[0]["result"]["output_data"], json!({"by": "the first"}));
}

#[tokio::test]
async fn a_failed_task_is_tried_again_after_a_while_by_whoever_comes() {
    let (server, agent, task) = holding(json!({})).await;
    let id = id_of(&task);
    assert_eq!(agent.fail(&task, json!({})).await.expect(200)["duplicate"], false);
    assert_eq!(agent.fail(&task, json!({})).await.expect(200)["duplicate"], true);
    agent.complete(&task).await.problem(409, "RESULT_CONFLICT");
    assert_eq!(server.operator().status(&id).await, "queued");
    assert_eq!(agent.take_up_to(1).await, NOTHING, "it backs off");
    server.advance(1);
    let second = agent.wait_for_task().await;
    agent.fail(&second, json!({})).await.expect(200);
    assert_eq!(agent.take_up_to(1).await, NOTHING);
    server.advance(2);
    let third = agent.wait_for_task().await;
    assert_eq!(third["attempt"], 3);
    agent.fail(&third, json!({"error_message": "the last straw"})).await.expect(200);
    let shown = server.operator().task(&id).await;
    assert_eq!((&shown["status"], &shown["reason"]), (&json!("failed"), &json!("the last straw")));
    assert_eq!(shown["result"]["error_message"], "the last straw");
    assert_eq!(server.operator().outcomes(&id).await, ["failed", "failed", "failed"]);
    // The report of an attempt that failed is known for good.
    assert_eq!(agent.fail(&second, json!({})).await.expect(200)["duplicate"], true);
}

#[tokio::test]
async fn no_lease_outlives_the_timeout_and_the_holder_is_told_to_stop() {
    let (server, agent, task) = holding(json!({"timeout_seconds": 90, "max_attempts": 2})).await;
    let id = id_of(&task);
    let held = json!([{"task_id": task["task_id"], "lease_id": task["lease_id"]}]);
    server.advance(50);
    agent.beat(json!({"status": "healthy", "tasks": held})).await.expect(200);
    server.advance(40);
    server.operator().until(&id, "queued").await;
    let history = server.operator().history(&id).await;
    assert_shape(
        &history["attempts"][0],
        &json!({
            "attempt": 1, "agent_id": agent.id, "lease_id": task["lease_id"], "outcome": "failed",
            "started_at": "2027-01-15T08:00:00Z", "ended_at": "2027-01-15T08:01:30Z", "error_code": "TIMEOUT",
            "message": "<text>",
        }),
    );
    let reply = agent.beat(json!({"status": "healthy", "tasks": held})).await.expect(200);
    let lost = json!([{"task_id": task["task_id"], "lease_id": task["lease_id"], "lost": true}]);
    assert_eq!(reply["leases"], lost);
    assert_shape(
        &reply["directives"][0],
        &json!({"id": task["lease_id"], "type": "cancel", "task_id": id, "lease_id": task["lease_id"],
            "cause": "timeout", "reason": "<text>"}),
    );
    let refused = agent.complete(&task).await.problem(409, "LEASE_LOST");
    assert_shape(&json!([refused["cause"], refused["reason"]]), &json!(["timeout", "<text>"]));
    // On the last attempt the server makes the result itself.
    server.advance(1);
    let again = agent.wait_for_task().await;
    server.advance(50);
    agent.beat(json!({"status": "healthy"})).await.expect(200);
    server.advance(40);
    let shown = server.operator().until(&id, "failed").await;
    let made = json!({"task_id": id, "status": "failed", "error_code": "TIMEOUT", "error_message": "<text>",
        "attempt": 2, "artifacts": [], "output_data": {}});
    assert_shape(&shown["result"], &made);
    agent.complete(&again).await.problem(409, "TASK_FINAL");
    assert_eq!(server.operator().history(&id).await["late_results"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_timeout_shorter_than_the_lease_ends_it_first() {
    let (server, _agent, task) = holding(json!({"timeout_seconds": 5, "max_attempts": 1})).await;
    assert_eq!(task["lease_expires_in_ms"], 5_000);
    server.advance(5);
    let shown = server.operator().until(&id_of(&task), "failed").await;
    assert_eq!(shown["result"]["error_code"], "TIMEOUT");
}

#[tokio::test]
async fn a_task_that_kills_its_agent_three_times_is_dead() {
    let server = Server::start_with_clock().await;
    let id = server.operator().submit(json!({"max_attempts": 10})).await;
    let mut killed = Vec::new();
    for name in ["AGENT-A", "AGENT-B", "AGENT-C"] {
        let agent = server.agent(name).await;
        let task = agent.wait_for_task().await;
        killed.push((agent, task));
        server.advance(60);
        eventually("the lease has lapsed", async || (server.operator().status(&id).await != "leased").then_some(()))
            .await;
    }
    let shown = server.operator().task(&id).await;
    assert_eq!((&shown["status"], shown.get("result")), (&json!("dead"), None));
    assert_eq!(shown["reason"], "its holder vanished 3 times");
    let history = server.operator().history(&id).await;
    for (index, (agent, task)) in killed.iter().enumerate() {
        let attempt = &history["attempts"][index];
        assert_eq!((&attempt["agent_id"], &attempt["outcome"]), (&json!(agent.id), &json!("expired")));
        assert!(attempt["ended_at"].is_string());
        agent.complete(task).await.problem(409, "TASK_FINAL");
    }
    server.advance(600);
    assert_eq!(server.agent("AGENT-D").await.take_up_to(1).await, NOTHING);
    assert_eq!(server.operator().list("status=dead").await["tasks"][0]["task_id"], json!(id));
}

#[tokio::test]
async fn a_holder_that_vanishes_on_the_last_attempt_leaves_the_task_dead() {
    let (server, agent, task) = holding(json!({"max_attempts": 1})).await;
    server.advance(60);
    server.operator().until(&id_of(&task), "dead").await;
    agent.complete(&task).await.problem(409, "TASK_FINAL");
}

#[tokio::test]
async fn a_task_does_not_start_before_its_time() {
    let server = Server::start_with_clock().await;
    let agent = server.agent("AGENT-A").await;
    // An offset, none at all, and an epoch number all say the same.
    let mut waiting = Vec::new();
    for run_at in [json!("2027-01-15T10:01:00+02:00"), json!("2027-01-15T08:01:00"), json!(1_800_000_060)] {
        waiting.push(server.operator().submit(json!({"run_at": run_at})).await);
    }
    let shown = server.operator().task(&waiting[0]).await;
    assert_eq!((&shown["status"], &shown["run_at"]), (&json!("queued"), &json!("2027-01-15T08:01:00Z")));
    server.advance(59);
    assert_eq!(agent.take_up_to(5).await, NOTHING);
    server.advance(1);
    let mut taken = Vec::new();
    for _ in 0..3 {
        taken.push(id_of(&agent.wait_for_task().await));
    }
    taken.sort();
    waiting.sort();
    assert_eq!(taken, waiting);
    // A time that has passed is no delay.
    server.operator().submit(json!({"run_at": "2020-01-01T00:00:00Z"})).await;
    agent.take().await;
}

#[tokio::test]
async fn a_task_that_nobody_began_in_time_is_dead() {
    let server = Server::start_with_clock().await;
    let agent = server.agent("AGENT-A").await;
    let id = server.operator().submit(json!({"expires_at": "2027-01-15T08:01:00Z"})).await;
    assert_eq!(server.operator().task(&id).await["expires_at"], "2027-01-15T08:01:00Z");
    server.advance(60);
    let shown = server.operator().until(&id, "dead").await;
    assert!(shown["reason"].as_str().is_some_and(|reason| reason.contains("expired")), "{shown}");
    assert_eq!(agent.take_up_to(1).await, NOTHING);
}

#[tokio::test]
async fn an_attempt_that_began_in_time_may_finish_and_no_further_one_starts() {
    let (server, agent, first) = holding(json!({"expires_at": "2027-01-15T08:00:30Z"})).await;
    server.advance(40);
    agent.beat(json!({"status": "healthy"})).await.expect(200);
    assert_eq!(agent.complete(&first).await.expect(200)["duplicate"], false);
    let id = server.operator().submit(json!({"expires_at": "2027-01-15T08:01:00Z"})).await;
    let second = agent.take().await;
    server.advance(30);
    agent.fail(&second, json!({})).await.expect(200);
    server.operator().until(&id, "dead").await;
}

#[tokio::test]
async fn a_task_that_would_expire_before_it_starts_is_refused() {
    let server = Server::start_with_clock().await;
    for members in [
        json!({"expires_at": "2027-01-15T08:00:00Z"}),
        json!({"expires_at": 0}),
        json!({"expires_at": "2027-01-15T08:01:00Z", "run_at": "2027-01-15T08:01:00Z"}),
    ] {
        let answer = server.operator().try_submit(&crate::harness::work(members)).await;
        assert_eq!(answer.fields(), ["body.expires_at"]);
    }
}

#[tokio::test]
async fn time_alone_ends_nothing_that_is_renewed() {
    let (server, agent, task) = holding(json!({})).await;
    for _ in 0..10 {
        server.advance(50);
        agent
            .beat(json!({"status": "healthy", "tasks": [
                {"task_id": task["task_id"], "lease_id": task["lease_id"]},
            ]}))
            .await
            .expect(200);
    }
    assert_eq!(agent.complete(&task).await.expect(200)["duplicate"], false);
    assert_eq!(server.operator().outcomes(&id_of(&task)).await, ["completed"]);
}
