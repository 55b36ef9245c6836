//! `eap agent run`: registers, takes tasks and gives each to a fresh process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use eap_agent_sdk::{Agent, AgentBuilder, Push, Status};
use eap_types::AgentType;

use super::exec::Exec;
use super::reach;
use crate::exit::{Exit, Failure};
use crate::logging::{self, LogFormat};
use crate::output::tell;
use crate::{secrets, stop};

/// Turn any command into an agent.
///
/// Each task runs the command once: the task's input on its standard input, and what it prints is the output, as
/// `{"output": text, "exit_code": n}`. Another exit code than 0 is a failed task with the end of standard error as the
/// reason. The command finds EAP_TASK_ID, EAP_ATTEMPT, EAP_TASK_TYPE, EAP_ARTIFACTS_DIR and EAP_PROGRESS_FILE in its
/// environment (and TRACEPARENT, if the task was submitted in a trace): files it writes into that directory become
/// artifacts of the task.
///
/// A line that it appends to that file is its progress: how far it is, as in 0.4 or 40%, words, or both, as in
/// `echo "40% reading" >> "$EAP_PROGRESS_FILE"`. The last line is reported, at most five times a second. A task with an
/// inactivity limit (`eap task submit --inactivity`) needs one within each such time.
///
/// When the task is cancelled, its time is up or the agent has to stop, the whole process group of the command gets
/// SIGTERM, and SIGKILL 2 seconds later. What the command leaves running when it exits is killed.
///
/// SIGTERM, SIGINT or SIGHUP stops the agent in order: it takes nothing new and lets what runs finish within
/// --drain-grace. A second SIGTERM or SIGINT kills what runs and exits at once.
#[derive(Args, Debug)]
#[command(after_help = "Example: eap agent run --name AGENT-WC-01 --capability word_count -- wc -w")]
pub(crate) struct RunArgs {
    /// The agent's name, as in AGENT-WC-01.
    #[arg(long)]
    name: String,

    /// A kind of task that the command does; may be given several times.
    #[arg(long = "capability", value_name = "WORD", required = true)]
    capabilities: Vec<String>,

    /// How many tasks run at once.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    max_tasks: u32,

    /// A longest time for each task in seconds, beside the task's own.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=604_800))]
    timeout: Option<u64>,

    /// How long a stopping agent lets its tasks finish, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(..=604_800))]
    drain_grace: u64,

    /// Keep identity and unsent results here, so that a crash of the agent costs neither.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Tells this agent apart from others of its name [default: kept in --data-dir, else random].
    #[arg(long, value_name = "ID")]
    instance_id: Option<String>,

    /// A word to route by, as in region=eu; may be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = crate::task::pair)]
    labels: Vec<(String, String)>,

    /// The kind of agent, for people.
    #[arg(long, value_name = "WORD")]
    agent_type: Option<AgentType>,

    /// How tasks reach the agent.
    #[arg(long, value_name = "WAY", default_value = "pull")]
    transport: Transport,

    /// Where to listen for pushed tasks, as in 127.0.0.1:8181; port 0 takes a free one.
    #[arg(long, value_name = "IP:PORT", required_if_eq("transport", "push"), value_parser = address)]
    listen: Option<SocketAddr>,

    /// The URL under which the server reaches --listen [default: the address listened on].
    #[arg(long, value_name = "URL", requires = "listen")]
    endpoint_url: Option<String>,

    /// The server's address.
    #[arg(long, env = "EAP_URL", hide_env_values = true, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    url: String,

    /// File with the registration secret [default: the environment variable EAP_REGISTRATION_SECRET].
    #[arg(long, value_name = "FILE")]
    registration_secret_file: Option<PathBuf>,

    /// How log lines are written; EAP_LOG or RUST_LOG says which (default: info).
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,

    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<std::ffi::OsString>,
}

/// How tasks reach an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Transport {
    /// The agent asks for them.
    Pull,
    /// The server brings them to --listen.
    Push,
    /// They come over a WebSocket that the agent keeps open; while there is none, the agent asks for them.
    Websocket,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "an address and a port are expected, as in 127.0.0.1:8181".to_owned())
}

/// Runs the agent until a signal, or until the server refuses it for good.
pub(super) async fn run(args: RunArgs) -> Result<Exit, Failure> {
    logging::start(args.log_format, "info")?;
    if args.listen.is_some() && args.transport != Transport::Push {
        return Err(Failure::usage("--listen is where pushed tasks arrive: add --transport push, or leave it out"));
    }
    let exec = Exec::new(&args.command, args.timeout.map(Duration::from_secs))?;
    let groups = exec.groups();
    let stop = stop::on_signals(move || groups.kill())?;
    let failed = |error| Failure::of_agent(&error, &args.url);
    let agent = describe(&args, exec)?.build().map_err(failed)?;

    tokio::select! {
        looked = reach::look(&args.url) => looked?,
        () = stop.cancelled() => {}
    }
    let handle = agent.start();
    let mut status = handle.watch_status();
    tokio::select! {
        // The sender goes when the agent has ended, which `wait` tells more about.
        _ = status.wait_for(|status| matches!(status, Status::Online | Status::Stopped)) => {}
        () = stop.cancelled() => {}
    }
    if let Some(id) = handle.agent_id() {
        tell(&format!("eap: agent {} is online at {} as {id}\n", args.name, args.url));
    }
    tokio::select! {
        _ = status.wait_for(|status| *status == Status::Stopped) => {}
        () = stop.cancelled() => handle.drain(),
    }
    let report = handle.wait().await.map_err(failed)?;
    tell(&format!("eap: agent {} stopped: {report}\n", args.name));
    Ok(Exit::Done)
}

fn describe(args: &RunArgs, exec: Exec) -> Result<AgentBuilder, Failure> {
    let mut agent = Agent::builder(args.url.as_str(), args.name.as_str());
    agent = match (args.transport, args.listen) {
        (Transport::Push, Some(address)) => {
            let push = Push::listen(address);
            agent.push(match &args.endpoint_url {
                Some(url) => push.reached_at(url),
                None => push,
            })
        }
        (Transport::Websocket, _) => agent.websocket(),
        _ => agent,
    };
    agent = agent.max_concurrent_tasks(args.max_tasks).drain_grace(Duration::from_secs(args.drain_grace));
    // One handler takes every task that comes by any of the capabilities, whatever its type.
    let mut capabilities = args.capabilities.iter().map(String::as_str);
    agent = agent.handle_with(capabilities.next().unwrap_or_default(), exec);
    agent = capabilities.fold(agent, AgentBuilder::capability);
    agent = args.labels.iter().fold(agent, |agent, (key, value)| agent.label(key, value));
    if let Some(kind) = &args.agent_type {
        agent = agent.agent_type(kind.clone());
    }
    if let Some(dir) = &args.data_dir {
        agent = agent.data_dir(dir);
    }
    if let Some(id) = &args.instance_id {
        agent = agent.instance_id(id);
    }
    if let Some(secret) = secrets::read(secrets::REGISTRATION_SECRET, args.registration_secret_file.as_deref())? {
        agent = agent.registration_secret(secret.expose());
    }
    Ok(agent)
}
