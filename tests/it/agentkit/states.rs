//! How agents of the platform say they are (docs/protocol.md, section 6).

use serde_json::{Value, json};

use super::platform::{SECRET, Webhook, deregister, detail, register, registered, setups, with_face};
use crate::harness::{Answer, OPERATOR_KEY, Server, Setup};

fn path(agent: &str) -> String {
    format!("/v1/opscore/agent/{agent}/state")
}

async fn say(server: &Server, agent: &str, timestamp: &str, state: &str, details: Value) -> Answer {
    let body = json!({"agentId": agent, "timestamp": timestamp, "state": state, "details": details});
    server.operator().post(&path(agent)).json(&body).send().await
}

async fn shown(server: &Server, agent: &str) -> Value {
    server.operator().get(&path(agent)).send().await.expect(200)
}

async fn history(server: &Server, agent: &str) -> Vec<String> {
    let answer = server.operator().get(&format!("{}/history", path(agent))).send().await.expect(200);
    assert_eq!(answer["agentId"], agent);
    let states = answer["states"].as_array().expect("a list").clone();
    states.into_iter().map(|state| state["state"].as_str().expect("a word").to_owned()).collect()
}

#[tokio::test]
async fn a_state_is_unknown_at_first_and_then_what_was_said() {
    for setup in setups() {
        let server = setup.start().await;
        registered(&server, "a1").await;
        let first = json!({
            "agentId": "a1", "state": "UNKNOWN", "details": null, "timestamp": "2027-01-15T08:00:00Z",
        });
        assert_eq!(shown(&server, "a1").await, first);
        server.advance(60);
        let accepted = json!({"status": "success", "message": "State update accepted"});
        let details = json!({"current_task": "t", "n": [1.50, null]});
        let answer = say(&server, "a1", "2027-01-15T08:00:01.500Z", "BuSy", details.clone()).await;
        assert_eq!(answer.expect(202), accepted);
        let state = shown(&server, "a1").await;
        assert_eq!(state["state"], "BuSy", "as it was sent");
        assert_eq!((&state["details"], &state["timestamp"]), (&details, &json!("2027-01-15T08:00:01.500Z")));
        server.stop().await;
    }
}

#[tokio::test]
async fn reports_are_ordered_by_their_own_time_and_all_are_kept() {
    for setup in setups() {
        let server = setup.start().await;
        registered(&server, "a1").await;
        server.advance(60);
        for (second, state) in [("10", "busy"), ("30", "idle"), ("20", "error"), ("30", "finished")] {
            say(&server, "a1", &format!("2027-01-15T08:00:{second}Z"), state, Value::Null).await.expect(202);
        }
        assert_eq!(shown(&server, "a1").await["state"], "finished", "of one time, the later one counts");
        assert_eq!(history(&server, "a1").await, ["finished", "idle", "error", "busy"]);
        let answer = server.operator().get(&format!("{}/history?limit=2", path("a1"))).send().await.expect(200);
        assert_eq!(answer["states"].as_array().unwrap().len(), 2);
        let wrong = server.operator().get(&format!("{}/history?limit=0", path("a1"))).send().await;
        assert_eq!(detail(wrong, 422)[0]["loc"], json!(["query", "limit"]));
        server.stop().await;
    }
}

#[tokio::test]
async fn a_timestamp_that_cannot_be_read_means_now() {
    let server = with_face(Setup::memory(), &[SECRET]).manual_clock().start().await;
    registered(&server, "a1").await;
    server.advance(5);
    say(&server, "a1", "yesterday", "idle", Value::Null).await.expect(202);
    assert_eq!(shown(&server, "a1").await["timestamp"], "2027-01-15T08:00:05Z");
    server.advance(5);
    say(&server, "a1", "2027-01-15T08:00:06.123456", "idle", Value::Null).await.expect(202);
    assert_eq!(shown(&server, "a1").await["timestamp"], "2027-01-15T08:00:06.123456Z", "as Python writes it: UTC");
    say(&server, "a1", "2099-01-01T00:00:00Z", "busy", Value::Null).await.expect(202);
    assert_eq!(shown(&server, "a1").await["timestamp"], "2027-01-15T08:00:10Z", "what is to come is now");
}

#[tokio::test]
async fn what_is_wrong_with_a_report_is_said_as_ops_core_says_it() {
    for setup in setups() {
        let server = setup.start().await;
        registered(&server, "a1").await;
        let report = json!({"agentId": "a1", "timestamp": "2027-01-15T08:00:01Z", "state": "idle"});
        let post = |path: &str| server.api.post(path).json(&report);
        assert_eq!(detail(post(&path("a1")).send().await, 401), "Authorization header missing");
        for key in ["wrong", ""] {
            let answer = post(&path("a1")).bearer(key).send().await;
            assert_eq!(detail(answer, 401), "Invalid authentication credentials");
        }
        let basic = post(&path("a1")).header("authorization", "Basic x").send().await;
        assert_eq!(detail(basic, 401), "Invalid authentication credentials");
        let other = post(&path("a2")).bearer(OPERATOR_KEY).send().await;
        assert_eq!(detail(other, 400), "Agent ID in path does not match agent ID in payload");
        let unknown = say(&server, "a2", "2027-01-15T08:00:01Z", "idle", Value::Null).await;
        assert_eq!(detail(unknown, 404), "Agent a2 not found");
        let wrong = server.operator().post(&path("a1")).json(&json!({"state": 5})).send().await;
        let problems = detail(wrong, 422);
        let mut places: Vec<_> =
            problems.as_array().unwrap().iter().map(|problem| problem["loc"].to_string()).collect();
        places.sort();
        assert_eq!(places, [r#"["body","agentId"]"#, r#"["body","state"]"#, r#"["body","timestamp"]"#]);
        for answer in [
            server.operator().get(&path("a2")).send().await,
            server.operator().get(&format!("{}/history", path("a2"))).send().await,
        ] {
            assert_eq!(detail(answer, 404), "No state found for agent a2");
        }
        let agent = server.agent("AGENT-A").await;
        let ours = say(&server, &agent.id, "2027-01-15T08:00:01Z", "idle", Value::Null).await;
        assert_eq!(detail(ours, 404), format!("Agent {} not found", agent.id), "it did not come by webhook");
        assert_eq!(shown(&server, "a1").await["state"], "UNKNOWN");
        server.stop().await;
    }
}

#[tokio::test]
async fn a_key_reports_only_with_the_scope_for_it() {
    let server = with_face(Setup::memory(), &[SECRET]).manual_clock().start().await;
    registered(&server, "a1").await;
    let key = async |scope: &str| {
        let body = json!({"name": scope.replace(':', "-"), "scopes": [scope]});
        let created = server.operator().post("/api/v1/keys").json(&body).send().await.expect(201);
        created["key"].as_str().expect("it is shown once").to_owned()
    };
    let report = json!({"agentId": "a1", "timestamp": "2027-01-15T08:00:01Z", "state": "idle"});
    let (reports, reads) = (key("agents:report").await, key("agents:read").await);
    let post = |key: &str| server.api.post(&path("a1")).bearer(key).json(&report);
    post(&reports).send().await.expect(202);
    detail(post(&reads).send().await, 403);
    server.api.get(&path("a1")).bearer(&reads).send().await.expect(200);
    detail(server.api.get(&path("a1")).bearer(&reports).send().await, 403);
}

#[tokio::test]
async fn states_survive_a_restart_and_end_with_the_registration() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("eap.db");
    let clock =
        std::sync::Arc::new(eap_orchestrator::ManualClock::at(eap_types::Timestamp::from_seconds(1_800_000_000)));
    let start = async || with_face(Setup::sqlite_at(&file), &[SECRET]).clock(clock.clone()).start().await;
    let server = start().await;
    registered(&server, "a1").await;
    say(&server, "a1", "2027-01-15T08:00:10Z", "ACTIVE", json!({"x": 1})).await.expect(202);
    let before = shown(&server, "a1").await;
    server.stop().await;
    let server = start().await;
    assert_eq!(shown(&server, "a1").await, before);
    Webhook::at(&server, 1, &register("a1")).send(&server).await.expect(200);
    assert_eq!(shown(&server, "a1").await, before, "registering again is no new life");
    Webhook::at(&server, 2, &deregister("a1")).send(&server).await.expect(200);
    detail(server.operator().get(&path("a1")).send().await, 404);
    Webhook::at(&server, 3, &register("a1")).send(&server).await.expect(200);
    assert_eq!(shown(&server, "a1").await["state"], "UNKNOWN");
    // Its clock may be behind.
    say(&server, "a1", "2027-01-15T08:00:05Z", "IDLE", Value::Null).await.expect(202);
    assert_eq!(shown(&server, "a1").await["state"], "IDLE");
    server.stop().await;
    let server = start().await;
    assert_eq!(shown(&server, "a1").await["state"], "IDLE");
}

#[tokio::test]
async fn another_tenant_neither_sees_nor_reports_a_state() {
    let tenant: eap_types::TenantId = "0198c0de-0000-7b00-8000-00000000000a".parse().unwrap();
    let setup = with_face(Setup::memory(), &[SECRET]).manual_clock().config(|config| {
        let mut other = eap_orchestrator::OperatorKey::new("canary-key-of-another-tenant");
        other.tenant = tenant;
        config.operator_keys.push(other);
    });
    let server = setup.start().await;
    registered(&server, "a1").await;
    let get = server.api.get(&path("a1")).bearer("canary-key-of-another-tenant").send().await;
    assert_eq!(detail(get, 404), "No state found for agent a1");
    let report = json!({"agentId": "a1", "timestamp": "2027-01-15T08:00:01Z", "state": "idle"});
    let post = server.api.post(&path("a1")).bearer("canary-key-of-another-tenant").json(&report).send().await;
    assert_eq!(detail(post, 404), "Agent a1 not found");
    assert_eq!(shown(&server, "a1").await["state"], "UNKNOWN");
}

/// Whatever is asked under the face is refused in its own form.
#[tokio::test]
async fn what_is_not_there_under_the_face_is_refused_in_its_form() {
    for setup in setups() {
        let server = setup.start().await;
        for (method, place, status) in [
            (http::Method::DELETE, "/v1/opscore/agent/a1/state", 405),
            (http::Method::GET, "/v1/opscore/internal/agent/notify", 405),
            (http::Method::GET, "/v1/opscore/agent/a1/foo", 404),
            (http::Method::GET, "/v1/opscore/session/", 404),
        ] {
            let answer = server.api.call(method, place).send().await;
            assert_eq!(answer.header("content-type"), Some("application/json"), "{place}");
            assert!(answer.expect(status)["detail"].is_string(), "{place}");
        }
        server.stop().await;
    }
    let without = Setup::memory().start().await;
    let answer = without.api.call(http::Method::DELETE, "/v1/opscore/agent/a1/state").send().await;
    assert_eq!(answer.expect(404), json!({"detail": "Not Found"}));
}
