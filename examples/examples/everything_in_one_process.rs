//! How do orchestrator, agent and submitter work together, seen in one program?
//!
//! `cargo run -p eap-examples --example everything_in_one_process` counts the words of this repository's README and
//! ends by itself. What it stores goes to a SQLite file in a temporary folder.

use std::sync::Arc;
use std::time::Duration;

use eap_agent_sdk::{Agent, Task, TaskContext};
use eap_orchestrator::store::{SqliteOptions, SqliteStore};
use eap_orchestrator::{Access, Operator, Orchestrator, SystemClock};
use eap_types::{SubmitTask, TaskStatus};

const README: &str = include_str!("../../README.md");

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The orchestrator: its store, and a port for agents.
    let folder = tempfile::tempdir()?;
    let clock = Arc::new(SystemClock::new());
    let store = SqliteStore::open(folder.path().join("eap.db"), clock.clone(), SqliteOptions::default())?;
    let orchestrator = Orchestrator::builder(Arc::new(store)).clock(clock).access(Access::Loopback).build()?;
    orchestrator.start().await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let serving = orchestrator.clone();
    let server = tokio::spawn(async move { serving.serve(listener, std::future::pending()).await });

    // The agent: it could as well be another program on another machine.
    let agent = Agent::builder(url, "AGENT-COUNTER-01")
        .handle(
            "word_count",
            |task: Task<String>, _: TaskContext| async move { Ok(task.input.split_whitespace().count()) },
        )
        .build()?
        .start();

    // The submitter: a task for each section of the README.
    let me = Operator::host();
    let mut tasks = Vec::new();
    for section in README.split("\n## ") {
        let task = SubmitTask::text("word_count".parse()?, section);
        let title = section.lines().next().unwrap_or_default().to_owned();
        tasks.push((title, orchestrator.submit(&me, task, None).await?.task_id));
    }
    for (title, id) in tasks {
        let task = orchestrator.wait(&me, id, Duration::from_secs(30)).await?;
        assert_eq!(task.status, TaskStatus::Completed);
        let output = task.result.map(|result| result.output_data.as_str().to_owned()).unwrap_or_default();
        println!("{title}: {output}");
    }

    // Everybody stops in order: the agent first, or it would look for the orchestrator.
    agent.drain();
    println!("agent stopped: {}", agent.wait().await?);
    orchestrator.shutdown().await;
    println!("orchestrator stopped: {}", server.await??);
    Ok(())
}
