//! Everything that can go wrong with `run` and with the work, on purpose.

use std::time::{Duration, Instant};

use mock_agentkit::{Outcome, RunFaults, Work, WorkFaults};
use serde_json::json;

use crate::http::call;
use crate::receiver::{Call, Receiver, message, platform_agent};

fn states(receiver: &Receiver) -> Vec<String> {
    receiver.calls()[1..].iter().map(Call::state).collect()
}

#[tokio::test]
async fn an_answer_with_a_status_does_nothing() {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().with_runs(RunFaults::answered_with(503).times(1)).start().await.unwrap();
    mock.register(platform_agent("a1")).await.unwrap();
    let run = format!("{}/v1/agents/a1/run", mock.url());
    let refused = json!({ "status": "error", "message": "A fault was asked for.", "error_code": "FAULT" });
    assert_eq!(call("POST", &run, Some(&message("t"))).await, (503, refused));
    assert_eq!(states(&receiver).len(), 0);
    assert_eq!(call("POST", &run, Some(&message("t"))).await.0, 200, "it was for once");
    assert_eq!(states(&receiver), ["BUSY", "IDLE"]);
    mock.stop().await;
}

#[tokio::test]
async fn a_late_answer_comes_after_the_reports() {
    let receiver = Receiver::start().await;
    let late = Duration::from_millis(300);
    let mock = receiver.mock().with_runs(RunFaults::late(late)).start().await.unwrap();
    mock.register(platform_agent("a1")).await.unwrap();
    let (run, begun) = (format!("{}/v1/agents/a1/run", mock.url()), Instant::now());
    let running = tokio::spawn(async move { call("POST", &run, Some(&message("t"))).await });
    receiver.wait_for(3).await;
    assert!(!running.is_finished() || begun.elapsed() >= late, "it was answered too early");
    assert_eq!(running.await.unwrap().0, 200);
    assert!(begun.elapsed() >= late);
    mock.stop().await;
}

#[tokio::test]
async fn an_agent_that_crashes_reports_no_more_and_the_next_task_goes_well() {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().with_work(WorkFaults::crashed().times(1)).start().await.unwrap();
    mock.register(platform_agent("a1")).await.unwrap();
    let run = format!("{}/v1/agents/a1/run", mock.url());
    assert_eq!(call("POST", &run, Some(&message("t1"))).await.0, 200, "the platform took the task");
    assert!(mock.is_idle(), "nothing is to come");
    assert_eq!(states(&receiver), ["BUSY"]);
    call("POST", &run, Some(&message("t2"))).await;
    assert_eq!(states(&receiver), ["BUSY", "BUSY", "IDLE"]);
    mock.stop().await;
}

#[tokio::test]
async fn work_may_end_in_an_error() {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().with_work(WorkFaults::failed().times(1)).start().await.unwrap();
    mock.register(platform_agent("a1")).await.unwrap();
    let run = format!("{}/v1/agents/a1/run", mock.url());
    call("POST", &run, Some(&message("t1"))).await;
    let failed = json!({ "last_task_result": "simulated_failure", "error": "the simulated work failed" });
    assert_eq!(receiver.calls()[2].json()["details"], failed);
    call("POST", &run, Some(&message("t2"))).await;
    mock.set_work(Work::new().for_duration(Duration::ZERO).ending_in(Outcome::Failure).naming_tasks(true));
    call("POST", &run, Some(&message("t3"))).await;
    assert_eq!(states(&receiver), ["BUSY", "ERROR", "BUSY", "IDLE", "BUSY", "ERROR"]);
    assert_eq!(receiver.calls()[6].json()["details"]["task_id"], "t3");
    mock.stop().await;
}

#[tokio::test]
async fn work_goes_on_when_the_caller_hangs_up() {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().works_for(Duration::from_millis(100)).start().await.unwrap();
    mock.register(platform_agent("a1")).await.unwrap();
    let run = format!("{}/v1/agents/a1/run", mock.url());
    let running = tokio::spawn(async move { call("POST", &run, Some(&message("t"))).await });
    receiver.wait_for(2).await;
    running.abort();
    receiver.wait_for(3).await;
    assert_eq!(states(&receiver), ["BUSY", "IDLE"]);
    mock.stop().await;
}
