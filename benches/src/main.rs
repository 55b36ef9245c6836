//! Measures the orchestrator beside what the machine allows. `benches/README.md` says how to read what it prints.
#![forbid(unsafe_code)]

mod connection;
mod host;
mod load;
mod p1;
mod p5;
mod report;
mod requests;
mod usage;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

use crate::host::Side;
use crate::report::Report;

type BoxError = Box<dyn Error + Send + Sync>;

/// Measures the orchestrator beside what the machine allows: JSON lines on standard output, a summary on standard error.
#[derive(Debug, Parser)]
#[command(name = "eap-benches")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How often each measurement is repeated; the summary shows median and spread.
    #[arg(long, default_value_t = 1, global = true)]
    runs: usize,
    /// Short and small: shows that everything works, and nothing about speed.
    #[arg(long, global = true)]
    quick: bool,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// P1: tasks a second, one task per request, beside the bare program.
    P1(p1::Args),
    /// P5: heartbeats a second, beside an echo by bare axum.
    P5(p5::Args),
    /// A server under test, started by the measurements themselves.
    #[command(hide = true)]
    Serve { side: Side, database: PathBuf },
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("eap-benches: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<(), BoxError> {
    if let Command::Serve { side, database } = &cli.command {
        let runtime = Builder::new_multi_thread().enable_all().build()?;
        return runtime.block_on(host::serve(*side, database));
    }
    let mut report = Report::new(cli.runs, cli.quick);
    let (runtime, callers) = callers()?;
    match &cli.command {
        Command::Serve { .. } => {}
        Command::P1(args) => callers.block_on(&runtime, p1::measure(args, &mut report))?,
        Command::P5(args) => callers.block_on(&runtime, p5::measure(args, &mut report))?,
    }
    report.summary();
    Ok(())
}

/// Callers share one thread: less to pay for them, and what they cost is seen apart from the server.
fn callers() -> std::io::Result<(Runtime, LocalSet)> {
    Ok((Builder::new_current_thread().enable_all().build()?, LocalSet::new()))
}
