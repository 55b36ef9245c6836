//! `eap workflow add`, `list` and `show`: what can be run.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use eap_types::{DecodeError, WorkflowDefinition, WorkflowId, from_json};
use serde_json::Value;

use super::show;
use crate::exit::{Exit, Failure};
use crate::output::{one_line, print, print_json, tell};
use crate::paging::{Paging, query};
use crate::server::ServerArgs;

/// Keep workflows, each from a JSON file.
///
/// A version is kept once and for ever: the same again changes nothing, and a changed workflow needs a version of its own.
#[derive(Args, Debug)]
pub(crate) struct AddArgs {
    /// Files as `eap schema WorkflowDefinition` has them.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    server: ServerArgs,
}

/// List workflows, those that were kept last first.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    paging: Paging,

    #[command(flatten)]
    server: ServerArgs,

    /// Print the answer as one JSON document.
    #[arg(long)]
    json: bool,
}

/// Print a workflow as it was kept: a JSON document that `eap workflow add` reads.
#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// The workflow.
    workflow_id: WorkflowId,

    /// Its version [default: the one that was kept last].
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,

    #[command(flatten)]
    server: ServerArgs,
}

/// Keeps workflows.
pub(super) async fn add(args: AddArgs) -> Result<Exit, Failure> {
    let client = args.server.client()?;
    let read: Result<Vec<_>, _> = args.files.iter().map(|file| Ok((file, definition_in(file)?))).collect();
    for (file, workflow) in read? {
        let kept = args.server.repeat(|| client.keep_workflow(&workflow)).await;
        let kept = kept.map_err(|failure| {
            failure.and(&format!("this is about {}, and those behind it were not tried", file.display()))
        })?;
        print(&format!("{} {}\n", kept.id, kept.version))?;
    }
    Ok(Exit::Done)
}

/// Lists workflows.
pub(super) async fn list(args: ListArgs) -> Result<Exit, Failure> {
    let client = args.server.client()?;
    let page = args.paging.read(&args.server, async |cursor, limit| client.workflows(&query(cursor, limit)).await);
    let page = page.await?;
    if args.json { print_json(&page) } else { print(&show::workflows(&page)) }?;
    Ok(Exit::Done)
}

/// Prints a workflow.
pub(super) async fn show(args: ShowArgs) -> Result<Exit, Failure> {
    let client = args.server.client()?;
    let workflow = client.workflow(&args.workflow_id, args.version.as_deref()).await;
    print_json(&workflow.map_err(|error| args.server.failed(&error))?)?;
    Ok(Exit::Done)
}

/// The workflow that a file holds.
pub(super) fn definition_in(file: &Path) -> Result<WorkflowDefinition, Failure> {
    let name = file.display();
    let text =
        fs::read(file).map_err(|error| Failure::usage(format!("cannot read the workflow in {name}: {error}")))?;
    tell_of_unknown_fields(file, &text);
    from_json(&text).map_err(|error| {
        let told = match error {
            DecodeError::Invalid { problems } => {
                let told = problems.iter().map(|problem| {
                    let field = problem.field.strip_prefix("body.").unwrap_or(&problem.field);
                    format!("{field} {}", problem.message)
                });
                told.collect::<Vec<_>>().join("; ")
            }
            other => other.to_string(),
        };
        Failure::usage(format!("{name} holds no workflow: {told}"))
    })
}

/// A name that nobody knows is ignored on the wire; in a file it is most likely misspelt.
fn tell_of_unknown_fields(file: &Path, text: &[u8]) {
    const OF_A_WORKFLOW: [&str; 5] = ["id", "name", "description", "version", "tasks"];
    const OF_A_STEP: [&str; 7] =
        ["taskId", "name", "agentCapability", "parameters", "nextTaskId", "maxRetries", "timeoutSeconds"];
    let Ok(Value::Object(workflow)) = serde_json::from_slice(text) else { return };
    let unknown = |place: &str, name: &String| {
        tell(&format!(
            "eap: {}: {place}{} is no field of a workflow, and is ignored\n",
            file.display(),
            one_line(name)
        ));
    };
    workflow.keys().filter(|name| !OF_A_WORKFLOW.contains(&name.as_str())).for_each(|name| unknown("", name));
    let steps = workflow.get("tasks").and_then(Value::as_array).into_iter().flatten();
    for (index, step) in steps.filter_map(Value::as_object).enumerate() {
        let names = step.keys().filter(|name| !OF_A_STEP.contains(&name.as_str()));
        names.for_each(|name| unknown(&format!("tasks[{index}]."), name));
    }
}

/// The workflows in the `.json` files of a folder, in the order of their names.
pub(crate) fn definitions_in(folder: &Path) -> Result<Vec<WorkflowDefinition>, Failure> {
    let unreadable = |error| Failure::usage(format!("cannot read the folder {}: {error}", folder.display()));
    let entries: Result<Vec<_>, _> = fs::read_dir(folder).map_err(unreadable)?.collect();
    let mut files: Vec<PathBuf> = entries.map_err(unreadable)?.into_iter().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    files.iter().map(|file| definition_in(file)).collect()
}
