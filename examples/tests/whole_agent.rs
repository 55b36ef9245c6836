//! An agent as a whole, against an orchestrator in the process of the test and under its clock.

use std::sync::Arc;
use std::time::Duration;

use eap_agent_sdk::{Agent, CancelReason, HandlerError, Task, TaskContext};
use eap_orchestrator::Operator;
use eap_orchestrator::testing::TestOrchestrator;
use eap_types::{AttemptOutcome, SubmitTask, TaskStatus};
use tokio::sync::Notify;

fn task() -> SubmitTask {
    SubmitTask::text("watch".parse().expect("a task type"), "")
}

#[tokio::test]
async fn a_lease_that_lapses_ends_the_attempt_and_the_next_one_completes() {
    let server = TestOrchestrator::start().await;
    let begun = Arc::new(Notify::new());
    let watch = {
        let begun = begun.clone();
        move |task: Task<String>, ctx: TaskContext| {
            let begun = begun.clone();
            async move {
                if task.attempt > 1 {
                    return Ok("the second time");
                }
                begun.notify_one();
                ctx.cancelled().await;
                assert_eq!(ctx.cancel_reason(), Some(CancelReason::LeaseLost));
                Err(HandlerError::retry("too late"))
            }
        }
    };
    let agent = Agent::builder(server.url(), "AGENT-WATCH-01").handle("watch", watch).max_concurrent_tasks(2);
    let agent = agent.build().expect("a valid agent").start();
    let id = server.submit(task()).await;
    begun.notified().await;
    // The lease is 60 s; what the agent says meanwhile comes by its own clock, which has hardly moved.
    server.advance(Duration::from_secs(60)).await;
    let first = server.orchestrator().history(&Operator::host(), id).await.expect("the task is known");
    assert_eq!(first.attempts[0].outcome, AttemptOutcome::Expired);
    let done = server.finished(id).await;
    assert_eq!((done.status, done.attempt), (TaskStatus::Completed, 2));
    agent.drain();
    agent.wait().await.expect("an ordinary end");
}
