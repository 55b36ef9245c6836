//! Reporting results until they are answered.

use std::sync::{Arc, Mutex};

use eap_agent_sdk::types::ErrorCode;
use eap_agent_sdk::{HandlerError, Refused, Task, TaskContext};
use serde_json::Value;

use crate::fake::{Fake, Rule, task};

async fn echo(task: Task<String>, _: TaskContext) -> Result<String, HandlerError> {
    Ok(task.input)
}

#[tokio::test]
async fn a_result_is_repeated_until_it_has_a_definitive_answer() {
    let fake = Fake::new();
    let later = [ErrorCode::Unavailable, ErrorCode::RateLimited, ErrorCode::InternalError].map(Rule::Refuse);
    fake.rule("/result", later.into_iter().chain([Rule::LoseAnswer, Rule::Unreachable]));
    fake.submit(1, "echo", "once");
    let agent = fake.agent().handle("echo", echo).build().unwrap().start();
    fake.until_seen("/result", 6).await;
    agent.drain();
    let report = agent.wait().await.unwrap();
    assert_eq!((report.completed, report.unsent), (1, 0));
    let state = fake.state();
    let bodies: Vec<&Value> = state.calls("/result").map(|call| &call.body).collect();
    assert_eq!(bodies.len(), 6);
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(state.results.len(), 1);
}

#[tokio::test]
async fn a_refused_result_is_handed_to_the_callback_and_the_next_goes_through() {
    let fake = Fake::new();
    fake.rule("/result", [Rule::Refuse(ErrorCode::LeaseLost)]);
    fake.submit(1, "echo", "late");
    let refused: Arc<Mutex<Vec<Refused>>> = Arc::default();
    let kept = refused.clone();
    let agent = fake
        .agent()
        .handle("echo", echo)
        .on_refused(move |refused| kept.lock().unwrap().push(refused))
        .max_concurrent_tasks(1)
        .build()
        .unwrap()
        .start();
    fake.submit(2, "echo", "in time");
    fake.until("the second result", |state| state.result(2).cloned()).await;
    agent.drain();
    let report = agent.wait().await.unwrap();
    assert_eq!((report.refused, report.completed), (1, 1));
    let refused = refused.lock().unwrap();
    assert_eq!(refused[0].result.task_id, task(1));
    assert_eq!((refused[0].status, refused.len()), (409, 1));
    assert_eq!(refused[0].problem.as_ref().unwrap().error_code(), Some(ErrorCode::LeaseLost));
    assert_eq!(fake.state().count("/register"), 1);
}

#[tokio::test]
async fn a_result_that_is_too_large_becomes_a_failure() {
    let fake = Fake::new();
    fake.rule("/result", [Rule::Refuse(ErrorCode::PayloadTooLarge)]);
    fake.submit(1, "echo", "large by the server's measure");
    let agent = fake.agent().handle("echo", echo).build().unwrap().start();
    let result = fake.until("a result", |state| state.result(1).cloned()).await;
    assert_eq!((&result["status"], &result["error_code"]), (&"failed".into(), &"RESOURCE_EXHAUSTED".into()));
    assert_eq!(result["retryable"], false);
    agent.drain();
    assert_eq!(agent.wait().await.unwrap().failed, 1);
}

#[tokio::test]
async fn a_result_beyond_the_announced_limit_is_not_even_sent() {
    let fake = Fake::new();
    fake.change(|state| state.max_body_bytes = 2_000);
    fake.submit(1, "echo", &"x".repeat(2_000));
    let agent = fake.agent().handle("echo", echo).build().unwrap().start();
    let result = fake.until("a result", |state| state.result(1).cloned()).await;
    assert_eq!(result["error_code"], "RESOURCE_EXHAUSTED");
    assert_eq!(fake.state().count("/result"), 1);
    agent.drain();
    agent.wait().await.unwrap();
}

#[tokio::test]
async fn results_that_wait_together_travel_together() {
    let fake = Fake::new();
    let start = Arc::new(tokio::sync::Barrier::new(4));
    let together = move |_: Task<String>, _: TaskContext| {
        let start = start.clone();
        async move {
            start.wait().await;
            Ok(())
        }
    };
    for number in 1..=4 {
        fake.submit(number, "together", "");
    }
    let agent = fake.agent().handle("together", together).build().unwrap().start();
    fake.until("four results", |state| (state.results.len() == 4).then_some(())).await;
    {
        let state = fake.state();
        assert!(state.count("/results") >= 1);
        assert!(state.count("/result") + state.count("/results") < 4);
    }
    agent.drain();
    assert_eq!(agent.wait().await.unwrap().completed, 4);
}

#[tokio::test]
async fn with_a_data_dir_a_result_outlives_the_process_and_goes_first() {
    let fake = Fake::new();
    let dir = tempfile::tempdir().unwrap();
    fake.rule("/result", std::iter::repeat_with(|| Rule::Unreachable).take(1_000));
    fake.submit(1, "echo", "kept");
    let start = || fake.agent().handle("echo", echo).data_dir(dir.path()).build().unwrap().start();
    let agent = start();
    fake.until_seen("/result", 1).await;
    // Without a connection there is no goodbye either: as near to a crash as one process comes.
    fake.change(|state| state.is_down = true);
    agent.drain();
    let report = agent.wait().await.unwrap();
    assert_eq!((report.completed, report.unsent), (0, 1));

    let second = Fake::new();
    second.submit(2, "echo", "new");
    let agent = second.agent().handle("echo", echo).data_dir(dir.path()).build().unwrap().start();
    second.until("both results", |state| (state.results.len() == 2).then_some(())).await;
    {
        let state = second.state();
        let first = |route| state.seen.iter().position(|seen| seen.route == route).unwrap();
        assert!(first("/result") < first("/tasks/lease"));
        assert_eq!(state.result(1).unwrap()["output_data"]["output"], "kept");
    }
    agent.drain();
    assert_eq!(agent.wait().await.unwrap().completed, 2);
    assert_eq!(std::fs::metadata(dir.path().join("outbox.jsonl")).unwrap().len(), 0);
}

#[tokio::test]
async fn a_page_of_another_program_is_no_answer_to_a_result() {
    let fake = Fake::new();
    fake.rule("/result", [404, 200, 422].map(Rule::AnswerWithPage));
    fake.submit(1, "echo", "kept");
    let agent = fake.agent().handle("echo", echo).build().unwrap().start();
    fake.until_seen("/result", 4).await;
    agent.drain();
    let report = agent.wait().await.unwrap();
    assert_eq!((report.completed, report.refused), (1, 0));
}

#[tokio::test]
async fn a_result_that_the_server_does_not_take_becomes_a_failure() {
    let fake = Fake::new();
    fake.rule("/result", [Rule::Refuse(ErrorCode::ValidationError)]);
    fake.submit(1, "echo", "wrong by the server's measure");
    let agent = fake.agent().handle("echo", echo).build().unwrap().start();
    let result = fake.until("a result", |state| state.result(1).cloned()).await;
    assert_eq!((&result["error_code"], &result["retryable"]), (&"INTERNAL".into(), &false.into()));
    agent.drain();
    let report = agent.wait().await.unwrap();
    assert_eq!((report.failed, report.refused), (1, 0));
}

#[tokio::test]
async fn a_result_waits_no_longer_once_heartbeats_are_answered_again() {
    let fake = Fake::new();
    fake.change(|state| (state.retry_after, state.interval_seconds) = (250, 1));
    fake.rule("/result", [Rule::Refuse(ErrorCode::Unavailable)]);
    fake.submit(1, "echo", "");
    let agent = fake.agent().handle("echo", echo).build().unwrap().start();
    fake.until_seen("/result", 1).await;
    fake.rule("/heartbeat", [Rule::Unreachable]);
    fake.until("a result", |state| state.result(1).cloned()).await;
    agent.drain();
    assert_eq!(agent.wait().await.unwrap().completed, 1);
}

#[tokio::test]
async fn an_agent_that_stops_tries_its_last_results_again_soon() {
    let fake = Fake::new();
    fake.change(|state| state.retry_after = 250);
    fake.rule("/result", (0..2).map(|_| Rule::Refuse(ErrorCode::Unavailable)));
    fake.submit(1, "echo", "");
    let agent = fake.agent().handle("echo", echo).build().unwrap().start();
    fake.until_seen("/result", 1).await;
    agent.drain();
    let report = agent.wait().await.unwrap();
    assert_eq!((report.completed, report.unsent), (1, 0));
}
