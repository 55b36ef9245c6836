//! Several tasks in one call: each gets its answer, all of them one commit (G5, A38).

use std::sync::Arc;

use eap_orchestrator::store::{SqliteOptions, SqliteStore};
use eap_orchestrator::{Error, Operator as Host, SystemClock};
use eap_types::SubmitTask;
use serde_json::{Value, json};

use crate::harness::{Answer, Operator, Server, Setup, assert_shape, id_of, work};

async fn try_batch(operator: &Operator, key: Option<&str>, tasks: Value) -> Answer {
    let call = operator.post("/api/v1/tasks/batch");
    let call = if let Some(key) = key { call.header("idempotency-key", key) } else { call };
    call.json(&json!({ "tasks": tasks })).send().await
}

/// The outcomes of a batch that was taken.
async fn batch(operator: &Operator, key: Option<&str>, tasks: Value) -> Vec<Value> {
    let reply = try_batch(operator, key, tasks).await.expect(200);
    assert_shape(&reply, &json!({"tasks": "<any>"}));
    reply["tasks"].as_array().expect("outcomes are a list").clone()
}

async fn ids_listed(operator: &Operator) -> Vec<String> {
    let page = operator.list("limit=500").await;
    page["tasks"].as_array().expect("tasks are a list").iter().rev().map(id_of).collect()
}

/// The fields that a refused outcome names.
#[track_caller]
fn fields(outcome: &Value) -> Vec<&str> {
    assert_eq!((&outcome["status"], &outcome["code"]), (&json!(422), &json!("VALIDATION_ERROR")), "{outcome}");
    for name in ["type", "title", "detail", "error", "message", "request_id", "retryable"] {
        assert!(outcome.get(name).is_some(), "{name} is missing in {outcome}");
    }
    let details = outcome["details"].as_array().expect("details are a list");
    details.iter().map(|detail| detail["field"].as_str().expect("a field has a name")).collect()
}

#[tokio::test]
async fn every_task_of_a_batch_is_taken_in_and_done_in_order() {
    let server = Server::start().await;
    let (operator, agent) = (server.operator(), server.agent("AGENT-A").await);
    let outcomes = batch(
        &operator,
        None,
        json!([work(json!({"input": 1})), work(json!({"input": 2, "priority": 0})), work(json!({"input": 3}))]),
    )
    .await;
    let ids: Vec<String> = outcomes.iter().map(id_of).collect();
    for outcome in &outcomes {
        assert_shape(outcome, &json!({"task_id": "<text>"}));
    }
    assert_eq!(ids_listed(&operator).await, ids);
    let taken: Vec<String> = agent.take_up_to(3).await.iter().map(id_of).collect();
    assert_eq!(taken, [&ids[1], &ids[0], &ids[2]].map(Clone::clone));
    let history = operator.history(&ids[2]).await;
    assert_eq!(history["events"][0]["kind"], "task.submitted");
}

#[tokio::test]
async fn a_batch_wakes_every_poll_that_its_tasks_concern() {
    let server = Server::start().await;
    let (one, two) =
        (server.agent("AGENT-A").await, server.agent_with("AGENT-B", json!({"capabilities": ["translate"]})).await);
    let poll = |id: &str| Some(json!({"request_id": id, "max_tasks": 1, "wait_seconds": 60}));
    let first = server.park(&one, "/tasks/lease", poll("r1")).await;
    let second = server.park(&two, "/tasks/lease", poll("r2")).await;
    let outcomes =
        batch(&server.operator(), None, json!([work(json!({})), work(json!({"task_type": "translate"}))])).await;
    for (poll, outcome) in [first, second].into_iter().zip(&outcomes) {
        let reply = crate::harness::in_time("the poll is answered", poll).await.expect("it runs").expect(200);
        assert_eq!(id_of(&reply["tasks"][0]), id_of(outcome));
    }
}

#[tokio::test]
async fn a_bad_entry_is_told_all_that_is_wrong_with_it_and_the_good_ones_are_kept() {
    let server = Server::start().await;
    let operator = server.operator();
    let outcomes = batch(
        &operator,
        None,
        json!([
            work(json!({})),
            {"priority": 9, "max_attempts": 0},
            7,
            work(json!({"expires_at": "2020-01-01T00:00:00Z"})),
            work(json!({"callback_url": "nonsense", "inactivity_seconds": 0})),
            work(json!({})),
        ]),
    )
    .await;
    assert_eq!(outcomes.len(), 6);
    let wrong = |index: usize, names: &[&str]| names.iter().map(|name| format!("body.tasks[{index}]{name}")).collect();
    let expected: Vec<String> = wrong(1, &[".task_type", ".input", ".priority", ".max_attempts"]);
    assert_eq!(fields(&outcomes[1]), expected);
    let expected: Vec<String> = wrong(2, &[""]);
    assert_eq!(fields(&outcomes[2]), expected);
    let expected: Vec<String> = wrong(3, &[".expires_at"]);
    assert_eq!(fields(&outcomes[3]), expected);
    assert!(fields(&outcomes[4]).contains(&"body.tasks[4].inactivity_seconds"), "{}", outcomes[4]);
    assert_eq!(ids_listed(&operator).await, [id_of(&outcomes[0]), id_of(&outcomes[5])]);
}

#[tokio::test]
async fn a_batch_has_one_to_a_thousand_tasks_each_within_the_limit_of_one() {
    let server = Setup::sqlite().config(|config| config.capacity.submit_bytes = 2048).start().await;
    let operator = server.operator();
    assert_eq!(try_batch(&operator, None, json!([])).await.fields(), ["body.tasks"]);
    assert_eq!(try_batch(&operator, None, json!(vec![work(json!({})); 1_001])).await.fields(), ["body.tasks"]);
    assert_eq!(operator.list("").await, json!({"tasks": []}));
    assert_eq!(batch(&operator, None, json!(vec![work(json!({})); 1_000])).await.len(), 1_000);
    let (exact, over) = (2048 - work(json!({"input": ""})).to_string().len(), "body.tasks[1]");
    let outcomes = batch(
        &operator,
        None,
        json!([work(json!({"input": "x".repeat(exact)})), work(json!({"input": "x".repeat(exact + 1)}))]),
    )
    .await;
    assert!(outcomes[0]["task_id"].is_string(), "{}", outcomes[0]);
    assert_eq!(fields(&outcomes[1]), [over]);
}

#[tokio::test]
async fn a_batch_repeated_with_its_key_gives_the_same_ids_again() {
    let server = Server::start_with_clock().await;
    let (operator, agent) = (server.operator(), server.agent("AGENT-A").await);
    // Taken in now, and too late a minute from now; the last one is too late already.
    let tasks = json!([
        work(json!({"context": {"a": 1, "b": 2}, "expires_at": "2027-01-15T08:00:30Z"})),
        {"priority": 9},
        work(json!({})),
        work(json!({"expires_at": "2026-01-01T00:00:00Z"})),
    ]);
    let first = batch(&operator, Some("k1"), tasks).await;
    let soon_late = json!([work(json!({"expires_at": "2027-01-15T08:00:30Z"}))]);
    let alone = batch(&operator, Some("k2"), soon_late.clone()).await;
    agent.complete(&agent.take().await).await.expect(200);
    server.advance(60);
    // The same values under another order of keys are the same body.
    let respelled = r#"{"tasks": [
        {"expires_at": "2027-01-15T08:00:30Z", "context": {"b": 2, "a": 1}, "input": "input", "task_type": "WORK"},
        {"priority": 9}, {"input": "input", "priority": 2, "task_type": "work"},
        {"task_type": "work", "input": "input", "expires_at": "2026-01-01T00:00:00Z"}]}"#;
    let call = operator.post("/api/v1/tasks/batch").header("idempotency-key", "k1").bytes(respelled);
    let again = call.send().await.expect(200)["tasks"].as_array().expect("outcomes are a list").clone();
    assert_eq!((id_of(&again[0]), id_of(&again[2])), (id_of(&first[0]), id_of(&first[2])));
    assert_eq!(again[1]["details"], first[1]["details"]);
    assert_eq!(fields(&again[3]), ["body.tasks[3].expires_at"]);
    assert_eq!(batch(&operator, Some("k2"), soon_late).await, alone);
    assert_eq!(ids_listed(&operator).await.len(), 3);
}

#[tokio::test]
async fn a_key_of_a_batch_used_with_another_body_is_a_conflict() {
    let server = Server::start().await;
    let operator = server.operator();
    let bad = json!({"task_type": "work"});
    // A batch of which nothing was kept leaves its key free.
    batch(&operator, Some("k1"), json!([bad])).await;
    batch(&operator, Some("k1"), json!([work(json!({})), bad])).await;
    for other in [
        json!([work(json!({}))]),
        json!([bad, work(json!({}))]),
        json!([work(json!({})), work(json!({}))]),
        json!([work(json!({"priority": 1})), bad]),
        json!([work(json!({})), {"task_type": "work", "input": "input", "priority": 9}]),
    ] {
        try_batch(&operator, Some("k1"), other).await.problem(409, "IDEMPOTENCY_CONFLICT");
    }
    // The key of a single submit is another key.
    operator.submit_with_key("k1", &work(json!({}))).await.expect(201);
    let long = "x".repeat(256);
    assert_eq!(try_batch(&operator, Some(&long), json!([work(json!({}))])).await.fields(), ["header.idempotency-key"]);
    assert_eq!(ids_listed(&operator).await.len(), 2);
}

#[tokio::test]
async fn the_same_batch_many_times_at_once_is_one_batch() {
    let server = Server::start().await;
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let operator = server.operator();
            tokio::spawn(async move { batch(&operator, Some("k1"), json!(vec![work(json!({})); 20])).await })
        })
        .collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.expect("a call does not panic"));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(ids_listed(&server.operator()).await, answers[0].iter().map(id_of).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_batch_is_one_commit_and_survives_a_restart_with_its_key() {
    let dir = tempfile::tempdir().expect("there is room for a temporary directory");
    let path = dir.path().join("eap.db");
    let store = SqliteStore::open(&path, Arc::new(SystemClock::new()), SqliteOptions::default());
    let store = Arc::new(store.expect("the file is free"));
    let server = Setup::store(Arc::clone(&store) as Arc<_>).start().await;
    let tasks = json!(vec![work(json!({})); 1_000]);
    let before = store.stats().commits;
    let first = batch(&server.operator(), Some("k1"), tasks.clone()).await;
    let commits = store.stats().commits - before;
    // The sweeper's pulse is a commit too, once a second.
    assert!(commits < 50, "{commits} commits for a batch of 1000");
    server.stop().await;
    drop(store);
    let server = Setup::sqlite_at(&path).start().await;
    assert_eq!(batch(&server.operator(), Some("k1"), tasks).await, first);
}

#[tokio::test]
async fn a_batch_in_process_is_checked_like_one_over_the_wire() {
    let server = Server::start().await;
    let task = || SubmitTask::text("sum".parse().unwrap(), "1 2");
    let tasks = [task(), task().with_timeout_seconds(0), task()];
    let outcomes = server.orchestrator.submit_batch(&Host::host(), tasks, None).await.expect("the batch is taken");
    let Err(Error::Invalid { problems }) = &outcomes[1] else { panic!("{outcomes:?}") };
    assert_eq!(problems[0].field, "body.tasks[1].timeout_seconds");
    let kept: Vec<String> = outcomes.iter().flatten().map(ToString::to_string).collect();
    assert_eq!(ids_listed(&server.operator()).await, kept);
    let none = server.orchestrator.submit_batch(&Host::host(), [], None).await;
    assert!(matches!(none, Err(Error::Invalid { .. })), "{none:?}");
}
