//! Output that is told in parts while a task runs, and handlers that tell nothing for too long.

use serde_json::{Value, json};

use crate::harness::{Agent, Operator, Server, Setup, assert_shape, id_of};

const LIMIT: usize = 1 << 20;
const LARGEST: usize = 1 << 16;

async fn holding_on(server: &Server, members: Value) -> (Agent, Value) {
    let agent = server.agent("AGENT-A").await;
    server.operator().submit(members).await;
    let task = agent.take().await;
    (agent, task)
}

async fn holding(members: Value) -> (Server, Agent, Value) {
    let server = Server::start_with_clock().await;
    let (agent, task) = holding_on(&server, members).await;
    (server, agent, task)
}

/// The events of one task from the first on, as a watcher that begins anew is told them, up to one of the kind `last`.
async fn told(operator: &Operator, id: &str, last: &str) -> Vec<Value> {
    let mut response = operator.get(&format!("/api/v1/events?after=0&task_id={id}")).open().await;
    let mut text = String::new();
    while !text.contains(&format!("event: {last}\n")) || !text.ends_with("\n\n") {
        let chunk = crate::harness::in_time("the stream goes on", response.chunk()).await.expect("it is whole");
        text.push_str(std::str::from_utf8(&chunk.expect("it does not end")).expect("pieces are whole events"));
    }
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).expect("the data is JSON")).collect()
}

fn of_kind<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["kind"] == kind).collect()
}

fn outputs<'a>(events: &[&'a Value]) -> Vec<&'a str> {
    events.iter().map(|event| event["detail"]["output_delta"].as_str().expect("it has output")).collect()
}

#[tokio::test]
async fn output_is_told_to_watchers_in_order_each_part_once_and_renews_the_lease() {
    for setup in [Setup::memory(), Setup::sqlite()] {
        let server = setup.manual_clock().start().await;
        let (agent, task) = holding_on(&server, json!({})).await;
        let id = id_of(&task);
        agent.progress(&id, json!({"seq": 1, "progress": 0.5, "message": "reading"})).await.expect(200);
        server.advance(30);
        let body = json!({"seq": 2, "output_delta": "Guten "});
        let reply = agent.progress(&id, body.clone()).await.expect(200);
        assert_shape(&reply, &json!({"lease_expires_in_ms": 60_000, "directives": []}));
        // Its answer was lost: the same again.
        agent.progress(&id, body).await.expect(200);
        agent.progress(&id, json!({"seq": 3, "progress": 0.75, "output_delta": "Morgen\n"})).await.expect(200);
        agent.progress(&id, json!({"seq": 2, "output_delta": "an older one"})).await.expect(200);

        agent.complete(&task).await.expect(200);
        let all = told(&server.operator(), &id, "task.completed").await;
        let events = of_kind(&all, "task.output_delta");
        assert_eq!(outputs(&events), ["Guten ", "Morgen\n"]);
        let shape = json!({
            "seq": "<count>", "at": "<time>", "kind": "task.output_delta", "task_id": id, "agent_id": agent.id,
            "attempt": 1, "detail": {"output_delta": "Guten "},
        });
        assert_shape(events[0], &shape);
        let details: Vec<_> = of_kind(&all, "task.progress").into_iter().map(|event| &event["detail"]).collect();
        assert_eq!(details, [&json!({"progress": 0.5, "message": "reading"}), &json!({"progress": 0.75})]);
        let history = server.operator().history(&id).await;
        let kinds: Vec<_> = history["events"].as_array().expect("a list").iter().map(|event| &event["kind"]).collect();
        assert_eq!(kinds, ["task.submitted", "task.leased", "task.progress", "task.progress", "task.completed"]);
        server.stop().await;
    }
}

#[tokio::test]
async fn an_attempt_tells_a_mebibyte_and_not_more() {
    let (server, agent, task) = holding(json!({})).await;
    let id = id_of(&task);
    let part = "x".repeat(LARGEST);
    for seq in 1..=LIMIT / LARGEST {
        agent.progress(&id, json!({"seq": seq, "output_delta": part})).await.expect(200);
    }
    let one_more = json!({"seq": 100, "progress": 0.9, "output_delta": "y"});
    let refused = agent.progress(&id, one_more).await.problem(413, "PAYLOAD_TOO_LARGE");
    assert_eq!(refused["detail"], "an attempt may tell at most 1048576 bytes of output while it runs");
    assert_eq!(server.operator().task(&id).await.get("progress"), Some(&json!({})), "nothing of it was taken");
    agent.progress(&id, json!({"seq": 100, "progress": 0.9})).await.expect(200);
    agent.release(&id, Some(&json!({"retry_after_seconds": 0}))).await.expect(200);
    agent.take().await;
    agent.progress(&id, json!({"seq": 1, "output_delta": "another attempt"})).await.expect(200);
}

#[tokio::test]
async fn a_handler_that_tells_nothing_for_too_long_has_run_out_of_time() {
    for setup in [Setup::memory(), Setup::sqlite()] {
        let server = setup.manual_clock().start().await;
        let (agent, task) = holding_on(&server, json!({"inactivity_seconds": 40, "max_attempts": 1})).await;
        assert_eq!(task["inactivity_seconds"], 40);
        let (id, lease) = (id_of(&task), task["lease_id"].clone());
        let held = json!({"status": "healthy", "tasks": [{"task_id": id, "lease_id": lease, "progress": 0.5}]});
        server.advance(30);
        agent.progress(&id, json!({"seq": 1, "progress": 0.5})).await.expect(200);
        server.advance(39);
        // It renews the lease, and what it says of progress is known already.
        assert_eq!(agent.beat(held.clone()).await.expect(200)["leases"][0]["expires_in_ms"], 60_000);
        server.advance(1);
        let failed = server.operator().until(&id, "failed").await;
        assert_eq!(failed["reason"], "inactivity: the attempt told nothing for 40 s");
        assert_eq!(failed["result"]["error_code"], "TIMEOUT");
        let beat = agent.beat(held).await.expect(200);
        let directive = json!({
            "id": lease, "type": "cancel", "task_id": id, "lease_id": lease, "cause": "inactivity",
            "reason": "inactivity: the attempt told nothing for 40 s",
        });
        assert_eq!(beat["directives"], json!([directive]));
        server.stop().await;
    }
}

#[tokio::test]
async fn output_and_progress_that_moves_in_a_heartbeat_are_signs_of_a_handler() {
    let (server, agent, task) = holding(json!({"inactivity_seconds": 40})).await;
    let id = id_of(&task);
    let beat = |progress: f64| {
        let held = json!([{"task_id": id, "lease_id": task["lease_id"], "progress": progress}]);
        agent.beat(json!({"status": "healthy", "tasks": held}))
    };
    for round in 1..=5 {
        server.advance(30);
        agent.progress(&id, json!({"seq": round, "output_delta": "."})).await.expect(200);
        server.advance(30);
        beat(f64::from(round) / 10.0).await.expect(200);
    }
    assert_eq!(server.operator().task(&id).await["progress"], json!({"progress": 0.5}));
    // A lower one was overtaken by what reports and beats told since.
    server.advance(30);
    beat(0.2).await.expect(200);
    server.advance(10);
    server.operator().until(&id, "queued").await;
    assert_eq!(server.operator().outcomes(&id).await, ["failed"]);
    let all = told(&server.operator(), &id, "task.attempt_failed").await;
    assert_eq!((of_kind(&all, "task.progress").len(), of_kind(&all, "task.output_delta").len()), (5, 5));
}
