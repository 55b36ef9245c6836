//! Agents over WebSockets (docs/protocol.md section 3), frame by frame.

use std::sync::Arc;
use std::time::Duration;

use eap_orchestrator::SystemClock;
use eap_orchestrator::store::faulty::{Fault, FaultyStore, StoreCall};
use eap_orchestrator::store::{MemoryStore, Repository};
use serde_json::{Value, json};

use crate::harness::{Agent, Server, Setup, Socket, eventually};

async fn agent(server: &Server) -> Agent {
    server.agent_with("AGENT-WS", json!({"transports": ["ws", "pull"], "max_concurrent_tasks": 10})).await
}

/// Leases of the agent, as an operator sees them.
async fn held(server: &Server, agent: &Agent) -> usize {
    let detail = server.operator().agent(&agent.id).await.expect(200);
    detail["held"].as_array().map_or(0, Vec::len)
}

/// A task, the socket of the agent that holds it now, and what was assigned.
async fn holding(server: &Server, agent: &Agent) -> (String, Socket, Value) {
    let id = server.operator().submit(json!({})).await;
    let mut socket = Socket::greet(server, agent, &[]).await;
    socket.send("agent.credit", json!({"tasks": 1})).await;
    let task = socket.assigned().await.remove(0);
    (id, socket, task)
}

#[tokio::test]
async fn tasks_come_as_far_as_there_is_credit_and_results_are_acknowledged_once_they_are_kept() {
    let server = Server::start().await;
    let agent = agent(&server).await;
    let mut socket = Socket::greet(&server, &agent, &[]).await;
    let mut tasks = Vec::new();
    for _ in 0..3 {
        tasks.push(server.operator().submit(json!({})).await);
    }
    socket.send("agent.credit", json!({"tasks": 1})).await;
    let first = socket.assigned().await;
    assert_eq!((first.len(), &first[0]["task_id"]), (1, &json!(tasks[0])));
    // Nothing more comes for that: the answer to a heartbeat is the next frame.
    let beat = socket.send("agent.heartbeat", json!({"status": "healthy"})).await;
    let frame = socket.frame().await;
    assert_eq!((&frame["type"], &frame["ref"]), (&json!("heartbeat"), &json!(beat)), "{frame}");
    assert_eq!(frame["payload"]["leases"][0]["task_id"], json!(tasks[0]));

    assert_eq!(socket.complete(&first[0]).await["status"], json!("accepted"));
    assert_eq!(server.operator().status(&tasks[0]).await, "completed");
    assert_eq!(socket.complete(&first[0]).await["duplicate"], json!(true));
    socket.send("agent.credit", json!({"tasks": 5})).await;
    let mut rest = socket.assigned().await;
    if rest.len() < 2 {
        rest.extend(socket.assigned().await);
    }
    let ids: Vec<&Value> = rest.iter().map(|task| &task["task_id"]).collect();
    assert_eq!(ids, [&json!(tasks[1]), &json!(tasks[2])]);
    // Three places are left.
    let late = server.operator().submit(json!({})).await;
    assert_eq!(socket.assigned().await[0]["task_id"], json!(late));
}

#[tokio::test]
async fn what_the_agent_holds_and_does_not_list_is_brought_again() {
    let server = Server::start().await;
    let agent = agent(&server).await;
    server.operator().submit(json!({})).await;
    server.operator().submit(json!({})).await;
    let mut socket = Socket::greet(&server, &agent, &[]).await;
    socket.send("agent.credit", json!({"tasks": 2})).await;
    let mut tasks = socket.assigned().await;
    if tasks.len() < 2 {
        tasks.extend(socket.assigned().await);
    }
    drop(socket);
    let mut socket = Socket::greet(&server, &agent, &[&tasks[0]]).await;
    let again = socket.again().to_vec();
    assert_eq!(again.len(), 1, "{again:?}");
    for member in ["task_id", "lease_id", "attempt"] {
        assert_eq!(again[0][member], tasks[1][member]);
    }
    // It used no credit, and there is none: nothing else comes.
    server.operator().submit(json!({})).await;
    socket.send("agent.heartbeat", json!({"status": "healthy"})).await;
    assert_eq!(socket.payload("heartbeat").await["leases"].as_array().map(Vec::len), Some(2));
    assert_eq!(socket.complete(&again[0]).await["status"], json!("accepted"));
}

#[tokio::test]
async fn what_was_on_its_way_to_a_socket_that_broke_is_not_lost() {
    let server = Server::start().await;
    let agent = agent(&server).await;
    let mut socket = Socket::greet(&server, &agent, &[]).await;
    socket.send("agent.credit", json!({"tasks": 1})).await;
    socket.send("agent.heartbeat", json!({"status": "healthy"})).await;
    socket.payload("heartbeat").await;
    drop(socket);
    let task = server.operator().submit(json!({})).await;
    let mut socket = Socket::greet(&server, &agent, &[]).await;
    // Leased for the older one, or not yet leased.
    let mut brought = socket.again().to_vec();
    if brought.is_empty() {
        socket.send("agent.credit", json!({"tasks": 1})).await;
        brought = socket.assigned().await;
    }
    assert_eq!(brought[0]["task_id"], json!(task));
}

#[tokio::test]
async fn a_newer_connection_takes_the_place_of_an_older_one_and_its_leases() {
    let server = Server::start().await;
    let agent = agent(&server).await;
    server.operator().submit(json!({})).await;
    let mut older = Socket::greet(&server, &agent, &[]).await;
    older.send("agent.credit", json!({"tasks": 1})).await;
    let task = older.assigned().await.remove(0);
    let mut newer = Socket::greet(&server, &agent, &[&task]).await;
    assert_eq!(older.close_code().await, 4409);
    assert_eq!(newer.complete(&task).await["status"], json!("accepted"));
}

#[tokio::test]
async fn a_cancel_comes_at_once_and_once() {
    let server = Server::start().await;
    let agent = agent(&server).await;
    let (id, mut socket, task) = holding(&server, &agent).await;
    server.operator().cancel(&id, Some(&json!({"reason": "not wanted"}))).await.expect(200);
    let told = socket.payload("task.cancel").await;
    assert_eq!(
        (&told["task_id"], &told["lease_id"], &told["reason"]),
        (&json!(id), &task["lease_id"], &json!("not wanted"))
    );
    // A heartbeat repeats it as any directive, until it is acknowledged by its id.
    socket.send("agent.heartbeat", json!({"status": "healthy", "tasks": [task_of(&task)]})).await;
    let beat = socket.payload("heartbeat").await;
    assert_eq!(beat["directives"][0]["id"], told["id"]);
    socket.send("agent.heartbeat", json!({"status": "healthy", "tasks": [], "ack": [told["id"]]})).await;
    assert_eq!(socket.payload("heartbeat").await["directives"], json!([]));
}

fn task_of(task: &Value) -> Value {
    json!({"task_id": task["task_id"], "lease_id": task["lease_id"]})
}

#[tokio::test]
async fn a_task_goes_back_and_progress_is_shown() {
    let server = Server::start().await;
    let agent = agent(&server).await;
    let (id, mut socket, task) = holding(&server, &agent).await;
    let mut report = task_of(&task);
    report["seq"] = json!(1);
    report["progress"] = json!(0.5);
    socket.send("task.progress", report).await;
    assert!(socket.payload("ack").await["lease_expires_in_ms"].is_u64());
    assert_eq!(server.operator().task(&id).await["progress"]["progress"], json!(0.5));
    let mut release = task_of(&task);
    release["reason"] = json!("no room after all");
    let sent = socket.send("task.rejected", release).await;
    let answer = socket.frame().await;
    assert_eq!((&answer["type"], &answer["ref"]), (&json!("ack"), &json!(sent)), "{answer}");
    assert_eq!(server.operator().outcomes(&id).await, ["released"]);
    assert_eq!(held(&server, &agent).await, 0);
}

#[tokio::test]
async fn refusals_name_their_frame_and_end_nothing() {
    let server = Server::start().await;
    let agent = agent(&server).await;
    let mut socket = Socket::greet(&server, &agent, &[]).await;
    socket.send_text("this is no JSON".to_owned()).await;
    let error = socket.frame().await;
    assert_eq!((&error["type"], &error["payload"]["code"]), (&json!("error"), &json!("MALFORMED_JSON")));
    assert_eq!(error.get("ref"), None);
    let wrong = [
        ("agent.dance", json!({}), 422, "VALIDATION_ERROR"),
        ("agent.credit", json!({"tasks": 0}), 422, "VALIDATION_ERROR"),
        ("agent.credit", json!({"tasks": "many"}), 422, "VALIDATION_ERROR"),
        ("agent.heartbeat", json!({"status": "dancing"}), 422, "VALIDATION_ERROR"),
        ("task.assigned", json!({"tasks": []}), 422, "VALIDATION_ERROR"),
        ("task.progress", json!({"seq": 1}), 404, "TASK_NOT_FOUND"),
        ("task.released", json!({"task_id": "0198c0de-0002-7b00-8000-0000000000b1"}), 404, "TASK_NOT_FOUND"),
    ];
    for (kind, payload, status, code) in wrong {
        let sent = socket.send(kind, payload).await;
        let error = socket.frame().await;
        assert_eq!((&error["type"], &error["ref"]), (&json!("error"), &json!(sent)), "{kind}: {error}");
        let problem = &error["payload"];
        assert_eq!((&problem["status"], &problem["code"]), (&json!(status), &json!(code)), "{kind}: {error}");
    }
    socket.send("agent.heartbeat", json!({"status": "healthy"})).await;
    socket.payload("heartbeat").await;
}

#[tokio::test]
async fn calls_are_answered_in_their_order() {
    let server = Server::start().await;
    let agent = agent(&server).await;
    let mut socket = Socket::greet(&server, &agent, &[]).await;
    let mut sent = Vec::new();
    for number in 0..40 {
        sent.push(match number % 2 {
            0 => socket.send("agent.heartbeat", json!({"status": "healthy"})).await,
            _ => socket.send("task.result", json!({"results": []})).await,
        });
    }
    for number in sent {
        assert_eq!(socket.frame().await["ref"], json!(number));
    }
}

#[tokio::test]
async fn a_handshake_that_is_none_or_of_a_stranger_is_refused() {
    let server = Server::start().await;
    let agent = agent(&server).await;
    let path = format!("/api/v1/agents/external/{}/ws", agent.id);
    let plain = server.api.get(&path).header("x-agent-token", &agent.token).send().await;
    assert_eq!((plain.status, &plain.body["code"]), (426, &json!("UPGRADE_REQUIRED")));
    let stranger = Agent { token: "eap_x_wrong".to_owned(), ..agent.clone() };
    let refused = Socket::try_open(&server, &stranger, &[]).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.0, 401);
    let other = server.agent("AGENT-OTHER").await;
    let crossed = Agent { token: other.token.clone(), ..agent.clone() };
    let refused = Socket::try_open(&server, &crossed, &[]).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.0, 404);
    let browser = [("sec-websocket-protocol", "eap.v1+json"), ("origin", "https://elsewhere.example")];
    let refused = Socket::try_open(&server, &agent, &browser).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.0, 403);
    let without = Socket::try_open(&server, &agent, &[]).await.expect("it is a WebSocket");
    assert_eq!(without.close_code().await, 4426);
    let mut silent = Socket::open(&server, &agent).await;
    silent.send("agent.credit", json!({"tasks": 1})).await;
    assert_eq!(silent.close_code().await, 4408);
}

#[tokio::test]
async fn an_agent_has_few_connections_that_say_nothing_and_none_that_says_too_much() {
    let server = Server::start().await;
    let agent = agent(&server).await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(Socket::open(&server, &agent).await);
    }
    let headers = [("sec-websocket-protocol", "eap.v1+json")];
    let refused = Socket::try_open(&server, &agent, &headers).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.0, 429);
    drop(silent);
    eventually("their places are free", async || Socket::try_open(&server, &agent, &headers).await.ok().map(drop))
        .await;
    let mut socket = Socket::greet(&server, &agent, &[]).await;
    socket.send("agent.heartbeat", json!({"status": "healthy", "x": "y".repeat(1 << 20)})).await;
    assert_eq!(socket.payload("error").await["code"], "PAYLOAD_TOO_LARGE", "as that call by HTTP");
    socket.send_text("z".repeat((1 << 20) + (64 << 10) + 1)).await;
    assert_eq!(socket.close_code().await, 1009);
}

#[tokio::test]
async fn a_server_that_stops_says_so_and_answers_what_is_under_way() {
    let mut server = Server::start().await;
    let agent = agent(&server).await;
    let socket = Socket::greet(&server, &agent, &[]).await;
    server.begin_stop();
    assert_eq!(socket.close_code().await, 1012);
    let report = server.stop().await;
    assert_eq!((report.connections_cut, report.writes_cut), (0, false));
}

/// The agent goes on elsewhere: a lease that it was never told of would have to lapse.
#[tokio::test]
async fn a_server_that_stops_brings_what_it_is_leasing() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new(Arc::new(SystemClock::new())))));
    let mut server = Setup::store(Arc::clone(&store) as Arc<dyn Repository>).start().await;
    let agent = agent(&server).await;
    let mut socket = Socket::greet(&server, &agent, &[]).await;
    let id = server.operator().submit(json!({})).await;
    store.inject(StoreCall::Claim, Fault::Slow(Duration::from_millis(300)));
    socket.send("agent.credit", json!({"tasks": 1})).await;
    eventually("it is being leased", async || (store.counts().slow == 1).then_some(())).await;
    server.begin_stop();
    assert_eq!(socket.assigned().await[0]["task_id"], json!(id));
    assert_eq!(socket.close_code().await, 1012);
}

/// For an agent that goes on by long-poll: what was on its way when the socket broke has not to wait for its lease to end.
#[tokio::test]
async fn what_a_poll_does_not_list_is_brought_again() {
    let server = Server::start().await;
    let agent = agent(&server).await;
    let mut socket = Socket::greet(&server, &agent, &[]).await;
    server.operator().submit(json!({})).await;
    socket.send("agent.credit", json!({"tasks": 1})).await;
    let lost = socket.assigned().await;
    drop(socket);
    server.operator().submit(json!({})).await;
    let poll = |id: &str, held: Value| {
        agent.call("/tasks/lease").json(&json!({"request_id": id, "max_tasks": 5, "held": held}))
    };
    let again = poll("one", json!([])).send().await.expect(200)["tasks"].take();
    assert_eq!(again.as_array().map(Vec::len), Some(1));
    for member in ["task_id", "lease_id", "attempt"] {
        assert_eq!(again[0][member], lost[0][member]);
    }
    let next = poll("two", json!([lost[0]["lease_id"]])).send().await.expect(200)["tasks"].take();
    assert_eq!(next.as_array().map(Vec::len), Some(1));
    assert_ne!(next[0]["task_id"], lost[0]["task_id"]);
}

/// What an older process held is the matter of the first heartbeat, which ends it: it must not begin again meanwhile.
#[tokio::test]
async fn what_an_older_registration_got_is_not_brought_to_the_next() {
    let server = Server::start().await;
    let agent = server.agent_with("AGENT-WS", json!({"transports": ["ws"], "instance_id": "one"})).await;
    server.operator().submit(json!({})).await;
    let mut socket = Socket::greet(&server, &agent, &[]).await;
    socket.send("agent.credit", json!({"tasks": 1})).await;
    assert_eq!(socket.assigned().await[0]["attempt"], json!(1));
    let again = server.agent_with("AGENT-WS", json!({"transports": ["ws"], "instance_id": "one"})).await;
    let mut socket = Socket::greet(&server, &again, &[]).await;
    assert!(socket.again().is_empty());
    socket.send("agent.heartbeat", json!({"status": "healthy", "tasks": []})).await;
    socket.payload("heartbeat").await;
    socket.send("agent.credit", json!({"tasks": 1})).await;
    assert_eq!(socket.assigned().await[0]["attempt"], json!(2));
}

#[tokio::test]
async fn an_agent_that_leaves_or_registers_again_loses_its_socket() {
    let server = Server::start().await;
    let agent = server.agent_with("AGENT-WS", json!({"transports": ["ws"], "instance_id": "one"})).await;
    let socket = Socket::greet(&server, &agent, &[]).await;
    let again = server.agent_with("AGENT-WS", json!({"transports": ["ws"], "instance_id": "one"})).await;
    assert_eq!(again.id, agent.id);
    assert_eq!(socket.close_code().await, 4401);
    let socket = Socket::greet(&server, &again, &[]).await;
    again.call("/deregister").send().await.expect(200);
    assert_eq!(socket.close_code().await, 4404);
}

#[tokio::test]
async fn polls_and_the_socket_together_never_hold_more_than_the_agent_may() {
    let server = Server::start().await;
    let agent = server.agent_with("AGENT-WS", json!({"transports": ["ws", "pull"], "max_concurrent_tasks": 3})).await;
    let mut socket = Socket::greet(&server, &agent, &[]).await;
    for _ in 0..6 {
        server.operator().submit(json!({})).await;
    }
    let polled = agent.take_up_to(1).await;
    socket.send("agent.credit", json!({"tasks": 10})).await;
    let mut brought = socket.assigned().await;
    while polled.len() + brought.len() < 3 {
        brought.extend(socket.assigned().await);
    }
    assert_eq!(agent.take_up_to(5).await, Vec::<Value>::new());
    assert_eq!(polled.len() + brought.len(), 3);
    eventually("three are held", async || (held(&server, &agent).await == 3).then_some(())).await;
    // Room for one more, and it comes by the socket.
    socket.complete(&brought[0]).await;
    assert_eq!(socket.assigned().await.len(), 1);
}
