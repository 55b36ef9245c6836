//! P4: from submit to the start of the handler at a low rate that does not depend on the answers (open loop): a submit
//! that is late counts from when it was due.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use eap_agent_sdk::{Agent, HandlerError, Task, TaskContext};
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::connection::Connection;
use crate::host::{Host, REGISTRATION_SECRET, Side};
use crate::load::{Quantiles, histogram};
use crate::postgres::Schema;
use crate::report::{Floor, Report};
use crate::requests::{self, Assignments, Stamps};
use crate::{BoxError, Common};

/// Tasks submitted in a second.
const RATE: f64 = 20.0;
/// What runs are called whose agents wait at another replica.
const ACROSS: &str = "ours_postgres_across";
/// Agents that wait with a poll each.
const AGENTS: usize = 4;

#[derive(Clone, Copy, Debug, Serialize)]
struct Setting {
    tasks_per_second: f64,
    agents: usize,
    /// Whether the agent is one made with the SDK, in the callers' process; else the polls are raw.
    sdk: bool,
}

#[derive(Debug, Serialize)]
struct Starts {
    tasks: u64,
    /// From when the submit was due until its task was with its handler.
    start_ms: Quantiles,
}

/// Bare and ours by turns with raw polls, then ours with an agent of the SDK.
pub(crate) async fn measure(common: &Common, report: &mut Report) -> Result<(), BoxError> {
    let seconds = common.measured(8.0).as_secs_f64();
    let tasks = (RATE * seconds) as u64;
    for run in report.runs() {
        for side in common.sides([Side::Bare, Side::BareTogether, Side::Ours]) {
            let folder = tempfile::tempdir()?;
            let host = Host::start(side, folder.path()).await?;
            let starts = with_polls(&host, tasks).await?;
            host.stop().await?;
            add(report, side.name(), run, false, &starts)?;
        }
        for _ in common.sides([Side::Ours]) {
            let folder = tempfile::tempdir()?;
            let host = Host::start(Side::Ours, folder.path()).await?;
            let starts = with_sdk(&host, tasks).await?;
            host.stop().await?;
            add(report, "ours_sdk", run, true, &starts)?;
        }
    }
    on_postgres(common, tasks, report).await?;
    let ours = |member| report.spread("P4", "ours", member);
    let (p50, p99) = (ours("start_ms.p50"), ours("start_ms.p99"));
    let over = p50.over(report.spread("P4", "bare_together", "start_ms.p50"));
    report.floor(Floor::at_most("P4", "start p50, ms (goal)", 1.0, p50));
    report.floor(Floor::at_most("P4", "start p99, ms (goal)", 3.0, p99));
    report.floor(Floor::at_most("P4", "start p50 over bare one-commit", 1.25, over));
    Ok(())
}

/// The same with our server on PostgreSQL.
async fn on_postgres(common: &Common, tasks: u64, report: &mut Report) -> Result<(), BoxError> {
    for run in report.runs() {
        for side in common.sides([Side::OursPostgres]) {
            let Some(schema) = Schema::new() else { return Ok(()) };
            let host = Host::start_on_postgres(&schema).await?;
            let starts = with_polls(&host, tasks).await?;
            host.stop().await?;
            add(report, side.name(), run, false, &starts)?;
            schema.remove().await?;
            let Some(schema) = Schema::new() else { return Ok(()) };
            let host = Host::start_on_postgres(&schema).await?;
            let starts = with_sdk(&host, tasks).await?;
            host.stop().await?;
            add(report, "ours_postgres_sdk", run, true, &starts)?;
            schema.remove().await?;
            let Some(schema) = Schema::new() else { return Ok(()) };
            let (here, there) = Host::start_replicas(&schema, 2).await?;
            for there in there {
                let starts = with_polls_at(&here, &there, tasks).await?;
                there.stop().await?;
                add(report, ACROSS, run, false, &starts)?;
            }
            here.stop().await?;
            schema.remove().await?;
        }
    }
    let across = |member| report.spread("P4", ACROSS, member);
    let (p50, p99) = (across("start_ms.p50"), across("start_ms.p99"));
    report.floor(Floor::at_most("P4", "start p50 at another replica, ms", 5.0, p50));
    report.floor(Floor::at_most("P4", "start p99 at another replica, ms", 15.0, p99));
    let ours = |member| report.spread("P4", "ours_postgres", member);
    let (p50, p99) = (ours("start_ms.p50"), ours("start_ms.p99"));
    report.floor(Floor::at_most("P4", "start p50 on PostgreSQL, ms", 2.0, p50));
    report.floor(Floor::at_most("P4", "start p99 on PostgreSQL, ms", 5.0, p99));
    Ok(())
}

fn add(report: &mut Report, side: &str, run: usize, sdk: bool, starts: &Histogram<u64>) -> Result<(), BoxError> {
    let setting = Setting { tasks_per_second: RATE, agents: if sdk { 1 } else { AGENTS }, sdk };
    report.add("P4", side, run, &setting, &Starts { tasks: starts.len(), start_ms: Quantiles::of(starts) })
}

/// Agents that hold a poll open and report at once.
async fn with_polls(host: &Host, tasks: u64) -> Result<Histogram<u64>, BoxError> {
    with_polls_at(host, host, tasks).await
}

/// The same with agents at another replica than the submitters.
async fn with_polls_at(host: &Host, there: &Host, tasks: u64) -> Result<Histogram<u64>, BoxError> {
    let stamps = Stamps::new();
    let starts = Rc::new(RefCell::new(histogram()?));
    let mut working = JoinSet::new();
    for (agent, mut connection) in requests::agents(&[there.address], AGENTS, there.side.is_ours()).await? {
        let starts = Rc::clone(&starts);
        working.spawn_local(async move {
            let mut lease = agent.lease(1, 25);
            loop {
                let reply = connection.call(lease.with(stamps.now())).await?;
                if reply.status == 204 {
                    continue;
                }
                let body = reply.expect(200)?;
                let now = stamps.now();
                for due in Stamps::find_all(body) {
                    starts.borrow_mut().saturating_record(now.saturating_sub(due));
                }
                let held: Assignments<'_> = serde_json::from_slice(body)?;
                if let Some(task) = held.tasks.first() {
                    let report = agent.result(task);
                    connection.call(&report).await?.expect(200)?;
                }
            }
        });
    }
    let all = async {
        submit(host, tasks, stamps).await?;
        while starts.borrow().len() < tasks {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok::<_, BoxError>(())
    };
    tokio::select! {
        all = all => all?,
        Some(ended) = working.join_next() => {
            let ended: io::Result<()> = ended?;
            ended?;
        }
    }
    working.shutdown().await;
    let starts = starts.borrow().clone();
    Ok(starts)
}

/// One agent of the SDK with an empty handler.
async fn with_sdk(host: &Host, tasks: u64) -> Result<Histogram<u64>, BoxError> {
    let stamps = Stamps::new();
    let (started, arrivals) = channel();
    let agent = Agent::builder(format!("http://{}", host.address), "AGENT-BENCH-SDK")
        .registration_secret(REGISTRATION_SECRET)
        .max_concurrent_tasks(16)
        .handle("bench", move |task: Task<String>, _: TaskContext| {
            let now = stamps.now();
            let due = Stamps::find_all(task.input.as_bytes()).next();
            let told = started.send((due, now));
            async move { told.map_err(|_| HandlerError::fatal("the measurement is over")) }
        })
        .build()?;
    let agent = agent.start();
    let mut status = agent.watch_status();
    status.wait_for(|status| *status == eap_agent_sdk::Status::Online).await?;
    submit(host, tasks, stamps).await?;
    let starts = collect(&arrivals, tasks).await?;
    agent.drain();
    agent.wait().await?;
    Ok(starts)
}

async fn collect(arrivals: &Receiver<(Option<u64>, u64)>, tasks: u64) -> Result<Histogram<u64>, BoxError> {
    let mut starts = histogram()?;
    while starts.len() < tasks {
        match arrivals.try_recv() {
            Ok((Some(due), now)) => starts.saturating_record(now.saturating_sub(due)),
            Ok((None, _)) => return Err("a task came without its time".into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    Ok(starts)
}

/// Submits at the rate, whatever the answers take, once the agents have had time to wait.
async fn submit(host: &Host, tasks: u64, stamps: Stamps) -> Result<(), BoxError> {
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begin = tokio::time::Instant::now();
    let mut idle: Vec<Connection> = Vec::new();
    let mut submitting = JoinSet::new();
    for number in 0..tasks {
        tokio::time::sleep_until(begin + Duration::from_secs_f64(number as f64 / RATE)).await;
        // The timer's own delay, up to a millisecond, is not the server's: the task is due now.
        let due = stamps.now();
        while let Some(done) = submitting.try_join_next() {
            let done: io::Result<Connection> = done?;
            idle.push(done?);
        }
        let mut connection = match idle.pop() {
            Some(connection) => connection,
            None => Connection::open(host.address).await?,
        };
        submitting.spawn_local(async move {
            connection.call(requests::submit().with(due)).await?.expect(201)?;
            Ok(connection)
        });
    }
    while let Some(done) = submitting.join_next().await {
        done??;
    }
    Ok(())
}
