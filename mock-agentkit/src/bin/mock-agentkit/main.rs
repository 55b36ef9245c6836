//! The command `mock-agentkit`: an agent platform to try an orchestrator with.
#![forbid(unsafe_code)]

mod args;
mod named_fault;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use mock_agentkit::StartError;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::args::Args;

/// Usage or configuration, as with `eap`.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let is_terminal = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(is_terminal).with_writer(io::stderr).init();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| (format!("cannot start threads: {error}"), ExitCode::FAILURE))
        .and_then(|runtime| runtime.block_on(run(args)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err((why, code)) => {
            // Whoever closed its standard error does not want to know.
            let _ = writeln!(io::stderr(), "mock-agentkit: {why}");
            code
        }
    }
}

async fn run(args: Args) -> Result<(), (String, ExitCode)> {
    let mock = args.builder().start().await.map_err(|error| match &error {
        StartError::Listen { source, .. } => (format!("{error}: {source}"), ExitCode::FAILURE),
        _ => (error.to_string(), ExitCode::from(USAGE)),
    })?;
    let url = mock.url();
    // Scripts read this line to learn the port.
    let _ = writeln!(io::stdout(), "mock-agentkit listens on {url}");
    asked_to_stop().await;
    let unsent = mock.stop().await;
    if unsent > 0 {
        let _ = writeln!(io::stderr(), "mock-agentkit: {unsent} messages were not sent to their end");
    }
    Ok(())
}

/// Waits for Ctrl-C, or for what ends a container.
async fn asked_to_stop() {
    let Ok(mut terminated) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
}
