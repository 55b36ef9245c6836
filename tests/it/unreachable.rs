//! A task whose agents cannot be reached says so, and what was given back is not counted against it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Agent, Endpoint, Server, Setup, Turn, eventually};

/// Pushes that are given up at once; what is given back waits for a day.
async fn server() -> Server {
    let setup = Setup::memory().config(|config| {
        config.push.max_tries = 1;
        config.tasks.backoff_base = Duration::from_secs(24 * 3600);
        config.tasks.backoff_cap = Duration::from_secs(24 * 3600);
    });
    setup.start().await
}

async fn pushed_to(server: &Server, endpoint: &str) -> Agent {
    server.agent_with("AGENT-P", json!({"transports": ["push"], "endpoint_url": endpoint})).await
}

async fn explain(server: &Server, task: &str) -> Value {
    server.operator().get(&format!("/api/v1/tasks/{task}/explain")).send().await.expect(200)
}

#[tokio::test]
async fn a_task_that_no_endpoint_took_says_why_and_has_used_up_no_attempt() {
    let server = server().await;
    // Nobody listens there.
    pushed_to(&server, "http://127.0.0.1:1/agent").await;
    let id = server.operator().submit(json!({})).await;
    let task = eventually("the push is given up", async || {
        let task = server.operator().task(&id).await;
        (task["attempt"] == 1 && task["status"] == "queued").then_some(task)
    })
    .await;
    let told = "attempt 1 was given back: the agent did not take the push: there was no answer (connect)";
    assert_eq!((&task["reason"], &task["attempts_used"]), (&json!(told), &json!(0)), "{task}");
    let explained = explain(&server, &id).await;
    assert_eq!(explained["attempts_used"], 0);
    assert!(explained["summary"].as_str().expect("a sentence").ends_with(told), "{explained}");
}

#[tokio::test]
async fn attempts_that_failed_are_used_up() {
    let server = server().await;
    let agent = server.agent("AGENT-A").await;
    let id = server.operator().submit(json!({})).await;
    agent.fail(&agent.take().await, json!({"error_message": "no paper"})).await.expect(200);
    let task = server.operator().task(&id).await;
    assert_eq!((&task["attempt"], &task["attempts_used"]), (&json!(1), &json!(1)), "{task}");
    assert_eq!(task["reason"], "attempt 1 failed: no paper");
}

#[tokio::test]
async fn an_agent_that_nothing_is_pushed_to_refuses_tasks_for_that() {
    let server = server().await;
    let endpoint = Endpoint::start([Turn::status(410)]).await;
    let agent = pushed_to(&server, endpoint.url()).await;
    server.operator().submit(json!({})).await;
    eventually("pushing is suspended", async || {
        let push = server.operator().agent(&agent.id).await.expect(200)["push"].clone();
        (push["reason"] == "gone").then_some(())
    })
    .await;
    let id = server.operator().submit(json!({})).await;
    let told = explain(&server, &id).await;
    assert_eq!(told["candidates"][0]["refusals"], json!([{"code": "push_suspended", "word": "gone"}]), "{told}");
}
