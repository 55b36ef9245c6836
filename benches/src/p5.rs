//! P5: heartbeats a second, beside an echo of the same body by bare axum.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::connection::Connection;
use crate::host::{Host, Side};
use crate::load::{Quantiles, histogram, rounded};
use crate::report::{Floor, Report};
use crate::requests;
use crate::usage::Usage;
use crate::{BoxError, Common};

/// Connections, each of an agent of its own.
const CONNECTIONS: usize = 64;

#[derive(Clone, Copy, Debug, Serialize)]
struct Setting {
    connections: usize,
}

/// What a run showed.
#[derive(Debug, Serialize)]
struct Calls {
    calls: u64,
    calls_per_second: f64,
    server_cpu_us_per_call: f64,
    client_cpu_us_per_call: f64,
    client_busy: f64,
    call_ms: Quantiles,
}

/// The echo and ours by turns.
pub(crate) async fn measure(common: &Common, report: &mut Report) -> Result<(), BoxError> {
    let setting = Setting { connections: CONNECTIONS };
    for run in report.runs() {
        for side in common.sides([Side::Bare, Side::Ours]) {
            let folder = tempfile::tempdir()?;
            let host = Host::start(side, folder.path()).await?;
            let shown = calls(host, CONNECTIONS, common.measured(3.0)).await?;
            report.add("P5", side.name(), run, &setting, &shown)?;
        }
    }
    let ours = report.spread("P5", "ours", "calls_per_second");
    let bare = report.spread("P5", "bare", "calls_per_second");
    report.floor(Floor::at_least("P5", "heartbeats of bare axum's echoes", 0.65, ours.over(bare)));
    Ok(())
}

/// What the callers share; all run on one thread.
struct Shared {
    measuring: Cell<bool>,
    latencies: RefCell<Histogram<u64>>,
}

async fn calls(mut host: Host, connections: usize, measured: Duration) -> Result<Calls, BoxError> {
    let shared = Rc::new(Shared { measuring: Cell::new(false), latencies: RefCell::new(histogram()?) });
    let mut calling = JoinSet::new();
    for (agent, connection) in requests::agents(&[host.address], connections, host.side.is_ours()).await? {
        let request = if host.side.is_ours() { agent.heartbeat() } else { requests::echo() };
        calling.spawn_local(call(connection, request, Rc::clone(&shared)));
    }
    let measured = async {
        tokio::time::sleep(measured.min(Duration::from_secs(1))).await;
        let (before, client_before, began) = (host.sample().await?, Usage::now()?, Instant::now());
        shared.measuring.set(true);
        tokio::time::sleep(measured).await;
        shared.measuring.set(false);
        let seconds = began.elapsed().as_secs_f64();
        let (after, client_after) = (host.sample().await?, Usage::now()?);
        let server = after.usage.cpu_since(&before.usage).as_secs_f64();
        Ok::<_, BoxError>((seconds, server, client_after.cpu_since(&client_before).as_secs_f64()))
    };
    let (seconds, server, client) = tokio::select! {
        measured = measured => measured?,
        Some(ended) = calling.join_next() => return Err(ended?.err().map_or("a caller ended early".into(), BoxError::from)),
    };
    calling.shutdown().await;
    host.stop().await?;
    let latencies = shared.latencies.borrow();
    let count = latencies.len();
    let per_call = |seconds: f64| rounded(seconds * 1e6 / count.max(1) as f64);
    Ok(Calls {
        calls: count,
        calls_per_second: (count as f64 / seconds).round(),
        server_cpu_us_per_call: per_call(server),
        client_cpu_us_per_call: per_call(client),
        client_busy: rounded(client / seconds),
        call_ms: Quantiles::of(&latencies),
    })
}

/// Calls until it is cut off.
async fn call(mut connection: Connection, request: Vec<u8>, shared: Rc<Shared>) -> io::Result<()> {
    loop {
        let asked = Instant::now();
        connection.call(&request).await?.expect(200)?;
        if shared.measuring.get() {
            shared
                .latencies
                .borrow_mut()
                .saturating_record(u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
    }
}
