//! P10: how soon a server with a long queue is ready, and what it holds in memory then.

use serde::Serialize;

use crate::connection::Connection;
use crate::host::{Host, Side};
use crate::load::rounded;
use crate::prepared::Contents;
use crate::report::{Floor, Report};
use crate::{BoxError, Common};

#[derive(Clone, Copy, Debug, Serialize)]
struct Setting {
    queued: u64,
}

#[derive(Debug, Serialize)]
struct Start {
    ready_after_seconds: f64,
    rss_mib: f64,
}

/// A start over a prepared database, from making the process until `GET /health/ready` says yes.
pub(crate) async fn measure(common: &Common, report: &mut Report) -> Result<(), BoxError> {
    let queued = if report.is_quick() { 2_000 } else { 1_000_000 };
    let contents = Contents { queued, finished: 0 };
    for run in report.runs() {
        let folder = contents.prepare(&common.data).await?;
        let mut host = Host::start(Side::Ours, &folder).await?;
        let mut connection = Connection::open(host.address).await?;
        connection.call(b"GET /health/ready HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await?.expect(200)?;
        let ready_after_seconds = rounded(host.began.elapsed().as_secs_f64());
        let rss_mib = rounded(host.sample().await?.usage.rss_kib as f64 / 1024.0);
        drop(connection);
        host.stop().await?;
        report.add("P10", "ours", run, &Setting { queued }, &Start { ready_after_seconds, rss_mib })?;
    }
    let (ready, memory) =
        (report.spread("P10", "ours", "ready_after_seconds"), report.spread("P10", "ours", "rss_mib"));
    report.floor(Floor::at_most("P10", "seconds until ready", 3.0, ready));
    report.floor(Floor::at_most("P10", "MiB once ready", 150.0, memory));
    Ok(())
}
