//! The orchestrator and the agents of the demonstration, set up and taken down.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use eap_agent_sdk::{Agent, AgentHandle, Status, Task, TaskContext};
use eap_orchestrator::store::{SqliteOptions, SqliteStore};
use eap_orchestrator::{Access, Config, Orchestrator, ShutdownReport, StartError, SystemClock};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::steps;
use super::text::{LineStatistics, Paragraph, Text};
use crate::agent::Exec;
use crate::exit::{Exit, Failure, chain};

/// What the exec agent does, and what the agent on the SDK does.
pub(super) const WORD_COUNT: &str = "word_count";
pub(super) const LINE_STATISTICS: &str = "line_statistics";

/// How long the last events may take to be shown.
const LAST_STEPS: Duration = Duration::from_secs(5);

/// Everything that runs.
#[derive(Debug)]
pub(super) struct Stage {
    /// Where the server is.
    pub(super) url: String,
    agents: Vec<(String, AgentHandle)>,
    stop: CancellationToken,
    server: JoinHandle<Result<ShutdownReport, StartError>>,
    /// Ends after the server, so that the last events are shown.
    no_more_steps: CancellationToken,
    steps: JoinHandle<()>,
    ended: watch::Receiver<usize>,
    tasks: usize,
    directory: TempDir,
}

impl Stage {
    /// Starts the orchestrator on a free port of this machine, and two agents.
    pub(super) async fn set_up(text: &Text, json: bool) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new().prefix("eap-demo-").tempdir().map_err(failed)?;
        let file = directory.path().join("eap.db");
        let clock = Arc::new(SystemClock::new());
        let store =
            SqliteStore::open(&file, clock.clone(), SqliteOptions::default()).map_err(|error| broken(&error))?;
        let mut config = Config::default();
        config.access = Access::Loopback;
        // The text as a JSON string: each of its characters may become six.
        config.capacity.submit_bytes = config.capacity.submit_bytes.max(6 * text.whole.len() + 64 * 1024);
        let orchestrator = Orchestrator::builder(Arc::new(store))
            .config(config)
            .clock(clock)
            .build()
            .map_err(|error| broken(&error))?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let url = format!("http://{}", listener.local_addr().map_err(failed)?);
        orchestrator.start().await.map_err(|error| broken(&error))?;
        steps::say(json, &format!("  server at {url}, tasks kept in {}\n\n", file.display()))?;

        let (counter, ended) = watch::channel(0);
        let no_more_steps = CancellationToken::new();
        let steps = tokio::spawn(steps::show(orchestrator.clone(), json, no_more_steps.clone(), counter));
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let server = tokio::spawn(async move { orchestrator.serve(listener, stopped).await });
        let mut stage = Self {
            url,
            agents: Vec::new(),
            stop,
            server,
            no_more_steps,
            steps,
            ended,
            tasks: 1 + text.paragraphs.len(),
            directory,
        };
        if let Err(failure) = stage.start_agents() {
            stage.take_down().await?;
            return Err(failure);
        }
        Ok(stage)
    }

    fn start_agents(&mut self) -> Result<(), Failure> {
        let exec = Exec::new(&["wc".into(), "-w".into()], None)?;
        let counter = Agent::builder(&self.url, "AGENT-WC-01").handle_with(WORD_COUNT, exec);
        let reader = Agent::builder(&self.url, "AGENT-LINES-01")
            .max_concurrent_tasks(4)
            .handle(LINE_STATISTICS, |task: Task<Paragraph>, _: TaskContext| async move {
                Ok(LineStatistics::of(&task.input))
            });
        for (name, agent) in [("AGENT-WC-01", counter), ("AGENT-LINES-01", reader)] {
            let agent = agent.build().map_err(|error| Failure::of_agent(&error, &self.url))?;
            self.agents.push((name.to_owned(), agent.start()));
        }
        Ok(())
    }

    /// Waits until both agents are registered.
    pub(super) async fn agents_are_online(&self) -> Result<(), Failure> {
        for (name, agent) in &self.agents {
            let mut status = agent.watch_status();
            let seen = status.wait_for(|status| matches!(status, Status::Online | Status::Stopped)).await;
            if !matches!(seen.as_deref(), Ok(Status::Online)) {
                return Err(Failure::new(Exit::Failed, format!("the agent {name} did not come online")));
            }
        }
        Ok(())
    }

    /// Waits until the end of every task was shown.
    pub(super) async fn steps_are_shown(&self) {
        let mut ended = self.ended.clone();
        // The results are there in any case; what is not shown by then is not waited for.
        let _ = timeout(LAST_STEPS, ended.wait_for(|count| *count >= self.tasks)).await;
    }

    /// Stops agents, then server, then storage, and removes the files.
    pub(super) async fn take_down(self) -> Result<(), Failure> {
        for (_, agent) in &self.agents {
            agent.drain();
        }
        let mut outcomes = Vec::new();
        for (name, agent) in self.agents {
            let ended = agent.wait().await.map_err(|error| format!("{name}: {}", chain(&error)));
            outcomes.push(ended.map(drop));
        }
        self.no_more_steps.cancel();
        outcomes.push(self.steps.await.map_err(|error| error.to_string()));
        self.stop.cancel();
        let served = self.server.await.map_err(|error| error.to_string());
        outcomes.push(served.and_then(|served| served.map(drop).map_err(|error| chain(&error))));
        outcomes.push(self.directory.close().map_err(|error| error.to_string()));
        let problems: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
        match problems.as_slice() {
            [] => Ok(()),
            problems => Err(Failure::new(Exit::Failed, format!("could not end in order: {}", problems.join("; ")))),
        }
    }
}

fn failed(error: impl Display) -> Failure {
    Failure::new(Exit::Failed, format!("cannot set the stage: {error}"))
}

fn broken(error: &dyn std::error::Error) -> Failure {
    failed(chain(error))
}
