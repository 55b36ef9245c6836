//! Tasks pushed to agents that serve: one queue for all ways, each answer for what it means, nothing lost (A18, A25, A26).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use eap_orchestrator::Config;
use eap_types::Secret;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Agent, Endpoint, Server, Setup, Turn, eventually, id_of};

fn quick(config: &mut Config) {
    config.push.backoff_base = Duration::from_millis(20);
    config.push.backoff_cap = Duration::from_millis(1500);
    config.push.pause_cap = Duration::from_millis(50);
    config.tasks.backoff_base = Duration::from_millis(10);
    config.tasks.backoff_cap = Duration::from_millis(20);
    config.timing.shutdown_grace = Duration::from_secs(2);
    config.sealing_key = Some(Secret::new("a sealing key for the tests alone"));
}

async fn server() -> Server {
    Setup::sqlite().config(quick).start().await
}

fn done() -> Turn {
    Turn::result(json!({"status": "completed", "output_data": {"pushed": true}}))
}

async fn pushed_to(server: &Server, name: &str, endpoint: &Endpoint, members: Value) -> Agent {
    let mut body = json!({"transports": ["push"], "endpoint_url": endpoint.url()});
    body.as_object_mut().expect("it is one").extend(members.as_object().expect("members are an object").clone());
    server.agent_with(name, body).await
}

async fn older(server: &Server, endpoint: &Endpoint) -> Agent {
    let body = json!({"name": "AGENT-OLD", "capabilities": ["work"], "endpoint_url": endpoint.url()});
    Agent::of(server.api.clone(), server.register(&body).await.expect(201))
}

async fn until_status(server: &Server, id: &str, status: &str) -> Value {
    eventually(&format!("the task is {status}"), async || {
        let task = server.operator().task(id).await;
        (task["status"] == status).then_some(task)
    })
    .await
}

async fn attempts(server: &Server, id: &str) -> Vec<Value> {
    server.operator().history(id).await["attempts"].as_array().expect("attempts are a list").clone()
}

/// Waits until the pusher of an agent asks for tasks of this type.
async fn until_it_asks(server: &Server, agent: &Agent, task_type: &str) {
    let operator = server.operator();
    let later = operator.submit(json!({"task_type": task_type, "run_at": "2100-01-01T00:00:00Z"})).await;
    eventually("its pusher asks", async || {
        let explained = operator.get(&format!("/api/v1/tasks/{later}/explain")).send().await.expect(200);
        let candidates = explained["candidates"].as_array().expect("candidates are a list");
        let asks = |one: &Value| one["agent_id"] == json!(agent.id) && one["waiting"] == json!(true);
        candidates.iter().any(asks).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_task_is_pushed_signed_and_its_answer_is_the_result() {
    let server = server().await;
    let endpoint = Endpoint::start([done()]).await;
    let agent = pushed_to(&server, "AGENT-P", &endpoint, json!({})).await;
    let secret =
        agent.reply["push_secret"].as_str().expect("a secret is told").strip_prefix("whsec_").expect("its form");
    let key = STANDARD.decode(secret).expect("it is base64");
    let id = server.operator().submit(json!({"input": "one two"})).await;
    let task = until_status(&server, &id, "completed").await;
    assert_eq!(task["result"]["output_data"], json!({"pushed": true}));
    assert_eq!((task["result"]["attempt"].clone(), task["agent_id"].clone()), (json!(1), json!(agent.id)));

    let push = &endpoint.received()[0];
    assert_eq!((push.method.as_str(), push.path.as_str()), ("POST", "/agent/task"));
    assert!(push.received.is_signed_with(&key), "the signature is that of the secret");
    assert_eq!(push.received.id(), format!("{id}.1"));
    assert!(push.received.headers.get("x-agent-token").is_none(), "no token goes along");
    assert!(push.received.headers.get("prefer").is_none(), "push_async.v1 was not agreed");
    let body = push.received.json();
    assert_eq!((&body["task_id"], &body["input_data"], &body["attempt"]), (&json!(id), &json!("one two"), &json!(1)));
    assert!(body["lease_id"].is_string() && body.get("input").is_none());
    assert_eq!(server.operator().agent(&agent.id).await.expect(200)["push"], json!({}));
}

#[tokio::test]
async fn an_older_peer_is_pushed_what_adr_001_names_with_its_own_token() {
    let server = server().await;
    let endpoint = Endpoint::start([done()]).await;
    let agent = older(&server, &endpoint).await;
    assert_eq!(agent.reply.as_object().expect("an object").len(), 4, "the four base fields");
    let id = server.operator().submit(json!({"input": "x"})).await;
    let task = until_status(&server, &id, "completed").await;
    assert_eq!(task["result"]["attempt"], 1, "recorded under the assigned attempt");
    let push = &endpoint.received()[0];
    assert_eq!(push.received.header("x-agent-token"), agent.token);
    assert!(push.received.headers.get("webhook-signature").is_none());
    let body = push.received.json();
    let mut names: Vec<&str> = body.as_object().expect("an object").keys().map(String::as_str).collect();
    names.sort_unstable();
    let base =
        ["context", "input", "input_data", "requirements", "session_id", "task_id", "task_type", "timeout_seconds"];
    assert_eq!(names, base);
}

#[tokio::test]
async fn a_rotated_token_is_the_one_that_goes_along_also_after_a_restart() {
    let dir = TempDir::new().expect("there is room");
    let path = dir.path().join("eap.db");
    let server = Setup::sqlite_at(&path).config(quick).start().await;
    let endpoint = Endpoint::start([done(), done()]).await;
    let agent = older(&server, &endpoint).await;
    let rotated = agent.call("/token/rotate").send().await.expect(200);
    let token = rotated["auth_token"].as_str().expect("it is text").to_owned();
    let id = server.operator().submit(json!({})).await;
    until_status(&server, &id, "completed").await;
    server.stop().await;
    let file = std::fs::read(&path).expect("the file is there");
    assert!(!file.windows(token.len()).any(|window| window == token.as_bytes()), "it is not in the file as it is");
    let server = Setup::sqlite_at(&path).config(quick).start().await;
    let id = server.operator().submit(json!({})).await;
    until_status(&server, &id, "completed").await;
    let tokens: Vec<String> =
        endpoint.received().iter().map(|push| push.received.header("x-agent-token").to_owned()).collect();
    assert_eq!(tokens, [token.clone(), token]);
}

#[tokio::test]
async fn an_answer_of_no_use_fails_the_attempt_and_says_how() {
    let server = server().await;
    let other = "0198c0de-0002-7b00-8000-0000000000b1";
    let no_result = "its answer is no result of this attempt";
    for (wrong, why) in [
        (Turn::raw(200, json!({"task_id": other, "status": "completed"}).to_string()), no_result),
        (Turn::result(json!({"status": "completed", "attempt": 7})), no_result),
        (Turn::raw(200, "{".to_owned()), no_result),
        (Turn::raw(202, r#"{"status":"accepted"}"#.to_owned()), no_result),
        (Turn::status(401), "its answer has status 401"),
        (
            Turn::result(
                json!({"status": "completed", "artifacts": [{"path": "a", "content": "", "sha256": "0".repeat(64)}]}),
            ),
            "its answer cannot be recorded: No upload of this attempt with this digest is whole.",
        ),
    ] {
        let endpoint = Endpoint::start([wrong, done()]).await;
        let agent = older(&server, &endpoint).await;
        let id = server.operator().submit(json!({})).await;
        until_status(&server, &id, "completed").await;
        let attempts = attempts(&server, &id).await;
        let outcomes: Vec<&Value> = attempts.iter().map(|one| &one["outcome"]).collect();
        assert_eq!(outcomes, ["failed", "completed"]);
        assert_eq!(attempts[0]["message"], format!("the push to the agent failed: {why}"), "{attempts:?}");
        agent.delete().await.expect(204);
    }
}

#[tokio::test]
async fn a_busy_agent_is_asked_again_with_the_same_attempt_when_it_says() {
    let server = server().await;
    let endpoint = Endpoint::start([Turn::status(503), Turn::retry_after(429, 1), done()]).await;
    pushed_to(&server, "AGENT-P", &endpoint, json!({})).await;
    let id = server.operator().submit(json!({})).await;
    let task = until_status(&server, &id, "completed").await;
    assert_eq!(task["attempt"], 1);
    let received = endpoint.received();
    let ids: Vec<&str> = received.iter().map(|push| push.received.id()).collect();
    assert_eq!(ids, [format!("{id}.1").as_str(); 3]);
    assert!(received[2].received.at - received[1].received.at >= Duration::from_millis(990), "Retry-After is heeded");
}

#[tokio::test]
async fn a_cut_exchange_is_sent_again_to_a_peer_that_tells_repeats_and_fails_for_an_older_one() {
    let server = server().await;
    let endpoint = Endpoint::start([Turn::Cut, done()]).await;
    let agent = pushed_to(&server, "AGENT-P", &endpoint, json!({})).await;
    let id = server.operator().submit(json!({})).await;
    assert_eq!(until_status(&server, &id, "completed").await["attempt"], 1);
    assert_eq!(endpoint.received().len(), 2);
    agent.delete().await.expect(204);

    let endpoint = Endpoint::start([Turn::Cut, done()]).await;
    older(&server, &endpoint).await;
    let id = server.operator().submit(json!({})).await;
    assert_eq!(until_status(&server, &id, "completed").await["attempt"], 2);
    assert_eq!(attempts(&server, &id).await[0]["outcome"], "failed");
}

#[tokio::test]
async fn a_refused_connection_releases_the_task_to_others() {
    let server = Setup::sqlite()
        .config(|config| {
            quick(config);
            config.push.max_tries = 2;
        })
        .start()
        .await;
    let endpoint = Endpoint::start([]).await;
    let agent = pushed_to(&server, "AGENT-P", &endpoint, json!({})).await;
    endpoint.stop().await;
    let id = server.operator().submit(json!({})).await;
    eventually("an attempt was released", async || {
        attempts(&server, &id).await.iter().any(|one| one["outcome"] == "released").then_some(())
    })
    .await;
    agent.delete().await.expect(204);
    let other = server.agent("AGENT-B").await;
    other.complete(&other.wait_for_task().await).await.expect(200);
    let task = server.operator().task(&id).await;
    assert_eq!((&task["status"], &task["agent_id"]), (&json!("completed"), &json!(other.id)));
}

#[tokio::test]
async fn a_task_that_was_accepted_is_reported_later_and_told_of_a_cancel() {
    let server = server().await;
    let accepted = || Turn::raw(202, r#"{"status":"accepted"}"#.to_owned());
    let endpoint = Endpoint::start([accepted(), accepted()]).await;
    let features = json!(["push_async.v1", "cancel.v1", "directives.v1"]);
    let agent = pushed_to(&server, "AGENT-P", &endpoint, json!({"features": features})).await;
    let id = server.operator().submit(json!({})).await;
    let push = endpoint.until(1).await.remove(0);
    assert_eq!(push.received.header("prefer"), "respond-async");
    agent.complete(&push.received.json()).await.expect(200);
    until_status(&server, &id, "completed").await;

    let id = server.operator().submit(json!({})).await;
    endpoint.until(2).await;
    server.operator().cancel(&id, None).await.expect(200);
    let told = endpoint.until(3).await.remove(2);
    assert_eq!((told.method.as_str(), told.path.clone()), ("DELETE", format!("/agent/task/{id}")));
}

/// The list was made before the push came, and arrives after the push was answered.
#[tokio::test]
async fn a_first_list_that_a_push_overtook_takes_nothing_away() {
    let server = server().await;
    let accepted = Turn::raw(202, r#"{"status":"accepted"}"#.to_owned());
    let endpoint = Endpoint::start([Turn::retry_after(503, 1), accepted]).await;
    let features = json!({"features": ["push_async.v1"]});
    pushed_to(&server, "AGENT-P", &endpoint, features.clone()).await;
    let id = server.operator().submit(json!({})).await;
    endpoint.until(1).await;
    let agent = pushed_to(&server, "AGENT-P", &endpoint, features).await;
    let last_seen = async || server.operator().agent(&agent.id).await.expect(200)["last_seen_at"].clone();
    let before = last_seen().await;
    let push = endpoint.until(2).await.remove(1);
    eventually("the push is answered", async || (last_seen().await != before).then_some(())).await;
    agent.beat(json!({"status": "healthy", "seq": 1, "tasks": []})).await.expect(204);
    agent.complete(&push.received.json()).await.expect(200);
    until_status(&server, &id, "completed").await;
    assert_eq!(attempts(&server, &id).await.len(), 1);
}

#[tokio::test]
async fn a_cancel_closes_the_open_exchange() {
    let server = server().await;
    let endpoint = Endpoint::start([Turn::Hang]).await;
    pushed_to(&server, "AGENT-P", &endpoint, json!({"max_concurrent_tasks": 1})).await;
    let id = server.operator().submit(json!({})).await;
    endpoint.until(1).await;
    server.operator().cancel(&id, Some(&json!({"reason": "not wanted"}))).await.expect(200);
    let told = endpoint.until(2).await.remove(1);
    assert_eq!((told.method.as_str(), told.path.clone()), ("DELETE", format!("/agent/task/{id}")));
    assert_eq!(told.received.json(), json!({"reason": "not wanted"}));
    let next = server.operator().submit(json!({})).await;
    let push = endpoint.until(3).await.remove(2);
    assert_eq!(push.received.json()["task_id"], json!(next), "the exchange that hung holds no place");
}

#[tokio::test]
async fn an_agent_never_gets_more_than_it_may_hold_over_all_ways() {
    let server = server().await;
    let endpoint = Endpoint::start([Turn::Hang, Turn::Hang, Turn::Hang]).await;
    let members = json!({"transports": ["push", "pull"], "max_concurrent_tasks": 3});
    let agent = pushed_to(&server, "AGENT-P", &endpoint, members).await;
    for _ in 0..2 {
        server.operator().submit(json!({})).await;
    }
    endpoint.until(2).await;
    for _ in 0..5 {
        server.operator().submit(json!({})).await;
    }
    let taken = eventually("one more is out", async || {
        let taken = agent.take_up_to(5).await.len() + endpoint.received().len();
        (taken >= 3).then_some(taken)
    })
    .await;
    assert_eq!(taken, 3);
    // Once the others have another agent, nothing is left that it could get.
    let other = server.agent("AGENT-B").await;
    assert_eq!(other.take_up_to(5).await.len(), 4);
    assert_eq!(server.operator().agent(&agent.id).await.expect(200)["leases"], 3);
}

#[tokio::test]
async fn the_most_urgent_and_oldest_task_is_pushed_first() {
    let server = server().await;
    let operator = server.operator();
    let mut expected = Vec::new();
    for priority in [3, 1, 1, 0] {
        expected.push((priority, operator.submit(json!({"priority": priority})).await));
    }
    expected.sort_by_key(|(priority, _)| *priority);
    let endpoint = Endpoint::start([done(), done(), done(), done()]).await;
    pushed_to(&server, "AGENT-P", &endpoint, json!({"max_concurrent_tasks": 1})).await;
    let order: Vec<String> = endpoint.until(4).await.iter().map(|push| id_of(&push.received.json())).collect();
    assert_eq!(order, expected.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_exchange_that_a_stop_cut_is_sent_again_after_the_start() {
    let dir = TempDir::new().expect("there is room");
    let path = dir.path().join("eap.db");
    let server = Setup::sqlite_at(&path).config(quick).start().await;
    let endpoint = Endpoint::start([Turn::Hang, done()]).await;
    pushed_to(&server, "AGENT-P", &endpoint, json!({})).await;
    let id = server.operator().submit(json!({})).await;
    endpoint.until(1).await;
    server.stop().await;
    let server = Setup::sqlite_at(&path).config(quick).start().await;
    let task = until_status(&server, &id, "completed").await;
    assert_eq!(task["attempt"], 1, "the same attempt");
    let ids: Vec<String> = endpoint.received().iter().map(|push| push.received.id().to_owned()).collect();
    assert_eq!(ids, [format!("{id}.1"), format!("{id}.1")]);
}

#[tokio::test]
async fn a_server_that_lost_its_key_leaves_what_runs_to_the_agent() {
    let dir = TempDir::new().expect("there is room");
    let path = dir.path().join("eap.db");
    let server = Setup::sqlite_at(&path).config(quick).start().await;
    let endpoint = Endpoint::start([Turn::raw(202, r#"{"status":"accepted"}"#.to_owned())]).await;
    let agent = pushed_to(&server, "AGENT-P", &endpoint, json!({"features": ["push_async.v1"]})).await;
    let id = server.operator().submit(json!({})).await;
    let push = endpoint.until(1).await.remove(0);
    server.stop().await;
    let other = |config: &mut Config| {
        quick(config);
        config.sealing_key = Some(Secret::new("another sealing key for the tests"));
    };
    let server = Setup::sqlite_at(&path).config(other).start().await;
    eventually("pushing is suspended", async || {
        let push = server.operator().agent(&agent.id).await.expect(200)["push"].clone();
        (push["reason"] == "sealed").then_some(())
    })
    .await;
    let agent = Agent { api: server.api.clone(), ..agent };
    agent.complete(&push.received.json()).await.expect(200);
    assert_eq!(server.operator().task(&id).await["attempt"], 1);
    assert_eq!(endpoint.received().len(), 1);
}

#[tokio::test]
async fn an_open_exchange_renews_its_lease() {
    let server = Setup::sqlite()
        .config(|config| {
            quick(config);
            config.timing.lease = Duration::from_secs(1);
        })
        .start()
        .await;
    let endpoint = Endpoint::start([Turn::Late(Duration::from_millis(2500), json!({"status": "completed"}))]).await;
    pushed_to(&server, "AGENT-P", &endpoint, json!({})).await;
    let id = server.operator().submit(json!({})).await;
    assert_eq!(until_status(&server, &id, "completed").await["attempt"], 1);
}

#[tokio::test]
async fn after_410_nothing_is_pushed_until_the_agent_registers_again() {
    let server = server().await;
    let endpoint = Endpoint::start([Turn::status(410), done()]).await;
    let features = json!(["directives.v1"]);
    let agent = pushed_to(&server, "AGENT-P", &endpoint, json!({"features": features})).await;
    let id = server.operator().submit(json!({})).await;
    let push = eventually("pushing is suspended", async || {
        let push = server.operator().agent(&agent.id).await.expect(200)["push"].clone();
        push.get("reason").is_some().then_some(push)
    })
    .await;
    assert_eq!(push["reason"], "gone");
    let beat = agent.beat(json!({"status": "healthy"})).await.expect(200);
    assert_eq!(
        (&beat["directives"][0]["type"], &beat["directives"][0]["reason"]),
        (&json!("push_suspended"), &json!("gone"))
    );
    let ack = json!([beat["directives"][0]["id"]]);
    let again = agent.beat(json!({"status": "healthy", "ack": ack})).await.expect(200);
    assert_eq!(again["directives"], beat["directives"], "it is told as long as that is so");
    // The task is there for others.
    let other = server.agent("AGENT-B").await;
    let task = other.wait_for_task().await;
    assert_eq!(id_of(&task), id);
    other.complete(&task).await.expect(200);
    assert_eq!(endpoint.received().len(), 1);
    other.delete().await.expect(204);
    let id = server.operator().submit(json!({})).await;
    pushed_to(&server, "AGENT-P", &endpoint, json!({"features": features})).await;
    until_status(&server, &id, "completed").await;
    assert_eq!(endpoint.received().len(), 2);
}

/// What an older process's endpoint says late is not about the newer one's.
#[tokio::test]
async fn a_late_410_of_an_older_endpoint_leaves_the_newer_one_alone() {
    let server = server().await;
    let gone = Turn::LateStatus(Duration::from_millis(1500), 410);
    let (older, newer) = (Endpoint::start([gone]).await, Endpoint::start([done(), done()]).await);
    pushed_to(&server, "AGENT-P", &older, json!({})).await;
    server.operator().submit(json!({})).await;
    older.until(1).await;
    let agent = pushed_to(&server, "AGENT-P", &newer, json!({})).await;
    let id = server.operator().submit(json!({})).await;
    until_status(&server, &id, "completed").await;
    eventually("the older one has answered", async || (older.answered() == 1).then_some(())).await;
    let id = server.operator().submit(json!({})).await;
    until_status(&server, &id, "completed").await;
    assert_eq!(server.operator().agent(&agent.id).await.expect(200)["push"], json!({}));
}

#[tokio::test]
async fn a_long_failure_suspends_pushing_and_an_answered_probe_ends_that() {
    let server = Setup::sqlite()
        .config(|config| {
            quick(config);
            config.push.max_tries = 1;
            config.push.suspend_failures = 3;
            config.push.suspend_after = Duration::from_millis(1);
            config.timing.heartbeat_interval = Duration::from_secs(1);
        })
        .start()
        .await;
    let broken = || Turn::raw(500, "canary-body-of-the-agent".to_owned());
    let healthy = || Turn::raw(200, r#"{"status":"healthy"}"#.to_owned());
    let answers = [broken(), broken(), broken(), healthy(), broken(), healthy(), done()];
    let endpoint = Endpoint::start(answers).await;
    let agent = pushed_to(&server, "AGENT-P", &endpoint, json!({})).await;
    let id = server.operator().submit(json!({"max_attempts": 9})).await;
    eventually("pushing is suspended", async || {
        let push = server.operator().agent(&agent.id).await.expect(200)["push"].clone();
        (push["reason"] == "status").then_some(())
    })
    .await;
    let history = server.operator().history(&id).await.to_string();
    assert!(!history.contains("canary-body"), "no answer is echoed");
    endpoint.until(5).await;
    let task = until_status(&server, &id, "completed").await;
    assert_eq!(task["attempt"], 5, "one that is there and fails again is suspended at once");
    let received = endpoint.received();
    for probe in [&received[3], &received[5]] {
        assert_eq!((probe.method.as_str(), probe.path.as_str()), ("GET", "/agent/health"));
    }
    assert_eq!(server.operator().agent(&agent.id).await.expect(200)["push"], json!({}));
}

#[tokio::test]
async fn a_peer_that_may_answer_before_its_result_may_answer_with_a_large_one() {
    let server = server().await;
    let text = "x".repeat(2 << 20);
    let large = Turn::result(json!({"status": "completed", "output_data": {"text": text}}));
    let endpoint = Endpoint::start([large]).await;
    pushed_to(&server, "AGENT-P", &endpoint, json!({"features": ["push_async.v1"]})).await;
    let id = server.operator().submit(json!({})).await;
    let task = until_status(&server, &id, "completed").await;
    assert_eq!((&task["attempt"], &task["result"]["output_data"]["text"]), (&json!(1), &json!(text)));
}

#[tokio::test]
async fn a_silent_agent_is_probed_before_it_is_offline() {
    let server = Setup::memory().manual_clock().config(quick).start().await;
    let healthy = || Turn::raw(200, r#"{"status":"degraded"}"#.to_owned());
    let (endpoint, older) = (Endpoint::start([healthy()]).await, Endpoint::start([healthy()]).await);
    pushed_to(&server, "AGENT-O", &older, json!({})).await;
    server.advance(2);
    let agent = pushed_to(&server, "AGENT-P", &endpoint, json!({})).await;
    server.advance(44);
    older.until(1).await;
    assert_eq!(endpoint.received().len(), 0, "not before it is suspect");
    server.advance(2);
    endpoint.until(1).await;
    let view = eventually("the probe counts as a beat", async || {
        let view = server.operator().agent(&agent.id).await.expect(200);
        (view["state"] == "online").then_some(view)
    })
    .await;
    assert_eq!(view["status"], "degraded");
}

#[tokio::test]
async fn what_the_endpoint_policy_forbids_is_refused_or_suspended_and_no_token_leaves() {
    let strict = |config: &mut Config| {
        quick(config);
        config.endpoints.profile = eap_orchestrator::EndpointProfile::Prod;
    };
    let server = Setup::sqlite().config(strict).start().await;
    let endpoint = Endpoint::start([done()]).await;
    let members = json!({"transports": ["push"], "endpoint_url": endpoint.url()});
    let refused = server.register(&crate::harness::registration("AGENT-P", members)).await.fields();
    assert_eq!(refused, ["body.endpoint_url"]);
    let agent = older(&server, &endpoint).await;
    server.operator().submit(json!({})).await;
    eventually("pushing is suspended", async || {
        let push = server.operator().agent(&agent.id).await.expect(200)["push"].clone();
        (push["reason"] == "policy").then_some(())
    })
    .await;
    assert_eq!(endpoint.received().len(), 0);
}

#[tokio::test]
async fn push_needs_an_endpoint() {
    let server = server().await;
    let body = crate::harness::registration("AGENT-P", json!({"transports": ["push"]}));
    let refused = server.register(&body).await.fields();
    assert_eq!(refused, ["body.transports"]);
}

/// A task that waits for a place would be nobody's for as long as the exchanges of others take.
#[tokio::test]
async fn a_task_whose_push_finds_no_place_goes_to_another_agent() {
    let server = Setup::sqlite()
        .config(|config| {
            quick(config);
            config.capacity.pushes = 1;
            config.timing.lease = Duration::from_secs(1);
        })
        .start()
        .await;
    let (busy, waiting) = (Endpoint::start([Turn::Hang]).await, Endpoint::start([]).await);
    let first = pushed_to(&server, "AGENT-P", &busy, json!({"capabilities": ["long"]})).await;
    let second = pushed_to(&server, "AGENT-Q", &waiting, json!({})).await;
    // Both ask while there is a place.
    until_it_asks(&server, &first, "long").await;
    until_it_asks(&server, &second, "work").await;
    let operator = server.operator();
    operator.submit(json!({"task_type": "long"})).await;
    busy.until(1).await;
    let id = operator.submit(json!({})).await;
    eventually("it is leased for a push", async || {
        (operator.task(&id).await["agent_id"] == json!(second.id)).then_some(())
    })
    .await;
    let other = server.agent("AGENT-B").await;
    let task = other.wait_for_task().await;
    assert_eq!((id_of(&task), &task["attempt"]), (id.clone(), &json!(2)));
    other.complete(&task).await.expect(200);
    let released = attempts(&server, &id).await.remove(0);
    assert_eq!((&released["outcome"], waiting.received().len()), (&json!("released"), 0));
}
