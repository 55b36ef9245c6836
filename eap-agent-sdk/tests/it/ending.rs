//! Stopping: what is finished, what is handed back, and in which order.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eap_agent_sdk::types::ErrorCode;
use eap_agent_sdk::{CancelReason, HandlerError, Status, Task, TaskContext};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};

use crate::fake::{Fake, Rule, task};

#[tokio::test]
async fn a_drain_lets_handlers_finish_and_hands_the_rest_back() {
    let fake = Fake::new();
    let (started, mut starts) = mpsc::channel(8);
    let work = move |task: Task<String>, ctx: TaskContext| {
        let started = started.clone();
        async move {
            started.send(()).await?;
            match task.input.as_str() {
                "quick" => Ok(()),
                "polite" => {
                    ctx.cancelled().await;
                    assert_eq!(ctx.cancel_reason(), Some(CancelReason::Shutdown));
                    Err(HandlerError::retry("stopped"))
                }
                _ => pending().await,
            }
        }
    };
    let agent = fake.agent().handle("work", work).build().unwrap().start();
    for (number, input) in [(1, "quick"), (2, "polite"), (3, "deaf")] {
        fake.submit(number, "work", input);
        starts.recv().await.unwrap();
    }
    let start = Instant::now();
    agent.drain();
    let report = agent.wait().await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(1_900), "{:?}", start.elapsed());
    assert_eq!((report.completed, report.released, report.unsent), (1, 2, 0));
    assert_eq!(report.to_string(), "1 completed, 0 failed, 2 released");
    let state = fake.state();
    assert!(state.calls("/heartbeat").any(|beat| beat.body["draining"] == json!(true)));
    let mut released: Vec<_> = state.released.iter().map(|released| released["task_id"].clone()).collect();
    released.sort_by_key(ToString::to_string);
    assert_eq!(released, [json!(task(2)), json!(task(3))]);
    assert!(state.released.iter().all(|released| released["body"]["draining"] == json!(true)));
    assert_eq!(state.seen.last().unwrap().route, "/deregister");
}

#[tokio::test]
async fn a_draining_agent_renews_what_it_holds_and_says_why_it_hands_back() {
    let fake = Fake::new();
    fake.change(|state| state.lease_ms = 600);
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let work = move |task: Task<String>, ctx: TaskContext| {
        let held = held.clone();
        async move {
            if task.input == "endless" {
                pending::<()>().await;
            }
            held.acquire().await?.forget();
            // All the time that it was waited for, it was its own.
            Ok(format!("{:?}", ctx.lease()))
        }
    };
    let agent = fake.agent().handle("work", work).drain_grace(Duration::from_secs(4)).build().unwrap().start();
    fake.submit(1, "work", "gate");
    fake.submit(2, "work", "endless");
    fake.until("both are listed", |state| {
        let lists_both = |body: &serde_json::Value| body["tasks"].as_array().is_some_and(|tasks| tasks.len() == 2);
        state.calls("/heartbeat").any(|beat| lists_both(&beat.body)).then_some(())
    })
    .await;
    agent.drain();
    // More than two leases long.
    fake.until("beats go on", |state| {
        let lists = |body: &serde_json::Value| {
            let tasks = body["tasks"].as_array();
            body["draining"] == true && tasks.is_some_and(|tasks| tasks.len() == 2)
        };
        (state.calls("/heartbeat").filter(|beat| lists(&beat.body)).count() >= 8).then_some(())
    })
    .await;
    gate.add_permits(1);
    let report = agent.wait().await.unwrap();
    assert_eq!((report.completed, report.released, report.refused), (1, 1, 0), "{report}");
    let state = fake.state();
    assert_eq!(state.result(1).unwrap()["output_data"], json!({ "output": "Held" }));
    assert_eq!(state.released[0]["body"]["reason"], "the agent stops");
}

#[tokio::test]
async fn run_until_ends_with_its_signal_and_takes_nothing_more() {
    let fake = Fake::new();
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let work = move |_: Task<String>, _: TaskContext| {
        let held = held.clone();
        async move {
            held.acquire().await?.forget();
            Ok(())
        }
    };
    fake.submit(1, "work", "");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let agent = fake.agent().handle("work", work).build().unwrap();
    let run = tokio::spawn(agent.run_until(stopped));
    fake.until("it is taken", |state| state.queue.is_empty().then_some(())).await;
    stop.send(()).unwrap();
    fake.until("it drains", |state| {
        state.calls("/heartbeat").any(|beat| beat.body["draining"] == json!(true)).then_some(())
    })
    .await;
    fake.submit(2, "work", "");
    gate.add_permits(1);
    let report = run.await.unwrap().unwrap();
    assert_eq!(report.completed, 1);
    assert_eq!(fake.state().queue.len(), 1, "the second task was not taken");
}

#[tokio::test]
async fn an_agent_that_never_connected_stops_at_once() {
    let fake = Fake::new();
    fake.change(|state| state.is_down = true);
    let agent = fake.agent().handle("work", |_: Task<String>, _| async { Ok(()) }).build().unwrap().start();
    fake.until_seen("/register", 1).await;
    let mut status = agent.watch_status();
    agent.drain();
    let report = agent.wait().await.unwrap();
    assert_eq!(report.agent_id, None);
    assert_eq!(*status.borrow_and_update(), Status::Stopped);
}

#[tokio::test]
async fn a_dropped_handle_stops_the_agent() {
    let fake = Fake::new();
    let agent = fake.agent().handle("work", |_: Task<String>, _| async { Ok(()) }).build().unwrap().start();
    fake.until_seen("/heartbeat", 1).await;
    drop(agent);
    fake.until_seen("/deregister", 1).await;
}

#[tokio::test]
async fn what_could_not_be_handed_back_is_not_counted_and_the_rest_waits_for_the_server_to_know() {
    let fake = Fake::new();
    let agent = fake.agent().handle("work", |_: Task<String>, _| pending::<Result<(), HandlerError>>());
    let agent = agent.drain_grace(Duration::ZERO).build().unwrap().start();
    for number in 1..=2 {
        fake.submit(number, "work", "");
    }
    fake.until("both are taken", |state| state.queue.is_empty().then_some(())).await;
    fake.rule("/release", [Rule::Refuse(ErrorCode::LeaseLost)]);
    agent.drain();
    assert_eq!(agent.wait().await.unwrap().released, 1);
    let state = fake.state();
    let told = state.seen.iter().position(|seen| seen.body["draining"] == true && seen.route == "/heartbeat");
    let released = state.seen.iter().position(|seen| seen.route == "/release");
    assert!(told.unwrap() < released.unwrap());
}

#[test]
fn an_agent_whose_runtime_ends_shows_that_it_stopped() {
    let fake = Fake::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let agent = fake.agent().handle("work", |_: Task<String>, _| async { Ok(()) }).build().unwrap();
    let handle = runtime.block_on(async { agent.start() });
    drop(runtime);
    assert_eq!(handle.status(), Status::Stopped);
}
