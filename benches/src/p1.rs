//! P1: tasks a second from end to end, one task per HTTP request, every acknowledged write on disk.

use std::time::Duration;

use clap::Args as Options;

use crate::BoxError;
use crate::host::{Host, Side};
use crate::load::Load;
use crate::report::{Floor, Report};

/// Who calls.
#[derive(Clone, Debug, Options)]
pub(crate) struct Args {
    /// Connections that submit.
    #[arg(long, default_value_t = 64)]
    submitters: usize,
    /// Agents, each with a connection that polls and reports.
    #[arg(long, default_value_t = 64)]
    agents: usize,
    /// Tasks that may be under way at once.
    #[arg(long, default_value_t = 512)]
    window: usize,
    /// Seconds that are measured, after one of warming up.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Only these; default: all.
    #[arg(long)]
    side: Vec<Side>,
}

/// The bare program and ours by turns, each over a new database.
pub(crate) async fn measure(args: &Args, report: &mut Report) -> Result<(), BoxError> {
    let seconds = if report.is_quick() { 0.5 } else { args.seconds };
    let load = Load {
        submitters: args.submitters,
        agents: args.agents,
        per_submit: 1,
        per_lease: 1,
        window: args.window,
        warm_up: Duration::from_secs_f64(seconds.min(1.0)),
        measured: Duration::from_secs_f64(seconds),
    };
    let sides = [Side::Bare, Side::BareTogether, Side::Ours];
    for run in report.runs() {
        for side in sides.into_iter().filter(|side| args.side.is_empty() || args.side.contains(side)) {
            let folder = tempfile::tempdir()?;
            let shown = load.run(Host::start(side, folder.path()).await?).await?;
            report.add("P1", side.name(), run, &load, &shown)?;
        }
    }
    report.floor(Floor::at_least("P1", "tasks/s", 9_000.0, report.median("P1", "ours", "tasks_per_second")));
    let bare =
        report.median("P1", "bare", "tasks_per_second").max(report.median("P1", "bare_together", "tasks_per_second"));
    report.floor(Floor::at_least(
        "P1",
        "of the bare program",
        0.75,
        report.median("P1", "ours", "tasks_per_second").over(bare),
    ));
    Ok(())
}
