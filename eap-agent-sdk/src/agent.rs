//! An agent, ready to run and running.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use eap_types::AgentId;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::builder::AgentBuilder;
use crate::driver::{Driver, DriverParts};
use crate::error::Error;
use crate::heart::{self, HeartParts};
use crate::report::Report;
use crate::shared::Shared;

/// How long connections may take to end once the agent has.
#[cfg(feature = "push")]
const LAST_ANSWERS: std::time::Duration = std::time::Duration::from_secs(1);

/// An agent that is put together and does not run yet.
///
/// ```no_run
/// # async fn example() -> Result<(), eap_agent_sdk::Error> {
/// use eap_agent_sdk::{Agent, Task, TaskContext};
///
/// let agent = Agent::builder("http://127.0.0.1:8080", "AGENT-SHOUT-01")
///     .handle("shout", |task: Task<String>, _: TaskContext| async move { Ok(task.input.to_uppercase()) })
///     .build()?;
/// let report = agent.run_until(tokio::signal::ctrl_c()).await?;
/// println!("stopped: {report}");
/// # Ok(())
/// # }
/// ```
pub struct Agent {
    pub(crate) driver: DriverParts,
    pub(crate) heart: HeartParts,
    /// Where tasks are pushed to, if the agent listens itself.
    #[cfg(feature = "push")]
    pub(crate) listener: Option<std::net::TcpListener>,
}

/// How an agent is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// Not registered yet, or registering again.
    Connecting,
    /// Registered, and no heartbeat since then went unanswered, or the last one was answered.
    Online,
    /// Registered, and the last heartbeat got no answer; handlers go on.
    Uncertain,
    /// Stopping: takes nothing new.
    Draining,
    /// Ended.
    Stopped,
}

impl Agent {
    /// Starts to describe an agent that works for the orchestrator at `url` under this name.
    ///
    /// The URL may have a path that the protocol's own paths stand behind.
    pub fn builder(url: impl Into<String>, name: impl Into<String>) -> AgentBuilder {
        AgentBuilder::new(url.into(), name.into())
    }

    /// Runs until `stop` ends, then finishes or hands back what is running, within `drain_grace`.
    ///
    /// What `stop` gives is ignored, so that `tokio::signal::ctrl_c()` fits. When the returned future
    /// is dropped halfway, the agent stops in the background.
    ///
    /// # Errors
    ///
    /// The orchestrator refuses the agent for good, its identity is in use elsewhere, or the
    /// heartbeat thread cannot run. A server that does not answer is no error: the agent goes on
    /// trying.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with time enabled.
    pub async fn run_until(self, stop: impl Future) -> Result<Report, Error> {
        let mut handle = self.start();
        tokio::select! {
            biased;
            outcome = handle.join() => return outcome,
            _ = stop => {}
        }
        handle.drain();
        handle.join().await
    }

    /// What the orchestrator calls: `POST /task`, `GET /health` and `DELETE /task/{task_id}`, to be mounted where the URL of
    /// [`Push::mounted`](crate::Push::mounted) leads. It answers once the agent runs.
    #[cfg(feature = "push")]
    pub fn router(&self) -> axum::Router {
        crate::push::router(self.driver.shared.clone())
    }

    /// Starts the agent in the background.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(self) -> AgentHandle {
        #[cfg(feature = "push")]
        let Self { driver, heart, listener } = self;
        #[cfg(not(feature = "push"))]
        let Self { driver, heart } = self;
        let (shared, stop) = (driver.shared.clone(), driver.stop.clone());
        let task = match heart::spawn(heart) {
            Ok(end) => {
                let at_end = ShowsEnd(shared.clone());
                tokio::spawn(async move {
                    let _at_end = at_end;
                    #[cfg(feature = "push")]
                    let endpoint = Endpoint::open(listener, &driver.shared);
                    let outcome = Driver::new(driver, end).run().await;
                    #[cfg(feature = "push")]
                    endpoint.close().await;
                    outcome
                })
            }
            Err(error) => {
                drop(ShowsEnd(shared.clone()));
                tokio::spawn(async { Err(Error::Heartbeat { source: error.into() }) })
            }
        };
        AgentHandle { task, shared, stop }
    }
}

/// The agent's own listener, while the agent runs.
#[cfg(feature = "push")]
struct Endpoint {
    serving: Option<JoinHandle<()>>,
    stop: CancellationToken,
}

#[cfg(feature = "push")]
impl Endpoint {
    fn open(listener: Option<std::net::TcpListener>, shared: &Arc<Shared>) -> Self {
        let stop = CancellationToken::new();
        let (shared, stopped) = (shared.clone(), stop.clone());
        let serving =
            listener.map(|listener| tokio::spawn(crate::push::serve(listener, shared, stopped.cancelled_owned())));
        Self { serving, stop }
    }

    /// Lets answers that are being written out, for a moment.
    async fn close(mut self) {
        self.stop.cancel();
        if let Some(mut serving) = self.serving.take()
            && tokio::time::timeout(LAST_ANSWERS, &mut serving).await.is_err()
        {
            serving.abort();
        }
    }
}

#[cfg(feature = "push")]
impl Drop for Endpoint {
    fn drop(&mut self) {
        // Also when the agent's own task is dropped halfway.
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

/// Shows that the agent ended when it is dropped: also after a panic, or with its runtime.
struct ShowsEnd(Arc<Shared>);

impl Drop for ShowsEnd {
    fn drop(&mut self) {
        self.0.status.send_replace(Status::Stopped);
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").field("heart", &self.heart).finish_non_exhaustive()
    }
}

/// An agent that runs. Dropping it stops the agent in the background.
pub struct AgentHandle {
    task: JoinHandle<Result<Report, Error>>,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

impl AgentHandle {
    /// Tells the agent to take nothing new, finish or hand back what is running, and end.
    pub fn drain(&self) {
        self.stop.cancel();
    }

    /// The id that the orchestrator gave the agent; `None` until it is registered.
    pub fn agent_id(&self) -> Option<AgentId> {
        self.shared.access.borrow().as_ref().map(|access| access.agent_id.clone())
    }

    /// How the agent is doing now.
    pub fn status(&self) -> Status {
        *self.shared.status.borrow()
    }

    /// How the agent is doing, to be watched.
    pub fn watch_status(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    /// Waits for the agent to end and says what it did.
    ///
    /// # Errors
    ///
    /// As for [`Agent::run_until`].
    pub async fn wait(mut self) -> Result<Report, Error> {
        self.join().await
    }

    async fn join(&mut self) -> Result<Report, Error> {
        match (&mut self.task).await {
            Ok(outcome) => outcome,
            Err(error) => Err(Error::CutOff { source: error.into() }),
        }
    }
}

impl fmt::Debug for AgentHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentHandle")
            .field("agent_id", &self.agent_id())
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

impl Drop for AgentHandle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
