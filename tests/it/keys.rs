//! Operator keys: made with scopes, held to them, expired by the clock, revoked at once (T26; docs/protocol.md section 5).

use eap_orchestrator::{Access, Operator as Host, OperatorKey};
use eap_types::{CreateKey, Scope, ScopePreset, Scopes};
use serde_json::{Value, json};

use crate::harness::{Answer, Call, OPERATOR_KEY, START, Server, Setup, assert_shape};

const KEYS: &str = "/api/v1/keys";
const TASKS: &str = "/api/v1/tasks";

/// Makes a key with the bootstrap key.
async fn create(server: &Server, body: Value) -> Answer {
    server.operator().post(KEYS).json(&body).send().await
}

/// A key with these scopes, and its id.
async fn key(server: &Server, scopes: Value) -> (String, String) {
    let made = create(server, json!({"name": "test", "scopes": scopes})).await.expect(201);
    let text = |name: &str| made[name].as_str().expect("an answer has it").to_owned();
    (text("key"), text("key_id"))
}

fn with(server: &Server, key: &str, path: &str) -> Call {
    server.api.get(path).bearer(key)
}

#[tokio::test]
async fn a_key_is_shown_once_and_listed_without_its_text() {
    let server = Server::start_with_clock().await;
    let body = json!({"name": "ci", "preset": "submit", "scopes": ["agents:admin"], "expires_at": START + 3600});
    let made = create(&server, body).await.expect(201);
    let view = json!({
        "key_id": "<uuid>", "name": "ci", "state": "active", "created_by": "operator",
        "scopes": ["tasks:submit", "tasks:read", "tasks:cancel", "results:read", "agents:read", "agents:admin"],
        "created_at": "2027-01-15T08:00:00Z", "expires_at": "2027-01-15T09:00:00Z",
    });
    let mut whole = view.clone();
    whole["key"] = json!("<text>");
    assert_shape(&made, &whole);
    let text = made["key"].as_str().expect("it is a text");
    let id = made["key_id"].as_str().expect("it is a text");
    assert!(text.starts_with(&format!("eapk_{id}_")) && text.len() == format!("eapk_{id}_").len() + 43);
    let listed = server.operator().get(KEYS).send().await.expect(200);
    assert_shape(&listed["keys"][0], &view);
    assert!(!listed.to_string().contains(&text[text.len() - 43..]));
    // The newest first, in pages.
    server.advance(1);
    let (_, second) = key(&server, json!(["tasks:read"])).await;
    let page = server.operator().get(&format!("{KEYS}?limit=1")).send().await.expect(200);
    assert_eq!((&page["keys"][0]["key_id"], &page["next_cursor"]), (&json!(second), &json!(second)));
    let rest = server.operator().get(&format!("{KEYS}?cursor={second}")).send().await.expect(200);
    assert_eq!((&rest["keys"][0]["key_id"], rest.get("next_cursor")), (&json!(id), None));
    server.operator().get(&format!("{KEYS}?cursor=x")).send().await.problem(422, "VALIDATION_ERROR");
}

#[tokio::test]
async fn a_call_without_its_scope_is_forbidden_and_names_it() {
    let server = Server::start().await;
    let (reader, _) = key(&server, json!(["tasks:read"])).await;
    with(&server, &reader, TASKS).send().await.expect(200);
    let submit = server.api.post(TASKS).bearer(&reader).json(&json!({"task_type": "work", "input": "x"}));
    let refused = submit.send().await.problem(403, "FORBIDDEN");
    assert_eq!(refused["detail"], "this key has not the scope tasks:submit");
    // Who may call at all comes first, what else is wrong later.
    let wrong = server.api.post(TASKS).bearer(&reader).bytes("{").header("content-encoding", "gzip");
    wrong.send().await.problem(403, "FORBIDDEN");
    assert_eq!(server.operator().list("").await, json!({"tasks": []}));
}

#[tokio::test]
async fn results_are_left_out_for_a_key_that_may_not_read_them() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let id = server.operator().submit(json!({})).await;
    let task = agent.take().await;
    agent.complete(&task).await.expect(200);
    let mut late = json!({"task_id": id, "status": "failed", "attempt": 1, "lease_id": task["lease_id"]});
    late["error_message"] = json!("another result");
    agent.report(&id, late).await.problem(409, "RESULT_CONFLICT");
    let (reader, _) = key(&server, json!(["tasks:read"])).await;
    let (both, _) = key(&server, json!(["tasks:read", "results:read"])).await;
    let shown = async |key: &str| with(&server, key, &format!("{TASKS}/{id}")).send().await.expect(200);
    let (without, whole) = (shown(&reader).await, shown(&both).await);
    assert_eq!((&without["status"], without.get("result")), (&json!("completed"), None));
    assert_eq!(whole["result"]["status"], "completed");
    let waited = with(&server, &reader, &format!("{TASKS}/{id}?wait_seconds=1")).send().await.expect(200);
    assert_eq!(waited, without);
}

#[tokio::test]
async fn late_results_are_left_out_too() {
    let server = Server::start_with_clock().await;
    let agent = server.agent("AGENT-A").await;
    let id = server.operator().submit(json!({})).await;
    let task = agent.take().await;
    server.operator().cancel(&id, None).await.expect(200);
    agent.complete(&task).await.problem(409, "TASK_FINAL");
    let (reader, _) = key(&server, json!(["tasks:read"])).await;
    let (both, _) = key(&server, json!(["tasks:read", "results:read"])).await;
    let late = async |key: &str| {
        let history = with(&server, key, &format!("{TASKS}/{id}/history")).send().await.expect(200);
        history["late_results"].as_array().expect("it is a list").len()
    };
    assert_eq!((late(&reader).await, late(&both).await), (0, 1));
}

#[tokio::test]
async fn a_key_grants_no_more_than_it_has() {
    let server = Server::start().await;
    let (admin, _) = key(&server, json!(["keys:admin", "tasks:read"])).await;
    let ask = async |body: Value| server.api.post(KEYS).bearer(&admin).json(&body).send().await;
    let refused = ask(json!({"name": "more", "scopes": ["tasks:read", "tasks:submit"]})).await;
    let detail = refused.problem(403, "FORBIDDEN")["detail"].clone();
    assert_eq!(detail, "a key grants no more than it has: this one has not the scope tasks:submit");
    ask(json!({"name": "more", "preset": "admin"})).await.problem(403, "FORBIDDEN");
    let made = ask(json!({"name": "less", "scopes": ["tasks:read"]})).await.expect(201);
    assert_eq!(made["created_by"], "test");
    assert_eq!(server.operator().get(KEYS).send().await.expect(200)["keys"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_key_ends_with_its_time_by_the_servers_clock() {
    let server = Server::start_with_clock().await;
    let over = create(&server, json!({"name": "x", "preset": "read", "expires_at": START})).await;
    assert_eq!(over.fields(), ["body.expires_at"]);
    let made = create(&server, json!({"name": "x", "preset": "read", "expires_at": START + 60})).await.expect(201);
    let key = made["key"].as_str().expect("it is a text");
    server.advance(59);
    with(&server, key, TASKS).send().await.expect(200);
    server.advance(1);
    with(&server, key, TASKS).send().await.problem(401, "INVALID_TOKEN");
    let listed = server.operator().get(KEYS).send().await.expect(200);
    assert_eq!(listed["keys"][0]["state"], "expired");
    assert_eq!(listed["keys"][0]["last_used_at"], "2027-01-15T08:00:59Z");
}

#[tokio::test]
async fn a_revoked_key_is_refused_from_the_next_call_on() {
    let server = Server::start_with_clock().await;
    let (key, id) = key(&server, json!(["tasks:read", "keys:admin"])).await;
    with(&server, &key, TASKS).send().await.expect(200);
    let revoke = async || server.operator().api.call(http::Method::DELETE, &format!("{KEYS}/{id}"));
    revoke().await.bearer(OPERATOR_KEY).send().await.expect(204);
    with(&server, &key, TASKS).send().await.problem(401, "INVALID_TOKEN");
    server.advance(5);
    revoke().await.bearer(OPERATOR_KEY).send().await.expect(204);
    revoke().await.bearer(&key).send().await.problem(401, "INVALID_TOKEN");
    let listed = server.operator().get(KEYS).send().await.expect(200);
    assert_eq!(
        (&listed["keys"][0]["state"], &listed["keys"][0]["revoked_at"]),
        (&json!("revoked"), &json!("2027-01-15T08:00:00Z"))
    );
    // A key is no registration secret, whatever its id.
    let other = format!("/api/v1/registration-secrets/{id}");
    let call = server.api.call(http::Method::DELETE, &other).bearer(OPERATOR_KEY);
    call.send().await.problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn keys_survive_a_restart_with_all_that_happened_to_them() {
    let dir = tempfile::TempDir::new().expect("there is room");
    let file = dir.path().join("eap.db");
    let first = Setup::sqlite_at(&file).start().await;
    let (live, _) = key(&first, json!(["tasks:read"])).await;
    let (dead, id) = key(&first, json!(["tasks:read"])).await;
    with(&first, &live, TASKS).send().await.expect(200);
    let revoke = first.api.call(http::Method::DELETE, &format!("{KEYS}/{id}")).bearer(OPERATOR_KEY);
    revoke.send().await.expect(204);
    let before = first.operator().get(KEYS).send().await.expect(200);
    assert!(before["keys"][1]["last_used_at"].is_string(), "{before}");
    first.stop().await;
    let second = Setup::sqlite_at(&file).start().await;
    assert_eq!(second.operator().get(KEYS).send().await.expect(200), before);
    with(&second, &live, TASKS).send().await.expect(200);
    with(&second, &dead, TASKS).send().await.problem(401, "INVALID_TOKEN");
    let agents = with(&second, &live, "/api/v1/agents").send().await.problem(403, "FORBIDDEN");
    assert_eq!(agents["detail"], "this key has not the scope agents:read");
}

#[tokio::test]
async fn several_keys_may_be_configured_each_of_its_tenant() {
    let tenant = "01890a5d-ac96-774b-bcce-b302099a8057";
    let second = "another-operator-key-0123456789";
    let setup = Setup::memory().config(|config| {
        let mut key = OperatorKey::new(second);
        (key.name, key.tenant) = ("second".to_owned(), tenant.parse().expect("it is a uuid"));
        config.operator_keys = vec![key];
    });
    let server = setup.start().await;
    let id = server.operator().submit(json!({})).await;
    with(&server, second, &format!("{TASKS}/{id}")).send().await.problem(404, "TASK_NOT_FOUND");
    // What the second one makes is of its tenant, and seen by it alone.
    let made = server.api.post(KEYS).bearer(second).json(&json!({"name": "x", "preset": "read"})).send().await;
    let made = made.expect(201);
    assert_eq!(made["created_by"], "second");
    assert_eq!(server.operator().get(KEYS).send().await.expect(200), json!({"keys": []}));
    let path = format!("{KEYS}/{}", made["key_id"].as_str().expect("it is a text"));
    let foreign = server.api.call(http::Method::DELETE, &path).bearer(OPERATOR_KEY).send().await;
    foreign.problem(404, "NOT_FOUND");
    let theirs = with(&server, made["key"].as_str().expect("it is a text"), TASKS).header("x-tenant-id", tenant);
    theirs.send().await.expect(200);
}

/// The first key locks nobody out and opens nothing: who may call without one is the configuration's word alone.
#[tokio::test]
async fn on_loopback_the_first_key_changes_nothing_for_those_who_call_without_one() {
    let setup = Setup::memory().config(|config| {
        config.operator_key = None;
        config.registration_secret = None;
        config.access = Access::Loopback;
    });
    let server = setup.start().await;
    let made = server.api.post(KEYS).json(&json!({"name": "first", "scopes": ["tasks:read"]})).send().await;
    let made = made.expect(201);
    assert_eq!(made["created_by"], "anonymous");
    let key = made["key"].as_str().expect("it is a text");
    let submit = |call: Call| call.json(&json!({"task_type": "work", "input": "x"}));
    submit(server.api.post(TASKS)).send().await.expect(201);
    // Who sends a key is held to it.
    with(&server, key, TASKS).send().await.expect(200);
    submit(server.api.post(TASKS).bearer(key)).send().await.problem(403, "FORBIDDEN");
    let path = format!("{KEYS}/{}", made["key_id"].as_str().expect("it is a text"));
    server.api.call(http::Method::DELETE, &path).send().await.expect(204);
    with(&server, key, TASKS).send().await.problem(401, "INVALID_TOKEN");
    let unknown = format!("eapk_{}_{}", made["key_id"].as_str().expect("it is a text"), "A".repeat(43));
    with(&server, &unknown, TASKS).send().await.problem(401, "INVALID_TOKEN");
    // And from elsewhere the key opens what nobody opens without.
    with(&server, OPERATOR_KEY, TASKS).header("x-forwarded-for", "10.0.0.7").send().await.problem(401, "INVALID_TOKEN");
}

#[tokio::test]
async fn a_host_in_process_makes_keys_too_within_its_own_scopes() {
    let server = Server::start().await;
    let orchestrator = &server.orchestrator;
    let asked = CreateKey::of_preset("host".parse().unwrap(), ScopePreset::Read);
    let made = orchestrator.create_key(&Host::host(), asked).await.expect("a host has every scope");
    assert!(!format!("{made:?}").contains(made.key.expose()));
    with(&server, made.key.expose(), TASKS).send().await.expect(200);
    let narrow = Host { scopes: [Scope::TasksRead].into_iter().collect(), ..Host::host() };
    let asked = CreateKey::new("more".parse().unwrap(), Scopes::all());
    let refused = orchestrator.create_key(&narrow, asked).await.expect_err("it has one scope alone");
    assert!(matches!(refused, eap_orchestrator::Error::CannotGrant { scope: Scope::TasksSubmit }), "{refused}");
    orchestrator.revoke_key(&Host::host(), made.view.key_id).await.expect("it is there");
    with(&server, made.key.expose(), TASKS).send().await.problem(401, "INVALID_TOKEN");
}
