//! A server at one address, over SQLite unless the test wants memory, which can go, come back, and come back with nothing.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use eap_agent_sdk::{Agent, AgentBuilder};
use eap_orchestrator::store::MemoryStore;
use eap_orchestrator::{Config, Operator as Host, Orchestrator, ShutdownReport, StartError, SystemClock, Timing};
use eap_tests::ports::free_address;
use eap_types::{AgentDetail, AgentId, AgentView, Secret, SubmitTask, TaskHistory, TaskId, TaskView};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::until;
use crate::harness::{Api, Operator, REGISTRATION_SECRET, Setup, eventually, in_time};

/// Often enough for tests, and seldom enough for a disk that is written to with each sweep.
const SWEEP: Duration = Duration::from_millis(50);

/// What a server keeps its tasks in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Sqlite,
    Memory,
}

/// A server, up or down.
pub(crate) struct Site {
    address: SocketAddr,
    change: Box<dyn Fn(&mut Config) + Send + Sync>,
    dir: TempDir,
    /// What it keeps in memory outlives it here, as a file outlives it on disk.
    memory: Option<MemoryStore>,
    /// Numbers the databases that there were.
    database: u32,
    up: Option<Up>,
}

struct Up {
    orchestrator: Orchestrator,
    operator: Operator,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<ShutdownReport, StartError>>,
}

impl Site {
    /// A server of the default timing, but for a sweep that is looked at more often.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// One that loses patience within seconds: heartbeats every second, leases of two.
    pub(crate) async fn start_hasty() -> Self {
        Self::start_with(|config| {
            config.timing.heartbeat_interval = Duration::from_secs(1);
            config.timing.lease = Duration::from_secs(2);
        })
        .await
    }

    pub(crate) async fn start_with(change: impl Fn(&mut Config) + Send + Sync + 'static) -> Self {
        Self::start_on(Keep::Sqlite, change).await
    }

    pub(crate) async fn start_on(keep: Keep, change: impl Fn(&mut Config) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(free_address()).await.expect("it was free a moment ago");
        let address = listener.local_addr().expect("a bound listener has an address");
        let dir = TempDir::new().expect("there is room for a temporary directory");
        let memory = (keep == Keep::Memory).then(|| MemoryStore::new(Arc::new(SystemClock::new())));
        let mut site = Self { address, change: Box::new(change), dir, memory, database: 1, up: None };
        site.serve(listener).await;
        site
    }

    /// Stops the server as SIGTERM does; its address answers to nobody until it comes back.
    pub(crate) async fn stop(&mut self) {
        let up = self.up.take().expect("only a server that is up can stop");
        let _ = up.stop.send(());
        let served = in_time("the server stops", up.serving).await;
        served.expect("serving does not panic").expect("the server stops well");
    }

    /// Starts it again with what it knew.
    pub(crate) async fn come_back(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("nobody else took the address");
        self.serve(listener).await;
    }

    /// Starts it again with an empty store.
    pub(crate) async fn come_back_empty(&mut self) {
        self.database += 1;
        self.memory = self.memory.take().map(|_| MemoryStore::new(Arc::new(SystemClock::new())));
        self.come_back().await;
    }

    async fn serve(&mut self, listener: TcpListener) {
        let setup = match &self.memory {
            Some(memory) => Setup::store(Arc::new(memory.clone())),
            None => Setup::sqlite_at(&self.dir.path().join(format!("eap-{}.db", self.database))),
        };
        let setup = setup.config(|config| {
            config.timing.sweep_interval = SWEEP;
            config.sealing_key = Some(Secret::new("a sealing key for the tests alone"));
            (self.change)(config);
        });
        let (orchestrator, _, _) = setup.build();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = orchestrator.clone();
        let serving = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            served.serve(listener, stopped).await
        });
        let api = Api::at(self.url());
        eventually("the server is ready", async || (api.get("/health/ready").send().await.status == 200).then_some(()))
            .await;
        self.up = Some(Up { orchestrator, operator: Operator::new(api), stop, serving });
    }

    /// The timing that the server runs under.
    pub(crate) fn timing(&self) -> Timing {
        self.up().orchestrator.config().timing.clone()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A directory of this name that goes with the site.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Begins an agent that may register here.
    pub(crate) fn agent(&self, name: &str) -> AgentBuilder {
        Agent::builder(self.url(), name).registration_secret(REGISTRATION_SECRET)
    }

    fn up(&self) -> &Up {
        self.up.as_ref().expect("the server is up")
    }

    /// The operator, over HTTP.
    pub(crate) fn operator(&self) -> &Operator {
        &self.up().operator
    }

    /// Submits a text and gives the task's id.
    pub(crate) async fn submit(&self, task_type: &str, input: &str) -> TaskId {
        let task = SubmitTask::text(task_type.parse().expect("a task type of the test's own"), input);
        self.submit_task(task).await
    }

    pub(crate) async fn submit_task(&self, task: SubmitTask) -> TaskId {
        let submitted = self.up().orchestrator.submit(&Host::host(), task, None).await;
        submitted.expect("the server takes the task").task_id
    }

    pub(crate) async fn task(&self, id: TaskId) -> TaskView {
        self.up().orchestrator.get(&Host::host(), id).await.expect("the task is known")
    }

    /// The task as HTTP shows it.
    pub(crate) async fn task_json(&self, id: TaskId) -> Value {
        self.operator().task(&id.to_string()).await
    }

    pub(crate) async fn history(&self, id: TaskId) -> TaskHistory {
        self.up().orchestrator.history(&Host::host(), id).await.expect("the task is known")
    }

    /// The outcomes of a task's attempts, in order, as the protocol spells them.
    pub(crate) async fn outcomes(&self, id: TaskId) -> Vec<String> {
        self.operator().outcomes(&id.to_string()).await
    }

    /// Waits until the task is final.
    pub(crate) async fn until_final(&self, id: TaskId, limit: Duration) -> TaskView {
        let what = format!("task {id} is final");
        until(limit, &what, async || Some(self.task(id).await).filter(|task| task.status.is_final())).await
    }

    /// Every agent in the list, whatever its state.
    pub(crate) fn agents(&self) -> Vec<AgentView> {
        let page = self.up().orchestrator.agents(&Host::host(), None, Some(100)).expect("100 is a limit");
        assert_eq!(page.next_cursor, None, "all agents fit on a page");
        page.agents
    }

    /// The only agent that there is, or was.
    #[track_caller]
    pub(crate) fn only_agent(&self) -> AgentDetail {
        let agents = self.agents();
        assert_eq!(agents.len(), 1, "{agents:?}");
        self.agent_detail(&agents[0].agent_id)
    }

    pub(crate) fn agent_detail(&self, id: &AgentId) -> AgentDetail {
        self.up().orchestrator.agent(&Host::host(), id).expect("the agent is known")
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site")
            .field("address", &self.address)
            .field("is_up", &self.up.is_some())
            .finish_non_exhaustive()
    }
}
