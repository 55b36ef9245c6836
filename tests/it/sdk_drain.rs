//! A stopping agent finishes what it can, hands back the rest, and says goodbye (A5, A37).

use std::time::{Duration, Instant};

use eap_agent_sdk::{CancelReason, HandlerError, Status, Task, TaskContext};
use eap_types::{AgentState, TaskStatus};
use tokio::sync::mpsc;

use crate::harness::in_time;
use crate::sdk_harness::{Gate, Site, until};

const LONG: Duration = Duration::from_secs(5);
const GRACE: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_drain_finishes_what_runs_hands_back_what_does_not_end_and_deregisters() {
    let site = Site::start().await;
    let (arrivals, gate, (reasons, mut reason)) = (Gate::closed(), Gate::closed(), mpsc::channel(8));
    let (arriving, waiting) = (arrivals.clone(), gate.clone());
    arrivals.open();
    let work = move |task: Task<String>, ctx: TaskContext| {
        let (arrivals, gate, reasons) = (arriving.clone(), waiting.clone(), reasons.clone());
        async move {
            arrivals.pass().await;
            match task.input.as_str() {
                "in time" => gate.pass().await,
                "polite" => {
                    ctx.cancelled().await;
                    reasons.send(ctx.cancel_reason()).await.expect("the test listens");
                    return Err(HandlerError::retry("told to stop"));
                }
                _ => std::future::pending().await,
            }
            Ok("done")
        }
    };
    let agent = site.agent("AGENT-DRAIN").drain_grace(GRACE).handle("work", work).build().unwrap().start();
    let in_time_task = site.submit("work", "in time").await;
    let polite = site.submit("work", "polite").await;
    let stubborn = site.submit("work", "stubborn").await;
    until(LONG, "all three run", async || (arrivals.arrived() == 3).then_some(())).await;

    let (id, begun) = (agent.agent_id().expect("it is registered"), Instant::now());
    agent.drain();
    until(LONG, "the server knows", async || (site.only_agent().agent.state == AgentState::Draining).then_some(()))
        .await;
    assert_eq!(agent.status(), Status::Draining);
    let late = site.submit("work", "late").await;
    gate.open();
    assert_eq!(site.until_final(in_time_task, LONG).await.status, TaskStatus::Completed);
    assert_eq!(in_time("the polite one is told", reason.recv()).await.unwrap(), Some(CancelReason::Shutdown));
    let report = in_time("the agent ends", agent.wait()).await.unwrap();
    let took = begun.elapsed();

    assert_eq!((report.completed, report.released, report.failed), (1, 2, 0), "{report}");
    assert_eq!((report.cancelled, report.refused, report.unsent), (0, 0, 0), "{report}");
    assert!(took >= GRACE && took < GRACE + LONG, "a handler that never ends has its grace and no more: {took:?}");
    assert_eq!(site.agents(), [], "it said goodbye");
    assert_eq!(site.agent_detail(&id).agent.state, AgentState::Deregistered);
    assert_eq!(site.task(late).await.attempt, 0, "nothing new was taken");
    for task in [polite, stubborn] {
        assert_eq!(site.task(task).await.status, TaskStatus::Queued);
        assert_eq!(site.outcomes(task).await, ["released"]);
    }

    // What was handed back is there for the next one at once.
    let next = site.agent("AGENT-NEXT").handle("work", |_: Task<String>, _: TaskContext| async { Ok("done") });
    let _next = next.build().unwrap().start();
    for (task, attempt) in [(polite, 2), (stubborn, 2), (late, 1)] {
        let done = site.until_final(task, LONG).await;
        assert_eq!((done.status, done.attempt), (TaskStatus::Completed, attempt));
    }
}
