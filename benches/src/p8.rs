//! P8: how long a claim takes as the queue grows, and as finished tasks pile up.

use std::time::Instant;

use serde::Serialize;
use serde_json::json;

use crate::connection::Connection;
use crate::host::{Host, Side};
use crate::load::{Quantiles, histogram, rounded};
use crate::postgres::Schema;
use crate::prepared::Contents;
use crate::report::{Floor, Report};
use crate::requests::{self, Agent, Assignments};
use crate::{BoxError, Common};

#[derive(Clone, Copy, Debug, Serialize)]
struct Setting {
    queued: u64,
    finished: u64,
}

#[derive(Debug, Serialize)]
struct Claims {
    claims: u64,
    /// From the call for a task to its answer; the commit is in it.
    claim_ms: Quantiles,
    claim_mean_ms: f64,
    /// Of submit, lease and result together.
    server_cpu_us_per_task: f64,
    written_bytes_per_task: f64,
}

/// Each size over a prepared database; a task is submitted for each that is taken, so that the queue stays as long.
pub(crate) async fn measure(common: &Common, report: &mut Report) -> Result<(), BoxError> {
    on_postgres(common, report).await?;
    if common.sides([Side::Ours]).next().is_none() {
        return Ok(());
    }
    let thousands: &[u64] = if report.is_quick() { &[1, 2] } else { &[1, 10, 100, 1_000] };
    let mut sizes: Vec<_> = thousands.iter().map(|size| Contents { queued: size * 1_000, finished: 0 }).collect();
    let largest = thousands.iter().max().copied().unwrap_or(1) * 1_000;
    sizes.push(Contents { queued: 1_000, finished: largest });
    let calls = if report.is_quick() { 50 } else { 2_000 };
    for contents in &sizes {
        contents.prepare(&common.data).await?;
    }
    for run in report.runs() {
        for contents in &sizes {
            let folder = contents.prepare(&common.data).await?;
            let host = Host::start(Side::Ours, &folder).await?;
            let shown = claims(host, calls).await?;
            let setting = Setting { queued: contents.queued, finished: contents.finished };
            report.add("P8", &name(contents), run, &setting, &shown)?;
        }
    }
    let of = |contents: &Contents, member| report.spread("P8", &name(contents), member);
    let (least, most, piled) = (&sizes[0], &sizes[sizes.len() - 2], &sizes[sizes.len() - 1]);
    let floors = [
        Floor::at_most(
            "P8",
            "claim p50, longest queue / shortest",
            1.5,
            of(most, "claim_ms.p50").over(of(least, "claim_ms.p50")),
        ),
        Floor::at_most(
            "P8",
            "claim p50, many finished / none",
            1.5,
            of(piled, "claim_ms.p50").over(of(least, "claim_ms.p50")),
        ),
        Floor::at_most(
            "P8",
            "server CPU a task, longest / shortest",
            1.5,
            of(most, "server_cpu_us_per_task").over(of(least, "server_cpu_us_per_task")),
        ),
    ];
    for floor in floors {
        report.floor(floor);
    }
    Ok(())
}

/// The longest queue, the shortest and one between, each in a schema of one server, on PostgreSQL.
async fn on_postgres(common: &Common, report: &mut Report) -> Result<(), BoxError> {
    if common.sides([Side::OursPostgres]).next().is_none() {
        return Ok(());
    }
    let (sizes, calls): ([u64; 3], u64) =
        if report.is_quick() { ([100, 500, 1_000], 50) } else { ([1_000, 100_000, 1_000_000], 1_000) };
    let name = |queued: u64| format!("postgres_queued_{queued}");
    for queued in sizes {
        let Some(schema) = Schema::new() else { return Ok(()) };
        Contents { queued, finished: 0 }.fill_postgres(&schema).await?;
        let bytes = schema.bytes().await?;
        for run in report.runs() {
            let shown = claims(Host::start_on_postgres(&schema).await?, calls).await?;
            let setting = json!({"queued": queued, "finished": 0, "database_bytes": bytes});
            report.add("P8", &name(queued), run, &setting, &shown)?;
        }
        schema.remove().await?;
    }
    let of = |queued| report.spread("P8", &name(queued), "claim_ms.p50");
    let (least, between, most) = (of(sizes[0]), of(sizes[1]), of(sizes[2]));
    report.floor(Floor::at_most("P8", "claim p50 on PostgreSQL, 100 x", 1.5, between.over(least)));
    report.floor(Floor::at_most("P8", "claim p50 on PostgreSQL, 1,000 x", 1.5, most.over(least)));
    Ok(())
}

fn name(contents: &Contents) -> String {
    format!("queued_{}_finished_{}", contents.queued, contents.finished)
}

async fn claims(mut host: Host, calls: u64) -> Result<Claims, BoxError> {
    let mut submitter = Connection::open(host.address).await?;
    let mut connection = Connection::open(host.address).await?;
    let agent = Agent::register(&mut connection, 0).await?;
    let (mut submit, mut lease) = (requests::submit(), agent.lease(1, 25));
    let mut latencies = histogram()?;
    let warm_up = calls / 4;
    let mut before = host.sample().await?;
    for number in 0..warm_up + calls {
        if number == warm_up {
            before = host.sample().await?;
        }
        submitter.call(submit.with(0)).await?.expect(201)?;
        let asked = Instant::now();
        let reply = connection.call(lease.with(number)).await?;
        let took = asked.elapsed();
        let held: Assignments<'_> = serde_json::from_slice(reply.expect(200)?)?;
        let task = held.tasks.first().ok_or("a lease without a task")?;
        let report = agent.result(task);
        connection.call(&report).await?.expect(200)?;
        if number >= warm_up {
            latencies.saturating_record(u64::try_from(took.as_micros())?);
        }
    }
    let after = host.sample().await?;
    host.stop().await?;
    let per_task = |amount: f64| rounded(amount / calls as f64);
    Ok(Claims {
        claims: calls,
        claim_ms: Quantiles::of(&latencies),
        claim_mean_ms: rounded(latencies.mean() / 1e3),
        server_cpu_us_per_task: per_task(after.usage.cpu_since(&before.usage).as_secs_f64() * 1e6),
        written_bytes_per_task: per_task((after.usage.written_bytes - before.usage.written_bytes) as f64),
    })
}
