//! The orchestrator of a test does what the clock brings as the clock is moved, and nothing by itself.

use std::time::Duration;

use eap_orchestrator::Operator;
use eap_orchestrator::testing::TestOrchestrator;
use eap_types::{SubmitTask, TaskStatus};

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

fn task() -> SubmitTask {
    SubmitTask::text("work".parse().unwrap(), "input")
}

#[tokio::test]
async fn a_delayed_start_and_an_expiry_come_at_their_moments_however_far_the_clock_is_moved() {
    let server = TestOrchestrator::start().await;
    let begun = server.now();
    let mut delayed = task();
    (delayed.run_at, delayed.expires_at) = (Some(begun + HOUR), Some(begun + 3 * HOUR));
    let id = server.submit(delayed).await;
    let explained = async || {
        let explanation = server.orchestrator().explain(&Operator::host(), id).await.unwrap();
        serde_json::to_value(explanation.whereabouts).unwrap()
    };
    server.advance(HOUR - SECOND).await;
    assert_eq!(explained().await, "delayed");
    server.advance(SECOND).await;
    assert_eq!(explained().await, "ready");
    server.advance(10 * HOUR).await;
    let dead = server.finished(id).await;
    assert_eq!((dead.status, dead.updated_at), (TaskStatus::Dead, begun + 3 * HOUR));
    assert_eq!(server.now(), begun + 11 * HOUR);
    assert_eq!(server.stop().await.connections_cut, 0);
}

#[tokio::test]
async fn a_day_passes_for_a_thousand_tasks() {
    let server = TestOrchestrator::start().await;
    let begun = server.now();
    let mut ids = Vec::new();
    for number in 0..1_000 {
        let mut one = task();
        one.expires_at = Some(begun + number * 60 * SECOND + SECOND);
        ids.push(server.submit(one).await);
    }
    server.advance(24 * HOUR).await;
    for (number, id) in (0..).zip(ids) {
        let expired = server.task(id).await;
        assert_eq!((expired.status, expired.updated_at), (TaskStatus::Dead, begun + number * 60 * SECOND + SECOND));
    }
}

#[tokio::test]
async fn what_is_old_enough_goes_as_the_clock_moves() {
    let server = TestOrchestrator::start_with(|config| config.retention.tasks = HOUR).await;
    let id = server.submit(task()).await;
    server.orchestrator().cancel(&Operator::host(), id, None).await.unwrap();
    server.advance(HOUR - SECOND).await;
    assert_eq!(server.task(id).await.status, TaskStatus::Cancelled);
    server.advance(2 * SECOND).await;
    assert!(server.orchestrator().get(&Operator::host(), id).await.is_err());
}
