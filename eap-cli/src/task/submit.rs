//! `eap task submit`: from options and a file to a task that the server keeps.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use eap_types::{
    AgentId, Capability, IdempotencyKey, JsonObject, Labels, Priority, RawJson, SessionId, SubmitTask, TaskType,
    Timestamp,
};

use super::wait::{NOBODY_CAN, finished, follow};
use super::{batch, schema, show};
use crate::exit::{Exit, Failure, chain};
use crate::output::{print, print_json, tell};
use crate::server::{ServerArgs, new_id};
use crate::wait::Wait;

/// The longest input that is read, in bytes. The server has a limit of its own, usually lower.
const MAX_INPUT_BYTES: u64 = 64 * 1024 * 1024;

/// The options that say what one task is, or what becomes of it.
const OF_ONE_TASK: [&str; 18] = [
    "capabilities",
    "task_type",
    "input",
    "input_file",
    "json_input",
    "context",
    "labels",
    "agent",
    "preferred_agents",
    "session",
    "priority",
    "timeout",
    "inactivity",
    "max_attempts",
    "run_at",
    "expires_at",
    "callback_url",
    "wait",
];

/// Submit a task, or many.
///
/// Prints the task's id; with --wait, the task and its result once it is over, and the id at once to standard error. An answer that was lost is asked for
/// again: the task is submitted once, however often the call is made.
///
/// With --batch, prints one id a line, in the order of the file, and tells on standard error which tasks the server refused: exit code 3 if there are any,
/// though the others are kept. A file in which anything is wrong is not submitted at all.
#[derive(Args, Debug)]
#[command(
    group = ArgGroup::new("what").args(["capabilities", "task_type", "batch", "schema"]).required(true).multiple(true),
    group = ArgGroup::new("work").args(["input", "input_file", "batch", "schema"]).required(true),
    after_help = "Example: eap task submit --capability word_count --input-file README.md --wait"
)]
pub(crate) struct SubmitArgs {
    /// What an agent must be able to do; may be given several times. The first is the type, unless --type says it.
    #[arg(long = "capability", value_name = "WORD")]
    capabilities: Vec<Capability>,

    /// The kind of task; alone, it is also the capability.
    #[arg(long = "type", value_name = "WORD")]
    task_type: Option<TaskType>,

    /// The input as text.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    input: Option<String>,

    /// File that holds the input, or - for standard input.
    #[arg(long, value_name = "FILE")]
    input_file: Option<PathBuf>,

    /// File with many tasks, or - for standard input: one JSON object a line, or one JSON array of them, each as
    /// `eap schema SubmitTask` has it, as in {"task_type": "word_count", "input_data": "some words"}.
    #[arg(long, value_name = "FILE", conflicts_with_all = OF_ONE_TASK)]
    batch: Option<PathBuf>,

    /// Submit nothing, and show what the agents of this type take as input: the JSON Schemas that they published.
    #[arg(long, value_name = "TYPE", conflicts_with_all = OF_ONE_TASK)]
    schema: Option<TaskType>,

    /// The input is JSON: it is checked before it is sent, and the agent gets its text in compact form. A JSON string reaches
    /// the agent as the text in it.
    #[arg(long)]
    json_input: bool,

    /// What else the agent is to know: a JSON object.
    #[arg(long, value_name = "JSON", value_parser = |text: &str| JsonObject::parse(text))]
    context: Option<JsonObject>,

    /// A label that the agent must have, as in region=eu; may be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = super::pair)]
    labels: Vec<(String, String)>,

    /// The one agent that may do it.
    #[arg(long, value_name = "ID")]
    agent: Option<AgentId>,

    /// An agent that gets it before others that suit as well; may be given several times.
    #[arg(long = "prefer", value_name = "ID")]
    preferred_agents: Vec<AgentId>,

    /// What the task belongs to [default: a new session].
    #[arg(long, value_name = "ID")]
    session: Option<SessionId>,

    /// How urgent it is: 0 first, 4 last [default: 2].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=4))]
    priority: Option<u8>,

    /// How long one attempt may take, in seconds [default: 3600].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=604_800))]
    timeout: Option<u64>,

    /// How long an attempt may go on without telling progress or output, in seconds [default: as long as it may take].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=604_800))]
    inactivity: Option<u64>,

    /// How often it is tried [default: 3].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    max_attempts: Option<u32>,

    /// When it may start, as in 2030-01-31T08:00:00Z [default: now].
    #[arg(long, value_name = "TIME")]
    run_at: Option<Timestamp>,

    /// After this no attempt starts any more.
    #[arg(long, value_name = "TIME")]
    expires_at: Option<Timestamp>,

    /// Who is told once it is over, by a signed POST with the task and its result; the server needs a signing secret.
    #[arg(long, value_name = "URL")]
    callback_url: Option<String>,

    /// Makes a repeated submit the same one, also tomorrow and from another machine [default: a new key].
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<IdempotencyKey>,

    /// The trace that the task is part of, as W3C Trace Context writes it; its agent hears of it. What is none is left out.
    #[arg(long, env = "TRACEPARENT", value_name = "TRACEPARENT")]
    traceparent: Option<String>,

    #[command(flatten)]
    wait: Wait,

    #[command(flatten)]
    server: ServerArgs,

    /// Print the task as one JSON document.
    #[arg(long)]
    json: bool,
}

/// Submits the task, and waits for it if that was asked for.
pub(super) async fn submit(args: SubmitArgs) -> Result<Exit, Failure> {
    let key = match &args.idempotency_key {
        Some(key) => key.clone(),
        None => new_id().parse().map_err(|error| Failure::usage(format!("no idempotency key: {error}")))?,
    };
    let client = args.server.client()?;
    let client = match args.traceparent.as_deref().and_then(|text| text.parse().ok()) {
        Some(traceparent) => client.with_traceparent(traceparent),
        None => client,
    };
    if let Some(task_type) = &args.schema {
        return schema::show(task_type, &args.server, &client, args.json).await;
    }
    if let Some(path) = &args.batch {
        return batch::submit(path, &args.server, &client, &key, args.json).await;
    }
    let task = task_of(&args)?;
    let submitted = args.server.repeat(|| client.submit(&task, Some(&key))).await?;
    if !args.wait.is_wanted() {
        if args.json {
            print_json(&submitted)?;
        } else {
            print(&format!("{}\n", submitted.task_id))?;
            if submitted.no_capable_agent {
                tell(NOBODY_CAN);
            }
        }
        return Ok(Exit::Done);
    }
    tell(&format!("eap: submitted {}\n", submitted.task_id));
    let task = follow(&args.wait, &client, &args.server, submitted).await?;
    if args.json { print_json(&task) } else { print(&show::task(&task)) }?;
    Ok(finished(&task).unwrap_or(Exit::WaitOver))
}

fn task_of(args: &SubmitArgs) -> Result<SubmitTask, Failure> {
    let wrong = |what: &str, error: &dyn std::fmt::Display| Failure::usage(format!("{what}: {error}"));
    let text = match (&args.input, &args.input_file) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) => read(path)?,
        (None, None) => return Err(Failure::usage("no input is given: use --input or --input-file")),
    };
    let task_type = match (&args.task_type, args.capabilities.first()) {
        (Some(task_type), _) => task_type.clone(),
        (None, Some(capability)) => capability.clone().into(),
        (None, None) => return Err(Failure::usage("nothing says what to do: use --capability or --type")),
    };
    let mut task = if args.json_input {
        let input = RawJson::parse(&text).map_err(|error| wrong("--json-input", &chain(&error)))?;
        SubmitTask::new(task_type, input)
    } else {
        SubmitTask::text(task_type, &text)
    };
    if !args.capabilities.is_empty() {
        task = task.with_required_capabilities(args.capabilities.iter().cloned());
    }
    let labels = Labels::new(args.labels.iter().cloned()).map_err(|error| wrong("--label", &error))?;
    task = task.with_labels(labels);
    task.context = args.context.clone().unwrap_or_default();
    task.agent_id = args.agent.clone();
    task.preferred_agents = args.preferred_agents.iter().cloned().collect();
    task.session_id = args.session;
    task.run_at = args.run_at;
    task.expires_at = args.expires_at;
    task.callback_url.clone_from(&args.callback_url);
    if let Some(priority) = args.priority {
        task.priority = Priority::new(priority).map_err(|error| wrong("--priority", &error))?;
    }
    task.timeout_seconds = args.timeout.unwrap_or(task.timeout_seconds);
    task.inactivity_seconds = args.inactivity;
    task.max_attempts = args.max_attempts.unwrap_or(task.max_attempts);
    Ok(task)
}

pub(super) fn read(path: &Path) -> Result<String, Failure> {
    let (name, read) = if path == Path::new("-") {
        ("standard input".to_owned(), read_text(io::stdin().lock()))
    } else {
        (path.display().to_string(), File::open(path).and_then(read_text))
    };
    let text = read.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => Failure::usage(format!("the input in {name} is not UTF-8: text only")),
        _ => Failure::usage(format!("cannot read the input from {name}: {error}")),
    })?;
    if text.len() as u64 > MAX_INPUT_BYTES {
        return Err(Failure::usage(format!("the input in {name} has more than {MAX_INPUT_BYTES} bytes")));
    }
    Ok(text)
}

fn read_text(source: impl Read) -> io::Result<String> {
    io::read_to_string(source.take(MAX_INPUT_BYTES + 1))
}
