//! `eap dead`: tasks that failed for good or died, listed, done again, or let be.

use clap::{Args, Subcommand};
use eap_types::{AgentId, TaskId, TaskQuery, TaskStatus, TaskType};

use crate::exit::{Exit, Failure};
use crate::output::{print, print_json, tell};
use crate::paging::Paging;
use crate::server::ServerArgs;
use crate::task::show;

/// What can be done with dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    List(ListArgs),
    Requeue(RequeueArgs),
    Discard(DiscardArgs),
}

/// List dead letters, newest task first: tasks that failed for good or died, and that nobody requeued or discarded yet.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Only those that stand here: failed or dead.
    #[arg(long, value_name = "STATUS")]
    status: Option<TaskStatus>,

    /// Only tasks of this type.
    #[arg(long = "type", value_name = "WORD")]
    task_type: Option<TaskType>,

    /// Only tasks whose newest attempt was this agent's.
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

/// Do a dead letter again, as a new task that is linked to it, and print the new task's id.
///
/// Repeated, it prints the id of the task that was made first.
#[derive(Args, Debug)]
pub(crate) struct RequeueArgs {
    /// The dead letter: the task that failed or died.
    task_id: TaskId,

    #[command(flatten)]
    server: ServerArgs,

    /// Print the new task as one JSON document.
    #[arg(long)]
    json: bool,
}

/// Take a dead letter off the list; its task can still be read.
#[derive(Args, Debug)]
pub(crate) struct DiscardArgs {
    /// The dead letter: the task that failed or died.
    task_id: TaskId,

    #[command(flatten)]
    server: ServerArgs,
}

/// Carries out one of them.
pub(crate) async fn run(command: DeadCommand) -> Result<Exit, Failure> {
    match command {
        DeadCommand::List(args) => list(args).await,
        DeadCommand::Requeue(args) => requeue(args).await,
        DeadCommand::Discard(DiscardArgs { task_id, server }) => {
            let client = server.client()?;
            server.repeat(|| client.discard(task_id)).await?;
            tell(&format!("eap: {task_id} is off the list of dead letters\n"));
            Ok(Exit::Done)
        }
    }
}

async fn list(args: ListArgs) -> Result<Exit, Failure> {
    let client = args.server.client()?;
    let mut query = TaskQuery::new();
    query.status = args.status;
    query.task_type = args.task_type;
    query.agent_id = args.agent;
    let page = args.paging.read(&args.server, async |cursor, limit| {
        let mut query = query.clone();
        (query.cursor, query.limit) = (cursor, limit);
        client.dead_letters(&query).await
    });
    let page = page.await?;
    match (args.json, page.tasks.is_empty()) {
        (true, _) => print_json(&page)?,
        (false, true) => print("no dead letters\n")?,
        (false, false) => print(&show::tasks(&page))?,
    }
    Ok(Exit::Done)
}

async fn requeue(args: RequeueArgs) -> Result<Exit, Failure> {
    let client = args.server.client()?;
    let task = args.server.repeat(|| client.requeue(args.task_id)).await?;
    if args.json {
        print_json(&task)?;
    } else {
        print(&format!("{}\n", task.task_id))?;
    }
    Ok(Exit::Done)
}
