//! Workflows as Ops-Core starts and shows them, over agents of the platform (docs/protocol.md, section 6).

use std::time::Duration;

use eap_types::agentkit::PlatformAgent;
use mock_agentkit::WorkFaults;
use serde_json::{Value, json};

use super::platform::{SECRET, registry, with_face};
use super::with_mock::World;
use crate::harness::{Answer, Server, Setup, eventually};

fn setups() -> [Setup; 2] {
    [Setup::memory(), Setup::sqlite()]
}

fn chain() -> Value {
    json!({"id": "wf-1", "name": "Summarize and check", "version": "1.0", "tasks": [
        {"taskId": "t1", "name": "summarize", "agentCapability": "Summarize", "parameters": {}, "nextTaskId": "t2"},
        {"taskId": "t2", "name": "check", "agentCapability": "review", "parameters": {"style": "short"},
            "nextTaskId": null},
    ]})
}

async fn trigger(server: &Server, agent: &str, body: &Value) -> Answer {
    server.operator().post(&format!("/v1/opscore/agent/{agent}/workflow")).json(body).send().await
}

async fn started(server: &Server, agent: &str, body: &Value) -> String {
    let started = trigger(server, agent, body).await.expect(202);
    assert_eq!(started["workflowId"], "wf-1");
    assert!(started["message"].as_str().is_some_and(|message| !message.is_empty()));
    started["sessionId"].as_str().expect("it has an id").to_owned()
}

async fn session(server: &Server, id: &str) -> Value {
    server.operator().get(&format!("/v1/opscore/session/{id}")).send().await.expect(200)
}

async fn until(server: &Server, id: &str, status: &str) -> Value {
    eventually("the session is there", async || {
        let shown = session(server, id).await;
        (shown["status"] == status).then_some(shown)
    })
    .await
}

async fn register(world: &World, agent: &str, capability: &str) {
    let details = PlatformAgent::new(agent.parse().unwrap(), format!("Agent {agent}"), "http://127.0.0.1:9");
    world.mock.register(details.with_capabilities([capability])).await.expect("its id is new");
    eventually("it is known", async || (registry(&world.server, agent).await == "online").then_some(())).await;
}

async fn state(world: &World, agent: &str) -> Value {
    let path = format!("/v1/opscore/agent/{agent}/state");
    world.server.operator().get(&path).send().await.expect(200)["state"].clone()
}

#[tokio::test]
async fn every_step_goes_to_its_agent_by_run_with_what_came_out_before() {
    for setup in setups() {
        let world = World::start(setup, |mock| mock).await;
        register(&world, "a1", "summarize").await;
        register(&world, "a2", "review").await;
        let body = json!({"workflowDefinition": chain(), "initialPayload": {"text": "…"}});
        let id = started(&world.server, "a1", &body).await;
        let done = until(&world.server, &id, "completed").await;
        let members: Vec<_> = done.as_object().unwrap().keys().map(String::as_str).collect();
        let mut expected =
            ["sessionId", "workflowId", "agentId", "status", "startTime", "endTime", "result", "error", "steps"];
        expected.sort_unstable();
        assert_eq!(members, expected);
        let details = json!({"last_task_result": "simulated_success"});
        assert_eq!((&done["agentId"], &done["result"], &done["error"]), (&json!("a1"), &details, &Value::Null));
        assert_eq!([&done["steps"][0]["agentId"], &done["steps"][1]["agentId"]], ["a1", "a2"]);

        let received = world.mock.received();
        let runs = received.iter().filter(|call| call.path.ends_with("/run"));
        let runs: Vec<Value> = runs.map(|call| serde_json::from_str(&call.body).unwrap()).collect();
        let run = |step: usize, name: &str, payload: Value| {
            let task = &done["steps"][step]["eapTaskId"];
            json!({
                "senderId": "opscore_system_id", "messageType": "workflow_task", "payload": payload,
                "sessionContext": {"workflowId": "wf-1", "sessionId": id, "taskId": done["steps"][step]["taskId"]},
                "taskId": task, "task_name": name, "opscore_session_id": id, "opscore_task_id": task,
            })
        };
        let second = json!({"style": "short", "previous": details});
        assert_eq!(runs, vec![run(0, "summarize", json!({"text": "…"})), run(1, "check", second)]);
        for agent in ["a1", "a2"] {
            eventually("it is idle", async || (state(&world, agent).await == "IDLE").then_some(())).await;
        }
        let listed = world.server.operator().get("/v1/opscore/session?status=completed").send().await.expect(200);
        assert_eq!(listed["sessions"][0]["sessionId"], id.as_str());
        world.stop().await;
    }
}

#[tokio::test]
async fn a_step_that_fails_at_its_agent_fails_the_session_once_its_retries_are_used_up() {
    for setup in setups() {
        let world = World::start(setup, |mock| mock.with_work(WorkFaults::failed().times(1))).await;
        register(&world, "a1", "summarize").await;
        let mut chain = chain();
        chain["tasks"] = json!([{"taskId": "t1", "name": "summarize", "maxRetries": 0}]);
        let id = started(&world.server, "a1", &json!({"workflowDefinition": chain})).await;
        let failed = until(&world.server, &id, "failed").await;
        assert!(failed["error"].as_str().unwrap().starts_with("step t1 failed: "), "{failed}");
        assert_eq!((&failed["steps"][0]["status"], &failed["result"]), (&json!("failed"), &Value::Null));
        world.stop().await;
    }
}

#[tokio::test]
async fn an_agent_that_dies_at_a_step_costs_the_attempt_its_time_and_the_session_nothing() {
    for setup in setups() {
        let world = World::start(setup, |mock| mock.with_work(WorkFaults::crashed().times(1))).await;
        register(&world, "a1", "summarize").await;
        register(&world, "a2", "review").await;
        let mut chain = chain();
        // The one that is started for is dead; both may do it.
        chain["tasks"][0]["agentCapability"] = json!("review");
        chain["tasks"][0]["timeoutSeconds"] = json!(1);
        register(&world, "a3", "review").await;
        let id = started(&world.server, "a1", &json!({"workflowDefinition": chain})).await;
        let done = until(&world.server, &id, "completed").await;
        assert_eq!((&done["steps"][0]["attempts"], &done["steps"][1]["attempts"]), (&json!(2), &json!(1)));
        world.stop().await;
    }
}

#[tokio::test]
async fn what_cannot_be_started_is_refused_as_ops_core_does() {
    for setup in setups() {
        let world = World::start(setup, |mock| mock.works_for(Duration::from_secs(30))).await;
        register(&world, "a1", "summarize").await;
        let server = &world.server;
        let refused = |answer: Answer, status: u16| answer.expect(status)["detail"].clone();
        let stored = json!({"workflowDefinitionId": "wf-1"});
        let unknown = trigger(server, "a1", &stored).await;
        assert_eq!(refused(unknown, 404), "Workflow definition wf-1 not found");
        assert_eq!(refused(trigger(server, "a9", &stored).await, 404), "Agent a9 not found");
        let both = json!({"workflowDefinitionId": "wf-1", "workflowDefinition": chain()});
        for (body, place) in [(json!({}), "workflowDefinitionId"), (both, "workflowDefinitionId")] {
            let detail = refused(trigger(server, "a1", &body).await, 422);
            assert_eq!(detail[0]["loc"], json!(["body", place]), "{detail}");
        }
        let detail = refused(trigger(server, "a1", &json!({"workflowDefinition": chain()})).await, 422);
        assert_eq!(detail[0]["loc"], json!(["body", "workflowDefinition", "tasks", 1, "agentCapability"]), "{detail}");
        let none = server.operator().get("/v1/opscore/session/none").send().await;
        assert_eq!(refused(none, 404), "Session none not found");
        let nobody = server.api.post("/v1/opscore/agent/a1/workflow").json(&stored).send().await;
        assert_eq!(refused(nobody, 401), "Authorization header missing");

        server.operator().post("/api/v1/workflows").json(&chain()).send().await.expect(201);
        register(&world, "a2", "review").await;
        let key = |call: crate::harness::Call| call.header("idempotency-key", "k1").json(&stored);
        let path = "/v1/opscore/agent/a1/workflow";
        let first = key(server.operator().post(path)).send().await.expect(202);
        assert_eq!(key(server.operator().post(path)).send().await.expect(202), first);
        world.stop().await;
    }
}

/// A face that is not configured is not there.
#[tokio::test]
async fn without_the_face_its_paths_are_not_there() {
    let server = Setup::memory().start().await;
    let body = json!({"workflowDefinition": chain()});
    assert_eq!(trigger(&server, "a1", &body).await.expect(404), json!({"detail": "Not Found"}));
    let server = with_face(Setup::memory(), &[SECRET]).start().await;
    assert_eq!(trigger(&server, "a1", &body).await.expect(404)["detail"], "Agent a1 not found");
}
