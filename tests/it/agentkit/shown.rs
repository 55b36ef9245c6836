//! What operators are shown of a platform's agents, and of the tasks that these do.

use serde_json::{Value, json};

use super::platform::{SECRET, registered, with_face};
use crate::harness::{Endpoint, OPERATOR_KEY, Server, Setup, Turn, eventually};

async fn say(server: &Server, second: u32, state: &str, details: Value) {
    let timestamp = format!("2027-01-15T08:00:{second:02}Z");
    let body = json!({"agentId": "a1", "timestamp": timestamp, "state": state, "details": details});
    server.operator().post("/v1/opscore/agent/a1/state").json(&body).send().await.expect(202);
}

/// A server whose platform plays these turns, with an agent on it.
async fn world(turns: impl IntoIterator<Item = Turn>) -> (Server, Endpoint) {
    let platform = Endpoint::start(turns).await;
    let setup = with_face(Setup::memory(), &[SECRET]).manual_clock().config(|config| {
        config.agentkit.as_mut().expect("it is there").url = Some(platform.url().to_owned());
    });
    let server = setup.start().await;
    registered(&server, "a1").await;
    server.advance(60);
    (server, platform)
}

async fn explain(server: &Server, task: &str) -> Value {
    server.operator().get(&format!("/api/v1/tasks/{task}/explain")).send().await.expect(200)
}

#[tokio::test]
async fn an_agent_that_is_not_free_by_its_own_word_refuses_tasks_with_that_word() {
    let (server, _platform) = world([]).await;
    for (second, state) in [(1, "ERROR"), (2, "BuSy"), (3, "rebooting")] {
        say(&server, second, state, json!({"error": "out of paper"})).await;
        let task = server.operator().submit(json!({"task_type": "summarize"})).await;
        let told = explain(&server, &task).await;
        assert_eq!(told["candidates"][0]["refusals"], json!([{"code": "not_free", "word": state}]), "{told}");
        assert_eq!((&told["refused"], &told["candidates"][0]["waiting"]), (&json!({"not_free": 1}), &json!(false)));
        let summary = told["summary"].as_str().expect("a sentence");
        // The first may have come back from a pusher that asked before the agent said that it is not free.
        assert!(summary.starts_with("it is ready, and no agent that could do it can take it now"), "{summary}");
        assert!(!summary.contains("no place"), "{summary}");
    }
    // One that is free refuses nothing by its word.
    say(&server, 4, "IDLE", Value::Null).await;
    let later = json!({"task_type": "summarize", "run_at": "2100-01-01T00:00:00Z"});
    let later = server.operator().submit(later).await;
    let told = explain(&server, &later).await;
    assert!(!told["candidates"][0]["refusals"].to_string().contains("not_free"), "{told}");
}

#[tokio::test]
async fn the_detail_of_a_platforms_agent_has_its_state_and_that_of_others_has_none() {
    let (server, _platform) = world([]).await;
    let state = async |agent: &str| server.operator().agent(agent).await.expect(200)["platform_state"].clone();
    let unknown = json!({"state": "UNKNOWN", "is_free": true, "timestamp": "2027-01-15T08:00:00Z"});
    assert_eq!(state("a1").await, unknown);
    say(&server, 5, "ErrOr", json!({"error": "out of paper"})).await;
    let expected = json!({
        "state": "ErrOr", "is_free": false, "timestamp": "2027-01-15T08:00:05Z", "details": {"error": "out of paper"},
    });
    assert_eq!(state("a1").await, expected);
    say(&server, 6, "idle", Value::Null).await;
    assert_eq!(state("a1").await, json!({"state": "idle", "is_free": true, "timestamp": "2027-01-15T08:00:06Z"}));
    let agent = server.agent("AGENT-A").await;
    assert_eq!(state(&agent.id).await, Value::Null);
}

#[tokio::test]
async fn a_task_that_is_over_shows_no_progress() {
    let (server, platform) = world([Turn::status(200)]).await;
    let task = server.operator().submit(json!({"task_type": "summarize"})).await;
    platform.until(1).await;
    eventually("the answer to run is noted", async || {
        (server.operator().task(&task).await["progress"]["message"] == "the platform took it").then_some(())
    })
    .await;
    server.advance(1);
    say(&server, 1, "BUSY", json!({"current_task": task})).await;
    assert_eq!(server.operator().task(&task).await["progress"], json!({"message": "BUSY"}));
    say(&server, 2, "IDLE", Value::Null).await;
    let done = server.operator().task(&task).await;
    assert_eq!((&done["status"], done.get("progress")), (&json!("completed"), None), "{done}");
}

#[tokio::test]
async fn what_agents_of_a_platform_cannot_be_told_is_refused_with_that_reason() {
    let (server, _platform) = world([]).await;
    let rotation = server.operator().post("/api/v1/agents/a1/rotate-token").send().await;
    let interval = server.api.call(http::Method::PUT, "/api/v1/agents/a1/interval").bearer(OPERATOR_KEY);
    let interval = interval.json(&json!({"heartbeat_interval_seconds": 7}));
    for answer in [rotation, interval.send().await] {
        assert_eq!(answer.status, 422, "{}", answer.body);
        assert!(answer.body.to_string().contains("came through a platform"), "{}", answer.body);
    }
}
