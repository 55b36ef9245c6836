//! Servers under test: each is this program again in a process of its own, so that what it costs is told apart from what
//! its callers cost.
//!
//! The child says on standard output where it listens, then answers each line of standard input with what it has cost so
//! far, and ends with its standard input.

use std::ffi::OsStr;
use std::io::{self, BufRead as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use axum::serve::ListenerExt as _;
use clap::ValueEnum;
use eap_bench_bare::{Commits, Writer};
use eap_orchestrator::store::{PostgresOptions, PostgresStore, Repository, SqliteOptions, SqliteStore};
use eap_orchestrator::{AgentKit, Config, OperatorKey, Orchestrator, RegistrationSecret, SystemClock};
use eap_types::Secret;
use eap_types::agentkit::AgentKitSecret;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;

use crate::BoxError;
use crate::postgres::Schema;
use crate::usage::Usage;

/// For servers that live for seconds on loopback.
pub(crate) const OPERATOR_KEY: &str = "operator-key-of-the-benchmarks";
/// The same for agents.
pub(crate) const REGISTRATION_SECRET: &str = "registration-secret-of-the-benchmarks";
/// What the webhooks of an agent platform are signed with.
pub(crate) const PLATFORM_SECRET: &str = "platform-secret-of-the-benchmarks";

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Side {
    /// The orchestrator as `eap serve` runs it: keys and tokens checked, SQLite.
    Ours,
    /// The same on PostgreSQL.
    OursPostgres,
    /// The bare program, one commit for each step.
    Bare,
    /// The bare program, submit and lease in one commit where an agent waits.
    BareTogether,
}

impl Side {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::OursPostgres => "ours_postgres",
            Self::Bare => "bare",
            Self::BareTogether => "bare_together",
        }
    }

    /// Whether it is the orchestrator, which knows its agents.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Ours | Self::OursPostgres)
    }
}

/// A server's cost and work so far.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    #[serde(flatten)]
    pub(crate) usage: Usage,
    /// Transactions of a store, or tasks that an agent was given.
    pub(crate) work: u64,
}

/// A server in a process of its own; killed when dropped.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) side: Side,
    pub(crate) address: SocketAddr,
    /// When its process was made.
    pub(crate) began: Instant,
    pub(crate) database: PathBuf,
    /// Where its tables are, on PostgreSQL.
    pub(crate) schema: Option<Schema>,
    child: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Listening {
    address: SocketAddr,
}

impl Host {
    /// Starts a server over the database in `folder`, which is made if it is not there.
    pub(crate) async fn start(side: Side, folder: &Path) -> Result<Self, BoxError> {
        let database = folder.join(format!("{}.db", side.name()));
        let value = side.to_possible_value().ok_or("every side has a name")?;
        let arguments = ["serve".as_ref(), value.get_name().as_ref(), database.as_os_str()];
        Self::spawn(side, &arguments, database.clone()).await
    }

    /// Starts an orchestrator on PostgreSQL.
    pub(crate) async fn start_on_postgres(schema: &Schema) -> Result<Self, BoxError> {
        let arguments = ["serve", "ours-postgres", &schema.url, &schema.name].map(OsStr::new);
        let host = Self::spawn(Side::OursPostgres, &arguments, PathBuf::new()).await?;
        Ok(Self { schema: Some(schema.clone()), ..host })
    }

    /// Starts several on the same schema: the first, and the others.
    pub(crate) async fn start_replicas(schema: &Schema, count: usize) -> Result<(Self, Vec<Self>), BoxError> {
        let first = Self::start_on_postgres(schema).await?;
        let mut others = Vec::new();
        while others.len() + 1 < count {
            others.push(Self::start_on_postgres(schema).await?);
        }
        Ok((first, others))
    }

    /// Starts an agent made with the SDK in a process of its own, for the server at `server`.
    pub(crate) async fn agent(server: SocketAddr) -> Result<Self, BoxError> {
        let server = server.to_string();
        Self::spawn(Side::Ours, &["agent".as_ref(), server.as_ref()], PathBuf::new()).await
    }

    async fn spawn(side: Side, arguments: &[&OsStr], database: PathBuf) -> Result<Self, BoxError> {
        let began = Instant::now();
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let questions = child.stdin.take().ok_or("the child has no input")?;
        let mut answers = BufReader::new(child.stdout.take().ok_or("the child has no output")?).lines();
        let line = answers.next_line().await?.ok_or("the child did not start; its words are above")?;
        let Listening { address } = serde_json::from_str(&line)?;
        Ok(Self { side, address, began, database, schema: None, child, questions, answers })
    }

    /// What it has cost so far.
    pub(crate) async fn sample(&mut self) -> Result<Sample, BoxError> {
        self.questions.write_all(b"\n").await?;
        let line = self.answers.next_line().await?.ok_or("the server is gone")?;
        Ok(serde_json::from_str(&line)?)
    }

    /// Ends it in order and returns where its database is.
    pub(crate) async fn stop(mut self) -> Result<PathBuf, BoxError> {
        drop(self.questions);
        let status = self.child.wait().await?;
        if status.success() { Ok(self.database) } else { Err(format!("the server ended with {status}").into()) }
    }
}

/// The child's side: serves until standard input ends.
pub(crate) async fn serve(side: Side, database: &Path, schema: Option<String>) -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    // As `eap serve` does.
    let listener = listener.tap_io(|stream| {
        // A connection without it is slower, and its figures show it.
        let _ = stream.set_nodelay(true);
    });
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async move {
        // An error is the other end being gone: stop as well.
        let _ = stopped.await;
    };
    match side {
        Side::Ours | Side::OursPostgres => {
            let clock = Arc::new(SystemClock::new());
            let (store, clock): (Arc<dyn Repository>, Option<Arc<SystemClock>>) = match schema {
                Some(schema) => {
                    let url = database.to_str().ok_or("a URL is UTF-8")?;
                    let options = PostgresOptions::default().with_schema(schema);
                    (Arc::new(PostgresStore::connect(url, options).await?), None)
                }
                None => {
                    let store = SqliteStore::open(database, clock.clone(), SqliteOptions::default())?;
                    (Arc::new(store), Some(clock))
                }
            };
            let mut config = Config::default();
            config.operator_key = Some(OperatorKey::new(OPERATOR_KEY));
            config.registration_secret = Some(RegistrationSecret::new(REGISTRATION_SECRET));
            let mut platform = AgentKit::default();
            platform.secrets = vec![AgentKitSecret::new(PLATFORM_SECRET)?];
            config.agentkit = Some(platform);
            // The same for all replicas.
            config.sealing_key = Some(Secret::new("sealing-key-of-the-benchmarks"));
            let mut builder = Orchestrator::builder(store.clone()).config(config);
            if let Some(clock) = clock {
                builder = builder.clock(clock);
            }
            let orchestrator = builder.build()?;
            orchestrator.start().await?;
            answer_questions(address, stop, move || store.stats().transactions);
            orchestrator.serve(listener, stopped).await?;
        }
        Side::Bare | Side::BareTogether => {
            let commits = if side == Side::Bare { Commits::EachStep } else { Commits::SubmitAndLeaseTogether };
            let writer = Writer::open(database, commits)?;
            let router = eap_bench_bare::router(writer.clone());
            answer_questions(address, stop, move || writer.transactions());
            axum::serve(listener, router).with_graceful_shutdown(stopped).await?;
        }
    }
    Ok(())
}

/// Says where the server listens, then answers each line with a [`Sample`] until there is none.
pub(crate) fn answer_questions(
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    work: impl Fn() -> u64 + Send + 'static,
) {
    std::thread::spawn(move || {
        // Both ends are ours: what fails here ends the child, which the parent sees.
        let tell = |line: String| writeln!(io::stdout().lock(), "{line}");
        let mut told = tell(serde_json::to_string(&Listening { address }).unwrap_or_default());
        for line in io::stdin().lock().lines() {
            if line.is_err() || told.is_err() {
                break;
            }
            let usage = Usage::now().unwrap_or_default();
            let sample = Sample { usage, work: work() };
            told = tell(serde_json::to_string(&sample).unwrap_or_default());
        }
        let _ = stop.send(());
    });
}
