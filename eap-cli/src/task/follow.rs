//! `eap task get`, `list`, `cancel` and `history`: tasks that are with the server.

use clap::Args;
use eap_types::{AgentId, TaskId, TaskQuery, TaskStatus, TaskType};

use super::show;
use super::wait::{finished, follow};
use crate::exit::{Exit, Failure};
use crate::output::{print, print_json};
use crate::paging::Paging;
use crate::server::ServerArgs;
use crate::wait::Wait;

/// Show a task, with its result if it has one.
///
/// Exit code 1 says that the task failed, died or was cancelled; 0 that it is done, or not over yet.
#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    /// The task.
    task_id: TaskId,

    #[command(flatten)]
    wait: Wait,

    #[command(flatten)]
    server: ServerArgs,

    /// Print the task as one JSON document.
    #[arg(long)]
    json: bool,
}

/// List tasks, newest first, without their results.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Only tasks that stand here: queued, leased, completed, failed, cancelled or dead.
    #[arg(long, value_name = "STATUS")]
    status: Option<TaskStatus>,

    /// Only tasks of this type.
    #[arg(long = "type", value_name = "WORD")]
    task_type: Option<TaskType>,

    /// Only tasks whose newest attempt is this agent's.
    #[arg(long, value_name = "ID")]
    agent: Option<AgentId>,

    #[command(flatten)]
    paging: Paging,

    #[command(flatten)]
    server: ServerArgs,

    /// Print the answer as one JSON document.
    #[arg(long)]
    json: bool,
}

/// Cancel a task, at once and for good.
///
/// An agent that works on it is told with its next heartbeat, at most a third of a lease later (20 s, unless the server
/// is configured otherwise), and stops then; what it still reports changes nothing.
#[derive(Args, Debug)]
pub(crate) struct CancelArgs {
    /// The task.
    task_id: TaskId,

    /// Why, for people.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    #[command(flatten)]
    server: ServerArgs,

    /// Print the task as one JSON document.
    #[arg(long)]
    json: bool,
}

/// Show the attempts at a task, reports that came too late, and all that happened to it.
#[derive(Args, Debug)]
pub(crate) struct HistoryArgs {
    /// The task.
    task_id: TaskId,

    #[command(flatten)]
    server: ServerArgs,

    /// Print the answer as one JSON document.
    #[arg(long)]
    json: bool,
}

/// Shows a task, or waits for its end first.
pub(super) async fn get(args: GetArgs) -> Result<Exit, Failure> {
    let client = args.server.client()?;
    let mut task = client.task(args.task_id, None).await.map_err(|error| args.server.failed(&error))?;
    if args.wait.is_wanted() {
        task = follow(&args.wait, &client, &args.server, task).await?;
    }
    if args.json { print_json(&task) } else { print(&show::task(&task)) }?;
    let unfinished = if args.wait.is_wanted() { Exit::WaitOver } else { Exit::Done };
    Ok(finished(&task).unwrap_or(unfinished))
}

/// Lists tasks.
pub(super) async fn list(args: ListArgs) -> Result<Exit, Failure> {
    let client = args.server.client()?;
    let mut query = TaskQuery::new();
    query.status = args.status;
    query.task_type = args.task_type;
    query.agent_id = args.agent;
    let page = args.paging.read(&args.server, async |cursor, limit| {
        let mut query = query.clone();
        (query.cursor, query.limit) = (cursor, limit);
        client.tasks(&query).await
    });
    let page = page.await?;
    if args.json { print_json(&page) } else { print(&show::tasks(&page)) }?;
    Ok(Exit::Done)
}

/// Cancels a task.
pub(super) async fn cancel(args: CancelArgs) -> Result<Exit, Failure> {
    let client = args.server.client()?;
    let task = args.server.repeat(|| client.cancel(args.task_id, args.reason.as_deref())).await?;
    if args.json {
        print_json(&task)?;
    } else {
        print(&format!("{} {}\n", task.task_id, task.status))?;
    }
    Ok(Exit::Done)
}

/// Shows what happened to a task.
pub(super) async fn history(args: HistoryArgs) -> Result<Exit, Failure> {
    let client = args.server.client()?;
    let history = client.history(args.task_id).await.map_err(|error| args.server.failed(&error))?;
    if args.json { print_json(&history) } else { print(&show::history(&history)) }?;
    Ok(Exit::Done)
}
