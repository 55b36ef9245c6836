//! Tasks going through a server as fast as it lets them: submitters and agents, each on a connection of its own, each
//! waiting for an answer before its next call. How many tasks may be under way at once is bounded, so that a run reaches
//! a steady state and can be measured between two moments.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use crate::BoxError;
use crate::connection::Connection;
use crate::host::{Host, Sample, Side};
use crate::requests::{self, Agent, Assignments, Stamps};
use crate::socket;
use crate::usage::Usage;

/// Who calls, and for how long.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Load {
    pub(crate) submitters: usize,
    pub(crate) agents: usize,
    /// Tasks in one submit; one goes to the path of its own, more to the batch's.
    pub(crate) per_submit: usize,
    /// Tasks in one lease; the results of more than one are reported together.
    pub(crate) per_lease: usize,
    /// Tasks that may be under way at once.
    pub(crate) window: usize,
    /// Whether agents take and report tasks over WebSockets.
    pub(crate) over_sockets: bool,
    #[serde(skip)]
    pub(crate) warm_up: Duration,
    #[serde(skip)]
    pub(crate) measured: Duration,
}

/// What a run of [`Load`] showed.
#[derive(Debug, Serialize)]
pub(crate) struct Throughput {
    pub(crate) tasks: u64,
    pub(crate) tasks_per_second: f64,
    pub(crate) server_cpu_us_per_task: f64,
    pub(crate) client_cpu_us_per_task: f64,
    /// Of one core: near 1, the callers are what limits.
    pub(crate) client_busy: f64,
    pub(crate) transactions_per_task: f64,
    pub(crate) written_bytes_per_task: f64,
    pub(crate) server_peak_rss_mib: f64,
    /// From a submit's call to its answer.
    pub(crate) submit_ms: Quantiles,
    /// From a submit's call to the task's arrival at its agent.
    pub(crate) start_ms: Quantiles,
    /// From a submit's call to the answer to the task's result.
    pub(crate) whole_ms: Quantiles,
}

/// Some quantiles of a latency.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Quantiles {
    /// In milliseconds, of microseconds.
    pub(crate) fn of(latencies: &Histogram<u64>) -> Self {
        let at = |share: f64| rounded(latencies.value_at_quantile(share) as f64 / 1e3);
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: rounded(latencies.max() as f64 / 1e3) }
    }
}

/// A histogram of microseconds, up to a minute, with three digits.
pub(crate) fn histogram() -> Result<Histogram<u64>, BoxError> {
    Ok(Histogram::new_with_bounds(1, 60_000_000, 3)?)
}

pub(crate) fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

/// What submitters and agents share; all run on one thread.
pub(crate) struct Shared {
    stamps: Stamps,
    window: Semaphore,
    stopping: Cell<bool>,
    measuring: Cell<bool>,
    submitted: Cell<u64>,
    done: Cell<u64>,
    all_done: Notify,
    submit: RefCell<Histogram<u64>>,
    start: RefCell<Histogram<u64>>,
    whole: RefCell<Histogram<u64>>,
}

impl Shared {
    fn record(&self, latencies: &RefCell<Histogram<u64>>, since: u64) {
        if self.measuring.get() {
            latencies.borrow_mut().saturating_record(self.stamps.now().saturating_sub(since));
        }
    }
}

impl Shared {
    /// Tasks that were submitted then have come to their agent.
    pub(crate) fn started(&self, submitted: &[u64]) {
        for &since in submitted {
            self.record(&self.start, since);
        }
    }

    /// The results of tasks that were submitted then were acknowledged.
    pub(crate) fn finished(&self, submitted: &[u64]) {
        for &since in submitted {
            self.record(&self.whole, since);
        }
        self.done.set(self.done.get() + submitted.len() as u64);
        self.window.add_permits(submitted.len());
        self.all_done.notify_one();
    }
}

impl Load {
    /// Runs against `host` and checks afterwards that every task that was taken in was done.
    pub(crate) async fn run(&self, host: Host) -> Result<Throughput, BoxError> {
        self.run_on(host, Vec::new()).await
    }

    /// The same where callers are shared with `others` on the same database; what a server cost is that of `host` alone.
    pub(crate) async fn run_on(&self, mut host: Host, others: Vec<Host>) -> Result<Throughput, BoxError> {
        let servers: Vec<_> = std::iter::once(&host).chain(&others).map(|host| host.address).collect();
        let shared = Rc::new(Shared {
            stamps: Stamps::new(),
            window: Semaphore::new(self.window),
            stopping: Cell::new(false),
            measuring: Cell::new(false),
            submitted: Cell::new(0),
            done: Cell::new(0),
            all_done: Notify::new(),
            submit: RefCell::new(histogram()?),
            start: RefCell::new(histogram()?),
            whole: RefCell::new(histogram()?),
        });
        let mut working = JoinSet::new();
        let agents = requests::agents(&servers, self.agents, host.side.is_ours()).await?;
        for ((agent, connection), server) in agents.into_iter().zip(servers.iter().cycle()) {
            let shared = Rc::clone(&shared);
            if self.over_sockets {
                working.spawn_local(socket::work(shared, agent, *server, self.per_lease));
            } else {
                working.spawn_local(self.work(shared, agent, connection));
            }
        }
        let mut submitting = JoinSet::new();
        for server in servers.iter().cycle().take(self.submitters) {
            submitting.spawn_local(self.submit(Rc::clone(&shared), Connection::open(*server).await?));
        }

        let measured = async {
            tokio::time::sleep(self.warm_up).await;
            let before = Moment::now(&mut host, &shared).await?;
            shared.measuring.set(true);
            tokio::time::sleep(self.measured).await;
            shared.measuring.set(false);
            let after = Moment::now(&mut host, &shared).await?;
            Ok::<_, BoxError>((before, after))
        };
        let (before, after) = tokio::select! {
            measured = measured => measured?,
            Some(failed) = working.join_next() => return Err(ended_early(failed)),
            Some(failed) = submitting.join_next() => {
                return Err(ended_early(failed.map(|ended| ended.map_err(BoxError::from))));
            }
        };

        shared.stopping.set(true);
        while let Some(ended) = submitting.join_next().await {
            ended??;
        }
        tokio::select! {
            () = async { while shared.done.get() < shared.submitted.get() { shared.all_done.notified().await } } => {}
            Some(failed) = working.join_next() => return Err(ended_early(failed)),
        }
        working.shutdown().await;
        let (side, schema) = (host.side, host.schema.clone());
        let database = host.stop().await?;
        for other in others {
            other.stop().await?;
        }
        let recorded = match schema {
            Some(schema) => schema.results().await?,
            None => count_results(side, &database)?,
        };
        if recorded != shared.submitted.get() {
            return Err(format!("{recorded} results are stored of {} tasks", shared.submitted.get()).into());
        }
        Ok(Throughput::between(&before, &after, &shared))
    }

    async fn submit(self, shared: Rc<Shared>, mut connection: Connection) -> io::Result<()> {
        let (mut request, expected) = match self.per_submit {
            1 => (requests::submit(), 201),
            tasks => (requests::submit_batch(tasks), 200),
        };
        let tasks = u32::try_from(self.per_submit).map_err(io::Error::other)?;
        while !shared.stopping.get() {
            let room = shared.window.acquire_many(tasks).await.map_err(io::Error::other)?;
            // Given back by the agent that reports the tasks.
            room.forget();
            let asked = shared.stamps.now();
            shared.submitted.set(shared.submitted.get() + u64::from(tasks));
            connection.call(request.with(asked)).await?.expect(expected)?;
            shared.record(&shared.submit, asked);
        }
        Ok(())
    }

    /// Takes tasks, reports them done, and again, until it is cut off.
    async fn work(self, shared: Rc<Shared>, agent: Agent, mut connection: Connection) -> Result<(), BoxError> {
        let mut lease = agent.lease(self.per_lease, 25);
        let mut stamps = Vec::new();
        loop {
            let reply = connection.call(lease.with(shared.stamps.now())).await?;
            if reply.status == 204 {
                continue;
            }
            let body = reply.expect(200)?;
            let held: Assignments<'_> = serde_json::from_slice(body)?;
            stamps.clear();
            stamps.extend(Stamps::find_all(body));
            shared.started(&stamps);
            let report = match held.tasks.as_slice() {
                [task] if self.per_lease == 1 => agent.result(task),
                tasks => agent.results(tasks),
            };
            connection.call(&report).await?.expect(200)?;
            shared.finished(&stamps);
        }
    }
}

fn ended_early(ended: Result<Result<(), BoxError>, tokio::task::JoinError>) -> BoxError {
    match ended {
        Ok(Ok(())) => "a caller ended early".into(),
        Ok(Err(error)) => error,
        Err(error) => error.into(),
    }
}

/// How many results a server stored.
fn count_results(side: Side, database: &std::path::Path) -> Result<u64, BoxError> {
    let query = match side {
        Side::Ours | Side::OursPostgres => "SELECT count(*) FROM result",
        Side::Bare | Side::BareTogether => "SELECT count(*) FROM task WHERE state = 2",
    };
    let database = rusqlite::Connection::open(database)?;
    let count: i64 = database.query_row(query, [], |row| row.get(0))?;
    Ok(count.try_into()?)
}

/// Where everything stood at one moment.
struct Moment {
    at: Instant,
    done: u64,
    server: Sample,
    client: Usage,
}

impl Moment {
    async fn now(host: &mut Host, shared: &Shared) -> Result<Self, BoxError> {
        let server = host.sample().await?;
        Ok(Self { at: Instant::now(), done: shared.done.get(), server, client: Usage::now()? })
    }
}

impl Throughput {
    fn between(before: &Moment, after: &Moment, shared: &Shared) -> Self {
        let tasks = after.done - before.done;
        let seconds = (after.at - before.at).as_secs_f64();
        let per_task = |amount: f64| rounded(amount / tasks.max(1) as f64);
        let server_cpu = after.server.usage.cpu_since(&before.server.usage);
        let client_cpu = after.client.cpu_since(&before.client);
        Self {
            tasks,
            tasks_per_second: (tasks as f64 / seconds).round(),
            server_cpu_us_per_task: per_task(server_cpu.as_secs_f64() * 1e6),
            client_cpu_us_per_task: per_task(client_cpu.as_secs_f64() * 1e6),
            client_busy: rounded(client_cpu.as_secs_f64() / seconds),
            transactions_per_task: per_task((after.server.work - before.server.work) as f64),
            written_bytes_per_task: per_task(
                (after.server.usage.written_bytes - before.server.usage.written_bytes) as f64,
            ),
            server_peak_rss_mib: rounded(after.server.usage.peak_rss_kib as f64 / 1024.0),
            submit_ms: Quantiles::of(&shared.submit.borrow()),
            start_ms: Quantiles::of(&shared.start.borrow()),
            whole_ms: Quantiles::of(&shared.whole.borrow()),
        }
    }
}
