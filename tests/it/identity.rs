//! Who an agent is: coming back, leaving, being replaced (A2, A4, A5).

use eap_orchestrator::{OperatorKey, RegistrationSecret};
use serde_json::{Value, json};

use crate::harness::{Agent, OPERATOR_KEY, REGISTRATION_SECRET, Server, Setup, id_of, registration};

const REGISTER: &str = "/api/v1/agents/external/register";
const OTHER_TENANT: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
const NIL_TENANT: &str = "00000000-0000-0000-0000-000000000000";

/// Registers again with the live token alone.
async fn come_back(agent: &Agent, name: &str, members: Value) -> Agent {
    let call = agent.api.post(REGISTER).header("x-agent-token", &agent.token);
    Agent::of(agent.api.clone(), call.json(&registration(name, members)).send().await.expect(201))
}

async fn assert_same_agent_with_new_token(server: &Server, first: &Agent, again: &Agent, task: &Value) {
    assert_eq!(again.id, first.id);
    assert_ne!(again.token, first.token);
    let refused = first.beat(json!({"status": "healthy"})).await.problem(401, "INVALID_TOKEN");
    assert_eq!(refused["detail"], "Invalid agent token");
    let detail = server.operator().agent(&first.id).await.expect(200);
    assert_eq!((&detail["epoch"], &detail["leases"]), (&json!(2), &json!(1)), "its lease lives on");
    assert_eq!(server.operator().agents().await.len(), 1);
    assert_eq!(again.complete(task).await.expect(200)["duplicate"], false);
}

#[tokio::test]
async fn an_agent_that_comes_back_with_the_secret_keeps_its_id_and_leases_and_gets_a_new_token() {
    let server = Server::start().await;
    let first = server.agent("AGENT-A").await;
    server.operator().submit(json!({})).await;
    let task = first.take().await;
    let again = server.agent("AGENT-A").await;
    assert_same_agent_with_new_token(&server, &first, &again, &task).await;
}

#[tokio::test]
async fn an_agent_that_comes_back_with_its_live_token_keeps_its_id_and_leases_and_gets_a_new_token() {
    let server = Server::start().await;
    let first = server.agent("AGENT-A").await;
    server.operator().submit(json!({})).await;
    let task = first.take().await;
    let again = come_back(&first, "AGENT-A", json!({})).await;
    assert_same_agent_with_new_token(&server, &first, &again, &task).await;
}

#[tokio::test]
async fn a_dead_token_lets_nobody_come_back() {
    let server = Server::start().await;
    let first = server.agent("AGENT-A").await;
    let again = server.agent("AGENT-A").await;
    let call = server.api.post(REGISTER).header("x-agent-token", &first.token);
    let refused = call.json(&registration("AGENT-A", json!({}))).send().await;
    refused.problem(403, "REGISTRATION_DENIED");
    again.beat(json!({"status": "healthy"})).await.expect(200);
}

#[tokio::test]
async fn a_token_registers_its_own_agent_and_nobody_else() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let other = server.agent("AGENT-B").await;
    for body in [
        registration("AGENT-NEW", json!({})),
        registration("AGENT-A", json!({"instance_id": "another"})),
        registration("AGENT-B", json!({})),
    ] {
        let call = server.api.post(REGISTER).header("x-agent-token", &agent.token);
        call.json(&body).send().await.problem(403, "REGISTRATION_DENIED");
    }
    assert_eq!(server.operator().agents().await.len(), 2);
    other.beat(json!({"status": "healthy"})).await.expect(200);
    agent.beat(json!({"status": "healthy"})).await.expect(200);
}

#[tokio::test]
async fn coming_back_takes_over_what_the_registration_now_says() {
    let server = Server::start().await;
    let first = server.agent("AGENT-A").await;
    let again = come_back(&first, "AGENT-A", json!({"capabilities": ["other"], "version": "2.0"})).await;
    let detail = server.operator().agent(&again.id).await.expect(200);
    assert_eq!((&detail["capabilities"], &detail["version"]), (&json!(["other"]), &json!("2.0")));
    server.operator().submit(json!({})).await;
    assert_eq!(again.take_up_to(1).await, Vec::<Value>::new());
}

#[tokio::test]
async fn an_identity_cannot_be_taken_over_with_another_secret() {
    let dir = tempfile::TempDir::new().expect("there is room");
    let file = dir.path().join("eap.db");
    let first = Setup::sqlite_at(&file).start().await;
    let agent = first.agent("AGENT-A").await;
    first.stop().await;
    // The file now meets a server whose one secret has another name.
    let named = |name: &'static str| {
        Setup::sqlite_at(&file).config(move |config| {
            let mut secret = RegistrationSecret::new(REGISTRATION_SECRET);
            secret.name = name.to_owned();
            config.registration_secret = Some(secret);
        })
    };
    let second = named("another").start().await;
    second.register(&registration("AGENT-A", json!({}))).await.problem(403, "REGISTRATION_DENIED");
    let agent = Agent { api: second.api.clone(), ..agent };
    agent.beat(json!({"status": "healthy"})).await.expect(200);
    // Its own live token still opens the door.
    let again = come_back(&agent, "AGENT-A", json!({})).await;
    assert_eq!(again.id, agent.id);
    second.stop().await;
    let third = named("default").start().await;
    assert_eq!(third.agent("AGENT-A").await.id, agent.id);
}

#[tokio::test]
async fn a_registration_repeated_with_its_idempotency_key_is_the_same_agent() {
    let server = Server::start().await;
    let register = async |key: &str, body: &Value| {
        let call = server.api.post(REGISTER).header("x-registration-token", REGISTRATION_SECRET);
        call.header("idempotency-key", key).json(body).send().await
    };
    // No instance: without the key every call would make an agent.
    let body = registration("AGENT-A", json!({"instance_id": null}));
    let first = Agent::of(server.api.clone(), register("k1", &body).await.expect(201));
    let again = Agent::of(server.api.clone(), register("k1", &body).await.expect(201));
    assert_eq!(first.id, again.id);
    assert_ne!(first.token, again.token);
    first.beat(json!({"status": "healthy"})).await.problem(401, "INVALID_TOKEN");
    again.beat(json!({"status": "healthy"})).await.expect(200);
    let other = registration("AGENT-B", json!({"instance_id": null}));
    register("k1", &other).await.problem(409, "IDEMPOTENCY_CONFLICT");
    let third = Agent::of(server.api.clone(), register("k2", &body).await.expect(201));
    assert_ne!(third.id, first.id);
    assert_eq!(register("", &body).await.fields(), ["header.idempotency-key"]);
}

#[tokio::test]
async fn the_same_identity_registering_many_times_at_once_is_one_agent() {
    let server = Server::start().await;
    let body = registration("AGENT-A", json!({}));
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let call = server.api.post(REGISTER).header("x-registration-token", REGISTRATION_SECRET).json(&body);
            tokio::spawn(call.send())
        })
        .collect();
    let mut agents = Vec::new();
    for call in calls {
        let answer = call.await.expect("a call does not panic");
        agents.push(Agent::of(server.api.clone(), answer.expect(201)));
    }
    assert!(agents.iter().all(|agent| agent.id == agents[0].id));
    assert_eq!(server.operator().agents().await.len(), 1);
    let mut live = 0;
    for agent in &agents {
        live += u32::from(agent.beat(json!({"status": "healthy"})).await.status == 200);
    }
    assert_eq!(live, 1, "exactly one token is live");
}

#[tokio::test]
async fn two_instances_of_one_name_are_two_working_agents() {
    let server = Server::start().await;
    let (one, two) = (
        server.agent_with("AGENT-A", json!({"instance_id": "one"})).await,
        server.agent_with("AGENT-A", json!({"instance_id": "two"})).await,
    );
    assert_ne!(one.id, two.id);
    for agent in [&one, &two] {
        server.operator().submit(json!({})).await;
        let task = agent.take().await;
        agent.complete(&task).await.expect(200);
    }
}

#[tokio::test]
async fn without_an_instance_the_newer_agent_of_the_same_endpoint_takes_the_place_of_the_older() {
    let server = Server::start().await;
    let members = json!({"instance_id": null, "endpoint_url": "http://agent.example:9000"});
    let older = server.agent_with("AGENT-A", members.clone()).await;
    server.operator().submit(json!({})).await;
    let held = older.take().await;
    let newer = server.agent_with("AGENT-A", members).await;
    let elsewhere =
        server.agent_with("AGENT-A", json!({"instance_id": null, "endpoint_url": "http://other.example"})).await;
    assert_ne!(older.id, newer.id);

    let state = async |agent: &Agent| server.operator().agent(&agent.id).await.expect(200)["state"].clone();
    assert_eq!(state(&older).await, "superseded");
    assert_eq!(state(&newer).await, "online");
    assert_eq!(state(&elsewhere).await, "online");
    server.operator().submit(json!({})).await;
    assert_eq!(older.take_up_to(1).await, Vec::<Value>::new(), "it gets no more work");
    older.beat(json!({"status": "healthy"})).await.expect(200);
    assert_eq!(state(&older).await, "superseded", "however often it beats");
    older.complete(&held).await.expect(200);
    newer.take().await;
}

#[tokio::test]
async fn agents_without_endpoint_and_instance_do_not_replace_each_other() {
    let server = Server::start().await;
    let members = json!({"instance_id": null});
    let (one, two) = (server.agent_with("AGENT-A", members.clone()).await, server.agent_with("AGENT-A", members).await);
    assert_ne!(one.id, two.id);
    for agent in server.operator().agents().await {
        assert_eq!(agent["state"], "online");
    }
}

async fn assert_gone(server: &Server, agent: &Agent, task: &Value) {
    agent.beat(json!({"status": "healthy"})).await.problem(401, "INVALID_TOKEN");
    agent.complete(task).await.problem(401, "INVALID_TOKEN");
    assert_eq!(server.operator().agents().await, Vec::<Value>::new(), "it is hidden from lists");
    let id = id_of(task);
    let shown = server.operator().task(&id).await;
    assert_eq!((&shown["status"], &shown["attempt"]), (&json!("queued"), &json!(1)));
    assert_eq!(server.operator().outcomes(&id).await, ["released"], "it costs the task no attempt");
}

#[tokio::test]
async fn an_agent_that_deregisters_hands_its_tasks_back_and_its_token_is_dead() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    server.operator().submit(json!({"max_attempts": 1})).await;
    let task = agent.take().await;
    let body = json!({"reason": "maintenance", "graceful": true});
    let left = agent.call("/deregister").json(&body).send().await.expect(200);
    crate::harness::assert_shape(&left, &json!({"status": "success", "message": "<text>", "released": 1}));
    assert_gone(&server, &agent, &task).await;
    // Another agent may do it, although it had one attempt only.
    let other = server.agent("AGENT-B").await;
    let again = other.take().await;
    assert_eq!((id_of(&again), &again["attempt"]), (id_of(&task), &json!(2)));
}

#[tokio::test]
async fn an_agent_that_is_deleted_is_gone_the_same_way() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    server.operator().submit(json!({})).await;
    let task = agent.take().await;
    agent.delete().await.expect(204);
    assert_gone(&server, &agent, &task).await;
}

#[tokio::test]
async fn a_deregistered_identity_comes_back_under_its_id_in_the_next_epoch() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    agent.deregister().await.expect(200);
    let again = server.agent("AGENT-A").await;
    assert_eq!(again.id, agent.id);
    let detail = server.operator().agent(&again.id).await.expect(200);
    assert_eq!((&detail["epoch"], &detail["state"]), (&json!(2), &json!("online")));
    agent.beat(json!({"status": "healthy"})).await.problem(401, "INVALID_TOKEN");
    again.beat(json!({"status": "healthy"})).await.expect(200);
}

#[tokio::test]
async fn keys_and_secrets_belong_to_one_tenant_and_another_one_in_the_header_is_refused() {
    let server = Server::start().await;
    for tenant in [OTHER_TENANT, "not-a-uuid", ""] {
        let call = server.api.post(REGISTER).header("x-registration-token", REGISTRATION_SECRET);
        let refused = call.header("x-tenant-id", tenant).json(&registration("AGENT-A", json!({}))).send().await;
        refused.problem(403, "REGISTRATION_DENIED");
        let refused = server.operator().get("/api/v1/tasks").header("x-tenant-id", tenant).send().await;
        refused.problem(403, "FORBIDDEN");
    }
    assert_eq!(server.operator().agents().await, Vec::<Value>::new());
    let agent = server.agent("AGENT-A").await;
    let call = server.api.post(REGISTER).header("x-agent-token", &agent.token).header("x-tenant-id", OTHER_TENANT);
    call.json(&registration("AGENT-A", json!({}))).send().await.problem(403, "REGISTRATION_DENIED");
    let call = server.api.post(REGISTER).header("x-registration-token", REGISTRATION_SECRET);
    call.header("x-tenant-id", NIL_TENANT).json(&registration("AGENT-A", json!({}))).send().await.expect(201);
    server.operator().get("/api/v1/tasks").header("x-tenant-id", NIL_TENANT).send().await.expect(200);
}

#[tokio::test]
async fn tenants_do_not_see_each_others_agents_and_tasks() {
    let tenant = OTHER_TENANT.parse().expect("it is a uuid");
    let setup = Setup::memory().config(|config| {
        let mut key = OperatorKey::new(OPERATOR_KEY);
        key.tenant = tenant;
        config.operator_key = Some(key);
    });
    // The operator is of one tenant, the agents of the nil one.
    let server = setup.start().await;
    let agent = server.agent("AGENT-A").await;
    let task = server.operator().submit(json!({})).await;
    assert_eq!(agent.take_up_to(1).await, Vec::<Value>::new());
    assert_eq!(server.operator().agents().await, Vec::<Value>::new());
    server.operator().agent(&agent.id).await.problem(404, "AGENT_NOT_FOUND");
    assert_eq!(server.operator().task(&task).await["no_capable_agent"], true);
    let result = agent.report(&task, json!({"task_id": task, "status": "completed"})).await;
    result.problem(404, "TASK_NOT_FOUND");
}
