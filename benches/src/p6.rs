//! P6: state reports of a platform's agents a second, each on the disk before it is answered.
//!
//! No report may fail and no connection may be lost: one that is ends the run with an error.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use eap_orchestrator::{Clock as _, SystemClock};
use eap_types::agentkit::{AgentKitSecret, sign};
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::connection::Connection;
use crate::host::{Host, OPERATOR_KEY, PLATFORM_SECRET, Sample, Side};
use crate::load::{Quantiles, histogram, rounded};
use crate::report::{Floor, Report};
use crate::requests::{get, post};
use crate::usage::Usage;
use crate::{BoxError, Common};

/// What Ops-Core answers in a second at 64 and at 500 connections (docs/performance.md), and by how much ours is to be ahead.
const FEW: Setting = Setting { clients: 64, seconds: 10 };
const MANY: Setting = Setting { clients: 500, seconds: 60 };
const OPS_CORE: [(Setting, &str, f64); 2] =
    [(FEW, "state reports/s of 64 clients", 535.0), (MANY, "the same of 500 clients", 370.0)];
const AHEAD: f64 = 50.0;

/// Who calls, and for how long. Every client reports for an agent of its own on a connection of its own.
#[derive(Clone, Copy, Debug, Serialize)]
struct Setting {
    clients: usize,
    seconds: u64,
}

/// What a run showed.
#[derive(Debug, Serialize)]
struct Reports {
    reports: u64,
    reports_per_second: f64,
    /// Answers other than 202, and what the first of them was.
    errors: u64,
    /// Connections that ended while they were in use; a new one took their place.
    dropped_connections: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_failure: Option<String>,
    server_cpu_us_per_report: f64,
    client_cpu_us_per_report: f64,
    client_busy: f64,
    transactions_per_report: f64,
    written_bytes_per_report: f64,
    server_peak_rss_mib: f64,
    report_ms: Quantiles,
}

/// Each number of clients over a server of its own.
pub(crate) async fn measure(common: &Common, report: &mut Report) -> Result<(), BoxError> {
    let settings = if report.is_quick() { vec![Setting { clients: 8, seconds: 2 }] } else { vec![FEW, MANY] };
    for run in report.runs() {
        for setting in &settings {
            let folder = tempfile::tempdir()?;
            let host = Host::start(Side::Ours, folder.path()).await?;
            let measured = Duration::from_secs(setting.seconds).mul_f64(common.longer);
            let shown = reports(host, setting.clients, measured).await?;
            report.add("P6", &name(setting), run, setting, &shown)?;
            shown.without_failure()?;
        }
    }
    for (setting, what, peer) in OPS_CORE {
        let shown = report.spread("P6", &name(&setting), "reports_per_second");
        report.floor(Floor::at_least("P6", what, AHEAD * peer, shown));
    }
    Ok(())
}

fn name(setting: &Setting) -> String {
    format!("clients_{}", setting.clients)
}

impl Reports {
    fn without_failure(&self) -> Result<(), BoxError> {
        if self.errors == 0 && self.dropped_connections == 0 {
            return Ok(());
        }
        let Self { reports, errors, dropped_connections, .. } = self;
        let first = self.first_failure.as_deref().unwrap_or_default();
        Err(format!(
            "of {reports} state reports {errors} failed and {dropped_connections} connections were dropped: {first}"
        )
        .into())
    }
}

/// What the clients share; all run on one thread.
struct Shared {
    clock: SystemClock,
    measuring: Cell<bool>,
    stopping: Cell<bool>,
    /// Reports that were accepted, those outside the measured time included.
    accepted: Cell<u64>,
    errors: Cell<u64>,
    dropped: Cell<u64>,
    first_failure: RefCell<Option<String>>,
    latencies: RefCell<Histogram<u64>>,
}

impl Shared {
    /// Whether every report was accepted on the connection that its client began with.
    fn is_flawless(&self) -> bool {
        self.errors.get() == 0 && self.dropped.get() == 0
    }

    fn failed(&self, counter: &Cell<u64>, failure: String) {
        counter.set(counter.get() + 1);
        self.first_failure.borrow_mut().get_or_insert(failure);
    }
}

async fn reports(mut host: Host, clients: usize, measured: Duration) -> Result<Reports, BoxError> {
    let shared = Rc::new(Shared {
        clock: SystemClock::new(),
        measuring: Cell::new(false),
        stopping: Cell::new(false),
        accepted: Cell::new(0),
        errors: Cell::new(0),
        dropped: Cell::new(0),
        first_failure: RefCell::new(None),
        latencies: RefCell::new(histogram()?),
    });
    let secret = AgentKitSecret::new(PLATFORM_SECRET)?;
    let mut calling = JoinSet::new();
    for number in 0..clients {
        let mut client = Client::new(host.address, number).await?;
        client.register(&secret, &shared.clock).await?;
        calling.spawn_local(client.work(Rc::clone(&shared)));
    }
    let measured = async {
        tokio::time::sleep(measured.min(Duration::from_secs(1))).await;
        let before = (host.sample().await?, Usage::now()?, Instant::now());
        shared.measuring.set(true);
        tokio::time::sleep(measured).await;
        shared.measuring.set(false);
        let seconds = before.2.elapsed().as_secs_f64();
        Ok::<_, BoxError>((before, (host.sample().await?, Usage::now()?), seconds))
    };
    let (before, after, seconds) = tokio::select! {
        measured = measured => measured?,
        Some(ended) = calling.join_next() => {
            return Err(ended.map_err(BoxError::from).and_then(|ended| ended).err().unwrap_or("a client ended early".into()));
        }
    };
    shared.stopping.set(true);
    // Each ends once the server has shown it the state that it reported last.
    while let Some(ended) = calling.join_next().await {
        ended??;
    }
    let database = host.stop().await?;
    let kept = rusqlite::Connection::open(database)?
        .query_row("SELECT count(*) FROM state", [], |row| row.get::<_, i64>(0))?;
    // What became of a report whose answer was lost, nobody knows.
    if shared.is_flawless() && u64::try_from(kept)? != shared.accepted.get() {
        return Err(format!("{kept} states are stored of {} accepted", shared.accepted.get()).into());
    }
    Ok(Reports::of(&shared, (before.0, after.0), after.1.cpu_since(&before.1), seconds))
}

impl Reports {
    fn of(shared: &Shared, (before, after): (Sample, Sample), client_cpu: Duration, seconds: f64) -> Self {
        let latencies = shared.latencies.borrow();
        let reports = latencies.len();
        let each = |amount: f64| rounded(amount / reports.max(1) as f64);
        Self {
            reports,
            reports_per_second: (reports as f64 / seconds).round(),
            errors: shared.errors.get(),
            dropped_connections: shared.dropped.get(),
            first_failure: shared.first_failure.borrow().clone(),
            server_cpu_us_per_report: each(after.usage.cpu_since(&before.usage).as_secs_f64() * 1e6),
            client_cpu_us_per_report: each(client_cpu.as_secs_f64() * 1e6),
            client_busy: rounded(client_cpu.as_secs_f64() / seconds),
            transactions_per_report: each((after.work - before.work) as f64),
            written_bytes_per_report: each((after.usage.written_bytes - before.usage.written_bytes) as f64),
            server_peak_rss_mib: rounded(after.usage.peak_rss_kib as f64 / 1024.0),
            report_ms: Quantiles::of(&latencies),
        }
    }
}

/// Who reports for one agent.
struct Client {
    server: SocketAddr,
    connection: Connection,
    agent: String,
    header: String,
}

impl Client {
    async fn new(server: SocketAddr, number: usize) -> io::Result<Self> {
        let connection = Connection::open(server).await?;
        let header = format!("authorization: Bearer {OPERATOR_KEY}\r\n");
        Ok(Self { server, connection, agent: format!("agent-{number:05}"), header })
    }

    /// Has the platform say that the agent is there.
    async fn register(&mut self, secret: &AgentKitSecret, clock: &SystemClock) -> io::Result<()> {
        let agent = &self.agent;
        let body = format!(
            r#"{{"event_type":"REGISTER","agent_details":{{"agentId":"{agent}","agentName":"Bench","version":"1.0.0","capabilities":["bench"],"contactEndpoint":"http://{agent}:9000","metadata":{{}}}}}}"#
        );
        let signed = sign(secret, clock.now(), body.as_bytes());
        let header: String = signed.headers().iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let reply = self.connection.call(&post("/v1/opscore/internal/agent/notify", &header, &body)).await?;
        reply.expect(200).map(|_| ())
    }

    /// Reports one state after the other until it is told to stop; then looks whether the last one is what is shown.
    async fn work(mut self, shared: Rc<Shared>) -> Result<(), BoxError> {
        let path = format!("/v1/opscore/agent/{}/state", self.agent);
        let mut accepted = None;
        for number in 0_u64.. {
            if shared.stopping.get() {
                break;
            }
            let state = if number % 2 == 0 { "BUSY" } else { "IDLE" };
            let asked = Instant::now();
            match self.connection.call(&post(&path, &self.header, &self.report(&shared.clock, state, number))).await {
                Ok(reply) if reply.status == 202 => {
                    accepted = Some(number);
                    shared.accepted.set(shared.accepted.get() + 1);
                    if shared.measuring.get() {
                        let micros = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
                        shared.latencies.borrow_mut().saturating_record(micros);
                    }
                }
                Ok(reply) => {
                    let failure = reply.expect(202).err().map(|error| error.to_string()).unwrap_or_default();
                    shared.failed(&shared.errors, failure);
                }
                Err(error) => {
                    shared.failed(&shared.dropped, error.to_string());
                    self.connection = Connection::open(self.server).await.map_err(|again| {
                        format!("a connection was dropped ({error}), and no new one is taken ({again})")
                    })?;
                }
            }
        }
        let reply = self.connection.call(&get(&path, &self.header)).await?;
        let shown: serde_json::Value = serde_json::from_slice(reply.expect(200)?)?;
        if shared.is_flawless() && shown["details"]["number"].as_u64() != accepted {
            return Err(format!("{} reported number {accepted:?} last, and is shown with {shown}", self.agent).into());
        }
        Ok(())
    }

    fn report(&self, clock: &SystemClock, state: &str, number: u64) -> String {
        let (agent, now) = (&self.agent, clock.now());
        format!(
            r#"{{"agentId":"{agent}","timestamp":"{now}","state":"{state}","details":{{"number":{number},"message":"working through the queue","progress":0.25}}}}"#
        )
    }
}
