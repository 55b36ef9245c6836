//! An agent's token is replaced while the agent runs: an overlap, no lock-out, no way back for a stolen one
//! (docs/protocol.md sections 1 and 3).

use serde_json::{Value, json};

use crate::harness::{Agent, Answer, Server, Setup, assert_shape, id_of, registration};

const ROTATING: [&str; 5] = ["pull.v1", "progress.v1", "directives.v1", "cancel.v1", "rotate.v1"];

async fn rotating(server: &Server, name: &str) -> Agent {
    server.agent_with(name, json!({"features": ROTATING})).await
}

async fn rotate(agent: &Agent) -> Answer {
    agent.call("/token/rotate").send().await
}

/// The same agent with the token it just got.
fn after(agent: &Agent, rotated: &Value) -> Agent {
    let token = rotated["auth_token"].as_str().expect("it is a text").to_owned();
    Agent { token, ..agent.clone() }
}

async fn works(agent: &Agent) -> bool {
    let answer = agent.beat(json!({"status": "healthy"})).await;
    if answer.status == 401 {
        answer.problem(401, "INVALID_TOKEN");
        return false;
    }
    answer.expect(200);
    true
}

#[tokio::test]
async fn the_old_token_works_for_ten_minutes_and_leases_and_epoch_stay() {
    let server = Server::start_with_clock().await;
    let old = rotating(&server, "AGENT-A").await;
    server.operator().submit(json!({})).await;
    let task = old.take().await;
    let rotated = rotate(&old).await.expect(200);
    let shape = json!({
        "agent_id": old.id, "auth_token": "<text>", "previous_valid_until": "2027-01-15T08:10:00Z",
    });
    assert_shape(&rotated, &shape);
    let new = after(&old, &rotated);
    assert!(new.token.starts_with(&format!("eap_{}_", old.id)) && new.token != old.token);
    assert!(works(&new).await && works(&old).await);
    for _ in 0..599 {
        server.advance(1);
    }
    assert!(works(&old).await);
    server.advance(1);
    assert!(!works(&old).await);
    assert!(works(&new).await);
    let detail = server.operator().agent(&old.id).await.expect(200);
    assert_eq!((&detail["epoch"], &detail["leases"]), (&json!(1), &json!(1)));
    assert_eq!(new.complete(&task).await.expect(200)["duplicate"], false);
}

#[tokio::test]
async fn a_second_rotation_ends_the_oldest_token_at_once() {
    let server = Server::start_with_clock().await;
    let first = rotating(&server, "AGENT-A").await;
    let second = after(&first, &rotate(&first).await.expect(200));
    let third = after(&second, &rotate(&second).await.expect(200));
    assert!(!works(&first).await);
    assert!(works(&second).await && works(&third).await);
    server.advance(600);
    assert!(!works(&second).await && works(&third).await);
}

#[tokio::test]
async fn a_lost_answer_locks_nobody_out() {
    let server = Server::start_with_clock().await;
    let agent = rotating(&server, "AGENT-A").await;
    let lost = after(&agent, &rotate(&agent).await.expect(200));
    server.advance(60);
    let again = rotate(&agent).await.expect(200);
    assert_eq!(again["previous_valid_until"], "2027-01-15T08:10:00Z", "asking again prolongs nothing");
    let new = after(&agent, &again);
    assert!(!works(&lost).await, "nobody has that one");
    assert!(works(&new).await && works(&agent).await);
}

#[tokio::test]
async fn who_has_the_old_token_alone_cannot_turn_out_the_agent() {
    let server = Server::start_with_clock().await;
    let stolen = rotating(&server, "AGENT-A").await;
    let agent = after(&stolen, &rotate(&stolen).await.expect(200));
    assert!(works(&agent).await, "the answer came");
    let refused = rotate(&stolen).await.problem(403, "FORBIDDEN");
    assert_eq!(refused["detail"], "a newer token is in use: ask with that one");
    let call = server.api.post("/api/v1/agents/external/register").header("x-agent-token", &stolen.token);
    call.json(&registration("AGENT-A", json!({"features": ROTATING}))).send().await.problem(403, "REGISTRATION_DENIED");
    assert!(works(&agent).await);
    // A record that changes otherwise forgets nothing of that.
    agent.beat(json!({"status": "healthy", "draining": true})).await.expect(200);
    rotate(&stolen).await.problem(403, "FORBIDDEN");
}

#[tokio::test]
async fn registering_again_ends_both_tokens_at_once() {
    let server = Server::start_with_clock().await;
    let first = rotating(&server, "AGENT-A").await;
    let second = after(&first, &rotate(&first).await.expect(200));
    let third = rotating(&server, "AGENT-A").await;
    assert_eq!(third.id, first.id);
    assert!(!works(&first).await && !works(&second).await && works(&third).await);
    third.deregister().await.expect(200);
    rotate(&third).await.problem(401, "INVALID_TOKEN");
}

#[tokio::test]
async fn both_tokens_and_the_end_of_the_old_one_survive_a_restart() {
    let dir = tempfile::TempDir::new().expect("there is room");
    let file = dir.path().join("eap.db");
    let first = Setup::sqlite_at(&file).manual_clock().start().await;
    let old = rotating(&first, "AGENT-A").await;
    let new = after(&old, &rotate(&old).await.expect(200));
    let clock = first.clock();
    first.advance(599);
    first.stop().await;
    let second = Setup::sqlite_at(&file).clock(clock).start().await;
    let (old, new) = (Agent { api: second.api.clone(), ..old }, Agent { api: second.api.clone(), ..new });
    assert!(works(&old).await && works(&new).await);
    second.advance(1);
    assert!(!works(&old).await && works(&new).await);
}

fn directives(beat: &Value) -> Vec<Value> {
    beat["directives"].as_array().expect("directives are a list").clone()
}

#[tokio::test]
async fn an_operator_asks_for_a_rotation_and_the_agent_is_told_until_it_is_done() {
    let dir = tempfile::TempDir::new().expect("there is room");
    let file = dir.path().join("eap.db");
    let first = Setup::sqlite_at(&file).start().await;
    let agent = rotating(&first, "AGENT-A").await;
    let path = format!("/api/v1/agents/{}/rotate-token", agent.id);
    let asked = first.operator().post(&path).send().await.expect(200);
    assert_shape(&asked, &json!({"agent_id": agent.id, "directive_id": "<uuid>", "asked_at": "<time>"}));
    assert_eq!(first.operator().post(&path).send().await.expect(200), asked, "once is enough");
    let told = json!([{"id": asked["directive_id"], "type": "rotate_token"}]);
    let beat = agent.beat(json!({"status": "healthy"})).await.expect(200);
    assert_eq!(json!(directives(&beat)), told);
    let acknowledging = json!({"status": "healthy", "ack": [asked["directive_id"]]});
    let beat = agent.beat(acknowledging).await.expect(200);
    assert_eq!(directives(&beat), Vec::<Value>::new());
    first.stop().await;
    let second = Setup::sqlite_at(&file).start().await;
    let agent = Agent { api: second.api.clone(), ..agent };
    let beat = agent.beat(json!({"status": "healthy"})).await.expect(200);
    assert_eq!(json!(directives(&beat)), told, "a restart forgets no wish");
    let shown = second.operator().agent(&agent.id).await.expect(200);
    assert_eq!(shown["rotation_asked_at"], asked["asked_at"]);
    let agent = after(&agent, &rotate(&agent).await.expect(200));
    let beat = agent.beat(json!({"status": "healthy"})).await.expect(200);
    assert_eq!(directives(&beat), Vec::<Value>::new());
    assert_eq!(second.operator().agent(&agent.id).await.expect(200).get("rotation_asked_at"), None);
    // A registration brings a new token as well.
    second.operator().post(&path).send().await.expect(200);
    let again = rotating(&second, "AGENT-A").await;
    let beat = again.beat(json!({"status": "healthy"})).await.expect(200);
    assert_eq!(directives(&beat), Vec::<Value>::new());
}

#[tokio::test]
async fn an_agent_that_would_not_be_told_is_not_asked() {
    let server = Server::start().await;
    let (plain, peer) = (server.agent("AGENT-A").await, server.older_peer("AGENT-OLD").await);
    for agent in [&plain, &peer] {
        let path = format!("/api/v1/agents/{}/rotate-token", agent.id);
        assert_eq!(server.operator().post(&path).send().await.fields(), ["path.agent_id"]);
        // By itself it may.
        let agent = after(agent, &rotate(agent).await.expect(200));
        server.operator().submit(json!({})).await;
        assert!(!id_of(&agent.take().await).is_empty());
    }
    plain.deregister().await.expect(200);
    let gone = format!("/api/v1/agents/{}/rotate-token", plain.id);
    server.operator().post(&gone).send().await.problem(404, "AGENT_NOT_FOUND");
}
