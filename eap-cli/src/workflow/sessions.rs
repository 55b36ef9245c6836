//! `eap workflow sessions`, `get`, `pause`, `resume` and `cancel`: workflows on their way.

use clap::Args;
use eap_types::{AgentId, SessionId, SessionQuery, SessionState, SessionView, WorkflowId};

use super::show;
use super::wait::{finished, follow};
use crate::exit::{Exit, Failure};
use crate::output::{print, print_json};
use crate::paging::Paging;
use crate::server::ServerArgs;
use crate::wait::Wait;

/// List sessions, newest first, without their results and steps.
#[derive(Args, Debug)]
pub(crate) struct SessionsArgs {
    /// Only sessions that stand here: started, running, completed, failed, cancelled or paused.
    #[arg(long, value_name = "STATUS")]
    status: Option<SessionState>,

    /// Only sessions of this workflow.
    #[arg(long, value_name = "ID")]
    workflow: Option<WorkflowId>,

    /// Only sessions that were started for this agent.
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

/// Show a session with its steps and their results.
///
/// Exit code 1 says that it failed or was cancelled; 0 that it is completed, or not over yet.
#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    /// The session.
    session_id: SessionId,

    #[command(flatten)]
    wait: Wait,

    #[command(flatten)]
    server: ServerArgs,

    /// Print the session as one JSON document.
    #[arg(long)]
    json: bool,
}

/// Let no further step of a session begin; the one whose turn it is, queued or running, goes on to its end.
#[derive(Args, Debug)]
pub(crate) struct PauseArgs {
    /// The session.
    session_id: SessionId,

    #[command(flatten)]
    server: ServerArgs,

    /// Print the session as one JSON document.
    #[arg(long)]
    json: bool,
}

/// Let a paused session go on where it was.
#[derive(Args, Debug)]
pub(crate) struct ResumeArgs {
    /// The session.
    session_id: SessionId,

    #[command(flatten)]
    server: ServerArgs,

    /// Print the session as one JSON document.
    #[arg(long)]
    json: bool,
}

/// Cancel a session, and the task of the step that runs, at once and for good.
#[derive(Args, Debug)]
pub(crate) struct CancelArgs {
    /// The session.
    session_id: SessionId,

    /// Why, for people and for the agent that works on it.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    #[command(flatten)]
    server: ServerArgs,

    /// Print the session as one JSON document.
    #[arg(long)]
    json: bool,
}

/// Lists sessions.
pub(super) async fn list(args: SessionsArgs) -> Result<Exit, Failure> {
    let client = args.server.client()?;
    let mut query = SessionQuery::new();
    query.status = args.status;
    query.workflow_id = args.workflow;
    query.agent_id = args.agent;
    let page = args.paging.read(&args.server, async |cursor, limit| {
        let mut query = query.clone();
        (query.cursor, query.limit) = (cursor, limit);
        client.sessions(&query).await
    });
    let page = page.await?;
    if args.json { print_json(&page) } else { print(&show::sessions(&page)) }?;
    Ok(Exit::Done)
}

/// Shows a session, or waits for its end first.
pub(super) async fn get(args: GetArgs) -> Result<Exit, Failure> {
    let client = args.server.client()?;
    let session = match args.wait.is_wanted() {
        true => follow(&args.wait, &client, &args.server, args.session_id).await?,
        false => Some(args.server.repeat(|| client.session(args.session_id, None)).await?),
    };
    let Some(session) = session else { return Ok(Exit::WaitOver) };
    if args.json { print_json(&session) } else { print(&show::session(&session)) }?;
    let unfinished = if args.wait.is_wanted() { Exit::WaitOver } else { Exit::Done };
    Ok(finished(&session).unwrap_or(unfinished))
}

/// Pauses a session.
pub(super) async fn pause(args: PauseArgs) -> Result<Exit, Failure> {
    let client = args.server.client()?;
    told(&args.server.repeat(|| client.pause_session(args.session_id)).await?, args.json)
}

/// Resumes a session.
pub(super) async fn resume(args: ResumeArgs) -> Result<Exit, Failure> {
    let client = args.server.client()?;
    told(&args.server.repeat(|| client.resume_session(args.session_id)).await?, args.json)
}

/// Cancels a session.
pub(super) async fn cancel(args: CancelArgs) -> Result<Exit, Failure> {
    let client = args.server.client()?;
    told(&args.server.repeat(|| client.cancel_session(args.session_id, args.reason.as_deref())).await?, args.json)
}

fn told(session: &SessionView, json: bool) -> Result<Exit, Failure> {
    if json {
        print_json(session)?;
    } else {
        print(&format!("{} {}\n", session.session_id, session.status))?;
    }
    Ok(Exit::Done)
}
