//! `eap agent`: run an agent that is a command, and look at the agents of a server.

mod artifacts;
mod capture;
mod exec;
mod process;
mod progress;
mod reach;
mod reconcile;
mod run;
mod show;

use clap::Subcommand;

pub(crate) use self::exec::Exec;
use crate::exit::{Exit, Failure};
use crate::logging::{self, LogFormat};

/// What can be done with agents.
#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    Run(Box<run::RunArgs>),
    List(show::ListArgs),
    Get(show::GetArgs),
    Drain(show::DrainArgs),
    Resume(show::ResumeArgs),
    Interval(show::IntervalArgs),
    RotateToken(show::RotateTokenArgs),
    Reconcile(reconcile::ReconcileArgs),
}

/// Carries out one of them.
pub(crate) async fn run(command: AgentCommand) -> Result<Exit, Failure> {
    match command {
        AgentCommand::Run(args) => run::run(*args).await,
        AgentCommand::List(args) => {
            logging::start(LogFormat::Text, "warn")?;
            show::list(args).await
        }
        AgentCommand::Get(args) => {
            logging::start(LogFormat::Text, "warn")?;
            show::get(args).await
        }
        AgentCommand::Drain(args) => {
            logging::start(LogFormat::Text, "warn")?;
            show::drain(args).await
        }
        AgentCommand::Resume(args) => {
            logging::start(LogFormat::Text, "warn")?;
            show::resume(args).await
        }
        AgentCommand::Interval(args) => {
            logging::start(LogFormat::Text, "warn")?;
            show::interval(args).await
        }
        AgentCommand::RotateToken(args) => {
            logging::start(LogFormat::Text, "warn")?;
            show::rotate_token(args).await
        }
        AgentCommand::Reconcile(args) => {
            logging::start(LogFormat::Text, "warn")?;
            reconcile::reconcile(args).await
        }
    }
}
