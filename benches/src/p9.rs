//! P9: what a task costs as agents grow.
//!
//! The rate is the same for all sizes and does not depend on the answers, so that as many tasks share a commit.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinSet;

use crate::connection::Connection;
use crate::host::{Host, Side};
use crate::load::{Quantiles, histogram, rounded};
use crate::report::{Floor, Report};
use crate::requests::{self, Assignments, Stamps};
use crate::{BoxError, Common};

/// Tasks a second.
const RATE: u64 = 1_000;
/// Connections that submit them by turns.
const SUBMITTERS: u64 = 8;
/// Seconds from one heartbeat of an agent to its next.
const BEAT: f64 = 30.0;

#[derive(Clone, Copy, Debug, Serialize)]
struct Setting {
    agents: usize,
    tasks_per_second: u64,
}

#[derive(Debug, Serialize)]
struct Costs {
    tasks: u64,
    server_cpu_us_per_task: f64,
    written_bytes_per_task: f64,
    transactions_per_task: f64,
    server_rss_mib: f64,
    /// What each agent added: registered and connected, and then with a poll parked.
    rss_kib_per_registered_agent: f64,
    rss_kib_per_waiting_agent: f64,
    start_ms: Quantiles,
}

/// Each number of agents over a new database.
pub(crate) async fn measure(common: &Common, report: &mut Report) -> Result<(), BoxError> {
    let sizes: &[usize] = if report.is_quick() { &[10, 50] } else { &[10, 100, 1_000, 5_000] };
    let measured = common.measured(5.0);
    for run in report.runs() {
        for &agents in sizes {
            let folder = tempfile::tempdir()?;
            let host = Host::start(Side::Ours, folder.path()).await?;
            let shown = costs(host, agents, measured).await?;
            report.add("P9", &name(agents), run, &Setting { agents, tasks_per_second: RATE }, &shown)?;
        }
    }
    let (fewest, most) = (name(sizes[0]), name(sizes[sizes.len() - 1]));
    let grown = |member| report.spread("P9", &most, member).over(report.spread("P9", &fewest, member));
    let (cpu, bytes) = (grown("server_cpu_us_per_task"), grown("written_bytes_per_task"));
    report.floor(Floor::at_most("P9", "CPU a task, most agents / fewest", 1.5, cpu));
    report.floor(Floor::at_most("P9", "bytes a task, most agents / fewest", 1.5, bytes));
    Ok(())
}

fn name(agents: usize) -> String {
    format!("agents_{agents}")
}

struct Shared {
    stamps: Stamps,
    done: Cell<u64>,
    starts: RefCell<hdrhistogram::Histogram<u64>>,
}

async fn costs(mut host: Host, count: usize, measured: Duration) -> Result<Costs, BoxError> {
    let shared = Rc::new(Shared { stamps: Stamps::new(), done: Cell::new(0), starts: RefCell::new(histogram()?) });
    let empty = host.sample().await?;
    let agents = requests::agents(&[host.address], count, true).await?;
    let registered = host.sample().await?;
    let heartbeats: Vec<_> = agents.iter().map(|(agent, _)| agent.heartbeat()).collect();
    let mut working = JoinSet::new();
    for (agent, connection) in agents {
        working.spawn_local(work(Rc::clone(&shared), agent, connection));
    }
    tokio::time::sleep(Duration::from_millis(500) + Duration::from_micros(200) * u32::try_from(count)?).await;
    let waiting = host.sample().await?;

    working.spawn_local(beat(Connection::open(host.address).await?, heartbeats));
    for number in 0..SUBMITTERS {
        working.spawn_local(submit(Connection::open(host.address).await?, shared.stamps, number));
    }
    let measured = async {
        tokio::time::sleep(measured.min(Duration::from_secs(1))).await;
        shared.starts.borrow_mut().reset();
        let (before, done) = (host.sample().await?, shared.done.get());
        tokio::time::sleep(measured).await;
        Ok::<_, BoxError>((before, host.sample().await?, shared.done.get() - done))
    };
    let (before, after, tasks) = tokio::select! {
        measured = measured => measured?,
        Some(ended) = working.join_next() => return Err(ended?.err().map_or("a caller ended early".into(), BoxError::from)),
    };
    working.shutdown().await;
    host.stop().await?;
    let per_task = |amount: f64| rounded(amount / tasks.max(1) as f64);
    let per_agent = |kib: u64| rounded(kib as f64 / count as f64);
    Ok(Costs {
        tasks,
        server_cpu_us_per_task: per_task(after.usage.cpu_since(&before.usage).as_secs_f64() * 1e6),
        written_bytes_per_task: per_task((after.usage.written_bytes - before.usage.written_bytes) as f64),
        transactions_per_task: per_task((after.work - before.work) as f64),
        server_rss_mib: rounded(after.usage.rss_kib as f64 / 1024.0),
        rss_kib_per_registered_agent: per_agent(registered.usage.rss_kib.saturating_sub(empty.usage.rss_kib)),
        rss_kib_per_waiting_agent: per_agent(waiting.usage.rss_kib.saturating_sub(empty.usage.rss_kib)),
        start_ms: Quantiles::of(&shared.starts.borrow()),
    })
}

async fn work(shared: Rc<Shared>, agent: requests::Agent, mut connection: Connection) -> io::Result<()> {
    let mut lease = agent.lease(1, 25);
    loop {
        let reply = connection.call(lease.with(shared.stamps.now())).await?;
        if reply.status == 204 {
            continue;
        }
        let body = reply.expect(200)?;
        let now = shared.stamps.now();
        for due in Stamps::find_all(body) {
            shared.starts.borrow_mut().saturating_record(now.saturating_sub(due));
        }
        let held: Assignments<'_> = serde_json::from_slice(body)?;
        if let Some(task) = held.tasks.first() {
            let report = agent.result(task);
            connection.call(&report).await?.expect(200)?;
            shared.done.set(shared.done.get() + 1);
        }
    }
}

/// Submits its share of the rate.
async fn submit(mut connection: Connection, stamps: Stamps, number: u64) -> io::Result<()> {
    let apart = Duration::from_secs(SUBMITTERS) / u32::try_from(RATE).map_err(io::Error::other)?;
    let begin =
        tokio::time::Instant::now() + apart * u32::try_from(number).map_err(io::Error::other)? / SUBMITTERS as u32;
    let mut due = begin;
    let mut request = requests::submit();
    loop {
        tokio::time::sleep_until(due).await;
        connection.call(request.with(stamps.now())).await?.expect(201)?;
        due += apart;
    }
}

/// Beats for all agents by turns, each once in [`BEAT`] seconds.
async fn beat(mut connection: Connection, heartbeats: Vec<Vec<u8>>) -> io::Result<()> {
    let apart = Duration::from_secs_f64(BEAT / heartbeats.len().max(1) as f64);
    let mut due = tokio::time::Instant::now();
    for heartbeat in heartbeats.iter().cycle() {
        due += apart;
        tokio::time::sleep_until(due).await;
        connection.call(heartbeat).await?.expect(200)?;
    }
    Ok(())
}
