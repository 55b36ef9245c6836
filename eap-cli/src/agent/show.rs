//! `eap agent list`, `get`, `drain`, `resume`, `interval` and `rotate-token`.

use clap::Args;
use eap_client::AgentQuery;
use eap_types::{AgentDetail, AgentId, AgentPage, AgentView};

use crate::exit::{Exit, Failure};
use crate::output::{Table, age, beginning, print, print_json};
use crate::paging::{Paging, more};
use crate::server::ServerArgs;

/// List agents, newest first.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    server: ServerArgs,

    #[command(flatten)]
    paging: Paging,

    /// Print the answer as one JSON document.
    #[arg(long)]
    json: bool,
}

/// Show one agent with the tasks it holds.
#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    /// The agent's id, as `eap agent list` shows it.
    agent_id: AgentId,

    #[command(flatten)]
    server: ServerArgs,

    /// Print the answer as one JSON document.
    #[arg(long)]
    json: bool,
}

/// Ask an agent to get a new token; it is told in its heartbeats until it has one.
#[derive(Args, Debug)]
pub(crate) struct RotateTokenArgs {
    /// The agent's id, as `eap agent list` shows it.
    agent_id: AgentId,

    #[command(flatten)]
    server: ServerArgs,
}

/// Have an agent finish what it holds and take nothing new, until it is resumed.
///
/// It stays registered, and gets no work from now on, whether or not it has heard; `eap agent get` shows whether it has.
#[derive(Args, Debug)]
pub(crate) struct DrainArgs {
    /// The agent's id, as `eap agent list` shows it.
    agent_id: AgentId,

    /// Why, for people.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    #[command(flatten)]
    server: ServerArgs,

    /// Print the agent as one JSON document.
    #[arg(long)]
    json: bool,
}

/// Give a drained agent work again.
#[derive(Args, Debug)]
pub(crate) struct ResumeArgs {
    /// The agent's id, as `eap agent list` shows it.
    agent_id: AgentId,

    #[command(flatten)]
    server: ServerArgs,

    /// Print the agent as one JSON document.
    #[arg(long)]
    json: bool,
}

/// Have an agent beat at another interval.
///
/// It is kept with the agent, over restarts and registrations; `eap agent get` shows whether it has heard.
#[derive(Args, Debug)]
pub(crate) struct IntervalArgs {
    /// The agent's id, as `eap agent list` shows it.
    agent_id: AgentId,

    /// Seconds between two heartbeats, 1 to 3600.
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,

    #[command(flatten)]
    server: ServerArgs,

    /// Print the agent as one JSON document.
    #[arg(long)]
    json: bool,
}

/// Drains an agent.
pub(super) async fn drain(args: DrainArgs) -> Result<Exit, Failure> {
    let client = args.server.client()?;
    let agent = args.server.repeat(|| client.drain_agent(&args.agent_id, args.reason.as_deref())).await?;
    told(&agent, args.json)
}

/// Resumes an agent.
pub(super) async fn resume(args: ResumeArgs) -> Result<Exit, Failure> {
    let client = args.server.client()?;
    let agent = args.server.repeat(|| client.resume_agent(&args.agent_id)).await?;
    told(&agent, args.json)
}

/// Sets how often an agent beats.
pub(super) async fn interval(args: IntervalArgs) -> Result<Exit, Failure> {
    let client = args.server.client()?;
    let agent = args.server.repeat(|| client.set_agent_interval(&args.agent_id, args.seconds)).await?;
    told(&agent, args.json)
}

/// Says how an agent now stands.
fn told(agent: &AgentDetail, json: bool) -> Result<Exit, Failure> {
    if json {
        print_json(agent)?;
    } else {
        print(&format!("{} {}\n", agent.agent.agent_id, agent.agent.state))?;
    }
    Ok(Exit::Done)
}

/// Asks for a new token.
pub(super) async fn rotate_token(args: RotateTokenArgs) -> Result<Exit, Failure> {
    let client = args.server.client()?;
    args.server.repeat(|| client.rotate_agent_token(&args.agent_id)).await?;
    print(&format!("{} is asked to get a new token\n", args.agent_id))?;
    Ok(Exit::Done)
}

/// Lists agents.
pub(super) async fn list(args: ListArgs) -> Result<Exit, Failure> {
    let client = args.server.client()?;
    let page = args.paging.read(&args.server, async |cursor, limit| {
        let mut query = AgentQuery::new();
        (query.cursor, query.limit) = (cursor, limit);
        client.agents(query).await
    });
    let page = page.await?;
    if args.json {
        print_json(&page)?;
    } else {
        print(&listed(&page))?;
    }
    Ok(Exit::Done)
}

/// Shows one agent.
pub(super) async fn get(args: GetArgs) -> Result<Exit, Failure> {
    let agent = args.server.client()?.agent(&args.agent_id).await.map_err(|error| args.server.failed(&error))?;
    if args.json {
        print_json(&agent)?;
    } else {
        print(&shown(&agent))?;
    }
    Ok(Exit::Done)
}

fn listed(page: &AgentPage) -> String {
    if page.agents.is_empty() {
        return "no agents\n".to_owned();
    }
    let mut table = Table::with_header(&["ID", "NAME", "STATE", "TASKS", "SEEN", "CAPABILITIES"]);
    for agent in &page.agents {
        table.row([
            agent.agent_id.to_string(),
            agent.name.to_string(),
            agent.state.to_string(),
            format!("{}/{}", agent.leases, agent.max_concurrent_tasks),
            agent.last_seen_at.map_or_else(|| "-".to_owned(), age),
            words(agent.capabilities.iter()),
        ]);
    }
    table.render() + &more(page)
}

fn shown(detail: &AgentDetail) -> String {
    let agent: &AgentView = &detail.agent;
    let mut table = Table::new();
    table.row(["agent", agent.agent_id.as_str()]);
    table.row(["name", agent.name.as_str()]);
    table.row(["state", &agent.state.to_string()]);
    if let Some(status) = agent.status {
        table.row(["says", &status.to_string()]);
    }
    if let Some(platform) = &detail.platform_state {
        let takes = if platform.is_free { "" } else { ", in which it gets no work" };
        table.row(["reports", &format!("{}{takes}, as of {} ago", platform.state, age(platform.timestamp))]);
        if let Some(details) = &platform.details {
            table.row(["", &beginning(details.as_str(), 200)]);
        }
    }
    if let Some((at, why)) = agent.push.as_ref().and_then(|push| push.suspended_at.zip(push.reason)) {
        table.row(["push", &format!("suspended {} ago ({why}): nothing is pushed to it", age(at))]);
    }
    table.row(["version", agent.version.as_str()]);
    table.row(["capabilities", &words(agent.capabilities.iter())]);
    if !agent.labels.is_empty() {
        table.row(["labels", &words(agent.labels.iter().map(|(key, value)| format!("{key}={value}")))]);
    }
    if let Some(instance) = &agent.instance_id {
        table.row(["instance", instance.as_str()]);
    }
    table.row(["registered", &format!("{} ago, epoch {}", age(agent.registered_at), detail.epoch)]);
    if let Some(seen) = agent.last_seen_at {
        table.row(["seen", &format!("{} ago", age(seen))]);
    }
    if let Some(drain) = &detail.drain {
        let reason = drain.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        table.row(["drain", &format!("asked {} ago, {}{reason}", age(drain.asked_at), heard(drain.acknowledged))]);
    }
    if let Some(interval) = &detail.interval {
        let seconds = interval.heartbeat_interval_seconds;
        table.row(["beats", &format!("every {seconds} s, {}", heard(interval.acknowledged))]);
    }
    if let Some(record) = &detail.track_record {
        let rate = record
            .success_rate
            .map(|rate| format!(", {:.0} % of the last {} results good", rate * 100.0, record.results));
        table.row(["tier", &format!("{}{}", record.tier, rate.unwrap_or_default())]);
        let until = record.breaker_until.map(|until| format!(" until {until}")).unwrap_or_default();
        table.row(["breaker", &format!("{}{until}", record.breaker)]);
        if let Some(served) = record.last_served_at {
            table.row(["served", &format!("{} ago", age(served))]);
        }
    }
    if let Some(load) = detail.load {
        table.row(["load", &load.to_string()]);
    }
    table.row(["tasks", &format!("{} of {}", agent.leases, agent.max_concurrent_tasks)]);
    for held in &detail.held {
        table.row(["", &format!("{} attempt {}", held.task_id, held.attempt)]);
    }
    table.render()
}

fn heard(is_acknowledged: bool) -> &'static str {
    if is_acknowledged { "heard" } else { "not heard yet" }
}

fn words<T: ToString>(words: impl Iterator<Item = T>) -> String {
    words.map(|word| word.to_string()).collect::<Vec<_>>().join(" ")
}
