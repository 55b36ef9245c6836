//! P11: what the SDK costs: processor time per task beyond the handler, and what an idle agent takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use eap_agent_sdk::{Agent, HandlerError, Task, TaskContext};
use serde::Serialize;
use tokio::sync::oneshot;

use crate::connection::Connection;
use crate::host::{Host, REGISTRATION_SECRET, Side, answer_questions};
use crate::load::rounded;
use crate::report::{Floor, Report};
use crate::requests;
use crate::{BoxError, Common};

/// Tasks that the agent takes at once.
const AT_ONCE: u32 = 64;
/// Tasks in one submit.
const PER_SUBMIT: usize = 100;
/// Tasks that wait at most.
const WAITING: u64 = 1_000;

#[derive(Clone, Copy, Debug, Serialize)]
struct Setting {
    max_concurrent_tasks: u32,
}

#[derive(Debug, Serialize)]
struct Costs {
    tasks: u64,
    tasks_per_second: f64,
    agent_cpu_us_per_task: f64,
    idle_cpu_percent: f64,
    idle_rss_mib: f64,
}

/// An agent in a process of its own, first idle, then with a queue that never runs dry.
pub(crate) async fn measure(common: &Common, report: &mut Report) -> Result<(), BoxError> {
    for run in report.runs() {
        let folder = tempfile::tempdir()?;
        let host = Host::start(Side::Ours, folder.path()).await?;
        let shown = costs(&host, common).await?;
        host.stop().await?;
        report.add("P11", "ours", run, &Setting { max_concurrent_tasks: AT_ONCE }, &shown)?;
    }
    let of = |member| report.spread("P11", "ours", member);
    let floors = [
        Floor::at_most("P11", "agent's CPU a task, us", 60.0, of("agent_cpu_us_per_task")),
        Floor::at_most("P11", "idle agent, % of a core", 0.1, of("idle_cpu_percent")),
        Floor::at_most("P11", "idle agent, MiB", 12.0, of("idle_rss_mib")),
    ];
    for floor in floors {
        report.floor(floor);
    }
    Ok(())
}

async fn costs(server: &Host, common: &Common) -> Result<Costs, BoxError> {
    let mut agent = Host::agent(server.address).await?;
    tokio::time::sleep(common.measured(2.0)).await;
    let (idle, began) = (agent.sample().await?, Instant::now());
    tokio::time::sleep(common.measured(10.0)).await;
    let still_idle = agent.sample().await?;
    let idle_cpu = still_idle.usage.cpu_since(&idle.usage).as_secs_f64() / began.elapsed().as_secs_f64();

    let mut connection = Connection::open(server.address).await?;
    let mut submit = requests::submit_batch(PER_SUBMIT);
    let mut submitted = 0;
    let mut measured = None;
    let (warm_up, length) = (common.measured(1.0), common.measured(5.0));
    let began = Instant::now();
    let (before, after) = loop {
        let sample = agent.sample().await?;
        let now = Instant::now();
        match measured {
            None if now >= began + warm_up => measured = Some((sample, now)),
            Some((before, since)) if now >= since + length => break ((before, since), (sample, now)),
            _ => {}
        }
        if submitted < sample.work + WAITING {
            connection.call(submit.with(0)).await?.expect(200)?;
            submitted += PER_SUBMIT as u64;
        } else {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    // The queue is left to the server, which ends with its database.
    drop(agent);
    let tasks = after.0.work - before.0.work;
    let cpu = after.0.usage.cpu_since(&before.0.usage).as_secs_f64();
    Ok(Costs {
        tasks,
        tasks_per_second: (tasks as f64 / (after.1 - before.1).as_secs_f64()).round(),
        agent_cpu_us_per_task: rounded(cpu * 1e6 / tasks.max(1) as f64),
        idle_cpu_percent: rounded(idle_cpu * 100.0),
        idle_rss_mib: rounded(still_idle.usage.rss_kib as f64 / 1024.0),
    })
}

/// The child's side: an agent with an empty handler that counts.
pub(crate) async fn run_agent(server: std::net::SocketAddr) -> Result<(), BoxError> {
    let done = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&done);
    let agent = Agent::builder(format!("http://{server}"), "AGENT-BENCH-SDK")
        .registration_secret(REGISTRATION_SECRET)
        .max_concurrent_tasks(AT_ONCE)
        .handle("bench", move |_: Task<String>, _: TaskContext| {
            counted.fetch_add(1, Ordering::Relaxed);
            async { Ok::<_, HandlerError>("3") }
        })
        .build()?;
    let (stop, stopped) = oneshot::channel();
    answer_questions(server, stop, move || done.load(Ordering::Relaxed));
    agent.run_until(stopped).await?;
    Ok(())
}
