//! Registration secrets: several, named, with an end and limits (T5; docs/protocol.md sections 1 and 5).

use eap_orchestrator::{Access, RegistrationSecret};
use serde_json::{Value, json};

use crate::harness::{Agent, Answer, OPERATOR_KEY, REGISTRATION_SECRET, START, Server, Setup, registration};

const SECRETS: &str = "/api/v1/registration-secrets";
const REGISTER: &str = "/api/v1/agents/external/register";

struct Made {
    text: String,
    id: String,
}

async fn create(server: &Server, body: Value) -> Made {
    let made = server.operator().post(SECRETS).json(&body).send().await.expect(201);
    let text = |name: &str| made[name].as_str().expect("an answer has it").to_owned();
    Made { text: text("registration_secret"), id: text("secret_id") }
}

async fn revoke(server: &Server, secret: &Made) {
    let path = format!("{SECRETS}/{}", secret.id);
    server.api.call(http::Method::DELETE, &path).bearer(OPERATOR_KEY).send().await.expect(204);
}

async fn register(server: &Server, secret: &str, body: &Value) -> Answer {
    server.api.post(REGISTER).header("x-registration-token", secret).json(body).send().await
}

async fn listed(server: &Server) -> Value {
    server.operator().get(SECRETS).send().await.expect(200)["registration_secrets"].clone()
}

/// Refused, and no agent is made.
async fn denied(server: &Server, secret: &str, body: &Value, why: &str) {
    let before = server.operator().agents().await.len();
    let refused = register(server, secret, body).await.problem(403, "REGISTRATION_DENIED");
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains(why)), "{refused}");
    assert_eq!(server.operator().agents().await.len(), before);
}

#[tokio::test]
async fn a_secret_lets_agents_in_until_it_expires_or_is_revoked() {
    let server = Server::start_with_clock().await;
    let over = json!({"name": "x", "expires_at": START});
    assert_eq!(server.operator().post(SECRETS).json(&over).send().await.fields(), ["body.expires_at"]);
    let short = create(&server, json!({"name": "short", "expires_at": START + 60})).await;
    server.advance(1);
    let long = create(&server, json!({"name": "long"})).await;
    assert!(short.text.starts_with(&format!("eapr_{}_", short.id)));
    let body = |name: &str| registration(name, json!({}));
    let agent = Agent::of(server.api.clone(), register(&server, &short.text, &body("AGENT-A")).await.expect(201));
    register(&server, &long.text, &body("AGENT-B")).await.expect(201);
    server.advance(59);
    denied(&server, &short.text, &body("AGENT-C"), "expired").await;
    denied(&server, &short.text, &body("AGENT-A"), "expired").await;
    revoke(&server, &long).await;
    denied(&server, &long.text, &body("AGENT-D"), "revoked").await;
    // Those who are in stay in, and their live token still brings them back.
    agent.beat(json!({"status": "healthy"})).await.expect(200);
    let again =
        server.api.post(REGISTER).header("x-agent-token", &agent.token).header("x-registration-token", &short.text);
    again.json(&body("AGENT-A")).send().await.expect(201);
    let states: Vec<_> =
        listed(&server).await.as_array().expect("a list").iter().map(|one| one["state"].clone()).collect();
    assert_eq!(states, ["revoked", "expired"], "the newest first");
}

#[tokio::test]
async fn an_identity_belongs_to_the_name_of_its_secret_and_a_name_may_have_several_values() {
    let server = Server::start().await;
    let (old, new) = (create(&server, json!({"name": "fleet"})).await, create(&server, json!({"name": "fleet"})).await);
    let other = create(&server, json!({"name": "other"})).await;
    let body = registration("AGENT-A", json!({}));
    let first = register(&server, &old.text, &body).await.expect(201);
    denied(&server, &other.text, &body, "another secret").await;
    denied(&server, REGISTRATION_SECRET, &body, "another secret").await;
    // The older value goes, the newer one takes over.
    revoke(&server, &old).await;
    let again = register(&server, &new.text, &body).await.expect(201);
    assert_eq!(first["agent_id"], again["agent_id"]);
}

#[tokio::test]
async fn a_limited_secret_lets_in_as_many_as_it_was_made_for() {
    let server = Server::start().await;
    let secret = create(&server, json!({"name": "two", "max_uses": 2})).await;
    let body = |name: &str| registration(name, json!({}));
    let first = Agent::of(server.api.clone(), register(&server, &secret.text, &body("AGENT-A")).await.expect(201));
    // Its live token takes no use, nor does a repeat under the same key.
    let call =
        server.api.post(REGISTER).header("x-agent-token", &first.token).header("x-registration-token", &secret.text);
    let first = Agent::of(server.api.clone(), call.json(&body("AGENT-A")).send().await.expect(201));
    let keyed = || {
        let call = server.api.post(REGISTER).header("x-registration-token", &secret.text);
        call.header("idempotency-key", "once").json(&body("AGENT-B")).send()
    };
    keyed().await.expect(201);
    denied(&server, &secret.text, &body("AGENT-C"), "used up").await;
    denied(&server, &secret.text, &body("AGENT-A"), "used up").await;
    let repeat = keyed().await.expect(201);
    assert!(repeat["auth_token"].is_string(), "a lost answer is asked for again");
    first.beat(json!({"status": "healthy"})).await.expect(200);
    let shown = listed(&server).await;
    assert_eq!(
        (&shown[0]["state"], &shown[0]["uses"], &shown[0]["max_uses"]),
        (&json!("used_up"), &json!(2), &json!(2))
    );
}

#[tokio::test]
async fn of_many_agents_at_once_exactly_as_many_come_in_as_the_secret_allows() {
    let server = Server::start().await;
    let secret = create(&server, json!({"name": "seven", "max_uses": 7})).await;
    let calls: Vec<_> = (0..20)
        .map(|number| {
            let body = registration(&format!("AGENT-{number}"), json!({}));
            let call = server.api.post(REGISTER).header("x-registration-token", &secret.text);
            tokio::spawn(call.json(&body).send())
        })
        .collect();
    let mut let_in = 0;
    for call in calls {
        let answer = call.await.expect("a call does not panic");
        assert!(matches!(answer.status, 201 | 403), "{}", answer.body);
        let_in += usize::from(answer.status == 201);
    }
    assert_eq!((let_in, server.operator().agents().await.len()), (7, 7));
}

#[tokio::test]
async fn a_secret_may_be_for_some_names_and_capabilities_alone() {
    let server = Server::start().await;
    let limits = json!({"name": "eu", "names": ["AGENT-EU-*", "AGENT-X"], "capabilities": ["work", "test"]});
    let secret = create(&server, limits).await;
    denied(&server, &secret.text, &registration("AGENT-US-1", json!({})), "name").await;
    let greedy = registration("AGENT-EU-1", json!({"capabilities": ["work", "deploy"]}));
    denied(&server, &secret.text, &greedy, "capabilities").await;
    register(&server, &secret.text, &registration("AGENT-X", json!({}))).await.expect(201);
    let body = registration("AGENT-EU-1", json!({}));
    let agent = Agent::of(server.api.clone(), register(&server, &secret.text, &body).await.expect(201));
    // Coming back with its token opens no more than the secret did.
    let come_back = |body: &Value| server.api.post(REGISTER).header("x-agent-token", &agent.token).json(body).send();
    come_back(&greedy).await.problem(403, "REGISTRATION_DENIED");
    agent.beat(json!({"status": "healthy"})).await.expect(200);
    come_back(&registration("AGENT-EU-1", json!({"capabilities": ["test"]}))).await.expect(201);
}

#[tokio::test]
async fn a_secret_of_another_tenant_is_denied_and_writes_nothing() {
    let tenant = "01890a5d-ac96-774b-bcce-b302099a8057";
    let second = "another-registration-secret-0123";
    let setup = Setup::memory().config(|config| {
        let mut secret = RegistrationSecret::new(second);
        (secret.name, secret.tenant) = ("second".to_owned(), tenant.parse().expect("it is a uuid"));
        config.registration_secrets = vec![secret];
    });
    let server = setup.start().await;
    let call = |secret: &str, tenant: &str| {
        let call = server.api.post(REGISTER).header("x-registration-token", secret).header("x-tenant-id", tenant);
        call.json(&registration("AGENT-A", json!({}))).send()
    };
    call(REGISTRATION_SECRET, tenant).await.problem(403, "REGISTRATION_DENIED");
    assert_eq!(server.operator().agents().await, Vec::<Value>::new());
    call(second, tenant).await.expect(201);
    assert_eq!(server.operator().agents().await, Vec::<Value>::new(), "it is the other tenant's");
    call(REGISTRATION_SECRET, "00000000-0000-0000-0000-000000000000").await.expect(201);
}

#[tokio::test]
async fn secrets_survive_a_restart_with_their_uses() {
    let dir = tempfile::TempDir::new().expect("there is room");
    let file = dir.path().join("eap.db");
    let first = Setup::sqlite_at(&file).start().await;
    let secret = create(&first, json!({"name": "two", "max_uses": 2, "names": ["AGENT-*"]})).await;
    register(&first, &secret.text, &registration("AGENT-A", json!({}))).await.expect(201);
    let before = listed(&first).await;
    assert!(before[0]["last_used_at"].is_string(), "{before}");
    first.stop().await;
    let second = Setup::sqlite_at(&file).start().await;
    assert_eq!(listed(&second).await, before);
    register(&second, &secret.text, &registration("AGENT-B", json!({}))).await.expect(201);
    denied(&second, &secret.text, &registration("AGENT-C", json!({})), "used up").await;
    denied(&second, &secret.text, &registration("BOT", json!({})), "name").await;
}

#[tokio::test]
async fn on_loopback_the_first_secret_locks_nobody_out() {
    let setup = Setup::memory().config(|config| {
        config.registration_secret = None;
        config.access = Access::Loopback;
    });
    let server = setup.start().await;
    let secret = create(&server, json!({"name": "first"})).await;
    let open = server.api.post(REGISTER).json(&registration("AGENT-A", json!({})));
    open.send().await.expect(201);
    register(&server, &secret.text, &registration("AGENT-B", json!({}))).await.expect(201);
    denied(&server, &secret.text, &registration("AGENT-A", json!({})), "another secret").await;
    revoke(&server, &secret).await;
    denied(&server, &secret.text, &registration("AGENT-C", json!({})), "revoked").await;
    let unknown = format!("eapr_{}_{}", secret.id, "A".repeat(43));
    denied(&server, &unknown, &registration("AGENT-C", json!({})), "not valid").await;
}
