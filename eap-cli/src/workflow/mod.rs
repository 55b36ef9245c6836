//! `eap workflow`: keep workflows, run them, follow and direct their sessions.

mod definitions;
mod run;
mod sessions;
mod show;
mod wait;

use clap::Subcommand;

pub(crate) use self::definitions::definitions_in;
use crate::exit::{Exit, Failure};

/// What can be done with workflows.
#[derive(Debug, Subcommand)]
pub(crate) enum WorkflowCommand {
    Add(definitions::AddArgs),
    List(definitions::ListArgs),
    Show(definitions::ShowArgs),
    Run(run::RunArgs),
    Sessions(sessions::SessionsArgs),
    Get(sessions::GetArgs),
    Pause(sessions::PauseArgs),
    Resume(sessions::ResumeArgs),
    Cancel(sessions::CancelArgs),
}

/// Carries out one of them.
pub(crate) async fn run(command: WorkflowCommand) -> Result<Exit, Failure> {
    match command {
        WorkflowCommand::Add(args) => definitions::add(args).await,
        WorkflowCommand::List(args) => definitions::list(args).await,
        WorkflowCommand::Show(args) => definitions::show(args).await,
        WorkflowCommand::Run(args) => run::run(args).await,
        WorkflowCommand::Sessions(args) => sessions::list(args).await,
        WorkflowCommand::Get(args) => sessions::get(args).await,
        WorkflowCommand::Pause(args) => sessions::pause(args).await,
        WorkflowCommand::Resume(args) => sessions::resume(args).await,
        WorkflowCommand::Cancel(args) => sessions::cancel(args).await,
    }
}
