//! Measures the orchestrator beside what the machine allows. `benches/README.md` says how to read what it prints.
#![forbid(unsafe_code)]

mod connection;
mod host;
mod load;
mod p10;
mod p11;
mod p12;
mod p3;
mod p4;
mod p5;
mod p6;
mod p7;
mod p8;
mod p9;
mod plot;
mod postgres;
mod prepared;
mod report;
mod requests;
mod socket;
mod throughput;
mod usage;

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

use crate::host::Side;
use crate::report::Report;

type BoxError = Box<dyn Error + Send + Sync>;

/// As the `eap` command has it; both sides of every comparison do.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the orchestrator beside what the machine allows: JSON lines on standard output, a summary on standard error.
#[derive(Debug, Parser)]
#[command(name = "eap-benches")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

/// What all measurements share.
#[derive(Clone, Debug, Args)]
struct Common {
    /// How often each measurement is repeated; the summary shows median and spread.
    #[arg(long, default_value_t = 1, global = true)]
    runs: usize,
    /// Short and small: shows that everything works, and nothing about speed.
    #[arg(long, global = true)]
    quick: bool,
    /// Measures this many times as long.
    #[arg(long, default_value_t = 1.0, global = true)]
    longer: f64,
    /// Only these servers, where several are compared; default: all.
    #[arg(long, global = true)]
    side: Vec<Side>,
    /// Where prepared databases are kept, about 2 GB of them.
    #[arg(long, default_value = "target/bench-data", global = true)]
    data: PathBuf,
}

impl Common {
    /// How long to measure what usually takes `seconds`.
    fn measured(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64(if self.quick { 0.3 } else { seconds * self.longer })
    }

    /// Those of `sides` that are wanted.
    fn sides<const N: usize>(&self, sides: [Side; N]) -> impl Iterator<Item = Side> {
        sides.into_iter().filter(|side| self.side.is_empty() || self.side.contains(side))
    }
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// All of them, one after the other; P12 without the cold build.
    All,
    /// Tasks a second, one task per request, beside the bare program.
    P1,
    /// Tasks a second with batched submit, lease and results, beside the bare program.
    P2,
    /// The same two on PostgreSQL, one replica, and what a task costs the database.
    P3,
    /// From submit to the start of the handler at 20 tasks a second, beside the bare program; and on PostgreSQL.
    P4,
    /// Heartbeats a second, beside an echo by bare axum.
    P5,
    /// State reports of a platform's agents, of which none may fail.
    P6,
    /// Memory for an agent that waits over a WebSocket, or in a long-poll.
    P7,
    /// How long a claim takes as the queue grows and as finished tasks pile up; and on PostgreSQL.
    P8,
    /// What a task costs as agents grow; and the memory of a parked poll.
    P9,
    /// How soon a server with a million tasks is ready, and its memory then.
    P10,
    /// What the SDK costs per task, and an idle agent.
    P11,
    /// The size of the release build.
    P12 {
        /// Builds a new agent from nothing as well, which takes minutes.
        #[arg(long)]
        cold: bool,
    },
    /// Draws plots from the JSON lines of earlier measurements.
    Plot {
        results: PathBuf,
        #[arg(default_value = "benches/plots")]
        folder: PathBuf,
    },
    /// A server under test, started by the measurements themselves.
    #[command(hide = true)]
    Serve { side: Side, database: PathBuf, schema: Option<String> },
    /// An agent under test, started by the measurements themselves.
    #[command(hide = true)]
    Agent { server: SocketAddr },
}

fn main() -> ExitCode {
    let Cli { command, common } = Cli::parse();
    let done = match command {
        Command::Serve { side, database, schema } => {
            threads().and_then(|all| all.block_on(host::serve(side, &database, schema)))
        }
        Command::Agent { server } => threads().and_then(|all| all.block_on(p11::run_agent(server))),
        Command::Plot { results, folder } => plot::draw(&results, &folder),
        measurement => measure(&measurement, &common),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("eap-benches: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What servers and agents run on, as they do in earnest.
fn threads() -> Result<Runtime, BoxError> {
    Ok(Builder::new_multi_thread().enable_all().build()?)
}

fn measure(command: &Command, common: &Common) -> Result<(), BoxError> {
    let mut report = Report::new(common.runs, common.quick);
    // Callers share one thread: less to pay for them, and what they cost is seen apart from the server.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let wanted = match command {
        Command::All => {
            use Command::{P1, P2, P3, P4, P5, P6, P7, P8, P9, P10, P11, P12};
            vec![P1, P2, P3, P4, P5, P6, P7, P8, P9, P10, P11, P12 { cold: false }]
        }
        one => vec![one.clone()],
    };
    for one in &wanted {
        // A set of its own for each, so that nothing of one lives on in the next.
        LocalSet::new().block_on(&runtime, measure_one(one, common, &mut report))?;
    }
    report.summary();
    Ok(())
}

async fn measure_one(command: &Command, common: &Common, report: &mut Report) -> Result<(), BoxError> {
    match command {
        Command::P1 => throughput::measure(&throughput::P1, common, report).await,
        Command::P2 => throughput::measure(&throughput::P2, common, report).await,
        Command::P3 => p3::measure(common, report).await,
        Command::P4 => p4::measure(common, report).await,
        Command::P5 => p5::measure(common, report).await,
        Command::P6 => p6::measure(common, report).await,
        Command::P7 => p7::measure(common, report).await,
        Command::P8 => p8::measure(common, report).await,
        Command::P9 => p9::measure(common, report).await,
        Command::P10 => p10::measure(common, report).await,
        Command::P11 => p11::measure(common, report).await,
        Command::P12 { cold } => p12::measure(*cold, report),
        Command::All | Command::Plot { .. } | Command::Serve { .. } | Command::Agent { .. } => Ok(()),
    }
}
