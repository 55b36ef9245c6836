//! The `eap` command: serve an orchestrator, run agents, submit and follow tasks.
#![forbid(unsafe_code)]

mod agent;
mod completions;
mod dead;
mod demo;
mod events;
mod exit;
mod explain;
mod key;
mod logging;
mod output;
mod paging;
mod schema;
mod secrets;
mod serve;
mod server;
mod stop;
mod task;
mod wait;
mod workflow;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::exit::{Exit, Failure};

/// A server takes and frees small pieces of memory all the time; with the system's allocator that is a tenth of its work.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Hand tasks to agents outside your process, and never lose one that was acknowledged.
///
/// Start with `eap demo README.md`, which shows the whole way of a task. Then run `eap serve` in one terminal,
/// `eap agent run --name AGENT-WC-01 --capability word_count -- wc -w` in a second, and
/// `eap task submit --capability word_count --input-file README.md --wait` in a third.
#[derive(Debug, Parser)]
#[command(name = "eap", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 the task failed, died or was cancelled; 2 usage or configuration; \
                          3 refused by the server; 4 unreachable; 5 the wait was over.";

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Box<serve::ServeArgs>),
    /// Run an agent, or look at those there are.
    #[command(subcommand)]
    Agent(agent::AgentCommand),
    /// Submit tasks, follow them, cancel them.
    #[command(subcommand)]
    Task(task::TaskCommand),
    /// Keep workflows, run them, and follow the sessions that do.
    #[command(subcommand)]
    Workflow(workflow::WorkflowCommand),
    Explain(explain::ExplainArgs),
    Events(events::EventsArgs),
    /// Look at tasks that failed for good or died, do them again, or let them be.
    #[command(subcommand)]
    Dead(dead::DeadCommand),
    /// Make operator keys, list them, revoke them.
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Make secrets that agents register with, list them, revoke them.
    #[command(subcommand)]
    RegistrationSecret(key::RegistrationSecretCommand),
    Demo(demo::DemoArgs),
    Schema(schema::SchemaArgs),
    Completions(completions::CompletionsArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(Box::pin(run(cli.command))),
        Err(error) => Err(Failure::new(Exit::Failed, format!("cannot start threads: {error}"))),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output::tell(&format!("eap: {failure}\n"));
            failure.exit.into()
        }
    }
}

async fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Serve(args) => serve::run(*args).await,
        Command::Agent(command) => agent::run(command).await,
        Command::Task(command) => {
            logging::start(logging::LogFormat::Text, "warn")?;
            task::run(command).await
        }
        Command::Workflow(command) => {
            logging::start(logging::LogFormat::Text, "warn")?;
            workflow::run(command).await
        }
        Command::Explain(args) => {
            logging::start(logging::LogFormat::Text, "warn")?;
            explain::run(args).await
        }
        Command::Events(args) => {
            logging::start(logging::LogFormat::Text, "warn")?;
            events::run(args).await
        }
        Command::Dead(command) => {
            logging::start(logging::LogFormat::Text, "warn")?;
            dead::run(command).await
        }
        Command::Key(command) => {
            logging::start(logging::LogFormat::Text, "warn")?;
            key::run(command).await
        }
        Command::RegistrationSecret(command) => {
            logging::start(logging::LogFormat::Text, "warn")?;
            key::run_for_secrets(command).await
        }
        Command::Demo(args) => demo::run(args).await,
        Command::Schema(args) => schema::run(&args),
        Command::Completions(args) => completions::run(&args, Cli::command()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }
}
