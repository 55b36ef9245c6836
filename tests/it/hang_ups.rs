//! Callers that go away in the middle: everything or nothing, and never half (G5).

use serde_json::{Value, json};

use crate::harness::{
    Agent, GatedStore, OPERATOR_KEY, Peer, REGISTRATION_SECRET, Server, Setup, eventually, id_of, registration,
    request, work,
};

fn key_line(key: &str) -> Vec<String> {
    vec![format!("authorization: Bearer {OPERATOR_KEY}"), format!("idempotency-key: {key}")]
}

/// The end of a connection is there as soon as its peer is dropped; some exchanges later the server has seen it.
async fn open_gate_once_noticed(server: &Server, store: &GatedStore) {
    for _ in 0..10 {
        server.api.get("/health").send().await.expect(200);
    }
    store.open_gate();
}

#[tokio::test]
async fn a_submit_whose_caller_leaves_while_it_is_written_is_kept() {
    let store = GatedStore::new();
    let server = Setup::store(store.clone()).start().await;
    store.close_gate();
    let mut peer = Peer::connect(server.address).await;
    peer.send(&request("POST /api/v1/tasks", &key_line("k1"), &work(json!({})).to_string())).await;
    eventually("the write is under way", async || (store.waiting() == 1).then_some(())).await;
    drop(peer);
    open_gate_once_noticed(&server, &store).await;
    let task = eventually("the task is there", async || {
        server.operator().list("").await["tasks"].as_array().and_then(|tasks| tasks.first().cloned())
    })
    .await;
    let again = server.operator().submit_with_key("k1", &work(json!({}))).await.expect(201);
    assert_eq!(id_of(&again), id_of(&task));
}

#[tokio::test]
async fn a_result_whose_agent_leaves_while_it_is_written_is_recorded() {
    let store = GatedStore::new();
    let server = Setup::store(store.clone()).start().await;
    let agent = server.agent("AGENT-A").await;
    let id = server.operator().submit(json!({})).await;
    let task = agent.take().await;
    store.close_gate();
    let body = json!({"task_id": id, "attempt": 1, "status": "completed", "output_data": {"done": true}});
    let mut peer = Peer::connect(server.address).await;
    let line = format!("POST {}", agent.path(&format!("/tasks/{id}/result")));
    peer.send(&request(&line, &[format!("x-agent-token: {}", agent.token)], &body.to_string())).await;
    eventually("the write is under way", async || (store.waiting() == 1).then_some(())).await;
    drop(peer);
    open_gate_once_noticed(&server, &store).await;
    server.operator().until(&id, "completed").await;
    assert_eq!(agent.complete(&task).await.expect(200)["duplicate"], true, "its repeat is told so");
}

#[tokio::test]
async fn a_deregistration_whose_agent_leaves_while_it_is_written_is_done_whole() {
    let store = GatedStore::new();
    let server = Setup::store(store.clone()).start().await;
    let agent = server.agent("AGENT-A").await;
    let id = server.operator().submit(json!({})).await;
    agent.take().await;
    store.close_gate();
    let mut peer = Peer::connect(server.address).await;
    let line = format!("POST {}", agent.path("/deregister"));
    peer.send(&request(&line, &[format!("x-agent-token: {}", agent.token)], "")).await;
    eventually("the write is under way", async || (store.waiting() == 1).then_some(())).await;
    drop(peer);
    open_gate_once_noticed(&server, &store).await;
    server.operator().until(&id, "queued").await;
    agent.beat(json!({"status": "healthy"})).await.problem(401, "INVALID_TOKEN");
}

/// An agent whose poll is being served when it hangs up; gives the task, once it was leased.
async fn leave_during_a_claim(path: &str, body: &str) -> (Server, Agent, String) {
    let store = GatedStore::new();
    let server = Setup::store(store.clone()).start().await;
    let agent = server.agent("AGENT-A").await;
    let id = server.operator().submit(json!({})).await;
    store.close_gate();
    let mut peer = Peer::connect(server.address).await;
    let line = format!("POST {}", agent.path(path));
    peer.send(&request(&line, &[format!("x-agent-token: {}", agent.token)], body)).await;
    eventually("the claim is under way", async || (store.waiting() == 1).then_some(())).await;
    drop(peer);
    open_gate_once_noticed(&server, &store).await;
    eventually("the task was leased", async || (!server.operator().outcomes(&id).await.is_empty()).then_some(())).await;
    (server, agent, id)
}

#[tokio::test]
async fn a_task_leased_to_a_caller_of_next_who_has_left_goes_back_at_once() {
    let (server, agent, id) = leave_during_a_claim("/tasks/next", "").await;
    server.operator().until(&id, "queued").await;
    assert_eq!(server.operator().outcomes(&id).await, ["released"]);
    assert_eq!(agent.take().await["attempt"], 2);
}

#[tokio::test]
async fn a_task_leased_to_a_request_whose_caller_has_left_waits_for_its_repeat() {
    let body = r#"{"request_id": "r", "wait_seconds": 20}"#;
    let (server, agent, id) = leave_during_a_claim("/tasks/lease", body).await;
    let again = agent.lease(json!({"request_id": "r", "wait_seconds": 0})).await.expect(200)["tasks"][0].clone();
    assert_eq!((id_of(&again), &again["attempt"]), (id.clone(), &json!(1)));
    assert_eq!(server.operator().outcomes(&id).await, ["open"]);
}

#[tokio::test]
async fn while_a_write_is_under_way_nothing_of_it_is_acknowledged_or_seen() {
    let store = GatedStore::new();
    let server = Setup::store(store.clone()).start().await;
    store.close_gate();
    let operator = server.operator();
    let submit = tokio::spawn(async move { operator.submit_with_key("k1", &work(json!({}))).await });
    eventually("the write is under way", async || (store.waiting() == 1).then_some(())).await;
    assert_eq!(server.operator().list("").await, json!({"tasks": []}));
    assert!(!submit.is_finished());
    store.open_gate();
    let task = submit.await.expect("a submit does not panic").expect(201);
    assert_eq!(server.operator().list("").await, json!({"tasks": [task]}));
}

#[tokio::test]
async fn a_caller_that_leaves_at_any_moment_leaves_a_whole_task_or_none() {
    let server = Setup::sqlite().start().await;
    for number in 0..30 {
        let body = work(json!({"input": number})).to_string();
        let bytes = request("POST /api/v1/tasks", &key_line(&format!("k{number}")), &body);
        let mut peer = Peer::connect(server.address).await;
        peer.send(&bytes).await;
        if number % 3 == 0 {
            peer.finish_sending().await;
        }
        drop(peer);
    }
    // A body that broke off is no submit.
    for number in 30..40 {
        let body = work(json!({"input": number})).to_string();
        let bytes = request("POST /api/v1/tasks", &key_line(&format!("k{number}")), &body);
        let mut peer = Peer::connect(server.address).await;
        peer.send(&bytes[..bytes.len() - 1 - number % 7]).await;
        drop(peer);
    }
    // Whatever came of each: repeating it has the effect of one call.
    let mut ids = Vec::new();
    for number in 0..30 {
        let body = work(json!({"input": number}));
        let task = server.operator().submit_with_key(&format!("k{number}"), &body).await.expect(201);
        ids.push(id_of(&task));
    }
    let page = server.operator().list("limit=500").await;
    let mut listed: Vec<_> = page["tasks"].as_array().expect("a list").iter().map(id_of).collect();
    listed.sort();
    ids.sort();
    assert_eq!(listed, ids);
}

#[tokio::test]
async fn results_whose_senders_leave_at_any_moment_are_recorded_once_or_not_at_all() {
    let server = Setup::sqlite().start().await;
    let agent = server.agent_with("AGENT-A", json!({"max_concurrent_tasks": 20})).await;
    for _ in 0..20 {
        server.operator().submit(json!({})).await;
    }
    let tasks = agent.take_up_to(20).await;
    for (number, task) in tasks.iter().enumerate() {
        let body = json!({"task_id": task["task_id"], "lease_id": task["lease_id"], "attempt": 1,
            "status": "completed", "output_data": {"done": true}});
        let line = format!("POST {}", agent.path(&format!("/tasks/{}/result", id_of(task))));
        let mut bytes = request(&line, &[format!("x-agent-token: {}", agent.token)], &body.to_string());
        if number % 2 == 1 {
            bytes.truncate(bytes.len() - 1);
        }
        let mut peer = Peer::connect(server.address).await;
        peer.send(&bytes).await;
    }
    for (number, task) in tasks.iter().enumerate() {
        let accepted = agent.complete(task).await.expect(200);
        assert!(number % 2 == 0 || accepted["duplicate"] == false, "a broken body is no result");
        assert_eq!(server.operator().outcomes(&id_of(task)).await, ["completed"]);
    }
}

#[tokio::test]
async fn a_registration_whose_agent_leaves_can_be_repeated_without_a_second_agent() {
    let server = Setup::sqlite().start().await;
    let body = registration("AGENT-A", json!({"instance_id": null})).to_string();
    for _ in 0..5 {
        let headers = [format!("x-registration-token: {REGISTRATION_SECRET}"), "idempotency-key: k1".to_owned()];
        let mut peer = Peer::connect(server.address).await;
        peer.send(&request("POST /api/v1/agents/external/register", &headers, &body)).await;
    }
    let call = server.api.post("/api/v1/agents/external/register");
    let call = call.header("x-registration-token", REGISTRATION_SECRET).header("idempotency-key", "k1");
    let reply: Value = call.bytes(body).send().await.expect(201);
    let agents = server.operator().agents().await;
    assert_eq!(agents.iter().map(|agent| &agent["agent_id"]).collect::<Vec<_>>(), [&reply["agent_id"]]);
}
