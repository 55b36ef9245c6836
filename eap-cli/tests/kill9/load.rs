//! Submitters and agents that know nothing of the kills.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use eap_agent_sdk::{Agent, AgentHandle, Status, Task, TaskContext};
use eap_client::{AgentQuery, OperatorClient, ReqwestCall};
use eap_types::{SubmitTask, TaskQuery, TaskStatus};
use serde::Serialize;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::witness::{Overheard, Submitted, Witness};

const SUBMITTERS: usize = 8;
const AGENTS: usize = 3;
/// More tasks than this never wait, so that a run ends soon after the last kill.
const MOST_OPEN: usize = 150;
/// How long everything may take to end once nothing is killed any more. Shorter than a lease (60 s): what was stranded
/// by a kill would not be done by then.
const LAST_END: Duration = Duration::from_secs(45);
/// How often something is looked at that nobody announces.
const LOOK: Duration = Duration::from_millis(5);

/// What an agent makes of a task: no two runs give the same.
#[derive(Serialize)]
struct Echo {
    input: String,
    run: u64,
}

/// Everybody at work.
pub(crate) struct Load {
    pub(crate) client: OperatorClient,
    submitters: TaskTracker,
    enough: CancellationToken,
    agents: Vec<AgentHandle>,
}

/// What became of the agents.
pub(crate) struct Agents {
    pub(crate) agents: usize,
    /// How many ended, or are not the ones that the server knows.
    pub(crate) restarted: usize,
    pub(crate) unsent: u64,
}

impl Load {
    /// Starts everybody, within a runtime.
    pub(crate) fn start(url: &str, witness: &Arc<Witness>) -> Self {
        let (submitters, enough) = (TaskTracker::new(), CancellationToken::new());
        for number in 0..SUBMITTERS {
            submitters.spawn(submit(number, client(url), Arc::clone(witness), enough.clone()));
        }
        let runs = Arc::new(AtomicU64::new(0));
        let agents = (0..AGENTS).map(|number| agent(url, number, witness, &runs)).collect();
        Self { client: client(url), submitters, enough, agents }
    }

    /// Lets every submitter get the answer it waits for, and no more.
    pub(crate) async fn stop_submitting(&self) {
        self.enough.cancel();
        self.submitters.close();
        self.submitters.wait().await;
    }

    /// Waits until no task is queued or leased.
    pub(crate) async fn wait_for_every_end(&self) {
        let deadline = Instant::now() + LAST_END;
        for status in [TaskStatus::Queued, TaskStatus::Leased, TaskStatus::Queued] {
            loop {
                let query = TaskQuery::new().with_status(status).with_limit(1);
                let open = self.client.tasks(&query).await.expect("the server answers").tasks;
                let Some(task) = open.first() else { break };
                assert!(Instant::now() < deadline, "a task does not end: {task:#?}");
                sleep(LOOK).await;
            }
        }
    }

    /// Stops the agents and says whether they are the ones that were started.
    pub(crate) async fn stop(self) -> Agents {
        let page = self.client.agents(AgentQuery::new()).await.expect("the server answers");
        let known: Vec<_> = page.agents.iter().map(|agent| agent.agent_id.clone()).collect();
        let is_known = |agent: &AgentHandle| agent.agent_id().is_some_and(|id| known.contains(&id));
        let still_there = self.agents.iter().filter(|agent| agent.status() != Status::Stopped && is_known(agent));
        let restarted = known.len().max(AGENTS) - still_there.count();
        let mut unsent = 0;
        for agent in &self.agents {
            agent.drain();
        }
        for agent in self.agents {
            unsent += agent.wait().await.expect("it ends in order").unsent;
        }
        Agents { agents: known.len(), restarted, unsent }
    }
}

fn client(url: &str) -> OperatorClient {
    let http = ReqwestCall::new().expect("a client");
    OperatorClient::new(url, Arc::new(http)).expect("an address")
}

/// Submits task after task, each again and again under its key until it is answered.
async fn submit(number: usize, client: OperatorClient, witness: Arc<Witness>, enough: CancellationToken) {
    for count in 0.. {
        while witness.submits_answered() > witness.results_answered() + MOST_OPEN && !enough.is_cancelled() {
            sleep(LOOK).await;
        }
        if enough.is_cancelled() {
            return;
        }
        let key = format!("submitter-{number}-{count}");
        let input = format!("{key}: {}", "naïve \"text\" ".repeat(count % 50));
        let task = SubmitTask::text("echo".parse().expect("a word"), &input);
        let idempotency_key = key.parse().expect("a key");
        let id = loop {
            match client.submit(&task, Some(&idempotency_key)).await {
                Ok(view) => break view.task_id,
                Err(error) => assert!(!error.is_definitive(), "a submit was refused: {error}"),
            }
            witness.submits_repeated.fetch_add(1, Relaxed);
            sleep(LOOK).await;
        };
        witness.submitted(id, Submitted { key, input });
    }
}

fn agent(url: &str, number: usize, witness: &Arc<Witness>, runs: &Arc<AtomicU64>) -> AgentHandle {
    let runs = Arc::clone(runs);
    let echo = move |task: Task<String>, _: TaskContext| {
        let run = runs.fetch_add(1, Relaxed);
        async move {
            // Work of different lengths, so that a kill finds tasks in every state.
            sleep(Duration::from_millis(run * 7 % 30)).await;
            Ok(Echo { input: task.input, run })
        }
    };
    let agent = Agent::builder(url, format!("AGENT-ECHO-{number:02}"))
        .handle("echo", echo)
        .max_concurrent_tasks(4)
        .http(Overheard::by(witness))
        .build();
    agent.expect("an agent").start()
}
