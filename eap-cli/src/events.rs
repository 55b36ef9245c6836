//! `eap events`: what happened to tasks and agents, and what happens.

use clap::Args;
use eap_client::{ClientError, EventStream, OperatorClient, Told};
use eap_types::{AgentId, EventQuery, EventView, EventsReset, TaskId};
use serde_json::json;

use crate::exit::{Exit, Failure, root};
use crate::output::{Reader, beginning, harmless, one_line, print_to_reader, tell};
use crate::server::ServerArgs;
use crate::stop;

/// How many characters of an event's detail a line shows.
const DETAIL: usize = 120;

/// Show what happened to tasks and agents; with --follow, what happens.
///
/// Without --follow, prints the events that the server keeps, oldest first, and ends. With it, prints what happens from now on, or after --after, until it
/// is stopped, through restarts of the server. A line `reset` says that events after the number given are not kept any more.
#[derive(Args, Debug)]
#[command(after_help = "Example: eap events --follow --kind task.failed,task.dead")]
pub(crate) struct EventsArgs {
    /// Go on with what happens, until SIGINT or SIGTERM.
    #[arg(long, short)]
    follow: bool,

    /// Begin after the event with this number; 0 begins with the oldest one kept.
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,

    /// Only what happens to this task.
    #[arg(long, value_name = "ID")]
    task: Option<TaskId>,

    /// Only what this agent does.
    #[arg(long, value_name = "ID")]
    agent: Option<AgentId>,

    /// Only events of this kind, as in task.failed; may be given several times, or with commas.
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',')]
    kinds: Vec<String>,

    #[command(flatten)]
    server: ServerArgs,

    /// Print each event as one JSON document in a line of its own; a reset is {"kind": "reset", "oldest": NUMBER}.
    #[arg(long)]
    json: bool,
}

/// Prints events until there are no more, or somebody has had enough.
pub(crate) async fn run(args: EventsArgs) -> Result<Exit, Failure> {
    let stop = stop::on_signals(|| {})?;
    let opened = tokio::select! {
        () = stop.cancelled() => return Ok(Exit::Done),
        opened = open(&args) => opened,
    };
    let (mut events, until) = opened?;
    loop {
        let told = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            told = next(&mut events, until) => told,
        };
        let line = match told {
            Ok(Some(told)) => line(&told, args.json),
            Ok(None) => return Ok(Exit::Done),
            Err(error) => return Err(args.server.failed(&error).and(&goes_on(&args, &events))),
        };
        if print_to_reader(&line)? == Reader::Gone {
            return Ok(Exit::Done);
        }
    }
    tell(&format!("eap: {}\n", goes_on(&args, &events)));
    Ok(Exit::Done)
}

/// Opens the stream, and says up to which number it is wanted.
async fn open(args: &EventsArgs) -> Result<(EventStream, Option<u64>), Failure> {
    let client = args.server.client()?;
    let mut query = EventQuery::new();
    query.task_id = args.task;
    query.agent_id.clone_from(&args.agent);
    query.kind = (!args.kinds.is_empty()).then(|| args.kinds.join(","));
    query.after = args.after;
    let mut until = None;
    if !args.follow {
        let newest = newest(args, &client).await?;
        if let Some(after) = args.after.filter(|after| *after > newest) {
            let why = format!("--after {after} is beyond the newest event, which is {newest}");
            return Err(Failure::usage(why).and("is it a number of another server?"));
        }
        query.after = Some(args.after.unwrap_or(0));
        until = Some(newest);
    }
    let events = args.server.repeat(|| client.events(query.clone())).await?;
    Ok((events.with_on_outage(tell_of_outages()), until))
}

/// Tells that the connection is lost, once, and that it is there again.
pub(crate) fn tell_of_outages() -> impl FnMut(Option<&ClientError>) + Send + 'static {
    let mut is_told = false;
    move |outage| match outage {
        Some(error) if !is_told => {
            is_told = true;
            let why = one_line(&root(error));
            tell(&format!("eap: the connection is lost ({why}); trying again\n"));
        }
        Some(_) => {}
        None => {
            is_told = false;
            tell("eap: connected again\n");
        }
    }
}

/// The number of the newest event: where a stream without a number begins.
async fn newest(args: &EventsArgs, client: &OperatorClient) -> Result<u64, Failure> {
    let events = args.server.repeat(|| client.events(EventQuery::new())).await?;
    Ok(events.last_id().unwrap_or(0))
}

async fn next(events: &mut EventStream, until: Option<u64>) -> Result<Option<Told>, ClientError> {
    match until {
        Some(number) => events.next_until(number).await,
        None => events.next().await.map(Some),
    }
}

fn goes_on(args: &EventsArgs, events: &EventStream) -> String {
    let follow = if args.follow { " --follow" } else { "" };
    format!("`eap events{follow} --after {}` goes on", events.last_id().unwrap_or(0))
}

fn line(told: &Told, json: bool) -> String {
    match (told, json) {
        (Told::Event(event), true) => json_line(event),
        (Told::Reset(reset), true) => format!("{}\n", json!({"kind": EventsReset::KIND, "oldest": reset.oldest})),
        (Told::Event(event), false) => of_event(event),
        (Told::Reset(reset), false) => {
            format!("reset  events before {} are not kept any more\n", reset.oldest)
        }
    }
}

/// An event as one JSON document in a line of its own.
pub(crate) fn json_line(event: &EventView) -> String {
    let text = serde_json::to_string(event).expect("every payload of the protocol has a JSON form");
    // An end of line in JSON is white space of the sender's, in a detail that is kept as it came.
    format!("{}\n", text.replace(['\n', '\r'], " "))
}

fn of_event(event: &EventView) -> String {
    let mut text = format!("{:<8} {:<27} {:<20}", event.seq, event.at.to_string(), one_line(&event.kind));
    if let Some(task) = event.task_id {
        text.push_str(&format!(" {task}"));
    }
    if let Some(attempt) = event.attempt {
        text.push_str(&format!(" attempt {attempt}"));
    }
    if let Some(agent) = &event.agent_id {
        text.push_str(&format!(" by {}", harmless(agent.as_str())));
    }
    if !event.detail.is_empty() {
        text.push_str(&format!(" {}", beginning(event.detail.as_str(), DETAIL)));
    }
    format!("{}\n", text.trim_end())
}

#[cfg(test)]
mod tests {
    use eap_types::{JsonObject, Timestamp};

    use super::*;

    #[test]
    fn a_line_is_one_line_whatever_the_detail_holds() {
        let mut event = EventView::new(4712, Timestamp::UNIX_EPOCH, "task.failed");
        event.task_id = Some("01956e3c-7f60-7000-8000-000000000001".parse().unwrap());
        event.agent_id = Some("a-1".parse().unwrap());
        event.attempt = Some(2);
        event.detail = JsonObject::parse("{\"message\":\n\"no such file\"}").unwrap();
        let told = Told::Event(event);
        assert_eq!(
            line(&told, false),
            "4712     1970-01-01T00:00:00Z        task.failed          01956e3c-7f60-7000-8000-000000000001 attempt 2 by \
             a-1 {\"message\": \"no such file\"}\n"
        );
        assert_eq!(line(&told, true).lines().count(), 1);
        assert_eq!(line(&Told::Reset(EventsReset::new(11)), true), "{\"kind\":\"reset\",\"oldest\":11}\n");
    }
}
