//! Why a task is where it is (protocol.md section 3, "explain").

use serde_json::{Value, json};

use crate::harness::{Agent, Server, Setup, assert_shape, eventually, id_of};

async fn explain(server: &Server, id: &str) -> Value {
    server.operator().get(&format!("/api/v1/tasks/{id}/explain")).send().await.expect(200)
}

/// What is said of one agent.
fn of<'a>(explanation: &'a Value, agent: &Agent) -> &'a Value {
    let candidates = explanation["candidates"].as_array().expect("candidates are a list");
    candidates.iter().find(|candidate| candidate["agent_id"] == agent.id.as_str()).expect("the agent is there")
}

/// The reasons why one agent is refused.
fn codes(explanation: &Value, agent: &Agent) -> Vec<String> {
    let refusals = of(explanation, agent)["refusals"].as_array().expect("refusals are a list");
    refusals.iter().map(|refusal| refusal["code"].as_str().expect("a refusal has a code").to_owned()).collect()
}

#[tokio::test]
async fn a_ready_task_shows_every_agent_with_its_score_and_parts_best_first() {
    let server = Server::start_with_clock().await;
    let plain = server.agent_with("AGENT-A", json!({"capabilities": ["work", "other"]})).await;
    let preferred = server.agent_with("AGENT-B", json!({"max_concurrent_tasks": 4})).await;
    server.agent_with("AGENT-C", json!({"capabilities": ["other"]})).await;
    let id = server.operator().submit(json!({"preferred_agents": [preferred.id]})).await;
    let shown = explain(&server, &id).await;
    let record = json!({"tier": "competent", "results": 0, "breaker": "closed"});
    let candidate = |agent: &Agent, name: &str, members: Value| {
        let mut candidate = json!({
            "agent_id": agent.id, "name": name, "track_record": record, "leases": 0, "max_concurrent_tasks": 5,
            "load": "idle", "state": "online", "waiting": false, "refusals": [],
        });
        for (name, value) in members.as_object().expect("members are an object") {
            candidate[name] = value.clone();
        }
        candidate
    };
    let parts = |capability_match: f64, preferred: Value| json!({"tier": 0.24, "capability_match": capability_match, "load": 0.2, "availability": 0.1, "preferred": preferred});
    assert_shape(
        &shown,
        &json!({
            "task_id": id, "task_type": "work", "status": "queued", "whereabouts": "ready", "attempt": 0, "attempts_used": 0,
            "max_attempts": 3, "summary": "<text>", "explained_at": "<time>", "agents": 3,
            "refused": {"missing_capability": 1},
            "routing": {
                "required_capabilities": ["work"], "labels": {}, "preferred_agents": [preferred.id],
            },
            "candidates": [
                candidate(&preferred, "AGENT-B", json!({"score": 1, "parts": parts(0.3, json!(0.2)), "max_concurrent_tasks": 4})),
                candidate(&plain, "AGENT-A", json!({"score": 0.69, "parts": parts(0.15, json!(0))})),
                "<any>",
            ],
        }),
    );
    let summary = shown["summary"].as_str().expect("a summary is text");
    assert!(summary.contains("2 agents can take it") && summary.contains("the head of the queue"), "{summary}");
    assert_eq!(shown["candidates"][2]["refusals"], json!([{"code": "missing_capability", "missing": ["work"]}]));
}

#[tokio::test]
async fn an_agent_that_waits_is_shown_to_wait_if_it_would_take_the_task() {
    let server = Server::start().await;
    let (agent, other) = (server.agent("AGENT-A").await, server.agent("AGENT-B").await);
    let body = |request: &str, types: &Value| json!({"request_id": request, "wait_seconds": 20, "task_types": types});
    let poll = server.park(&agent, "/tasks/lease", Some(body("a", &json!(["work"])))).await;
    let others = server.park(&other, "/tasks/lease", Some(body("b", &json!(["another"])))).await;
    let id = server.operator().submit(json!({"run_at": "2100-01-01T00:00:00Z"})).await;
    let shown = explain(&server, &id).await;
    assert_eq!((&of(&shown, &agent)["waiting"], &of(&shown, &other)["waiting"]), (&json!(true), &json!(false)));
    // One that hung up waits no longer.
    poll.abort();
    others.abort();
    eventually("nobody waits", async || {
        let shown = explain(&server, &id).await;
        (of(&shown, &agent)["waiting"] == json!(false)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn each_state_of_a_task_says_what_it_waits_for() {
    let server = Server::start_with_clock().await;
    let operator = server.operator();
    let nobody = operator.submit(json!({})).await;
    let shown = explain(&server, &nobody).await;
    assert_eq!((&shown["no_capable_agent"], &shown["candidates"]), (&json!(true), &json!([])));
    assert_eq!(shown["summary"], "it is ready, and no agent that takes work can do it");
    operator.cancel(&nobody, Some(&json!({"reason": "not needed"}))).await.expect(200);
    let over = explain(&server, &nobody).await;
    assert_eq!(
        (&over["whereabouts"], &over["status"], &over["agents"]),
        (&json!("final"), &json!("cancelled"), &json!(0))
    );
    assert_eq!(over["summary"], "it is over, cancelled: not needed");

    let delayed = operator.submit(json!({"run_at": "2100-01-01T00:00:00Z"})).await;
    let shown = explain(&server, &delayed).await;
    assert_eq!((&shown["whereabouts"], &shown["until"]), (&json!("delayed"), &json!("2100-01-01T00:00:00Z")));

    let agent = server.agent("AGENT-A").await;
    let id = operator.submit(json!({})).await;
    let task = agent.take().await;
    let leased = explain(&server, &id).await;
    assert_eq!((&leased["whereabouts"], &leased["agent_id"]), (&json!("leased"), &json!(agent.id)));
    assert_eq!((&leased["until"], &leased["attempt"]), (&task["lease_expires_at"], &json!(1)));
    assert_eq!((&of(&leased, &agent)["leases"], &of(&leased, &agent)["load"]), (&json!(1), &json!("optimal")));
    agent.fail(&task, json!({})).await.expect(200);
    let backing_off = explain(&server, &id).await;
    assert_eq!((&backing_off["whereabouts"], &backing_off["attempt"]), (&json!("backing_off"), &json!(1)));
    assert_eq!(backing_off["until"], operator.task(&id).await["run_at"]);
}

#[tokio::test]
async fn every_reason_against_an_agent_has_its_code() {
    let server = Server::start_with_clock().await;
    let operator = server.operator();
    let labels = json!({"labels": {"region": "eu"}});
    let able = server.agent_with("AGENT-ABLE", labels.clone()).await;
    let elsewhere = server.agent_with("AGENT-ELSEWHERE", json!({"labels": {"region": "us"}})).await;
    let busy = server.agent_with("AGENT-BUSY", labels.clone()).await;
    busy.beat(json!({"status": "busy"})).await.expect(200);
    let draining = server.agent_with("AGENT-DRAINING", labels.clone()).await;
    draining.beat(json!({"status": "healthy", "draining": true})).await.expect(200);
    let full = server.agent_with("AGENT-FULL", json!({"labels": {"region": "eu"}, "max_concurrent_tasks": 1})).await;
    operator.submit(json!({"agent_id": full.id})).await;
    full.take().await;
    let failing = server.agent_with("AGENT-FAILING", labels.clone()).await;
    for _ in 0..5 {
        operator.submit(json!({"agent_id": failing.id, "max_attempts": 1})).await;
        failing.fail(&failing.take().await, json!({"retryable": false})).await.expect(200);
    }
    let twin = json!({"labels": {"region": "eu"}, "instance_id": null, "endpoint_url": "http://127.0.0.1:9/"});
    let replaced = server.agent_with("AGENT-TWIN", twin.clone()).await;
    let twin = server.agent_with("AGENT-TWIN", twin).await;

    let id = operator.submit(json!({"labels": {"region": "eu"}})).await;
    able.fail(&able.take().await, json!({"error_code": "REJECTED"})).await.expect(200);
    let shown = explain(&server, &id).await;
    let found =
        [&able, &elsewhere, &busy, &draining, &full, &failing, &replaced, &twin].map(|agent| codes(&shown, agent));
    let expected: [&[&str]; 8] = [
        &["excluded"],
        &["missing_label"],
        &["busy"],
        &["draining"],
        &["full"],
        &["breaker_open"],
        &["superseded"],
        &[],
    ];
    assert_eq!(
        found.each_ref().map(|codes| codes.iter().map(String::as_str).collect::<Vec<_>>()),
        expected.map(<[_]>::to_vec)
    );
    assert_eq!(of(&shown, &elsewhere)["refusals"][0]["missing"], json!(["region=eu"]));
    for agent in [&able, &failing] {
        assert!(of(&shown, agent)["refusals"][0]["until"].is_string(), "{shown}");
    }
    assert_eq!(shown["refused"].as_object().map(serde_json::Map::len), Some(7), "{shown}");
    assert_eq!(shown["candidates"][0]["agent_id"], twin.id.as_str(), "who can take it comes first");

    // All are silent for three beats; whoever is heard of again is not.
    server.advance(90);
    twin.beat(json!({"status": "healthy"})).await.expect(200);
    let later = explain(&server, &id).await;
    assert!(codes(&later, &elsewhere).contains(&"offline".to_owned()) && codes(&later, &twin).is_empty(), "{later}");

    // The trial is due; once it is taken, it decides.
    operator.submit(json!({"agent_id": failing.id})).await;
    assert_eq!(codes(&explain(&server, &id).await, &failing), ["offline"]);
    failing.take().await;
    let on_trial = explain(&server, &id).await;
    assert_eq!(codes(&on_trial, &failing), ["on_trial"]);
    assert_eq!(of(&on_trial, &failing)["track_record"]["breaker"], "half_open");

    let named = operator.submit(json!({"agent_id": twin.id, "run_at": "2100-01-01T00:00:00Z"})).await;
    let named = explain(&server, &named).await;
    assert_eq!((codes(&named, &able)[0].as_str(), codes(&named, &twin).len()), ("other_agent", 0));
}

#[tokio::test]
async fn a_silent_agent_whose_poll_waits_is_not_offline() {
    let server = Server::start_with_clock().await;
    let agent = server.agent("AGENT-A").await;
    server.advance(1);
    let poll = server.park(&agent, "/tasks/lease", Some(json!({"request_id": "a", "wait_seconds": 20}))).await;
    let id = server.operator().submit(json!({"run_at": "2100-01-01T00:00:00Z"})).await;
    server.advance(90);
    let shown = explain(&server, &id).await;
    assert_eq!((&of(&shown, &agent)["state"], codes(&shown, &agent).len()), (&json!("offline"), 0));
    poll.abort();
}

#[tokio::test]
async fn a_hundred_agents_are_shown_and_all_are_counted() {
    let server = Setup::memory().start().await;
    for number in 0..104 {
        let capability = if number < 3 { "work" } else { "other" };
        server.agent_with(&format!("AGENT-{number}"), json!({"capabilities": [capability]})).await;
    }
    let id = server.operator().submit(json!({})).await;
    let shown = explain(&server, &id).await;
    assert_eq!(shown["candidates"].as_array().map(Vec::len), Some(100));
    assert_eq!((&shown["agents"], &shown["refused"]["missing_capability"]), (&json!(104), &json!(101)));
    let able = shown["candidates"].as_array().expect("candidates are a list").iter();
    assert_eq!(able.take_while(|candidate| candidate["refusals"] == json!([])).count(), 3);
}

#[tokio::test]
async fn only_the_tasks_operator_is_told() {
    let server = Server::start().await;
    let id = server.operator().submit(json!({})).await;
    let path = format!("/api/v1/tasks/{id}/explain");
    server.api.get(&path).send().await.problem(401, "INVALID_TOKEN");
    server.api.get(&path).bearer("canary-operator-key-0123456780").send().await.problem(401, "INVALID_TOKEN");
    for unknown in ["01890a5d-ac96-774b-bcce-b302099a8057", "not-an-id"] {
        let call = server.operator().get(&format!("/api/v1/tasks/{unknown}/explain"));
        call.send().await.problem(404, "TASK_NOT_FOUND");
    }
    assert_eq!(id_of(&explain(&server, &id).await), id);
}
