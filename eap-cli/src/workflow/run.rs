//! `eap workflow run`: a workflow begins.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use eap_types::{AgentId, IdempotencyKey, JsonObject, RunWorkflow, WorkflowId};

use super::definitions::definition_in;
use super::show;
use super::wait::{finished, follow};
use crate::exit::{Exit, Failure};
use crate::output::{print, print_json, tell};
use crate::server::{ServerArgs, new_id};
use crate::wait::Wait;

/// Run a workflow, in the version that was kept last unless another is named.
///
/// Prints the id of the session that runs it; with --wait, the session once it is over. An answer that was lost is asked for
/// again: the workflow runs once, however often the call is made.
#[derive(Args, Debug)]
#[command(
    group = ArgGroup::new("which").args(["workflow_id", "file"]).required(true),
    after_help = "Example: eap workflow run --file review.json --payload '{\"text\": \"…\"}' --wait"
)]
pub(crate) struct RunArgs {
    /// The workflow, as `eap workflow list` shows it.
    workflow_id: Option<WorkflowId>,

    /// File with the workflow: it is kept first, as by `eap workflow add`, and run in its version.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Its version [default: the one that was kept last].
    #[arg(long, value_name = "VERSION", conflicts_with = "file")]
    version: Option<String>,

    /// What the first step is given in place of its parameters: a JSON object.
    #[arg(long, value_name = "JSON", value_parser = |text: &str| JsonObject::parse(text))]
    payload: Option<JsonObject>,

    /// The agent that does every step it can [default: any agent that can].
    #[arg(long, value_name = "ID")]
    agent: Option<AgentId>,

    /// Makes a repeated run the same one, also tomorrow and from another machine [default: a new key].
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<IdempotencyKey>,

    #[command(flatten)]
    wait: Wait,

    #[command(flatten)]
    server: ServerArgs,

    /// Print the answer, or with --wait the session, as one JSON document.
    #[arg(long)]
    json: bool,
}

/// Runs a workflow, and waits for it if that was asked for.
pub(super) async fn run(args: RunArgs) -> Result<Exit, Failure> {
    let key = match &args.idempotency_key {
        Some(key) => key.clone(),
        None => new_id().parse().map_err(|error| Failure::usage(format!("no idempotency key: {error}")))?,
    };
    let client = args.server.client()?;
    let (id, version) = match (args.workflow_id, &args.file) {
        (Some(id), _) => (id, args.version),
        (None, Some(file)) => {
            let workflow = definition_in(file)?;
            let kept = args.server.repeat(|| client.keep_workflow(&workflow)).await?;
            (kept.id, Some(kept.version))
        }
        (None, None) => return Err(Failure::usage("nothing says what to run: name a workflow, or use --file")),
    };
    let mut run = RunWorkflow::new();
    run.initial_payload = args.payload;
    run.agent_id = args.agent;
    run.version = version;
    let started = args.server.repeat(|| client.run_workflow(&id, &run, Some(&key))).await?;
    if !args.wait.is_wanted() {
        if args.json { print_json(&started) } else { print(&format!("{}\n", started.session_id)) }?;
        return Ok(Exit::Done);
    }
    tell(&format!("eap: session {}\n", started.session_id));
    let session = follow(&args.wait, &client, &args.server, started.session_id).await?;
    Ok(match session {
        None => Exit::WaitOver,
        Some(session) => {
            if args.json { print_json(&session) } else { print(&show::session(&session)) }?;
            finished(&session).unwrap_or(Exit::WaitOver)
        }
    })
}
