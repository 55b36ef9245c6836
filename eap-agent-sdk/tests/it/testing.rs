//! A handler tried on its own meets what it meets in an agent, under a clock that jumps.

use std::time::{Duration, Instant};

use eap_agent_sdk::testing::{TestTask, Told};
use eap_agent_sdk::types::{FailureCode, ResultStatus};
use eap_agent_sdk::{CancelReason, HandlerError, LeaseStatus, Task, TaskContext};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::sleep;

const HOUR: Duration = Duration::from_secs(3600);

#[derive(Deserialize, Serialize, Debug, PartialEq)]
struct Sum {
    of: Vec<u64>,
}

async fn add(task: Task<Sum>, ctx: TaskContext) -> Result<u64, HandlerError> {
    let mut sum = 0;
    for (done, number) in task.input.of.iter().enumerate() {
        ctx.progress(done as f64 / task.input.of.len() as f64, format!("adding {number}")).await;
        sleep(Duration::from_secs(60)).await;
        sum += number;
    }
    if sum == 0 { Err(HandlerError::fatal("nothing to add")) } else { Ok(sum) }
}

async fn until_cancelled(_: Task<String>, ctx: TaskContext) -> Result<String, HandlerError> {
    ctx.cancelled().await;
    match ctx.cancel_reason() {
        Some(CancelReason::Shutdown) => Err(HandlerError::retry("the agent stops")),
        reason => Ok(format!("{reason:?}, {:?}", ctx.lease())),
    }
}

async fn deaf(_: Task<String>, _: TaskContext) -> Result<(), HandlerError> {
    std::future::pending().await
}

async fn panicking(task: Task<String>, _: TaskContext) -> Result<(), HandlerError> {
    panic!("{}", task.input)
}

#[test]
fn product_progress_and_time_are_those_of_the_handler() {
    let began = Instant::now();
    let run = TestTask::new("add").input(Sum { of: vec![1, 2, 3] }).run_blocking(add);
    assert_eq!(run.product::<u64>(), 6);
    let said: Vec<_> = run.progress.iter().map(|said| (said.after.as_secs(), said.message.as_str())).collect();
    assert_eq!(said, [(0, "adding 1"), (60, "adding 2"), (120, "adding 3")]);
    assert_eq!((run.progress[1].fraction, run.took), (Some(1.0 / 3.0), Duration::from_secs(180)));
    assert_eq!(run.result().output_data.to_value(), json!({"output": 6}));
    assert_eq!((run.result().attempt, &run.cancelled), (Some(1), &None));
    assert!(began.elapsed() < run.took, "three minutes of the handler are not three minutes");
}

#[test]
fn what_a_handler_emits_is_kept_in_its_order() {
    let recite = |task: Task<String>, ctx: TaskContext| async move {
        for word in task.input.split_inclusive(' ') {
            ctx.emit(word).await;
        }
        Ok(())
    };
    let run = TestTask::new("recite").input("wer reitet so spät").run_blocking(recite);
    assert_eq!(run.emitted, "wer reitet so spät");
}

#[test]
fn failures_are_told_as_an_agent_tells_them() {
    let failed = |input: serde_json::Value| TestTask::new("add").attempt(3).input(input).run_blocking(add);
    let run = failed(json!({"of": [0]}));
    assert_eq!((run.error().message(), run.error().is_retryable()), ("nothing to add", false));
    assert_eq!((run.result().status, run.result().attempt), (ResultStatus::Failed, Some(3)));
    let run = failed(json!({"of": "x"}));
    assert_eq!(run.result().error_code, Some(FailureCode::InvalidInput));
    let run = TestTask::new("any").input("on purpose").run_blocking(panicking);
    assert_eq!((run.given.is_none(), run.result().error_message.as_deref()), (true, Some("handler panicked")));
}

#[test]
fn time_that_is_up_is_a_timeout() {
    let run = TestTask::new("wait").timeout(HOUR).run_blocking(until_cancelled);
    assert_eq!(run.product::<String>(), "Some(Timeout), Held");
    assert_eq!((run.took, run.cancelled), (HOUR, Some(CancelReason::Timeout)));
    let run = TestTask::new("wait").timeout(HOUR).run_blocking(deaf);
    assert_eq!(run.result().error_code, Some(FailureCode::Timeout));
    assert_eq!((run.given.is_none(), run.took), (true, HOUR + Duration::from_secs(2)));
}

#[test]
fn each_reason_to_stop_reaches_the_handler_and_comes_to_what_it_should() {
    let stopped = |reason: CancelReason| TestTask::new("wait").cancel_after(HOUR, reason).run_blocking(until_cancelled);
    let requested = stopped(CancelReason::Requested { reason: Some("too slow".to_owned()) });
    assert_eq!((&requested.told, requested.took), (&Told::Nothing, HOUR));
    assert!(requested.product::<String>().contains("too slow"));
    let lost = stopped(CancelReason::LeaseLost);
    assert_eq!(lost.product::<String>(), format!("Some(LeaseLost), {:?}", LeaseStatus::Lost));
    assert_eq!(lost.result().status, ResultStatus::Completed, "a product may be the first one yet");
    assert_eq!(stopped(CancelReason::Shutdown).told, Told::HandedBack);
    let before = TestTask::new("wait").cancel_after(Duration::ZERO, CancelReason::LeaseLost);
    assert_eq!(before.run_blocking(until_cancelled).took, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn within_a_test_of_its_own_runtime_the_time_is_that_of_the_test() {
    let began = tokio::time::Instant::now();
    let run = TestTask::new("add").input(Sum { of: vec![1, 1] }).run(add).await;
    assert_eq!((run.product::<u64>(), began.elapsed()), (2, Duration::from_secs(120)));
}
