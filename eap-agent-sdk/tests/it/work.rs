//! Taking tasks and running handlers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use eap_agent_sdk::types::{Artifact, Assignment};
use eap_agent_sdk::{CancelReason, Handler, HandlerError, Output, Task, TaskContext};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};

use crate::fake::{Fake, Rule, lease, task};

#[derive(Deserialize)]
struct Article {
    text: String,
}

#[derive(Serialize)]
struct Summary {
    words: usize,
}

async fn summarize(task: Task<Article>, _: TaskContext) -> Result<Summary, HandlerError> {
    Ok(Summary { words: task.input.text.split_whitespace().count() })
}

#[tokio::test]
async fn a_typed_handler_does_a_task_and_its_result_is_reported() {
    let fake = Fake::new();
    fake.submit(1, "summarize", r#"{"text": "one two three"}"#);
    let agent = fake.agent().handle("summarize", summarize).build().unwrap().start();
    let result = fake.until("a result", |state| state.result(1).cloned()).await;
    assert_eq!(result["status"], "completed");
    assert_eq!(result["output_data"], json!({ "words": 3 }));
    assert_eq!(result["lease_id"], json!(lease(1)));
    assert_eq!(result["attempt"], 1);
    assert!(result["execution_time_ms"].is_number());
    let capabilities = fake.state().calls("/register").next().unwrap().body["capabilities"].clone();
    assert_eq!(capabilities, json!(["summarize"]));
    agent.drain();
    let report = agent.wait().await.unwrap();
    assert_eq!((report.completed, report.failed), (1, 0));
}

#[tokio::test]
async fn failures_say_what_they_are() {
    let fake = Fake::new();
    let inputs = ["retry", "fatal", "reject", "panic", "null", "not json at all"];
    for (input, number) in inputs.into_iter().zip(1..) {
        fake.submit(number, "fail", input);
    }
    fake.submit(7, "summarize", "no object");
    fake.submit(8, "unknown", "");
    let fail = |task: Task<String>, _: TaskContext| async move {
        match task.input.as_str() {
            "retry" => Err(std::io::Error::other("broken pipe"))?,
            "fatal" => return Err(HandlerError::fatal("no use").with_output(json!({ "seen": 1 }))),
            "reject" => return Err(HandlerError::reject("not me")),
            "panic" => panic!("with a secret in it"),
            _ => {}
        }
        Ok(())
    };
    let agent = fake
        .agent()
        .handle("fail", fail)
        .handle("summarize", summarize)
        .max_concurrent_tasks(10)
        .build()
        .unwrap()
        .start();
    fake.until("eight results", |state| (state.results.len() == 8).then_some(())).await;
    let told = |number| {
        let result = fake.state().result(number).cloned().unwrap();
        (result["error_code"].clone(), result["retryable"].clone(), result["error_message"].clone())
    };
    assert_eq!(told(1), (json!("HANDLER_ERROR"), Value::Null, json!("broken pipe")));
    assert_eq!(told(2), (json!("HANDLER_ERROR"), json!(false), json!("no use")));
    assert_eq!(told(3), (json!("REJECTED"), Value::Null, json!("not me")));
    assert_eq!(told(4), (json!("HANDLER_ERROR"), Value::Null, json!("handler panicked")));
    assert_eq!(fake.state().result(5).unwrap()["output_data"], json!({}));
    assert_eq!(told(7).0, "INVALID_INPUT");
    assert_eq!(told(8).0, "UNSUPPORTED_TASK");
    // The panic took nothing with it: the agent goes on.
    fake.submit(9, "summarize", r#"{"text": "one"}"#);
    fake.until("another result", |state| state.result(9).cloned()).await;
    agent.drain();
    let report = agent.wait().await.unwrap();
    assert_eq!((report.completed, report.failed), (3, 6));
}

struct Drawing;

#[async_trait]
impl Handler for Drawing {
    async fn run(&self, task: Assignment, _: TaskContext) -> Result<Output, HandlerError> {
        let picture = Artifact::from_bytes("out/picture.bin".parse()?, &[0, 255]);
        Ok(Output::of(&task.input_data.len())?.artifact(picture).with_tokens_used(7.0).with_cost_usd(0.5))
    }
}

#[tokio::test]
async fn the_full_handler_gives_artifacts_and_figures() {
    let fake = Fake::new();
    // One handler is meant whatever the type says: the task came by a capability.
    fake.submit(1, "illustration", "four");
    let agent = fake.agent().handle_with("draw", Drawing).capability("illustrate").build().unwrap().start();
    let result = fake.until("a result", |state| state.result(1).cloned()).await;
    assert_eq!(result["output_data"], json!({ "output": 4 }));
    assert_eq!(result["artifacts"][0]["path"], "out/picture.bin");
    assert_eq!(result["artifacts"][0]["encoding"], "base64");
    assert_eq!((&result["tokens_used"], &result["cost_usd"]), (&json!(7), &json!(0.5)));
    agent.drain();
    agent.wait().await.unwrap();
}

#[tokio::test]
async fn a_lost_answer_to_a_poll_is_asked_for_again_and_runs_once() {
    let fake = Fake::new();
    fake.submit(1, "count", "");
    fake.rule("/tasks/lease", [Rule::LoseAnswer]);
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let count = move |_: Task<String>, _: TaskContext| {
        let counted = counted.clone();
        async move { Ok(counted.fetch_add(1, Ordering::SeqCst)) }
    };
    let agent = fake.agent().handle("count", count).build().unwrap().start();
    fake.until("a result", |state| state.result(1).cloned()).await;
    let ids: Vec<Value> = fake.state().calls("/tasks/lease").map(|call| call.body["request_id"].clone()).collect();
    assert_eq!(ids[0], ids[1]);
    assert!(ids.len() < 3 || ids[2] != ids[1]);
    agent.drain();
    agent.wait().await.unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_assignment_that_comes_twice_runs_once() {
    let fake = Fake::new();
    let (started, mut starts) = mpsc::channel(8);
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let hold = move |task: Task<String>, _: TaskContext| {
        let (started, held) = (started.clone(), held.clone());
        async move {
            started.send(task.id).await?;
            held.acquire().await?.forget();
            Ok(())
        }
    };
    let assignment = fake.submit(1, "hold", "");
    let agent = fake.agent().handle("hold", hold).build().unwrap().start();
    assert_eq!(starts.recv().await, Some(task(1)));
    fake.change(|state| state.queue.push_back(assignment));
    fake.submit(2, "hold", "");
    assert_eq!(starts.recv().await, Some(task(2)));
    gate.add_permits(2);
    fake.until("both results", |state| (state.results.len() == 2).then_some(())).await;
    agent.drain();
    assert_eq!(agent.wait().await.unwrap().completed, 2);
    assert!(starts.try_recv().is_err());
}

#[tokio::test]
async fn no_more_tasks_are_asked_for_than_there_is_room_for() {
    let fake = Fake::new();
    for number in 1..=6 {
        fake.submit(number, "hold", "");
    }
    let gate = Arc::new(Semaphore::new(0));
    let (most, now) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (held, peak) = (gate.clone(), most.clone());
    let hold = move |_: Task<String>, _: TaskContext| {
        let (held, peak, now) = (held.clone(), peak.clone(), now.clone());
        async move {
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            held.acquire().await?.forget();
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        }
    };
    let agent = fake.agent().handle("hold", hold).max_concurrent_tasks(2).build().unwrap().start();
    fake.until("the first two", |state| (state.queue.len() == 4).then_some(())).await;
    gate.add_permits(6);
    fake.until("all results", |state| (state.results.len() == 6).then_some(())).await;
    assert_eq!(most.load(Ordering::SeqCst), 2);
    assert!(fake.state().calls("/tasks/lease").all(|call| call.body["max_tasks"].as_u64().unwrap() <= 2));
    agent.drain();
    agent.wait().await.unwrap();
}

#[tokio::test]
async fn a_task_that_takes_too_long_is_stopped_and_reported_as_such() {
    let fake = Fake::new();
    let mut assignment = fake.submit(1, "slow", "");
    assignment["timeout_seconds"] = json!(1);
    fake.change(|state| state.queue[0] = assignment);
    let slow = |_: Task<String>, ctx: TaskContext| async move {
        ctx.cancelled().await;
        assert_eq!(ctx.cancel_reason(), Some(CancelReason::Timeout));
        Err::<(), _>(HandlerError::retry("stopped"))
    };
    let agent = fake.agent().handle("slow", slow).build().unwrap().start();
    let result = fake.until("a result", |state| state.result(1).cloned()).await;
    assert_eq!(result["error_code"], "TIMEOUT");
    agent.drain();
    agent.wait().await.unwrap();
}

#[tokio::test]
async fn progress_is_reported_with_its_newest_word() {
    let fake = Fake::new();
    fake.submit(1, "work", "");
    let (go, wait) = tokio::sync::watch::channel(false);
    let work = move |_: Task<String>, ctx: TaskContext| {
        let mut wait = wait.clone();
        async move {
            for step in 0..=20 {
                ctx.progress(f64::from(step) / 20.0, format!("step {step}")).await;
            }
            wait.wait_for(|go| *go).await?;
            Ok(())
        }
    };
    let agent = fake.agent().handle("work", work).build().unwrap().start();
    let newest = |state: &crate::fake::State| state.calls("/progress").last().map(|call| call.body.clone());
    let last = fake.until("the last step", |state| newest(state).filter(|body| body["message"] == "step 20")).await;
    assert_eq!(last["progress"], 1);
    assert_eq!(last["lease_id"], json!(lease(1)));
    assert!(fake.state().count("/progress") <= 3, "21 words within a moment become few reports");
    go.send(true).unwrap();
    agent.drain();
    agent.wait().await.unwrap();
}

#[tokio::test]
async fn an_orchestrator_that_errs_is_not_asked_in_a_tight_loop() {
    let fake = Fake::new();
    fake.rule("/tasks/lease", (0..5).map(|_| Rule::Refuse(eap_agent_sdk::types::ErrorCode::ValidationError)));
    let start = std::time::Instant::now();
    let agent = fake.agent().handle("summarize", summarize).build().unwrap().start();
    fake.until_seen("/tasks/lease", 6).await;
    assert!(start.elapsed() >= Duration::from_millis(5 * 50));
    agent.drain();
    agent.wait().await.unwrap();
}

#[tokio::test]
async fn tasks_that_are_too_long_together_are_asked_for_one_by_one() {
    let fake = Fake::new();
    fake.rule("/tasks/lease", [Rule::AnswerTooLong]);
    let agent = fake.agent().handle("work", |_: Task<String>, _| async { Ok(()) }).build().unwrap().start();
    fake.until_seen("/tasks/lease", 2).await;
    {
        let state = fake.state();
        let asked: Vec<_> = state.calls("/tasks/lease").map(|seen| &seen.body).collect();
        assert_ne!(asked[0]["request_id"], asked[1]["request_id"]);
        assert_eq!((&asked[0]["max_tasks"], &asked[1]["max_tasks"]), (&json!(5), &json!(1)));
    }
    agent.drain();
    agent.wait().await.unwrap();
}

#[tokio::test]
async fn tasks_in_an_answer_that_cannot_be_read_are_asked_for_again_but_not_for_ever() {
    let fake = Fake::new();
    fake.rule("/tasks/lease", (0..4).map(|_| Rule::AnswerWithPage(200)));
    let agent = fake.agent().handle("work", |_: Task<String>, _| async { Ok(()) }).build().unwrap().start();
    fake.until_seen("/tasks/lease", 5).await;
    {
        let state = fake.state();
        let asked: Vec<_> = state.calls("/tasks/lease").map(|seen| &seen.body).collect();
        assert!(asked[..4].iter().all(|body| body["request_id"] == asked[0]["request_id"]));
        assert_ne!(asked[4]["request_id"], asked[0]["request_id"]);
        assert_eq!(asked[4]["max_tasks"], 1);
    }
    agent.drain();
    agent.wait().await.unwrap();
}

#[tokio::test]
async fn progress_that_was_made_without_a_session_is_reported_with_the_next() {
    let fake = Fake::new();
    let (words, said) = mpsc::channel::<&str>(2);
    let said = Arc::new(tokio::sync::Mutex::new(said));
    let work = move |_: Task<String>, ctx: TaskContext| {
        let said = said.clone();
        async move {
            while let Some(word) = said.lock().await.recv().await {
                ctx.progress(0.5, word).await;
            }
            Ok(())
        }
    };
    fake.submit(1, "work", "");
    let agent = fake.agent().handle("work", work).build().unwrap().start();
    fake.until("it is taken", |state| state.queue.is_empty().then_some(())).await;
    let mut status = agent.watch_status();
    fake.rule("/register", (0..10_000).map(|_| Rule::Unreachable));
    fake.change(crate::fake::State::wipe);
    words.send("refused").await.unwrap();
    status.wait_for(|status| *status == eap_agent_sdk::Status::Connecting).await.unwrap();
    words.send("kept").await.unwrap();
    let seen = fake.state().count("/register");
    // Long enough for the gap between two reports to be over.
    fake.until_seen("/register", seen + 8).await;
    fake.forgive("/register");
    fake.until("the word arrives", |state| {
        state.calls("/progress").any(|seen| seen.body["message"] == "kept").then_some(())
    })
    .await;
    drop(words);
    agent.drain();
    agent.wait().await.unwrap();
}
