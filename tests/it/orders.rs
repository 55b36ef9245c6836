//! What operators ask of agents: to take nothing new, to take work again, to beat at another interval
//! (docs/protocol.md sections 1 and 3).

use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Agent, Answer, OPERATOR_KEY, Server, Setup, assert_shape, id_of, in_time};

async fn order(server: &Server, agent: &Agent, what: &str, body: Option<Value>) -> Answer {
    server.operator().post(&format!("/api/v1/agents/{}/{what}", agent.id)).maybe_json(body.as_ref()).send().await
}

async fn pace(server: &Server, agent: &Agent, seconds: impl Into<Value>) -> Answer {
    let call = server.api.call(Method::PUT, &format!("/api/v1/agents/{}/interval", agent.id)).bearer(OPERATOR_KEY);
    call.json(&json!({"heartbeat_interval_seconds": seconds.into()})).send().await
}

async fn beat(agent: &Agent, ack: &[&Value]) -> Value {
    agent.beat(json!({"status": "healthy", "ack": ack})).await.expect(200)
}

async fn state(server: &Server, agent: &Agent) -> Value {
    server.operator().agent(&agent.id).await.expect(200)["state"].clone()
}

async fn refusals(server: &Server, task: &str) -> Value {
    let shown = server.operator().get(&format!("/api/v1/tasks/{task}/explain")).send().await.expect(200);
    shown["candidates"][0]["refusals"].clone()
}

#[tokio::test]
async fn a_drained_agent_gets_nothing_new_at_once_and_its_poll_is_served_once_it_is_resumed() {
    for setup in [Setup::memory(), Setup::sqlite()] {
        let server = setup.start().await;
        let agent = server.agent("AGENT-A").await;
        let poll = server.park(&agent, "/tasks/lease", Some(json!({"request_id": "r", "wait_seconds": 30}))).await;
        let drained = order(&server, &agent, "drain", Some(json!({"reason": "an upgrade"}))).await.expect(200);
        assert_eq!((&drained["agent_id"], &drained["state"]), (&json!(agent.id), &json!("draining")));
        let shape = json!({"asked_at": "<time>", "reason": "an upgrade", "acknowledged": false});
        assert_shape(&drained["drain"], &shape);
        let id = server.operator().submit(json!({})).await;
        assert_eq!(agent.take_up_to(1).await, Vec::<Value>::new());
        assert_eq!(refusals(&server, &id).await, json!([{"code": "drained"}]));
        assert!(!poll.is_finished());
        let again = order(&server, &agent, "drain", Some(json!({"reason": "another"}))).await.expect(200);
        assert_eq!(again["drain"], drained["drain"], "it is drained already");
        let resumed = order(&server, &agent, "resume", None).await.expect(200);
        assert_eq!((&resumed["state"], resumed.get("drain")), (&json!("online"), None));
        let answer = in_time("the poll is answered", poll).await.expect("a poll does not panic").expect(200);
        assert_eq!(id_of(&answer["tasks"][0]), id);
        order(&server, &agent, "resume", None).await.expect(200);
        server.stop().await;
    }
}

#[tokio::test]
async fn it_keeps_what_it_holds_and_is_told_until_it_has_heard() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    server.operator().submit(json!({})).await;
    let task = agent.take().await;
    assert_eq!(beat(&agent, &[]).await["directives"], json!([]));
    order(&server, &agent, "drain", Some(json!({"reason": "an upgrade"}))).await.expect(200);
    let told = beat(&agent, &[]).await;
    let directive = &told["directives"][0];
    assert_shape(directive, &json!({"id": "<text>", "type": "drain", "reason": "an upgrade"}));
    assert_eq!(told["leases"][0]["lost"], Value::Null, "its lease is renewed");
    assert_eq!(beat(&agent, &[]).await["directives"][0], *directive, "it has not heard");
    let report = agent.progress(&id_of(&task), json!({"seq": 1, "progress": 0.5})).await.expect(200);
    assert_eq!(report["directives"][0], *directive, "told on the next of any channel");
    assert_eq!(beat(&agent, &[&directive["id"]]).await["directives"], json!([]));
    assert_eq!(beat(&agent, &[]).await["directives"], json!([]), "it has heard");
    let detail = server.operator().agent(&agent.id).await.expect(200);
    assert_eq!((&detail["drain"]["acknowledged"], &detail["leases"]), (&json!(true), &json!(1)));
    agent.complete(&task).await.expect(200);
    order(&server, &agent, "resume", None).await.expect(200);
    let resume = beat(&agent, &[]).await["directives"][0].clone();
    assert_eq!(resume["type"], "resume");
    assert_eq!(beat(&agent, &[&resume["id"], &directive["id"]]).await["directives"], json!([]));
    assert_eq!(beat(&agent, &[]).await["directives"], json!([]));
    let mut events = server.operator().get(&format!("/api/v1/events?after=0&agent_id={}", agent.id)).open().await;
    let mut text = String::new();
    while !text.contains("agent.resume_asked") {
        let chunk = in_time("the stream goes on", events.chunk()).await.expect("it is whole").expect("it does not end");
        text.push_str(std::str::from_utf8(&chunk).expect("pieces are whole events"));
    }
    assert!(text.contains("agent.drain_asked"), "{text}");
}

#[tokio::test]
async fn it_stays_drained_over_restarts_of_both_sides_until_it_leaves() {
    let dir = TempDir::new().expect("there is room for a temporary directory");
    let path = dir.path().join("eap.db");
    let first = Setup::sqlite_at(&path).start().await;
    let agent = first.agent("AGENT-A").await;
    order(&first, &agent, "drain", None).await.expect(200);
    let directive = beat(&agent, &[]).await["directives"][0]["id"].clone();
    beat(&agent, &[&directive]).await;
    first.stop().await;
    let server = Setup::sqlite_at(&path).start().await;
    let agent = Agent { api: server.api.clone(), ..agent };
    server.operator().submit(json!({})).await;
    assert_eq!(agent.take_up_to(1).await, Vec::<Value>::new());
    assert_eq!(beat(&agent, &[]).await["directives"], json!([]));
    // Another process, which has not heard.
    let agent = server.agent("AGENT-A").await;
    assert_eq!((state(&server, &agent).await, agent.take_up_to(1).await), (json!("draining"), vec![]));
    assert_eq!(beat(&agent, &[]).await["directives"][0]["id"], directive);
    agent.deregister().await.expect(200);
    order(&server, &agent, "drain", None).await.problem(404, "AGENT_NOT_FOUND");
    let back = server.agent("AGENT-A").await;
    assert_eq!((&back.id, state(&server, &back).await), (&agent.id, json!("online")));
    back.take().await;
}

#[tokio::test]
async fn an_agent_that_understands_no_directives_is_held_back_all_the_same() {
    let server = Server::start().await;
    let peer = server.older_peer("AGENT-OLD").await;
    order(&server, &peer, "drain", None).await.expect(200);
    let id = server.operator().submit(json!({})).await;
    assert_eq!(peer.take_up_to(1).await, Vec::<Value>::new());
    peer.beat(json!({"status": "healthy"})).await.expect(204);
    assert_eq!(refusals(&server, &id).await, json!([{"code": "drained"}]));
    pace(&server, &peer, 5).await.problem(422, "VALIDATION_ERROR");
    order(&server, &peer, "resume", None).await.expect(200);
    peer.take().await;
    peer.beat(json!({"status": "healthy"})).await.expect(204);
}

#[tokio::test]
async fn what_a_drained_agent_hands_back_costs_the_task_nothing() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let id = server.operator().submit(json!({})).await;
    agent.take().await;
    order(&server, &agent, "drain", None).await.expect(200);
    agent.release(&id, Some(&json!({"draining": true}))).await.expect(200);
    let shown = server.operator().task(&id).await;
    assert_eq!((&shown["status"], shown.get("run_at")), (&json!("queued"), None), "without back-off");
    assert_eq!(server.operator().history(&id).await["attempts"][0]["message"], "its agent is draining");
    // Its own word and the operator's are two: the one does not end the other.
    agent.beat(json!({"status": "healthy", "draining": true})).await.expect(200);
    agent.beat(json!({"status": "healthy", "draining": false})).await.expect(200);
    assert_eq!(agent.take_up_to(1).await, Vec::<Value>::new());
}

#[tokio::test]
async fn an_agent_beats_at_the_interval_that_it_is_asked_for_and_its_silence_is_judged_by_it() {
    let server = Server::start_with_clock().await;
    let agent = server.agent("AGENT-A").await;
    assert_eq!(agent.reply["heartbeat_interval_seconds"], 30);
    let asked = pace(&server, &agent, 300).await.expect(200);
    assert_eq!(asked["interval"], json!({"heartbeat_interval_seconds": 300, "acknowledged": false}));
    let told = beat(&agent, &[]).await;
    assert_eq!(told["heartbeat_interval_seconds"], 300);
    let directive = &told["directives"][0];
    let shape = json!({"id": "<text>", "type": "set_interval", "heartbeat_interval_seconds": 300});
    assert_shape(directive, &shape);
    assert_eq!(beat(&agent, &[&directive["id"]]).await["directives"], json!([]));
    server.advance(449);
    assert_eq!(state(&server, &agent).await, "online");
    server.advance(1);
    assert_eq!(state(&server, &agent).await, "suspect");
    // Faster again: until it has heard, it may go by the 300 s.
    pace(&server, &agent, 4).await.expect(200);
    let directive = beat(&agent, &[]).await["directives"][0]["id"].clone();
    server.advance(100);
    assert_eq!(state(&server, &agent).await, "online");
    beat(&agent, &[&directive]).await;
    server.advance(11);
    assert_eq!(state(&server, &agent).await, "suspect");
    server.advance(1);
    assert_eq!(state(&server, &agent).await, "offline");
    // The registration says it to the next process.
    let again = server.agent("AGENT-A").await;
    assert_eq!((&again.id, &again.reply["heartbeat_interval_seconds"]), (&agent.id, &json!(4)));
    assert_eq!(beat(&again, &[]).await["directives"], json!([]));
}

#[tokio::test]
async fn an_order_that_makes_no_sense_is_refused() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    for seconds in [json!(0), json!(3601), json!(-1), json!("soon"), Value::Null] {
        let fields = pace(&server, &agent, seconds.clone()).await.fields();
        assert_eq!(fields, ["body.heartbeat_interval_seconds"], "{seconds}");
    }
    let long = json!({"reason": "x".repeat(4097)});
    assert_eq!(order(&server, &agent, "drain", Some(long)).await.fields(), ["body.reason"]);
    let nobody = Agent { id: "nobody".to_owned(), ..agent.clone() };
    order(&server, &nobody, "drain", Some(json!({"reason": 1}))).await.problem(404, "AGENT_NOT_FOUND");
    order(&server, &nobody, "resume", None).await.problem(404, "AGENT_NOT_FOUND");
    pace(&server, &nobody, 0).await.problem(404, "AGENT_NOT_FOUND");
}
