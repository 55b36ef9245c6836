//! A server of the test's own: its port, its store, its keys, and the clock if time matters.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use eap_orchestrator::artifacts::{ArtifactStore, FolderArtifacts, MemoryArtifacts};
use eap_orchestrator::store::{MemoryStore, Repository, SqliteOptions, SqliteStore};
use eap_orchestrator::{
    Clock, Config, ManualClock, OperatorKey, Orchestrator, RegistrationSecret, ShutdownReport, StartError, SystemClock,
};
use eap_types::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Agent, Answer, Api, Operator, registration};

pub(crate) const OPERATOR_KEY: &str = "canary-operator-key-0123456789";
pub(crate) const REGISTRATION_SECRET: &str = "canary-registration-secret-0123";

/// When a manual clock starts, in seconds.
pub(crate) const START: i64 = 1_800_000_000;

/// A manual clock jumps; a jump must not look like an outage.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What a server is to be like.
#[derive(Debug)]
pub(crate) struct Setup {
    config: Config,
    clock: Option<Arc<ManualClock>>,
    /// Whether the time is that of the store.
    has_own_time: bool,
    /// Where uploads go, if not where they go with the store.
    artifacts: Option<Arc<dyn ArtifactStore>>,
    store: Keep,
}

#[derive(Debug)]
enum Keep {
    InFile(PathBuf, Option<TempDir>),
    InMemory,
    In(Arc<dyn Repository>),
}

impl Setup {
    fn keeping(store: Keep) -> Self {
        let mut config = Config::default();
        config.operator_key = Some(OperatorKey::new(OPERATOR_KEY));
        config.registration_secret = Some(RegistrationSecret::new(REGISTRATION_SECRET));
        config.timing.sweep_interval = Duration::from_millis(10);
        Self { config, clock: None, has_own_time: false, artifacts: None, store }
    }

    /// SQLite in a directory that goes with the server.
    pub(crate) fn sqlite() -> Self {
        let dir = TempDir::new().expect("there is room for a temporary directory");
        Self::keeping(Keep::InFile(dir.path().join("eap.db"), Some(dir)))
    }

    /// SQLite in a file that the test keeps.
    pub(crate) fn sqlite_at(path: &Path) -> Self {
        Self::keeping(Keep::InFile(path.to_owned(), None))
    }

    pub(crate) fn memory() -> Self {
        Self::keeping(Keep::InMemory)
    }

    pub(crate) fn store(store: Arc<dyn Repository>) -> Self {
        Self::keeping(Keep::In(store))
    }

    /// Over a store whose time is its own.
    pub(crate) fn store_with_its_clock(store: Arc<dyn Repository>) -> Self {
        Self { has_own_time: true, ..Self::keeping(Keep::In(store)) }
    }

    /// Uploads go there.
    pub(crate) fn artifacts(self, artifacts: Arc<dyn ArtifactStore>) -> Self {
        Self { artifacts: Some(artifacts), ..self }
    }

    /// Time stands unless the test moves it.
    pub(crate) fn manual_clock(self) -> Self {
        self.clock(Arc::new(ManualClock::at(Timestamp::from_seconds(START))))
    }

    pub(crate) fn clock(mut self, clock: Arc<ManualClock>) -> Self {
        self.config.timing.pulse_gap = NEVER;
        self.clock = Some(clock);
        self
    }

    pub(crate) fn config(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Builds the orchestrator and starts nothing.
    pub(crate) fn build(self) -> (Orchestrator, Option<Arc<ManualClock>>, Option<TempDir>) {
        let clock: Arc<dyn Clock> = match &self.clock {
            Some(clock) => Arc::clone(clock) as Arc<dyn Clock>,
            None => Arc::new(SystemClock::new()),
        };
        let artifacts: Arc<dyn ArtifactStore> = match (self.artifacts, &self.store) {
            (Some(artifacts), _) => artifacts,
            (None, Keep::InFile(path, _)) => Arc::new(FolderArtifacts::beside(path).expect("the folder can be made")),
            (None, Keep::InMemory | Keep::In(_)) => Arc::new(MemoryArtifacts::new()),
        };
        let (store, dir): (Arc<dyn Repository>, _) = match self.store {
            Keep::InMemory => (Arc::new(MemoryStore::new(Arc::clone(&clock))), None),
            Keep::In(store) => (store, None),
            Keep::InFile(path, dir) => {
                let store = SqliteStore::open(path, Arc::clone(&clock), SqliteOptions::default());
                (Arc::new(store.expect("the file is free")), dir)
            }
        };
        let mut builder = Orchestrator::builder(store).config(self.config).artifacts(artifacts);
        if !self.has_own_time {
            builder = builder.clock(clock);
        }
        (builder.build().expect("the configuration is valid"), self.clock, dir)
    }

    /// Serves on a free port of loopback.
    pub(crate) async fn start(self) -> Server {
        self.start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Serves where another server was.
    pub(crate) async fn start_at(self, address: SocketAddr) -> Server {
        let (orchestrator, clock, dir) = self.build();
        let listener = TcpListener::bind(address).await.expect("the port is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (stop, stopped) = oneshot::channel::<()>();
        let served = orchestrator.clone();
        let serving = tokio::spawn(async move {
            served
                .serve(listener, async {
                    let _ = stopped.await;
                })
                .await
        });
        let api = Api::at(format!("http://{address}"));
        let server = Server { api, address, orchestrator, clock, stop: Some(stop), serving: Some(serving), _dir: dir };
        // The port takes connections before the store is loaded.
        super::eventually("the server is ready", async || {
            (server.api.get("/health/ready").send().await.status == 200).then_some(())
        })
        .await;
        server
    }
}

/// A server that runs until it is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) api: Api,
    pub(crate) address: SocketAddr,
    pub(crate) orchestrator: Orchestrator,
    clock: Option<Arc<ManualClock>>,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<Result<ShutdownReport, StartError>>>,
    _dir: Option<TempDir>,
}

impl Server {
    /// A server over SQLite, as most tests want it.
    pub(crate) async fn start() -> Self {
        Setup::sqlite().start().await
    }

    /// A server whose time stands until [`advance`](Self::advance) moves it.
    pub(crate) async fn start_with_clock() -> Self {
        Setup::sqlite().manual_clock().start().await
    }

    pub(crate) fn operator(&self) -> Operator {
        Operator::new(self.api.clone())
    }

    /// Registers with the secret.
    pub(crate) async fn register(&self, body: &Value) -> Answer {
        let call = self.api.post("/api/v1/agents/external/register");
        call.header("x-registration-token", REGISTRATION_SECRET).json(body).send().await
    }

    /// An agent of our own time that can do `work`.
    pub(crate) async fn agent(&self, name: &str) -> Agent {
        self.agent_with(name, json!({})).await
    }

    /// The same, with other or further members in its registration.
    pub(crate) async fn agent_with(&self, name: &str, members: Value) -> Agent {
        let reply = self.register(&registration(name, members)).await.expect(201);
        Agent::of(self.api.clone(), reply)
    }

    /// An agent that knows nothing beyond ADR 001.
    pub(crate) async fn older_peer(&self, name: &str) -> Agent {
        let reply = self.register(&json!({"name": name, "capabilities": ["work"]})).await.expect(201);
        Agent::of(self.api.clone(), reply)
    }

    /// When the server last heard of an agent.
    pub(crate) async fn last_seen(&self, agent: &Agent) -> Value {
        self.operator().agent(&agent.id).await.expect(200)["last_seen_at"].clone()
    }

    /// Waits until a poll that was sent after `before` waits for work: the server has heard of its agent, and has
    /// answered somebody who asked for work later.
    pub(crate) async fn until_it_waits(&self, agent: &Agent, before: &Value) {
        super::eventually("the poll is heard", async || (self.last_seen(agent).await != *before).then_some(())).await;
        let later = self.agent_with("AGENT-LATER", json!({"capabilities": ["nothing-at-all"]})).await;
        assert_eq!(later.take_up_to(1).await, Vec::<Value>::new());
    }

    /// Sends a poll, which then waits for work.
    pub(crate) async fn park(&self, agent: &Agent, path: &str, body: Option<Value>) -> JoinHandle<Answer> {
        let before = self.last_seen(agent).await;
        let poll = tokio::spawn(agent.call(path).maybe_json(body.as_ref()).send());
        self.until_it_waits(agent, &before).await;
        poll
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.as_ref().expect("the test chose a manual clock").advance(Duration::from_secs(seconds));
    }

    pub(crate) fn clock(&self) -> Arc<ManualClock> {
        Arc::clone(self.clock.as_ref().expect("the test chose a manual clock"))
    }

    /// Tells the server to stop; does not wait.
    pub(crate) fn begin_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Waits until it ends by itself, and gives what `serve` gave.
    pub(crate) async fn ended(mut self) -> Result<ShutdownReport, StartError> {
        let serving = self.serving.take().expect("a server ends once");
        serving.await.expect("serving does not panic")
    }

    /// Stops, and gives what `serve` gave.
    pub(crate) async fn stop(mut self) -> ShutdownReport {
        self.begin_stop();
        let serving = self.serving.take().expect("a server is stopped once");
        let ended = super::in_time("the server stops", serving).await;
        ended.expect("serving does not panic").expect("the server stops well")
    }
}
