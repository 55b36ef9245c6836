//! How many tasks go through the whole path in a second: submit, lease and result, each a request of its own.
//!
//! `throughput [tasks] [agents] [submitters]`; prints one JSON line. See `benches/README.md` for what it says.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use eap_client::{AgentClient, AgentSession, Credentials, HttpCall, OperatorClient, ReqwestCall};
use eap_orchestrator::store::{SqliteOptions, SqliteStore};
use eap_orchestrator::{Access, Operator, Orchestrator, SystemClock};
use eap_types::{
    Capabilities, Feature, JsonObject, LeaseRequest, Registration, SubmitTask, TaskId, TaskResult, TaskStatus,
};
use tokio::sync::watch;
use tokio::task::JoinSet;

type BoxError = Box<dyn Error + Send + Sync>;

const INPUT: &str =
    "The quick brown fox jumps over the lazy dog and goes on through the forest until the evening comes.";

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut numbers = std::env::args().skip(1).map(|number| number.parse::<usize>());
    let mut next = |default| numbers.next().unwrap_or(Ok(default));
    let (tasks, agents, submitters) = (next(5_000)?.max(1), next(16)?.max(1), next(16)?.max(1));

    let folder = tempfile::tempdir()?;
    let clock = Arc::new(SystemClock::new());
    let store = Arc::new(SqliteStore::open(folder.path().join("eap.db"), clock.clone(), SqliteOptions::default())?);
    let orchestrator = Orchestrator::builder(store.clone()).clock(clock).access(Access::Loopback).build()?;
    orchestrator.start().await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let serving = orchestrator.clone();
    let server = tokio::spawn(async move { serving.serve(listener, std::future::pending()).await });
    let http: Arc<dyn HttpCall> = Arc::new(ReqwestCall::new()?);

    let (done, mut all_done) = watch::channel(0_usize);
    let done = Arc::new(done);
    let mut working = JoinSet::new();
    for number in 0..agents {
        let session = register(&url, http.clone(), number).await?;
        working.spawn(work(session, number, Arc::clone(&done)));
    }

    let before = store.stats().transactions;
    let started = Instant::now();
    let left = Arc::new(AtomicUsize::new(tasks));
    let mut submitting = JoinSet::new();
    for _ in 0..submitters {
        let client = OperatorClient::new(&url, http.clone())?;
        submitting.spawn(submit(client, Arc::clone(&left)));
    }
    let mut submitted = Vec::with_capacity(tasks);
    while let Some(part) = submitting.join_next().await {
        submitted.extend(part??);
    }
    tokio::select! {
        all = all_done.wait_for(|done| *done == tasks) => drop(all?),
        Some(failed) = working.join_next() => failed??,
    }
    let elapsed = started.elapsed();
    let transactions = store.stats().transactions - before;
    working.shutdown().await;

    for (task, _) in &submitted {
        let task = orchestrator.get(&Operator::host(), *task).await?;
        assert_eq!(task.status, TaskStatus::Completed, "{}", task.task_id);
    }
    orchestrator.shutdown().await;
    server.await??;

    let mut took: Vec<Duration> = submitted.into_iter().map(|(_, took)| took).collect();
    took.sort_unstable();
    let quantile = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let report = serde_json::json!({
        "tasks": tasks,
        "agents": agents,
        "submitters": submitters,
        "seconds": rounded(elapsed.as_secs_f64()),
        "tasks_per_second": (tasks as f64 / elapsed.as_secs_f64()).round(),
        "submit_p50_ms": rounded(quantile(0.5)),
        "submit_p99_ms": rounded(quantile(0.99)),
        "transactions_per_task": rounded(transactions as f64 / tasks as f64),
    });
    println!("{report}");
    Ok(())
}

/// Submits tasks, one after the other, until none is left; how long each call took.
async fn submit(client: OperatorClient, left: Arc<AtomicUsize>) -> Result<Vec<(TaskId, Duration)>, BoxError> {
    let task = SubmitTask::text("bench".parse()?, INPUT);
    let mut took = Vec::new();
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        let asked = Instant::now();
        let task = client.submit(&task, None).await?;
        took.push((task.task_id, asked.elapsed()));
    }
    Ok(took)
}

async fn register(url: &str, http: Arc<dyn HttpCall>, number: usize) -> Result<AgentSession, BoxError> {
    let client = AgentClient::new(url, http)?;
    let card = Registration::new(format!("AGENT-BENCH-{number:03}").parse()?, Capabilities::new(["bench"])?)
        .with_features([Feature::PullV1]);
    let registered = client.register(&card, Credentials::default()).await?;
    Ok(client.session(registered.agent_id, registered.auth_token, registered.endpoints))
}

/// Takes a task, reports it done, and again.
async fn work(session: AgentSession, number: usize, done: Arc<watch::Sender<usize>>) -> Result<(), BoxError> {
    for request in 0_u64.. {
        let ask = LeaseRequest::new(format!("bench-{number:03}-{request:012}").parse()?).with_wait_seconds(25);
        for task in session.lease(&ask).await? {
            let mut result = TaskResult::completed(task.task_id, JsonObject::default());
            (result.lease_id, result.attempt) = (task.lease_id, task.attempt);
            session.result(&result).await?;
            done.send_modify(|done| *done += 1);
        }
    }
    Ok(())
}

fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}
