//! An agent in a runtime of its own, as in a process of its own: two threads that it can block, and it can be killed.

use std::time::Duration;

use eap_agent_sdk::{Agent, AgentBuilder, AgentHandle, Error, Report};
use tokio::runtime::{Builder, Runtime};

use super::until;

/// How many threads the handlers of one process have.
const WORKERS: usize = 2;
const LONG: Duration = Duration::from_secs(30);

/// Builds an agent whose data directory the last thread of a killed one may still hold locked.
pub(crate) async fn build_once_free(describe: impl Fn() -> AgentBuilder) -> Agent {
    until(LONG, "the data directory is free", async || match describe().build() {
        Ok(agent) => Some(agent),
        Err(Error::DataDirLocked { .. }) => None,
        Err(error) => panic!("{error:?}"),
    })
    .await
}

/// A running agent that shares nothing with the test but memory.
#[derive(Debug)]
pub(crate) struct Process {
    inside: Option<(Runtime, AgentHandle)>,
}

impl Process {
    pub(crate) fn start(agent: Agent) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
        let runtime = runtime.expect("there are threads to be had");
        let entered = runtime.enter();
        let handle = agent.start();
        drop(entered);
        Self { inside: Some((runtime, handle)) }
    }

    /// Ends it as SIGTERM does.
    pub(crate) async fn stop(mut self) -> Report {
        let (runtime, handle) = self.inside.take().expect("it runs until it is stopped or killed");
        handle.drain();
        let report = tokio::time::timeout(LONG, handle.wait()).await;
        runtime.shutdown_background();
        report.expect("the agent stops in time").expect("the agent stops well")
    }

    /// Ends it as SIGKILL does: nothing is finished, told or handed back. Returns when the last of it is gone.
    pub(crate) async fn kill(mut self) {
        let (runtime, handle) = self.inside.take().expect("it runs until it is stopped or killed");
        let mut status = handle.watch_status();
        let shutdown = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(LONG));
        shutdown.await.expect("a shutdown does not panic");
        // Only now: a handle that goes first asks the agent to stop in good order.
        drop(handle);
        until(LONG, "the heartbeat thread is gone", async || status.changed().await.is_err().then_some(())).await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some((runtime, _handle)) = self.inside.take() {
            runtime.shutdown_background();
        }
    }
}
