//! `eap task`: submit tasks, follow them, fetch what they produced, cancel them.

mod batch;
mod fetch;
mod follow;
mod schema;
pub(crate) mod show;
mod submit;
mod wait;
mod watch;

use clap::Subcommand;

use crate::exit::{Exit, Failure};

/// What can be done with tasks.
#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    Submit(Box<submit::SubmitArgs>),
    Get(follow::GetArgs),
    Watch(watch::WatchArgs),
    List(follow::ListArgs),
    Cancel(follow::CancelArgs),
    History(follow::HistoryArgs),
    Fetch(fetch::FetchArgs),
}

/// Carries out one of them.
pub(crate) async fn run(command: TaskCommand) -> Result<Exit, Failure> {
    match command {
        TaskCommand::Submit(args) => submit::submit(*args).await,
        TaskCommand::Get(args) => follow::get(args).await,
        TaskCommand::Watch(args) => watch::watch(args).await,
        TaskCommand::List(args) => follow::list(args).await,
        TaskCommand::Cancel(args) => follow::cancel(args).await,
        TaskCommand::History(args) => follow::history(args).await,
        TaskCommand::Fetch(args) => fetch::fetch(args).await,
    }
}

/// Reads `KEY=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must be KEY=VALUE".to_owned()),
    }
}
