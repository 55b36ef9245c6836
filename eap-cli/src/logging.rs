//! Where log lines go: standard error, filtered by `EAP_LOG` or `RUST_LOG`.

use std::io::{self, IsTerminal as _};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::exit::Failure;

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging; `default` says what is logged when the environment does not.
pub(crate) fn start(format: LogFormat, default: &str) -> Result<(), Failure> {
    let (name, wanted) = ["EAP_LOG", "RUST_LOG"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()).map(|value| (name, value)))
        .unwrap_or(("", default.to_owned()));
    let filter = EnvFilter::try_new(&wanted)
        .map_err(|error| Failure::usage(format!("{name} is not a log filter: {error}; try {name}=info")))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}
