//! P7: what the server keeps in memory for an agent that waits for work: over a WebSocket, in a long-poll, or not at all.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::connection::Connection;
use crate::host::{Host, Side};
use crate::load::rounded;
use crate::report::{Floor, Report};
use crate::requests::{self, Stamps};
use crate::{BoxError, Common, socket};

/// How long the server gets to settle before it is looked at.
const SETTLE: Duration = Duration::from_secs(2);
/// How many tasks an idle agent takes.
const TASKS: usize = 5;

/// How agents wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Way {
    WebSocket,
    LongPoll,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Setting {
    agents: usize,
    way: Way,
}

#[derive(Debug, Serialize)]
struct Memory {
    /// Of the process before there was an agent, and with all of them waiting.
    rss_mib_empty: f64,
    rss_mib_waiting: f64,
    /// What each agent added: registered, with its connection gone, and then waiting.
    rss_kib_per_registered_agent: f64,
    rss_kib_per_waiting_agent: f64,
}

/// Each way over a server of its own.
pub(crate) async fn measure(common: &Common, report: &mut Report) -> Result<(), BoxError> {
    let agents = if report.is_quick() { 20 } else { 2_000 };
    for run in report.runs() {
        for (name, way) in [("websocket", Way::WebSocket), ("long_poll", Way::LongPoll)] {
            let folder = tempfile::tempdir()?;
            let host = Host::start(Side::Ours, folder.path()).await?;
            let settle = common.measured(SETTLE.as_secs_f64());
            report.add("P7", name, run, &Setting { agents, way }, &memory(host, agents, way, settle).await?)?;
        }
    }
    let of = |name| report.spread("P7", name, "rss_kib_per_waiting_agent");
    let (socket, poll) = (of("websocket"), of("long_poll"));
    let registered = report.spread("P7", "websocket", "rss_kib_per_registered_agent");
    report.floor(Floor::at_most("P7", "KiB per agent with an open WebSocket", 10.0, socket));
    report.floor(Floor::at_most("P7", "KiB per agent with a parked poll", 25.0, poll));
    report.floor(Floor::at_most("P7", "KiB per agent that is registered alone", 1.5, registered));
    Ok(())
}

async fn memory(mut host: Host, count: usize, way: Way, settle: Duration) -> Result<Memory, BoxError> {
    let empty = host.sample().await?;
    let mut agents = Vec::with_capacity(count);
    let mut connection = Connection::open(host.address).await?;
    for number in 0..count {
        agents.push(requests::Agent::register(&mut connection, number).await?);
    }
    drop(connection);
    tokio::time::sleep(settle).await;
    let registered = host.sample().await?;
    let mut waiting = JoinSet::new();
    for agent in agents {
        match way {
            Way::WebSocket => {
                let mut socket = socket::greet(&agent, host.address).await?;
                socket.send(socket::credit(2, TASKS)).await?;
                // Reading answers the server's pings.
                waiting.spawn_local(async move { while let Some(Ok(_)) = socket.next().await {} });
            }
            Way::LongPoll => {
                let mut connection = Connection::open(host.address).await?;
                let mut lease = agent.lease(1, 60);
                let stamps = Stamps::new();
                waiting.spawn_local(async move {
                    let _ = connection.call(lease.with(stamps.now())).await;
                });
            }
        }
    }
    tokio::time::sleep(settle).await;
    let all = host.sample().await?;
    if waiting.try_join_next().is_some() {
        return Err("an agent did not wait".into());
    }
    waiting.shutdown().await;
    host.stop().await?;
    let per_agent = |kib: u64| rounded(kib as f64 / count as f64);
    Ok(Memory {
        rss_mib_empty: rounded(empty.usage.rss_kib as f64 / 1024.0),
        rss_mib_waiting: rounded(all.usage.rss_kib as f64 / 1024.0),
        rss_kib_per_registered_agent: per_agent(registered.usage.rss_kib.saturating_sub(empty.usage.rss_kib)),
        rss_kib_per_waiting_agent: per_agent(all.usage.rss_kib.saturating_sub(registered.usage.rss_kib)),
    })
}
