//! `eap serve`: an orchestrator behind a listener, from its settings to its last word.

mod agentkit;
mod database;
mod door;
mod key_file;
#[cfg(feature = "postgres")]
mod postgres;
mod settings;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use eap_orchestrator::{Orchestrator, StartError, Tls};
use eap_types::NamePolicy;
use tokio::net::TcpListener;
use tracing::{info, warn};

use self::agentkit::AgentKitArgs;
use self::database::{Database, Opened};
use self::door::Door;
use crate::exit::{Exit, Failure, chain};
use crate::logging::{self, LogFormat};
use crate::secrets::SEALING_KEY;
use crate::stop;

/// Run an orchestrator.
///
/// On loopback it needs no keys: programs on this machine may submit tasks and register agents. On any other address it
/// starts only with an operator key, a registration secret and a decision on TLS, and names what is missing.
///
/// SIGTERM, SIGINT or SIGHUP stops it in order; a second SIGTERM or SIGINT at once. Exit codes: 0 stopped as asked, 1 the storage failed,
/// 2 the settings do not allow a start.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("tls").args(["tls_cert", "behind_tls_proxy", "allow_plaintext"]))]
pub(crate) struct ServeArgs {
    /// Where to listen; port 0 takes a free one.
    #[arg(
        long,
        env = "EAP_LISTEN",
        hide_env_values = true,
        default_value = "127.0.0.1:8080",
        value_name = "HOST:PORT"
    )]
    listen: String,

    /// Where to keep everything: sqlite:FILE, postgres://USER@HOST/DATABASE, or memory: to forget it at the end. A password
    /// for PostgreSQL belongs into EAP_DATABASE_URL or PGPASSWORD, not here, where every user of this machine can read it.
    #[arg(long, env = "EAP_DATABASE_URL", hide_env_values = true, default_value = "sqlite:eap.db", value_name = "URL")]
    database: String,

    #[cfg(feature = "postgres")]
    #[command(flatten)]
    postgres: postgres::PostgresArgs,

    /// File with the key that operators call with, at least 24 bytes [default: the environment variable
    /// EAP_OPERATOR_KEY].
    #[arg(long, value_name = "FILE")]
    operator_key_file: Option<PathBuf>,

    /// File with the secret that agents register with, at least 24 bytes [default: the environment variable
    /// EAP_REGISTRATION_SECRET].
    #[arg(long, value_name = "FILE")]
    registration_secret_file: Option<PathBuf>,

    /// File with the secrets that callbacks are signed with, one in a line, as in whsec_… with the base64 of 24 to 64
    /// bytes; each signs [default: the environment variable EAP_CALLBACK_SECRET; without one, tasks with a callback URL
    /// are refused].
    #[arg(long, value_name = "FILE")]
    callback_secret_file: Option<PathBuf>,

    /// File with the key that secrets of agents that are pushed to are encrypted with, at least 24 bytes [default: the
    /// environment variable EAP_SEALING_KEY; without one, a file beside the database, made if need be. PostgreSQL needs one,
    /// the same for every server on it].
    #[arg(long, value_name = "FILE")]
    sealing_key_file: Option<PathBuf>,

    #[command(flatten)]
    agentkit: AgentKitArgs,

    /// Folder with workflows that are kept from the start on, each a .json file as `eap schema WorkflowDefinition` has it.
    #[arg(long, value_name = "FOLDER")]
    workflows: Option<PathBuf>,

    /// PEM file with the certificate chain: serve HTTPS.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// PEM file with the certificate's private key.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// A proxy in front of this server ends TLS.
    #[arg(long)]
    behind_tls_proxy: bool,

    /// Serve plain HTTP to a network, knowing that tokens and tasks can be read on the way.
    #[arg(long)]
    allow_plaintext: bool,

    /// Where clients reach the server, if not under the address that they call.
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,

    /// Which agent names are taken [default: open, or what --config says].
    #[arg(long, value_name = "POLICY")]
    name_policy: Option<Names>,

    /// JSON file with settings that have no option here: capacity, callbacks, endpoints, tasks, timing, retention. Options win over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// How log lines are written; EAP_LOG or RUST_LOG says which (default: info).
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

/// Which agent names are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Names {
    /// The protocol's own grammar.
    Open,
    /// What OpenCode demands: AGENT- in front, capital letters.
    Opencode,
}

impl From<Names> for NamePolicy {
    fn from(names: Names) -> Self {
        match names {
            Names::Open => Self::Open,
            Names::Opencode => Self::OpenCode,
        }
    }
}

/// Serves until a signal or a failure of the storage.
pub(crate) async fn run(args: ServeArgs) -> Result<Exit, Failure> {
    logging::start(args.log_format, "info")?;
    // Before anything takes time: a signal during the start stops in order, too.
    let stop = stop::on_signals(|| {})?;
    let address = resolve(&args.listen).await?;
    // Parsed here and not with the options: their error would print it, and it may hold a password.
    let database: Database =
        args.database.parse().map_err(|why| Failure::usage(format!("--database (or EAP_DATABASE_URL) {why}")))?;
    #[cfg(feature = "postgres")]
    let database = database.with(args.postgres.clone())?;
    let mut config = settings::config_for(&args, address)?;
    let scheme = if matches!(config.tls, Tls::Files { .. }) { "https" } else { "http" };
    let is_plaintext = config.tls == Tls::Plaintext;
    let cannot_listen =
        |error: std::io::Error| Failure::usage(format!("cannot listen on {address}: {error}; choose another --listen"));
    let listener = TcpListener::bind(address).await.map_err(cannot_listen)?;
    let bound = listener.local_addr().map_err(cannot_listen)?;

    if config.sealing_key.is_none() && database.is_shared() {
        return Err(Failure::usage(format!(
            "servers on PostgreSQL share a key that secrets are encrypted with: set {SEALING_KEY} or --sealing-key-file to \
             the same one for each; `openssl rand -hex 32` makes one"
        )));
    }
    let Opened { store, clock, artifacts } = database.open().await?;
    if config.sealing_key.is_none() {
        // Only now that the database is this process's own.
        config.sealing_key = database.sealing_key()?;
    }
    let mut builder = Orchestrator::builder(store).config(config).artifacts(artifacts);
    if let Some(clock) = clock {
        builder = builder.clock(clock);
    }
    let orchestrator = builder.build().map_err(|problems| Failure::usage(problems.to_string()))?;
    if is_plaintext && !bound.ip().is_loopback() {
        warn!("plain HTTP on a network: whoever is on the way reads tokens and tasks");
    }
    let door = Door::new(listener, format!("eap: serving on {scheme}://{bound} (database {database})\n"));
    let following = tokio::spawn(args.agentkit.follow(orchestrator.clone(), stop.clone()));
    let served = orchestrator.serve(door, stop.clone().cancelled_owned()).await;
    // It may have failed by itself.
    stop.cancel();
    let _ = following.await;
    let report = served.map_err(|error| failed(&error))?;
    info!(%report, "stopped");
    Ok(Exit::Done)
}

/// The address behind `listen`, which may be a name.
async fn resolve(listen: &str) -> Result<SocketAddr, Failure> {
    let wrong =
        |why: String| Failure::usage(format!("--listen {listen}: {why}; HOST:PORT is expected, as in 127.0.0.1:8080"));
    // A resolver may take an empty host for any it likes.
    match listen.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {}
        Some(("", _)) => return Err(wrong("names no host".to_owned())),
        None if listen.parse::<u16>().is_ok() => return Err(wrong("names no host".to_owned())),
        Some((_, port)) if !port.is_empty() => return Err(wrong(format!("{port} is no port"))),
        _ => return Err(wrong("names no port".to_owned())),
    }
    let mut addresses = tokio::net::lookup_host(listen).await.map_err(|error| wrong(error.to_string()))?;
    addresses.next().ok_or_else(|| wrong("has no address".to_owned()))
}

fn failed(error: &StartError) -> Failure {
    match error {
        StartError::Exposed { .. } | StartError::Tls(_) | StartError::Workflows { .. } => Failure::usage(chain(error)),
        _ => Failure::new(Exit::Failed, format!("{}; nothing acknowledged is lost: start again", chain(error))),
    }
}
