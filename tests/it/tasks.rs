//! The operator's side: submit, get, wait, list, cancel, history (A24, A38, A40).

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{Server, assert_shape, id_of, in_time, task_shape, work};

const UNKNOWN: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

fn ids(page: &Value) -> Vec<String> {
    page["tasks"].as_array().expect("tasks are a list").iter().map(id_of).collect()
}

#[tokio::test]
async fn a_submitted_task_is_shown_with_every_default_of_the_protocol() {
    let server = Server::start().await;
    server.agent("AGENT-A").await;
    let answer = server.operator().try_submit(&json!({"task_type": "Work", "input": "input"})).await;
    let location = answer.header("location").map(str::to_owned);
    let task = answer.expect(201);
    assert_shape(&task, &task_shape(json!({})));
    assert_eq!(location, Some(format!("/api/v1/tasks/{}", id_of(&task))));
    assert_eq!(task["created_at"], task["updated_at"]);
    assert_eq!(server.operator().task(&id_of(&task)).await, task);
    assert_eq!(server.operator().list("").await, json!({"tasks": [task]}));
}

#[tokio::test]
async fn a_submitted_task_keeps_all_that_was_said_of_it() {
    let server = Server::start().await;
    let agent = server.agent_with("AGENT-A", json!({"labels": {"region": "eu"}})).await;
    let body = work(json!({
        "input": {"a": 1}, "context": {"x": true}, "requirements": ["fast"], "required_capabilities": ["work"],
        "agent_id": agent.id, "labels": {"region": "eu"}, "session_id": UNKNOWN, "priority": 4,
        "timeout_seconds": 604_800, "max_attempts": 100, "run_at": "2100-01-01T00:00:00.25Z",
        "expires_at": "2100-01-02T00:00:00Z", "preferred_agents": ["b", agent.id], "a_field_of_the_future": 1,
        "callback_url": null,
    }));
    let shape = task_shape(json!({
        "session_id": UNKNOWN, "priority": 4, "max_attempts": 100, "run_at": "2100-01-01T00:00:00.250Z",
        "expires_at": "2100-01-02T00:00:00Z",
        "routing": {"required_capabilities": ["work"], "labels": {"region": "eu"}, "agent_id": agent.id,
            "preferred_agents": [agent.id, "b"]},
    }));
    assert_shape(&server.operator().try_submit(&body).await.expect(201), &shape);
}

#[tokio::test]
async fn both_spellings_of_the_input_are_taken_and_input_data_wins() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let operator = server.operator();
    operator.try_submit(&json!({"task_type": "work", "input_data": "new"})).await.expect(201);
    assert_eq!(agent.take().await["input_data"], "new");
    operator.try_submit(&json!({"task_type": "work", "input": "old", "input_data": "new"})).await.expect(201);
    assert_eq!(agent.take().await["input_data"], "new");
    operator.try_submit(&json!({"task_type": "work", "input": "old", "input_data": null})).await.expect(201);
    assert_eq!(agent.take().await["input_data"], "old");
}

#[tokio::test]
async fn a_submit_repeated_with_its_key_gives_the_same_task_as_it_now_is() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let operator = server.operator();
    let body = work(json!({"context": {"a": 1, "b": 2}}));
    let first = operator.submit_with_key("k1", &body).await;
    let location = first.header("location").map(str::to_owned);
    let first = first.expect(201);
    // The same values under another order of keys are the same body.
    let respelled = r#"{"input": "input", "context": {"b": 2, "a": 1}, "task_type": "WORK", "priority": 2}"#;
    let call = operator.post("/api/v1/tasks").header("idempotency-key", "k1").bytes(respelled);
    let again = call.send().await;
    assert_eq!(again.header("location").map(str::to_owned), location);
    assert_eq!(again.expect(201), first);
    let task = agent.take().await;
    agent.complete(&task).await.expect(200);
    let done = operator.submit_with_key("k1", &body).await.expect(201);
    assert_eq!((id_of(&done), &done["status"]), (id_of(&first), &json!("completed")));
    assert_eq!(done["result"]["output_data"], json!({"done": true}));
    assert_eq!(ids(&operator.list("").await).len(), 1);
}

#[tokio::test]
async fn a_key_used_with_another_body_is_a_conflict() {
    let server = Server::start().await;
    let operator = server.operator();
    operator.submit_with_key("k1", &work(json!({}))).await.expect(201);
    for other in [json!({"input": "other"}), json!({"priority": 1}), json!({"context": {"a": 1}})] {
        operator.submit_with_key("k1", &work(other)).await.problem(409, "IDEMPOTENCY_CONFLICT");
    }
    operator.submit_with_key("k2", &work(json!({"input": "other"}))).await.expect(201);
    assert_eq!(ids(&operator.list("").await).len(), 2);
    let too_long = "x".repeat(256);
    for key in ["", "a b", &too_long] {
        assert_eq!(operator.submit_with_key(key, &work(json!({}))).await.fields(), ["header.idempotency-key"]);
    }
}

#[tokio::test]
async fn a_body_that_was_refused_does_not_use_up_its_key() {
    let server = Server::start().await;
    let operator = server.operator();
    operator.submit_with_key("k1", &work(json!({"priority": 9}))).await.problem(422, "VALIDATION_ERROR");
    operator.submit_with_key("k1", &work(json!({"priority": 1}))).await.expect(201);
}

#[tokio::test]
async fn the_same_submit_many_times_at_once_is_one_task() {
    let server = Server::start().await;
    let calls: Vec<_> = (0..30)
        .map(|_| {
            let operator = server.operator();
            tokio::spawn(async move { operator.submit_with_key("k1", &work(json!({}))).await })
        })
        .collect();
    let mut seen = Vec::new();
    for call in calls {
        seen.push(id_of(&call.await.expect("a call does not panic").expect(201)));
    }
    assert!(seen.iter().all(|id| *id == seen[0]), "{seen:?}");
    assert_eq!(ids(&server.operator().list("").await), seen[..1]);
}

#[tokio::test]
async fn different_bodies_under_one_key_at_once_make_one_task() {
    let server = Server::start().await;
    let calls: Vec<_> = (0..20)
        .map(|number| {
            let operator = server.operator();
            tokio::spawn(async move { operator.submit_with_key("k1", &work(json!({"input": number % 4}))).await })
        })
        .collect();
    let mut seen = Vec::new();
    for call in calls {
        let answer = call.await.expect("a call does not panic");
        if answer.status == 201 {
            seen.push(id_of(&answer.expect(201)));
        } else {
            answer.problem(409, "IDEMPOTENCY_CONFLICT");
        }
    }
    assert_eq!(seen.len(), 5, "those with the winner's body");
    assert!(seen.iter().all(|id| *id == seen[0]));
}

#[tokio::test]
async fn a_task_that_nobody_can_do_waits_and_says_so_until_somebody_comes() {
    let server = Server::start().await;
    let answer = server.operator().try_submit(&work(json!({}))).await.expect(201);
    assert_shape(&answer, &task_shape(json!({"no_capable_agent": true})));
    server.agent_with("AGENT-OTHER", json!({"capabilities": ["other"]})).await;
    let id = id_of(&answer);
    assert_eq!(server.operator().task(&id).await["no_capable_agent"], true);
    let agent = server.agent("AGENT-A").await;
    assert_eq!(server.operator().task(&id).await.get("no_capable_agent"), None);
    assert_eq!(id_of(&agent.take().await), id);
}

#[tokio::test]
async fn a_get_that_waits_is_answered_when_the_task_ends() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let id = server.operator().submit(json!({})).await;
    let path = format!("/api/v1/tasks/{id}?wait_seconds=60");
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let call = server.operator().get(&path);
            tokio::spawn(call.send())
        })
        .collect();
    let task = agent.take().await;
    agent.complete(&task).await.expect(200);
    for call in waiting {
        let shown = in_time("the waiting call is answered", call).await.expect("it does not panic").expect(200);
        assert_eq!(shown["status"], "completed");
        assert_eq!(shown["result"]["output_data"], json!({"done": true}));
    }
    // A task that is over is shown at once.
    assert_eq!(in_time("it is over", server.operator().get(&path).send()).await.expect(200)["status"], "completed");
}

#[tokio::test]
async fn a_get_that_waited_in_vain_shows_the_task_as_it_stands() {
    let server = Server::start().await;
    let id = server.operator().submit(json!({})).await;
    let start = Instant::now();
    let shown = server.operator().get(&format!("/api/v1/tasks/{id}?wait_seconds=1")).send().await.expect(200);
    assert_eq!(shown["status"], "queued");
    assert!(start.elapsed() >= Duration::from_millis(900));
    let start = Instant::now();
    server.operator().get(&format!("/api/v1/tasks/{id}?wait_seconds=0")).send().await.expect(200);
    assert!(start.elapsed() < Duration::from_millis(900));
    let unknown = server.operator().get(&format!("/api/v1/tasks/{UNKNOWN}?wait_seconds=60")).send();
    in_time("nobody waits for what is not there", unknown).await.problem(404, "TASK_NOT_FOUND");
}

#[tokio::test]
async fn a_wait_ends_with_a_cancellation_too() {
    let server = Server::start().await;
    let id = server.operator().submit(json!({})).await;
    let waiting = tokio::spawn(server.operator().get(&format!("/api/v1/tasks/{id}?wait_seconds=60")).send());
    server.operator().cancel(&id, None).await.expect(200);
    let shown = in_time("the waiting call is answered", waiting).await.expect("it does not panic").expect(200);
    assert_eq!(shown["status"], "cancelled");
}

#[tokio::test]
async fn tasks_are_listed_newest_first_page_by_page_without_gap_or_repeat() {
    let server = Server::start().await;
    let operator = server.operator();
    let mut submitted = Vec::new();
    for _ in 0..7 {
        submitted.push(operator.submit(json!({})).await);
    }
    submitted.reverse();
    assert_eq!(ids(&operator.list("").await), submitted);
    let (mut seen, mut query) = (Vec::new(), "limit=3".to_owned());
    loop {
        let page = operator.list(&query).await;
        seen.extend(ids(&page));
        // What comes meanwhile is newer, and does not shift the pages.
        operator.submit(json!({})).await;
        let Some(cursor) = page.get("next_cursor") else { break };
        query = format!("limit=3&cursor={}", cursor.as_str().expect("a cursor is text"));
    }
    assert_eq!(seen, submitted);
    assert_eq!(operator.list("limit=500").await.get("next_cursor"), None);
}

#[tokio::test]
async fn a_page_has_fifty_tasks_unless_told_otherwise() {
    let server = Server::start().await;
    let operator = server.operator();
    let calls: Vec<_> = (0..51)
        .map(|_| {
            let operator = operator.clone();
            tokio::spawn(async move { operator.submit(json!({})).await })
        })
        .collect();
    for call in calls {
        call.await.expect("a submit does not panic");
    }
    let page = operator.list("").await;
    assert_eq!(ids(&page).len(), 50);
    assert!(page["next_cursor"].is_string());
    assert_eq!(ids(&operator.list("limit=51").await).len(), 51);
}

#[tokio::test]
async fn lists_are_filtered_by_status_agent_and_type() {
    let server = Server::start().await;
    let operator = server.operator();
    let (one, two) =
        (server.agent("AGENT-A").await, server.agent_with("AGENT-B", json!({"capabilities": ["translate"]})).await);
    let completed = operator.submit(json!({})).await;
    one.complete(&one.take().await).await.expect(200);
    let leased = operator.submit(json!({})).await;
    one.take().await;
    let queued = operator.submit(json!({})).await;
    let translated = operator.submit(json!({"task_type": "translate"})).await;
    two.fail(&two.take().await, json!({"retryable": false})).await.expect(200);
    let cancelled = operator.submit(json!({"task_type": "translate"})).await;
    operator.cancel(&cancelled, None).await.expect(200);

    for (query, expected) in [
        ("status=queued", vec![&queued]),
        ("status=leased", vec![&leased]),
        ("status=completed", vec![&completed]),
        ("status=failed", vec![&translated]),
        ("status=cancelled", vec![&cancelled]),
        ("status=dead", vec![]),
        ("task_type=translate", vec![&cancelled, &translated]),
        ("task_type=Work&status=queued", vec![&queued]),
        (&format!("agent_id={}", one.id), vec![&leased, &completed]),
        (&format!("agent_id={}&status=completed&task_type=work", one.id), vec![&completed]),
        (&format!("agent_id={}&task_type=work", two.id), vec![]),
        ("agent_id=nobody", vec![]),
        ("status=&task_type=&unknown=1&limit=1", vec![&cancelled]),
    ] {
        assert_eq!(ids(&operator.list(query).await).iter().collect::<Vec<_>>(), expected, "{query}");
    }
    // Lists carry no results: they may be large.
    assert_eq!(operator.list("status=completed").await["tasks"][0].get("result"), None);
}

#[tokio::test]
async fn a_cancelled_task_is_final_at_once_and_again() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let operator = server.operator();
    let id = operator.submit(json!({})).await;
    let cancelled = operator.cancel(&id, Some(&json!({"reason": "changed my mind"}))).await.expect(200);
    assert_shape(&cancelled, &task_shape(json!({"status": "cancelled", "reason": "changed my mind"})));
    assert_eq!(agent.take_up_to(1).await, Vec::<Value>::new());
    let again = operator.cancel(&id, Some(&json!({"reason": "another reason"}))).await.expect(200);
    assert_eq!(again, cancelled);
    assert_eq!(operator.task(&id).await, cancelled);
}

#[tokio::test]
async fn cancelling_a_running_task_ends_its_attempt() {
    let server = Server::start().await;
    let agent = server.agent_with("AGENT-A", json!({"max_concurrent_tasks": 1})).await;
    let operator = server.operator();
    let id = operator.submit(json!({})).await;
    let task = agent.take().await;
    let why = json!("changed my mind");
    let cancelled = operator.cancel(&id, Some(&json!({"reason": why}))).await.expect(200);
    assert_eq!((&cancelled["status"], cancelled.get("lease_expires_at")), (&json!("cancelled"), None));
    assert_eq!(operator.outcomes(&id).await, ["cancelled"]);
    agent.complete(&task).await.problem(409, "TASK_FINAL");
    let refused = agent.progress(&id, json!({"seq": 1})).await.problem(409, "TASK_FINAL");
    assert_eq!((&refused["cause"], &refused["reason"]), (&json!("cancelled"), &why));
    agent.release(&id, None).await.problem(409, "TASK_FINAL");
    assert_eq!(operator.agent(&agent.id).await.expect(200)["leases"], 0);
    operator.submit(json!({})).await;
    agent.take().await;
}

#[tokio::test]
async fn a_task_that_ended_otherwise_cannot_be_cancelled() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let operator = server.operator();
    for completes in [true, false] {
        let id = operator.submit(json!({})).await;
        let task = agent.take().await;
        if completes {
            agent.complete(&task).await.expect(200);
        } else {
            agent.fail(&task, json!({"retryable": false})).await.expect(200);
        }
        let before = operator.task(&id).await;
        operator.cancel(&id, None).await.problem(409, "TASK_FINAL");
        assert_eq!(operator.task(&id).await, before);
    }
}

#[tokio::test]
async fn a_tasks_history_tells_attempts_and_events_in_order() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let operator = server.operator();
    let id = operator.submit(json!({})).await;
    let first = agent.take().await;
    agent.release(&id, Some(&json!({"retry_after_seconds": 0}))).await.expect(200);
    let second = agent.take().await;
    agent.progress(&id, json!({"seq": 1, "progress": 0.5, "message": "half"})).await.expect(200);
    agent.complete(&second).await.expect(200);
    let history = operator.history(&id).await;
    let attempt = |number: u32, task: &Value, outcome: &str| {
        json!({"attempt": number, "agent_id": agent.id, "lease_id": task["lease_id"], "outcome": outcome,
            "started_at": "<time>", "ended_at": "<time>"})
    };
    let mut released = attempt(1, &first, "released");
    released["message"] = json!("<text>");
    assert_shape(
        &history,
        &json!({
            "task_id": id, "attempts": [released, attempt(2, &second, "completed")], "late_results": [],
            "events": "<any>",
        }),
    );
    let events = history["events"].as_array().expect("events are a list");
    let kinds: Vec<_> = events.iter().map(|event| event["kind"].as_str().expect("it has a kind")).collect();
    let expected = ["task.submitted", "task.leased", "task.released", "task.leased", "task.progress", "task.completed"];
    assert_eq!(kinds, expected);
    let numbers: Vec<_> = events.iter().map(|event| event["seq"].as_u64().expect("it has a number")).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    assert!(events.iter().all(|event| event["task_id"] == json!(id)));
}
