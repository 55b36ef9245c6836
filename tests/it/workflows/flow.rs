//! A server with workflows, and what is asked of it.

use serde_json::{Value, json};

use crate::harness::{Agent, Answer, Server, Setup, in_time};

pub(super) fn setups() -> [Setup; 2] {
    [Setup::memory(), Setup::sqlite()]
}

/// A workflow of these steps, each by (id, capability, the one that follows), of its first version.
pub(super) fn workflow(id: &str, steps: &[(&str, &str, Option<&str>)]) -> Value {
    let steps = steps.iter().map(|(id, capability, next)| {
        json!({"taskId": id, "name": format!("step {id}"), "agentCapability": capability, "nextTaskId": next,
            "parameters": {"of": id}})
    });
    json!({"id": id, "name": "A chain", "version": "1.0", "tasks": steps.collect::<Vec<_>>()})
}

/// A server with somebody for each of the two steps, and a session of them.
pub(super) struct World {
    pub(super) server: Server,
    pub(super) drafter: Agent,
    pub(super) reviewer: Agent,
    pub(super) id: String,
}

pub(super) async fn two_under_way(setup: Setup) -> World {
    let server = setup.start().await;
    let (drafter, reviewer) = (drafter(&server).await, reviewer(&server).await);
    let id = started(&server, &two_steps(), json!({})).await;
    World { server, drafter, reviewer, id }
}

/// Draft, then review.
pub(super) fn two_steps() -> Value {
    workflow("wf-1", &[("t1", "draft", Some("t2")), ("t2", "review", None)])
}

pub(super) async fn keep(server: &Server, workflow: &Value) -> Answer {
    server.operator().post("/api/v1/workflows").json(workflow).send().await
}

pub(super) async fn run(server: &Server, id: &str, body: Value) -> Answer {
    server.operator().post(&format!("/api/v1/workflows/{id}/runs")).json(&body).send().await
}

/// Keeps a workflow and runs it.
pub(super) async fn started(server: &Server, workflow: &Value, body: Value) -> String {
    keep(server, workflow).await;
    let started = run(server, workflow["id"].as_str().unwrap(), body).await.expect(202);
    assert_eq!(started["workflowId"], workflow["id"]);
    started["sessionId"].as_str().expect("it has an id").to_owned()
}

pub(super) async fn session(server: &Server, id: &str) -> Value {
    server.operator().get(&format!("/api/v1/sessions/{id}")).send().await.expect(200)
}

/// The session once it is over.
pub(super) async fn ended(server: &Server, id: &str) -> Value {
    let path = format!("/api/v1/sessions/{id}?wait_seconds=60");
    // Long before the wait is over: what wakes it is the end.
    in_time("the session is over", server.operator().get(&path).send()).await.expect(200)
}

/// What is asked of a session: pause, resume or cancel.
pub(super) async fn direct(server: &Server, id: &str, what: &str) -> Answer {
    server.operator().post(&format!("/api/v1/sessions/{id}/{what}")).send().await
}

/// The words of the steps, in their order.
pub(super) fn words(session: &Value) -> Vec<&str> {
    let steps = session["steps"].as_array().expect("a list");
    steps.iter().map(|step| step["status"].as_str().expect("a word")).collect()
}

pub(super) async fn drafter(server: &Server) -> Agent {
    server.agent_with("AGENT-DRAFT", json!({"capabilities": ["draft"]})).await
}

pub(super) async fn reviewer(server: &Server) -> Agent {
    server.agent_with("AGENT-REVIEW", json!({"capabilities": ["review"]})).await
}

/// Does the next task with this output.
pub(super) async fn work(agent: &Agent, output: Value) -> Value {
    let assignment = agent.take().await;
    agent.report_for(&assignment, json!({"status": "completed", "output_data": output})).await.expect(200);
    assignment
}

/// The input of an assignment, as JSON.
pub(super) fn input(assignment: &Value) -> Value {
    serde_json::from_str(assignment["input_data"].as_str().expect("a text")).expect("JSON")
}
