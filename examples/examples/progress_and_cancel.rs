//! How does a handler report progress, emit output in parts, and learn that its task was cancelled?
//!
//! `cargo run -p eap-examples --example progress_and_cancel` brings its own orchestrator and ends by itself.

use std::time::Duration;

use eap_agent_sdk::{Agent, HandlerError, Task, TaskContext};
use eap_orchestrator::store::EventSeq;
use eap_orchestrator::{Access, Operator, Orchestrator};
use eap_types::{SubmitTask, TaskStatus};

/// Paints a wall metre by metre. Long work awaits `cancelled` beside whatever else it awaits.
async fn paint(task: Task<u32>, ctx: TaskContext) -> Result<u32, HandlerError> {
    for metre in 0..task.input {
        ctx.progress(f64::from(metre) / f64::from(task.input), format!("metre {metre}")).await;
        ctx.emit(format!("metre {metre} is green\n")).await;
        tokio::select! {
            () = ctx.cancelled() => {
                println!("painter: told to stop at metre {metre}: {:?}", ctx.cancel_reason());
                return Err(HandlerError::fatal("stopped halfway"));
            }
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
    }
    Ok(task.input)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let orchestrator = Orchestrator::builder_in_memory().access(Access::Loopback).build()?;
    orchestrator.start().await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let serving = orchestrator.clone();
    let server = tokio::spawn(async move { serving.serve(listener, std::future::pending()).await });
    let agent = Agent::builder(url, "AGENT-PAINTER-01").handle("paint", paint).build()?.start();

    let me = Operator::host();
    let task = SubmitTask::json("paint".parse()?, &1_000)?;
    let id = orchestrator.submit(&me, task, None).await?.task_id;
    let mut events = orchestrator.events(&me, EventSeq(0));
    while events.next().await?.kind != "task.progress" {}
    let output = loop {
        let event = events.next().await?;
        if event.kind == "task.output_delta" {
            break event.detail.to_value();
        }
    };
    println!("operator hears: {}", output["output_delta"]);
    let seen = orchestrator.get(&me, id).await?;
    println!("operator: {:?}", seen.progress.and_then(|progress| progress.message));

    // Final at once, whatever the agent still does; the agent hears of it with its next report or heartbeat.
    let cancelled = orchestrator.cancel(&me, id, Some("the wrong colour".into())).await?;
    assert_eq!(cancelled.status, TaskStatus::Cancelled);
    println!("operator: {}", cancelled.status);

    agent.drain();
    println!("agent stopped: {}", agent.wait().await?);
    orchestrator.shutdown().await;
    println!("orchestrator stopped: {}", server.await??);
    Ok(())
}
