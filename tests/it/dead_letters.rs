//! Tasks that failed for good or died, and what operators do about them (A22).

use std::future::IntoFuture as _;

use eap_orchestrator::{Access, Orchestrator};
use serde_json::{Value, json};

use crate::harness::{
    Agent, Answer, Api, Operator, Server, Setup, assert_shape, eventually, id_of, in_time, registration, task_shape,
};

const LETTERS: &str = "/api/v1/dead-letters";
const UNKNOWN: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

async fn letters(operator: &Operator, query: &str) -> Vec<String> {
    let page = operator.get(&format!("{LETTERS}?{query}")).send().await.expect(200);
    page["tasks"].as_array().expect("tasks are a list").iter().map(id_of).collect()
}

async fn requeue(operator: &Operator, id: &str) -> Answer {
    operator.post(&format!("{LETTERS}/{id}/requeue")).send().await
}

async fn discard(operator: &Operator, id: &str) -> Answer {
    operator.post(&format!("{LETTERS}/{id}/discard")).send().await
}

/// A task that failed for good.
async fn failed(server: &Server, agent: &Agent, members: Value) -> String {
    let id = server.operator().submit(members).await;
    agent.fail(&agent.take().await, json!({"retryable": false})).await.expect(200);
    id
}

/// The kinds of what happened to a task.
async fn kinds(operator: &Operator, id: &str) -> Vec<Value> {
    let history = operator.history(id).await;
    history["events"].as_array().expect("events are a list").iter().map(|event| event["kind"].clone()).collect()
}

#[tokio::test]
async fn a_task_whose_agents_vanish_is_a_dead_letter_until_it_is_requeued() {
    let server = Server::start_with_clock().await;
    let operator = server.operator();
    let id = operator.submit(json!({"max_attempts": 10})).await;
    let mut agents = Vec::new();
    for name in ["AGENT-A", "AGENT-B", "AGENT-C"] {
        let agent = server.agent(name).await;
        assert_eq!(id_of(&agent.wait_for_task().await), id);
        assert_eq!(letters(&operator, "").await, Vec::<String>::new());
        server.advance(61);
        agents.push(agent.id);
    }
    operator.until(&id, "dead").await;
    assert_eq!(letters(&operator, "").await, std::slice::from_ref(&id));
    let history = operator.history(&id).await;
    for (attempt, agent) in history["attempts"].as_array().expect("attempts are a list").iter().zip(&agents) {
        assert_eq!((&attempt["outcome"], &attempt["agent_id"]), (&json!("expired"), &json!(agent)));
        assert!(attempt["started_at"].is_string() && attempt["ended_at"].is_string(), "{attempt}");
    }
    let fresh = server.agent("AGENT-D").await;
    assert_eq!(fresh.take_up_to(1).await, Vec::<Value>::new(), "it is not offered again");

    let new = id_of(&requeue(&operator, &id).await.expect(201));
    assert_eq!(letters(&operator, "").await, Vec::<String>::new());
    let assignment = fresh.take().await;
    assert_eq!((id_of(&assignment), &assignment["attempt"]), (new.clone(), &json!(1)));
    fresh.complete(&assignment).await.expect(200);
    assert_eq!((operator.status(&new).await, operator.status(&id).await), ("completed".into(), "dead".into()));
}

#[tokio::test]
async fn a_requeue_asks_the_same_of_a_new_task_and_links_both() {
    let server = Server::start_with_clock().await;
    let (operator, agent) =
        (server.operator(), server.agent_with("AGENT-A", json!({"labels": {"region": "eu"}})).await);
    let members = json!({
        "input": {"a": 1}, "context": {"x": true}, "requirements": ["fast"], "labels": {"region": "eu"},
        "session_id": UNKNOWN, "priority": 1, "timeout_seconds": 100, "max_attempts": 7,
        "expires_at": "2027-01-15T08:01:00Z",
    });
    let id = operator.submit(members).await;
    let first = agent.take().await;
    agent.fail(&first, json!({"retryable": false})).await.expect(200);
    let before = operator.task(&id).await;
    server.advance(120);

    let answer = requeue(&operator, &id).await;
    let location = answer.header("location").map(str::to_owned);
    let new = answer.expect(201);
    assert_eq!(location, Some(format!("/api/v1/tasks/{}", id_of(&new))));
    let shape = task_shape(json!({
        "session_id": UNKNOWN, "priority": 1, "max_attempts": 7, "requeued_from": id,
        "routing": {"required_capabilities": ["work"], "labels": {"region": "eu"}},
    }));
    // The time of expiry has passed and does not kill the new task at once.
    assert_shape(&new, &shape);
    assert_eq!(operator.task(&id_of(&new)).await, new);
    let letter = operator.task(&id).await;
    assert_eq!(letter["requeued_as"], new["task_id"]);
    for name in ["status", "attempt", "created_at", "result", "reason", "agent_id"] {
        assert_eq!(letter[name], before[name], "{name}");
    }
    let second = agent.take().await;
    for name in ["input_data", "context", "requirements", "timeout_seconds", "session_id", "max_attempts"] {
        assert_eq!(first[name], second[name], "{name}");
    }
    assert_eq!(kinds(&operator, &id).await.last(), Some(&json!("task.requeued")));
    let history = operator.history(&id_of(&new)).await;
    assert_eq!(history["events"][0]["detail"], json!({"message": format!("requeued from {id}")}));
    assert_eq!(history["attempts"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_requeue_that_is_repeated_gives_the_same_task_as_it_now_is() {
    let server = Server::start().await;
    let (operator, agent) = (server.operator(), server.agent("AGENT-A").await);
    let id = failed(&server, &agent, json!({})).await;
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let (operator, id) = (operator.clone(), id.clone());
            tokio::spawn(async move { requeue(&operator, &id).await })
        })
        .collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.expect("a call does not panic"));
    }
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert!(answers.iter().all(|answer| matches!(answer.status, 200 | 201)), "{answers:?}");
    let new = id_of(&answers[0].body);
    assert!(answers.iter().all(|answer| id_of(&answer.body) == new), "{answers:?}");
    agent.complete(&agent.take().await).await.expect(200);
    let again = requeue(&operator, &id).await;
    assert_eq!(again.header("location"), Some(format!("/api/v1/tasks/{new}").as_str()));
    assert_eq!(again.expect(200)["result"]["output_data"], json!({"done": true}));
    assert_eq!(agent.take_up_to(5).await, Vec::<Value>::new(), "there was one new task");
}

#[tokio::test]
async fn a_discarded_letter_is_off_the_list_and_stays_readable() {
    let server = Server::start().await;
    let (operator, agent) = (server.operator(), server.agent("AGENT-A").await);
    let (id, other) = (failed(&server, &agent, json!({})).await, failed(&server, &agent, json!({})).await);
    discard(&operator, &id).await.expect(204);
    assert_eq!(letters(&operator, "").await, std::slice::from_ref(&other));
    let shown = operator.task(&id).await;
    assert_eq!((&shown["status"], shown["discarded_at"].is_string()), (&json!("failed"), true));
    discard(&operator, &id).await.expect(204);
    assert_eq!(operator.task(&id).await, shown, "a repeat changes nothing");
    assert_eq!(kinds(&operator, &id).await.last(), Some(&json!("task.discarded")));
    let told = requeue(&operator, &id).await.problem(409, "NOT_A_DEAD_LETTER");
    assert_eq!(told["detail"], "the dead letter was discarded");

    // A letter that was requeued is off the list already.
    requeue(&operator, &other).await.expect(201);
    discard(&operator, &other).await.expect(204);
    requeue(&operator, &other).await.expect(200);
    assert_eq!(operator.task(&other).await.get("discarded_at"), None);
}

#[tokio::test]
async fn what_did_neither_fail_nor_die_is_no_dead_letter() {
    let server = Server::start().await;
    let (operator, agent) = (server.operator(), server.agent("AGENT-A").await);
    let completed = operator.submit(json!({})).await;
    agent.complete(&agent.take().await).await.expect(200);
    let leased = operator.submit(json!({})).await;
    agent.take().await;
    let (queued, cancelled) = (operator.submit(json!({})).await, operator.submit(json!({})).await);
    operator.cancel(&cancelled, None).await.expect(200);
    for (id, status) in [(&completed, "completed"), (&leased, "leased"), (&queued, "queued"), (&cancelled, "cancelled")]
    {
        for answer in [requeue(&operator, id).await, discard(&operator, id).await] {
            let told = answer.problem(409, "NOT_A_DEAD_LETTER");
            assert!(told["detail"].as_str().is_some_and(|detail| detail.contains(status)), "{told}");
        }
        assert_eq!(operator.status(id).await, status);
    }
    for id in [UNKNOWN, "nonsense"] {
        requeue(&operator, id).await.problem(404, "TASK_NOT_FOUND");
        discard(&operator, id).await.problem(404, "TASK_NOT_FOUND");
    }
    assert_eq!(letters(&operator, "").await, Vec::<String>::new());
}

#[tokio::test]
async fn dead_letters_are_paged_and_filtered_as_tasks_are() {
    let server = Server::start().await;
    let operator = server.operator();
    let (one, two) =
        (server.agent("AGENT-A").await, server.agent_with("AGENT-B", json!({"capabilities": ["translate"]})).await);
    let mut newest_first = Vec::new();
    for _ in 0..3 {
        newest_first.insert(0, failed(&server, &one, json!({})).await);
        operator.submit(json!({"task_type": "nobody"})).await;
    }
    let translated = failed(&server, &two, json!({"task_type": "translate"})).await;
    newest_first.insert(0, translated.clone());
    assert_eq!(letters(&operator, "").await, newest_first);
    let (mut seen, mut query) = (Vec::new(), "limit=3".to_owned());
    loop {
        let page = operator.get(&format!("{LETTERS}?{query}")).send().await.expect(200);
        seen.extend(page["tasks"].as_array().expect("tasks are a list").iter().map(id_of));
        let Some(cursor) = page.get("next_cursor") else { break };
        query = format!("limit=3&cursor={}", cursor.as_str().expect("a cursor is text"));
    }
    assert_eq!(seen, newest_first);
    for (query, expected) in [
        ("task_type=translate", &newest_first[..1]),
        ("task_type=work", &newest_first[1..]),
        (&format!("agent_id={}", one.id), &newest_first[1..]),
        (&format!("agent_id={}&task_type=work", two.id), &[]),
        ("status=failed", &newest_first[..]),
        ("status=dead", &[]),
    ] {
        assert_eq!(letters(&operator, query).await, expected, "{query}");
    }
    let page = operator.get(&format!("{LETTERS}?limit=1")).send().await.expect(200);
    let letter = &page["tasks"][0];
    assert_eq!((&letter["status"], &letter["reason"]), (&json!("failed"), &json!("broken")));
    assert_eq!(letter.get("result"), None, "lists carry no results");
    let wrong = operator.get(&format!("{LETTERS}?limit=501&cursor=x&agent_id=")).send().await;
    assert_eq!(wrong.fields(), ["query.limit"]);
    assert_eq!(operator.get(&format!("{LETTERS}?cursor=x")).send().await.fields(), ["query.cursor"]);
}

#[tokio::test]
async fn a_requeue_survives_a_restart_and_its_letter_is_purged_first() {
    let dir = tempfile::tempdir().expect("there is room for a temporary directory");
    let path = dir.path().join("eap.db");
    let server = Setup::sqlite_at(&path).manual_clock().start().await;
    let (operator, agent) = (server.operator(), server.agent("AGENT-A").await);
    let id = failed(&server, &agent, json!({})).await;
    let new = id_of(&requeue(&operator, &id).await.expect(201));
    let clock = server.clock();
    server.stop().await;
    let server = Setup::sqlite_at(&path).clock(clock).start().await;
    let operator = server.operator();
    assert_eq!(id_of(&requeue(&operator, &id).await.expect(200)), new);
    // The letter is as old as its requeue; the task that does it again is not over. A start purges at once.
    server.advance(8 * 24 * 3600);
    let clock = server.clock();
    server.stop().await;
    let server = Setup::sqlite_at(&path).clock(clock).start().await;
    let operator = server.operator();
    eventually("the letter is purged", async || {
        (operator.get(&format!("/api/v1/tasks/{id}")).send().await.status == 404).then_some(())
    })
    .await;
    requeue(&operator, &id).await.problem(404, "TASK_NOT_FOUND");
    let kept = operator.task(&new).await;
    assert_eq!((&kept["status"], &kept["requeued_from"]), (&json!("queued"), &json!(id)));
}

#[tokio::test]
async fn a_requeued_task_goes_to_an_agent_that_waits_for_one() {
    let server = Server::start().await;
    let (operator, agent) = (server.operator(), server.agent("AGENT-A").await);
    let id = failed(&server, &agent, json!({})).await;
    let body = json!({"request_id": UNKNOWN, "max_tasks": 1, "wait_seconds": 60});
    let poll = server.park(&agent, "/tasks/lease", Some(body)).await;
    let new = id_of(&requeue(&operator, &id).await.expect(201));
    let reply = in_time("the poll is answered", poll).await.expect("it does not panic").expect(200);
    assert_eq!(id_of(&reply["tasks"][0]), new);
}

#[tokio::test]
async fn the_new_task_stands_under_the_prefix_of_the_host() {
    let orchestrator = Orchestrator::builder_in_memory().access(Access::Open).build().expect("it is complete");
    let running = orchestrator.start().await.expect("it starts");
    let app = axum::Router::new().nest("/inner/eap", orchestrator.router());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let host = format!("http://{}", listener.local_addr().expect("it is bound"));
    let serving = tokio::spawn(axum::serve(listener, app).into_future());

    let api = Api::at(format!("{host}/inner/eap"));
    let operator = Operator::new(api.clone());
    let register = api.post("/api/v1/agents/external/register").json(&registration("AGENT-A", json!({})));
    let agent = Agent::of(api, register.send().await.expect(201));
    let id = operator.submit(json!({})).await;
    agent.fail(&agent.take().await, json!({"retryable": false})).await.expect(200);
    let answer = requeue(&operator, &id).await;
    let location = answer.header("location").expect("it says where the new task is").to_owned();
    let new = answer.expect(201);
    assert_eq!(id_of(&Api::at(host).get(&location).send().await.expect(200)), id_of(&new));
    serving.abort();
    drop(running);
}
